"""The gaps that relay itself told: what they count, and for which missing numbers they account. Pure.

A gap's range may name fewer events than lie in it, since ranges grow together. It accounts for what is missing there
when that is no more than it counts; when it is more, for none of it. Gaps of different servers never add up.

Ceilings: `MAX_LOST` ranges; further ones account for nothing (`GapRecords.forgotten`). `MAX_CAUSES` causes are told
apart.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final, NamedTuple

from relay.archive.completeness.spans import Span, without
from relay.archive.completeness.testimony import GapTold, ReportedLoss, RunAndType
from relay.archive.identity import Intervals

MAX_LOST: Final = 65_536
MAX_CAUSES: Final = 20


class GapRecords(NamedTuple):
    """What relay itself told as lost."""

    told: int
    """Gap events, each counted once."""
    events: int
    """Events that they count."""
    unknown: int
    """Gap events that could not count."""
    unnamed: int
    """Of `events`, those without a number."""
    explained: int
    """Numbers that are not there, and that they account for."""
    forgotten: int
    """Ranges beyond the ceiling."""
    causes: tuple[tuple[str, int], ...]
    """Whose and why → events, the first `MAX_CAUSES`."""


class LossAccount(NamedTuple):
    """So many events of this span are told as lost."""

    first: int
    last: int
    events: int


class GapLedger:
    """The gap events."""

    def __init__(self) -> None:
        self._lost: dict[tuple[str, int | None, bytes, bytes], ReportedLoss] = {}
        self._counted: set[tuple[str, int, bytes]] = set()
        self._causes: dict[str, int] = {}
        self._told = self._events = self._unknown = self._unnamed = self._forgotten = 0

    def add(self, told: GapTold) -> None:
        """Take one; a second with the same server and number tells of the same gap, and perhaps of more."""
        for lost in told.lost:
            place = (told.server, told.number, lost.run, lost.type)
            known = self._lost.get(place)
            if known is None and len(self._lost) >= MAX_LOST:
                self._forgotten += 1
            elif known is None or known.events < lost.events:
                self._lost[place] = lost
        self._count(told)

    def _count(self, told: GapTold) -> None:
        if told.number is not None:
            name = (told.server, told.number, told.lost[0].run if told.lost else b"")
            if name in self._counted:
                return
            if len(self._counted) < MAX_LOST:
                self._counted.add(name)
        self._told += 1
        self._events += told.events or 0
        self._unknown += told.events is None
        self._unnamed += told.unnamed
        self._cause(told, told.events or 0)

    def _cause(self, told: GapTold, events: int) -> None:
        text = f"{told.server}: {told.cause}" if told.server else told.cause
        if text in self._causes or len(self._causes) < MAX_CAUSES:
            self._causes[text] = self._causes.get(text, 0) + events

    def accounts(self, servers: frozenset[str]) -> dict[RunAndType, list[LossAccount]]:
        """What is told as lost, for each run and type; of each server together with what nobody got."""
        found: dict[RunAndType, dict[str, list[LossAccount]]] = {}
        for (server, *_), lost in self._lost.items():
            if not servers or not server or server in servers:
                account = LossAccount(lost.first, lost.last, lost.events)
                found.setdefault(RunAndType(lost.run, lost.type), {}).setdefault(server, []).append(account)
        return {key: list(_of_each(by_server)) for key, by_server in found.items()}

    def gaps(self, explained: int) -> GapRecords:
        """All of it, counted."""
        return GapRecords(
            self._told,
            self._events,
            self._unknown,
            self._unnamed,
            explained,
            self._forgotten,
            tuple(self._causes.items()),
        )


def accounted(missing: list[Span], accounts: list[LossAccount]) -> tuple[list[Span], list[Span]]:
    """Part the missing into those without and those with an account."""
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
    nobodys = by_server.get("", [])
    for server in sorted(by_server.keys() - {""}) or [""]:
        yield from _grown_together(sorted(nobodys + by_server[server] if server else nobodys))


def _grown_together(accounts: Iterable[LossAccount]) -> Iterator[LossAccount]:
    """Accounts that overlap as one."""
    last: LossAccount | None = None
    for account in accounts:
        if last is not None and account.first <= last.last:
            last = LossAccount(last.first, max(last.last, account.last), last.events + account.events)
            continue
        if last is not None:
            yield last
        last = account
    if last is not None:
        yield last
