"""What the end of an originator's newest ledgers says about it: cheap, so that thousands can be asked.

Only the last octets of a ledger are read. They have the last message's receipt and sender, and the last extent with an
event of relay's own, which comes once a minute. Where an originator was quiet for a day, the day before is read too.
"""

import itertools
from contextlib import suppress
from typing import Final, NamedTuple

from relay.archive.layout import DayFiles
from relay.archive.ledger import Extent, LedgerError, decode
from relay.archive.ledgers.ledger_reader import LedgerReader
from relay.archive.reading.originators import OriginatorFolder, days_of
from relay.errors import NoInputError, StorageError
from relay.system.disk import Disk

LONGEST_TAIL: Final = 1024 * 1024
"""Not more octets of a ledger are read for an event of relay's own."""
MOST_DAYS: Final = 3
"""With a ledger; older ones are not read."""
MOST_LAGS: Final = 8
OWN_TYPE: Final = "relay"
_OWN: Final = b'"relay",'
_FROM, _OFF = b',"from":', b',"off":'


class ExtentOfDay(NamedTuple):
    """An extent, and the day whose log it describes."""

    extent: Extent
    day: DayFiles


class LedgerTail(NamedTuple):
    """The newest of an originator."""

    newest: ExtentOfDay | None = None
    own: tuple[ExtentOfDay, ...] = ()
    """The newest extents with an event of relay's own, one for each verified identity, peer and listener, the newest
    first: as many as there are in the octets that were read for one."""
    lags: tuple[int, ...] = ()
    """Receipt minus event time of the newest extents, in microseconds, the newest first."""
    missing: int = 0
    """Numbers between those of one sender in the newest extents that no extent of it has."""


def read_tail(disk: Disk, folder: OriginatorFolder) -> LedgerTail:
    """Read the end of an originator's ledgers; a ledger that cannot be read is passed over."""
    newest: ExtentOfDay | None = None
    own: tuple[ExtentOfDay, ...] = ()
    lags: list[int] = []
    missing = 0
    for day in reversed([day for day in days_of(disk, folder) if day.ledger][-MOST_DAYS:]):
        extents: list[Extent] = []
        octets = 0
        with suppress(NoInputError, StorageError):
            for piece in LedgerReader(f"{folder.path}/{day.ledger}").pieces_backward():
                if newest is None:
                    extents += itertools.islice(piece.extents_backward(), MOST_LAGS - len(extents))
                own = own or tuple(ExtentOfDay(extent, day) for extent in _newest_own(piece.octets))
                octets += len(piece.octets)
                if own or octets >= LONGEST_TAIL:
                    break
        if newest is None and extents:
            newest, missing = ExtentOfDay(extents[0], day), _missing(extents)
            lags = [extent.at[1] - extent.time[1] for extent in extents if extent.time is not None]
        if newest is not None and own:
            break
    return LedgerTail(newest, own, tuple(lags), missing)


def _newest_own(octets: bytes) -> list[Extent]:
    """The last extents of whole lines that have an event of relay's own, by sender; only their lines are decoded."""
    end = len(octets)
    found: dict[bytes, Extent] = {}
    while (at := octets.rfind(_OWN, 0, end)) >= 0:
        end = octets.rfind(b"\n", 0, at) + 1
        line = octets[end : octets.find(b"\n", at)]
        sender = line[line.find(_FROM) : line.find(_OFF)]
        if sender in found:
            continue
        with suppress(LedgerError):
            extent = decode(line)
            if isinstance(extent, Extent) and any(kind == OWN_TYPE for _, kind, *_ in extent.id):
                found[sender] = extent
    return list(found.values())


def _missing(newest_first: list[Extent]) -> int:
    """Count the numbers that no extent has between those that some have."""
    ranges: dict[tuple[str | None, str, str], list[tuple[int, int]]] = {}
    for extent in newest_first:
        for run, kind, first, last, *_ in extent.id:
            ranges.setdefault((extent.identity, run, kind), []).append((first, last))
    missing = 0
    for found in ranges.values():
        found.sort()
        reached = found[0][0] - 1
        for first, last in found:
            missing += max(first - reached - 1, 0)
            reached = max(reached, last)
    return missing
