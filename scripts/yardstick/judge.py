"""Lost and duplicated records: compares the written records with those that a far end kept.

A record is identified by type and serial, as in its head `type=T msg=audit(SECONDS.MILLIS:SERIAL): `. Records are found
wherever there is such a head, so one judge reads audit.log, a sink's file and an archive. A program's own counts are
not used. No two written records may have the same type and serial.

With the auditd protocol relay's own events arrive as records too, of type TRUSTED_APP; if no such record was written,
they are left out.

Limits: serials below ten million; counts end at 255. Memory: an octet for each type and serial up to the highest.
"""

import mmap
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_RECORD: Final = re.compile(rb"type=([A-Z0-9_\[\]]+) msg=audit\(\d+\.\d+:(\d{1,7})\): ")
_OWN: Final = b"TRUSTED_APP"
_MOST: Final = 255


class Ledger:
    """How often each record is in some files."""

    def __init__(self) -> None:
        self.records = 0
        """Return the number of all records, copies included."""
        self._counts: defaultdict[bytes, bytearray] = defaultdict(bytearray)

    def take(self, data: bytes | mmap.mmap) -> None:
        """Count every record in the data."""
        for match in _RECORD.finditer(data):
            counts, serial = self._counts[match[1]], int(match[2])
            if serial >= len(counts):
                counts.extend(bytes(serial + 1 - len(counts)))
            counts[serial] = min(counts[serial] + 1, _MOST)
            self.records += 1

    def take_files(self, paths: Iterable[Path]) -> "Ledger":
        """Count every record in the files, and return itself."""
        for path in paths:
            if path.stat().st_size:
                with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    self.take(data)
        return self

    def types(self) -> set[bytes]:
        """Return the types that occur."""
        return set(self._counts)

    def counts(self, kind: bytes, length: int) -> bytearray:
        """Return how often each serial occurs with that type, as that many octets."""
        counts = self._counts.get(kind, bytearray())
        return counts + bytes(length - len(counts))

    def highest(self) -> int:
        """Return one more than the highest serial."""
        return max(map(len, self._counts.values()), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict, in records."""

    written: int
    lost: int
    """Written, and kept nowhere."""
    duplicated: int
    """Copies kept beyond the first."""
    unknown: int
    """Kept, and never written."""
    lost_serials: tuple[int, ...]
    """The first and the last lost record; empty when there is none."""

    def __str__(self) -> str:
        line = f"{self.written} records, {self.lost} lost, {self.duplicated} duplicated"
        if self.lost_serials:
            line += f" (lost: serials {self.lost_serials[0]} to {self.lost_serials[-1]})"
        return line + (f", {self.unknown} never written" if self.unknown else "")


def judge(written: Ledger, kept: Ledger) -> Verdict:
    """Compare the kept records with the written ones."""
    lost: list[int] = []
    duplicated = unknown = 0
    length = max(written.highest(), kept.highest())
    for kind in written.types() | (kept.types() - {_OWN}):
        for serial, (wanted, found) in enumerate(
            zip(written.counts(kind, length), kept.counts(kind, length), strict=True)
        ):
            if wanted == found:
                continue
            if not wanted:
                unknown += found
            elif not found:
                lost.append(serial)
            else:
                duplicated += found - wanted
    return Verdict(
        written=written.records,
        lost=len(lost),
        duplicated=duplicated,
        unknown=unknown,
        lost_serials=(min(lost), max(lost)) if lost else (),
    )
