"""The intake: takes events from sources and listeners, numbers them, and makes them durable by group commit.

- One commit is one block and one fsync in each spool that it touches; the transient spool is synced first, then the
  retained one with every position (DESIGN section 8). A future given out by `submit` is done only after that.
- `commit-interval` is the shortest time between the beginnings of two commits, but for batches that are awaited.
- At most `MAX_PENDING` octets wait; beyond, `submit` waits. A batch is never split.
- While the disk refuses, the policy of disk-full decides (DESIGN section 8). `halt`: the same commit is tried again
  every `RETRY_SECONDS`; sources stand still meanwhile, and senders are told nothing. `rotate`: the oldest segment goes,
  counted, and the commit is tried again. `ignore`: the events are refused, counted in a slot together with their
  positions, and so accepted. A disk that fails for another reason than room is tried `PATIENCE` times before that.
- What is counted is told by a gap event in the next commit that succeeds.
"""

import asyncio
import contextlib
import itertools
import logging
import operator
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, NamedTuple

from relay.crash_point import crash_point
from relay.errors import RelayError, StorageError
from relay.event import Batch, Event, EventType, Position
from relay.spool.block import Contents, Span, type_bitmap
from relay.spool.gap import Gap, range_of
from relay.spool.spool import Spool
from relay.spool.store import Store

MAX_PENDING: Final = 8 * 1024 * 1024
MAX_COMMIT: Final = 1024 * 1024
RETRY_SECONDS: Final = 1.0
PATIENCE: Final = 5
_EVENT_OVERHEAD: Final = 64
_type_of = operator.itemgetter(0)  # an event's; quicker than its name, and every event passes here

Submit = Callable[[Batch], Awaitable["asyncio.Future[None]"]]
Clock = Callable[[], int]
"""Microseconds since the epoch."""
Policy = Literal["halt", "rotate", "ignore"]
TellGap = Callable[[int, Gap], Event]
"""Makes the event for a gap, at a time in microseconds since the epoch."""

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


def last_numbers(next_numbers: Mapping[EventType, int]) -> dict[EventType, int]:
    """The last number of each type that has one, from the next ones."""
    return {kind: number - 1 for kind, number in next_numbers.items() if number > 1}


class Intake:
    """Between the sources and the store. `run` must be running for `submit` to get anywhere."""

    def __init__(
        self,
        store: Store,
        routing: Routing,
        tell_gap: TellGap,
        *,
        interval: float,
        policy: Policy = "halt",
        clock: Clock = wall_clock,
    ) -> None:
        self._store = store
        self._tell_gap = tell_gap
        self._policy = policy
        self._routing = routing
        self._interval = interval
        self._clock = clock
        self._pending: deque[_Pending] = deque()
        self._pending_octets = 0
        self._room = asyncio.Event()
        self._work = asyncio.Event()
        self._awaited = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._numbers = dict.fromkeys(EventType, 1)
        self._positions = store.positions
        self.accepted: dict[EventType, int] = dict.fromkeys(EventType, 0)
        """Events made durable since the start."""
        self.error: RelayError | None = None
        """Why the last commit failed; None while commits succeed."""
        self.refused = 0
        """Events that were refused and counted, since the start."""

    @property
    def last_numbers(self) -> dict[EventType, int]:
        """The last number given to each type in this run."""
        return last_numbers(self._numbers)

    async def submit(self, batch: Batch) -> "asyncio.Future[None]":
        """Hand a batch over; waits while too much is pending. The future is done once the batch is durable."""
        while self._pending_octets > MAX_PENDING:
            self._room.clear()
            await self._room.wait()
        octets = sum([len(head) + len(tail) + _EVENT_OVERHEAD for _, _, head, tail in batch.events])
        durable = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(batch, octets, durable))
        self._pending_octets += octets
        self._work.set()
        if batch.awaited:
            self._awaited.set()
        return durable

    def exchange(self, routing: Routing, tell_gap: TellGap, *, interval: float, policy: Policy) -> None:
        """Go on with these, from the next commit on; the policy holds for the one under way as well."""
        self._routing, self._tell_gap = routing, tell_gap
        self._interval, self._policy = interval, policy

    async def run(self) -> None:
        """Commit until cancelled; what is not durable then was never accepted."""
        loop = asyncio.get_running_loop()
        next_commit = loop.time()
        try:
            while True:
                await self._work.wait()
                await self._gather(next_commit)
                next_commit = loop.time() + self._interval
                taken = self._take()
                await self._commit_until_durable([pending.batch for pending in taken])
                for pending in taken:
                    if not pending.durable.done():
                        pending.durable.set_result(None)
        finally:
            self._worker.shutdown()

    async def _gather(self, until: float) -> None:
        """Let others share the commit: until then, or for a moment at least."""
        if self._pending_octets >= MAX_COMMIT:
            return
        if asyncio.get_running_loop().time() >= until:
            await asyncio.sleep(0)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._awaited.wait()

    def _take(self) -> list[_Pending]:
        taken: list[_Pending] = []
        octets = 0
        while self._pending and (not taken or octets + self._pending[0].octets <= MAX_COMMIT):
            taken.append(self._pending.popleft())
            octets += taken[-1].octets
        self._pending_octets -= octets
        self._awaited.clear()
        if not self._pending:
            self._work.clear()
        self._room.set()
        return taken

    async def _commit_until_durable(self, batches: list[Batch]) -> None:
        commit = _Commit(self._store, self._routing, batches, self._numbers, self._positions, self._tell_gap)
        attempts = 0
        while (error := await self._attempt(commit)) is not None:
            attempts += 1
            if not await self._apply_policy(commit, error, attempts):
                await asyncio.sleep(RETRY_SECONDS)
        self._numbers, self._positions = commit.numbers, commit.positions
        for kind, count in commit.accepted.items():
            self.accepted[kind] += count
        self.refused += commit.refused
        if not commit.refused and self._store.room.pending():
            self._work.set()  # what the policy counted just now is told by a commit of its own

    async def _attempt(self, commit: "_Commit") -> StorageError | None:
        """Try to make durable what is left of it; the error that forbids it."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._worker, commit.write, self._clock)
        except StorageError as error:
            if self.error is None:
                _log.error("the spool cannot be written (disk-full-action %s): %s", self._policy, error)
            self.error = error
            return error
        if self.error is not None and not commit.refused:
            _log.warning("the spool can be written again after: %s", self.error)
            self.error = None
        return None

    async def _apply_policy(self, commit: "_Commit", error: StorageError, attempts: int) -> bool:
        """Do what the policy wants; whether to try again at once."""
        if self._policy == "halt" or (not error.full and attempts < PATIENCE):
            return False
        act = self._store.room.rotate if self._policy == "rotate" else commit.refuse
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, act)
        except RelayError as failure:  # the slots cannot be written either: as with halt
            self.error = failure
            return False


class _Commit:
    """One commit; `write` may be called again after a failure and does only what is still to be done."""

    def __init__(
        self,
        store: Store,
        routing: Routing,
        batches: Iterable[Batch],
        numbers: Mapping[EventType, int],
        positions: Mapping[str, Position],
        tell_gap: TellGap,
    ) -> None:
        self._store = store
        self._tell_gap = tell_gap
        self._routing = routing
        self._batches = batches
        self.numbers = dict(numbers)
        self.positions = dict(positions)
        self.accepted: dict[EventType, int] = {}
        self.refused = 0
        self._told: list[Gap] = []
        self._contents: list[tuple[Spool, Contents]] | None = None

    def write(self, clock: Clock) -> None:
        """Make everything durable, transient first. StorageError: nothing of what is left was accepted."""
        self._store.slots.mend()  # else events that could not be counted, and are now kept, might be counted after all
        if self._contents is None:
            self._contents = self._build(clock())
        while self._contents:
            spool, contents = self._contents[0]
            spool.append(contents, clock())
            del self._contents[0]
            crash_point("between-the-spools" if self._contents else "committed-not-told")
        for gap in self._told:
            self._store.room.told(gap)
        self._told.clear()
        self._store.remember_numbers(last_numbers(self.numbers))

    def refuse(self) -> bool:
        """Count what is left instead of keeping it; True once the count is durable, False when nothing is left."""
        if self._contents == []:  # all of it is durable, and only the note that gaps are told is missing
            return False
        left = [span for _, contents in self._contents or () for span in contents.spans]
        if self._told:  # the gaps' own events stand first; they are told another time
            gaps = len(self._told)
            at = next(index for index, span in enumerate(left) if span.type is EventType.RELAY)
            left[at] = left[at]._replace(first=left[at].first + gaps, messages=left[at].messages - gaps)
        lost = [range_of(self._store.run.hex(), span) for span in left if span.messages]
        self._store.room.refuse(lost, self.positions.values())
        self.refused = sum(each.events for each in lost)
        for each in lost:
            self.accepted[EventType(each.type)] -= each.events
        self._contents = []
        self._told.clear()
        return True

    def _build(self, now: int) -> list[tuple[Spool, Contents]]:
        run = self._store.run_text
        retained = _Draft(self._routing.retained, run)
        transient = _Draft(self._routing.transient, run)
        drafts = dict.fromkeys(self._routing.transient, transient) | dict.fromkeys(self._routing.retained, retained)
        moved = False
        self._told = self._store.room.pending()
        for gap in self._told:
            retained.add([self._tell_gap(now, gap)], self.numbers)
        before = dict(self.numbers)
        for batch in self._batches:
            for kind, events in itertools.groupby(self._new_events(batch), _type_of):
                draft = drafts.get(kind)
                if draft is not None:
                    draft.add(list(events), self.numbers)
            if batch.position is not None:
                self.positions[batch.position.source] = batch.position
                moved = True
        self.accepted = {kind: number - before[kind] for kind, number in self.numbers.items() if number > before[kind]}
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
