"""What another program did to the files of an open day: found before anything is appended, copied aside, and described.

The copies lie in `ARCHIVE/.relay/changed`, as `TIME-ORIGINATOR~DATE.log`: at most `MAX_COPIES`, the oldest are deleted,
and of each file at most its last `MAX_OCTETS`. Only regular files are copied.
"""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from relay.archive.layout import OWN
from relay.archive.ledger import Extent, FileChange, LedgerError, decode, hash_of, verifying
from relay.archive.ledgers.ledger_reader import LedgerReader
from relay.archive.writer.open_day import OpenDay
from relay.errors import NoInputError, StorageError
from relay.system.disk import Disk

MAX_COPIES: Final = 16
MAX_OCTETS: Final = 16 * 1024 * 1024
MAX_CHECKED: Final = 64 * 1024 * 1024
CHANGED: Final = "changed"
"""The folder of the copies, in the writer's own folder."""
_CHUNK: Final = 1024 * 1024
_NAMES: Final = ("log", "ledger")


def differences(archive: str, day: OpenDay) -> list[str]:
    """How a day's files differ from what the writer left: "the log is missing"; empty when they do not."""
    found = []
    left = ((day.path, day.log), (day.ledger_path, day.ledger))
    is_touched = False
    for name, (path, size), identity, stamp in zip(_NAMES, left, day.identities, day.stamps, strict=True):
        try:
            facts = os.lstat(f"{archive}/{path}")
        except FileNotFoundError:
            found.append(f"the {name} is missing")
        except OSError as error:
            found.append(f"the {name} cannot be looked at: {error.strerror}")
        else:
            if not stat.S_ISREG(facts.st_mode):
                found.append(f"the {name} is not a regular file")
            elif facts.st_size != size:
                octets = abs(facts.st_size - size)
                found.append(f"the {name} is {octets} octets {'longer' if facts.st_size > size else 'shorter'}")
            elif day.files is not None and identity != (facts.st_dev, facts.st_ino):
                found.append(f"the {name} was replaced by another file")
            elif stamp not in {0, facts.st_mtime_ns}:
                is_touched = True
    if is_touched and not found and not _is_as_written(archive, day):
        found.append("octets of the log or ledger were changed in place")
    return found


def _is_as_written(archive: str, day: OpenDay) -> bool:
    """Whether the end of a day agrees with the ledger's chain, of the log at most the last `MAX_CHECKED` octets."""
    ledger = LedgerReader(f"{archive}/{day.ledger_path}")
    previous = b""
    try:
        with open(f"{archive}/{day.path}", "rb") as log:
            for line in ledger.lines(ledger.before(max(day.log - MAX_CHECKED, 0))):
                entry = decode(line.octets)
                digest = verifying(line.octets, previous)
                if isinstance(entry, Extent):
                    log.seek(entry.off)
                    digest.update(log.read(entry.len))
                if previous and digest.hexdigest() != entry.sha256:
                    return False
                previous = line.octets
    except (OSError, NoInputError, LedgerError):
        return False
    return previous == day.previous


class ChangedFiles:
    """Describes changed days, and keeps copies of their files."""

    def __init__(self, disk: Disk, archive: str) -> None:
        self._disk = disk
        self._archive = archive
        self._folder = f"{archive}/{OWN}/{CHANGED}"

    def describe(self, day: OpenDay, found: Sequence[str], now: int) -> FileChange:
        """The record of a day that differs, after its files were copied."""
        paths = (day.path, day.ledger_path)
        return FileChange(
            changed=now,
            log=day.path,
            cause=", ".join(found),
            left=(day.log, day.ledger),
            head=day.head or hash_of(day.previous),
            found=(_size(f"{self._archive}/{day.path}"), _size(f"{self._archive}/{day.ledger_path}")),
            aside=tuple(copy for path in paths if (copy := self._keep(path, now))),
        )

    def _keep(self, path: str, now: int) -> str:
        """Copy a file; the copy's name, or empty when there is nothing to copy or no space for it."""
        time = datetime.fromtimestamp(now / 1e6, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        name = f"{time}-{path.replace('/', '~')}"
        size = _size(f"{self._archive}/{path}")
        if size is None:
            return ""
        try:
            self._disk.make_folder(self._folder)
            former = self._disk.names(self._folder)
            for oldest in former[: max(0, len(former) - MAX_COPIES + 1)]:
                self._disk.remove(f"{self._folder}/{oldest}")
            self._copy(f"{self._archive}/{path}", f"{self._folder}/{name}", size)
        except StorageError:  # a full disk, or a file that cannot be read: the record matters more
            with suppress(StorageError):
                self._disk.remove(f"{self._folder}/{name}")
            return ""
        return name

    def _copy(self, source: str, target: str, size: int) -> None:
        begin = max(0, size - MAX_OCTETS)
        with self._disk.open(source, writable=False) as old, self._disk.open(target, create=True) as new:
            for offset in range(begin, size, _CHUNK):
                new.write(old.read(min(_CHUNK, size - offset), offset), offset - begin)
            new.sync()
        self._disk.sync_folder(self._folder)


def _size(path: str) -> int | None:
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    return facts.st_size if stat.S_ISREG(facts.st_mode) else None
