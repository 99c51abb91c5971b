"""The intake: accepts events from sources and listeners, and makes them durable by group commit.

- A commit (`relay/spool/commit.py`) is one block and one fsync in each spool that it touches. The future that `submit`
  returns is done only after that.
- `commit-interval` is the shortest time between the beginnings of two commits, except for batches that are awaited.
- At most `IntakeLimits.pending` octets wait in each of two queues; then `submit` waits. A batch is never split.
- There are two queues, so that a batch that waits for space never blocks a batch that may use the reserve. What happens
  on a full disk is described in `relay/spool/full_disk.py`; the waiting is here. While the spool cannot be written,
  batches of sources that can deliver again (`Batch.repeatable`) stay in their queue, and their senders get no answer.
  Their commit is tried again when space was freed, and at least every `retry_seconds`. The other batches go on alone,
  into the reserve. When that is used up too, or when a disk that fails for another reason did so `attempts` times,
  they are refused: counted in a slot, and so accepted.
- A gap event in the next successful commit reports what is counted.
- `interval` and `routing` may be changed at any time; a commit that has begun keeps its own.
"""

import asyncio
import contextlib
import functools
import logging
import operator
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from relay.errors import RelayError, StorageError
from relay.spool.commit import Commit, MakeGapEvent, Routing, last_numbers
from relay.spool.store import Store
from relay.system.clock import Clock, wall_clock
from relay.values.event import Batch, EventType, Submit
from relay.values.histogram import COMMIT_BOUNDS, Histogram

COMFORTABLE: Final = 20
"""With max-size divided by this free, a want of space ends at once."""
_EVENT_OVERHEAD: Final = 64
_head_of = operator.itemgetter(2)  # quicker than its name, and every event passes here
_tail_of = operator.itemgetter(3)

_Result = TypeVar("_Result")

_log = logging.getLogger("relay.intake")


class IntakeLimits(NamedTuple):
    """Limits of an intake; sizes in octets."""

    pending: int = 8 * 1024 * 1024
    """Of each queue."""
    commit: int = 1024 * 1024
    retry_seconds: float = 1.0
    stall_seconds: float = 1.0
    """A commit that takes longer means that the spool cannot be written at the moment."""
    attempts: int = 5
    """To write what cannot be delivered again, on a disk that is not full, before it is refused."""
    calm_seconds: float = 3.0
    """A want of space ends so long after space was last too short, even if little more is free: it would flicker."""


DEFAULT_LIMITS: Final = IntakeLimits()


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

    def __init__(self, limits: IntakeLimits) -> None:
        self.batches: deque[_Pending] = deque()
        self.octets = 0
        self._limits = limits
        self._shorter = asyncio.Event()

    async def put(self, pending: _Pending) -> None:
        """Append one; waits while the queue is full."""
        while self.octets > self._limits.pending:
            self._shorter.clear()
            await self._shorter.wait()
        self.batches.append(pending)
        self.octets += pending.octets

    def take(self) -> list[_Pending]:
        """Remove what fits into one commit."""
        taken: list[_Pending] = []
        octets = 0
        while self.batches and (not taken or octets + self.batches[0].octets <= self._limits.commit):
            taken.append(self.batches.popleft())
            octets += taken[-1].octets
        self.octets -= octets
        self._shorter.set()
        return taken

    def give_back(self, taken: list[_Pending]) -> None:
        """Put first what a commit took and did not make durable."""
        self.batches.extendleft(reversed(taken))
        self.octets += sum(pending.octets for pending in taken)


class Intake:
    """Between the sources and the store. `submit` makes progress only while `run` is running."""

    def __init__(
        self,
        store: Store,
        routing: Routing,
        gap_event: MakeGapEvent,
        *,
        interval: float,
        clock: Clock = wall_clock,
        limits: IntakeLimits = DEFAULT_LIMITS,
    ) -> None:
        self.interval = interval
        self.routing = routing
        self.accepted: Counter[EventType] = Counter()
        """Events made durable since the start."""
        self.refused: Counter[EventType] = Counter()
        """Events that were refused and counted, since the start."""
        self.of_source: dict[str, tuple[int, int]] = {}
        """Events accepted and refused since the start, by source."""
        self.commit_seconds = Histogram(COMMIT_BOUNDS)
        """How long each successful commit took."""
        self.commit_began: float | None = None
        """When the commit that is under way began (monotonic seconds); None when there is none."""
        self.writable = asyncio.Event()
        """Set while commits succeed in time. While it is not, listeners read nothing, and queue nothing again."""
        self._error: RelayError | None = None
        self.writable.set()
        self._store = store
        self._gap_event = gap_event
        self._clock = clock
        self._limits = limits
        self._repeatable = _Queue(limits)
        self._others = _Queue(limits)
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
    def pending_octets(self) -> int:
        """Octets that no commit has taken yet."""
        return self._repeatable.octets + self._others.octets

    @property
    def error(self) -> RelayError | None:
        """Why batches wait, or why the last commit failed; None while commits succeed."""
        return self._error

    @error.setter
    def error(self, error: RelayError | None) -> None:
        self._error = error
        if error is None:
            self.writable.set()
        else:
            self.writable.clear()

    @property
    def waiting(self) -> frozenset[str]:
        """The sources whose batches wait until the spool can be written again."""
        return frozenset(each.source for each in self._repeatable.batches) if self.error else frozenset()

    def submit_for(self, source: str) -> Submit:
        """`submit` for a source, so that `waiting` can name it."""
        return functools.partial(self.submit, source=source)

    async def submit(self, batch: Batch, source: str = "") -> "asyncio.Future[None]":
        """Hand a batch over; waits while too much is pending. The future is done once the batch is durable."""
        octets = sum(map(len, batch.provenance or ())) + len(batch.events) * _EVENT_OVERHEAD
        octets += sum(map(len, map(_head_of, batch.events))) + sum(map(len, map(_tail_of, batch.events)))
        durable = asyncio.get_running_loop().create_future()
        queue = self._repeatable if batch.repeatable else self._others
        await queue.put(_Pending(source, batch, octets, durable, len(batch.events)))
        self._work.set()
        if batch.awaited:
            self._awaited.set()
        return durable

    def exchange(self, routing: Routing, gap_event: MakeGapEvent, *, interval: float) -> None:
        """Use these from the next commit on. Retry at once what waits, because there may be more space."""
        self.routing, self._gap_event, self.interval = routing, gap_event, interval
        self._note_freed()

    async def run(self) -> None:
        """Commit until cancelled; what is not durable then was never accepted."""
        loop = asyncio.get_running_loop()
        self._store.space.when_freed = functools.partial(loop.call_soon_threadsafe, self._note_freed)
        next_commit = loop.time()
        try:
            while True:
                retry = await self._until_due()
                if self._repeatable.octets + self._others.octets < self._limits.commit:
                    await self._let_others_join(next_commit)
                next_commit = loop.time() + self.interval
                self._awaited.clear()
                repeatable = self._repeatable.take() if retry or self.error is None else []
                others = self._others.take()
                if retry or repeatable or not others:
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
        """Wait until something may be committed; True when what waits for space may be retried."""
        loop = asyncio.get_running_loop()
        while True:
            self._work.clear()
            if self.error is None:
                if self._repeatable.batches or self._gaps_due:
                    return False
            elif self._freed or loop.time() >= self._retry_at:
                self._freed = False
                self._retry_at = loop.time() + self._limits.retry_seconds
                first = self._repeatable.batches[0].octets if self._repeatable.batches else _EVENT_OVERHEAD
                if await self._has_space_for(first):
                    return True
                self._short_at = loop.time()
            if self._others.batches:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(None if self.error is None else self._retry_at):
                    await self._work.wait()

    async def _has_space_for(self, octets: int) -> bool:
        try:
            return await self._in_worker(functools.partial(self._store.space.has_space_for, octets))
        except StorageError:
            return False

    async def _let_others_join(self, until: float) -> None:
        """Wait for more batches until then, or for a moment at least; an awaited batch ends the wait."""
        if asyncio.get_running_loop().time() >= until:
            await asyncio.sleep(0)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._awaited.wait()

    async def _commit(self, repeatable: list[_Pending], others: list[_Pending]) -> None:
        """Make all of it durable, outside the reserve. What cannot be, and may wait, returns to its queue."""
        loop = asyncio.get_running_loop()
        failure = await self._write([*repeatable, *others], reserve=False)
        while failure is not None and failure.full and len(repeatable) > 1:
            half = len(repeatable) // 2
            self._repeatable.give_back(repeatable[half:])
            repeatable = repeatable[:half]
            failure = await self._write([*repeatable, *others], reserve=False)
        if failure is not None:
            self._repeatable.give_back(repeatable)
            self._short_at = loop.time()
            self._retry_at = self._short_at + self._limits.retry_seconds
            await self._commit_into_the_reserve(others)
            return
        over = self.error is not None and (
            not (isinstance(self.error, StorageError) and self.error.full)
            # A source that waits fills at once what little is freed: the want of space is not over then.
            or loop.time() - self._short_at >= self._limits.calm_seconds
            or await self._has_space_for(self._store.space.max_size // COMFORTABLE)
        )
        if over:
            _log.warning("the spool can be written again after: %s", self.error)
            self.error = None
        else:
            self._freed = bool(self._repeatable.batches)  # there may be space for more

    async def _commit_into_the_reserve(self, others: list[_Pending]) -> None:
        """Make durable what cannot be delivered again, or else refuse and count it."""
        attempts = 0
        while others and (failure := await self._write(others, reserve=True)) is not None:
            attempts += 1
            if failure.full or attempts >= self._limits.attempts:
                commit = self._new_commit(others)
                try:
                    await self._in_worker(commit.refuse)
                except RelayError as refusal:  # not even the count can be made durable
                    self.error = refusal
                else:
                    self._numbers = commit.reached
                    self.refused += commit.refused
                    self._resolve(others, refused=True)
                    return
            await asyncio.sleep(self._limits.retry_seconds)

    async def _write(self, taken: list[_Pending], *, reserve: bool) -> StorageError | None:
        """Write one commit; returns the error when it failed. What is durable then is removed from the batches."""
        commit = self._new_commit(taken)
        failure = None
        begun = self.commit_began = time.monotonic()
        stalled = asyncio.get_running_loop().call_later(self._limits.stall_seconds, self.writable.clear)
        try:
            await self._in_worker(functools.partial(commit.write, self._clock, reserve=reserve))
        except StorageError as error:
            failure = error
            if self.error is None:
                _log.error("the spool cannot be written: %s", error)
            self.error = error
            for pending in taken:
                pending.batch = commit.rest_of(pending.batch)
        finally:
            self.commit_began = None
            stalled.cancel()
            if self.error is None:
                self.writable.set()
        self._numbers = commit.reached
        self.accepted += commit.accepted
        if failure is None:
            self.commit_seconds.add(time.monotonic() - begun)
            self._positions = commit.positions
            self._gaps_due = self.error is None and bool(self._store.losses.pending())
            self._resolve(taken, refused=False)
        return failure

    def _resolve(self, taken: Iterable[_Pending], *, refused: bool) -> None:
        for pending in taken:
            if pending.source:
                accepted, before = self.of_source.get(pending.source, (0, 0))
                refusals = len(pending.batch.events) if refused else 0
                counts = (accepted + pending.events - refusals, before + refusals)
                self.of_source[pending.source] = counts
            if not pending.durable.done():
                pending.durable.set_result(None)

    def _new_commit(self, taken: list[_Pending]) -> Commit:
        batches = [pending.batch for pending in taken]
        return Commit(self._store, self.routing, batches, self._numbers, self._positions, self._gap_event)

    async def _in_worker(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)
