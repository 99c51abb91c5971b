"""RELP, both sides, compared with librelp's own octets and octets written by hand, however they are cut."""

from collections.abc import Iterable
from random import Random

import pytest
from harness.fuzz import cut, fuzzed

from relay.errors import InternalError, ProtocolError
from relay.syslog.relp import DEFAULT_WINDOW, RelpClient, RelpResponse, RelpServer, RelpWindow
from relay.syslog.relp_frame import LAST_TXNR, LONGEST_HEADER, Frame, RelpError, RelpFrameReader, encode
from relay.values.provenance import ReceiptMark

# What rsyslog 8.2302 with librelp 1.11.0 sends: omrelp as a client, imrelp as a server.
OMRELP_OPEN = b"1 open 86 relp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog\n"
OMRELP_SYSLOG = b"2 syslog 23 <13>1 - - - - - - hello\n"
OMRELP_CLOSE = b"3 close 0\n"
IMRELP_OPENED = (
    b"1 rsp 93 200 OK\nrelp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog\n"
)
IMRELP_ACCEPTED = b"2 rsp 6 200 OK\n"
IMRELP_CLOSED = b"3 rsp 0\n0 serverclose 0\n"
IMRELP_SECOND_OPEN = (
    b"2 rsp 43 500 protocol error: connection already open\n2 rsp 26 500 error 10047 on connect\n0 serverclose 0\n"
)

OUR_OPEN = b"1 open 50 relp_version=0\nrelp_software=relay\ncommands=syslog\n"
OUR_OPENED = b"1 rsp 57 200 OK\nrelp_version=0\nrelp_software=relay\ncommands=syslog\n"


def octets(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


class TestFrames:
    STREAM = b"1 open 3 a=b\n2 syslog 5 a\nb 0\n3 close 0\n000000004 ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef 001 x\n"
    FRAMES = (
        Frame(1, b"open", b"a=b"),
        Frame(2, b"syslog", b"a\nb 0"),
        Frame(3, b"close", b""),
        Frame(4, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef", b"x"),
    )

    @staticmethod
    def read(pieces: Iterable[bytes], reader: RelpFrameReader) -> list[Frame]:
        frames: list[Frame] = []
        for piece in pieces:
            frames += reader.receive(piece)
            if reader.error is not None:
                break
        return frames

    @pytest.mark.parametrize("at", range(len(STREAM) + 1))
    def test_frames_are_found_wherever_the_stream_is_cut(self, at: int) -> None:
        assert self.read([self.STREAM[:at], b"", self.STREAM[at:]], RelpFrameReader(100)) == list(self.FRAMES)

    def test_frames_are_found_octet_by_octet_as_soon_as_they_are_complete(self) -> None:
        reader = RelpFrameReader(100)
        assert self.read(octets(self.STREAM[:-1]), reader) == list(self.FRAMES[:-1])
        assert reader.partial
        assert reader.receive(self.STREAM[-1:]) == [self.FRAMES[-1]]
        assert not reader.partial

    def test_every_encoded_frame_is_found(self) -> None:
        stream = b"".join(encode(*frame[:2], frame.data or b"") for frame in self.FRAMES)
        assert self.read([stream], RelpFrameReader(100)) == list(self.FRAMES)

    @pytest.mark.parametrize("whole", [True, False])
    def test_data_over_the_ceiling_is_cut_and_drained_by_its_count(self, whole: bool) -> None:
        stream = b"1 syslog 5 abcde\n2 syslog 6 3 a 0\n\n3 syslog 1 x\n"
        reader = RelpFrameReader(5)
        assert self.read([stream] if whole else octets(stream), reader) == [
            Frame(1, b"syslog", b"abcde"),
            Frame(2, b"syslog", b"3 a 0", 1),
            Frame(3, b"syslog", b"x"),
        ]

    def test_memory_stays_at_the_ceiling(self) -> None:
        reader = RelpFrameReader(1000)
        for piece in [b"1 syslog 999999999 ", *[100 * b"x"] * 1000]:
            reader.receive(piece)
            assert len(reader._begun) + len(reader._cut) <= 1000
        assert reader.partial

    BROKEN = (
        b"1234567890 syslog 1 x\n",  # ten digits
        b" 2 syslog 1 x\n",
        b"2  syslog 1 x\n",
        b"2 syslog2 1 x\n",
        b"2 abcdefghijklmnopqrstuvwxyzabcdefg 1 x\n",  # 33 letters
        b"2 syslog 1234567890 x\n",
        b"2 syslog -1 x\n",
        b"2 syslog 1_0 x\n",
        b"2 syslog 1\tx\n",
        b"2 syslog 1\nx\n",
        b"2 syslog 0 \n",
        b"2 syslog 1 xx\n",  # no trailer where DATA ends
        b"2 syslog 7 xxxxxxxy",  # nor behind what is passed over
        b"\x16\x03\x01\x02\x00",  # somebody speaks TLS
        b"GET / HTTP/1.1\r\n",
        b"7 <1>x y\n",  # syslog, octet-counted
    )

    @pytest.mark.parametrize("broken", BROKEN)
    @pytest.mark.parametrize("whole", [True, False])
    def test_a_malformed_frame_is_reported_with_its_offset_and_nothing_after_it_is_read(
        self, broken: bytes, whole: bool
    ) -> None:
        reader = RelpFrameReader(5)
        stream = b"1 a 1 x\n" + broken + b"3 syslog 1 x\n"
        assert self.read([stream] if whole else octets(stream), reader) == [Frame(1, b"a", b"x")]
        assert reader.error is not None
        assert (reader.error.offset, reader.error.exit_code) == (len(b"1 a 1 x\n"), 76)
        with pytest.raises(RelpError, match="octet 8:"):
            reader.receive(b"4 a 1 x\n")


class TestServer:
    def opened(self, ceiling: int = 1000) -> RelpServer:
        server = RelpServer(ceiling)
        assert server.receive(OMRELP_OPEN) == []
        assert server.reply() == OUR_OPENED
        return server

    def test_omrelps_session_is_answered_from_open_to_close(self) -> None:
        server = self.opened()
        assert server.receive(OMRELP_SYSLOG) == [b"<13>1 - - - - - - hello"]
        assert server.reply() == b""
        server.accepted(1)
        assert server.reply() == b"2 rsp 6 200 OK\n"
        assert server.receive(OMRELP_CLOSE) == []
        assert server.closing
        assert server.reply() == b"3 rsp 0\n"
        assert server.finish() == []
        assert not server.partial

    def test_only_accepted_messages_are_answered_and_in_order(self) -> None:
        server = self.opened()
        messages = server.receive(b"2 syslog 1 a\n3 syslog 1 b\n4 syslog 1 c\n5 close 0\n")
        assert messages == [b"a", b"b", b"c"]
        assert server.closing
        server.accepted(2)
        assert server.reply() == b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n"
        assert server.reply() == b""
        server.accepted(1)
        assert server.reply() == b"4 rsp 6 200 OK\n5 rsp 0\n"

    def test_a_message_that_is_too_long_is_cut_marked_and_accepted_in_its_turn(self) -> None:
        """After five answers of 500, a sender would drop the message, or never send another."""
        server = self.opened(ceiling=90)
        stream = b"2 syslog 1 a\n3 syslog 91 " + b"x" * 91 + b"\n4 syslog 90 " + b"y" * 90 + b"\n"
        messages = [b"a", b"x" * 90, b"y" * 90]
        assert server.receive(stream[:20]) == messages[:1]
        assert server.receive(stream[20:]) == messages[1:]
        assert server.marks == {0: ReceiptMark.CUT}
        assert (server.oversized, server.dropped) == (1, 1)
        server.accepted(1)
        assert server.reply() == b"2 rsp 6 200 OK\n"
        server.accepted(2)
        assert server.reply() == b"3 rsp 6 200 OK\n4 rsp 6 200 OK\n"
        other = self.opened(ceiling=90)
        assert [m for piece in octets(stream) for m in other.receive(piece)] == messages

    def test_an_empty_message_is_answered_and_not_returned(self) -> None:
        server = self.opened()
        assert server.receive(b"2 syslog 1 a\n3 syslog 0\n") == [b"a"]
        server.accepted(1)
        assert server.reply() == b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n"

    def test_any_octets_are_kept(self) -> None:
        message = bytes(range(256))
        assert self.opened().receive(encode(2, b"syslog", message)) == [message]

    BROKEN = (
        (b"2 open 3 a=b\n", "open may not come again", b"2 rsp 27 500 open may not come again\n"),
        (b"2 starttls 0\n", "starttls may not come here", b"2 rsp 30 500 starttls may not come here\n"),
        (b"1 syslog 1 x\n", "frame 1 came where frame 2 is due", b""),
        (b"3 syslog 1 x\n", "frame 3 came where frame 2 is due", b""),
        (b"0 syslog 1 x\n", "frame 0 came where frame 2 is due", b""),
        (b"2 close 0\n3 syslog 1 x\n", "frame 3 came after close", b"2 rsp 0\n"),
        (b"2 syslog 1 xx", "frame 2 does not end with LF", b""),
    )

    @pytest.mark.parametrize(("broken", "cause", "answer"), BROKEN)
    def test_a_broken_protocol_ends_the_session(self, broken: bytes, cause: str, answer: bytes) -> None:
        server = self.opened()
        assert server.receive(broken) == []
        assert server.reply() == answer
        assert isinstance(server.error, ProtocolError)
        assert cause in str(server.error)
        with pytest.raises(RelpError):
            server.receive(b"9 syslog 1 x\n")
        with pytest.raises(RelpError):
            server.finish()

    def test_messages_before_the_fault_are_returned_and_can_be_accepted(self) -> None:
        server = self.opened()
        assert server.receive(b"2 syslog 1 a\n3 open 0\n4 syslog 1 b\n") == [b"a"]
        server.accepted(1)
        assert server.reply() == b"2 rsp 6 200 OK\n3 rsp 27 500 open may not come again\n"
        assert server.error is not None

    @pytest.mark.parametrize(
        ("offers", "lacks"),
        [
            (b"commands=syslog", "it offers no relp_version 0 or 1"),
            (b"relp_version=2\ncommands=syslog", "it offers no relp_version 0 or 1"),
            (b"relp_version=0\ncommands=starttls", "it does not offer the command syslog"),
            (b"\xff=\n=\n===\n\n", "it offers no relp_version 0 or 1"),
            (b"relp_version=0\n" + b"x" * 1000, "its offers are too long"),
        ],
    )
    def test_an_open_that_cannot_be_served_is_refused(self, offers: bytes, lacks: str) -> None:
        server = RelpServer(1000)
        server.receive(encode(1, b"open", offers))
        assert server.reply() == encode(1, b"rsp", b"500 open: " + lacks.encode())
        assert lacks in str(server.error)

    @pytest.mark.parametrize(
        "offers", [b"commands=x,syslog\nrelp_version=1,7\nnew=1", b"relp_version=0\ncommands=syslog"]
    )
    def test_unknown_offers_are_ignored(self, offers: bytes) -> None:
        server = RelpServer()
        server.receive(encode(1, b"open", offers))
        assert server.reply() == OUR_OPENED

    def test_no_message_is_accepted_before_open(self) -> None:
        server = RelpServer()
        assert server.receive(b"1 syslog 1 x\n") == []
        assert "syslog may not come here" in str(server.error)

    @pytest.mark.parametrize(("rest", "well"), [(b"", True), (b"2", False), (b"2 syslog 4 ab", False)])
    def test_the_end_inside_a_frame_is_reported(self, rest: bytes, well: bool) -> None:
        server = self.opened()
        server.receive(rest)
        assert server.finish() == []
        assert server.partial is not well


class TestClient:
    def opened(self, window: RelpWindow = DEFAULT_WINDOW, messages: int = 0) -> RelpClient:
        client = RelpClient(window)
        assert client.open() == OUR_OPEN
        assert client.receive(IMRELP_OPENED[:-1]) == []
        opened_early = client.opened
        assert client.receive(IMRELP_OPENED[-1:]) == []
        assert (opened_early, client.opened) == (False, True)
        for _ in range(messages):
            client.send(b"x")
        return client

    def test_imrelps_session_is_understood_from_open_to_close(self) -> None:
        client = self.opened()
        assert client.send(b"<13>1 - - - - - - hello") == OMRELP_SYSLOG
        assert client.unanswered == 1
        assert client.receive(IMRELP_ACCEPTED) == [RelpResponse(2, 200, "OK")]
        assert client.unanswered == 0
        assert client.close() == OMRELP_CLOSE
        assert client.receive(IMRELP_CLOSED) == []
        assert (client.closed, client.ending, client.error) == (True, True, None)

    def test_imrelps_answer_to_a_second_open_counts_as_a_duplicate_answer(self) -> None:
        client = self.opened(messages=1)
        (answer,) = client.receive(IMRELP_SECOND_OPEN)
        assert str(answer) == "500 protocol error: connection already open"
        assert not answer.accepted
        assert "answered frame 2 twice" in str(client.error)

    def test_the_window_counts_messages_and_octets_and_lets_one_of_any_size_through(self) -> None:
        client = self.opened(RelpWindow(messages=2, octets=10))
        assert client.has_room(1000)
        client.send(b"x" * 8)
        assert client.has_room(2)
        assert not client.has_room(3)
        client.send(b"y")
        assert not client.has_room(1)
        client.receive(b"2 rsp 6 200 OK\n")
        assert client.has_room(9)
        assert not client.has_room(10)

    @pytest.mark.parametrize(
        ("said", "cause"),
        [
            (b"1 rsp 6 200 OK\n", "answered frame 1 twice"),
            (b"3 rsp 6 200 OK\n", "out of order: frame 3 before frame 2"),
            (b"4 rsp 6 200 OK\n", "frame 4, which was never sent"),
            (b"0 rsp 6 200 OK\n", "frame 0, which was never sent"),
            (b"2 rsp 2 OK\n", "does not begin with a three-digit code"),
            (b"2 rsp 0\n", "does not begin with a three-digit code"),
            (b"2 syslog 1 x\n", "sent syslog as frame 2, not an answer"),
            (b"2 serverclose 0\n", "sent serverclose as frame 2"),
            (b"hello\n", "octet 103: a frame begins with TXNR"),
            (b"2 rsp 6 200 OK2", "does not end with LF"),
        ],
    )
    def test_a_server_that_breaks_the_protocol_is_reported(self, said: bytes, cause: str) -> None:
        client = self.opened(messages=2)
        assert client.receive(said) == []
        assert isinstance(client.error, ProtocolError)
        assert cause in str(client.error)
        with pytest.raises(RelpError):
            client.receive(b"2 rsp 6 200 OK\n")

    def test_answers_before_the_fault_count(self) -> None:
        client = self.opened(messages=2)
        assert [answer.txnr for answer in client.receive(b"2 rsp 6 200 OK\n2 rsp 6 200 OK\n")] == [2]
        assert client.error is not None

    def test_an_answer_that_is_too_long_is_an_error(self) -> None:
        client = self.opened(messages=1)
        client.receive(b"2 rsp 20000 " + b"2" * 20000 + b"\n")
        assert "three-digit code" in str(client.error)

    @pytest.mark.parametrize(
        ("body", "shown"),
        [
            (b"500", "500"),
            (b"500 no\ndata of its own", "500 no"),
            (b"503 \x1b[2J\xff\x00", r"503 \x1b[2J\xff\x00"),
            (b"500 " + b"x" * 200, "500 " + "x" * 80),
        ],
    )
    def test_an_answer_is_shown_short_and_printable(self, body: bytes, shown: str) -> None:
        client = self.opened(messages=1)
        (answer,) = client.receive(encode(2, b"rsp", body))
        assert (str(answer), answer.accepted) == (shown, False)

    @pytest.mark.parametrize(
        ("body", "cause"),
        [
            (b"500 go away", "it answers 500 go away"),
            (b"200 OK", "it offers no relp_version 0 or 1"),
            (b"200 OK\nrelp_version=3\ncommands=syslog", "it offers no relp_version 0 or 1"),
            (b"200 OK\nrelp_version=1", "does not offer the command syslog"),
        ],
    )
    def test_a_session_that_is_refused_is_not_opened(self, body: bytes, cause: str) -> None:
        client = RelpClient()
        client.open()
        client.receive(encode(1, b"rsp", body))
        assert not client.opened
        assert cause in str(client.error)

    def test_txnr_is_exhausted_well_before_its_end(self) -> None:
        client = RelpClient(reconnect_at=4)
        client.open()
        near = [client.exhausted for _ in range(3) if client.send(b"x")]
        assert near == [False, True, True]
        assert RelpClient()._reconnect_at < LAST_TXNR - 900_000

    def test_a_txnr_of_ten_digits_is_never_written(self) -> None:
        client = RelpClient()
        client._next = LAST_TXNR
        assert client.send(b"x").startswith(b"999999999 syslog")
        with pytest.raises(InternalError):
            client.send(b"x")


def test_both_sides_understand_each_other() -> None:
    client, server = RelpClient(), RelpServer()
    server.receive(client.open())
    client.receive(server.reply())
    messages = server.receive(b"".join(client.send(b"%d" % n) for n in range(1000)))
    assert messages == [b"%d" % n for n in range(1000)]
    server.accepted(1000)
    assert [answer.accepted for answer in client.receive(server.reply())] == [True] * 1000
    server.receive(client.close())
    client.receive(server.reply())
    assert client.closed


# --- Fuzzed octets; 10 million for each decoder, with
# RELAY_FUZZ_OCTETS=10000000 .venv/bin/pytest tests/syslog/test_relp.py -k fuzzed --timeout 900


def _clients_stream(random: Random) -> bytes:
    frames = [OUR_OPEN if random.random() < 0.9 else OMRELP_OPEN]
    for txnr in range(2, random.randrange(3, 60)):
        size = random.choice((0, 1, 5, 79, 80, 81, 400))
        frames.append(encode(txnr, b"syslog", random.randbytes(size)))
    if random.random() < 0.3:
        frames.append(encode(len(frames) + 1, b"close", b""))
    return b"".join(frames)


def _servers_stream(random: Random) -> bytes:
    frames = [IMRELP_OPENED]
    for txnr in range(2, random.randrange(3, 60)):
        body = random.choice((b"200 OK", b"200 OK", b"500 no", b"500", b"200 OK\n\n", b"20 OK"))
        frames.append(encode(txnr, b"rsp", body))
    if random.random() < 0.3:
        frames.append(b"0 serverclose 0\n")
    return b"".join(frames)


def _serve(pieces: list[bytes], *, accept_at_once: bool) -> object:
    server, messages, replies, given = RelpServer(80), [], b"", 0
    for piece in pieces:
        fresh = server.receive(piece)
        messages += fresh
        if accept_at_once:
            server.accepted(len(fresh))
            given += len(fresh)
            replies += server.reply()
        if server.error is not None:
            break
        assert isinstance(server._reader, RelpFrameReader)
        assert len(server._reader._begun) <= 80 + 1 + LONGEST_HEADER
    server.accepted(len(messages) - given)
    replies += server.reply()
    ended = server.partial, server.finish() if server.error is None else None
    return messages, replies, server.oversized, str(server.error), server.closing, server.error is None and ended


def _ask(pieces: list[bytes], sent: int) -> object:
    client, answers = RelpClient(), []
    client.open()
    for _ in range(sent):
        client.send(b"x")
    for piece in pieces:
        answers += client.receive(piece)
        if client.error is not None:
            break
    return answers, str(client.error), client.opened, client.ending, client.unanswered


def test_fuzzed_octets_give_the_server_the_same_whole_and_cut() -> None:
    faults = 0
    for random, stream in fuzzed(6, _clients_stream):
        whole = _serve([stream], accept_at_once=False)
        assert _serve(cut(random, stream), accept_at_once=True) == whole
        faults += "RELP session" in str(whole)
    assert faults > 20


def test_fuzzed_octets_give_the_client_the_same_whole_and_cut() -> None:
    faults = 0
    for random, stream in fuzzed(7, _servers_stream):
        sent = random.randrange(60)
        whole = _ask([stream], sent)
        assert _ask(cut(random, stream), sent) == whole
        faults += "RELP session" in str(whole)
    assert faults > 20
