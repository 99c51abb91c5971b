"""Reading the archive's files back, damage included.

A file `ARCHIVE/ORIGINATOR/YYYY-MM-DD.log` holds the messages that came on that UTC day, each as

    LEN SP MSG LF

LEN is the number of MSG's octets, in decimal without a leading zero (RFC 6587, section 3.4.1); MSG stands exactly as it
came, so an audit event of several records has lines of its own inside; the LF is there for grep and less, and lets a
reader find its way after damage. At damage reading goes on at the next LF that is followed by digits, a space and `<`,
if a whole frame stands there. Messages over 16 MiB are taken for damage. Memory: one message and 256 KiB. NoInputError
when the file cannot be opened (a symbolic link is not followed), StorageError when reading fails.
"""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from relay.errors import NoInputError
from relay.system.disk import storage_error

LARGEST = 16 * 1024 * 1024
_CHUNK = 256 * 1024
_HEAD = re.compile(rb"([1-9][0-9]{0,7}) ")
_HEAD_SIZE = 9
_RESUME = re.compile(rb"\n([1-9][0-9]{0,7}) <")
_RESUME_SIZE = _HEAD_SIZE + 2
_LF = 10


class StoredMessage(NamedTuple):
    """A message, and where its frame begins."""

    offset: int
    message: bytes


class ArchiveDamage(NamedTuple):
    """Octets that are no frame; when they reach the end of the file, they may be a frame that is being written."""

    offset: int
    length: int
    at_end: bool


def read(path: str, start: int = 0, end: int | None = None) -> Iterator[StoredMessage | ArchiveDamage]:
    """Read the frames from `start`, which is where one begins, up to `end` or the end that the file has now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise NoInputError(path, f"cannot be read: {error.strerror}", "check the path and the file's mode") from error
    try:
        size = os.fstat(descriptor).st_size
        yield from _frames(descriptor, start, size if end is None else min(end, size))
    except OSError as error:
        raise storage_error(path, "read", error) from error
    finally:
        os.close(descriptor)


def _frames(descriptor: int, base: int, limit: int) -> Iterator[StoredMessage | ArchiveDamage]:
    """`data` are the octets at `base`, `position` is how far they are read."""
    data, position = b"", 0
    while base + position < limit:
        head = _HEAD.match(data, position)
        need = _HEAD_SIZE if head is None else len(head[0]) + int(head[1]) + 1
        if len(data) - position < need and base + len(data) < limit and need <= LARGEST + _HEAD_SIZE + 1:
            base, data, position = base + position, _more(descriptor, data[position:], base + position, need, limit), 0
            if len(data) < need:
                limit = base + len(data)  # the file ends here
            continue
        stop = position + need
        if head is not None and stop <= len(data) and data[stop - 1] == _LF:
            yield StoredMessage(base + position, data[head.end() : stop - 1])
            position = stop
            continue
        found = _resume(descriptor, base + position, limit)
        yield ArchiveDamage(base + position, found - base - position, found == limit)
        base, data, position = found, b"", 0


def _more(descriptor: int, kept: bytes, base: int, need: int, limit: int) -> bytes:
    """Add to the octets `kept` from `base` what `need` and a chunk ask for, but not beyond `limit`."""
    want = min(max(need, _CHUNK), limit - base)
    parts, length = [kept], len(kept)
    while length < want and (part := os.pread(descriptor, want - length, base + length)):
        parts.append(part)
        length += len(part)
    return b"".join(parts)


def _resume(descriptor: int, offset: int, limit: int) -> int:
    """Find where the next whole frame begins after the damaged one at `offset`; `limit` when none does."""
    while offset < limit:
        data = os.pread(descriptor, min(_CHUNK, limit - offset), offset)
        if not data:
            break
        for match in _RESUME.finditer(data):
            begin = offset + match.start() + 1
            last = begin + len(match[0]) - 2 + int(match[1])
            if last < limit and os.pread(descriptor, 1, last) == b"\n":
                return begin
        if len(data) <= _RESUME_SIZE:
            break
        offset += len(data) - _RESUME_SIZE
    return limit
