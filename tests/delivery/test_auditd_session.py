"""The auditd protocol as a session: proofs, refusals, and every fault of a server."""

import logging
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
from harness.auditd import SERVER_SAMPLE, Auditd
from harness.auditd_peer import Answer, AuditdPeer, Message, encode, keep
from harness.collector import Collector, reset
from harness.openssh import Sshd
from harness.waiting import wait_until
from program.history.spools import filled, foreign, opened

from relay.delivery.message_selection import EVERYTHING, MessageSelection
from relay.delivery.sessions.acknowledged_stream import AcknowledgedStream
from relay.delivery.sessions.auditd_speaker import AuditdSettings, AuditdSpeaker
from relay.delivery.sessions.delivery_session import NOTHING_PROVEN, MessageId, RefusedMessage
from relay.errors import ProtocolError, RelayError, TemporaryError, UnavailableError
from relay.events.audit.as_records import as_records
from relay.spool.cursor import Cursor
from relay.syslog.auditd_remote import ACK, DISKERROR, DISKFULL, DISKLOW, ENDING, LARGEST_RECORD
from relay.transport.ssh.session import SshSession
from relay.values.event import EventType

SETTINGS = AuditdSettings(opening=30, answering=30, pauses=(0.0, 0.0, 0.0, 0.001))
CURSOR = Cursor(retained=7, transient=3)
FATAL = 0x60000077


def record(number: int, octets: bytes = b"") -> bytes:
    return b"type=USER_LOGIN msg=audit(1709742929.678:%d): pid=1 %b" % (number, octets)


def event(*records: bytes) -> bytes:
    head = b'<109>1 2024-03-06T16:35:29.678Z h auditd - USER_LOGIN [128T relayRun="5f5f" relaySeq="1" type="audit"] '
    return head + b"\n".join(records)


def events(count: int, first: int = 0) -> list[bytes]:
    return [event(record(number)) for number in range(first, first + count)]


def session(
    port: int, settings: AuditdSettings = SETTINGS, selection: MessageSelection = EVERYTHING
) -> AbstractContextManager[AcknowledgedStream]:
    return session_of(port, AuditdSpeaker(settings), selection)


def deliver(stream: AcknowledgedStream, messages: list[bytes], first: int = 1) -> None:
    stream.send(block(messages, EventType.AUDIT, first=first))
    assert stream.prove(CURSOR) == CURSOR


def refuse(peer: AuditdPeer, message: Message) -> bytes:
    peer.refusals += 1
    return encode(FATAL, message.sequence, b"no")


def refusing(records: set[bytes]) -> Answer:
    """Refuses these records, whenever they come."""
    return lambda peer, message: refuse(peer, message) if message.body in records else keep(peer, message)


class TestDelivery:
    def test_a_proof_means_that_every_record_is_acknowledged_in_order(self) -> None:
        with AuditdPeer() as peer, session(peer.port) as stream:
            deliver(
                stream, [event(record(1), record(1, b"more")), event(record(2)), event(record(3, b"\xff \x1dA=b "))]
            )
            assert peer.records == [record(1), record(1, b"more"), record(2), record(3, b"\xff \x1dA=b ")]
            assert (stream.proof, list(stream.refused), peer.heartbeats) == ("acknowledged", [], 1)
            stream.check()

    def test_messages_of_other_types_are_sent_as_records_of_their_own(self) -> None:
        message = b"<13>1 - h - - - - a\nb"
        with AuditdPeer() as peer, session(peer.port) as stream:
            stream.send(block([message], EventType.LOG, first=4))
            stream.prove(CURSOR)
            assert peer.records == as_records(EventType.LOG, 4, message, 1).records

    def test_only_the_selected_types_are_sent(self) -> None:
        with AuditdPeer() as peer, session(peer.port, selection=MessageSelection(1 << EventType.AUDIT)) as stream:
            stream.send(block([b"not wanted"], EventType.TRAFFIC))
            deliver(stream, events(1))
            assert peer.records == [record(0)]

    def test_no_more_is_sent_ahead_than_the_window_allows(self) -> None:
        waiting: list[Message] = []
        most = 0

        def answer_the_fourth(peer: AuditdPeer, message: Message) -> bytes:
            nonlocal most
            waiting.append(message)
            most = max(most, len(waiting))
            if len(waiting) < 4:
                return b""
            answers = b"".join(keep(peer, each) for each in waiting)
            waiting.clear()
            return answers

        with AuditdPeer(answer_the_fourth) as peer, session(peer.port, replace(SETTINGS, window=4)) as stream:
            deliver(stream, events(400))
            assert peer.records == [record(number) for number in range(400)]
        assert most == 4

    def test_one_answer_is_enough_to_send_one_more(self) -> None:
        """Waiting for several answers may take long, because the kernel delays small answers to a silent sender."""
        waiting: list[Message] = []

        def answer_the_oldest_of_four(peer: AuditdPeer, message: Message) -> bytes:
            waiting.append(message)
            count = len(waiting) if message.body == record(99) else len(waiting) // 4
            return b"".join(keep(peer, waiting.pop(0)) for _ in range(count))

        with AuditdPeer(answer_the_oldest_of_four) as peer, session(peer.port, replace(SETTINGS, window=4)) as stream:
            deliver(stream, events(100))
            assert peer.records == [record(number) for number in range(100)]

    def test_answers_are_read_while_sending(self) -> None:
        """Otherwise records would fill the server's buffers while its answers fill relay's."""
        records = [record(number, b"x" * 8000) for number in range(2000)]

        def wordy(peer: AuditdPeer, message: Message) -> bytes:
            keep(peer, message)
            return encode(ACK, message.sequence, b"x" * 8000)

        with AuditdPeer(wordy) as peer, session(peer.port, replace(SETTINGS, window=100_000)) as stream:
            deliver(stream, [event(each) for each in records])
            assert peer.records == records

    def test_a_record_too_long_for_the_protocol_is_continued_counted_and_logged_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        long = event(record(1, b"x" * LARGEST_RECORD))
        speaker = AuditdSpeaker(SETTINGS)
        with AuditdPeer() as peer, session_of(peer.port, speaker) as stream, caplog.at_level(logging.WARNING):
            deliver(stream, [long, long])
            assert speaker.continued == 2
            assert len(peer.records) == 4
            assert all(len(each) <= LARGEST_RECORD for each in peer.records)
        assert [each.getMessage() for each in caplog.records] == [
            "audit event 1 is longer than an auditd record (8954 octets); it is sent in several (logged once a session)"
        ]


class TestWarnings:
    @pytest.mark.parametrize(("answer", "name"), [(DISKLOW, "DISKLOW"), (0x50000042, "type 0x50000042")])
    def test_a_warning_is_a_proof_and_is_logged_once(
        self, caplog: pytest.LogCaptureFixture, answer: int, name: str
    ) -> None:
        def warn(peer: AuditdPeer, message: Message) -> bytes:
            keep(peer, message)
            return encode(answer, message.sequence)

        with AuditdPeer(warn) as peer, session(peer.port) as stream, caplog.at_level(logging.WARNING):
            deliver(stream, events(3))
        assert [each.getMessage() for each in caplog.records] == [
            f"the server has kept a record and warns: {name} (logged once a session)"
        ]

    def test_a_refusal_with_a_warning_is_not_logged_as_kept(self, caplog: pytest.LogCaptureFixture) -> None:
        def refuse_the_first(peer: AuditdPeer, message: Message) -> bytes:
            return encode(0x70000001, message.sequence) if message.body == record(0) else keep(peer, message)

        with AuditdPeer(refuse_the_first) as peer, session(peer.port) as stream, caplog.at_level(logging.WARNING):
            deliver(stream, events(2))
            assert [each.answer for each in stream.refused] == ["type 0x70000001"]
        assert not caplog.records


class TestRefusals:
    def test_a_record_that_is_refused_once_is_sent_again_and_accepted(self) -> None:
        seen: set[bytes] = set()

        def refuse_once(peer: AuditdPeer, message: Message) -> bytes:
            if message.body == record(1) and not seen:
                seen.add(message.body)
                return refuse(peer, message)
            return keep(peer, message)

        with AuditdPeer(refuse_once) as peer, session(peer.port) as stream:
            deliver(stream, events(3))
            assert stream.refused == []
            assert peer.records == [record(0), record(2), record(1)]

    @pytest.mark.parametrize("place", [0, 2, 4])
    def test_a_record_that_is_always_refused_while_others_are_kept_is_given_up_after_five_times(
        self, place: int
    ) -> None:
        messages = events(5)
        with AuditdPeer(refusing({record(place)})) as peer, session(peer.port) as stream:
            deliver(stream, messages, first=10)
            assert stream.refused == [
                RefusedMessage(MessageId(RUN, EventType.AUDIT, 10 + place), messages[place], "type 0x60000077")
            ]
            assert peer.refusals == 5
            deliver(stream, events(1, first=9))
            assert stream.refused == []
            assert peer.records[-1] == record(9)

    def test_an_event_with_refused_records_is_reported_once_and_whole(self) -> None:
        message = event(record(1, b"a"), record(1, b"b"), record(1, b"c"))
        with AuditdPeer(refusing({record(1, b"a"), record(1, b"c")})) as peer, session(peer.port) as stream:
            deliver(stream, [message])
            assert stream.refused == [RefusedMessage(MessageId(RUN, EventType.AUDIT, 1), message, "type 0x60000077")]
            assert peer.refusals == 10

    def test_a_server_that_fails_during_an_interval_does_not_count_as_refusing_single_records(self) -> None:
        def sick_after_three(peer: AuditdPeer, message: Message) -> bytes:
            return keep(peer, message) if len(peer.records) < 3 else refuse(peer, message)

        with AuditdPeer(sick_after_three) as peer, session(peer.port) as stream:
            stream.send(block(events(6), EventType.AUDIT))
            with pytest.raises(UnavailableError, match='refuses every message, the last one with "type 0x60000077"'):
                stream.prove(CURSOR)
            assert stream.refused == []
            assert peer.refusals == 3 * 5 + 1


def closes(_: AuditdPeer, __: Message) -> bytes:
    raise ConnectionAbortedError


def once(said: Callable[[Message], bytes]) -> Answer:
    """Sends this answer to the third record, whose sequence is 4, and keeps the others."""
    return lambda peer, message: said(message) if message.sequence == 4 else keep(peer, message)


def half_an_answer(peer: AuditdPeer, message: Message) -> bytes:
    if message.sequence == 5:
        raise ConnectionAbortedError
    return encode(ACK, 4)[:9] if message.sequence == 4 else keep(peer, message)


def saying(type_: int) -> Answer:
    return once(lambda message: encode(type_, message.sequence))


BAD_PEERS: dict[str, tuple[Answer, type[RelayError], str]] = {
    "garbage": (once(lambda _: b"HTTP/1.1 400 Bad Request\r\n"), ProtocolError, "not with 0x50545448"),
    "10 MB without a line feed": (once(lambda _: b"x" * 10_000_000), ProtocolError, "not with 0x78787878"),
    "another version": (once(lambda m: encode(ACK, m.sequence)[:4] + b"\1" * 12), ProtocolError, "version 1.1"),
    "out of order": (once(lambda _: b""), ProtocolError, "ACK for 5 came before the answer to 4"),
    "twice": (once(lambda m: encode(ACK, m.sequence) * 2), ProtocolError, "ACK for 4 came a second time"),
    "what was not sent": (once(lambda _: encode(ACK, 99)), ProtocolError, "ACK for 99, which was never sent"),
    "with a message": (saying(0), ProtocolError, "a server does not answer MESSAGE"),
    "never": (lambda *_: b"", TemporaryError, "no answer for 0.2 s; 5 records wait for theirs"),
    "disk full": (saying(DISKFULL), UnavailableError, "DISKFULL: its disk is full; 3 records were unanswered"),
    "disk error": (saying(DISKERROR), UnavailableError, "DISKERROR: its disk fails; 3 records were unanswered"),
    "ending": (saying(ENDING), UnavailableError, "ENDING: it is stopping; 3 records were unanswered"),
    "refuses everything": (refuse, UnavailableError, "refuses every message"),
    "closes": (closes, UnavailableError, "closed the connection; 5 records were unanswered"),
    "closes in mid frame": (half_an_answer, UnavailableError, "closed the connection; 3 records were unanswered"),
}


def settings_for(name: str) -> AuditdSettings:
    """A long time for answers, except from a peer that never sends any."""
    return replace(SETTINGS, answering=0.2) if name == "never" else SETTINGS


@pytest.mark.parametrize("name", BAD_PEERS)
def test_a_bad_peer_is_named_and_nothing_is_proven(name: str) -> None:
    answer, kind, cause = BAD_PEERS[name]
    with AuditdPeer(answer) as peer, session(peer.port, settings_for(name)) as stream:
        stream.send(block(events(5), EventType.AUDIT))
        with pytest.raises(kind, match=cause) as caught:
            stream.prove(CURSOR)
        assert caught.value.retryable


@pytest.mark.parametrize("name", BAD_PEERS)
def test_after_a_bad_peer_the_unproven_rest_is_sent_again_and_status_shows_the_error(name: str, tmp_path: Path) -> None:
    messages = [b"<13>1 2024-03-06T16:35:29.678Z h - - - - %d" % number for number in range(5)]
    filled(tmp_path, [foreign(message) for message in messages])
    answer, _, cause = BAD_PEERS[name]
    seen: list[str] = []
    with (
        opened(tmp_path) as store,
        AuditdPeer(first=(answer,)) as peer,
        delivering(store, peer.port, lambda: AuditdSpeaker(settings_for(name)), seen) as destination,
    ):
        wait_until(lambda: destination.has_proven(2, 1), 60, lambda: repr(destination))
        assert destination.error is None
    assert seen  # where answers must come soon, a busy machine may make the good peer late as well
    assert cause.split(";")[0] in seen[0]
    sent = [as_records(EventType.LOG, nth, message, 0).records[0] for nth, message in enumerate(messages, 1)]
    acknowledged = {sent[2]} if "twice" in name else set()
    assert set(peer.records) | acknowledged == set(sent)
    assert peer.records[-2:] == sent[-2:]  # three may have been acknowledged before


def test_after_a_full_disk_an_announced_end_does_not_make_the_acknowledgements_valid() -> None:
    with AuditdPeer(saying(DISKFULL)) as peer, session(peer.port) as stream:
        stream.send(block(events(3), EventType.AUDIT))
        with pytest.raises(UnavailableError, match="DISKFULL"):
            stream.prove(CURSOR)
        peer.send(encode(ENDING, 0))
        with pytest.raises(UnavailableError, match="ENDING"):
            stream._read(60)
        assert stream.proven_extent() == NOTHING_PROVEN


class TestOpening:
    def test_a_server_that_does_not_answer_a_heartbeat_is_not_an_auditd(self) -> None:
        refused = pytest.raises(TemporaryError, match=r"no answer to a heartbeat within 0\.1 s")
        with Collector() as silent, refused, session(silent.port, replace(SETTINGS, opening=0.1)):
            pass

    def test_a_stop_ends_the_wait(self) -> None:
        stop = threading.Event()
        with Collector() as silent:
            threading.Timer(0.05, stop.set).start()
            begun = time.monotonic()
            connected(silent.port, AuditdSpeaker(replace(SETTINGS, opening=100)), stop).close()
            assert time.monotonic() - begun < 60

    def test_a_server_that_closes_at_once_is_reported_with_the_usual_cause(self) -> None:
        refused = pytest.raises(UnavailableError, match=r"before it answered a heartbeat; .* tcp_max_per_addr above 1")
        with AuditdPeer(beats=0, closes=True) as peer, refused, session(peer.port):
            pass
        # The reset may come while the connection is still being made.
        refused = pytest.raises(UnavailableError, match=r"before it answered a heartbeat; |connection reset by peer; ")
        with Collector(lambda _, connection: reset(connection)) as resets, refused, session(resets.port):
            pass


class TestIdle:
    def test_a_heartbeat_is_sent_after_a_time_of_silence(self) -> None:
        speaker = AuditdSpeaker(replace(SETTINGS, heartbeat=0.0))
        with AuditdPeer() as peer, session_of(peer.port, speaker) as stream:
            stream.check()
            wait_until(lambda: peer.heartbeats == 2, 60, "the heartbeat")
            assert stream._read(60)
            assert not speaker.unanswered
            deliver(stream, events(1))
        with AuditdPeer() as peer, session(peer.port) as stream:
            stream.check()
            deliver(stream, events(1))
            assert peer.heartbeats == 1

    def test_a_heartbeat_that_is_never_answered_ends_the_session(self) -> None:
        settings = replace(SETTINGS, heartbeat=0.0, answering=0.05)
        with AuditdPeer(beats=1) as peer, session(peer.port, settings) as stream:
            wait_until(lambda: gone(stream, "no answer for 0.05 s"), 60, "the silence is found")

    @pytest.mark.parametrize("type_", [DISKFULL, DISKERROR, FATAL])
    def test_a_heartbeat_answered_with_an_error_ends_the_session(self, type_: int) -> None:
        with AuditdPeer(beats=1) as peer, session(peer.port, replace(SETTINGS, heartbeat=0.0)) as stream:
            stream.check()
            wait_until(lambda: peer.heartbeats == 2, 60, "the heartbeat")
            peer.send(encode(type_, 2))
            wait_until(lambda: gone(stream, ""), 60, "the error is found")

    def test_a_server_that_stops_is_noticed_while_idle(self) -> None:
        with AuditdPeer() as peer, session(peer.port) as stream:
            deliver(stream, events(1))
            stream.check()
            peer.send(encode(ENDING, 0))
            wait_until(lambda: gone(stream, "ENDING: it is stopping; 0 records"), 60, "the end is found")


# --- The real auditd, in a network namespace of its own, behind OpenSSH's sshd ---


@pytest.fixture
def auditd() -> Iterator[Auditd]:
    with Auditd() as server:
        yield server


@contextmanager
def to_auditd(auditd: Auditd, settings: AuditdSettings = SETTINGS) -> Iterator[AcknowledgedStream]:
    with Sshd([f"PermitOpen 127.0.0.1:{auditd.port}"]) as sshd:
        stop = threading.Event()
        transport = SshSession.connect(sshd.forwarding(auditd.port), stop)
        try:
            stream = AcknowledgedStream(transport, stop, AuditdSpeaker(settings), selection=EVERYTHING)
            yield stream
        finally:
            transport.close()


def test_auditd_has_every_record_octet_for_octet_through_sshd(auditd: Auditd, seed: list[bytes]) -> None:
    largest = record(3)
    largest += b"x" * (LARGEST_RECORD - len(largest))
    odd = [record(1, b'\xff\xfe\x80 \t\r\x01\x7f\x1dUID="root"'), b"node=n " + record(2), largest, record(4, b" ")]
    with to_auditd(auditd) as stream:
        deliver(stream, [*map(event, seed), event(*odd)])
        assert auditd.wait_for_records(len(seed) + 4) == seed + odd
        stream.check()


def test_auditd_has_ten_thousand_records_in_order(auditd: Auditd) -> None:
    with to_auditd(auditd) as stream:
        for first in range(0, 10_000, 1000):
            stream.send(block(events(1000, first), EventType.AUDIT))
        stream.prove(CURSOR)
        assert auditd.wait_for_records(10_000) == [record(number) for number in range(10_000)]


def test_a_message_that_auditd_cannot_hold_as_a_record_is_the_text_of_one(auditd: Auditd) -> None:
    messages = [b"x", b"<13>1 - h a - - - line\nline", b"a\0b", b"<13>1 - - - - - - " + b"y" * 65536, b"\xff" * 8192]
    with session(auditd.port) as stream:
        stream.send(block(messages, EventType.LOG))
        stream.prove(CURSOR)
    expected = [r for nth, m in enumerate(messages, 1) for r in as_records(EventType.LOG, nth, m, 1).records]
    assert auditd.wait_for_records(len(expected)) == expected


def test_an_auditd_that_accepts_one_connection_from_an_address_rejects_the_second() -> None:
    """Through a tunnel all have one address; the sample for a log server accepts several connections from it."""
    refused = pytest.raises(UnavailableError, match="tcp_max_per_addr")
    with Auditd(per_address=1) as auditd, session(auditd.port), refused, session(auditd.port):
        pass
    with Auditd(settings=SERVER_SAMPLE.read_text()) as auditd, session(auditd.port), session(auditd.port) as second:
        deliver(second, events(1))


def test_an_auditd_that_stops_announces_it_and_is_noticed_while_idle(auditd: Auditd) -> None:
    with to_auditd(auditd) as stream:
        deliver(stream, events(1))
        auditd.stop()
        wait_until(lambda: gone(stream, "ENDING: it is stopping"), 60, "the end is found")


def test_a_full_disk_of_auditd_is_reported_and_everything_arrives_once_there_is_space(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    messages = [b"<13>1 2024-03-06T16:35:29.678Z h - - - - %d %b" % (n, b"x" * 300) for n in range(1000)]
    filled(tmp_path, [foreign(message) for message in messages])

    with (
        Auditd(settings=SERVER_SAMPLE.read_text(), room="300k") as auditd,
        opened(tmp_path) as store,
        caplog.at_level(logging.WARNING),
    ):
        with delivering(store, auditd.port, lambda: AuditdSpeaker(SETTINGS), []) as destination:
            wait_until(lambda: "DISKFULL: its disk is full" in str(destination.error), 60, lambda: repr(destination))
            assert not destination.has_proven(2, 1)
            auditd.make_room("10m")
            wait_until(lambda: destination.has_proven(2, 1), 60, lambda: f"{destination!r} {destination.error}")
        sent = [as_records(EventType.LOG, nth, message, 0).records[0] for nth, message in enumerate(messages, 1)]
        assert set(sent) <= set(auditd.records())
    assert "the server has kept a record and warns: DISKLOW" in caplog.text


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_nothing_is_lost_when_auditd_stops_during_delivery_and_starts_again(
    auditd: Auditd, tmp_path: Path, how: str
) -> None:
    """Acknowledged records are in its log, and the others are sent again: at most one interval twice."""
    messages = [b"<13>1 2024-03-06T16:35:29.678Z h - - - - %d" % number for number in range(3000)]
    filled(tmp_path, [foreign(message) for message in messages])
    with (
        opened(tmp_path) as store,
        delivering(store, auditd.port, lambda: AuditdSpeaker(SETTINGS), []) as destination,
    ):
        auditd.wait_for_records(300)
        getattr(auditd, how)()
        auditd.start()
        wait_until(lambda: destination.has_proven(2, 1), 60, lambda: repr(destination))
    sent = [as_records(EventType.LOG, nth, message, 0).records[0] for nth, message in enumerate(messages, 1)]
    kept = auditd.wait_for_records(len(sent))
    assert set(sent) <= set(kept)
    # A killed auditd may have had half a record in its last write.
    assert len([each for each in kept if each not in set(sent)]) <= 1
    assert len(kept) <= 2 * len(sent) + 1


@pytest.fixture
def seed() -> list[bytes]:
    """The 28 records of the documentation's examples."""
    return (Path(__file__).parent.parent / "events" / "audit" / "seed.log").read_bytes().splitlines()
