"""Messages of a block that are acknowledged when a session is lost are never sent again, even after a restart."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from delivery.acknowledged import delivering
from harness.auditd_peer import AuditdPeer, keep
from harness.auditd_peer import Message as Record
from harness.relp import RelpPeer, accept, refuse
from harness.waiting import wait_until
from program.history.spools import event, fill, filled, foreign, opened

from relay.delivery.sessions.auditd_speaker import AuditdSpeaker
from relay.delivery.sessions.relp_speaker import RelpSpeaker
from relay.spool.store import Store
from relay.syslog.relp_frame import Frame
from relay.values.event import EventType

MESSAGES = 100


def message(number: int) -> bytes:
    return b"<13>1 2024-03-06T16:35:29.678Z h - - - - %d" % number


def number_of(received: bytes) -> int:
    return int(received.rpartition(b" ")[2].removeprefix(b'info="').rstrip(b'"'))


def speaker() -> RelpSpeaker:
    return RelpSpeaker(1 << 20)


def accepts_until(stopped_at: int) -> Callable[[RelpPeer, Frame], bytes]:
    """Acknowledges so many messages in all, and ends every session on the next message."""

    def answer(peer: RelpPeer, frame: Frame) -> bytes:
        if len(peer.messages) >= stopped_at:
            raise ConnectionAbortedError
        return accept(peer, frame)

    return answer


def test_after_a_restart_relp_continues_within_the_block(tmp_path: Path) -> None:
    filled(tmp_path, [foreign(message(number)) for number in range(MESSAGES)])
    with (
        opened(tmp_path) as store,
        RelpPeer(accepts_until(30)) as peer,
        delivering(store, peer.port, speaker, []) as destination,
    ):
        wait_until(lambda: destination.error is not None, 60, lambda: repr(destination))
        cursor = destination.cursor
        assert (cursor.retained, cursor.retained_part, cursor.delivered, cursor.proof) == (1, 30, 30, "acknowledged")
        assert list(map(number_of, peer.messages)) == list(range(30))
    with opened(tmp_path) as store, RelpPeer() as well:
        with delivering(store, well.port, speaker, []) as destination:
            wait_until(lambda: destination.has_proven(2, 1), 60, lambda: repr(destination))
            assert destination.cursor.delivered == MESSAGES
        assert list(map(number_of, well.messages)) == list(range(30, MESSAGES))


def test_the_auditd_protocol_continues_within_the_block(tmp_path: Path) -> None:
    def ends_after_40(peer: AuditdPeer, record: Record) -> bytes:
        if len(peer.records) >= 40:
            raise ConnectionAbortedError
        return keep(peer, record)

    filled(tmp_path, [foreign(message(number)) for number in range(MESSAGES)])
    with (
        opened(tmp_path) as store,
        AuditdPeer(first=(ends_after_40,)) as peer,
        delivering(store, peer.port, AuditdSpeaker, []) as destination,
    ):
        wait_until(lambda: destination.has_proven(2, 1), 60, lambda: repr(destination))
    assert list(map(number_of, peer.records)) == list(range(MESSAGES))


def test_a_message_refused_but_not_for_good_holds_the_cursor(tmp_path: Path) -> None:
    """The messages accepted after it are sent again, because the cursor is one position."""

    def refuses_one_and_dies_on_the_second_try(peer: RelpPeer, frame: Frame) -> bytes:
        if frame.data == message(20):
            if peer.refusals:
                raise ConnectionAbortedError
            return refuse(peer, frame)
        return accept(peer, frame)

    filled(tmp_path, [foreign(message(number)) for number in range(MESSAGES)])
    with (
        opened(tmp_path) as store,
        RelpPeer(first=(refuses_one_and_dies_on_the_second_try,)) as peer,
        delivering(store, peer.port, speaker, []) as destination,
    ):
        wait_until(lambda: destination.has_proven(2, 1), 60, lambda: repr(destination))
    times = Counter(map(number_of, peer.messages))
    assert times == Counter(range(MESSAGES)) + Counter(range(21, MESSAGES))


def test_a_stop_moves_the_cursor_over_the_messages_answered_by_then(tmp_path: Path) -> None:
    reached = threading.Event()

    def falls_silent(peer: RelpPeer, frame: Frame) -> bytes:
        if len(peer.messages) < 10:
            return accept(peer, frame)
        reached.set()
        return b""

    filled(tmp_path, [foreign(message(number)) for number in range(MESSAGES)])
    with opened(tmp_path) as store, RelpPeer(falls_silent) as peer:
        with delivering(store, peer.port, speaker, []) as destination:
            assert reached.wait(60)
        assert destination.cursor.retained_part == 10
        cursor = store.cursor("peer")
        assert cursor is not None
        assert cursor.reached.retained == (1, 10)


@pytest.mark.parametrize("busy", [False, True])
def test_a_message_at_fault_in_the_transient_spool_is_found_while_the_retained_one_grows(
    tmp_path: Path, busy: bool
) -> None:
    """The retained spool's blocks always come first, so none of the transient spool are sent meanwhile."""

    def answer(peer: RelpPeer, frame: Frame) -> bytes:
        if b"never" in (frame.data or b""):
            raise ConnectionAbortedError
        return accept(peer, frame)

    with opened(tmp_path) as store, RelpPeer(answer) as peer:
        traffic = ["0", "1", "2", "never", *(f"after {number}" for number in range(3))]
        fill(store, [[event(text, EventType.TRAFFIC) for text in traffic], [event("audit")]])
        with delivering(store, peer.port, speaker, []) as destination:
            wait_until(lambda: grows(store, busy) and destination.refused == 1, 60, lambda: repr(destination))
            ends = (store.retained.next_number, store.transient.next_number)
            wait_until(lambda: destination.has_proven(*ends), 60, lambda: repr(destination))
    texts = Counter(received.rpartition(b" ")[2] for received in peer.messages if b'"traffic"' in received)
    assert texts == Counter([b"0", b"1", b"2"] * 2)


def grows(store: Store, busy: bool) -> bool:
    if busy:
        fill(store, [[event("more")]])
    return True
