"""The intake: takes events from sources and listeners, numbers them, and makes them durable by group commit.

- One commit is one block and one fsync in each spool that it touches; the transient spool is synced first, then the
  retained one with every position (DESIGN section 8). A future given out by `submit` is done only after that.
- `commit-interval` is the shortest time between the beginnings of two commits, but for batches that are awaited.
- At most `MAX_PENDING` octets wait of either queue; beyond, `submit` waits. A batch is never split.
- There are two queues, so that a batch that waits for space never blocks one that may use the reserve. While the spool
  cannot be written, batches of sources that can deliver again (`Batch.repeatable`) stay in theirs and their senders
  get no answer; the commit is tried again when space was freed, and at least every `RETRY_SECONDS`. The others go on
  alone, into the reserve. When that is used up too, or a disk that fails for another reason did so `PATIENCE` times,
  they are refused: counted in a slot, and so accepted. `relay/spool/full_disk.py` has the rest of that matter.
- What is counted is reported by a gap event in the next commit that succeeds.
- `interval` and `routing` may be changed at any time; a commit that has begun keeps its own.
"""

import asyncio
import contextlib
import functools
import itertools
import logging
import operator
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from relay.errors import RelayError, StorageError
from relay.spool.block import Contents, Span, type_bitmap
from relay.spool.losses.gap import Gap, LostRange
from relay.spool.spool import Spool
from relay.spool.store import Store
from relay.system.clock import Clock, wall_clock
from relay.system.crash_point import crash_point
from relay.values.event import Batch, Event, EventType, Position, Submit

MAX_PENDING: Final = 8 * 1024 * 1024
MAX_COMMIT: Final = 1024 * 1024
RETRY_SECONDS: Final = 1.0
PATIENCE: Final = 5
CALM_SECONDS: Final = 3.0
"""So long after space was last too short the state ends, even if little more is free; else it would come and go."""
COMFORTABLE: Final = 20
"""With max-size divided by this free, it ends at once."""
_EVENT_OVERHEAD: Final = 64
_type_of = operator.itemgetter(0)  # an event's; quicker than its name, and every event passes here

MakeGapEvent = Callable[[int, Gap], Event]
"""Makes the event for a gap, at a time in microseconds since the epoch."""

_Result = TypeVar("_Result")

_log = logging.getLogger("relay.intake")


class Routing(NamedTuple):
    """Which spool takes a type; a type in neither is not taken in."""

    retained: frozenset[EventType]
    transient: frozenset[EventType]


@dataclass(slots=True)
class _Pending:
    source: str
    batch: Batch
    octets: int
    durable: "asyncio.Future[None]"
    events: int
    """In all; the batch may lose some that are durable."""


class _Queue:
    """Batches that no commit has taken yet, in their order."""

    def __init__(self) -> None:
        self.batches: deque[_Pending] = deque()
        self.octets = 0
        self._shorter = asyncio.Event()

    async def put(self, pending: _Pending) -> None:
        """Append one; waits while too much is here."""
        while self.octets > MAX_PENDING:
            self._shorter.clear()
            await self._shorter.wait()
        self.batches.append(pending)
        self.octets += pending.octets

    def take(self) -> list[_Pending]:
        """Remove what fits into one commit."""
        taken: list[_Pending] = []
        octets = 0
        while self.batches and (not taken or octets + self.batches[0].octets <= MAX_COMMIT):
            taken.append(self.batches.popleft())
            octets += taken[-1].octets
        self.octets -= octets
        self._shorter.set()
        return taken

    def give_back(self, taken: list[_Pending]) -> None:
        """Put first what a commit took and did not make durable."""
        self.batches.extendleft(reversed(taken))
        self.octets += sum(pending.octets for pending in taken)


def last_numbers(next_numbers: Mapping[EventType, int]) -> dict[EventType, int]:
    """The last number of each type that has one, from the next ones."""
    return {kind: number - 1 for kind, number in next_numbers.items() if number > 1}


class Intake:
    """Between the sources and the store. `run` must be running for `submit` to get anywhere."""

    def __init__(
        self, store: Store, routing: Routing, gap_event: MakeGapEvent, *, interval: float, clock: Clock = wall_clock
    ) -> None:
        self.interval = interval
        self.routing = routing
        self.accepted: Counter[EventType] = Counter()
        """Events made durable since the start."""
        self.refused: Counter[EventType] = Counter()
        """Events that were refused and counted, since the start."""
        self.of_source: dict[str, tuple[int, int]] = {}
        """Events accepted and refused since the start, by source."""
        self.error: RelayError | None = None
        """Why batches wait, or why the last commit failed; None while commits succeed."""
        self._store = store
        self._gap_event = gap_event
        self._clock = clock
        self._repeatable = _Queue()
        self._others = _Queue()
        self._work = asyncio.Event()
        self._awaited = asyncio.Event()
        self._freed = False
        self._retry_at = 0.0
        self._short_at = 0.0
        """When there was last too little space."""
        self._gaps_due = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._numbers = dict.fromkeys(EventType, 1)
        self._positions = store.positions

    @property
    def last_numbers(self) -> dict[EventType, int]:
        """The last number given to each type in this run."""
        return last_numbers(self._numbers)

    @property
    def waiting(self) -> frozenset[str]:
        """The sources whose batches wait until the spool can be written again."""
        return frozenset(each.source for each in self._repeatable.batches) if self.error else frozenset()

    def submit_for(self, source: str) -> Submit:
        """`submit` for a source, so that `waiting` can name it."""
        return functools.partial(self.submit, source=source)

    async def submit(self, batch: Batch, source: str = "") -> "asyncio.Future[None]":
        """Hand a batch over; waits while too much is pending. The future is done once the batch is durable."""
        octets = sum([len(head) + len(tail) + _EVENT_OVERHEAD for _, _, head, tail in batch.events])
        durable = asyncio.get_running_loop().create_future()
        queue = self._repeatable if batch.repeatable else self._others
        await queue.put(_Pending(source, batch, octets, durable, len(batch.events)))
        self._work.set()
        if batch.awaited:
            self._awaited.set()
        return durable

    def exchange(self, routing: Routing, gap_event: MakeGapEvent, *, interval: float) -> None:
        """Go on with these from the next commit on; tries at once again what waits, because there may be more space."""
        self.routing, self._gap_event, self.interval = routing, gap_event, interval
        self._note_freed()

    async def run(self) -> None:
        """Commit until cancelled; what is not durable then was never accepted."""
        loop = asyncio.get_running_loop()
        self._store.space.when_freed = functools.partial(loop.call_soon_threadsafe, self._note_freed)
        next_commit = loop.time()
        try:
            while True:
                again = await self._until_due()
                await self._gather(next_commit)
                next_commit = loop.time() + self.interval
                self._awaited.clear()
                repeatable = self._repeatable.take() if again or self.error is None else []
                others = self._others.take()
                if again or repeatable or not others:
                    await self._commit(repeatable, others)
                else:
                    await self._commit_into_the_reserve(others)
        finally:
            self._store.space.when_freed = lambda: None
            self._worker.shutdown()

    def _note_freed(self) -> None:
        if self.error is not None:
            self._freed = True
            self._work.set()

    async def _until_due(self) -> bool:
        """Wait until something may be committed; True when what waits for space may be tried again."""
        while True:
            self._work.clear()
            if self.error is not None:
                due = self._freed or asyncio.get_running_loop().time() >= self._retry_at
                if due and await self._may_try_again():
                    return True
            elif self._repeatable.batches or self._gaps_due:
                return False
            if self._others.batches:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(None if self.error is None else self._retry_at):
                    await self._work.wait()

    async def _may_try_again(self) -> bool:
        self._freed = False
        self._retry_at = asyncio.get_running_loop().time() + RETRY_SECONDS
        octets = self._repeatable.batches[0].octets if self._repeatable.batches else _EVENT_OVERHEAD
        if await self._has_space_for(octets):
            return True
        self._short_at = asyncio.get_running_loop().time()
        return False

    async def _has_space_for(self, octets: int) -> bool:
        try:
            return await self._in_worker(functools.partial(self._store.space.has_space_for, octets))
        except StorageError:
            return False

    async def _gather(self, until: float) -> None:
        """Let others share the commit: until then, or for a moment at least."""
        if self._repeatable.octets + self._others.octets >= MAX_COMMIT:
            return
        if asyncio.get_running_loop().time() >= until:
            await asyncio.sleep(0)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._awaited.wait()

    async def _commit(self, repeatable: list[_Pending], others: list[_Pending]) -> None:
        """Make all of it durable, outside the reserve. What cannot be, and may wait, goes back to its queue."""
        failure = await self._write([*repeatable, *others], reserve=False)
        while failure is not None and failure.full and len(repeatable) > 1:
            half = len(repeatable) // 2
            self._repeatable.give_back(repeatable[half:])
            repeatable = repeatable[:half]
            failure = await self._write([*repeatable, *others], reserve=False)
        if failure is not None:
            self._repeatable.give_back(repeatable)
            self._short_at = asyncio.get_running_loop().time()
            self._retry_at = self._short_at + RETRY_SECONDS
            await self._commit_into_the_reserve(others)
        elif self.error is not None and await self._is_over(self.error):
            _log.warning("the spool can be written again after: %s", self.error)
            self.error = None
        else:
            self._freed = bool(self._repeatable.batches)  # there may be space for more

    async def _is_over(self, error: RelayError) -> bool:
        """Whether the want of space is: a source that waits fills at once what little is freed."""
        if not (isinstance(error, StorageError) and error.full):
            return True
        if asyncio.get_running_loop().time() - self._short_at >= CALM_SECONDS:
            return True
        return await self._has_space_for(self._store.space.max_size // COMFORTABLE)

    async def _commit_into_the_reserve(self, others: list[_Pending]) -> None:
        """Make durable what cannot be delivered again, or else refuse and count it."""
        attempts = 0
        while others and (failure := await self._write(others, reserve=True)) is not None:
            attempts += 1
            if (failure.full or attempts >= PATIENCE) and await self._refuse(others):
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _write(self, taken: list[_Pending], *, reserve: bool) -> StorageError | None:
        """Write one commit; the error that forbids it. What was durable before that is taken out of the batches."""
        commit = self._new_commit(taken)
        failure = None
        try:
            await self._in_worker(functools.partial(commit.write, self._clock, reserve=reserve))
        except StorageError as error:
            failure = error
            if self.error is None:
                _log.error("the spool cannot be written (disk-full-action %s): %s", self._store.space.policy, error)
            self.error = error
            for pending in taken:
                pending.batch = commit.rest_of(pending.batch)
        self._numbers = commit.reached
        self.accepted += commit.accepted
        if failure is None:
            self._positions = commit.positions
            self._gaps_due = self.error is None and bool(self._store.losses.pending())
            self._resolve(taken, refused=False)
        return failure

    async def _refuse(self, others: list[_Pending]) -> bool:
        """Count these events instead of keeping them; False while not even that can be made durable."""
        commit = self._new_commit(others)
        try:
            await self._in_worker(commit.refuse)
        except RelayError as failure:
            self.error = failure
            return False
        self._numbers = commit.reached
        self.refused += commit.refused
        self._resolve(others, refused=True)
        return True

    def _resolve(self, taken: Iterable[_Pending], *, refused: bool) -> None:
        for pending in taken:
            if pending.source:
                accepted, before = self.of_source.get(pending.source, (0, 0))
                refusals = len(pending.batch.events) if refused else 0
                counts = (accepted + pending.events - refusals, before + refusals)
                self.of_source[pending.source] = counts
            if not pending.durable.done():
                pending.durable.set_result(None)

    def _new_commit(self, taken: list[_Pending]) -> "_Commit":
        batches = [pending.batch for pending in taken]
        return _Commit(self._store, self.routing, batches, self._numbers, self._positions, self._gap_event)

    async def _in_worker(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)


class _Commit:
    """One commit; `write` may be called again after a failure and does only what is still to be done."""

    def __init__(
        self,
        store: Store,
        routing: Routing,
        batches: Iterable[Batch],
        numbers: Mapping[EventType, int],
        positions: Mapping[str, Position],
        gap_event: MakeGapEvent,
    ) -> None:
        self._store = store
        self._gap_event = gap_event
        self._routing = routing
        self._batches = batches
        self._before = dict(numbers)
        self._numbers = dict(numbers)
        self.positions = dict(positions)
        self.refused: Counter[EventType] = Counter()
        self._events: Counter[EventType] = Counter()
        self._told: list[Gap] = []
        self._contents: list[tuple[Spool, Contents]] | None = None
        self._durable: frozenset[EventType] = frozenset()
        """The types whose spool has its part."""

    def write(self, clock: Clock, *, reserve: bool = False) -> None:
        """Make everything durable, transient first. StorageError: nothing of what is left was accepted."""
        # Else events that could not be counted, and are stored now, might be counted after all.
        self._store.slots.discard_failed()
        if self._contents is None:
            self._contents = self._build(clock())
        while self._contents:
            spool, contents = self._contents[0]
            self._store.space.append(spool, contents, clock(), reserve=reserve)
            self._durable |= self._routing.transient if spool is self._store.transient else self._routing.retained
            del self._contents[0]
            crash_point("between-the-spools" if self._contents else "committed-not-told")
        self._durable = frozenset(EventType)
        for gap in self._told:
            self._store.losses.reported(gap)
        self._told.clear()
        self._store.remember_numbers(last_numbers(self._numbers))

    @property
    def reached(self) -> dict[EventType, int]:
        """The next number of each type, after what is durable."""
        return {kind: (self._numbers if kind in self._durable else self._before)[kind] for kind in EventType}

    @property
    def accepted(self) -> Counter[EventType]:
        """Events of the batches that are durable."""
        return Counter({kind: count for kind, count in self._events.items() if kind in self._durable})

    def rest_of(self, batch: Batch) -> Batch:
        """The batch without the events that are durable."""
        return batch._replace(events=[event for event in batch.events if event.type not in self._durable])

    def refuse(self) -> None:
        """Count what is left instead of keeping it; StorageError when the count is not durable."""
        numbers, lost = self.reached, []
        taken = self._routing.retained | self._routing.transient
        for batch in self._batches:
            for kind, events in itertools.groupby(self.rest_of(batch).events, _type_of):
                if kind in taken:
                    count = len(list(events))
                    first, numbers[kind] = numbers[kind], numbers[kind] + count
                    lost.append(LostRange(self._store.run.hex(), int(kind), first, numbers[kind] - 1, count))
        if lost:
            self._store.losses.refuse(lost)
        for each in lost:
            self.refused[EventType(each.type)] += each.events
        self._numbers, self._contents, self._durable = numbers, [], frozenset(EventType)
        self._told.clear()

    def _build(self, now: int) -> list[tuple[Spool, Contents]]:
        run = self._store.run_text
        retained = _Draft(self._routing.retained, run)
        transient = _Draft(self._routing.transient, run)
        drafts = dict.fromkeys(self._routing.transient, transient) | dict.fromkeys(self._routing.retained, retained)
        moved = False
        self._told = self._store.losses.pending()
        for gap in self._told:
            retained.add([self._gap_event(now, gap)], self._numbers)
        before = dict(self._numbers)
        for batch in self._batches:
            for kind, events in itertools.groupby(self._new_events(batch), _type_of):
                draft = drafts.get(kind)
                if draft is not None:
                    draft.add(list(events), self._numbers)
            if batch.position is not None:
                self.positions[batch.position.source] = batch.position
                moved = True
        self._events = Counter({kind: number - before[kind] for kind, number in self._numbers.items()})
        positions = tuple(self.positions.values())
        contents = []
        if transient.messages:
            contents.append((self._store.transient, transient.contents(positions, now)))
        if retained.messages or moved:
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
    """A block in the making. Every event passes here: what is done for each is counted in nanoseconds."""

    def __init__(self, types: frozenset[EventType], run: bytes) -> None:
        self._types = types
        self._identity = b' relayRun="%b" relaySeq="' % run
        self.messages: list[bytes] = []
        self._times: list[int] = []
        self._spans: list[tuple[EventType, int, int]] = []
        """Type, first number, and the index of the first message."""
        self._type: EventType | None = None

    def add(self, events: Sequence[Event], numbers: dict[EventType, int]) -> None:
        """Give events of one type, at least one, their numbers, and take them in."""
        kind, identity = events[0].type, self._identity
        first = numbers[kind]
        numbers[kind] += len(events)
        if kind is not self._type:
            self._type = kind
            self._spans.append((kind, first, len(self.messages)))
        self.messages += [
            b'%b%b%d"%b' % (head, identity, number, tail) if tail else head
            for number, (_, _, head, tail) in enumerate(events, first)
        ]
        self._times += [time_ for _, time_, _, _ in events]

    def contents(self, positions: tuple[Position, ...], now: int) -> Contents:
        """All of it, for the spool."""
        ends = [*(start for _, _, start in self._spans), len(self.messages)][1:]
        lengths = list(map(len, self.messages))
        return Contents(
            [Span(kind, first, end - start) for (kind, first, start), end in zip(self._spans, ends, strict=True)],
            [b"%d %b" % each for each in zip(lengths, self.messages, strict=True)],  # as block.frame has it
            positions,
            type_bitmap(list(self._types)),
            min(self._times, default=now),
            max(self._times, default=now),
            max(lengths, default=0),
        )
