"""The numbers of one originator's events in the order of its archive, and what they prove. Pure.

    trail = NumberTrail()
    trail.add_range(b"5f", b"audit", 1, 20)     # as a ledger's `id` has them
    trail.add_report(b"5f", message)            # an event of type relay
    completeness = trail.assess(known, scope)

Where a log has no ledger, `add` takes each message.

In each run relay numbers the events of each type from 1 without a hole. So a missing number is a missing event. For
each run and type, `assess` finds:

- `missing`: numbers that are not in the archive although higher ones are, or although a heartbeat or the opening of the
  next run reports them;
- `scattered`: missing numbers in more holes than are kept;
- `gone`: numbers that the archive's own index has seen, and that no ledger or log has any more;
- `unfinished`: events of which only some parts are there (`relayPart`); the last event of all may still arrive;
- `run missing`: a run between two others, as openings report, left no event at all, and gaps do not explain all of it.

Two findings are not faults. `reported lost`: a gap explains the missing numbers. `waiting`: a heartbeat reports
numbers that may still arrive. Events of persistent types arrive in order with the events of type relay, so a heartbeat
proves that everything before it should be in the archive. Events of other types arrive after them, as long as the
newest heartbeat reports a backlog. Messages do not show which types are persistent; some always are (`assessment`).

Not detectable: duplicates of messages without an identity, and numbers above the last reported one. A server with
`facilities` or `severity` gets numbers with holes, and no message says so. relay also numbers events of type log, but
most messages of that type carry no number. They are assessed only when the scope names that type.

Ceilings: `max_intervals` of all runs and types together; beyond it, the older half of the one with the most holes is
counted without names, and no gap explains it. `max_keys` runs and types; further ones are not assessed. `max_partial`
unfinished events; the oldest counts as missing. `reported_gaps` has its own.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final

from relay.archive.completeness.assessment import Assessment, AssessmentScope, Completeness, NumberTally, RunTally
from relay.archive.completeness.relay_reports import GapReport, Heartbeat, Opening, RunAndType, read_report
from relay.archive.completeness.reported_gaps import ReportedGaps
from relay.archive.completeness.spans import Span
from relay.archive.identity import usable
from relay.syslog import rfc5424

MAX_INTERVALS: Final = 262_144
MAX_KEYS: Final = 65_536
MAX_PARTIAL: Final = 65_536
_LOOK_EVERY: Final = 65_536
"""Numbers between two looks at the count of intervals, which can be exceeded by as many meanwhile."""

DUPLICATE: Final = "duplicate"
MALFORMED: Final = "malformed"

_RELAY: Final = b"relay"

_NAME = rb"[!#-<>-\\^-~]{1,32}"
_PARAM = rb" " + _NAME + rb'="(?:[^"\\\]]++|\\.)*+"'
_WELL_FORMED: Final = re.compile(
    rb"<(?:0|[1-9][0-9]{0,2})>1 (?:[!-~]++ ){5}(?:-|(?:\[" + _NAME + rb"(?:" + _PARAM + rb")*\])+)(?: |\Z)", re.DOTALL
)
"""The form of RFC 5424, section 6, without the lengths and values of its fields; parsing takes ten times as long."""


class NumberTrail:
    """One originator's numbers."""

    def __init__(
        self, *, max_intervals: int = MAX_INTERVALS, max_keys: int = MAX_KEYS, max_partial: int = MAX_PARTIAL
    ) -> None:
        self._max_intervals = max_intervals
        self._max_keys = max_keys
        self._max_partial = max_partial
        self._counts: dict[RunAndType, NumberTally] = {}
        self._partial: dict[tuple[RunAndType, int], tuple[int, int]] = {}  # → parts, bitmap of those that are there
        self._runs: dict[bytes, RunTally] = {}
        self._reports = 0
        """relay's own events."""
        self._messages = self._numbered = self._unassessed = 0
        self._looked = 0
        self._last_report: int | None = None
        self._backlogs: dict[bytes, Mapping[str, int]] = {}
        """Host → what waited at its newest heartbeat; the newest of all is the last."""
        self._gaps = ReportedGaps()

    def add(self, message: bytes) -> str:
        """Add a message; DUPLICATE or MALFORMED when something is wrong with it, else empty."""
        self._messages += 1
        identity = rfc5424.identity(message)
        if identity is None or not usable(identity.sequence, identity.parts) or not identity.sequence:
            return ""
        run, kind, number, part, parts = identity
        if parts == 1:
            duplicates = self.add_range(run, kind, number, number)
        else:
            duplicates = self.add_part(RunAndType(run, kind), number, part, parts)
        if kind == _RELAY and not duplicates:
            self.add_report(run, message)
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

    def add_range(self, run: bytes, kind: bytes, first: int, last: int) -> int:
        """Add whole events with these numbers; returns how many of them were there before."""
        numbers = last - first + 1
        self._numbered += numbers
        key = RunAndType(run, kind)
        count = self._tally(key, numbers)
        if count is None:
            return 0
        if first == last:
            self._partial.pop((key, first), None)
        elif self._partial:
            for place in [place for place in self._partial if place[0] == key and first <= place[1] <= last]:
                del self._partial[place]
        if first == last:
            there = int(not count.numbers.add(first))
        else:
            there = sum(min(end, last) - max(begin, first) + 1 for begin, end in count.numbers.overlapping(first, last))
            count.numbers.add_all(first, last)
        if there and count.settled is not None and first <= count.settled[1]:
            self._unassessed += there  # whether they fill a hole or are duplicates is forgotten
            return 0
        return there

    def add_part(self, key: RunAndType, number: int, part: int, parts: int) -> int:
        """Add one part of an event; returns 1 when it was there before. Parts of another split are independent."""
        self._numbered += 1
        count = self._tally(key, 1)
        if count is None:
            return 0
        if number in count.numbers:
            return 1
        known, there = self._partial.get((key, number), (parts, 0))
        if known != parts:
            there = 0
        if there >> part & 1:
            return 1
        there |= 1 << part
        self._partial[key, number] = (parts, there)
        if there.bit_count() == parts:
            count.numbers.add(number)
            del self._partial[key, number]
        elif len(self._partial) > self._max_partial:
            del self._partial[next(iter(self._partial))]
        return 0

    def add_removed(self, key: RunAndType, last: int) -> None:
        """Numbers up to `last` were in a log that retention removed, so they cannot be assessed any more."""
        count = self._tally(key, 1)
        if count is not None:
            count.numbers.add_all(1, last)

    def add_report(self, run: bytes, message: bytes) -> None:
        """Read one of relay's own events, whose number was added and is not a duplicate."""
        found = read_report(message)
        if found is None:
            return
        self._reports += 1
        known = self._runs.setdefault(run, RunTally(rfc5424.hostname(message) or b"", self._reports))
        known.ended = self._reports
        if found.time is not None:
            self._last_report = max(self._last_report or found.time, found.time)
        match found.report:
            case Opening(previous, last) if previous:
                known.previous = previous
                self._note_reported(previous, last)
            case Heartbeat(last, backlog):
                self._backlogs.pop(known.host, None)
                self._backlogs[known.host] = backlog
                self._note_reported(run, last)
            case GapReport() as gap:
                self._gaps.add(gap)

    def _tally(self, key: RunAndType, numbers: int) -> NumberTally | None:
        count = self._counts.get(key)
        if count is None:
            if len(self._counts) >= self._max_keys:
                self._unassessed += numbers
                return None
            count = self._counts[key] = NumberTally()
        self._looked += 1
        if self._looked >= _LOOK_EVERY:
            self._looked = 0
            while sum(len(each.numbers) for each in self._counts.values()) > self._max_intervals:
                largest = max(self._counts.values(), key=lambda each: len(each.numbers))
                if len(largest.numbers) < 2:  # noqa: PLR2004  no hole to forget
                    break
                largest.settle()
        return count

    def _note_reported(self, run: bytes, last: Mapping[bytes, int]) -> None:
        """Note the last numbers of a run."""
        for kind, number in last.items():
            count = self._tally(RunAndType(run, kind), 0)
            if count is not None:
                count.reported = max(count.reported, number)

    def assess(self, known: Mapping[RunAndType, Collection[Span]], scope: AssessmentScope) -> Completeness:
        """Compare; `known`: the numbers that the archive's index has seen of this originator."""
        assessment = Assessment(self._counts, self._runs, scope)
        assessment.gaps = self._gaps.accounts(scope.servers)
        assessment.backlogs = self._backlogs
        for key, number in self._partial:
            assessment.partial.setdefault(key, []).append(number)
        assessment.assess(known)
        return Completeness(
            self._messages,
            self._numbered,
            self._unassessed,
            len({key.run for key, count in self._counts.items() if count.numbers}),
            self._last_report,
            next(reversed(self._backlogs.values()), {}),
            tuple(assessment.before),
            tuple(assessment.faults),
            tuple(assessment.explained),
            tuple(assessment.waiting),
            self._gaps.summary(sum(finding.numbers for finding in assessment.explained)),
        )
