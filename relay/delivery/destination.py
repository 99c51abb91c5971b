"""One destination's loop: reads synced blocks, has a session send and prove them, moves the cursor, and retries.

- The cursor moves only on proof (DESIGN invariant 3); blocks without a wanted message need none.
- A proof is asked for when nothing more waits (but not sooner than `PROOF_SPACING` after the one before), after
  `MAX_UNPROVEN` octets, or after `MAX_UNPROVEN_SECONDS`: so at most about that much is sent twice after a loss, and
  where a proof holds only a moment after it was given, what is sent meanwhile as well.
- When a session is lost, the cursor moves over what the far end has answered by then, also within a block: that is
  never sent again. A process that is killed has not come to it, and sends the interval again.
- A message on which the far end ends every session is found as relay.delivery.suspicion says. It is kept in `refused/`,
  counted in a gap, and delivery goes on.
- A proof that is overdue for `OVERDUE_SECONDS`, with no sign of life meanwhile, is an error until it comes.
- Retry: as relay.transport.retry says, from the start again after a proof. Never given up.
- Memory: one block at a time, and the headers of what is unproven.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from relay.delivery.message_selection import MessageSelection
from relay.delivery.sessions.delivery_session import DeliverySession, FaultSearch, MessageId, RefusedMessage
from relay.delivery.spool_reading import BlockPiece, SpoolReading, choose_probe, identity_of, selected_before, suspect
from relay.delivery.suspicion import FirstUnproven, SessionLoss, Suspicion
from relay.errors import InternalError, RelayError, StorageError, TemporaryError, UnavailableError
from relay.spool.cursor import Cursor
from relay.spool.losses.gap import LostRange
from relay.spool.segments.segment_reader import SpoolDamage
from relay.spool.store import Store
from relay.system.clock import wall_clock
from relay.transport import StillOpenError, retry
from relay.values.text import error_text

PROOF_SPACING: Final = 0.05
SETTLING_SPACING: Final = 0.025
"""Between two questions whether a proof that was given holds."""
MAX_UNPROVEN: Final = 4 * 1024 * 1024
MAX_UNPROVEN_SECONDS: Final = 1.0
OVERDUE_SECONDS: Final = 10.0
REFUSED: Final = "refused by the server"
NOT_ACCEPTED: Final = "not accepted by the server"
IDLE_SECONDS: Final = 1.0
DELIVERING: Final = "delivering"
ENDING_SECONDS: Final = 1.5
"""How long a session may take to end by itself, with its farewell, before it is closed."""
FINISHING_SECONDS: Final = 10.0
"""How long `finish` waits for the last proof; longer than what is sent by UDP counts as under way."""

_log = logging.getLogger("relay.delivery")


SIZE_REMEDY: Final = (
    "if it is too large, set max-message-size of this server to what the collector accepts "
    "(`relay test-connection --sizes` finds it)"
)


class _Overdue(NamedTuple):
    """Since when a proof is due that is overdue: by the monotonic clock (s), and by the wall clock (µs)."""

    since: float
    wall: int


def _named(piece: BlockPiece) -> str:
    ((kind, number, message),) = piece.block.messages()
    return f"{kind.label} event {number} of {len(message)} octets"


class Destination:
    """A server or the archive. `start` it once; `stop` frees it whatever it waits for.

    `connect` is given the event that stops it, and reads `files`: when one of them changes, it is tried again at once.
    """

    def __init__(  # noqa: PLR0913 - each is one thing that the configuration says of a server
        self,
        name: str,
        store: Store,
        connect: Callable[[threading.Event], DeliverySession],
        *,
        selection: MessageSelection,
        start: Cursor,
        required: bool = True,
        files: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.overdue_seconds = OVERDUE_SECONDS
        self._selection = selection
        self.cursor = store.follow(name, start, selection.types, required=required)
        """Proven so far."""
        self._state = "starting"
        self._error: RelayError | None = None
        self._error_since = 0
        self.proofs = 0
        self.lost: list[SpoolDamage] = []
        """Damage that was stepped over since the start; the newest 100."""
        self.refused = 0
        """Messages that the far end has refused for good, since the start."""
        self.largest_refused = 0
        """Octets of the largest message on which it ended every session; 0 without any."""
        self.suspicion = Suspicion()
        self._suspect: MessageId | None = None
        """Which message failed alone, as long as it is suspected."""
        self.passed: dict[MessageId, BlockPiece] = {}
        """Proven ahead of the cursor: probes."""
        self.wants_a_message = False
        """Whether a suspicion waits for another message, which would show that the far end works."""
        self._due_since: float | None = None
        self._overdue = _Overdue(0.0, 0)
        self._store = store
        self._connect = connect
        self._files = files
        self._session: DeliverySession | None = None
        self._stopped = threading.Event()
        self._finishing = threading.Event()
        self._thread = threading.Thread(target=self.run, name=f"delivery {name}", daemon=True)

    def __repr__(self) -> str:
        return f"<Destination {self.name!r} {self.state} retained={self.cursor.retained}>"

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def finish(self, seconds: float = FINISHING_SECONDS) -> None:
        """Stop delivering once what was sent is proven, or after so many seconds: then nothing is sent twice."""
        self._finishing.set()
        with self._store.changed:
            self._store.changed.notify_all()
        if self._session is None:  # nothing is under way
            self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)
        self.stop()

    def stop(self, seconds: float = 10.0) -> None:
        """Stop delivering; what is not proven stays in the spool."""
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

    # --- What a reader of status sees ---

    @property
    def state(self) -> str:
        """What it does."""
        overdue = self._error is None and self._state == DELIVERING and self._is_overdue()
        return "waiting for a proof" if overdue else self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state = state

    @property
    def error(self) -> RelayError | None:
        """Why it does not deliver at the moment; None while it does."""
        if self._error is not None or not self._is_overdue():
            return self._error
        what = "proof" if self._state == DELIVERING else "connection"
        cause = f"no {what} for {time.monotonic() - self._overdue.since:.0f} s"
        return TemporaryError(self.name, cause, "is the collector, or the network to it, stuck?")

    @error.setter
    def error(self, error: RelayError | None) -> None:
        self._error = error

    @property
    def error_since(self) -> int:
        """When that began, in microseconds since the epoch; 0 without an error."""
        return self._error_since if self._error is not None or not self._is_overdue() else self._overdue.wall

    @error_since.setter
    def error_since(self, since: int) -> None:
        self._error_since = since

    def _is_overdue(self) -> bool:
        """Whether a proof, an answer or a connection is due, and nothing has come for too long."""
        due, session, now = self._due_since, self._session, time.monotonic()
        if due is None and not (session is not None and session.owing):
            return False
        since = max(due or 0.0, session.heard if session is not None else 0.0)
        if now - since < self.overdue_seconds:
            return False
        if self._overdue.since != since:
            self._overdue = _Overdue(since, wall_clock() - int((now - since) * 1_000_000))
        return True

    def due(self, since: float | None) -> None:
        """From now on a proof is due (monotonic seconds); None: nothing is."""
        self._due_since = since

    # --- Delivering ---

    def run(self) -> None:
        """Deliver until stopped; the thread's body."""
        retry.keep_trying(self._deliver_once, self._stopped, self._note_failure, files=self._files)
        self.state = "stopped"

    def _note_failure(self, error: RelayError, pause: float) -> None:
        self._note(error)
        self.state = f"waiting {pause:.0f} s to try again"

    def _note(self, error: RelayError, unproven: int = 0) -> None:
        if self._error is None:
            again = f" ({unproven} events were not proven and are sent again)" if unproven else ""
            _log.warning("lost %s: %s%s", self.name, error, again)
            self._error_since = wall_clock()
        self._error = error

    def _deliver_once(self) -> None:
        """One session; returns when it is lost after a proof, raises when it is lost before one."""
        if self._stopped.is_set() or self._finishing.is_set():
            self._stopped.set()
            return
        before, known = self.proofs, self.suspicion
        delivery: _Delivery | None = None
        self.state = "connecting"
        self.due(time.monotonic())
        try:
            self._session = self._connect(self._stopped)
            if self._stopped.is_set():
                return
            self.due(None)
            self.state = DELIVERING
            _log.info("%s: session opened", self.name)
            delivery = _Delivery(self, self._store, self._session, self._selection)
            delivery.run(self._stopped, self._finishing)
        except RelayError as error:
            if self._stopped.is_set():
                if delivery is not None and not isinstance(error, StorageError):
                    with contextlib.suppress(StorageError):  # then it is sent again
                        delivery.keep_what_is_answered()
                return
            noted = self._learn(error, delivery)
            if self.proofs == before and not self.suspicion.knows_more_than(known):
                raise noted from error
        except Exception as error:
            # A bug of ours must not end delivery for good: it is told like any other failure, and tried again.
            _log.exception("delivery to %s failed", self.name)
            raise InternalError(self.name, f"a bug: {error_text(error)}", "please report it with the log") from error
        finally:
            self.due(None)
            self.wants_a_message = False
            session, self._session = self._session, None
            if session is not None:
                session.close()
                _log.info("%s: session ended", self.name)
            self._store.losses.give_up(self.name)
            if self._finishing.is_set():
                self._stopped.set()

    def _learn(self, error: RelayError, delivery: "_Delivery | None") -> RelayError:
        """What the loss of a session says about the message at the cursor; the error with that message."""
        unproven = 0
        if delivery is None:
            self.suspicion = self.suspicion.unreached()
        elif not isinstance(error, StorageError):  # that is a fault of this machine
            unproven = delivery.keep_what_is_answered()
            session, loss = self._session, delivery.loss()
            by_the_collector = error.retryable and not isinstance(error, StillOpenError)  # which is only slow
            if session is None or not session.alive or loss is None or not by_the_collector:
                self.suspicion = self.suspicion.unreached()
            elif session.search is not FaultSearch.NEVER:
                self.suspicion = self.suspicion.lost(loss)
        found = self._the_suspect()
        if found is not None and error.retryable:
            error = UnavailableError(error.what, f"{error.cause}; it may not accept {_named(found)}", SIZE_REMEDY)
        self._note(error, unproven)
        return error

    def _the_suspect(self) -> BlockPiece | None:
        """The message that may be at fault, once it is alone. When it is gone, as by `rotate`, nothing is suspected."""
        if not self.suspicion.alone:
            self._suspect = None
            return None
        found = suspect(self._store, self._selection, self.cursor, self.suspicion.spool)
        if found is None or self._suspect not in {None, identity_of(found.block)}:
            self.suspicion, self._suspect = Suspicion(), None
            return None
        self._suspect = identity_of(found.block)
        return found

    def proven(self, cursor: Cursor) -> None:
        """Move the cursor, durably."""
        if cursor.proof:
            self.proofs += 1
            _log.info("%s: %d events proven so far (%s)", self.name, cursor.delivered, cursor.proof)
        self._store.move_cursor(self.name, cursor)
        if cursor.proof and not self.suspicion.suspected:
            self._recover()
        self._move(cursor)  # last: a reader of the cursor finds the error cleared

    def _recover(self) -> None:
        if self._error is not None:
            _log.warning("recovered %s", self.name)
            self._error, self._error_since = None, 0

    def _move(self, cursor: Cursor) -> None:
        places = (cursor.reached_retained, cursor.reached_transient)
        self.passed = {name: piece for name, piece in self.passed.items() if piece.start >= places[piece.spool]}
        self.cursor = cursor

    def convict(self) -> None:
        """Pass over the message at the cursor, which the far end does not accept: keep it aside and count it."""
        found = self._the_suspect()
        if found is None:
            return
        self.suspicion, self._suspect = self.suspicion.convicted(), None
        retained, transient = self.cursor.reached_retained, self.cursor.reached_transient
        reached = self.cursor.at(retained, found.after) if found.spool else self.cursor.at(found.after, transient)
        ((kind, number, message),) = found.block.messages()
        refused = RefusedMessage(
            MessageId(found.block.header.run, kind, number), message, "it ends every session on it"
        )
        self.leave_out([refused], reached, NOT_ACCEPTED)
        self.largest_refused = max(self.largest_refused, len(message))
        self._store.move_cursor(self.name, reached)
        self._recover()  # the probe has just been proven
        self._move(reached)

    def leave_out(self, refused: Sequence[RefusedMessage], reached: Cursor, cause: str = REFUSED) -> None:
        """Keep aside and count what the far end will never take of all that is before `reached`."""
        events = {each.id: each for each in refused}.values()  # not one for each part
        if not events:
            return
        try:
            path = self._store.refused.keep(self.name, [each.message for each in events])
        except StorageError as error:
            path = f"nowhere ({error})"  # counted all the same: a full disk must not stop the delivery
        for each in events:
            event = f"{each.id.type.label} event {each.id.number} of {len(each.message)} octets"
            _log.error("%s refuses %s (%s): kept in %s; %s", self.name, event, each.answer, path, SIZE_REMEDY)
        ranges = [
            LostRange(run.hex(), int(kind), number, number, 1) for run, kind, number in (each.id for each in events)
        ]
        self._store.losses.lose(self.name, cause, ranges, reached)
        self.refused += len(events)

    def note_lost(self, lost: SpoolDamage) -> None:
        """Tell of damage in the spool that was stepped over."""
        self.lost = [*self.lost[-99:], lost]
        _log.error("%s: damage at offset %d (%s); blocks %d to %d cannot be delivered", *lost[:5])


class _Delivery:
    """One session's loop, from the cursor on."""

    def __init__(
        self, destination: Destination, store: Store, session: DeliverySession, selection: MessageSelection
    ) -> None:
        self._destination = destination
        self._store = store
        self._session = session
        self._selection = selection
        self._reading = SpoolReading(store, destination.name, selection, destination.cursor)
        self._under_way: list[BlockPiece] = []
        """What is sent and unproven, in order, without the messages themselves."""
        self._unproven = 0
        self._unsettled = False  # asked for a proof that does not hold yet
        self.unproven_messages = 0
        self._unproven_since = 0.0
        self._full = False
        """Nothing more is sent before a proof."""
        self._last_proof = float("-inf")

    def run(self, stopped: threading.Event, finishing: threading.Event) -> None:
        """Deliver until `stopped`, or until all that was sent when `finishing` was set is proven."""

        def ending() -> bool:
            return stopped.is_set() or finishing.is_set()

        try:
            if self._destination.suspicion.plan.probe is not None:
                self._probe(ending)
                return
            while not ending():
                self._step(ending)
            while not stopped.is_set() and (self._unproven or self._unsettled):
                if not self._unproven:
                    time.sleep(SETTLING_SPACING)
                self._prove()
            self._end()
            self.keep_what_is_answered()
        finally:
            self._reading.close()

    def _end(self) -> None:
        """End the session between two sends; a proof that was given a moment ago may still come to hold."""
        if self._unsettled and not self._unproven:
            time.sleep(SETTLING_SPACING)
            self._prove()
        self._session.end()

    def _step(self, ending: Callable[[], bool]) -> None:
        plan = self._destination.suspicion.plan
        left = plan.messages - self.unproven_messages
        item: BlockPiece | SpoolDamage | None = None
        self._full = bool(plan.messages) and left <= 0
        if not self._full:
            item = self._reading.next(plan.spool, max(left, 0), self._destination.passed)
        if isinstance(item, SpoolDamage):
            self._destination.note_lost(item)
        elif item is not None:
            self._send(item)
        now = time.monotonic()
        if (self._unproven or self._unsettled) and self._proof_is_due(now, more=item is not None):
            self._prove()
        elif item is None:
            if plan.messages and not (self._full or self._unproven or self._unsettled):
                # That spool has nothing more that could be suspected.
                suspicion = self._destination.suspicion
                self._destination.suspicion = suspicion.proven(suspicion.suspected)
            self._wait(now, ending)

    def _send(self, piece: BlockPiece) -> None:
        self.unproven_messages += piece.left_out
        if not piece.messages:
            return
        if not self._unproven:
            self._unproven_since = time.monotonic()
            self._destination.due(self._unproven_since)
        self._under_way.append(piece._replace(block=piece.block._replace(payload=b"")))
        self.unproven_messages += piece.messages
        self._unproven += piece.block.header.size
        self._session.send(piece.block)

    def _proof_is_due(self, now: float, *, more: bool) -> bool:
        if self._unproven >= MAX_UNPROVEN or (self._unproven and now - self._unproven_since >= MAX_UNPROVEN_SECONDS):
            return True
        return not more and now - self._last_proof >= self._spacing

    @property
    def _spacing(self) -> float:
        return PROOF_SPACING if self._unproven else SETTLING_SPACING

    def _prove(self) -> None:
        reached = self._reached(proven_at=wall_clock(), proof=self._session.proof)
        settled = self._session.prove(reached)
        self._destination.leave_out(self._session.refused, reached)
        self._last_proof = time.monotonic()
        self._unproven = 0
        self._unsettled = settled is None or _place(settled) != _place(reached)
        if settled is not None:
            self._note_proven(settled)

    def _note_proven(self, settled: Cursor) -> None:
        destination = self._destination
        messages = settled.delivered - destination.cursor.delivered
        self.unproven_messages -= messages
        places = (settled.reached_retained, settled.reached_transient)
        self._under_way = [piece for piece in self._under_way if piece.after > places[piece.spool]]
        destination.due(time.monotonic() if self._under_way else None)
        destination.suspicion = destination.suspicion.proven(messages)
        destination.proven(settled)

    def _probe(self, ending: Callable[[], bool]) -> None:
        """Prove that the far end accepts another message than the suspected one; then convict that, if it is time."""
        destination = self._destination
        suspicion = destination.suspicion
        where = (destination.cursor, suspicion.spool)
        while not ending():
            choice = suspicion.plan.probe or 0
            piece = choose_probe(self._store, self._selection, where, choice, destination.passed)
            destination.wants_a_message = piece is None
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
            time.sleep(SETTLING_SPACING)
            if ending():
                return
        destination.due(None)
        destination.passed[identity_of(piece.block)] = piece
        destination.suspicion = suspicion.probed()
        if destination.suspicion.at_fault:
            destination.convict()
        self._session.end()

    # --- The end of a session ---

    def keep_what_is_answered(self) -> int:
        """Move the cursor over what the far end has answered; how many messages remain unproven."""
        answered = self._session.proven_extent()
        if answered.everything:
            reached, messages = self._reading.reached, self.unproven_messages
            self._under_way = []
        elif answered.up_to is None:
            return self.unproven_messages
        else:
            reached, messages = self._before(answered.up_to)
        former = self._destination.cursor
        cursor = former.at(*reached)
        if _place(cursor) > _place(former):
            self.unproven_messages -= messages
            delivered = former.delivered + messages
            self._destination.proven(
                msgspec.structs.replace(cursor, proven_at=wall_clock(), proof=self._session.proof, delivered=delivered)
            )
        return self.unproven_messages

    def _before(self, first: MessageId) -> tuple[tuple[tuple[int, int], tuple[int, int]], int]:
        """The place of each spool up to which everything before that message is sent, and how many messages that is."""
        places = [self._destination.cursor.reached_retained, self._destination.cursor.reached_transient]
        messages = 0
        for index, piece in enumerate(self._under_way):
            messages += piece.left_out
            at = piece.index_of(first)
            if at is not None:
                messages += selected_before(piece, at, self._store, self._selection)
                places[piece.spool] = (piece.block.header.number, at)
                self._under_way = self._under_way[index:]
                return (places[0], places[1]), messages
            messages += piece.messages
            places[piece.spool] = piece.after
        return (self._destination.cursor.reached_retained, self._destination.cursor.reached_transient), 0

    def loss(self) -> SessionLoss | None:
        """What was sent and is unproven; None when nothing is."""
        if not self._under_way:
            return None
        first = self._under_way[0]
        cursor = self._destination.cursor
        place = cursor.reached_transient if first.spool else cursor.reached_retained
        unproven = [sum(piece.messages for piece in self._under_way if piece.spool == each) for each in (0, 1)]
        singly = self._session.search is FaultSearch.SINGLY
        if not singly and self._session.proven_extent().up_to is not None:  # it was on a stream of its own
            unproven = [int(first.spool == each) for each in (0, 1)]
        return SessionLoss(FirstUnproven(first.spool, *place), (unproven[0], unproven[1]), singly)

    def _reached(self, *, proven_at: int, proof: str) -> Cursor:
        former = self._destination.cursor
        return msgspec.structs.replace(
            former.at(*self._reading.reached),
            proven_at=proven_at,
            proof=proof,
            delivered=former.delivered + self.unproven_messages,
        )

    def _wait(self, now: float, ending: Callable[[], bool]) -> None:
        seconds = IDLE_SECONDS
        if self._unproven or self._unsettled:
            seconds = max(self._last_proof + self._spacing - now, 0.0)
        else:
            self._pass_unselected()
            self._session.check()
        with self._store.changed:
            self._store.changed.wait_for(lambda: ending() or (not self._full and self._reading.more), seconds)

    def _pass_unselected(self) -> None:
        """Blocks without a wanted message need no proof: the cursor passes them while nothing is unproven."""
        former = self._destination.cursor
        passed = self._reached(proven_at=former.proven_at, proof="")
        if _place(passed) != _place(former):
            self._destination.proven(passed)
            self.unproven_messages = 0


def _place(cursor: Cursor) -> tuple[tuple[int, int], tuple[int, int]]:
    return cursor.reached_retained, cursor.reached_transient
