"""The child's index file, in which it keeps the place it has reached: copied, and put back before the child starts.

The position's place is a copy (`ABSENT`, or one octet and the file's octets). Which copy goes with which events is the
point. The child may move its index before it writes an event, or after. Both are served by one rule: a copy is taken,
then all is read that was in the pipe at that moment. When the copy differs from the one before, then what the one
before tells of was written before the index moved on, and so has been read. So it is the one before that goes with what
was read; and the newest itself only when the child has been quiet for `SETTLE_SECONDS`, for it may move the index first
and die before it writes. A place holds once everything that was read with it has left the decoder.

So after a crash events may come again, from one move of the index or a little more, and none is lost. What no copy can
help: a child that moves its index more than `SETTLE_SECONDS` before it writes, and dies between the two.

A file that is empty or gone where it was not, or that changes while it is read, is being written: it is looked at again
later, and the place before holds until then. One of more than `LARGEST` octets cannot be kept: OSError (EFBIG); nor can
what is no file: OSError.
"""

import contextlib
import errno
import os
import stat
from typing import Final, NamedTuple

SETTLE_SECONDS: Final = 1.0
LARGEST: Final = 60 * 1024
ABSENT: Final = b"0"
_ATTEMPTS: Final = 10
_PRESENT: Final = b"1"


class _Candidate(NamedTuple):
    """A place that holds once so many octets have been decoded."""

    place: bytes
    octets: int


def is_place(place: bytes) -> bool:
    """Whether a stored place is one of an index file; another kind of source may have had the same name."""
    return place == ABSENT or place.startswith(_PRESENT)


class IndexFile:
    """One child's index file. `place` is what holds now: what to store, and to put back."""

    def __init__(self, path: str, place: bytes | None = None) -> None:
        self.path = path
        self._newest: bytes | None = None
        self._candidate: _Candidate | None = None
        self.place = self.copy() if place is None else place
        self._newest = self.place

    def copy(self) -> bytes:
        """The file as it is now; the newest known copy when it is being written at every attempt."""
        for _ in range(_ATTEMPTS):
            place = self._read()
            emptied = place in {ABSENT, _PRESENT} and self._newest not in {None, ABSENT, _PRESENT}
            if place is not None and not emptied:
                return place
        if self._newest is None:
            raise OSError(errno.EBUSY, "another program is writing it", self.path)
        return self._newest

    def _read(self) -> bytes | None:
        """The file's place; None when it changed meanwhile."""
        try:
            with open(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                before = os.fstat(file.fileno())
                if stat.S_ISFIFO(before.st_mode):
                    raise OSError(errno.EINVAL, "it is a pipe, and holds no place", self.path)
                octets = file.read(LARGEST + 1)
                unchanged = _version(before) == _version(os.fstat(file.fileno()))
        except FileNotFoundError:
            return ABSENT
        if len(octets) > LARGEST:
            raise OSError(errno.EFBIG, f"it is larger than {LARGEST} octets, and cannot be kept", self.path)
        return _PRESENT + octets if unchanged else None

    def put_back(self) -> None:
        """Make the file what it was at the place that holds; the child must not be running."""
        self._newest = self.place
        self._candidate = None
        if self.place == ABSENT:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            return
        with open(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
            if file.read(LARGEST + 1) != self.place[1:]:
                file.seek(0)
                file.truncate()
                file.write(self.place[1:])

    @property
    def newest(self) -> bytes:
        """The newest copy."""
        return self._newest or self.place

    def look(self, copy: bytes, received: int, decoded: int) -> bool:
        """Take note of a copy, and of the octets received after it was taken and decoded by now; whether it moved."""
        self._adopt(decoded)
        moved = copy != self.newest
        if moved and self._candidate is None:
            self._candidate = _Candidate(self.newest, received)
            self._adopt(decoded)
        self._newest = copy
        return moved

    def _adopt(self, decoded: int) -> None:
        if self._candidate is not None and decoded >= self._candidate.octets:
            self.place = self._candidate.place
            self._candidate = None

    def settle(self) -> None:
        """The child is quiet, and everything is decoded: the newest copy holds."""
        self.place = self.newest
        self._candidate = None


def _version(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_mtime_ns, facts.st_size, facts.st_ino
