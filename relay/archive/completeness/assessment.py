"""Compares the numbers that are in an archive with what relay reported: counts in, findings out. Pure.

`number_trail` describes the findings and their meaning.
"""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from relay.archive.completeness.relay_reports import RunAndType
from relay.archive.completeness.reported_gaps import GapSummary, LossAccount, split_by_accounts
from relay.archive.completeness.spans import Span, between, size, without
from relay.archive.identity import Intervals
from relay.values.event import ALWAYS_RETAINED, EventType

MAX_RANGES: Final = 20
"""How many ranges a finding names."""

_RELAY: Final = b"relay"
_LOG: Final = b"log"
RETAINED: Final = frozenset(kind.label.encode() for kind in ALWAYS_RETAINED if kind is not EventType.LOG)
"""Types that are always persistent: they arrive in order with relay's own events."""


class AssessmentScope(NamedTuple):
    """Which events are assessed, and by which gaps."""

    types: frozenset[bytes] = frozenset()
    """Only events of these types; empty: of all."""
    servers: frozenset[str] = frozenset()
    """Only gaps of these servers, and gaps that concern all servers, explain missing numbers; empty: all gaps do."""
    begun: bool = False
    """Earlier days are left out or are not there, so numbers before the first one are not missed."""


class CompletenessFinding(NamedTuple):
    """Numbers of one run and type."""

    kind: str
    run: bytes
    type: bytes
    """Empty: all types."""
    numbers: int
    ranges: tuple[Span, ...] = ()
    """The first of them."""
    unnamed: int = 0
    """Further ranges."""


class Completeness(NamedTuple):
    """The result for one originator."""

    messages: int
    numbered: int
    """Messages with relay's identity."""
    unassessed: int
    """Numbered messages beyond the ceilings."""
    runs: int
    last_report: int | None
    """The time of relay's newest own event, by the originator's clock, in microseconds since the epoch."""
    backlog: Mapping[str, int]
    """Server → blocks that waited, by the newest heartbeat."""
    before: tuple[bytes, ...]
    """Runs that an opening names and that were over before the archive begins."""
    faults: tuple[CompletenessFinding, ...]
    explained: tuple[CompletenessFinding, ...]
    waiting: tuple[CompletenessFinding, ...]
    gaps: GapSummary

    @property
    def missing(self) -> int:
        """Numbers that are missing without an explanation."""
        return sum(finding.numbers for finding in self.faults)


class NumberTally:
    """The numbers of one run and type."""

    __slots__ = ("numbers", "reported", "settled")

    def __init__(self) -> None:
        self.numbers = Intervals()
        self.reported = 0
        """The highest number that relay reported."""
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

    __slots__ = ("begun", "ended", "followed", "host", "previous")

    def __init__(self, host: bytes, place: int) -> None:
        self.host = host
        """HOSTNAME, because originators beyond the archive's ceiling share one folder."""
        self.begun = self.ended = place
        """The run's first and last own event, counted in the order of the archive."""
        self.previous = b""
        self.followed = False


class Assessment:
    """One comparison."""

    def __init__(
        self, counts: Mapping[RunAndType, NumberTally], runs: Mapping[bytes, RunTally], scope: AssessmentScope
    ) -> None:
        self._counts = counts
        self._runs = runs
        self._scope = scope
        self.gaps: Mapping[RunAndType, list[LossAccount]] = {}
        self.partial: dict[RunAndType, list[int]] = {}
        """Numbers of which only some parts are there."""
        self.backlogs: Mapping[bytes, Mapping[str, int]] = {}
        """Host → what waited at its newest heartbeat."""
        self.before: list[bytes] = []
        self.faults: list[CompletenessFinding] = []
        self.explained: list[CompletenessFinding] = []
        self.waiting: list[CompletenessFinding] = []
        self._present = {key.run for key, count in counts.items() if count.numbers or key in self.partial}
        self._newest: dict[tuple[bytes, bytes], int] = {}
        """Host and type → the beginning of the last run from which an event of this type has arrived."""

    def assess(self, known: Mapping[RunAndType, Collection[Span]]) -> None:
        """Fill the lists. `known`: the numbers that the archive's index has seen."""
        self._present |= {key.run for key in self.partial}
        self._follow_runs(known)
        for key, count in self._counts.items():
            if count.numbers and (run := self._runs.get(key.run)) is not None:
                place = (run.host, key.type)
                self._newest[place] = max(self._newest.get(place, 0), run.begun)
        for key in dict.fromkeys((*self._counts, *self.partial, *known)):
            is_chosen = key.type in self._scope.types if self._scope.types else key.type != _LOG
            if is_chosen and key.run not in self.before:
                self._assess_key(key, self._counts.get(key) or NumberTally(), known.get(key, ()))

    def _follow_runs(self, known: Mapping[RunAndType, Collection[Span]]) -> None:
        """Find the runs that openings name and that left no event here."""
        absent = {
            run.previous: run for run in self._runs.values() if run.previous and run.previous not in self._present
        }
        indexed = {key.run for key in known} if not self._scope.begun else set()
        for run in self._runs.values():
            if run.previous in self._runs:
                self._runs[run.previous].followed = True
        ends: dict[bytes, int] = {}
        for run in self._runs.values():
            if not run.followed:
                ends[run.host] = min(run.ended, ends.get(run.host, run.ended))
        lost = self._reported_lost(absent)
        for previous, run in absent.items():
            if ends.get(run.host, run.begun) >= run.begun:
                if previous not in indexed:
                    self.before.append(previous)
            elif previous not in lost:
                self.faults.append(CompletenessFinding("run missing", previous, b"", 0))

    def _reported_lost(self, runs: Collection[bytes]) -> set[bytes]:
        """Those of the runs whose reported numbers are all explained by gaps."""
        reported = {key: count.reported for key, count in self._counts.items() if count.reported and key.run in runs}
        lacking = {
            key.run for key, last in reported.items() if split_by_accounts([(1, last)], self.gaps.get(key, []))[0]
        }
        return {key.run for key in reported} - lacking

    def _assess_key(self, key: RunAndType, count: NumberTally, known: Collection[Span]) -> None:
        opened = self._counts.get(RunAndType(key.run, _RELAY))
        is_from_one = not self._scope.begun or (opened is not None and 1 in opened.numbers)
        lowest = 1 if is_from_one else next((first for first, _ in count.numbers), None)
        if lowest is None:
            return
        spans = [span for span in count.numbers if span[1] >= lowest]
        parts = sorted(number for number in self.partial.get(key, ()) if number >= lowest)
        highest = spans[-1][1] if spans else lowest - 1
        reach = max(count.reported, highest, parts[-1] - 1 if parts else 0)
        gone = list(without([(max(first, lowest), last) for first, last in known if last >= lowest], spans))
        inside = list(without(between(spans, lowest - 1), gone))
        beyond = list(without([(highest + 1, reach)] if reach > highest else [], gone))
        self._add("gone", key, gone)
        self._split(key, inside, beyond, parts)
        self._add("unfinished", key, [(number, number) for number in parts[-1:] if number > reach], self.waiting)
        if count.settled:
            first, last, numbers, holes = count.settled
            self.faults.append(CompletenessFinding("scattered", *key, numbers, ((first, last),), holes - 1))

    def _split(self, key: RunAndType, inside: list[Span], beyond: list[Span], parts: list[int]) -> None:
        """Divide the missing numbers: those that gaps explain, those that may still arrive, and faults."""
        accounts = self.gaps.get(key, [])
        missing, explained = split_by_accounts(inside, accounts)
        ahead, explained_ahead = split_by_accounts(beyond, accounts)
        self._add("reported lost", key, [*explained, *explained_ahead], self.explained)
        if ahead and self._may_arrive(key):
            self._add("waiting", key, ahead, self.waiting)
            ahead = []
        lacking = [*missing, *ahead]
        unfinished = [(number, number) for number in parts if any(f <= number <= last for f, last in lacking)]
        self._add("unfinished", key, unfinished)
        self._add("missing", key, list(without(lacking, unfinished)))

    def _may_arrive(self, key: RunAndType) -> bool:
        """Whether events of this type can arrive after relay's own, and none of a later run has arrived."""
        run = self._runs.get(key.run)
        if run is None or key.type in RETAINED or self._newest.get((run.host, key.type), 0) > run.ended:
            return False
        servers = self._scope.servers
        backlog = self.backlogs.get(run.host, {})
        return any(blocks for server, blocks in backlog.items() if not servers or server in servers)

    def _add(self, kind: str, key: RunAndType, spans: list[Span], to: list[CompletenessFinding] | None = None) -> None:
        if spans:
            named = tuple(spans[:MAX_RANGES])
            finding = CompletenessFinding(kind, key.run, key.type, size(spans), named, len(spans) - len(named))
            (self.faults if to is None else to).append(finding)
