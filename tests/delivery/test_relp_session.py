"""RELP as a session: proofs, refusals, and every fault of a collector."""

import re
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from delivery.acknowledged import connected, delivering, gone
from delivery.acknowledged import session as session_of
from delivery.blocks import RUN, block
from harness.collector import Collector, reset
from harness.openssh import Sshd
from harness.process import suspend
from harness.relp import OPENED, Answer, RelpPeer, accept, refuse
from harness.rsyslog import Rsyslog
from harness.waiting import wait_until
from program.history.spools import filled, foreign, opened

from relay.delivery.message_selection import EVERYTHING, MessageSelection
from relay.delivery.sessions.acknowledged_stream import FAREWELL_SECONDS, AcknowledgedStream
from relay.delivery.sessions.delivery_session import MessageId, ProvenExtent, RefusedMessage
from relay.delivery.sessions.relp_speaker import DEFAULT_SETTINGS, RelpSettings, RelpSpeaker
from relay.errors import ProtocolError, RelayError, TemporaryError, UnavailableError
from relay.spool.cursor import Cursor
from relay.syslog.relp import RelpWindow
from relay.syslog.relp_frame import Frame, encode
from relay.transport.ssh.session import SshSession
from relay.values.event import EventType

SETTINGS = RelpSettings(opening=30, answering=30, pauses=(0.0, 0.0, 0.0, 0.001))
CURSOR = Cursor(retained=7, transient=3)
BAD = b"<13>1 - - - - - - bad"


def good(number: int) -> bytes:
    return b"<13>1 - - - - - - good %d" % number


def session(
    port: int,
    settings: RelpSettings = SETTINGS,
    *,
    selection: MessageSelection = EVERYTHING,
    max_message_size: int = 1 << 20,
) -> AbstractContextManager[AcknowledgedStream]:
    return session_of(port, RelpSpeaker(max_message_size, settings), selection)


def poisoned_by(poison: bytes) -> Answer:
    """Refuses one message, whenever it comes."""
    return lambda peer, frame: refuse(peer, frame) if frame.data == poison else accept(peer, frame)


class TestDelivery:
    def test_a_proof_means_that_every_message_is_answered_in_order_and_octet_for_octet(self) -> None:
        texts = [b"x", b"a\nb\n", b"\0\xff\xfe", bytes(range(256)) * 32, b"y" * 65536, b"5 syslog 1 x\n"]
        messages = [b"<13>%b" % text for text in texts]
        with RelpPeer() as peer, session(peer.port) as stream:
            stream.send(block(messages))
            assert stream.prove(CURSOR) == CURSOR
            assert peer.messages == messages
            assert (stream.proof, stream.refused) == ("acknowledged", [])
            stream.check()

    def test_only_the_selected_types_are_sent(self) -> None:
        with RelpPeer() as peer, session(peer.port, selection=MessageSelection(1 << EventType.LOG)) as stream:
            stream.send(block([b"<13>not wanted"], EventType.TRAFFIC))
            stream.send(block([b"<14>wanted"]))
            stream.prove(CURSOR)
            assert peer.messages == [b"<14>wanted"]

    def test_a_message_without_a_pri_gets_one(self) -> None:
        with RelpPeer() as peer, session(peer.port) as stream:
            stream.send(block([b"<14>a", b"%ASA-6-302013: b", b"<c>", b""]))
            stream.prove(CURSOR)
            assert peer.messages == [b"<14>a", b"<13>%ASA-6-302013: b", b"<13><c>", b"<13>"]

    def test_a_message_over_the_servers_size_is_truncated(self) -> None:
        with RelpPeer() as peer, session(peer.port, max_message_size=480) as stream:
            stream.send(block([b"<13>1 - - - - - - " + b"x" * 1000]))
            stream.prove(CURSOR)
            assert [len(message) for message in peer.messages] == [480]

    @pytest.mark.parametrize("window", [RelpWindow(messages=3), RelpWindow(octets=3 * len(good(1)))])
    def test_no_more_is_sent_ahead_than_the_window_allows(self, window: RelpWindow) -> None:
        waiting: list[Frame] = []
        most = 0

        def answer_the_third(peer: RelpPeer, frame: Frame) -> bytes:
            nonlocal most
            waiting.append(frame)
            most = max(most, len(waiting))
            if len(waiting) < 3:
                return b""
            answers = b"".join(accept(peer, each) for each in waiting)
            waiting.clear()
            return answers

        with RelpPeer(answer_the_third) as peer, session(peer.port, replace(SETTINGS, window=window)) as stream:
            stream.send(block([good(number % 10) for number in range(300)]))
            stream.prove(CURSOR)
            assert len(peer.messages) == 300
        assert most == 3

    def test_one_message_larger_than_the_window_is_sent_alone(self) -> None:
        with RelpPeer() as peer, session(peer.port, replace(SETTINGS, window=RelpWindow(octets=100))) as stream:
            stream.send(block([b"<13>a", b"<13>" + b"x" * 100_000, b"<13>b"]))
            stream.prove(CURSOR)
            assert [len(message) for message in peer.messages] == [5, 100_004, 5]

    def test_answers_are_read_while_sending(self) -> None:
        """The collector reads nothing while it cannot answer; if relay only wrote, both sides would block for ever."""

        def talk_much(peer: RelpPeer, frame: Frame) -> bytes:
            assert peer.open_connection is not None
            peer.open_connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            accept(peer, frame)
            return encode(frame.txnr, b"rsp", b"200 " + b"x" * 2000)

        with RelpPeer(talk_much) as peer, session(peer.port) as stream:
            stream.send(block([b"m"] * 10_000))
            stream.prove(CURSOR)
            assert len(peer.messages) == 10_000

    def test_a_new_session_is_opened_before_txnr_ends_and_nothing_is_lost(self) -> None:
        with RelpPeer() as peer, session(peer.port, replace(SETTINGS, reconnect_at=10)) as stream:
            for number in range(30):
                stream.send(block([good(number)]))
                stream.prove(CURSOR)
            assert peer.messages == [good(number) for number in range(30)]
            assert peer.sessions == 4
            wait_until(lambda: peer.closes == 3, 60, "each was closed as RELP closes")

    def test_when_the_new_session_is_refused_the_next_message_is_not_proven(self) -> None:
        with RelpPeer() as peer, session(peer.port, replace(SETTINGS, reconnect_at=3)) as stream:
            stream.send(block([good(1), good(2)]))
            stream.prove(CURSOR)
            peer.opened = b"500 full"
            with pytest.raises(ProtocolError, match="500 full"):
                stream.send(block([good(3)], first=3))
            assert stream.proven_extent() == ProvenExtent(up_to=MessageId(RUN, EventType.LOG, 3))


class TestRefusal:
    def test_a_message_refused_once_is_sent_again_and_proven(self) -> None:
        def refuse_first(peer: RelpPeer, frame: Frame) -> bytes:
            return refuse(peer, frame) if frame.data == BAD and not peer.refusals else accept(peer, frame)

        with RelpPeer(refuse_first) as peer, session(peer.port) as stream:
            stream.send(block([good(1), BAD, good(2)]))
            assert stream.prove(CURSOR) == CURSOR
            assert stream.refused == []
            assert peer.messages == [good(1), good(2), BAD]

    @pytest.mark.parametrize("place", [0, 2, 5])
    def test_a_message_that_is_always_refused_is_given_up_after_five_times(self, place: int) -> None:
        """Also the interval's last: the accepted message sent again shows that the collector accepts others."""
        messages = [good(number) for number in range(5)]
        messages.insert(place, BAD)
        with RelpPeer(poisoned_by(BAD)) as peer, session(peer.port) as stream:
            stream.send(block(messages, first=10))
            assert stream.prove(CURSOR) == CURSOR
            assert stream.refused == [
                RefusedMessage(MessageId(RUN, EventType.LOG, 10 + place), BAD, "500 the disk is full")
            ]
            assert peer.refusals == 5
            assert peer.messages == [*(good(number) for number in range(5)), good(4)]
            stream.send(block([good(6)]))
            stream.prove(CURSOR)
            assert stream.refused == []
            assert peer.messages[-1] == good(6)

    def test_a_message_with_refused_parts_is_reported_once_and_whole(self) -> None:
        records = [b"type=A%d msg=audit(1.000:7): x=%s" % (nth, b"y" * 300) for nth in range(3)]
        head = b'<109>1 - h auditd - A0 [128T relayRun="5f5f" relaySeq="1" type="audit" serial="7"] '
        event = head + b"\n".join(records)

        def refuse_parts(peer: RelpPeer, frame: Frame) -> bytes:
            return accept(peer, frame) if b'relayPart="2/3"' in (frame.data or b"") else refuse(peer, frame)

        with RelpPeer(refuse_parts) as peer, session(peer.port, max_message_size=600) as stream:
            stream.send(block([event], EventType.AUDIT, first=1))
            stream.prove(CURSOR)
            assert stream.refused == [RefusedMessage(MessageId(RUN, EventType.AUDIT, 1), event, "500 the disk is full")]
            assert peer.refusals == 10

    def test_a_collector_that_refuses_everything_is_named_and_nothing_is_given_up(self) -> None:
        with RelpPeer(refuse) as peer, session(peer.port) as stream:
            stream.send(block([good(1), good(2)]))
            with pytest.raises(
                UnavailableError, match='refuses every message, the last one with "500 the disk is full"'
            ):
                stream.prove(CURSOR)
            assert stream.refused == []
            assert peer.refusals == 2

    def test_the_proof_of_an_earlier_interval_says_nothing_about_this_one(self) -> None:
        with RelpPeer(poisoned_by(BAD)) as peer, session(peer.port) as stream:
            stream.send(block([good(1)]))
            stream.prove(CURSOR)
            stream.send(block([BAD]))
            with pytest.raises(UnavailableError, match="refuses every message"):
                stream.prove(CURSOR)
            assert peer.messages == [good(1)]

    def test_a_collector_that_fails_during_an_interval_does_not_count_as_refusing_single_messages(self) -> None:
        def full_after_three(peer: RelpPeer, frame: Frame) -> bytes:
            return accept(peer, frame) if len(peer.messages) < 3 else refuse(peer, frame)

        with RelpPeer(full_after_three) as peer, session(peer.port) as stream:
            stream.send(block([good(number) for number in range(6)]))
            with pytest.raises(UnavailableError, match="refuses every message"):
                stream.prove(CURSOR)
            assert stream.refused == []
            assert peer.refusals == 3 * 5 + 1


def closes(_: RelpPeer, __: Frame) -> bytes:
    raise ConnectionAbortedError


def once(said: Callable[[Frame], bytes]) -> Answer:
    """Sends this answer to the third message, and accepts the others."""
    return lambda peer, frame: said(frame) if frame.txnr == 4 else accept(peer, frame)


def half_an_answer(peer: RelpPeer, frame: Frame) -> bytes:
    if frame.txnr == 5:
        raise ConnectionAbortedError
    return b"4 rsp 6 20" if frame.txnr == 4 else accept(peer, frame)


def says_that_it_closes(peer: RelpPeer, frame: Frame) -> bytes:
    if frame.txnr == 5:
        raise ConnectionAbortedError
    return b"0 serverclose 0\n" if frame.txnr == 4 else accept(peer, frame)


BAD_PEERS: dict[str, tuple[Answer, type[RelayError], str]] = {
    "garbage": (once(lambda _: b"\x16\x03\x01\x02\x00"), ProtocolError, "a frame begins with TXNR"),
    "10 MB without a line feed": (once(lambda _: b"x" * 10_000_000), ProtocolError, "a frame begins with TXNR"),
    "10 MB in one answer": (
        once(lambda frame: encode(frame.txnr, b"rsp", b"2" * 10_000_000)),
        ProtocolError,
        "does not begin with a three-digit code",
    ),
    "answers out of order": (once(lambda _: b""), ProtocolError, "out of order: frame 5 before frame 4"),
    "answers twice": (once(lambda _: b"4 rsp 6 200 OK\n4 rsp 6 200 OK\n"), ProtocolError, "frame 4 twice"),
    "answers what was not sent": (once(lambda _: b"99 rsp 6 200 OK\n"), ProtocolError, "frame 99, which was never"),
    "never answers": (lambda *_: b"", TemporaryError, "no answer for 0.2 s; 5 messages wait for theirs"),
    "refuses everything": (refuse, UnavailableError, "refuses every message"),
    "closes": (closes, UnavailableError, "closed the connection; 5 messages were unanswered"),
    "closes in mid frame": (half_an_answer, UnavailableError, "closed the connection; 3 messages were unanswered"),
    "says that it closes": (says_that_it_closes, UnavailableError, "announced the session's end; 3 messages were"),
}


def settings_for(name: str) -> RelpSettings:
    """A long time for answers, except from a peer that never sends any."""
    return replace(SETTINGS, answering=0.2) if name == "never answers" else SETTINGS


@pytest.mark.parametrize("name", BAD_PEERS)
def test_a_bad_peer_is_named_and_nothing_is_proven(name: str) -> None:
    answer, kind, cause = BAD_PEERS[name]
    with RelpPeer(answer) as peer, session(peer.port, settings_for(name)) as stream:
        with pytest.raises(kind, match=cause) as caught:
            deliver(stream)
        assert caught.value.retryable


def deliver(stream: AcknowledgedStream) -> None:
    stream.send(block([good(number) for number in range(5)]))
    stream.prove(CURSOR)


def speaker() -> RelpSpeaker:
    return RelpSpeaker(1 << 20, SETTINGS)


@pytest.mark.parametrize("name", BAD_PEERS)
def test_after_a_bad_peer_the_unproven_rest_is_sent_again_and_status_shows_the_error(name: str, tmp_path: Path) -> None:
    messages = [good(number) for number in range(5)]
    filled(tmp_path, [foreign(message) for message in messages])
    answer, _, cause = BAD_PEERS[name]
    seen: list[str] = []
    with (
        opened(tmp_path) as store,
        RelpPeer(first=(answer,)) as peer,
        delivering(store, peer.port, lambda: RelpSpeaker(1 << 20, settings_for(name)), seen) as destination,
    ):
        wait_until(lambda: destination.has_proven(2, 1), 60, lambda: repr(destination))
        assert destination.error is None
    assert seen  # where answers must come soon, a busy machine may make the good peer late as well
    assert re.search(cause, seen[0])
    acknowledged = {messages[2]} if "twice" in name else set()
    assert set(peer.messages) | acknowledged == set(messages)
    assert peer.messages[-2:] == messages[-2:]  # three may have been acknowledged before


def test_a_refused_message_is_set_aside_and_counted_and_delivery_continues(tmp_path: Path) -> None:
    filled(tmp_path, [foreign(good(1)), foreign(BAD), foreign(good(2))], [foreign(good(3))])
    with (
        opened(tmp_path) as store,
        RelpPeer(poisoned_by(BAD)) as peer,
        delivering(store, peer.port, speaker, []) as destination,
    ):
        wait_until(lambda: destination.has_proven(3, 1), 60, lambda: repr(destination))
        assert destination.refused == 1
        assert [gap.events for gap in store.losses.pending()] == [1]
        kept = (tmp_path / "refused" / "peer.syslog").read_bytes()
    assert kept == b"%d %b" % (len(BAD), BAD)
    assert set(peer.messages) == {good(1), good(2), good(3)}


def hear_and_close(_: Collector, connection: socket.socket) -> None:
    connection.recv(1000)


def hear_and_reset(_: Collector, connection: socket.socket) -> None:
    connection.recv(1000)
    reset(connection)


class TestOpening:
    def test_a_collector_that_never_answers_open_is_an_error(self) -> None:
        expected = pytest.raises(TemporaryError, match=r"no answer to RELP's open within 0\.1 s")
        with Collector() as silent, expected, session(silent.port, replace(SETTINGS, opening=0.1)):
            pass

    def test_a_stop_ends_the_wait(self) -> None:
        stop = threading.Event()
        with Collector() as silent:
            threading.Timer(0.05, stop.set).start()
            begun = time.monotonic()
            connected(silent.port, RelpSpeaker(1000, replace(SETTINGS, opening=100)), stop).close()
            assert time.monotonic() - begun < 60

    def test_a_collector_that_closes_at_once_is_reported(self) -> None:
        expected = pytest.raises(UnavailableError, match="closed the connection before it answered RELP's open")
        with Collector(hear_and_close) as closer, expected, session(closer.port):
            pass
        with Collector(hear_and_reset) as resets, expected, session(resets.port):
            pass

    @pytest.mark.parametrize(
        ("opened", "cause"),
        [
            (b"500 not today", "it answers 500 not today"),
            (b"200 OK", "offers no relp_version"),
            (b"?", "three-digit code"),
        ],
    )
    def test_a_collector_that_refuses_the_session_is_reported(self, opened: bytes, cause: str) -> None:
        with RelpPeer(opened=opened) as peer, pytest.raises(ProtocolError, match=cause), session(peer.port):
            pass

    def test_version_1_and_unknown_offers_are_accepted(self) -> None:
        offers = OPENED.replace(b"relp_version=0", b"relp_version=1") + b"\nnews=1"
        with RelpPeer(opened=offers) as peer, session(peer.port) as stream:
            deliver(stream)


class TestIdle:
    def test_an_announced_end_is_noticed_while_idle(self) -> None:
        with RelpPeer() as peer, session(peer.port) as stream:
            deliver(stream)
            stream.check()
            peer.send(b"0 serverclose 0\n")
            wait_until(lambda: gone(stream, "announced the session's end; 0 messages"), 60, "the end is found")

    def test_a_connection_that_closes_is_noticed_while_idle(self) -> None:
        with RelpPeer() as peer, session(peer.port) as stream:
            deliver(stream)
            assert peer.open_connection is not None
            peer.open_connection.shutdown(socket.SHUT_RDWR)
            wait_until(lambda: gone(stream, "closed the connection; 0 messages"), 60, "the end is found")


class SilentAtTheEnd(RelpPeer):
    def _reply(self, question: Frame) -> bytes | None:
        return b"" if question.command == b"close" else super()._reply(question)


class TestEnding:
    def test_the_session_is_closed_in_order_once_everything_is_proven(self, tmp_path: Path) -> None:
        filled(tmp_path, [foreign(good(1))])
        with opened(tmp_path) as store, RelpPeer() as peer:
            with delivering(store, peer.port, speaker, []) as destination:
                wait_until(lambda: destination.has_proven(2, 1), 60, lambda: repr(destination))
                assert peer.closes == 0
            wait_until(lambda: peer.closes == 1, 60, "the farewell is heard")

    def test_there_is_no_farewell_while_a_message_is_unanswered(self) -> None:
        """The message is not proven, and unsent messages stay unsent."""
        with RelpPeer() as peer, session(peer.port) as stream:
            stream.send(block([good(1)]))
            stream.end()
            stream.prove(CURSOR)
            assert (peer.closes, peer.messages) == (0, [good(1)])

    def test_a_farewell_without_an_answer_is_not_awaited_for_long(self) -> None:
        with SilentAtTheEnd() as peer, session(peer.port, replace(SETTINGS, answering=100)) as stream:
            deliver(stream)
            begun = time.monotonic()
            stream.end()
            assert FAREWELL_SECONDS <= time.monotonic() - begun < 60

    def test_a_farewell_to_a_collector_that_has_gone_is_not_an_error(self) -> None:
        with RelpPeer() as peer, session(peer.port) as stream:
            deliver(stream)
            assert peer.open_connection is not None
            peer.open_connection.shutdown(socket.SHUT_RDWR)
            stream.end()

    def test_a_stuck_collector_does_not_delay_a_stop(self, tmp_path: Path) -> None:
        filled(tmp_path, [foreign(good(1))])
        reached = threading.Event()

        def never(_: RelpPeer, __: Frame) -> bytes:
            reached.set()
            return b""

        with opened(tmp_path) as store, RelpPeer(never) as peer:
            with delivering(store, peer.port, lambda: RelpSpeaker(1 << 20), []) as destination:
                assert reached.wait(60)
                begun = time.monotonic()
            assert time.monotonic() - begun < 9  # `stop` waits 10 for a thread that nothing has freed
            assert destination.state == "stopped"
            assert peer.closes == 0


# --- rsyslog's imrelp, behind OpenSSH's sshd: foreign programs at every point that is not ours ---


@contextmanager
def to_imrelp(rsyslog: Rsyslog, settings: RelpSettings = DEFAULT_SETTINGS) -> Iterator[AcknowledgedStream]:
    with Sshd([f"PermitOpen 127.0.0.1:{rsyslog.port}"]) as sshd:
        stop = threading.Event()
        transport = SshSession.connect(sshd.forwarding(rsyslog.port), stop)
        stream = AcknowledgedStream(transport, stop, RelpSpeaker(1 << 20, settings), selection=EVERYTHING)
        yield stream
        stream.close()


def test_imrelp_gets_every_message_octet_for_octet_through_sshd() -> None:
    messages = [
        b"<13>x",
        b"<13>1 - - - - - - " + b"a" * 8192,
        b"<13>1 - - - - - - " + b"b" * 65536,
        b"<13>1 - - - - - - line\nline",
        b"<13>1 - - - - - - \xff\xfe\x80 and \x1d\x01\r\t\x7f",
        b"<13>1 - - - - - - a\0b",
    ]
    with Rsyslog("imrelp") as rsyslog, to_imrelp(rsyslog) as stream:
        stream.send(block(messages))
        stream.prove(CURSOR)
        kept = rsyslog.wait_for_messages(len(messages))
        assert kept[:-1] == messages[:-1]
        assert kept[-1] == b"<13>1 - - - - - - a#000b"  # rsyslog keeps no NUL, whatever it is told
        stream.check()
        rsyslog.stop()
        wait_until(lambda: gone(stream, "announced the session's end"), 60, "serverclose")


def test_imrelp_gets_twenty_thousand_messages_in_order_and_a_proof_takes_less_than_a_millisecond() -> None:
    messages = [good(number) for number in range(20_000)]
    with Rsyslog("imrelp") as rsyslog, to_imrelp(rsyslog) as stream:
        for at in range(0, len(messages), 1000):
            stream.send(block(messages[at : at + 1000]))
        stream.prove(CURSOR)
        assert rsyslog.wait_for_messages(len(messages), 60) == messages
        # The best tenth, of as many as it takes: the machine is shared.
        wait_until(lambda: _best_tenth([_proof(stream) for _ in range(100)]) < 0.001, 60, "a proof within 1 ms")


def _best_tenth(times: list[float]) -> float:
    return statistics.quantiles(times, n=10)[0]


def _proof(stream: AcknowledgedStream) -> float:
    stream.send(block([good(0)]))
    begun = time.perf_counter()
    stream.prove(CURSOR)
    return time.perf_counter() - begun


def test_a_frozen_collector_behind_a_living_sshd_is_noticed_by_its_missing_answers() -> None:
    with Rsyslog("imrelp") as rsyslog, to_imrelp(rsyslog, replace(SETTINGS, answering=4)) as stream:
        deliver(stream)
        suspend([rsyslog.pid])
        with pytest.raises(TemporaryError, match="no answer for 4 s"):
            stream.send(block([b"x" * 8000] * 1000))
