"""Finding one's way in an archive that someone else may be writing: its originators, its days, its files.

An archive has a file for each originator and day of receipt (UTC), `ARCHIVE/ORIGINATOR/YYYY-MM-DD.log`. A message can
be received long after it happened, and a little before, where the originator's clock is ahead: a span of time needs the
files from its first day less `CLOCK_AHEAD_DAYS` on, all of them. Names that the archive's writer does not make are
passed over, symbolic links too. NoInputError when there is no such folder, StorageError when one cannot be listed.
Memory: the originators' names, and the days of one.
"""

import os
import re
import stat
from datetime import UTC, date, datetime, timedelta
from typing import Final

from relay.errors import NoInputError
from relay.system.disk import Disk, storage_error

CLOCK_AHEAD_DAYS: Final = 1
OWN: Final = ".relay"
"""The folder that only the writer needs."""
_ANOTHER: Final = "name another folder"
_DAY_FILE: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.log")
_A_DAY: Final = 86_400_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def originators(disk: Disk, archive: str) -> list[str]:
    """The originators' folders, sorted; the archive's own and hidden ones are none."""
    if not os.path.isdir(archive):
        cause = "there is no such folder" if not disk.exists(archive) else "it is no folder"
        raise NoInputError(archive, cause, _ANOTHER)
    return [name for name in disk.names(archive) if not name.startswith(".") and _is_folder(f"{archive}/{name}")]


def require_archive(disk: Disk, archive: str) -> None:
    """NoInputError when the folder holds neither an archive's index nor a day's file."""
    names = originators(disk, archive)
    if not disk.exists(f"{archive}/{OWN}") and not any(days_of(disk, archive, name) for name in names):
        raise NoInputError(archive, "it is not an archive: it has neither an index nor a day's file", _ANOTHER)


def days_of(disk: Disk, archive: str, name: str) -> list[str]:
    """The days of which one originator has files, the oldest first."""
    matches = (_DAY_FILE.fullmatch(file) for file in disk.names(f"{archive}/{name}"))
    return sorted(match[1] for match in matches if match is not None and _is_day(match[1]))


def path_of(archive: str, name: str, day: str) -> str:
    """The file of an originator and day."""
    return f"{archive}/{name}/{day}.log"


def size(path: str) -> int:
    """Octets of the file; 0 when it is not there or no regular file."""
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise storage_error(path, "stat", error) from error
    return facts.st_size if stat.S_ISREG(facts.st_mode) else 0


def day_of(microseconds: int, *, before: int = 0) -> str:
    """The day of a time since the epoch, or so many days before; the calendar's first day for what is earlier."""
    try:
        return (_EPOCH + timedelta(microseconds=microseconds, days=-before)).date().isoformat()
    except OverflowError:
        return (date.min if microseconds < 0 else date.max).isoformat()


def days_since(day: str, last: str) -> list[str]:
    """The days from one to another, both included."""
    begin, end = date.fromisoformat(day).toordinal(), date.fromisoformat(last).toordinal()
    return [date.fromordinal(number).isoformat() for number in range(begin, end + 1)]


def begin_of(day: str) -> int:
    """The day's first microsecond since the epoch."""
    return (date.fromisoformat(day).toordinal() - _EPOCH.toordinal()) * _A_DAY


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)
