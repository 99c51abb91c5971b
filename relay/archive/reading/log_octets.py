"""The octets of a day's log, addressed as in the uncompressed log, however the file is stored."""

import os
from typing import Protocol

from typing_extensions import override

from relay.errors import NoInputError
from relay.system.disk import storage_error


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
    return PlainLog(path)


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
