"""The octets of a day's log, addressed as in the uncompressed log, however the file is stored."""

import os
from typing import Final, Protocol

from typing_extensions import override

from relay.archive.layout import COMPRESSIONS, DayFiles, possible_names
from relay.errors import DataError, NoInputError
from relay.system.disk import storage_error

MAX_OPEN: Final = 3
"""A compressed log that is open takes some MiB; opening it again costs a millisecond."""


class LogOctets(Protocol):
    """One log, open for reading. DataError where compressed data is damaged, StorageError when reading fails."""

    path: str

    def size(self) -> int:
        """Uncompressed octets, now; an open day's log grows."""

    def read(self, offset: int, length: int) -> bytes:
        """The octets from `offset`; fewer than `length` only at the end."""

    def close(self) -> None:
        """Close the file; a second call does nothing."""


def open_log(path: str) -> LogOctets:
    """Open a log by its suffix; NoInputError when it cannot be opened."""
    if path.endswith(COMPRESSIONS):
        from relay.archive.days.compressed_log import CompressedLog  # noqa: PLC0415  30 ms, which open days do not need

        return CompressedLog(path)
    return PlainLog(path)


def open_day(folder: str, files: DayFiles) -> LogOctets:
    """Open the log of a day; the plain one if there are several.

    A log can get another name after the folder was listed: a day is compressed, and then its plain log is deleted. A
    copy that cannot be used is passed over for another. NoInputError when there is none; DataError names the last one
    that is damaged.
    """
    failure: NoInputError | DataError | None = None
    for name in possible_names(files.logs):
        try:
            return open_log(f"{folder}/{name}")
        except (NoInputError, DataError) as error:
            failure = error if failure is None or isinstance(error, DataError) else failure
    raise failure or NoInputError(f"{folder}/{files.stem}", "the day has no log", "restore it from a copy")


class PlainLog(LogOctets):
    """A log as it is written. A symbolic link is not followed."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise NoInputError(path, f"cannot be read: {error.strerror}", "check the path and its mode") from error

    @override
    def size(self) -> int:
        try:
            return os.fstat(self._descriptor).st_size
        except OSError as error:
            raise storage_error(self.path, "stat", error) from error

    @override
    def read(self, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._descriptor, length, offset)
            while 0 < len(data) < length and (
                more := os.pread(self._descriptor, length - len(data), offset + len(data))
            ):
                data += more
        except OSError as error:
            raise storage_error(self.path, "read", error) from error
        return data

    @override
    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class OpenLogs:
    """Logs that several readers use in turns: at most `max_open` are open at a time."""

    def __init__(self, max_open: int = MAX_OPEN) -> None:
        self._max_open = max_open
        self._open: dict[str, LogOctets] = {}

    def get(self, folder: str, files: DayFiles) -> LogOctets:
        """The open log of a day; the one that was not used for longest is closed when there are too many."""
        name = f"{folder}/{files.stem}"
        found = self._open.pop(name, None) or open_day(folder, files)
        self._open[name] = found
        if len(self._open) > self._max_open:
            self._open.pop(next(iter(self._open))).close()
        return found

    def close(self, folder: str, files: DayFiles) -> None:
        """Close the log of a day, where it is open."""
        if (log := self._open.pop(f"{folder}/{files.stem}", None)) is not None:
            log.close()
