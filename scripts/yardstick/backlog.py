"""The cost of a backlog: a store's memory, appends and opening while nothing of it is delivered.

Run by ./scripts/backlog. The intake accepts messages of 300 octets, 1000 at a time; each thousand is durable before
the next. Two plain loops run beside it. One writes as many messages to its own file, one by one through Python's
buffer, and calls fdatasync; the other writes them at once. They take turns in a changing order, and the result is the
median of the ratios, so that a noisy moment of the disk hits all. The same is done with the spool alone, which gets
the finished messages: this is the cost of durability itself, with checksums, chain and header, without numbering and
framing. Single durable appends are timed before the backlog and behind it. Times are wall time unless CPU is
mentioned. The exit code is 1 when memory, once warm, changed by more than 10 MB.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Self

from relay.program.intake import Intake
from relay.program.road import new_run
from relay.spool.block import Contents, Span, type_bitmap
from relay.spool.commit import Routing
from relay.spool.cursor import Cursor
from relay.spool.losses.gap import Gap
from relay.spool.spool import Spool
from relay.spool.spool_reader import SpoolReader
from relay.spool.store import Store
from relay.system.disk import Disk
from relay.values.event import Batch, Event, EventType, Position
from scripts.yardstick.machine import machine
from scripts.yardstick.table import markdown

MESSAGES: Final = 1_000_000
LENGTH: Final = 300
TOGETHER: Final = 1000
SINGLE: Final = 10_000
MOST_GROWTH: Final = 10e6
_SEGMENT: Final = 16 * 1024 * 1024
_ENOUGH: Final = 1 << 50
_LOOKS: Final = 100  # at the memory
_TURNS: Final = 1000  # of the spool alone and the plain loops
_WARM: Final = 0.1  # of the backlog
_ROUTING: Final = Routing(frozenset({EventType.AUDIT, EventType.RELAY}), frozenset())
_HEAD: Final = b"<110>1 2024-03-06T16:34:22.344Z combo1 auditd - SYSCALL [128T"
_FRAME: Final = len(b'300  relayRun="0123456789abcdef" relaySeq="1000000"')


class Cost(NamedTuple):
    """Times of that many single appends, in microseconds."""

    wall: float
    cpu: float


NOTHING: Final = Cost(0, 0)


class Turn(NamedTuple):
    """Seconds for a thousand messages by each method, at the same moment."""

    ours: float
    loop: float
    """Message by message."""
    once: float
    """In one write."""


@dataclass(slots=True)
class Figures:
    """What was measured."""

    memory: list[int] = field(default_factory=list)
    """Resident octets while the backlog grew, from when it was warm."""
    turns: list[Turn] = field(default_factory=list)
    """The intake's."""
    alone: list[Turn] = field(default_factory=list)
    """The spool's alone."""
    first: Cost = NOTHING
    last: Cost = NOTHING
    opening_empty: float = 0.0
    """Seconds until the first block can be read."""
    opening: float = 0.0
    size: int = 0
    """Octets on the disk."""

    @property
    def growth(self) -> int:
        """Return how much memory changed."""
        return max(self.memory) - min(self.memory)


class Source:
    """Yields events without end."""

    def __init__(self) -> None:
        self._given = 0
        self._tail = b' type="audit"] '.ljust(LENGTH - len(_HEAD) - _FRAME, b"x")

    def give(self, count: int) -> Batch:
        """Return that many events."""
        self._given += count
        event = Event(EventType.AUDIT, 1, _HEAD, self._tail)
        return Batch([event] * count, Position("audit", self._given, b"%d" % self._given))


def _no_gap(now: int, gap: Gap) -> Event:
    raise AssertionError(f"nothing is lost here, and yet {gap} at {now}")


def _opened(folder: Path) -> Store:
    store = Store(Disk(), str(folder), segment_size=_SEGMENT, max_size=_ENOUGH, run=new_run())
    store.follow("server", Cursor(), type_bitmap(list(EventType)))
    return store


@asynccontextmanager
async def _taking_in(store: Store) -> AsyncIterator[Intake]:
    intake = Intake(store, _ROUTING, _no_gap, interval=0)
    committing = asyncio.create_task(intake.run())
    try:
        yield intake
    finally:
        committing.cancel()
        with suppress(asyncio.CancelledError):
            await committing


async def _durable(intake: Intake, batch: Batch) -> float:
    """Return the seconds until it is durable."""
    begun = time.perf_counter()
    await (await intake.submit(batch))
    return time.perf_counter() - begun


async def _single(intake: Intake, source: Source, count: int) -> Cost:
    cpu, begun = time.process_time(), time.perf_counter()
    for _ in range(count):
        await _durable(intake, source.give(1))
    return Cost((time.perf_counter() - begun) * 1e6 / count, (time.process_time() - cpu) * 1e6 / count)


class Plain:
    """The plain loop's file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "plain"
        self._file = self._path.open("wb")
        self._messages = [b"x" * LENGTH] * TOGETHER
        self._once = b"".join(self._messages)

    def loop(self) -> float:
        """Return the seconds until a thousand messages, written one by one, are durable."""
        begun = time.perf_counter()
        for message in self._messages:
            self._file.write(message)
        self._file.flush()
        os.fdatasync(self._file.fileno())
        return time.perf_counter() - begun

    def once(self) -> float:
        """Return the seconds until they are durable, written at once."""
        begun = time.perf_counter()
        os.write(self._file.fileno(), self._once)
        os.fdatasync(self._file.fileno())
        return time.perf_counter() - begun

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink()


async def _turn(number: int, ours: Callable[[], Awaitable[float]], plain: Plain) -> Turn:
    """Run each method once; the next number begins with another one."""
    seconds = [0.0, 0.0, 0.0]
    for way in (number % 3, (number + 1) % 3, (number + 2) % 3):
        seconds[way] = await ours() if way == 0 else plain.loop() if way == 1 else plain.once()
    return Turn(*seconds)


async def _grow(intake: Intake, source: Source, folder: Path, messages: int, figures: Figures) -> None:
    thousands = messages // TOGETHER
    with Plain(folder) as plain:
        for number in range(thousands):
            figures.turns.append(await _turn(number, lambda: _durable(intake, source.give(TOGETHER)), plain))
            if number % max(thousands // _LOOKS, 1) == 0 and number >= thousands * _WARM:
                figures.memory.append(_resident())


async def _alone(folder: Path, count: int) -> list[Turn]:
    """Take that many turns of the spool alone and the plain loops."""
    messages = [b"x" * LENGTH] * TOGETHER
    contents = Contents([Span(EventType.AUDIT, 1, TOGETHER)], messages, [], 1 << EventType.AUDIT, 1, 1, LENGTH)
    spool = Spool.open(Disk(), str(folder / "alone"), segment_size=_SEGMENT, run=new_run())

    async def append() -> float:
        begun = time.perf_counter()
        spool.append(contents, 1)
        return time.perf_counter() - begun

    with Plain(folder) as plain:
        turns = [await _turn(number, append, plain) for number in range(count)]
    spool.close()
    return turns


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _opening(folder: Path) -> float:
    """Return the seconds until the store is open and its first block read; close the store again."""
    begun = time.perf_counter()
    with _opened(folder) as store:
        SpoolReader(store.retained, 1).read()
        return time.perf_counter() - begun


def measure(folder: Path, messages: int, single: int) -> Figures:
    """Grow a backlog of that many messages in the folder, with that many single appends before and after."""
    figures = Figures(opening_empty=_opening(folder / "empty"))
    source = Source()

    async def grow() -> None:
        with _opened(folder / "state") as store:
            async with _taking_in(store) as intake:
                figures.first = await _single(intake, source, single)
                await _grow(intake, source, folder, messages, figures)
                figures.last = await _single(intake, source, single)
            figures.size = store.retained.allocated

    asyncio.run(grow())
    figures.opening = _opening(folder / "state")
    figures.alone = asyncio.run(_alone(folder, min(_TURNS, messages // TOGETHER)))
    return figures


def report(figures: Figures, messages: int) -> str:
    """Return the figures of a backlog of that many messages, as a table."""
    tenth = max(len(figures.turns) // 10, 1)
    low, high = min(figures.memory) / 1e6, max(figures.memory) / 1e6
    rows = [
        ("backlog", "messages; MB on the disk", f"{messages:,}; {figures.size / 1e6:,.0f}"),
        ("memory", "MB resident, from a tenth of the backlog on", f"{low:.1f} to {high:.1f}"),
        ("opening", "ms to the first block read; with an empty spool", _two(figures.opening, figures.opening_empty)),
        (
            "1000 together",
            "ms, median; the first and the last tenth",
            _tenths([turn.ours for turn in figures.turns], tenth),
        ),
        ("intake, loop, one write", "ms for 1000, medians", _each(figures.turns)),
        ("intake", "times the loop; times one write", _ratios(figures.turns)),
        ("spool alone, loop, one write", "ms for 1000, medians", _each(figures.alone)),
        ("spool alone", "times the loop; times one write", _ratios(figures.alone)),
        ("one alone", "µs before the backlog, and CPU", f"{figures.first.wall:,.0f}, {figures.first.cpu:,.0f}"),
        ("one alone", "µs behind it, and CPU", f"{figures.last.wall:,.0f}, {figures.last.cpu:,.0f}"),
    ]
    return markdown(("what", "in", "figure"), rows)


def _two(one: float, other: float) -> str:
    return f"{one * 1000:.1f}; {other * 1000:.1f}"


def _each(turns: Sequence[Turn]) -> str:
    return "; ".join(f"{statistics.median(seconds) * 1000:.2f}" for seconds in zip(*turns, strict=True))


def _ratios(turns: Sequence[Turn]) -> str:
    loop = statistics.median(turn.ours / turn.loop for turn in turns)
    once = statistics.median(turn.ours / turn.once for turn in turns)
    return f"{loop:.2f}; {once:.2f}"


def _tenths(seconds: list[float], tenth: int) -> str:
    return _two(statistics.median(seconds[:tenth]), statistics.median(seconds[-tenth:]))


def main(words: Sequence[str]) -> int:
    """Measure; return 1 when memory is not constant."""
    parser = argparse.ArgumentParser(prog="scripts/backlog", description=__doc__)
    parser.add_argument("-n", dest="messages", type=int, default=MESSAGES, help=f"messages (default {MESSAGES})")
    parser.add_argument("--single", type=int, default=SINGLE, help=f"single appends (default {SINGLE})")
    chosen = parser.parse_args(words)
    where = machine()
    with tempfile.TemporaryDirectory(prefix="relay-backlog-") as folder:
        figures = measure(Path(folder), chosen.messages, chosen.single)
    print(f"**Backlog**. {where}.\n\n{report(figures, chosen.messages)}")
    return 0 if figures.growth <= MOST_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
