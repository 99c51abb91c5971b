"""The auditd remote protocol: octets recorded from the real programs, and peers that break it."""

import struct
from random import Random

import pytest
from harness.fuzz import cut, fuzzed

from relay.errors import ProtocolError
from relay.events.audit.record import says_nothing
from relay.syslog.auditd_remote import (
    ACK,
    DISKERROR,
    DISKFULL,
    DISKLOW,
    ENDING,
    HEARTBEAT,
    LARGEST_BODY,
    LARGEST_RECORD,
    MAGIC_OCTETS,
    MESSAGE,
    AuditdClient,
    AuditdFrameReader,
    AuditdServer,
    Reply,
    UnsendableError,
)
from relay.values.provenance import ReceiptMark

RECORD = b"type=USER_LOGIN msg=audit(1700000000.123:1): pid=1 uid=0 msg='op=login res=success'"
# Captured from audisp-remote 3.0.9: its first record has sequence 2, and ends with the LF of its input.
AUDISP_REMOTE = bytes.fromhex("fe0000ff0000000000005400 02000000") + RECORD + b"\n"
AUDISP_HEARTBEAT = bytes.fromhex("fe0000ff0000010000000000 04000000")
# Captured from auditd 3.0.9: its answer to sequence 9, and what it says when it is stopped.
AUDITD_ACK = bytes.fromhex("fe0000ff0000000000400000 09000000")
AUDITD_ENDING = bytes.fromhex("fe0000ff0000010000400000 00000000")


def frame(type_: int, sequence: int, body: bytes = b"", *, magic: int = 0xFF0000FE, version: int = 0) -> bytes:
    return struct.pack("<IBBIHI", magic, version, 0, type_, len(body), sequence) + body


def asked(messages: int) -> AuditdClient:
    client = AuditdClient()
    for _ in range(messages):
        client.message(RECORD)
    return client


class TestServer:
    def test_a_record_of_audisp_remote_is_returned_without_its_line_feed(self) -> None:
        server = AuditdServer()
        assert server.receive(AUDISP_REMOTE) == [RECORD]
        assert AUDISP_REMOTE.startswith(MAGIC_OCTETS)

    def test_a_record_is_answered_only_when_it_is_durable(self) -> None:
        server = AuditdServer()
        server.receive(AUDISP_REMOTE)
        assert server.reply() == b""
        server.accepted(1)
        assert server.reply() == AUDITD_ACK[:12] + b"\x02\0\0\0"
        assert server.reply() == b""

    def test_a_heartbeat_is_answered_at_once(self) -> None:
        server = AuditdServer()
        server.receive(AUDISP_REMOTE)
        assert server.receive(AUDISP_HEARTBEAT) == []
        assert server.reply() == frame(ACK, 4)

    def test_answers_repeat_the_sequences_in_order(self) -> None:
        server = AuditdServer()
        sequences = [7, 0, 0xFFFFFFFF, 8]
        server.receive(b"".join(frame(MESSAGE, sequence, RECORD) for sequence in sequences))
        server.accepted(3)
        server.accepted(1)
        assert server.reply() == b"".join(frame(ACK, sequence) for sequence in sequences)

    def test_only_the_last_line_feed_is_removed_and_every_other_octet_is_kept(self) -> None:
        bodies = [b"a\n\n", b"a\nb", b"a\0\xff", b"\r\n"]
        server = AuditdServer()
        stream = b"".join(frame(MESSAGE, n, body) for n, body in enumerate(bodies))
        assert server.receive(stream) == [b"a\n", b"a\nb", b"a\0\xff", b"\r"]

    def test_a_record_of_any_possible_length_is_kept_whole(self) -> None:
        server = AuditdServer(1 << 20)
        record = bytes(range(1, 256)) * 257
        assert len(record) == LARGEST_BODY
        assert server.receive(frame(MESSAGE, 1, record)) == [record]
        assert server.oversized == 0

    @pytest.mark.parametrize("size", [1, 100_000])
    def test_a_record_that_is_too_long_is_cut_marked_and_acknowledged_in_its_turn(self, size: int) -> None:
        server = AuditdServer(100)
        bodies = [b"one", b"x" * 300, b"y" * 100 + b"\n", b"z" * 101, b"a" * 101 + b"\n"]
        stream = b"".join(frame(MESSAGE, number, body) for number, body in enumerate(bodies))
        records, marks = list[bytes](), list[ReceiptMark]()
        for at in range(0, len(stream), size):
            received = server.receive(stream[at : at + size])
            records += received
            marks += [server.marks.get(index, ReceiptMark(0)) for index in range(len(received))]
        assert records == [b"one", b"x" * 100, b"y" * 100, b"z" * 100, b"a" * 100]
        cut = ReceiptMark.CUT
        assert marks == [0, cut, 0, cut, cut]
        assert server.oversized == 3
        assert server.dropped == 203  # of the last one its LF too
        assert server.reply() == b""
        server.accepted(2)
        assert server.reply() == frame(ACK, 0) + frame(ACK, 1)

    def test_an_end_of_event_is_not_kept_and_acknowledged_in_its_turn(self) -> None:
        server = AuditdServer(is_empty=says_nothing)
        end = b"node=r1 type=EOE msg=audit(1709742929.678:2341): \n"
        assert server.receive(b"".join(frame(MESSAGE, n, body) for n, body in enumerate([end, RECORD, end]))) == [
            RECORD
        ]
        assert server.reply() == frame(ACK, 0)
        server.accepted(1)
        assert server.reply() == frame(ACK, 1) + frame(ACK, 2)

    @pytest.mark.parametrize("body", [b"", b"\n"])
    def test_an_empty_record_is_acknowledged_without_being_kept(self, body: bytes) -> None:
        server = AuditdServer()
        assert server.receive(frame(MESSAGE, 1, body)) == []
        assert server.reply() == frame(ACK, 1)

    @pytest.mark.parametrize(
        ("bad", "cause"),
        [
            (frame(MESSAGE, 2, b"x", magic=0xFF0000FD), "not with 0xff0000fd"),
            (frame(MESSAGE, 2, b"x", version=1), "version 1.0 of it is not known"),
            (frame(2, 2, b"x"), "a client does not send type 0x00000002"),
            (frame(ACK, 2), "a client does not send ACK"),
            (b"type=A msg=audit(1.1:1): x\n" * 2, "not with 0x65707974"),
        ],
    )
    def test_a_broken_protocol_is_reported_and_earlier_records_are_kept(self, bad: bytes, cause: str) -> None:
        server = AuditdServer()
        assert server.receive(frame(MESSAGE, 1, b"good") + bad) == [b"good"]
        assert isinstance(server.error, ProtocolError)
        assert cause in str(server.error)
        server.accepted(1)
        assert server.reply() == frame(ACK, 1)
        with pytest.raises(ProtocolError):
            server.receive(b"")

    @pytest.mark.parametrize("octets", [1, 15, 16, 17, len(AUDISP_REMOTE) - 1])
    def test_an_end_within_a_frame_is_reported(self, octets: int) -> None:
        server = AuditdServer()
        server.receive(AUDISP_HEARTBEAT + AUDISP_REMOTE[:octets])
        assert (server.finish(), server.partial) == ([], True)
        server.receive(AUDISP_REMOTE[octets:])
        assert (server.finish(), server.partial) == ([], False)


class TestClient:
    def test_a_record_is_sent_as_auditd_expects_it(self) -> None:
        client = AuditdClient(last_sequence=1)
        assert client.message(RECORD) == AUDISP_REMOTE[:10] + b"\x53" + AUDISP_REMOTE[11:-1]

    def test_auditds_answer_is_understood(self) -> None:
        client = AuditdClient(last_sequence=8)
        client.message(RECORD)
        (reply,) = client.receive(AUDITD_ACK)
        assert (reply, reply.kept, reply.warns, not reply.accepted, str(reply)) == (
            Reply(ACK, 9),
            True,
            False,
            False,
            "ACK",
        )
        assert client.unanswered == 0

    def test_the_end_of_the_server_comes_unasked(self) -> None:
        client = asked(1)
        (reply,) = client.receive(AUDITD_ENDING)
        assert (reply.type, str(reply)) == (ENDING, "ENDING")
        assert client.error is None
        assert client.unanswered == 1

    @pytest.mark.parametrize(
        ("type_", "kept", "warning", "name"),
        [
            (DISKLOW, True, True, "DISKLOW"),
            (DISKFULL, False, False, "DISKFULL"),
            (DISKERROR, False, False, "DISKERROR"),
            (0x50000077, True, True, "type 0x50000077"),
            (0x60000077, False, False, "type 0x60000077"),
            (0x70000001, False, True, "type 0x70000001"),
        ],
    )
    def test_an_answer_shows_whether_the_record_is_kept(
        self, type_: int, *, kept: bool, warning: bool, name: str
    ) -> None:
        (reply,) = asked(1).receive(frame(type_, 1, b"some words of the server"))
        assert (reply.kept, reply.accepted, reply.warns, str(reply)) == (kept, kept, warning, name)

    @pytest.mark.parametrize(
        ("record", "cause"),
        [
            (b"", "0 octets"),
            (b"x" * (LARGEST_RECORD + 1), "8955 octets"),
            (b"a\nb", "an LF or a NUL"),
            (b"a\0b", "an LF or a NUL"),
        ],
    )
    def test_a_record_that_auditd_would_change_is_never_sent(self, record: bytes, cause: str) -> None:
        client = AuditdClient()
        with pytest.raises(UnsendableError, match=cause):
            client.message(record)
        assert client.unanswered == 0
        assert client.message(b"x" * LARGEST_RECORD)

    def test_the_sequence_wraps_round_without_zero(self) -> None:
        client = AuditdClient(last_sequence=0xFFFFFFFE)
        sequences = [int.from_bytes(client.heartbeat()[12:], "little") for _ in range(3)]
        assert sequences == [0xFFFFFFFF, 1, 2]
        assert [r.sequence for r in client.receive(b"".join(frame(ACK, n) for n in sequences))] == sequences

    @pytest.mark.parametrize(
        ("answers", "good", "cause"),
        [
            (frame(ACK, 1) + frame(ACK, 1), 1, "ACK for 1 came a second time"),
            (frame(ACK, 2), 0, "ACK for 2 came before the answer to 1"),
            (frame(ACK, 1) + frame(DISKLOW, 3), 1, "DISKLOW for 3 came before the answer to 2"),
            (frame(ACK, 4), 0, "ACK for 4, which was never sent"),
            (frame(MESSAGE, 1), 0, "a server does not answer MESSAGE"),
            (frame(HEARTBEAT, 1), 0, "a server does not answer HEARTBEAT"),
            (frame(0x40000002, 1), 0, "a server does not answer type 0x40000002"),
            (frame(0x20000001, 1), 0, "a server does not answer type 0x20000001"),
            (frame(ACK, 1, version=2), 0, "version 2.0"),
            (b"HTTP/1.1 400 Bad Request", 0, "not with 0x50545448"),
        ],
    )
    def test_answers_without_a_question_are_reported(self, answers: bytes, good: int, cause: str) -> None:
        client = asked(3)
        assert len(client.receive(answers)) == good
        assert isinstance(client.error, ProtocolError)
        assert cause in str(client.error)
        with pytest.raises(ProtocolError):
            client.receive(b"")


def test_both_sides_understand_each_other() -> None:
    client, server = AuditdClient(), AuditdServer()
    stream = client.heartbeat() + b"".join(client.message(b"%d" % n) for n in range(1000))
    assert server.receive(stream) == [b"%d" % n for n in range(1000)]
    server.accepted(1000)
    assert all(reply.kept for reply in client.receive(server.reply()))
    assert client.unanswered == 0


# --- 10 million octets each: RELAY_FUZZ_OCTETS=10000000 .venv/bin/pytest tests/syslog/test_auditd_remote.py -k fuzzed


def _clients_stream(random: Random) -> bytes:
    frames = []
    for sequence in range(1, random.randrange(2, 60)):
        type_ = random.choice((MESSAGE, MESSAGE, MESSAGE, HEARTBEAT))
        body = random.randbytes(random.choice((0, 1, 15, 16, 79, 80, 81, 300))) if type_ == MESSAGE else b""
        frames.append(frame(type_, sequence, body))
    return b"".join(frames)


def _servers_stream(random: Random) -> bytes:
    types = (ACK, ACK, ACK, ACK, DISKLOW, DISKFULL, 0x60000077)
    count = random.randrange(2, 60)
    return b"".join(
        frame(random.choice(types), sequence, random.choice((b"", b"", b"words"))) for sequence in range(1, count)
    )


def _serve(pieces: list[bytes], *, accept_at_once: bool) -> object:
    server, records, replies, given = AuditdServer(80), [], b"", 0
    for piece in pieces:
        fresh = server.receive(piece)
        records += fresh
        assert all(0 < len(record) <= 80 for record in fresh)
        assert isinstance(server._reader, AuditdFrameReader)
        assert len(server._reader._begun) <= 16 + 80
        if accept_at_once:
            server.accepted(len(fresh))
            given += len(fresh)
            replies += server.reply()
        if server.error is not None:
            break
    server.accepted(len(records) - given)
    replies += server.reply()
    ended = server.error is None and server.finish()
    # A heartbeat's answer does not wait for those before it, so only the answers' number is the same for every cut.
    return records, len(replies), server.oversized, str(server.error), server.partial and not server.error, ended


def _ask(pieces: list[bytes], sent: int) -> object:
    client, replies = asked(sent), []
    for piece in pieces:
        replies += client.receive(piece)
        if client.error is not None:
            break
    return replies, str(client.error), client.unanswered


@pytest.mark.parametrize("seed", [1])
def test_a_fuzzed_stream_is_the_same_to_a_server_however_it_is_cut(seed: int) -> None:
    for random, stream in fuzzed(seed, _clients_stream):
        whole = _serve([stream], accept_at_once=False)
        assert _serve(cut(random, stream), accept_at_once=random.random() < 0.5) == whole


@pytest.mark.parametrize("seed", [2])
def test_a_fuzzed_stream_is_the_same_to_a_client_however_it_is_cut(seed: int) -> None:
    for random, stream in fuzzed(seed, _servers_stream):
        sent = random.choice((0, 10, 60))
        assert _ask(cut(random, stream), sent) == _ask([stream], sent)


@pytest.mark.parametrize("size", [1, 16, 4096])
def test_only_one_unfinished_message_is_kept(size: int) -> None:
    stream = frame(MESSAGE, 1, b"x" * LARGEST_BODY) * 3
    server = AuditdServer()
    kept = 0
    for at in range(0, len(stream), size):
        server.receive(stream[at : at + size])
        assert isinstance(server._reader, AuditdFrameReader)
        kept = max(kept, len(server._reader._begun))
    assert kept < 16 + LARGEST_BODY
