"""Where an originator's stored identities lie: which extent of which day has a number. Built from ledgers.

Ceilings are those of one ledger, for what is verified and once more for the rest, so that a stranger's runs leave room
for a router's: `MAX_ENTRIES` ranges of numbers, and `MAX_KEYS` runs and types and senders. What is beyond them is not
found, so its repetition is kept as `uncompared`. Of several ledgers, `MAX_LEDGERS` are kept at a time, or fewer than
that above `MAX_OCTETS` of memory, estimated. Numbers that fall are sorted once for each look into a ledger that grew.
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
MAX_KEYS: Final = 10_000
MAX_OCTETS: Final = 64 * 1024 * 1024
ENTRY_OCTETS: Final = 64
KEY_OCTETS: Final = 1000
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

    __slots__ = ("_is_sorted", "columns")

    def __init__(self) -> None:
        self.columns = tuple(array("q") for _ in range(5))
        """First and last number, index of the extent, part and parts; sorted by the first number when looked at."""
        self._is_sorted = True

    def ranges_with(self, number: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """Extent, and part and parts, of the ranges that have a number; the newest first as far as they rise."""
        if not self._is_sorted:  # repetitions, or another sender's numbers: rare
            order = sorted(range(len(self.columns[0])), key=self.columns[0].__getitem__)
            self.columns = tuple(array("q", map(column.__getitem__, order)) for column in self.columns)
            self._is_sorted = True
        firsts, lasts, extents, part, parts = self.columns
        at = bisect_right(firsts, number) - 1
        for index in range(at, max(at - _OVERLAPPING, -1), -1):
            if number <= lasts[index]:
                yield extents[index], (part[index], parts[index])

    def add(self, first: int, last: int, extent: int, parts: tuple[int, int]) -> None:
        firsts = self.columns[0]
        self._is_sorted = self._is_sorted and (not firsts or first >= firsts[-1])
        for column, value in zip(self.columns, (first, last, extent, *parts), strict=True):
            column.append(value)


class _LedgerIndex:
    """One ledger's identities, as far as it is read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.removed = False
        self._reached = 0
        self._entries = {True: 0, False: 0}
        self._keys = {True: 0, False: 0}
        self._ranges: dict[tuple[str, str], _Ranges] = {}
        self._offs = array("q")
        self._lens = array("q")
        self._senders: dict[tuple[str, str | None], int] = {}
        self._sender_names: list[tuple[str, str | None]] = []
        self._sender_of = array("q")

    @property
    def octets(self) -> int:
        """Estimated memory."""
        return ENTRY_OCTETS * sum(self._entries.values()) + KEY_OCTETS * sum(self._keys.values())

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
        if not isinstance(found, Extent) or not found.id:
            return
        is_verified = found.identity is not None or not found.sender  # the receiver's own have no sender
        if self._entries[is_verified] >= MAX_ENTRIES or self._keys[is_verified] >= MAX_KEYS:
            return
        extent = len(self._offs)
        self._offs.append(found.off)
        self._lens.append(found.len)
        sender = (found.sender, found.identity)
        if sender not in self._senders:
            self._senders[sender] = len(self._senders)
            self._sender_names.append(sender)
            self._keys[is_verified] += 1
        self._sender_of.append(self._senders[sender])
        for run, kind, first, last, *parts in found.id:
            ranges = self._ranges.get((run, kind))
            if ranges is None:
                ranges = self._ranges[run, kind] = _Ranges()
                self._keys[is_verified] += 1
            ranges.add(first, last, extent, (parts[0], parts[1]) if parts else (1, 1))
        self._entries[is_verified] += len(found.id)

    def places(self, folder: str, day: DayFiles, identity: Identity) -> Iterator[StoredPlace]:
        """The extents that list an identity or another split of its number."""
        run, kind, number, part, parts = identity
        ranges = self._ranges.get((run.decode(), kind.decode()))
        if ranges is None:
            return
        for extent, split in ranges.ranges_with(number):
            sender = self._sender_names[self._sender_of[extent]]
            yield StoredPlace(
                *(folder, day, self._offs[extent], self._lens[extent], sender, split != (part, parts), self.removed)
            )


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
        try:
            self.octets_read += index.read_on(self._disk)
        except StorageError:
            index.removed = False
        while len(self._indexes) > 1 and (len(self._indexes) > MAX_LEDGERS or self._octets > MAX_OCTETS):
            del self._indexes[next(iter(self._indexes))]
        return index

    @property
    def _octets(self) -> int:
        return sum(index.octets for index in self._indexes.values())
