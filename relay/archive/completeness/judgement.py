"""What is there of each run and type, held against what is told of it: counts in, findings out. Pure.

`completeness` says which findings there are, and what they mean.
"""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from relay.archive.completeness.gap_ledger import GapRecords, LossAccount, accounted
from relay.archive.completeness.spans import Span, between, size, without
from relay.archive.completeness.testimony import RunAndType
from relay.archive.identity import Intervals
from relay.values.event import ALWAYS_RETAINED, EventType

MAX_RANGES: Final = 20
"""How many ranges a finding names."""

_RELAY: Final = b"relay"
_LOG: Final = b"log"
RETAINED: Final = frozenset(kind.label.encode() for kind in ALWAYS_RETAINED if kind is not EventType.LOG)
"""Types that are always persistent: they arrive in order with relay's own."""


class JudgementScope(NamedTuple):
    """What is judged, and by what."""

    types: frozenset[bytes] = frozenset()
    """Only events of these; empty: of all."""
    servers: frozenset[str] = frozenset()
    """Whose gaps account for what is missing here, beside those that concern every server; empty: everybody's."""
    begun: bool = False
    """Whether days before were left out: then nothing is said of what stood there."""


class CompletenessFinding(NamedTuple):
    """Numbers of one run and type."""

    kind: str
    run: bytes
    type: bytes
    """Empty: of all."""
    numbers: int
    ranges: tuple[Span, ...] = ()
    """The first of them."""
    unnamed: int = 0
    """Further ranges."""


class Judgement(NamedTuple):
    """What one originator's messages prove."""

    messages: int
    numbered: int
    """Messages with relay's identity."""
    unstructured: int
    """Of the others, those that are no RFC 5424."""
    unjudged: int
    runs: int
    heard: int | None
    """When relay there last spoke, by its own clock, in microseconds since the epoch."""
    backlog: Mapping[str, int]
    """Blocks that waited for each server then, as the newest heartbeat says."""
    before: tuple[bytes, ...]
    """Runs before the archive's beginning, of which there is nothing."""
    faults: tuple[CompletenessFinding, ...]
    explained: tuple[CompletenessFinding, ...]
    waiting: tuple[CompletenessFinding, ...]
    gaps: GapRecords

    @property
    def missing(self) -> int:
        """Numbers that are not there, and nobody told why."""
        return sum(finding.numbers for finding in self.faults)


class NumberTally:
    """What is there of one run and type."""

    __slots__ = ("numbers", "settled", "told")

    def __init__(self) -> None:
        self.numbers = Intervals()
        self.told = 0
        """The highest number that anybody told of."""
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
    """A run, as relay's own events tell of it."""

    __slots__ = ("begun", "ended", "followed", "host", "previous")

    def __init__(self, host: bytes, place: int) -> None:
        self.host = host
        """Whose it is: the originators beyond the archive's ceiling share one folder."""
        self.begun = self.ended = place
        """The first and the last of relay's own events in it, by their order in the archive."""
        self.previous = b""
        self.followed = False


class OpenJudgement:
    """One judgement under way."""

    def __init__(
        self, counts: Mapping[RunAndType, NumberTally], runs: Mapping[bytes, RunTally], terms: JudgementScope
    ) -> None:
        self._counts = counts
        self._runs = runs
        self._terms = terms
        self.gaps: Mapping[RunAndType, list[LossAccount]] = {}
        self.partial: dict[RunAndType, list[int]] = {}
        self.backlogs: Mapping[bytes, Mapping[str, int]] = {}
        self.before: list[bytes] = []
        self.faults: list[CompletenessFinding] = []
        self.explained: list[CompletenessFinding] = []
        self.on_their_way: list[CompletenessFinding] = []
        self._present = {key.run for key, count in counts.items() if count.numbers or key in self.partial}
        self._newest: dict[tuple[bytes, bytes], int] = {}
        """Host and type → the beginning of the last run in which that type has come."""

    def judge(self, known: Mapping[RunAndType, Collection[Span]]) -> None:
        """Fill the lists."""
        self._present |= {key.run for key in self.partial}
        self._follow_runs(known)
        for key, count in self._counts.items():
            if count.numbers and (run := self._runs.get(key.run)) is not None:
                place = (run.host, key.type)
                self._newest[place] = max(self._newest.get(place, 0), run.begun)
        for key in dict.fromkeys((*self._counts, *self.partial, *known)):
            if self._wanted(key):
                self._judge_key(key, self._counts.get(key) or NumberTally(), known.get(key, ()))

    def _wanted(self, key: RunAndType) -> bool:
        chosen = key.type in self._terms.types if self._terms.types else key.type != _LOG
        return chosen and key.run not in self.before

    def _follow_runs(self, known: Mapping[RunAndType, Collection[Span]]) -> None:
        """Find the runs of which openings tell and of which there is nothing."""
        absent = {
            run.previous: run for run in self._runs.values() if run.previous and run.previous not in self._present
        }
        indexed = {key.run for key in known} if not self._terms.begun else set()
        for run in self._runs.values():
            if run.previous in self._runs:
                self._runs[run.previous].followed = True
        ends: dict[bytes, int] = {}
        for run in self._runs.values():
            if not run.followed:
                ends[run.host] = min(run.ended, ends.get(run.host, run.ended))
        lost = self._told_as_lost(absent)
        for previous, run in absent.items():
            if ends.get(run.host, run.begun) >= run.begun:
                if previous not in indexed:
                    self.before.append(previous)
            elif previous not in lost:
                self.faults.append(CompletenessFinding("run missing", previous, b"", 0))

    def _told_as_lost(self, runs: Collection[bytes]) -> set[bytes]:
        """Those of the runs of which gaps account for all that is told."""
        told = {key: count.told for key, count in self._counts.items() if count.told and key.run in runs}
        lacking = {key.run for key, last in told.items() if accounted([(1, last)], self.gaps.get(key, []))[0]}
        return {key.run for key in told} - lacking

    def _judge_key(self, key: RunAndType, count: NumberTally, known: Collection[Span]) -> None:
        lowest = self._lowest(key, count)
        if lowest is None:
            return
        spans = [span for span in count.numbers if span[1] >= lowest]
        parts = sorted(number for number in self.partial.get(key, ()) if number >= lowest)
        highest = spans[-1][1] if spans else lowest - 1
        reach = max(count.told, highest, parts[-1] - 1 if parts else 0)
        gone = list(without([(max(first, lowest), last) for first, last in known if last >= lowest], spans))
        inside = list(without(between(spans, lowest - 1), gone))
        beyond = list(without([(highest + 1, reach)] if reach > highest else [], gone))
        self._add("gone", key, gone)
        self._split(key, inside, beyond, parts)
        self._add("unfinished", key, [(number, number) for number in parts[-1:] if number > reach], self.on_their_way)
        if count.settled:
            first, last, numbers, holes = count.settled
            self.faults.append(CompletenessFinding("scattered", *key, numbers, ((first, last),), holes - 1))

    def _lowest(self, key: RunAndType, count: NumberTally) -> int | None:
        """The first number that is judged; None when none is."""
        opened = self._counts.get(RunAndType(key.run, _RELAY))
        if not self._terms.begun or (opened is not None and 1 in opened.numbers):
            return 1
        return next((first for first, _ in count.numbers), None)

    def _split(self, key: RunAndType, inside: list[Span], beyond: list[Span], parts: list[int]) -> None:
        """Part what is missing into what gaps account for, what may be on its way, and faults."""
        accounts = self.gaps.get(key, [])
        missing, explained = accounted(inside, accounts)
        ahead, explained_ahead = accounted(beyond, accounts)
        self._add("told as lost", key, [*explained, *explained_ahead], self.explained)
        if ahead and self._may_wait(key):
            self._add("waiting", key, ahead, self.on_their_way)
            ahead = []
        lacking = [*missing, *ahead]
        unfinished = [(number, number) for number in parts if any(f <= number <= last for f, last in lacking)]
        self._add("unfinished", key, unfinished)
        self._add("missing", key, list(without(lacking, unfinished)))

    def _may_wait(self, key: RunAndType) -> bool:
        """Whether it is of a type that may come after relay's own events, and none of a later run has come."""
        run = self._runs.get(key.run)
        if run is None or key.type in RETAINED or self._newest.get((run.host, key.type), 0) > run.ended:
            return False
        servers = self._terms.servers
        backlog = self.backlogs.get(run.host, {})
        return any(blocks for server, blocks in backlog.items() if not servers or server in servers)

    def _add(self, kind: str, key: RunAndType, spans: list[Span], to: list[CompletenessFinding] | None = None) -> None:
        if spans:
            named = tuple(spans[:MAX_RANGES])
            finding = CompletenessFinding(kind, key.run, key.type, size(spans), named, len(spans) - len(named))
            (self.faults if to is None else to).append(finding)
