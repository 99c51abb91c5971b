"""What one originator's archived messages prove of their completeness: messages in, findings out. Pure.

    trail = Trail()
    trail.add(message)                 # each, in the order of the files; what is wrong with this one, if anything
    judgement = trail.judge(known, terms)

In each run relay counts the events of each type from 1 without a hole, so a number that is not there is an event that
is not there. `judge` says of each run and type:

- `missing`: numbers that are not there although higher ones are, or although a heartbeat or the opening of the next run
  tells of them;
- `scattered`: missing numbers in more holes than are kept;
- `gone`: numbers that the archive's own index has seen, and that are in no file any more;
- `unfinished`: events of which only some parts came (`relayPart`); the last one of all may still be on its way;
- `run missing`: of a run between two others, as openings tell, there is nothing at all, and gaps do not account for
  all of it.

No faults, but told: numbers that a gap event accounts for, and `waiting`: what a heartbeat tells of and may still be
on its way. What persists arrives in order with the events of type relay, so a heartbeat proves that all before it
should be there. What does not persist comes after them, and waits as long as the newest heartbeat says that anything
does. Which types persist no message tells; some always do (`judgement`).

What cannot be seen: an octet that was changed inside a message (unless it breaks its form), doubles of messages without
an identity, and numbers above the last that anybody told of. What was chosen by priority looks as if it were missing: a
server with `facilities` or `severity` gets numbers with holes, and nothing in the messages tells that. Events of type
log are counted by relay, but most carry no number: they are judged only where `terms` name that type.

Ceilings, and what happens at them: `max_intervals` of all runs and types together: of the one that has the most holes
the older half are counted without being named, and no gap accounts for them; `max_keys` runs and types: further ones
are not judged (`unjudged`); `max_partial` unfinished events: the oldest counts as missing; those of `gap_ledger`.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final

from relay.archive.completeness.gap_ledger import GapLedger
from relay.archive.completeness.judgement import Judgement, JudgementScope, NumberTally, OpenJudgement, RunTally
from relay.archive.completeness.spans import Span
from relay.archive.completeness.testimony import GapTold, Heartbeat, Opening, RunAndType, read
from relay.archive.identity import usable
from relay.syslog import rfc5424

MAX_INTERVALS: Final = 262_144
MAX_KEYS: Final = 65_536
MAX_PARTIAL: Final = 65_536
_LOOK_EVERY: Final = 65_536
"""Messages between two looks at the number of intervals, which may be exceeded by so many meanwhile."""

DOUBLE: Final = "double"
MALFORMED: Final = "malformed"

_RELAY: Final = b"relay"

_NAME = rb"[!#-<>-\\^-~]{1,32}"
_PARAM = rb" " + _NAME + rb'="(?:[^"\\\]]++|\\.)*+"'
_WELL_FORMED: Final = re.compile(
    rb"<(?:0|[1-9][0-9]{0,2})>1 (?:[!-~]++ ){5}(?:-|(?:\[" + _NAME + rb"(?:" + _PARAM + rb")*\])+)(?: |\Z)", re.DOTALL
)
"""The form of RFC 5424, section 6, without its field's lengths and values: a tenth of the time that parsing takes."""


class MessageTrail:
    """One originator's messages."""

    def __init__(
        self, *, max_intervals: int = MAX_INTERVALS, max_keys: int = MAX_KEYS, max_partial: int = MAX_PARTIAL
    ) -> None:
        self._max_intervals = max_intervals
        self._max_keys = max_keys
        self._max_partial = max_partial
        self._counts: dict[RunAndType, NumberTally] = {}
        self._partial: dict[tuple[RunAndType, int], tuple[int, int]] = {}  # → parts, bitmap of those that came
        self._runs: dict[bytes, RunTally] = {}
        self._own = 0
        """relay's own events."""
        self._messages = self._numbered = self._unstructured = self._unjudged = 0
        self._heard: int | None = None
        self._backlogs: dict[bytes, Mapping[str, int]] = {}
        """Host → what waited at its newest heartbeat; the newest of all stands last."""
        self._gaps = GapLedger()

    def add(self, message: bytes) -> str:
        """Take the next message; `DOUBLE` or `MALFORMED` when something is wrong with it, else nothing."""
        self._messages += 1
        well_formed = _WELL_FORMED.match(message) is not None
        identity = rfc5424.identity(message)
        if identity is None or not usable(identity.sequence, identity.parts) or not identity.sequence:
            self._unstructured += not well_formed
            return ""
        self._numbered += 1
        run, kind, number, part, parts = identity
        key = RunAndType(run, kind)
        count = self._counts.get(key) or self._new(key)
        if count is None:
            self._unjudged += 1
            return ""
        if not self._numbered % _LOOK_EVERY:
            self._settle()
        new = count.numbers.add(number) if parts == 1 else self._add_part(key, count, number, part, parts)
        if parts == 1 and self._partial:
            self._partial.pop((key, number), None)
        if kind == _RELAY and new:
            self._hear(run, message)
        if new:
            return "" if well_formed else MALFORMED
        if count.settled is None or number > count.settled[1]:
            return DOUBLE
        self._unjudged += 1  # whether it fills a hole there or stands there twice is forgotten
        return ""

    def _new(self, key: RunAndType) -> NumberTally | None:
        if len(self._counts) >= self._max_keys:
            return None
        count = self._counts[key] = NumberTally()
        return count

    def _settle(self) -> None:
        while sum(len(count.numbers) for count in self._counts.values()) > self._max_intervals:
            largest = max(self._counts.values(), key=lambda count: len(count.numbers))
            if len(largest.numbers) < 2:  # noqa: PLR2004  no hole to forget
                return
            largest.settle()

    def _add_part(self, key: RunAndType, count: NumberTally, number: int, part: int, parts: int) -> bool:
        """As `identity.Seen` takes parts: those of another cut say nothing about these."""
        if number in count.numbers:
            return False
        known, came = self._partial.get((key, number), (parts, 0))
        if known != parts:
            came = 0
        if came >> part & 1:
            return False
        came |= 1 << part
        self._partial[key, number] = (parts, came)
        if came.bit_count() == parts:
            count.numbers.add(number)
            del self._partial[key, number]
        elif len(self._partial) > self._max_partial:
            del self._partial[next(iter(self._partial))]
        return True

    # --- What relay itself says ---

    def _hear(self, run: bytes, message: bytes) -> None:
        heard = read(message)
        if heard is None:
            return
        self._own += 1
        known = self._runs.setdefault(run, RunTally(rfc5424.hostname(message) or b"", self._own))
        known.ended = self._own
        if heard.time is not None:
            self._heard = max(self._heard or heard.time, heard.time)
        match heard.said:
            case Opening(previous, last) if previous:
                known.previous = previous
                self._tell(previous, last)
            case Heartbeat(last, backlog):
                self._backlogs.pop(known.host, None)
                self._backlogs[known.host] = backlog
                self._tell(run, last)
            case GapTold():
                self._gaps.add(heard.said)

    def _tell(self, run: bytes, last: Mapping[bytes, int]) -> None:
        """Note the last numbers of a run."""
        for kind, number in last.items():
            key = RunAndType(run, kind)
            count = self._counts.get(key)
            if count is None:
                count = self._new(key)
            if count is not None:
                count.told = max(count.told, number)

    # --- Judging ---

    def judge(self, known: Mapping[RunAndType, Collection[Span]], terms: JudgementScope) -> Judgement:
        """Judge what is there; `known`: the numbers that the archive's index has seen of this originator."""
        bench = OpenJudgement(self._counts, self._runs, terms)
        bench.gaps = self._gaps.accounts(terms.servers)
        bench.backlogs = self._backlogs
        for key, number in self._partial:
            bench.partial.setdefault(key, []).append(number)
        bench.judge(known)
        return Judgement(
            self._messages,
            self._numbered,
            self._unstructured,
            self._unjudged,
            len({key.run for key, count in self._counts.items() if count.numbers}),
            self._heard,
            next(reversed(self._backlogs.values()), {}),
            tuple(bench.before),
            tuple(bench.faults),
            tuple(bench.explained),
            tuple(bench.on_their_way),
            self._gaps.gaps(sum(finding.numbers for finding in bench.explained)),
        )
