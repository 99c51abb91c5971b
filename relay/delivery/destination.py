"""One destination's loop: reads synced blocks, has a session send and prove them, moves the cursor, and retries.

- The cursor moves only on proof (DESIGN invariant 3); blocks without a wanted message need none.
- A proof is asked for when nothing more waits (but not sooner than `PROOF_SPACING` after the one before), after
  `MAX_UNPROVEN` octets, or after `MAX_UNPROVEN_SECONDS`: so at most about that much is sent twice after a loss, and
  where a proof holds only a moment after it was given, what is sent meanwhile as well.
- Retry: as relay.transport.retry says, from the start again after a proof. Never given up.
- Memory: one block at a time.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from relay.delivery.session import Refused, Session
from relay.delivery.wanted import Wanted
from relay.errors import InternalError, RelayError, StorageError
from relay.intake import wall_clock
from relay.spool.block import Block
from relay.spool.cursor import Cursor
from relay.spool.gap import Range
from relay.spool.spool import Lost
from relay.spool.store import Store
from relay.transport import retry

PROOF_SPACING: Final = 0.05
SETTLING_SPACING: Final = 0.025
"""Between two questions whether a proof that was given holds."""
MAX_UNPROVEN: Final = 4 * 1024 * 1024
MAX_UNPROVEN_SECONDS: Final = 1.0
REFUSED: Final = "refused by the server"
IDLE_SECONDS: Final = 1.0
ENDING_SECONDS: Final = 1.5
"""How long a session may take to end by itself, with its farewell, before it is closed."""
FINISHING_SECONDS: Final = 10.0
"""How long `finish` waits for the last proof; longer than what is sent by UDP counts as under way."""

_log = logging.getLogger("relay.delivery")


class Destination:
    """A server or the archive. `start` it once; `stop` frees it whatever it waits for.

    `connect` is given the event that stops it.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        connect: Callable[[threading.Event], Session],
        *,
        wanted: Wanted,
        start: Cursor,
        required: bool = True,
    ) -> None:
        self.name = name
        self._wanted = wanted
        self.cursor = store.follow(name, start, wanted.types, required=required)
        """Proven so far."""
        self.state = "starting"
        self.error: RelayError | None = None
        """Why it does not deliver at the moment; None while it does."""
        self.error_since = 0
        """When that began, in microseconds since the epoch."""
        self.proofs = 0
        self.lost: list[Lost] = []
        """Damage that was stepped over since the start; the newest 100."""
        self.refused = 0
        """Messages that the far end has refused for good, since the start."""
        self._store = store
        self._connect = connect
        self._session: Session | None = None
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

    def run(self) -> None:
        """Deliver until stopped; the thread's body."""
        retry.keep_trying(self._deliver_once, self._stopped, self._note_failure)
        self.state = "stopped"

    def _note_failure(self, error: RelayError, pause: float) -> None:
        self._note(error)
        self.state = f"waiting {pause:.0f} s to try again"

    def _note(self, error: RelayError, unproven: int = 0) -> None:
        if self.error is None:
            again = f" ({unproven} events were not proven and are sent again)" if unproven else ""
            _log.warning("lost %s: %s%s", self.name, error, again)
            self.error_since = wall_clock()
        self.error = error

    def _deliver_once(self) -> None:
        """One session; returns when it is lost after a proof, raises when it is lost before one."""
        if self._stopped.is_set() or self._finishing.is_set():
            self._stopped.set()
            return
        before = self.proofs
        delivery: _Delivery | None = None
        self.state = "connecting"
        try:
            self._session = self._connect(self._stopped)
            if self._stopped.is_set():
                return
            self.state = "delivering"
            _log.info("%s: session opened", self.name)
            delivery = _Delivery(self, self._store, self._session, self._wanted)
            delivery.run(self._stopped, self._finishing)
        except RelayError as error:
            if self._stopped.is_set():
                return
            self._note(error, delivery.unproven_messages if delivery else 0)
            if self.proofs == before:
                raise
        except Exception as error:
            # A bug of ours must not end delivery for good: it is told like any other failure, and tried again.
            _log.exception("delivery to %s failed", self.name)
            raise InternalError(self.name, f"a bug: {error!r}", "please report it with the log") from error
        finally:
            session, self._session = self._session, None
            if session is not None:
                session.close()
                _log.info("%s: session ended", self.name)
            self._store.room.give_up(self.name)
            if self._finishing.is_set():
                self._stopped.set()

    def proven(self, cursor: Cursor) -> None:
        """Move the cursor, durably."""
        if cursor.proof:
            self.proofs += 1
            _log.info("%s: %d events proven so far (%s)", self.name, cursor.delivered, cursor.proof)
        self._store.move_cursor(self.name, cursor)
        if self.error is not None and cursor.proof:
            _log.warning("recovered %s", self.name)
            self.error, self.error_since = None, 0
        self.cursor = cursor  # last: whoever sees it sees a destination that delivers

    def leave_out(self, refused: Sequence[Refused], reached: Cursor) -> None:
        """Keep aside and count what the far end will never take of all that is before `reached`."""
        events = {(each.run, each.type, each.number): each for each in refused}.values()  # not one for each part
        if not events:
            return
        try:
            path = self._store.refused.keep(self.name, [each.message for each in events])
        except StorageError as error:
            path = f"nowhere ({error})"  # counted all the same: a full disk must not stop the delivery
        for each in events:
            kind, said = each.type.label, each.answer
            _log.error("%s refuses %s event %d (%s): kept in %s", self.name, kind, each.number, said, path)
        ranges = [Range(each.run.hex(), int(each.type), each.number, each.number, 1) for each in events]
        self._store.room.lose(self.name, REFUSED, ranges, reached)
        self.refused += len(events)

    def note_lost(self, lost: Lost) -> None:
        """Tell of damage in the spool that was stepped over."""
        self.lost = [*self.lost[-99:], lost]
        _log.error("%s: damage at offset %d (%s); blocks %d to %d cannot be delivered", *lost[:3], *lost[3:])


class _Delivery:
    """One session's loop, from the cursor on."""

    def __init__(self, destination: Destination, store: Store, session: Session, wanted: Wanted) -> None:
        self._destination = destination
        self._store = store
        self._session = session
        self._wanted = wanted
        cursor = destination.cursor
        self._retained = store.retained.reader(cursor.retained)
        self._transient = store.transient.reader(cursor.transient)
        self._unproven = 0
        self._unsettled = False  # asked for a proof that does not hold yet
        self.unproven_messages = 0
        self._unproven_since = 0.0
        self._last_proof = float("-inf")

    def run(self, stopped: threading.Event, finishing: threading.Event) -> None:
        """Deliver until `stopped`, or until all that was sent when `finishing` was set is proven."""
        try:
            while not (stopped.is_set() or finishing.is_set()):
                self._step(stopped, finishing)
            while not stopped.is_set() and (self._unproven or self._unsettled):
                if not self._unproven:
                    time.sleep(SETTLING_SPACING)
                self._prove()
            self._end()
        finally:
            self._retained.close()
            self._transient.close()

    def _end(self) -> None:
        """End the session between two sends; a proof that was given a moment ago may still come to hold."""
        if self._unsettled and not self._unproven:
            time.sleep(SETTLING_SPACING)
            self._prove()
        self._session.end()

    def _step(self, stopped: threading.Event, finishing: threading.Event) -> None:
        item = self._store.room.read(self._destination.name, self._retained, self._transient)
        if isinstance(item, Lost):
            self._destination.note_lost(item)
        elif item is not None:
            self._send(item)
        now = time.monotonic()
        if (self._unproven or self._unsettled) and self._proof_is_due(now, more=item is not None):
            self._prove()
        elif item is None:
            self._wait(now, stopped, finishing)

    def _send(self, found: Block) -> None:
        wanted = self._wanted.count(found)
        if not wanted:
            return
        if not self._unproven:
            self._unproven_since = time.monotonic()
        self._session.send(found)
        self._unproven += found.header.size
        self.unproven_messages += wanted

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
            self.unproven_messages -= settled.delivered - self._destination.cursor.delivered
            self._destination.proven(settled)

    def _reached(self, *, proven_at: int, proof: str) -> Cursor:
        return msgspec.structs.replace(
            self._destination.cursor,
            retained=self._retained.next_number,
            transient=self._transient.next_number,
            proven_at=proven_at,
            proof=proof,
            delivered=self._destination.cursor.delivered + self.unproven_messages,
        )

    def _wait(self, now: float, stopped: threading.Event, finishing: threading.Event) -> None:
        seconds = IDLE_SECONDS
        if self._unproven or self._unsettled:
            seconds = max(self._last_proof + self._spacing - now, 0.0)
        else:
            self._pass_unwanted()
            self._session.check()
        with self._store.changed:
            self._store.changed.wait_for(lambda: stopped.is_set() or finishing.is_set() or self._more(), seconds)

    def _pass_unwanted(self) -> None:
        """Blocks without a wanted message need no proof: the cursor passes them while nothing is unproven."""
        former = self._destination.cursor
        passed = self._reached(proven_at=former.proven_at, proof="")
        if (passed.retained, passed.transient) != (former.retained, former.transient):
            self._destination.proven(msgspec.structs.replace(passed, proof=""))

    def _more(self) -> bool:
        return any(
            spool.last is not None and spool.last.number >= reader.next_number
            for spool, reader in (
                (self._store.retained, self._retained),
                (self._store.transient, self._transient),
            )
        )


def _place(cursor: Cursor) -> tuple[int, int]:
    return cursor.retained, cursor.transient
