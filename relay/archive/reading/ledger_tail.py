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


class ExtentOfDay(NamedTuple):
    """An extent, and the day whose log it describes."""

    extent: Extent
    day: DayFiles


class LedgerTail(NamedTuple):
    """The newest of an originator."""

    newest: ExtentOfDay | None = None
    own: ExtentOfDay | None = None
    """The newest extent with an event of relay's own."""
    lags: tuple[int, ...] = ()
    """Receipt minus event time of the newest extents, in microseconds, the newest first."""
    missing: int = 0
    """Numbers between those of the newest extents that no extent has."""


def read_tail(disk: Disk, folder: OriginatorFolder) -> LedgerTail:
    """Read the end of an originator's ledgers; a ledger that cannot be read is passed over."""
    newest: ExtentOfDay | None = None
    own: ExtentOfDay | None = None
    lags: list[int] = []
    missing = 0
    for day in reversed([day for day in days_of(disk, folder) if day.ledger][-MOST_DAYS:]):
        extents: list[Extent] = []
        octets = 0
        with suppress(NoInputError, StorageError):
            for piece in LedgerReader(f"{folder.path}/{day.ledger}").pieces_backward():
                if newest is None:
                    extents += itertools.islice(piece.extents_backward(), MOST_LAGS - len(extents))
                if own is None and (found := _newest_own(piece.octets)) is not None:
                    own = ExtentOfDay(found, day)
                octets += len(piece.octets)
                if own is not None or octets >= LONGEST_TAIL:
                    break
        if newest is None and extents:
            newest, missing = ExtentOfDay(extents[0], day), _missing(extents)
            lags = [extent.at[1] - extent.time[1] for extent in extents if extent.time is not None]
        if newest is not None and own is not None:
            break
    return LedgerTail(newest, own, tuple(lags), missing)


def _newest_own(octets: bytes) -> Extent | None:
    """The last extent of whole lines that has an event of relay's own; only lines with its type are decoded."""
    end = len(octets)
    while (at := octets.rfind(_OWN, 0, end)) >= 0:
        end = octets.rfind(b"\n", 0, at) + 1
        with suppress(LedgerError):
            extent = decode(octets[end : octets.find(b"\n", at)])
            if isinstance(extent, Extent) and any(kind == OWN_TYPE for _, kind, *_ in extent.id):
                return extent
    return None


def _missing(newest_first: list[Extent]) -> int:
    """Count the numbers that no extent has between those that some have."""
    ranges: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for extent in newest_first:
        for run, kind, first, last, *_ in extent.id:
            ranges.setdefault((run, kind), []).append((first, last))
    missing = 0
    for found in ranges.values():
        found.sort()
        reached = found[0][0] - 1
        for first, last in found:
            missing += max(first - reached - 1, 0)
            reached = max(reached, last)
    return missing
