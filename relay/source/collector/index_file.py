"""The child's index file, in which it stores how far it has read: copied, and restored before the child starts.

The position's data is a copy of the file (`ABSENT`, or one octet and the file's octets). A copy must belong to the
events that are stored with it. The child may move its index before it writes an event, or after. One rule serves both:
a copy is made, then everything is read that was in the pipe at that moment. When the copy differs from the one before,
the child had written everything up to the earlier copy before it moved the index, and all of that has been read. So the
earlier copy belongs to what was read. The newest copy itself belongs to it only when the child was quiet for
`settle_s`, because the child may move the index first and die before it writes. A copy is valid once everything that
was read with it has left the decoder.

So after a crash events may come again, from one move of the index or a little more, and none is lost. One case is
beyond any copy: a child that moves its index more than `settle_s` before it writes, and dies between the two.

A file that is empty or gone where it was not before, or that changes while it is read, is being written: it is read
again later, and the earlier copy stays valid until then. A file of more than `LARGEST` octets cannot be kept: OSError
(EFBIG). A path that is not a regular file raises OSError too.
"""

import contextlib
import errno
import os
import stat
from typing import Final, NamedTuple

LARGEST: Final = 60 * 1024
ABSENT: Final = b"0"
_ATTEMPTS: Final = 10
_PRESENT: Final = b"1"


class _Candidate(NamedTuple):
    """A copy that is valid once so many octets have been decoded."""

    copy: bytes
    octets: int


def is_index_copy(data: bytes) -> bool:
    """Whether a position's data is a copy of an index file; another kind of source may have had the same name."""
    return data == ABSENT or data.startswith(_PRESENT)


class IndexFile:
    """One child's index file. `valid_copy` is what to store and to restore."""

    def __init__(self, path: str, valid_copy: bytes | None = None) -> None:
        self.path = path
        self._newest: bytes | None = None
        self._candidate: _Candidate | None = None
        self.valid_copy = self.copy() if valid_copy is None else valid_copy
        self._newest = self.valid_copy

    @property
    def newest(self) -> bytes:
        """The newest copy."""
        return self._newest or self.valid_copy

    def copy(self) -> bytes:
        """Copy the file; the newest known copy when the file is being written at every attempt."""
        for _ in range(_ATTEMPTS):
            copy = self._read()
            was_emptied = copy in {ABSENT, _PRESENT} and self._newest not in {None, ABSENT, _PRESENT}
            if copy is not None and not was_emptied:
                return copy
        if self._newest is None:
            raise OSError(errno.EBUSY, "another program is writing it", self.path)
        return self._newest

    def _read(self) -> bytes | None:
        """Copy the file once; None when it changed meanwhile."""
        try:
            with open(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                before = os.fstat(file.fileno())
                if stat.S_ISFIFO(before.st_mode):
                    raise OSError(errno.EINVAL, "it is a pipe, which cannot be copied", self.path)
                octets = file.read(LARGEST + 1)
                is_unchanged = _version(before) == _version(os.fstat(file.fileno()))
        except FileNotFoundError:
            return ABSENT
        if len(octets) > LARGEST:
            raise OSError(errno.EFBIG, f"it is larger than {LARGEST} octets, and cannot be kept", self.path)
        return _PRESENT + octets if is_unchanged else None

    def restore(self) -> None:
        """Write the valid copy to the file; the child must not be running."""
        self._newest = self.valid_copy
        self._candidate = None
        if self.valid_copy == ABSENT:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            return
        with open(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
            if file.read(LARGEST + 1) != self.valid_copy[1:]:
                file.seek(0)
                file.truncate()
                file.write(self.valid_copy[1:])

    def observe(self, copy: bytes, received: int, decoded: int) -> bool:
        """Note a copy, with the octets received after it and the octets decoded by now; whether the index moved."""
        self._adopt(decoded)
        moved = copy != self.newest
        if moved and self._candidate is None:
            self._candidate = _Candidate(self.newest, received)
            self._adopt(decoded)
        self._newest = copy
        return moved

    def _adopt(self, decoded: int) -> None:
        if self._candidate is not None and decoded >= self._candidate.octets:
            self.valid_copy = self._candidate.copy
            self._candidate = None

    def settle(self) -> None:
        """Declare the newest copy valid, because the child is quiet and everything is decoded."""
        self.valid_copy = self.newest
        self._candidate = None


def _version(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_mtime_ns, facts.st_size, facts.st_ino
