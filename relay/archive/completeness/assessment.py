"""Compares the numbers that are in an archive with what relay reported: counts in, findings out. Pure.

`number_trail` describes the findings and their meaning.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

from relay.archive.completeness.relay_reports import RunAndType
from relay.archive.completeness.reported_gaps import GapSummary, split_by_accounts
from relay.archive.completeness.run_evidence import UNVERIFIED, RunEvidence, run_evidence
from relay.archive.completeness.sender_trail import NumberTally, RunTally, SenderReports
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
    reporter: str
    """Whose reports `last_report`, `backlog` and `gaps` are: "verified": of one verified sender; "contested": of
    several; "unverified"; "": without reports."""
    ignored_reports: int
    """Reports of unverified senders, which do not count beside those of verified ones."""
    last_report: int | None
    """The time of relay's newest own event, by the originator's clock, in microseconds since the epoch."""
    backlog: Mapping[str, int]
    """Server → blocks that waited, by the newest heartbeat."""
    before: tuple[bytes, ...]
    """Runs that an opening names and that were over before the archive begins."""
    faults: tuple[CompletenessFinding, ...]
    explained: tuple[CompletenessFinding, ...]
    waiting: tuple[CompletenessFinding, ...]
    claims: tuple[CompletenessFinding, ...]
    """What only unverified or contested senders say is missing."""
    gaps: GapSummary

    @property
    def missing(self) -> int:
        """Numbers that are missing without an explanation."""
        return sum(finding.numbers for finding in self.faults)


class Assessment:
    """One comparison."""

    def __init__(
        self,
        tallies: Mapping[RunAndType, Mapping[str, NumberTally]],
        partial: Mapping[RunAndType, Sequence[tuple[str, int]]],
        reports: Mapping[str, SenderReports],
        scope: AssessmentScope,
    ) -> None:
        """`partial`: sender and number of each event of which only some parts are there."""
        self._tallies = tallies
        self._partial = partial
        self._reports = reports
        self._scope = scope
        self.before: list[bytes] = []
        self.faults: list[CompletenessFinding] = []
        self.explained: list[CompletenessFinding] = []
        self.waiting: list[CompletenessFinding] = []
        self.claims: list[CompletenessFinding] = []
        self._accounts = {sender: each.gaps.accounts(scope.servers) for sender, each in reports.items()}
        self._senders: dict[bytes, set[str]] = {}
        """Run → senders of its numbers."""
        for key, by_sender in tallies.items():
            found = self._senders.setdefault(key.run, set())
            found.update(sender for sender, tally in by_sender.items() if tally.numbers)
            found.update(sender for sender, _ in partial.get(key, ()))
        self._verified = {sender for sender in (*reports, *chain(*self._senders.values())) if sender}
        self._newest: dict[tuple[str, bytes, bytes], int] = {}
        """Sender of reports, host and type → the beginning of the last run of which an event of this type came."""

    def assess(self, known: Mapping[RunAndType, Collection[Span]]) -> None:
        """Fill the lists. `known`: the numbers that the archive's index has seen."""
        indexed = {key.run for key in known} if not self._scope.begun else set[bytes]()
        for sender, reports in self._reports.items():
            self._follow_runs(sender, reports.runs, indexed)
            for key, by_sender in self._tallies.items():
                run = reports.runs.get(key.run)
                if run is not None and any(tally.numbers for tally in by_sender.values()):
                    place = (sender, run.host, key.type)
                    self._newest[place] = max(self._newest.get(place, 0), run.begun)
        for key in dict.fromkeys((*self._tallies, *known)):
            is_chosen = key.type in self._scope.types if self._scope.types else key.type != _LOG
            if is_chosen and key.run not in self.before:
                self._assess_key(key, known.get(key, ()))

    def _evidence(self, run: bytes) -> RunEvidence:
        return run_evidence(self._senders.get(run, set()), self._verified)

    # --- Runs of which nothing came ---

    def _follow_runs(self, sender: str, runs: Mapping[bytes, RunTally], indexed: Collection[bytes]) -> None:
        """Find the runs that openings of this sender name and that left no event here."""
        absent = {run.previous: run for run in runs.values() if run.previous and not self._senders.get(run.previous)}
        ends = _first_ends(runs)
        lost = self._reported_lost(sender, absent)
        for previous, run in absent.items():
            witness = self._evidence(previous).witness
            if witness not in {None, sender}:
                continue
            if ends.get(run.host, run.begun) >= run.begun:
                if previous not in indexed and previous not in self.before:
                    self.before.append(previous)
            elif witness is None:
                self.claims.append(CompletenessFinding("claimed", previous, b"", 0))
            elif previous not in lost:
                self.faults.append(CompletenessFinding("run missing", previous, b"", 0))

    def _reported_lost(self, sender: str, runs: Collection[bytes]) -> set[bytes]:
        """Those of the runs whose numbers, as this sender reports them, its gaps explain, all of them."""
        reported = {
            key: by_sender[sender].reported
            for key, by_sender in self._tallies.items()
            if key.run in runs and sender in by_sender and by_sender[sender].reported
        }
        accounts = self._accounts[sender]
        lacking = {
            key.run for key, last in reported.items() if split_by_accounts([(1, last)], accounts.get(key, []))[0]
        }
        return {key.run for key in reported} - lacking

    # --- Numbers ---

    def _assess_key(self, key: RunAndType, known: Collection[Span]) -> None:
        evidence, tallies = self._evidence(key.run), self._tallies.get(key, {})
        own = [tally for sender, tally in tallies.items() if sender in evidence.senders]
        others = [tally for sender, tally in tallies.items() if sender not in evidence.senders]
        numbers = _together(own)
        opened = self._tallies.get(RunAndType(key.run, _RELAY), {})
        begins = any(1 in tally.numbers for sender, tally in opened.items() if sender in evidence.senders)
        lowest = 1 if not self._scope.begun or begins else next((first for first, _ in numbers), None)
        if lowest is None:
            return
        spans = [span for span in numbers if span[1] >= lowest]
        parts = sorted(n for sender, n in self._partial.get(key, ()) if n >= lowest and sender in evidence.senders)
        highest = spans[-1][1] if spans else lowest - 1
        proven = next((tally.reported for sender, tally in tallies.items() if sender == evidence.witness), 0)
        named = proven if evidence.is_proven else self._named(evidence, tallies)
        begun = 0 if not parts else parts[-1] if parts[-1] <= named else parts[-1] - 1
        reach = max(proven, highest, begun)
        there = list(_together(own + others))
        gone = list(without([(max(first, lowest), last) for first, last in known if last >= lowest], there))
        inside = list(without(between(spans, lowest - 1), gone))
        beyond = list(without([(highest + 1, reach)] if reach > highest else [], gone))
        self._add("gone", key, gone)
        if not evidence.is_proven:
            confirmed = named
            if key.type == _RELAY and spans and spans[-1][0] == spans[-1][1]:  # this one event may be the report itself
                confirmed = min(named, spans[-2][1] if len(spans) > 1 else 0)
            inside = self._confirmed(key, inside, confirmed)
            beyond = self._confirmed(key, beyond, max(proven, min(named, begun)))
            self._note_claimed(key, evidence, list(without([(reach + 1, named)] if named > reach else [], gone)))
        self._split(key, evidence, inside, beyond, parts, list(_together(others)))
        self._add("unfinished", key, [(number, number) for number in parts[-1:] if number > reach], self.waiting)
        for tally in own:
            self._add_settled(key, tally, self.faults if evidence.is_proven else self.claims)

    def _named(self, evidence: RunEvidence, tallies: Mapping[str, NumberTally]) -> int:
        """The highest number that reports name: of a contested run, those of its senders."""
        if UNVERIFIED not in evidence.senders:
            tallies = {sender: tally for sender, tally in tallies.items() if sender in evidence.senders}
        return max((tally.reported for tally in tallies.values()), default=0)

    def _confirmed(self, key: RunAndType, missing: list[Span], last: int) -> list[Span]:
        """The missing numbers up to `last`; the others become claims."""
        above = list(without(missing, [(1, last)] if last else []))
        self._add("unconfirmed", key, above, self.claims)
        return list(without(missing, above))

    def _note_claimed(self, key: RunAndType, evidence: RunEvidence, claimed: list[Span]) -> None:
        """Note numbers above those that are here, which only reports name."""
        if claimed and UNVERIFIED in evidence.senders and self._may_arrive(key, UNVERIFIED):
            self._add("waiting", key, claimed, self.waiting)
        else:
            self._add("claimed", key, claimed, self.claims)

    def _split(
        self,
        key: RunAndType,
        evidence: RunEvidence,
        inside: list[Span],
        beyond: list[Span],
        parts: list[int],
        others: list[Span],
    ) -> None:
        """Divide the missing numbers: those that gaps explain, those that may still arrive, and faults."""
        accounts = {sender: found.get(key, []) for sender, found in self._accounts.items()}
        proven = accounts.pop(evidence.witness, []) if evidence.witness is not None else []
        missing, explained = split_by_accounts(inside, proven)
        ahead, explained_ahead = split_by_accounts(beyond, proven)
        self._add("reported lost", key, [*explained, *explained_ahead], self.explained)
        if ahead and evidence.witness is not None and self._may_arrive(key, evidence.witness):
            self._add("waiting", key, ahead, self.waiting)
            ahead = []
        lacking = [*missing, *ahead]
        unfinished = [(number, number) for number in parts if any(f <= number <= last for f, last in lacking)]
        self._add("unfinished", key, unfinished)
        lacking = list(without(lacking, unfinished))
        nowhere = list(without(lacking, others))
        self._add("substituted", key, list(without(lacking, nowhere)))
        lacking = nowhere
        for unproven in accounts.values():
            nowhere, named = split_by_accounts(nowhere, unproven)
            self._add("named lost", key, named)
        self._add("missing", key, nowhere)

    def _may_arrive(self, key: RunAndType, sender: str) -> bool:
        """Whether events of this type can arrive after relay's own, and none of a later run has arrived."""
        reports = self._reports.get(sender)
        run = None if reports is None else reports.runs.get(key.run)
        if reports is None or run is None or key.type in RETAINED:
            return False
        if self._newest.get((sender, run.host, key.type), 0) > run.ended:
            return False
        servers = self._scope.servers
        backlog = reports.backlogs.get(run.host, {})
        return any(blocks for server, blocks in backlog.items() if not servers or server in servers)

    def _add_settled(self, key: RunAndType, tally: NumberTally, to: list[CompletenessFinding]) -> None:
        if tally.settled:
            first, last, numbers, holes = tally.settled
            to.append(CompletenessFinding("scattered", *key, numbers, ((first, last),), holes - 1))

    def _add(self, kind: str, key: RunAndType, spans: list[Span], to: list[CompletenessFinding] | None = None) -> None:
        if spans:
            named = tuple(spans[:MAX_RANGES])
            finding = CompletenessFinding(kind, key.run, key.type, size(spans), named, len(spans) - len(named))
            (self.faults if to is None else to).append(finding)


def _first_ends(runs: Mapping[bytes, RunTally]) -> dict[bytes, int]:
    """Host → where the first of its runs ends that no other run follows."""
    followed = {run.previous for run in runs.values()}
    ends: dict[bytes, int] = {}
    for name, run in runs.items():
        if name not in followed:
            ends[run.host] = min(run.ended, ends.get(run.host, run.ended))
    return ends


def _together(tallies: Sequence[NumberTally]) -> Intervals:
    """The numbers of all of them."""
    if len(tallies) == 1:
        return tallies[0].numbers
    found = Intervals()
    for tally in tallies:
        for span in tally.numbers:
            found.add_all(*span)
    return found
