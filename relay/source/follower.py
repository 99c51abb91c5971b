"""Reading a log through its generations, the oldest unread byte first: one place, which only moves forward.

    follower = Follower("/var/log/audit/audit.log", start="oldest")   # or place=…, to go on there
    follower.settle()          # find the file; False: there is none yet
    follower.read(length)      # the bytes at the place; nothing at the end of the file
    follower.advance(count)
    follower.look()            # at the end: is there a newer file? If so, read once more, and then:
    follower.switch()

All calls block for as long as the disk does. OSErrors leave as they are; the place then stands where it stood.
"""

import logging
import os
from typing import Final, Literal, NamedTuple
from zlib import crc32

from relay.source.generations import (
    FileIdentity,
    Generation,
    LogFile,
    locate,
    open_generation,
    scan,
)

BEFORE: Final = 256
_UNKNOWN: Final = -1

logger = logging.getLogger(__name__)

Start = Literal["oldest", "now"]


class Place(NamedTuple):
    """How far the log is read."""

    file: FileIdentity
    offset: int
    before: int
    """CRC-32 of the (at most 256) bytes before the offset: another file's, if they differ."""
    older: FileIdentity | None
    """The generation before it: what leads on when the file itself is gone."""


class Follower:
    """One reader's place in a log."""

    def __init__(self, path: str, *, start: Start = "oldest", place: Place | None = None) -> None:
        self.path = os.path.abspath(path)
        self.file: LogFile | None = None
        """None: no file that could be read was found so far."""
        self.offset = 0
        self.lost_places = 0
        self._start = start
        self._place = place
        self._told: Place | None = None
        self._older = place.older if place else None
        self._newer: LogFile | None = None

    @property
    def place(self) -> Place:
        """How far the log is read; ValueError before a file was ever found."""
        if self.file is None:
            if self._place is None:
                raise ValueError("no file was found yet")
            return self._place
        before = _checksum_before(self.file, self.offset)
        self._told = Place(self.file.identity, self.offset, before, self._older)
        return self._told

    @property
    def lag(self) -> int:
        """Bytes of the log that are not read."""
        here = self.file
        if here is None:
            return 0
        lag = max(0, here.size - self.offset)
        for generation in scan(self.path):
            if generation.inode == here.identity.inode:
                break
            lag += generation.size
        return lag

    @property
    def newer_seen(self) -> bool:
        """Whether `look` found a newer file, so that this one grows no more."""
        return self._newer is not None

    def settle(self) -> bool:
        """Find the file to read, if none is open; False when there is none."""
        if self.file is not None:
            return True
        generations = scan(self.path)
        if self._place is not None:
            return self._settle_at(self._place, generations)
        if not generations:
            self._start = "oldest"  # whatever comes, comes after now
            return False
        if self._start == "now":
            self._open(generations[0], 0, _older_than(generations, 0))
            self.offset = _line_start(self._opened)
        else:
            self._open(generations[-1], 0, None)
        return True

    def read(self, length: int) -> bytes:
        """Up to `length` bytes from the place; nothing at the end. A file that shrank is left: `settle` again."""
        file = self.file
        if file is None:
            return b""
        data = file.read(self.offset, length)
        if not data and file.size < self.offset:
            told = self._told  # what the file was, if that is known: it may live on as a copy
            known = told is not None and told.offset == self.offset
            self._place = told if known else self.place
            self.close()
        return data

    def advance(self, count: int) -> None:
        """Count bytes as read."""
        self.offset += count

    def look(self) -> bool:
        """Look for the next newer file, and say whether there is one."""
        if self._newer is None and self.file is not None and not self._is_newest():
            self._newer = self._find_newer(self._opened)
        return self._newer is not None

    def switch(self) -> None:
        """Go on at the beginning of the newer file."""
        if self._newer is not None:
            here = self._opened
            self._older = here.identity
            here.close()
            self.file, self._newer, self.offset = self._newer, None, 0

    def close(self) -> None:
        """Close the files; `settle` finds the place again."""
        for file in (self.file, self._newer):
            if file is not None:
                file.close()
        self.file = self._newer = None

    @property
    def _opened(self) -> LogFile:
        if self.file is None:
            raise ValueError("no file is open")
        return self.file

    def _open(self, generation: Generation, offset: int, older: FileIdentity | None) -> None:
        self.file = open_generation(generation)
        self.offset = offset
        self._older = older

    def _settle_at(self, place: Place, generations: list[Generation]) -> bool:
        here = locate(generations, place.file)
        if here is not None:
            self._open(generations[here], place.offset, place.older)
            if place.before == _UNKNOWN or _checksum_before(self._opened, place.offset) != place.before:
                self._lose("%s is shorter than the byte reached, or was written anew: reading it from its beginning")
                self.offset = 0
            return True
        successor = _successor(generations, place.older)
        if successor is None:
            return False
        self._open(generations[successor], 0, _older_than(generations, successor))
        self._lose("the file read last is gone: going on with %s")
        return True

    def _lose(self, what: str) -> None:
        self.lost_places += 1
        logger.warning(what, self._opened.path)

    def _is_newest(self) -> bool:
        try:
            return os.stat(self.path).st_ino == self._opened.identity.inode
        except FileNotFoundError:
            return False

    def _find_newer(self, here: LogFile) -> LogFile | None:
        generations = scan(self.path)
        inodes = [generation.inode for generation in generations]
        if here.identity.inode in inodes:  # an open file's inode is no other's
            place = inodes.index(here.identity.inode)
            return open_generation(generations[place - 1]) if place else None
        successor = _successor(generations, self._older)
        if successor is None:
            return None
        newer = open_generation(generations[successor])
        if self._older is None or successor == len(generations) - 1:
            self.lost_places += 1
            logger.warning("%s: rotated away while it was read; what followed it may be lost", here.path)
        return newer


def _successor(generations: list[Generation], older: FileIdentity | None) -> int | None:
    """Find what comes after a file that is gone: the one after its elder, else the oldest; None: not there yet."""
    if not generations:
        return None
    elder = locate(generations, older) if older is not None else None
    if elder is None:
        return len(generations) - 1
    return elder - 1 if elder else None


def _older_than(generations: list[Generation], place: int) -> FileIdentity | None:
    if place + 1 >= len(generations):
        return None
    file = open_generation(generations[place + 1])
    try:
        return file.identity
    finally:
        file.close()


def _checksum_before(file: LogFile, offset: int) -> int:
    """CRC-32 of the bytes before an offset; `_UNKNOWN` when the file does not reach it."""
    start = max(0, offset - BEFORE)
    data = file.read(start, offset - start)
    return crc32(data) if len(data) == offset - start else _UNKNOWN


def _line_start(file: LogFile) -> int:
    """Find where the last line begins that has no LF yet: the end of the file, mostly."""
    end = file.size
    start = max(0, end - 65_536)
    return start + file.read(start, end - start).rfind(b"\n") + 1
