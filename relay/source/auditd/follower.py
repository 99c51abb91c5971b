"""Reading a log through its generations, the oldest unread byte first: one place, which only moves forward.

    follower = Follower("/var/log/audit/audit.log", start="oldest")   # or place=…, to go on there
    follower.settle()          # find the file; False: there is none yet
    follower.read(length)      # the bytes at the place; nothing at the end of the file
    follower.advance(count)
    follower.nuls(count)       # the NULs that begin `count` bytes behind the place
    follower.advance_over_nuls(count)
    follower.look()            # at the end: is there a newer file? If so, read once more, and then:
    follower.switch()

With every read the bytes before the place are read again: where they are not what they were, the file was cut and
written anew, and what was read of it may live on as a copy (logrotate's copytruncate), in which reading then goes on.

A newer file that is empty tells nothing: whoever made it may not be the one who writes, and may not have told that one
(logrotate without a signal to auditd). So the place stays where it is until something stands in a newer one. A file
that is the log's no more, deleted or named otherwise, and is left then, is still read (`left_behind`). A deleted one is
let go before that when nobody has it open to write, or when its disk is full: it would keep the room for which somebody
may have deleted it, and without which nothing comes into the new log either.

An older file that may not be read is passed over when a newer one may, and not read later either; the newest is waited
for (PermissionError). What is passed over, or gone, or cut stands in `losses` until it is taken from there.

All calls block for as long as the disk does. OSErrors leave as they are; the place then stands where it stood.
"""

import contextlib
import errno
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple
from zlib import crc32

from relay.errors import StorageError
from relay.source.auditd.generations import (
    FINGERPRINT,
    FileIdentity,
    Generation,
    LogFile,
    NulStretch,
    RotationError,
    locate,
    open_generation,
    scan,
)
from relay.source.auditd.left_behind import LeftBehind
from relay.system.disk import Disk

BEFORE: Final = 256
_COMPARED: Final = 65_536
CUT: Final = "the file was cut"
GONE: Final = "the file was rotated away, deleted or written anew"
REFUSED: Final = "the file may not be read"
NEVER_WRITTEN: Final = "blocks were never written, as after a power cut"
DELETED: Final = "deleted files may have been written on, and nobody can read them"

logger = logging.getLogger(__name__)

Start = Literal["oldest", "now"]


class LogOffset(NamedTuple):
    """How far the log is read."""

    file: FileIdentity
    offset: int
    before: int
    """CRC-32 of the (at most 256) bytes before the offset: another file's, if they differ."""
    older: FileIdentity | None
    """The generation before it: what leads on when the file itself is gone."""


class LogLoss(NamedTuple):
    """What stood between two places may be lost; how much it was is not known."""

    file: str
    cause: str
    certain: bool = False
    nuls: int = 0
    """So many NULs were passed over."""


class OlderRefusedError(PermissionError):
    """An older file may not be read, while a newer one may: it is passed over only when that is wished."""


class Follower:
    """One reader's place in a log."""

    def __init__(self, path: str, *, start: Start = "oldest", place: LogOffset | None = None) -> None:
        self.path = os.path.abspath(path)
        self.pass_over = True
        """Whether older files that may not be read are passed over, or OlderRefusedError is raised."""
        self.losses: list[LogLoss] = []
        self.file: LogFile | None = None
        """None: no file that could be read was found so far."""
        self.offset = 0
        self.lost_places = 0
        self.left = LeftBehind()
        """Files that are the log's no more and may still be written; they stay open when `close` is called."""
        self._start = start
        self._place = place
        self._before = b""
        """The bytes before the offset, BEFORE of them if there are so many."""
        self._data = b""
        """What was read at the offset last."""
        self._older = place.older if place else None
        self._newer: LogFile | None = None
        self._passed: Sequence[Generation] = ()
        """What is left out when `switch` goes to the newer file, the newest first."""
        self._followed_a_gone_file = False
        self._was_cut = False
        self._gone = False
        """Whether the file was under none of the log's names at the last look."""
        self._let_go_whole: bool | None = None
        """After a deleted file was let go, whether nothing more can have come into it; None: there is no such file."""

    @property
    def place(self) -> LogOffset:
        """How far the log is read; ValueError before a file was ever found."""
        if self.file is None:
            if self._place is None:
                raise ValueError("no file was found yet")
            return self._place
        return LogOffset(self.file.identity, self.offset, crc32(self._before), self._older)

    @property
    def lag(self) -> int:
        """Bytes of the log that are not read."""
        here = self.file
        if here is None:
            return self.left.lag
        lag = self.left.lag + max(0, here.size - self.offset)
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
            self._stand_at(_line_start(self._opened))
        else:
            self._settle_after(len(generations), generations, None)
        return True

    def read(self, length: int) -> bytes:
        """Up to `length` bytes from the place; nothing at the end. A file that was cut is left: `settle` again."""
        if self.file is None:
            return b""
        known = len(self._before)
        data = self.file.read(self.offset - known, known + length)
        if not data.startswith(self._before) or (data and not self.offset and not self._is_next()):
            self._place, self._was_cut = self.place, True
            self.close()
            return b""
        self._data = data[known:]
        return self._data

    def advance(self, count: int) -> None:
        """Count bytes of what `read` gave last as read."""
        if self.file is not None and self.offset < FINGERPRINT:
            self.file.learn(self._before + self._data[: min(count, FINGERPRINT)])
        self._before = (self._before + self._data[max(0, count - BEFORE) : count])[-BEFORE:]
        self._data = self._data[count:]
        self.offset += count

    def nuls(self, behind: int) -> NulStretch:
        """Count the NULs that begin so many bytes behind the place."""
        return self._opened.nuls(self.offset + behind)

    def advance_over_nuls(self, count: int) -> None:
        """Pass over NULs that begin at the place, and add them to `losses`."""
        written = bytes(min(count, BEFORE))
        if self.offset < FINGERPRINT:
            self._opened.learn(self._before + written)
        self._before = (self._before + written)[-BEFORE:]
        self._data = b""
        self.offset += count
        self.losses.append(LogLoss(self._opened.path, NEVER_WRITTEN, certain=True, nuls=count))
        logger.warning("%s: passing over %d NUL octets: %s", self._opened.path, count, NEVER_WRITTEN)

    def look(self) -> bool:
        """Look for the next newer file, and say whether there is one, or more to read for another reason."""
        if self._newer is not None or self.file is None or self._is_newest():
            return self._newer is not None
        newer = self._find_newer(self.file)
        if newer is None:
            self._let_go(self.file)
            return False
        copied = self._copied(self.file, newer)
        if copied:
            # What we read is only being copied: it is read on where it was written, until that is cut.
            self._leave(self.file)
            self.file = newer
            self._stand_at(copied)
            self._passed, self._followed_a_gone_file = (), False
            return True
        self._newer = newer
        return True

    def _copied(self, here: LogFile, newer: LogFile) -> int:
        """Up to where the newer file is what was read of this one; 0: it is another.

        One that took a file's place (`sed -i`) may have been made before the last of what was read was written, and
        changed: what differs is read. A file that was left, and is the log again, is read on.
        """
        kept = self.left.take_back(newer.identity.inode)
        if kept is not None:
            return kept if kept <= newer.size else 0
        if self._is_gone(here):
            return _same_lines(here, newer, self.offset)
        return self.offset if self.offset and holds(newer, self.place) else 0

    def switch(self) -> None:
        """Go on at the beginning of the newer file."""
        if self._newer is not None:
            here = self._opened
            # What is deleted can lead nobody on. What is empty may be a copy that is only begun: it may yet come first.
            if self.offset and here.identity.inode in (generation.inode for generation in scan(self.path)):
                self._older = here.identity
            self._leave(here)
            self.file, self._newer = self._newer, None
            self._stand_at(0)
            self._tell_switch(here.path)

    def close(self) -> None:
        """Close the files; `settle` finds the place again."""
        for file in (self.file, self._newer):
            if file is not None:
                file.close()
        self.file = self._newer = None
        self._passed, self._followed_a_gone_file = (), False

    @property
    def at_gone(self) -> bool:
        """Whether the file is the log's no more: whoever has it open may go on in the middle of a line."""
        return self._is_gone(self._opened)

    @property
    def reads_gone(self) -> bool:
        """Whether what is read may stand in no folder whose watch would tell that it grew."""
        return bool(self.left) or (self.file is not None and self._is_gone(self.file))

    def _is_gone(self, file: LogFile) -> bool:
        return self._gone or file.deleted

    def _let_go(self, here: LogFile) -> None:
        """Let a deleted file go, which is read, when it is of no use any more, or of harm."""
        if not (self.offset and here.deleted):
            return
        whole = here.abandoned
        if whole or self._is_disk_full():
            self._place, self._let_go_whole = self.place, whole
            self._leave(here)
            self.left.release(here)
            self.file = None

    def _is_disk_full(self) -> bool:
        """Whether nothing could be written into the log; False when there is none."""
        if not os.path.exists(self.path):
            return False
        with contextlib.suppress(StorageError):
            if not Disk().free(self.path):
                logger.warning("%s was deleted, and its disk is full: it is let go for its room", self._opened.path)
                return True
        return False

    def _leave(self, file: LogFile) -> None:
        if not self._is_gone(file):
            file.close()
        elif self.left.take(file, self.offset):
            self._lose(file.path, DELETED)

    @property
    def _opened(self) -> LogFile:
        if self.file is None:
            raise ValueError("no file is open")
        return self.file

    def _open(self, generation: Generation, offset: int, older: FileIdentity | None) -> None:
        self.file = open_generation(generation)
        self._older, self._was_cut, self._let_go_whole = older, False, None
        self._stand_at(offset)

    def _stand_at(self, offset: int) -> None:
        start = max(0, offset - BEFORE)
        self.offset, self._data = offset, b""
        self._before = self._opened.read(start, offset - start)

    def _settle_at(self, place: LogOffset, generations: list[Generation]) -> bool:
        if not place.offset:
            return self._settle_after(_read_up_to(generations, place.older), generations, place.older)
        same = _find_place(generations, place)
        if same is not None:
            self._open(generations[same], place.offset, place.older)
            if not holds(self._opened, place) or crc32(self._before) != place.before:
                self.close()
                raise RotationError(0, "the file was cut just now", self.path)
            return True
        copy = _find_older_copy(generations, place)
        if copy is not None:
            self._open(copy, copy.size, place.older)
            return True
        here = locate(generations, place.file)
        if here is None:
            return self._settle_without(place, generations)
        if not generations[here].readable:
            return self._settle_beyond(place, here, generations)
        self._open(generations[here], 0, place.older)
        self._lose(self._opened.path, CUT)
        return True

    def _settle_without(self, place: LogOffset, generations: list[Generation]) -> bool:
        """The place's file is gone: go on after the one before it."""
        cause = CUT if self._was_cut else GONE
        after = _read_up_to(generations, place.older)
        successor = _next(generations, after)
        let_go = self._let_go_whole
        if successor is None or (let_go is not None and not _holds_something(generations[:after])):
            return False
        if not self._settle_after(after, generations, _older_than(generations, successor)):
            return False
        if not let_go or successor == len(generations) - 1:
            self._lose(self.path, cause)
        return True

    def _settle_beyond(self, place: LogOffset, here: int, generations: list[Generation]) -> bool:
        """The place's file is there, but may not be read any more: go on after it, unless it is the newest."""
        if not here:
            open_generation(generations[here]).close()  # raises the error that tells it
            raise RotationError(0, "it may be read after all", generations[here].path)
        size = generations[here].size
        settled = self._settle_after(here + (size > place.offset), generations, generations[here].by_inode)
        if settled and size < place.offset:
            self._lose(generations[here].path, CUT)
        return settled

    def _settle_after(self, after: int, generations: list[Generation], older: FileIdentity | None) -> bool:
        """Open what comes after a generation (their number: after the oldest is the number of all)."""
        successor = _next(generations, after)
        if successor is None:
            return False
        passed = self._passing(generations, successor, after)
        self._open(generations[successor], 0, older)
        self._leave_out(passed)
        return True

    def _passing(self, generations: list[Generation], successor: int, after: int) -> list[Generation]:
        """What would be left out in going on there, the newest first; OlderRefusedError unless that is wished."""
        passed = [generation for generation in generations[successor + 1 : after] if generation.refused]
        if passed and generations[successor].readable and not self.pass_over:
            raise OlderRefusedError(errno.EACCES, os.strerror(errno.EACCES), passed[-1].path)
        return passed

    def _leave_out(self, passed: Sequence[Generation]) -> None:
        for generation in reversed(passed):
            self._lose(generation.path, REFUSED)
            self._older = generation.by_inode

    def _tell_switch(self, former: str) -> None:
        if self._followed_a_gone_file:
            self._lose(former, GONE)
        self._leave_out(self._passed)
        self._passed, self._followed_a_gone_file = (), False

    def _lose(self, file: str, cause: str) -> None:
        self.lost_places += 1
        self.losses.append(LogLoss(file, cause))
        logger.warning("%s: %s; going on in %s, and what was not read may be lost", file, cause, self._opened.path)

    def _is_newest(self) -> bool:
        try:
            return os.stat(self.path).st_ino == self._opened.identity.inode
        except FileNotFoundError:
            return False

    def _is_next(self) -> bool:
        """Whether the file, of which nothing was read so far, still follows the one that was read last.

        Else it was cut before it could be read: what stood in it stands in a copy, which comes first.
        """
        generations = scan(self.path)
        inode = self._opened.identity.inode
        successor = _next(generations, _read_up_to(generations, self._older))
        is_there = any(generation.inode == inode for generation in generations)
        return successor is None or generations[successor].inode == inode or not is_there

    def _find_newer(self, here: LogFile) -> LogFile | None:
        generations = scan(self.path)
        inodes = [generation.inode for generation in generations]
        is_there = here.identity.inode in inodes  # an open file's inode is no other's
        self._gone = not is_there
        after = inodes.index(here.identity.inode) if is_there else _read_up_to(generations, self._older)
        if not _holds_something(generations[:after]):
            return None
        if not is_there:
            return self._find_behind_gone(generations, after)
        newer = next((number for number in range(after - 1, 0, -1) if generations[number].readable), 0)
        return self._open_newer(generations, newer, after)

    def _find_behind_gone(self, generations: list[Generation], after: int) -> LogFile | None:
        successor = _next(generations, after)
        if successor is None:
            return None
        newer = self._open_newer(generations, successor, after)
        self._followed_a_gone_file = self._older is None or successor == len(generations) - 1
        return newer

    def _open_newer(self, generations: list[Generation], newer: int, after: int) -> LogFile:
        passed = self._passing(generations, newer, after)
        file = open_generation(generations[newer])
        self._passed = passed
        return file


def _holds_something(generations: Iterable[Generation]) -> bool:
    """Whether something stands in one of them, or may."""
    return any(generation.size or not generation.readable for generation in generations)


def _find_place(generations: list[Generation], place: LogOffset) -> int | None:
    """Find the file that holds what was read up to a place: the same file before a copy of it."""
    order = sorted(range(len(generations)), key=lambda number: generations[number].inode != place.file.inode)
    for number in order:
        if generations[number].readable and (generations[number].inode == place.file.inode or place.offset):
            file = open_generation(generations[number])
            try:
                if holds(file, place):
                    return number
            finally:
                file.close()
    return None


def _find_older_copy(generations: list[Generation], place: LogOffset) -> Generation | None:
    """Find a copy that was made before the last of what was read was written: there is nothing new in it."""
    number = locate(generations, place.file)
    if number is None or generations[number].inode == place.file.inode:
        return None
    return generations[number] if generations[number].size < place.offset else None


def holds(file: LogFile, place: LogOffset) -> bool:
    """Whether the file begins as that of the place does, and has the same bytes before the offset."""
    start = max(0, place.offset - BEFORE)
    before = file.read(start, place.offset - start)
    return len(before) == place.offset - start and crc32(before) == place.before and file.begins_as(place.file)


def _same_lines(one: LogFile, other: LogFile, end: int) -> int:
    """Count the octets of the whole lines with which both begin, up to that byte."""
    whole = reached = 0
    while reached < end:
        length = min(_COMPARED, end - reached)
        mine, theirs = one.read(reached, length), other.read(reached, length)
        if mine != theirs:
            differ = (number for number, (one_, other_) in enumerate(zip(mine, theirs, strict=False)) if one_ != other_)
            last = mine.rfind(b"\n", 0, next(differ, min(len(mine), len(theirs))))
            return whole if last < 0 else reached + last + 1
        whole = reached + mine.rfind(b"\n") + 1 if b"\n" in mine else whole
        reached += length
    return end


def _read_up_to(generations: list[Generation], older: FileIdentity | None) -> int:
    """Find the number of the generation that was read last; that of all of them when it is gone."""
    elder = locate(generations, older) if older is not None else None
    return len(generations) if elder is None else elder


def _next(generations: list[Generation], after: int) -> int | None:
    """Find what is read after that generation; None: not there yet.

    Empty files and such as may not be read are passed over, but for the newest.
    """
    if not after:
        return None
    filled = (number for number in range(after - 1, 0, -1) if generations[number].size and generations[number].readable)
    return next(filled, 0)


def _older_than(generations: list[Generation], place: int) -> FileIdentity | None:
    if place + 1 >= len(generations):
        return None
    if not generations[place + 1].readable:
        return generations[place + 1].by_inode
    file = open_generation(generations[place + 1])
    try:
        return file.identity
    finally:
        file.close()


def _line_start(file: LogFile) -> int:
    """Find where the last line begins that has no LF yet: the end of the file, mostly."""
    end = file.size
    start = max(0, end - 65_536)
    return start + file.read(start, end - start).rfind(b"\n") + 1
