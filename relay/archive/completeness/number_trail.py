"""The numbers of one originator's events in the order of its archive, and what they prove. Pure.

    trail = NumberTrail()
    trail.add_range(b"5f", b"audit", 1, 20, "SHA256:…")     # as a ledger's `id` and `by` have them
    trail.add_report(b"5f", message, "SHA256:…")            # an event of type relay
    completeness = trail.assess(known, scope)

Where a log has no ledger, `add` takes each message.

In each run relay numbers the events of each type from 1 without a hole. So a missing number is a missing event. All is
kept by sender, and `run_evidence` says whose numbers and reports count for a run. For each run and type, `assess`
finds these faults:

- `missing`: numbers that are not in the archive although higher ones are, or although a heartbeat or the opening of the
  next run reports them;
- `named lost`: missing numbers that a gap names, but its sender is not verified or not the run's;
- `substituted`: numbers that are here only from senders without the identity of the run's own;
- `scattered`: missing numbers in more holes than are kept;
- `gone`: numbers that the archive's own index has seen, and that no ledger or log has any more;
- `unfinished`: events of which only some parts are there (`relayPart`); the last event of all may still arrive;
- `run missing`: a run between two others, as openings report, left no event at all, and gaps do not explain all of it.

These findings are not faults. `reported lost`: a gap explains the missing numbers. `waiting`: a heartbeat reports
numbers that may still arrive. Events of persistent types arrive in order with the events of type relay, so a heartbeat
proves that everything before it should be in the archive. Events of other types arrive after them, as long as the
newest heartbeat reports a backlog. Messages do not show which types are persistent; some always are (`assessment`).
`claimed`: numbers, or a whole run, that only unverified or contested reports name. `unconfirmed`: numbers of an
unverified or contested run below a higher number that no report names. Anybody who can send could have written such a
report or number.

Not detectable: duplicates of messages without an identity, and numbers above the last reported one. A server with
`facilities` or `severity` gets numbers with holes, and no message says so. relay also numbers events of type log, but
most messages of that type carry no number. They are assessed only when the scope names that type. In an unverified run
a forged message can have a missing number.

Ceilings, for verified senders and as much again for unverified ones: `max_intervals` of all runs and types together;
beyond it, the older half of the one with the most holes is counted without names, and no gap explains it. `max_keys`
runs and types; further ones are not assessed, which is a fault unless they are unverified beside a verified sender.
`max_partial` unfinished events; the oldest counts as missing. The reports of `MAX_SENDERS` verified senders are kept
apart; those of further ones count as unverified. `reported_gaps` has its own.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final

from relay.archive.completeness.assessment import Assessment, AssessmentScope, Completeness
from relay.archive.completeness.relay_reports import RunAndType, read_report
from relay.archive.completeness.reported_gaps import summed
from relay.archive.completeness.run_evidence import UNVERIFIED, reporter_word
from relay.archive.completeness.sender_trail import NumberTally, SenderReports
from relay.archive.completeness.spans import Span
from relay.archive.identity import usable
from relay.syslog import rfc5424

MAX_INTERVALS: Final = 262_144
MAX_KEYS: Final = 65_536
MAX_PARTIAL: Final = 65_536
MAX_SENDERS: Final = 64
_LOOK_EVERY: Final = 65_536
"""Numbers between two looks at the count of intervals, which can be exceeded by as many meanwhile."""

DUPLICATE: Final = "duplicate"
MALFORMED: Final = "malformed"

_RELAY: Final = b"relay"

_NAME = rb"[!#-<>-\\^-~]{1,32}"
_PARAM = rb" " + _NAME + rb'="(?:[^"\\\]]++|\\.)*"'
_WELL_FORMED: Final = re.compile(
    rb"<(?:0|[1-9][0-9]{0,2})>1 (?:[!-~]++ ){5}(?:-|(?:\[" + _NAME + rb"(?:" + _PARAM + rb")*\])+)(?: |\Z)", re.DOTALL
)
"""The form of RFC 5424, section 6, without the lengths and values of its fields; parsing takes ten times as long."""

_PartialEvent = tuple[RunAndType, str, int]
"""Run and type, sender, number."""


class NumberTrail:
    """One originator's numbers."""

    def __init__(
        self, *, max_intervals: int = MAX_INTERVALS, max_keys: int = MAX_KEYS, max_partial: int = MAX_PARTIAL
    ) -> None:
        self._max_intervals = max_intervals
        self._max_keys = max_keys
        self._max_partial = max_partial
        self._tallies: dict[RunAndType, dict[str, NumberTally]] = {}
        """By run and type, then by sender."""
        self._held = {True: 0, False: 0}
        """Tallies of verified senders, and of unverified ones."""
        self._partial: dict[bool, dict[_PartialEvent, tuple[int, int]]] = {True: {}, False: {}}
        """Of verified senders, and of unverified ones: parts, and a bitmap of those that are there."""
        self._reports: dict[str, SenderReports] = {}
        self._own_events = 0
        """relay's own events."""
        self._messages = self._numbered = 0
        self._unassessed = {True: 0, False: 0}
        """Numbered messages of verified senders, and of unverified ones, beyond the ceilings."""
        self._looked = 0

    def add(self, message: bytes, sender: str = UNVERIFIED) -> str:
        """Add a message; DUPLICATE or MALFORMED when something is wrong with it, else empty."""
        self._messages += 1
        identity = rfc5424.identity(message)
        if identity is None or not usable(identity.sequence, identity.parts) or not identity.sequence:
            return ""
        run, kind, number, part, parts = identity
        if parts == 1:
            duplicates = self.add_range(run, kind, number, number, sender)
        else:
            duplicates = self.add_part(RunAndType(run, kind), number, part, parts, sender)
        if kind == _RELAY and not duplicates:
            self.add_report(run, message, sender)
        if duplicates:
            return DUPLICATE
        return "" if _WELL_FORMED.match(message) else MALFORMED

    @property
    def counts(self) -> tuple[int, int]:
        """Messages, and those of them that are numbered."""
        return self._messages, self._numbered

    def add_unnumbered(self, messages: int) -> None:
        """Count messages; those with a number are counted by the other methods as well."""
        self._messages += messages

    def add_range(self, run: bytes, kind: bytes, first: int, last: int, sender: str = UNVERIFIED) -> int:
        """Add whole events with these numbers; returns how many of them were there before from the same sender."""
        numbers = last - first + 1
        self._numbered += numbers
        key = RunAndType(run, kind)
        tally = self._tally(key, sender, numbers)
        if tally is None:
            return 0
        partial = self._partial[bool(sender)]
        if first == last:
            partial.pop((key, sender, first), None)
        elif partial:
            for place in [place for place in partial if place[:2] == (key, sender) and first <= place[2] <= last]:
                del partial[place]
        there = sum(min(end, last) - max(begin, first) + 1 for begin, end in tally.numbers.overlapping(first, last))
        tally.numbers.add_all(first, last)
        if there and tally.settled is not None and first <= tally.settled[1]:
            self._unassessed[bool(sender)] += there  # whether they fill a hole or are duplicates is forgotten
            return 0
        return there

    def add_part(self, key: RunAndType, number: int, part: int, parts: int, sender: str = UNVERIFIED) -> int:
        """Add one part of an event; returns 1 when the same sender's was there before.

        Parts of another split are independent.
        """
        self._numbered += 1
        tally = self._tally(key, sender, 1)
        if tally is None:
            return 0
        if number in tally.numbers:
            return 1
        partial, place = self._partial[bool(sender)], (key, sender, number)
        known, there = partial.get(place, (parts, 0))
        if known != parts:
            there = 0
        if there >> part & 1:
            return 1
        there |= 1 << part
        partial[place] = (parts, there)
        if there.bit_count() == parts:
            tally.numbers.add(number)
            del partial[place]
        elif len(partial) > self._max_partial:
            del partial[next(iter(partial))]
        return 0

    def add_removed(self, key: RunAndType, last: int, sender: str = UNVERIFIED) -> None:
        """Numbers up to `last` were in a log that retention removed, so they cannot be assessed any more."""
        tally = self._tally(key, sender, 1)
        if tally is not None:
            tally.numbers.add_all(1, last)

    def add_report(self, run: bytes, message: bytes, sender: str = UNVERIFIED) -> None:
        """Read one of relay's own events, whose number was added and is not a duplicate."""
        found = read_report(message)
        if found is None:
            return
        self._own_events += 1
        reports = self._reports_of(sender)
        for key, number in reports.take(run, rfc5424.hostname(message) or b"", self._own_events, found):
            tally = self._tally(key, sender, 0)
            if tally is not None:
                tally.reported = max(tally.reported, number)

    def _reports_of(self, sender: str) -> SenderReports:
        if sender not in self._reports and len(self._reports) >= MAX_SENDERS:
            sender = UNVERIFIED
        return self._reports.setdefault(sender, SenderReports())

    def _tally(self, key: RunAndType, sender: str, numbers: int) -> NumberTally | None:
        tallies = self._tallies.get(key)
        tally = None if tallies is None else tallies.get(sender)
        if tally is None:
            if self._held[bool(sender)] >= self._max_keys:
                self._unassessed[bool(sender)] += numbers
                return None
            self._held[bool(sender)] += 1
            tally = self._tallies.setdefault(key, {})[sender] = NumberTally()
        self._looked += 1
        if self._looked >= _LOOK_EVERY:
            self._looked = 0
            self._keep_ceiling(is_verified=True)
            self._keep_ceiling(is_verified=False)
        return tally

    def _keep_ceiling(self, *, is_verified: bool) -> None:
        """Forget holes of the tallies that have most of them, of verified senders or of unverified ones."""
        found = (item for by_sender in self._tallies.values() for item in by_sender.items())
        tallies = [tally for sender, tally in found if bool(sender) is is_verified]
        while sum(len(each.numbers) for each in tallies) > self._max_intervals:
            largest = max(tallies, key=lambda each: len(each.numbers))
            if len(largest.numbers) < 2:  # noqa: PLR2004  no hole to forget
                break
            largest.settle()

    def assess(self, known: Mapping[RunAndType, Collection[Span]], scope: AssessmentScope) -> Completeness:
        """Compare; `known`: the numbers that the archive's index has seen of this originator."""
        partial: dict[RunAndType, list[tuple[str, int]]] = {}
        for key, sender, number in (*self._partial[True], *self._partial[False]):
            partial.setdefault(key, []).append((sender, number))
        assessment = Assessment(self._tallies, partial, self._reports, scope)
        assessment.assess(known)
        verified = {sender for sender in self._reports if sender}
        counted = [self._reports[sender] for sender in verified or self._reports]
        newest = max(counted, key=lambda each: each.newest, default=SenderReports())
        gaps = summed([each.gaps.summary() for each in counted])
        runs = {key.run for key, tallies in self._tallies.items() if any(each.numbers for each in tallies.values())}
        return Completeness(
            messages=self._messages,
            numbered=self._numbered,
            unassessed=self._unassessed[True] + (0 if self._held[True] else self._unassessed[False]),
            runs=len(runs),
            reporter=reporter_word(verified, has_reports=bool(self._reports)),
            ignored_reports=self._reports[UNVERIFIED].count if verified and UNVERIFIED in self._reports else 0,
            last_report=max((each.last_report for each in counted if each.last_report is not None), default=None),
            backlog=next(reversed(newest.backlogs.values()), {}),
            before=tuple(assessment.before),
            faults=tuple(assessment.faults),
            explained=tuple(assessment.explained),
            waiting=tuple(assessment.waiting),
            claims=tuple(assessment.claims),
            gaps=gaps._replace(explained=sum(finding.numbers for finding in assessment.explained)),
        )
