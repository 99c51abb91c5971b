"""What an archive holds: originators' folders and their days.

Names that the archive's writer does not make are passed over, and so are symbolic links. NoInputError when the folder
is not an archive, StorageError when one cannot be listed. Memory: the names of one folder.
"""

import errno
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.archive.layout import ASIDE, DISPUTED, LEDGER_SUFFIX, LOG_SUFFIXES, OWN, DayFiles, days_in
from relay.archive.ledgers.described_files import described_files
from relay.errors import NoInputError, StorageError
from relay.system.disk import Disk

SHELVES: Final = (DISPUTED, ASIDE)
"""Folders of originators' folders: under a name that is bound to another sender, and where the originator's own folder
cannot be written."""
_REMEDY: Final = "name another folder"


class OriginatorFolder(NamedTuple):
    """One originator's folder."""

    name: str
    """Its path within the archive: "fw1" or "~disputed/fw1"."""
    path: str

    @property
    def own_name(self) -> str:
        """The folder's name without those of the shelves in which it lies."""
        return self.name.rpartition("/")[2].removeprefix(f"{DISPUTED}~")

    @property
    def intended_name(self) -> str:
        """The path within the archive where the messages would be if that folder could have been written."""
        shelf, _, inner = self.name.partition("/")
        if shelf != ASIDE:
            return self.name
        return f"{DISPUTED}/{self.own_name}" if inner.startswith(f"{DISPUTED}~") else inner

    @property
    def disputed(self) -> bool:
        """Whether the messages have a name that is bound to another sender."""
        return self.name.startswith((f"{DISPUTED}/", f"{ASIDE}/{DISPUTED}~"))


def originators(disk: Disk, archive: str) -> list[OriginatorFolder]:
    """The originators' folders, sorted by name; those of `SHELVES` last."""
    if not os.path.isdir(archive):
        cause = "there is no such folder" if not disk.exists(archive) else "it is not a folder"
        raise NoInputError(archive, cause, _REMEDY)
    names = [name for name in disk.names(archive) if not name.startswith(".") and name not in SHELVES]
    for shelf in SHELVES:
        folder = f"{archive}/{shelf}"
        names += [f"{shelf}/{name}" for name in (disk.names(folder) if os.path.isdir(folder) else ())]
    found = (OriginatorFolder(name, f"{archive}/{name}") for name in names)
    return [folder for folder in found if os.path.isdir(folder.path) and not os.path.islink(folder.path)]


def require_archive(disk: Disk, archive: str) -> list[OriginatorFolder]:
    """The originators; NoInputError when the folder has neither the writer's own folder nor a day."""
    found = originators(disk, archive)
    if not disk.exists(f"{archive}/{OWN}") and not any(days_of(disk, folder) for folder in found):
        raise NoInputError(archive, "it is not an archive: no folder in it has a day's log or ledger", _REMEDY)
    return found


def days_of(disk: Disk, folder: OriginatorFolder) -> list[DayFiles]:
    """The originator's days, the oldest first."""
    try:
        names = disk.names(folder.path)
    except StorageError as error:
        if error.errno != errno.ENOTDIR:
            raise
        names = []  # a file in its place, which the check of the archive names
    found = days_in(names)
    found = [*(_with_ledger(folder.path, files) for files in found[:-1]), *_begun(folder.path, found[-1:])]
    return [described_files(folder.path, files) for files in found]


def _with_ledger(folder: str, files: DayFiles) -> DayFiles:
    """The files with a ledger that was created while the folder was being listed."""
    ledger = f"{files.stem}{LEDGER_SUFFIX}"
    return files if files.ledger or not os.path.lexists(f"{folder}/{ledger}") else files._replace(ledger=ledger)


def _begun(folder: str, newest: list[DayFiles]) -> Iterator[DayFiles]:
    """The newest day, with files that were created while the folder was being listed."""
    for files in newest:
        names = [] if files.logs else [f"{files.stem}{suffix}" for suffix in LOG_SUFFIXES.values()]
        logs = tuple(name for name in names if os.path.lexists(f"{folder}/{name}"))
        yield _with_ledger(folder, files._replace(logs=files.logs or logs))
