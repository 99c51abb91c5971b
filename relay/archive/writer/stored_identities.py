"""Where an originator's stored identities lie: which extent of which day has a number. Built from ledgers.

Memory: four integers an entry; at most `MAX_LEDGERS` ledgers of at most `MAX_ENTRIES` identities are kept at a time.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.archive import layout
from relay.archive.layout import DayFiles
from relay.archive.ledger import Extent, LedgerError, Removal, decode
from relay.errors import StorageError
from relay.syslog.rfc5424 import Identity
from relay.system.disk import Disk

MAX_LEDGERS: Final = 4
MAX_ENTRIES: Final = 500_000
MOST_DAYS: Final = 400
"""Ledgers that one search looks into."""
_CHUNK: Final = 1024 * 1024
_OVERLAPPING: Final = 16
"""Ranges of one run and type in one ledger may overlap, because repetitions that differ are stored too."""


class StoredPlace(NamedTuple):
    """An extent that lists an identity."""

    folder: str
    """Below the archive."""
    day: DayFiles
    off: int
    len: int
    sender: tuple[str, str | None]
    """Its address and its verified identity."""
    split: bool
    """The identity is listed as a part of another split, or as a whole where a part was asked for, or the reverse."""
    removed: bool
    """Retention has deleted the log."""


class _Ranges:
    """The extents of one run and type in one ledger."""

    __slots__ = ("firsts", "lasts", "order", "parts")

    def __init__(self) -> None:
        self.firsts = array("q")
        self.lasts = array("q")
        self.order = array("q")
        """Index of the extent."""
        self.parts: dict[int, tuple[int, int]] = {}
        """Index of the range → part and parts."""

    def ranges_with(self, number: int) -> Iterator[int]:
        """Indexes of the ranges that have a number, the newest first as far as they rise."""
        at = bisect_right(self.firsts, number) - 1
        for index in range(at, max(at - _OVERLAPPING, -1), -1):
            if number <= self.lasts[index]:
                yield index

    def add(self, first: int, last: int, extent: int, parts: tuple[int, int] | None) -> None:
        at = len(self.firsts)
        if at and first < self.firsts[-1]:  # a repetition, or another sender's: rare
            at = bisect_right(self.firsts, first)
            self.parts = {index + (index >= at): value for index, value in self.parts.items()}
        self.firsts.insert(at, first)
        self.lasts.insert(at, last)
        self.order.insert(at, extent)
        if parts is not None:
            self.parts[at] = parts


class _LedgerIndex:
    """One ledger's identities, as far as it is read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.removed = False
        self._reached = 0
        self._entries = 0
        self._ranges: dict[tuple[str, str], _Ranges] = {}
        self._offs = array("q")
        self._lens = array("q")
        self._senders: dict[tuple[str, str | None], int] = {}
        self._sender_of = array("q")

    def read_on(self, disk: Disk) -> int:
        """Read what was added; how many octets."""
        before = self._reached
        with disk.open(self.path, writable=False) as file:
            rest = b""
            while chunk := file.read(_CHUNK, self._reached + len(rest)):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._reached += len(line) + 1
                    self._take(line)
        return self._reached - before

    def _take(self, line: bytes) -> None:
        try:
            found = decode(line)
        except LedgerError:
            return
        if isinstance(found, Removal):
            self.removed = True
        if not isinstance(found, Extent) or not found.id or self._entries > MAX_ENTRIES:
            return
        extent = len(self._offs)
        self._offs.append(found.off)
        self._lens.append(found.len)
        sender = (found.sender, found.identity)
        self._sender_of.append(self._senders.setdefault(sender, len(self._senders)))
        for run, kind, first, last, *parts in found.id:
            ranges = self._ranges.get((run, kind))
            if ranges is None:
                ranges = self._ranges[run, kind] = _Ranges()
            ranges.add(first, last, extent, (parts[0], parts[1]) if parts else None)
            self._entries += 1

    def places(self, folder: str, day: DayFiles, identity: Identity) -> Iterator[StoredPlace]:
        """The extents that list an identity or another split of its number."""
        run, kind, number, part, parts = identity
        ranges = self._ranges.get((run.decode(), kind.decode()))
        if ranges is None:
            return
        senders = tuple(self._senders)
        for index in ranges.ranges_with(number):
            extent = ranges.order[index]
            split = ranges.parts.get(index, (1, 1)) != (part, parts)
            sender = senders[self._sender_of[extent]]
            yield StoredPlace(folder, day, self._offs[extent], self._lens[extent], sender, split, self.removed)


class StoredIdentities:
    """Finds identities in the ledgers of an archive."""

    def __init__(self, disk: Disk, archive: str) -> None:
        self._disk = disk
        self._archive = archive
        self._indexes: dict[str, _LedgerIndex] = {}
        self.octets_read = 0
        """Of ledgers, in all; a caller that has a budget looks at it before and after."""

    def find(self, folders: tuple[str, ...], identity: Identity, most: float) -> Iterator[StoredPlace]:
        """The places of an identity: first in the ledgers that are known, then in the newest ledgers.

        It ends after `most` octets of ledgers.
        """
        looked: set[str] = set()
        end = self.octets_read + most
        for folder in folders:
            days = [day for day in self._days(folder) if day.ledger]
            known = [day for day in days if f"{folder}/{day.ledger}" in self._indexes]
            for day in (*known, *reversed(days[-MOST_DAYS:])):
                path = f"{folder}/{day.ledger}"
                if path not in looked and self.octets_read < end:
                    looked.add(path)
                    yield from self._index(path).places(folder, day, identity)

    def _days(self, folder: str) -> list[DayFiles]:
        try:
            return layout.days_in(self._disk.names(f"{self._archive}/{folder}"))
        except StorageError:
            return []

    def _index(self, path: str) -> _LedgerIndex:
        index = self._indexes.pop(path, None) or _LedgerIndex(f"{self._archive}/{path}")
        self._indexes[path] = index
        if len(self._indexes) > MAX_LEDGERS:
            del self._indexes[next(iter(self._indexes))]
        try:
            self.octets_read += index.read_on(self._disk)
        except StorageError:
            index.removed = False
        return index
