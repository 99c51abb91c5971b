"""One look at all files of an archive, folder by folder: sizes, and what is to be done with its closed days.

It lists folders and reads the ends of few ledgers, never a log. Files that relay does not make, links and folders
inside an originator's folder are passed over.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from relay.archive.days.compressed_log import NEW
from relay.archive.days.compressor import SUFFIX
from relay.archive.days.retention import StoredDay
from relay.archive.layout import COMPRESSIONS, DayFiles, days_in
from relay.archive.ledgers.described_files import described_files
from relay.system.disk import storage_error

UNFINISHED: Final = f"{SUFFIX}{NEW}"


class FolderSurvey(NamedTuple):
    """One originator's folder."""

    path: str
    days: tuple[DayFiles, ...]
    """The oldest first; only regular files."""
    sizes: dict[str, int]
    """Of every log."""
    leftovers: tuple[str, ...]
    """Copies that a crash left unfinished."""

    def stored(self, files: DayFiles) -> StoredDay:
        """A day with its size."""
        octets = sum(self.sizes[name] for name in files.logs)
        return StoredDay(files.day, files.part, self.path, files.ledger, files.logs, octets)


def plain_log_among(logs: Iterable[str]) -> str:
    """The name of a day's log that is not compressed; empty when there is none, or several."""
    plain = [name for name in logs if not name.endswith(COMPRESSIONS)]
    return plain[0] if len(plain) == 1 else ""


def originator_folders(archive: str) -> Iterator[str]:
    """The paths of all originators' folders; those in `~disputed` and `~aside` as well."""
    for entry in _folders_in(archive):
        if entry.name.startswith("."):
            continue
        yield entry.path
        if entry.name.startswith("~"):
            yield from (inner.path for inner in _folders_in(entry.path))


def survey(path: str) -> FolderSurvey:
    """Look at one folder; StorageError when it cannot be listed."""
    sizes: dict[str, int] = {}
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(facts.st_mode):
                    sizes[entry.name] = facts.st_size
    except FileNotFoundError:
        sizes.clear()  # the folder, or a file between listing and looking: the next look will see it
    except OSError as error:
        raise storage_error(path, "list", error) from error
    days = tuple(described_files(path, files) for files in days_in(sizes))
    leftovers = tuple(name for name in sizes if _is_unfinished_copy(name))
    return FolderSurvey(path, days, sizes, leftovers)


def _is_unfinished_copy(name: str) -> bool:
    """Whether it is `2026-11-30.log.zst.new`: no other name ends so by relay's doing."""
    log = name.removesuffix(UNFINISHED)
    return name.endswith(UNFINISHED) and not log.endswith(COMPRESSIONS) and any(each.logs for each in days_in([log]))


def _folders_in(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted((each for each in entries if each.is_dir(follow_symlinks=False)), key=lambda each: each.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(path, "list", error) from error
