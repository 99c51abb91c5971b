"""One destination's thread: opens sessions, delivers by them, moves the cursor, and retries.

- Each session runs in relay.delivery.session_loop. relay.delivery.cursor_moves says when the cursor moves.
- A message on which the far end ends every session is found as relay.delivery.suspicion says. It is kept in `refused/`,
  counted in a gap, and delivery continues.
- A proof that is overdue for `OVERDUE_SECONDS` without a sign of life is an error until it comes.
- Retry: as relay.transport.retry says, beginning anew after a proof. Never given up.
"""

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from relay.delivery.cursor_moves import past_message
from relay.delivery.message_selection import MessageSelection
from relay.delivery.session_loop import SessionLoop
from relay.delivery.sessions.delivery_session import DeliverySession, FaultSearch, MessageId, RefusedMessage
from relay.delivery.spool_reading import BlockPiece, first_message_id, first_selected
from relay.delivery.suspicion import Suspicion
from relay.errors import InternalError, RelayError, StorageError, TemporaryError, UnavailableError
from relay.spool.cursor import Cursor
from relay.spool.losses.gap import LostRange
from relay.spool.segments.segment_reader import SpoolDamage
from relay.spool.store import Store
from relay.system.background.supervision import keep_running
from relay.system.clock import wall_clock
from relay.transport import StillOpenError, retry
from relay.values.histogram import PROOF_BOUNDS, Histogram
from relay.values.text import bug_text

OVERDUE_SECONDS: Final = 10.0
WAITING_SECONDS: Final = 2.0
"""A destination whose proof is overdue by more than this is not reported as delivering."""
REFUSED: Final = "refused by the server"
NOT_ACCEPTED: Final = "not accepted by the server"
DELIVERING: Final = "delivering"
WAITING_FOR_PROOF: Final = "waiting for a proof"
ENDING_SECONDS: Final = 1.5
"""How long a session may take to end by itself, with its farewell, before it is closed."""
FINISHING_SECONDS: Final = 10.0
"""How long `finish` waits for the last proof; longer than the resend window of UDP."""
SIZE_REMEDY: Final = (
    "if it is too large, set max-message-size of this server to what the collector accepts "
    "(`relay test-connection --sizes` finds it)"
)

_log = logging.getLogger("relay.delivery")


class DeliveryFailure(NamedTuple):
    """Why a destination does not deliver, and since when (microseconds since the epoch)."""

    error: RelayError
    since: int


class Destination:
    """A server or the archive. `start` it once; `stop` frees it whatever it waits for.

    `connect` is called with the event that stops it, and reads `files`: a change of one of them ends the wait before
    the next attempt. A proof without a sign of life for `overdue` seconds is an error.
    """

    def __init__(  # noqa: PLR0913 - each is one property of a configured server
        self,
        name: str,
        store: Store,
        connect: Callable[[threading.Event], DeliverySession],
        *,
        selection: MessageSelection,
        start: Cursor,
        required: bool = True,
        files: Sequence[str] = (),
        overdue: float = OVERDUE_SECONDS,
        longest_pause: float = retry.LONGEST,
    ) -> None:
        self.name = name
        self.cursor = store.follow(name, start, selection.types, required=required)
        """Proven so far."""
        self.failure: DeliveryFailure | None = None
        """Of the last session, until a proof comes."""
        self.required = required
        """Whether events that it has not proven are kept when space is needed."""
        self.proof_seconds = Histogram(PROOF_BOUNDS)
        """From the commit of each message to its proof."""
        self.proofs = 0
        self.damage: list[SpoolDamage] = []
        """Damage of the spool that was skipped since the start; the newest 100."""
        self.refused = 0
        """Messages that the far end has refused for good since the start."""
        self.largest_refused = 0
        """Octets of the largest message on which the far end ended every session; 0 without any."""
        self.suspicion = Suspicion()
        self.proven_ahead: dict[MessageId, BlockPiece] = {}
        """Probes: messages proven ahead of the cursor."""
        self.needs_a_message = False
        """Whether a suspicion waits for another message, which would show that the far end works."""
        self._activity = "starting"
        self._suspect: MessageId | None = None  # the message that failed alone, as long as it is suspected
        self._overdue_seconds = overdue
        self._due_since: float | None = None  # monotonic; of a proof or a connection
        self._overdue_at = (0.0, 0)  # the last overdue one: since when, monotonic and in microseconds since the epoch
        self._selection = selection
        self._store = store
        self._connect = connect
        self._files = files
        self._backoff = retry.Backoff(longest=longest_pause)
        self._session: DeliverySession | None = None
        self._stopped = threading.Event()
        self._finishing = threading.Event()
        work = functools.partial(keep_running, f"the delivery to {name}", self.run, self._stopped)
        self._thread = threading.Thread(target=work, name=f"delivery {name}", daemon=True)

    def __repr__(self) -> str:
        return f"<Destination {self.name!r} {self.state} retained={self.cursor.retained}>"

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def finish(self, seconds: float = FINISHING_SECONDS) -> None:
        """Stop delivering when everything sent is proven, so that nothing is sent twice, or after so many seconds."""
        self._finishing.set()
        with self._store.changed:
            self._store.changed.notify_all()
        if self._session is None:  # nothing is under way
            self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)
        self.stop()

    def stop(self, seconds: float = 10.0) -> None:
        """Stop delivering; messages that are not proven stay in the spool."""
        self._stopped.set()
        with self._store.changed:
            self._store.changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(min(seconds, ENDING_SECONDS))
        session = self._session
        if session is not None:
            session.close()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def has_proven(self, retained: int, transient: int) -> bool:
        """Whether every block before these numbers is proven."""
        return self.cursor.retained >= retained and self.cursor.transient >= transient

    # --- For status ---

    @property
    def state(self) -> str:
        """What it does, in words."""
        is_delivering = self.failure is None and self._activity == DELIVERING
        seconds = min(WAITING_SECONDS, self._overdue_seconds)
        return (
            WAITING_FOR_PROOF
            if is_delivering and time.monotonic() - self._silent_since() >= seconds
            else self._activity
        )

    @property
    def error(self) -> RelayError | None:
        """Why it does not deliver at the moment; None while it does."""
        failure = self.failure or self._overdue()
        return failure.error if failure is not None else None

    @property
    def error_since(self) -> int:
        """When the error began, in microseconds since the epoch; 0 without an error."""
        failure = self.failure or self._overdue()
        return failure.since if failure is not None else 0

    def _overdue(self) -> DeliveryFailure | None:
        """The failure when a proof, an answer or a connection is due, and nothing has come for too long."""
        since = self._silent_since()
        silence = time.monotonic() - since
        if silence < self._overdue_seconds:
            return None
        if self._overdue_at[0] != since:
            self._overdue_at = (since, wall_clock() - int(silence * 1_000_000))
        if self._activity == DELIVERING:
            cause = f"connected, but no proof for {silence:.0f} s"
            remedy = "look at the log server: is its disk full, or its collector stuck?"
        else:
            cause = f"no connection for {silence:.0f} s"
            remedy = "is the collector, or the network to it, stuck?"
        return DeliveryFailure(TemporaryError(self.name, cause, remedy), self._overdue_at[1])

    def _silent_since(self) -> float:
        """Since when a proof, an answer or a connection has been due without a sign of life (monotonic seconds)."""
        due, session = self._due_since, self._session
        if due is None and not (session is not None and session.owing):
            return float("inf")
        return max(due or 0.0, session.heard if session is not None else 0.0)

    def due(self, since: float | None) -> None:
        """Note that a proof is due since then (monotonic seconds), or with None that none is."""
        self._due_since = since

    # --- Delivering ---

    def run(self) -> None:
        """Deliver until stopped; the thread's body."""

        def note_pause(error: RelayError, pause: float) -> None:
            self._note_failure(error)
            self._activity = f"waiting {pause:.0f} s to try again"

        retry.keep_trying(self._run_session, self._stopped, note_pause, backoff=self._backoff, files=self._files)
        self._activity = "stopped"

    def _note_failure(self, error: RelayError, unproven: int = 0) -> None:
        if self.failure is None:
            again = f" ({unproven} events were not proven and are sent again)" if unproven else ""
            _log.warning("lost %s: %s%s", self.name, error, again)
        self.failure = DeliveryFailure(error, wall_clock() if self.failure is None else self.failure.since)

    def _run_session(self) -> None:
        """Run one session; returns when it is lost after a proof, raises when it is lost before one."""
        if self._stopped.is_set() or self._finishing.is_set():
            self._stopped.set()
            return
        before, known = self.proofs, self.suspicion
        loop: SessionLoop | None = None
        self._activity = "connecting"
        self.due(time.monotonic())
        try:
            self._session = self._connect(self._stopped)
            if self._stopped.is_set():
                return
            self.due(None)
            self._activity = DELIVERING
            _log.info("%s: session opened", self.name)
            loop = SessionLoop(self, self._store, self._session, self._selection)
            loop.run(self._stopped, self._finishing)
        except RelayError as error:
            if self._stopped.is_set():
                if loop is not None and not isinstance(error, StorageError):
                    with contextlib.suppress(StorageError):  # then the messages are sent again
                        loop.keep_proven_extent()
                return
            noted = self._learn_from_loss(error, loop)
            if self.proofs == before and not self.suspicion.knows_more_than(known):
                raise noted from error
        except Exception as error:
            # A bug of relay's must not end delivery for good: it is reported like any other failure, and retried.
            raise InternalError(self.name, bug_text(error), "please report it with the log") from error
        finally:
            self.due(None)
            self.needs_a_message = False
            session, self._session = self._session, None
            if session is not None:
                session.close()
                _log.info("%s: session ended", self.name)
            self._store.losses.end_session(self.name)
            if self._finishing.is_set():
                self._stopped.set()

    def _learn_from_loss(self, error: RelayError, loop: SessionLoop | None) -> RelayError:
        """Note what the loss of a session shows about the message at the cursor; the error, naming that message."""
        unproven = 0
        if loop is None:
            self.suspicion = self.suspicion.unreached()
        elif not isinstance(error, StorageError):  # which is a fault of this machine
            unproven = loop.keep_proven_extent()
            session, loss = self._session, loop.loss()
            by_the_collector = error.retryable and not isinstance(error, StillOpenError)  # which is only slow
            if session is None or not session.alive or loss is None or not by_the_collector:
                self.suspicion = self.suspicion.unreached()
            elif session.search is not FaultSearch.NEVER:
                self.suspicion = self.suspicion.lost(loss)
        found = self._find_suspect()
        if found is not None and error.retryable:
            ((kind, number, message),) = found.block.messages()
            cause = f"{error.cause}; it may not accept {kind.label} event {number} of {len(message)} octets"
            error = UnavailableError(error.what, cause, SIZE_REMEDY)
        self._note_failure(error, unproven)
        return error

    def _find_suspect(self) -> BlockPiece | None:
        """The message that may be at fault, once it is alone. If it is deleted, as by `rotate`, the suspicion ends."""
        if not self.suspicion.alone:
            self._suspect = None
            return None
        found = first_selected(self._store, self._selection, self.cursor, self.suspicion.spool)
        if found is None or self._suspect not in {None, first_message_id(found.block)}:
            self.suspicion, self._suspect = Suspicion(), None
            return None
        self._suspect = first_message_id(found.block)
        return found

    # --- For the session's loop ---

    def move_cursor(self, cursor: Cursor) -> None:
        """Move the cursor, durably; without a kind of proof, it has passed unselected blocks only."""
        if cursor.proof:
            self.proofs += 1
            _log.info("%s: %d events proven so far (%s)", self.name, cursor.delivered, cursor.proof)
        self._store.move_cursor(self.name, cursor)
        if cursor.proof and not self.suspicion.suspected:
            self._recover()
        self._set_cursor(cursor)  # last: a reader of the cursor finds the error cleared

    def _recover(self) -> None:
        if self.failure is not None:
            _log.warning("recovered %s", self.name)
            self.failure = None

    def _set_cursor(self, cursor: Cursor) -> None:
        reached = cursor.reached
        self.proven_ahead = {
            message_id: piece for message_id, piece in self.proven_ahead.items() if piece.start >= reached[piece.spool]
        }
        self.cursor = cursor

    def pass_message_at_fault(self) -> None:
        """Move the cursor past its message, which the far end does not accept; set the message aside and count it."""
        found = self._find_suspect()
        if found is None:
            return
        self.suspicion, self._suspect = self.suspicion.convicted(), None
        reached = past_message(self.cursor, found)
        ((_, _, message),) = found.block.messages()
        refused = RefusedMessage(first_message_id(found.block), message, "it ends every session on it")
        self.set_aside([refused], reached, NOT_ACCEPTED)
        self.largest_refused = max(self.largest_refused, len(message))
        self._store.move_cursor(self.name, reached)
        self._recover()  # the probe has just been proven
        self._set_cursor(reached)

    def set_aside(self, refused: Sequence[RefusedMessage], reached: Cursor, cause: str = REFUSED) -> None:
        """Keep in `refused/` and count the messages before `reached` that the far end will never accept."""
        if not refused:
            return
        try:
            path = self._store.refused.keep(self.name, [each.message for each in refused])
        except StorageError as error:
            path = f"nowhere ({error})"  # counted all the same: a full disk must not stop the delivery
        for each in refused:
            event = f"{each.id.type.label} event {each.id.number} of {len(each.message)} octets"
            _log.error("%s refuses %s (%s): kept in %s; %s", self.name, event, each.answer, path, SIZE_REMEDY)
        lost = [LostRange(run.hex(), int(kind), number, number, 1) for (run, kind, number), _, _ in refused]
        self._store.losses.lose(self.name, cause, lost, reached)
        self.refused += len(refused)

    def note_damage(self, damage: SpoolDamage) -> None:
        """Log damage of the spool that was skipped."""
        self.damage = [*self.damage[-99:], damage]
        _log.error("%s: damage at offset %d (%s); blocks %d to %d cannot be delivered", *damage[:5])
