"""What the end of an originator's newest ledgers says about it: cheap, so that thousands can be asked.

Only the last octets of a ledger are read. They have the last message's receipt and sender, and the last extent with an
event of relay's own, which comes once a minute. Where an originator was quiet for a day, the day before is read too.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from relay.archive.layout import DayFiles
from relay.archive.ledger import Extent, LedgerError, decode
from relay.archive.reading.originators import OriginatorFolder, days_of
from relay.errors import NoInputError, StorageError
from relay.system.disk import Disk, storage_error

TAIL: Final = 64 * 1024
LONGEST_TAIL: Final = 1024 * 1024
"""Read when the shorter tail has no event of relay's own."""
MOST_DAYS: Final = 3
"""With a ledger; older ones are not read."""
MOST_LAGS: Final = 8
OWN_TYPE: Final = "relay"
_OWN: Final = b'"relay",'
_EXTENT: Final = b'{"at":['


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
    days = [day for day in days_of(disk, folder) if day.ledger][-MOST_DAYS:]
    found = LedgerTail()
    for day in reversed(days):
        path = f"{folder.path}/{day.ledger}"
        with suppress(NoInputError, StorageError):
            octets, is_whole = _end_of(path, TAIL)
            if not is_whole and _OWN not in octets:
                longer, _ = _end_of(path, LONGEST_TAIL)
                octets = longer if _OWN in longer else octets
            found = _with_day(found, day, octets)
        if found.newest is not None and found.own is not None:
            break
    return found


def _end_of(path: str, length: int) -> tuple[bytes, bool]:
    """The whole lines among the last octets of a file, and whether these octets are the whole file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise NoInputError(path, f"cannot be read: {error.strerror}", "check the path and its mode") from error
    try:
        start = max(os.fstat(descriptor).st_size - length, 0)
        octets = os.pread(descriptor, length, start)
    except OSError as error:
        raise storage_error(path, "read", error) from error
    finally:
        os.close(descriptor)
    begin = octets.find(b"\n") + 1 if start else 0
    return octets[begin : octets.rfind(b"\n") + 1], not start


def _with_day(found: LedgerTail, day: DayFiles, octets: bytes) -> LedgerTail:
    newest, own, lags = found.newest, found.own, list(found.lags)
    if newest is None:
        extents = [extent for _, extent in zip(range(MOST_LAGS), _extents_backward(octets), strict=False)]
        if extents:
            newest = ExtentOfDay(extents[0], day)
            lags += [extent.at[1] - extent.time[1] for extent in extents if extent.time is not None]
            found = found._replace(missing=_missing(extents))
    if own is None and (at := octets.rfind(_OWN)) >= 0:
        for extent in _extents_backward(octets[: octets.find(b"\n", at) + 1]):
            if any(each[1] == OWN_TYPE for each in extent.id):
                own = ExtentOfDay(extent, day)
                break
    return found._replace(newest=newest, own=own, lags=tuple(lags))


def _extents_backward(octets: bytes) -> Iterator[Extent]:
    """The extents of whole lines, the last first; lines that are damaged are passed over."""
    end = len(octets)
    while end > 0:
        begin = octets.rfind(b"\n", 0, end - 1) + 1
        line, end = octets[begin:end], begin
        if line.startswith(_EXTENT):
            with suppress(LedgerError):
                extent = decode(line)
                if isinstance(extent, Extent):
                    yield extent


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
