"""The intake: takes events from sources and listeners, numbers them, and makes them durable by group commit.

- One commit is one block and one fsync in each spool that it touches; the transient spool is synced first, then the
  retained one with every position (DESIGN section 8). A future given out by `submit` is done only after that.
- `commit-interval` is the shortest time between the beginnings of two commits.
- At most `MAX_PENDING` octets wait; beyond, `submit` waits. A batch is never split.
- While the disk refuses, the same commit is tried again every `RETRY_SECONDS`; sources stand still meanwhile.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from relay.crash_point import crash_point
from relay.errors import RelayError
from relay.event import Batch, Event, EventType, Position
from relay.spool.block import Contents, Span, frame, type_bitmap
from relay.spool.spool import Spool
from relay.spool.store import Store

MAX_PENDING: Final = 8 * 1024 * 1024
MAX_COMMIT: Final = 1024 * 1024
RETRY_SECONDS: Final = 1.0
_EVENT_OVERHEAD: Final = 64

Submit = Callable[[Batch], Awaitable["asyncio.Future[None]"]]
Clock = Callable[[], int]
"""Microseconds since the epoch."""

_log = logging.getLogger("relay.intake")


class Routing(NamedTuple):
    """Which spool takes a type; a type in neither is not taken in."""

    retained: frozenset[EventType]
    transient: frozenset[EventType]


class _Pending(NamedTuple):
    batch: Batch
    octets: int
    durable: "asyncio.Future[None]"


def wall_clock() -> int:
    """Now, in microseconds since the epoch."""
    return time.time_ns() // 1000


class Intake:
    """Between the sources and the store. `run` must be running for `submit` to get anywhere."""

    def __init__(self, store: Store, routing: Routing, *, interval: float, clock: Clock = wall_clock) -> None:
        self._store = store
        self._routing = routing
        self._interval = interval
        self._clock = clock
        self._pending: deque[_Pending] = deque()
        self._pending_octets = 0
        self._room = asyncio.Event()
        self._work = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._numbers = dict.fromkeys(EventType, 1)
        self._positions = self._start_positions()
        self.accepted: dict[EventType, int] = dict.fromkeys(EventType, 0)
        """Events made durable since the start."""
        self.error: RelayError | None = None
        """Why the last commit failed; None while commits succeed."""

    def _start_positions(self) -> dict[str, Position]:
        return dict(self._store.retained.positions)

    async def submit(self, batch: Batch) -> "asyncio.Future[None]":
        """Hand a batch over; waits while too much is pending. The future is done once the batch is durable."""
        while self._pending_octets > MAX_PENDING:
            self._room.clear()
            await self._room.wait()
        octets = sum(len(event.head) + len(event.tail) + _EVENT_OVERHEAD for event in batch.events)
        durable = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(batch, octets, durable))
        self._pending_octets += octets
        self._work.set()
        return durable

    async def run(self) -> None:
        """Commit until cancelled; what is not durable then was never accepted."""
        loop = asyncio.get_running_loop()
        next_commit = loop.time()
        try:
            while True:
                await self._work.wait()
                if self._pending_octets < MAX_COMMIT:
                    await asyncio.sleep(next_commit - loop.time())
                next_commit = loop.time() + self._interval
                taken = self._take()
                await self._commit_until_durable([pending.batch for pending in taken])
                for pending in taken:
                    if not pending.durable.done():
                        pending.durable.set_result(None)
        finally:
            self._worker.shutdown()

    def _take(self) -> list[_Pending]:
        taken: list[_Pending] = []
        octets = 0
        while self._pending and (not taken or octets + self._pending[0].octets <= MAX_COMMIT):
            taken.append(self._pending.popleft())
            octets += taken[-1].octets
        self._pending_octets -= octets
        if not self._pending:
            self._work.clear()
        self._room.set()
        return taken

    async def _commit_until_durable(self, batches: list[Batch]) -> None:
        loop = asyncio.get_running_loop()
        commit = _Commit(self._store, self._routing, batches, self._numbers, self._positions)
        while True:
            try:
                await loop.run_in_executor(self._worker, commit.write, self._clock)
            except RelayError as error:
                if self.error is None:
                    _log.error("nothing is taken in: %s", error)
                self.error = error
                await asyncio.sleep(RETRY_SECONDS)
            else:
                break
        if self.error is not None:
            _log.warning("taking in again after: %s", self.error)
            self.error = None
        self._numbers, self._positions = commit.numbers, commit.positions
        for kind, count in commit.accepted.items():
            self.accepted[kind] += count


class _Commit:
    """One commit; `write` may be called again after a failure and does only what is still to be done."""

    def __init__(
        self,
        store: Store,
        routing: Routing,
        batches: Iterable[Batch],
        numbers: Mapping[EventType, int],
        positions: Mapping[str, Position],
    ) -> None:
        self._store = store
        self._routing = routing
        self._batches = batches
        self.numbers = dict(numbers)
        self.positions = dict(positions)
        self.accepted: dict[EventType, int] = {}
        self._contents: list[tuple[Spool, Contents]] | None = None

    def write(self, clock: Clock) -> None:
        """Make everything durable, transient first. StorageError: nothing of what is left was accepted."""
        if self._contents is None:
            self._contents = self._build(clock())
        while self._contents:
            spool, contents = self._contents[0]
            spool.append(contents, clock())
            del self._contents[0]
            crash_point("between-the-spools" if self._contents else "committed-not-told")

    def _build(self, now: int) -> list[tuple[Spool, Contents]]:
        retained = _Draft(self._routing.retained)
        transient = _Draft(self._routing.transient)
        run = self._store.run_text
        moved = False
        for batch in self._batches:
            for event in self._new_events(batch):
                draft = retained if event.type in self._routing.retained else transient
                if event.type not in draft.types:
                    continue
                number = self.numbers[event.type]
                self.numbers[event.type] = number + 1
                draft.add(event, number, run)
                self.accepted[event.type] = self.accepted.get(event.type, 0) + 1
            if batch.position is not None:
                self.positions[batch.position.source] = batch.position
                moved = True
        positions = tuple(self.positions.values())
        contents = []
        if transient.frames:
            contents.append((self._store.transient, transient.contents(positions, now)))
        if retained.frames or moved:
            contents.append((self._store.retained, retained.contents(positions, now)))
        return contents

    def _new_events(self, batch: Batch) -> Iterable[Event]:
        """The batch without what the transient spool's newest block covers already.

        A crash between the two fsyncs of a commit leaves the transient spool ahead of the retained positions. The
        source gives those events again; the ones of the types that the transient spool took then are skipped.
        """
        position, transient = batch.position, self._store.transient
        ahead = transient.positions.get(position.source) if position else None
        if position is None or ahead is None:
            return batch.events
        first = position.count - len(batch.events) + 1
        if first > ahead.count:
            return batch.events
        return [
            event
            for count, event in enumerate(batch.events, first)
            if count > ahead.count or not transient.took(event.type)
        ]


class _Draft:
    """A block in the making."""

    def __init__(self, types: frozenset[EventType]) -> None:
        self.types = types
        self.frames: list[bytes] = []
        self._spans: list[Span] = []
        self._earliest = self._latest = self._largest = 0

    def add(self, event: Event, number: int, run: bytes) -> None:
        message = event.head
        if event.tail:
            message = b'%b relayRun="%b" relaySeq="%d"%b' % (event.head, run, number, event.tail)
        framed = frame(message)
        self._earliest = min(self._earliest, event.time) if self.frames else event.time
        self._latest = max(self._latest, event.time)
        self._largest = max(self._largest, len(message))
        self.frames.append(framed)
        last = self._spans[-1] if self._spans else None
        if last is not None and last.type == event.type:
            self._spans[-1] = last._replace(messages=last.messages + 1)
        else:
            self._spans.append(Span(event.type, number, 1))

    def contents(self, positions: tuple[Position, ...], now: int) -> Contents:
        return Contents(
            self._spans,
            self.frames,
            positions,
            type_bitmap(list(self.types)),
            self._earliest if self.frames else now,
            self._latest if self.frames else now,
            self._largest,
        )
