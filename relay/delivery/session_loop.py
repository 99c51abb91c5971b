"""One session of a destination: reads, sends, and asks for proofs, until it is lost or stopped.

- A proof is asked for when no more messages wait (but not sooner than `PROOF_INTERVAL` after the one before), after
  `MAX_UNPROVEN` bytes, or after `MAX_UNPROVEN_SECONDS`. At most about that much is sent twice after a loss. Where a
  proof settles only a moment later, messages sent meanwhile are sent twice as well.
- Where the cursor moves to: relay.delivery.cursor_moves.
- Which messages are sent while one is suspected of stopping delivery: relay.delivery.suspicion.
- Memory: one block of each spool, and the headers of the unproven blocks.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from relay.delivery.cursor_moves import CursorMoves
from relay.delivery.message_selection import MessageSelection
from relay.delivery.sessions.delivery_session import DeliverySession, FaultSearch, MessageId, RefusedMessage
from relay.delivery.spool_reading import BlockPiece, SpoolReading, choose_probe, first_message_id
from relay.delivery.suspicion import FirstUnproven, SessionLoss, Suspicion
from relay.spool.cursor import Cursor
from relay.spool.segments.segment_reader import SpoolDamage
from relay.spool.store import Store
from relay.system.clock import wall_clock
from relay.values.histogram import Histogram

PROOF_INTERVAL: Final = 0.05
SETTLING_INTERVAL: Final = 0.025
"""Between two questions whether a proof has settled, in seconds."""
MAX_UNPROVEN: Final = 4 * 1024 * 1024
MAX_UNPROVEN_SECONDS: Final = 1.0
_MICROSECONDS: Final = 1_000_000
IDLE_SECONDS: Final = 1.0
"""Between two checks of an idle session."""


class DeliveryProgress(Protocol):
    """What outlives a session of a destination: how far delivery has come, and what is known about the far end."""

    name: str
    cursor: Cursor
    suspicion: Suspicion
    proven_ahead: dict[MessageId, BlockPiece]
    needs_a_message: bool
    proof_seconds: Histogram

    def due(self, since: float | None) -> None:
        """Note that a proof is due since then (monotonic seconds), or with None that none is."""

    def move_cursor(self, cursor: Cursor) -> None:
        """Move the cursor, durably."""

    def set_aside(self, refused: Sequence[RefusedMessage], reached: Cursor) -> None:
        """Keep and count the messages before `reached` that the far end will never accept."""

    def pass_message_at_fault(self) -> None:
        """Move the cursor past the suspected message."""

    def note_damage(self, damage: SpoolDamage) -> None:
        """Log damage of the spool that was skipped."""


class SessionLoop:
    """Delivers by one session, from the destination's cursor on."""

    def __init__(
        self, destination: DeliveryProgress, store: Store, session: DeliverySession, selection: MessageSelection
    ) -> None:
        self._destination = destination
        self._store = store
        self._session = session
        self._selection = selection
        self._reading = SpoolReading(store, destination.name, selection, destination.cursor)
        self._moves = CursorMoves(store, selection, self._reading, session.proof)
        self._unproven = 0  # bytes sent since a proof was asked for
        self._unproven_since = 0.0
        self._unsettled = False  # a proof was asked for, and has not settled
        self._last_proof = float("-inf")
        self._may_send = True  # nothing more is sent before a proof when this is False

    def run(self, stopped: threading.Event, finishing: threading.Event) -> None:
        """Deliver until `stopped`, or until everything sent when `finishing` was set is proven."""

        def ending() -> bool:
            return stopped.is_set() or finishing.is_set()

        try:
            if self._destination.suspicion.plan.probe is not None:
                self._send_probe(ending)
                return
            while not ending():
                self._step(ending)
            while not stopped.is_set() and (self._unproven or self._unsettled):
                if not self._unproven:
                    time.sleep(SETTLING_INTERVAL)
                self._prove()
            if self._unsettled and not self._unproven:  # a proof asked for a moment ago may still settle
                time.sleep(SETTLING_INTERVAL)
                self._prove()
            self._session.end()
            self.keep_proven_extent()
        finally:
            self._reading.close()

    def _step(self, ending: Callable[[], bool]) -> None:
        """Read and send one piece, then ask for a proof if one is due; without a piece, wait for more."""
        plan = self._destination.suspicion.plan
        left = plan.messages - self._moves.messages
        self._may_send = not plan.messages or left > 0
        piece: BlockPiece | SpoolDamage | None = None
        if self._may_send:
            piece = self._reading.next(plan.spool, max(left, 0), self._destination.proven_ahead)
        if isinstance(piece, SpoolDamage):
            self._destination.note_damage(piece)
        elif piece is not None:
            self._send(piece)
        now = time.monotonic()
        is_unproven = self._unproven > 0 or self._unsettled
        is_long_due = self._unproven > 0 and now - self._unproven_since >= MAX_UNPROVEN_SECONDS
        is_due = piece is None and now >= self._next_proof
        if is_unproven and (self._unproven >= MAX_UNPROVEN or is_long_due or is_due):
            self._prove()
        elif piece is None:
            if plan.messages and self._may_send and not is_unproven:  # the suspected spool has nothing more to suspect
                suspicion = self._destination.suspicion
                self._destination.suspicion = suspicion.proven(suspicion.suspected)
            self._wait(now, ending)

    def _send(self, piece: BlockPiece) -> None:
        self._moves.sent(piece)
        if piece.messages:
            if not self._unproven:
                self._unproven_since = time.monotonic()
                self._destination.due(self._unproven_since)
            self._unproven += piece.block.header.size
            self._session.send(piece.block)

    @property
    def _next_proof(self) -> float:
        return self._last_proof + (PROOF_INTERVAL if self._unproven else SETTLING_INTERVAL)

    def _prove(self) -> None:
        destination = self._destination
        reached = self._moves.everything_sent(destination.cursor, wall_clock())
        settled = self._session.prove(reached)
        destination.set_aside(self._session.refused, reached)
        self._last_proof = time.monotonic()
        self._unproven = 0
        self._unsettled = settled is None or settled.reached != reached.reached
        if settled is not None:
            sent = self._moves.pieces
            messages = self._moves.settle(destination.cursor, settled)
            now, unproven = wall_clock(), {id(piece) for piece in self._moves.pieces}
            for piece in sent:
                if id(piece) not in unproven:
                    seconds = (now - piece.block.header.committed) / _MICROSECONDS
                    destination.proof_seconds.add(seconds, piece.messages)
            destination.due(time.monotonic() if self._moves.pieces else None)
            destination.suspicion = destination.suspicion.proven(messages)
            destination.move_cursor(settled)

    def _wait(self, now: float, ending: Callable[[], bool]) -> None:
        """Wait for messages, or until the next proof is due; look after an idle session."""
        seconds = IDLE_SECONDS
        if self._unproven or self._unsettled:
            seconds = max(self._next_proof - now, 0.0)
        else:
            passed = self._moves.past_unselected(self._destination.cursor)
            if passed is not None:
                self._destination.move_cursor(passed)
            self._session.check()
        with self._store.changed:
            self._store.changed.wait_for(lambda: ending() or (self._may_send and self._reading.more), seconds)

    def _send_probe(self, ending: Callable[[], bool]) -> None:
        """Prove that the far end accepts a message other than the suspected one; then convict that, if it is time."""
        destination = self._destination
        suspicion = destination.suspicion
        suspected = (destination.cursor, suspicion.spool)
        while not ending():
            choice = suspicion.plan.probe or 0
            piece = choose_probe(self._store, self._selection, suspected, choice, destination.proven_ahead)
            destination.needs_a_message = piece is None
            if piece is not None:
                break
            self._session.check()
            with self._store.changed:
                self._store.changed.wait(IDLE_SECONDS)
        else:
            return
        destination.due(time.monotonic())
        self._session.send(piece.block)
        while self._session.prove(destination.cursor) is None:
            time.sleep(SETTLING_INTERVAL)
            if ending():
                return
        destination.due(None)
        destination.proven_ahead[first_message_id(piece.block)] = piece
        destination.suspicion = suspicion.probed()
        if destination.suspicion.at_fault:
            destination.pass_message_at_fault()
        self._session.end()

    # --- The end of a session ---

    def keep_proven_extent(self) -> int:
        """Move the cursor over the messages acknowledged by now; the number of messages that remain unproven."""
        cursor = self._moves.session_ended(self._destination.cursor, self._session.proven_extent(), wall_clock())
        if cursor is not None:
            self._destination.move_cursor(cursor)
        return self._moves.messages

    def loss(self) -> SessionLoss | None:
        """The unproven messages of a lost session, for a suspicion; None when there are none."""
        if not self._moves.pieces:
            return None
        first = self._moves.pieces[0]
        position = self._destination.cursor.reached[first.spool]
        unproven = [sum(piece.messages for piece in self._moves.pieces if piece.spool == spool) for spool in (0, 1)]
        singly = self._session.search is FaultSearch.SINGLY
        if not singly and self._session.proven_extent().up_to is not None:  # it was on a stream of its own
            unproven = [int(first.spool == spool) for spool in (0, 1)]
        return SessionLoss(FirstUnproven(first.spool, *position), (unproven[0], unproven[1]), singly)
