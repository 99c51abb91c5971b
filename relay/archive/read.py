"""Reading the archive's logs back.

Each line is one message, as `log_line` escapes it. The last line without its LF is being written, or damaged. Lines
over 64 MiB are reported as damage. Memory: one line and 256 KiB. NoInputError when the file cannot be opened (a
symbolic link is not followed), StorageError when reading fails.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from relay.archive.log_line import unescape
from relay.errors import NoInputError
from relay.system.disk import storage_error

LARGEST = 64 * 1024 * 1024
_CHUNK = 256 * 1024


class StoredMessage(NamedTuple):
    """A message, and the place of its line."""

    offset: int
    message: bytes
    end: int = 0
    """Behind its LF."""


class ArchiveDamage(NamedTuple):
    """Octets that are not a line; when they reach the end of the file, they may be a line that is being written."""

    offset: int
    length: int
    at_end: bool


def read(path: str, start: int = 0, end: int | None = None) -> Iterator[StoredMessage | ArchiveDamage]:
    """Read the lines from `start`, where one begins, up to `end` or the end that the file has now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise NoInputError(path, f"cannot be read: {error.strerror}", "check the path and the file's mode") from error
    try:
        size = os.fstat(descriptor).st_size
        yield from _lines(descriptor, start, size if end is None else min(end, size))
    except OSError as error:
        raise storage_error(path, "read", error) from error
    finally:
        os.close(descriptor)


def _lines(descriptor: int, begin: int, limit: int) -> Iterator[StoredMessage | ArchiveDamage]:
    """`begin` is where the first line of `pieces` begins, `offset` is how far the file is read."""
    offset = begin
    pieces: list[bytes] = []
    length = 0
    while offset < limit and (chunk := os.pread(descriptor, min(_CHUNK, limit - offset), offset)):
        offset += len(chunk)
        first, *lines = chunk.split(b"\n")
        pieces.append(first)
        length += len(first)
        if not lines:
            if length > LARGEST:
                yield ArchiveDamage(begin, length, at_end=False)
                begin, pieces, length = offset, [], 0
            continue
        for line in (b"".join(pieces), *lines[:-1]):
            end = begin + len(line) + 1
            yield StoredMessage(begin, unescape(line), end)
            begin = end
        pieces, length = [lines[-1]], len(lines[-1])
    if length:
        yield ArchiveDamage(begin, length, at_end=True)
