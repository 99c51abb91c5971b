"""The gaps that relay reported: what they count, and which missing numbers they explain. Pure.

A gap's range can contain more numbers than the gap counts, because ranges are merged when there are many. So a gap
explains the numbers that are missing in its range only if they are not more than it counts. Gaps of different servers
are never added up.

Ceilings: `MAX_LOST` ranges; further ones explain nothing (`GapSummary.forgotten`). `MAX_CAUSES` causes are
distinguished.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final, NamedTuple

from relay.archive.completeness.relay_reports import GapReport, ReportedLoss, RunAndType
from relay.archive.completeness.spans import Span, without
from relay.archive.identity import Intervals

MAX_LOST: Final = 65_536
MAX_CAUSES: Final = 20


class GapSummary(NamedTuple):
    """All reported gaps, counted."""

    reported: int
    """Gaps; one that was reported twice counts once."""
    events: int
    """Events that they count."""
    unknown: int
    """Gaps without a count."""
    unnamed: int
    """Of `events`, those without a number."""
    explained: int
    """Missing numbers that they explain."""
    forgotten: int
    """Ranges beyond the ceiling."""
    causes: tuple[tuple[str, int], ...]
    """Server and cause → events, the first `MAX_CAUSES`."""


def summed(summaries: Iterable[GapSummary]) -> GapSummary:
    """The gaps of several senders together."""
    whole = GapSummary(0, 0, 0, 0, 0, 0, ())
    causes: dict[str, int] = {}
    for each in summaries:
        whole = GapSummary(
            whole.reported + each.reported,
            whole.events + each.events,
            whole.unknown + each.unknown,
            whole.unnamed + each.unnamed,
            whole.explained + each.explained,
            whole.forgotten + each.forgotten,
            (),
        )
        for cause, events in each.causes:
            causes[cause] = causes.get(cause, 0) + events
    return whole._replace(causes=tuple(causes.items())[:MAX_CAUSES])


class LossAccount(NamedTuple):
    """So many events of this span are reported as lost."""

    first: int
    last: int
    events: int


class ReportedGaps:
    """The gaps of one originator."""

    def __init__(self) -> None:
        self._lost: dict[tuple[str, int | None, bytes, bytes], ReportedLoss] = {}
        self._counted: set[tuple[str, int, bytes]] = set()
        self._causes: dict[str, int] = {}
        self._reported = self._events = self._unknown = self._unnamed = self._forgotten = 0

    def add(self, gap: GapReport) -> None:
        """Add one. A second report with the same server and number is about the same gap, and may count more."""
        for lost in gap.lost:
            place = (gap.server, gap.number, lost.run, lost.type)
            known = self._lost.get(place)
            if known is None and len(self._lost) >= MAX_LOST:
                self._forgotten += 1
            elif known is None or known.events < lost.events:
                self._lost[place] = lost
        if gap.number is not None:
            name = (gap.server, gap.number, gap.lost[0].run if gap.lost else b"")
            if name in self._counted:
                return
            if len(self._counted) < MAX_LOST:
                self._counted.add(name)
        self._reported += 1
        self._events += gap.events or 0
        self._unknown += gap.events is None
        self._unnamed += gap.unnamed
        text = f"{gap.server}: {gap.cause}" if gap.server else gap.cause
        if text in self._causes or len(self._causes) < MAX_CAUSES:
            self._causes[text] = self._causes.get(text, 0) + (gap.events or 0)

    def accounts(self, servers: frozenset[str]) -> dict[RunAndType, list[LossAccount]]:
        """The reported losses by run and type: each server's together with those that concern all servers."""
        found: dict[RunAndType, dict[str, list[LossAccount]]] = {}
        for (server, *_), lost in self._lost.items():
            if not servers or not server or server in servers:
                account = LossAccount(lost.first, lost.last, lost.events)
                found.setdefault(RunAndType(lost.run, lost.type), {}).setdefault(server, []).append(account)
        return {key: list(_of_each(by_server)) for key, by_server in found.items()}

    def summary(self) -> GapSummary:
        """Count all of them; what they explain is not known here."""
        return GapSummary(
            self._reported,
            self._events,
            self._unknown,
            self._unnamed,
            0,
            self._forgotten,
            tuple(self._causes.items()),
        )


def split_by_accounts(missing: list[Span], accounts: list[LossAccount]) -> tuple[list[Span], list[Span]]:
    """Divide the missing numbers into those that no gap explains and those that one explains."""
    if not missing or not accounts:
        return missing, []
    lasts = [last for _, last in missing]
    sums = [0, *accumulate(last - first + 1 for first, last in missing)]

    def up_to(number: int) -> int:
        """How many of the missing are not higher."""
        place = bisect_left(lasts, number)
        return sums[place] + (max(0, number - missing[place][0] + 1) if place < len(missing) else 0)

    good = Intervals()
    for first, last, events in accounts:
        if up_to(last) - up_to(first - 1) <= events:
            good.add_all(first, last)
    left = list(without(missing, good))
    return left, list(without(missing, left))


def _of_each(by_server: Mapping[str, list[LossAccount]]) -> Iterator[LossAccount]:
    of_all = by_server.get("", [])
    for server in sorted(by_server.keys() - {""}) or [""]:
        last: LossAccount | None = None  # accounts that overlap become one
        for account in sorted(of_all + by_server[server] if server else of_all):
            if last is not None and account.first <= last.last:
                last = LossAccount(last.first, max(last.last, account.last), last.events + account.events)
                continue
            if last is not None:
                yield last
            last = account
        if last is not None:
            yield last
