"""What one sender's messages say about an originator's runs: its numbers, and relay's own events from it. Pure."""

from collections.abc import Iterator, Mapping

from relay.archive.completeness.relay_reports import DatedReport, GapReport, Heartbeat, Opening, RunAndType
from relay.archive.completeness.reported_gaps import ReportedGaps
from relay.archive.completeness.spans import between, size
from relay.archive.identity import Intervals


class NumberTally:
    """The numbers of one run and type from one sender."""

    __slots__ = ("numbers", "reported", "settled")

    def __init__(self) -> None:
        self.numbers = Intervals()
        self.reported = 0
        """The highest number that this sender's reports name."""
        self.settled: tuple[int, int, int, int] | None = None
        """Holes that are counted and no longer known: first and last number, numbers, holes."""

    def settle(self) -> None:
        """Forget the lower half of the holes, and count them."""
        spans = list(self.numbers)
        half = spans[: len(spans) // 2 + 1]
        holes = list(between(half, 0))
        first, _, numbers, count = self.settled or (holes[0][0], 0, 0, 0)
        self.settled = (first, half[-1][1], numbers + size(holes), count + len(holes))
        self.numbers.add_all(1, half[-1][1])


class RunTally:
    """One run, by relay's own events in it."""

    __slots__ = ("begun", "ended", "host", "previous")

    def __init__(self, host: bytes, place: int) -> None:
        self.host = host
        """HOSTNAME, because originators beyond the archive's ceiling share one folder."""
        self.begun = self.ended = place
        """The run's first and last own event, counted in the order of the archive."""
        self.previous = b""


class SenderReports:
    """relay's own events from one sender."""

    def __init__(self) -> None:
        self.count = 0
        self.newest = 0
        """The place of the newest one in the order of the archive."""
        self.last_report: int | None = None
        """The time of the newest one, by the originator's clock, in microseconds since the epoch."""
        self.runs: dict[bytes, RunTally] = {}
        self.backlogs: dict[bytes, Mapping[str, int]] = {}
        """Host → what waited at its newest heartbeat; the newest of all is the last."""
        self.gaps = ReportedGaps()

    def take(self, run: bytes, host: bytes, place: int, found: DatedReport) -> Iterator[tuple[RunAndType, int]]:
        """Take one, and give the last numbers that it reports."""
        self.count += 1
        self.newest = place
        known = self.runs.setdefault(run, RunTally(host, place))
        known.ended = place
        if found.time is not None:
            self.last_report = max(self.last_report or found.time, found.time)
        match found.report:
            case Opening(previous, last) if previous:
                known.previous = previous
                yield from ((RunAndType(previous, kind), number) for kind, number in last.items())
            case Heartbeat(last, backlog):
                self.backlogs.pop(known.host, None)
                self.backlogs[known.host] = backlog
                yield from ((RunAndType(run, kind), number) for kind, number in last.items())
            case GapReport() as gap:
                self.gaps.add(gap)
