"""Reading a log through its generations, the oldest unread byte first: one offset, which only moves forward.

    follower = Follower("/var/log/audit/audit.log", start="oldest")   # or reached=…, to continue there
    follower.settle()          # find the file; False: it does not exist yet
    follower.read(length)      # the bytes at the offset; none at the end of the file
    follower.advance(count)
    follower.nuls(count)       # the NULs that begin `count` bytes behind the offset
    follower.skip_nuls(count)
    follower.find_newer()      # at the end: is there a newer file? If so, read once more, and then:
    follower.switch()

Each read reads the bytes before the offset again. If they have changed, the file was cut and written anew. A copy may
still hold what was read (logrotate's copytruncate); reading then continues in the copy.

An empty newer file proves nothing: logrotate may have created it without signalling auditd. So the offset stays in its
file until a newer file has data. A file that was deleted or renamed, and was left for a newer one, is still read
(`detached_files`). A deleted file is released earlier when no process has it open for writing, or when its disk is
full: it would occupy the space that its deletion was meant to free, and that the new log needs.

An older file that is unreadable is skipped when a newer one is readable, and is not read later. Reading waits for the
newest file (PermissionError). `losses` collects what was skipped, gone or cut, until the caller removes it.

All calls block for as long as the disk does. OSErrors are raised unchanged, and the offset does not move then.
"""

import contextlib
import errno
import logging
import os
import re
import stat
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple
from zlib import crc32

from relay.errors import StorageError
from relay.source.auditd.detached_files import QUIET_S, DetachedFiles
from relay.source.auditd.generations import (
    FINGERPRINT,
    MAX_LINE,
    FileIdentity,
    Generation,
    LogFile,
    NulStretch,
    RotationError,
    locate,
    open_generation,
    scan,
)
from relay.source.auditd.log_offset import (
    BEFORE,
    LogOffset,
    count_same,
    find_older_copy,
    find_same,
    have_data,
    holds,
    last_read,
    next_filled,
    older_than,
)
from relay.system.disk import Disk

_LAST_LINE: Final = 65_536
_LINE_END: Final = re.compile(rb"[\n\0]")
CUT: Final = "the file was cut"
GONE: Final = "the file was rotated away, deleted or written anew"
REFUSED: Final = "relay is not allowed to read the file"
NEVER_WRITTEN: Final = "blocks were never written, as after a power cut"
DELETED: Final = "records written to a deleted file may be lost"

logger = logging.getLogger(__name__)

Start = Literal["oldest", "now"]


class LogLoss(NamedTuple):
    """Data that may be lost between two records; its size is not known."""

    file: str
    cause: str
    certain: bool = False
    nuls: int = 0
    """The number of skipped NULs."""


class OlderRefusedError(PermissionError):
    """An older file is unreadable while a newer one is readable: it is skipped only when `skip_unreadable` is set."""


class Follower:
    """Reads one log."""

    def __init__(
        self,
        path: str,
        *,
        start: Start = "oldest",
        reached: LogOffset | None = None,
        detached_quiet_s: float = QUIET_S,
    ) -> None:
        self.path = os.path.abspath(path)
        self.skip_unreadable = True
        """Whether unreadable older files are skipped, or OlderRefusedError is raised."""
        self.losses: list[LogLoss] = []
        self.file: LogFile | None = None
        """None: no readable file was found so far."""
        self.offset = 0
        self.loss_count = 0
        self.detached = DetachedFiles(detached_quiet_s)
        """Files that are no longer the log and may still be written; `close` leaves them open."""
        self._start = start
        self._last_reached = reached
        self._before = b""
        """The bytes before the offset, at most BEFORE of them."""
        self._data = b""
        """The result of the last read at the offset."""
        self._older = reached.older if reached else None
        self._newer: LogFile | None = None
        self._skipped: Sequence[Generation] = ()
        """The generations that `switch` leaves out, the newest first."""
        self._is_behind_gap = False
        """Whether the newer file follows a file that is gone."""
        self._was_cut = False
        self._is_detached = False
        """Whether the last scan did not find the file."""
        self._released_whole: bool | None = None
        """After a deleted file was released: whether no process could still write it; None: no file was released."""

    @property
    def reached(self) -> LogOffset:
        """How far the log is read; ValueError before a file was ever found."""
        if self.file is not None:
            return LogOffset(self.file.identity, self.offset, crc32(self._before), self._older)
        if self._last_reached is None:
            raise ValueError("no file was found yet")
        return self._last_reached

    @property
    def lag(self) -> int:
        """Unread bytes of the log."""
        here = self.file
        if here is None:
            return self.detached.lag
        lag = self.detached.lag + max(0, here.size - self.offset)
        for generation in scan(self.path):
            if generation.inode == here.identity.inode:
                break
            lag += generation.size
        return lag

    @property
    def has_newer(self) -> bool:
        """Whether `find_newer` found a newer file, so that this one grows no more."""
        return self._newer is not None

    def check_newest(self) -> None:
        """Raise the OSError that keeps the newest file from being read, if there is one."""
        for generation in scan(self.path)[:1]:
            open_generation(generation).close()

    def why_absent(self) -> str:
        """Explain why the log cannot be followed; empty when it can."""
        try:
            is_file = stat.S_ISREG(os.stat(self.path).st_mode)
        except FileNotFoundError:
            return "there is no such file"
        return "" if is_file else "this is not a regular file"

    def settle(self) -> bool:
        """Find the file to read, if none is open; False when there is none."""
        if self.file is not None:
            return True
        generations = scan(self.path)
        if self._last_reached is not None:
            return self._settle_at(self._last_reached, generations)
        if not generations:
            self._start = "oldest"  # every file that appears now is newer than the start
            return False
        if self._start == "now":
            file = self._open(generations[0], 0, older_than(generations, 0))
            # A last line without its LF is read whole.
            end = file.size
            start = max(0, end - _LAST_LINE)
            self._move_to(start + file.read(start, end - start).rfind(b"\n") + 1)
        else:
            self._settle_after(len(generations), generations, None)
        return True

    def read(self, length: int) -> bytes:
        """Up to `length` bytes from the offset; none at the end. A file that was cut is closed: `settle` again."""
        if self.file is None:
            return b""
        known = len(self._before)
        data = self.file.read(self.offset - known, known + length)
        if not data.startswith(self._before) or (data and not self.offset and not self._is_next(self.file)):
            self._last_reached, self._was_cut = self.reached, True
            self.close()
            return b""
        self._data = data[known:]
        return self._data

    def read_lines(self, length: int) -> bytes:
        """Read `length` bytes, or more if no line ends in them: as much as the longest line."""
        data = self.read(length)
        return self.read(MAX_LINE) if len(data) == length and not _LINE_END.search(data) else data

    def advance(self, count: int) -> None:
        """Mark `count` bytes of the last read as read."""
        if self.file is not None and self.offset < FINGERPRINT:
            self.file.learn(self._before + self._data[: min(count, FINGERPRINT)])
        self._before = (self._before + self._data[max(0, count - BEFORE) : count])[-BEFORE:]
        self._data = self._data[count:]
        self.offset += count

    def nuls(self, behind: int) -> NulStretch:
        """Count the NULs that begin so many bytes behind the offset."""
        return self._opened.nuls(self.offset + behind)

    def skip_nuls(self, count: int) -> None:
        """Skip NULs that begin at the offset, and add them to `losses`."""
        written = bytes(min(count, BEFORE))
        if self.offset < FINGERPRINT:
            self._opened.learn(self._before + written)
        self._before = (self._before + written)[-BEFORE:]
        self._data = b""
        self.offset += count
        self.losses.append(LogLoss(self._opened.path, NEVER_WRITTEN, certain=True, nuls=count))
        logger.warning("%s: skipping %d NUL octets: %s", self._opened.path, count, NEVER_WRITTEN)

    def find_newer(self) -> bool:
        """Look for the next newer file; whether there is one, or more to read for another reason."""
        here = self.file
        if self._newer is not None or here is None:
            return self._newer is not None
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self.path).st_ino == here.identity.inode:
                return False
        newer = self._open_newer(here)
        if newer is None:
            if self.offset and here.deleted and ((whole := here.abandoned) or self._is_disk_full()):
                self._last_reached, self._released_whole = self.reached, whole
                self._detach(here)
                self.detached.release(here)
                self.file = None
            return False
        copied = self._copied(here, newer)
        if copied:
            # The file is only being copied: reading continues where auditd writes, until that file is cut.
            self._detach(here)
            self.file = newer
            self._move_to(copied)
            self._skipped, self._is_behind_gap = (), False
            return True
        self._newer = newer
        return True

    def switch(self) -> None:
        """Continue at the beginning of the newer file."""
        if self._newer is None:
            return
        here = self._opened
        # A deleted file leads nowhere. An empty file may be a copy that has just begun, and may yet be older.
        if self.offset and here.identity.inode in (generation.inode for generation in scan(self.path)):
            self._older = here.identity
        self._detach(here)
        self.file, self._newer = self._newer, None
        self._move_to(0)
        if self._is_behind_gap:
            self._note_loss(here.path, GONE)
        self._note_skipped(self._skipped)
        self._skipped, self._is_behind_gap = (), False

    def close(self) -> None:
        """Close the files; `settle` finds the offset again."""
        for file in (self.file, self._newer):
            if file is not None:
                file.close()
        self.file = self._newer = None
        self._skipped, self._is_behind_gap = (), False

    @property
    def is_detached(self) -> bool:
        """Whether the file is no longer the log: a process that has it open may continue in the middle of a line."""
        return self._is_detached or self._opened.deleted

    @property
    def needs_polling(self) -> bool:
        """Whether files are read whose growth no folder watch reports."""
        return bool(self.detached) or (self.file is not None and self.is_detached)

    @property
    def _opened(self) -> LogFile:
        if self.file is None:
            raise ValueError("no file is open")
        return self.file

    # --- Finding the offset again ---

    def _settle_at(self, reached: LogOffset, generations: list[Generation]) -> bool:
        if not reached.offset:
            return self._settle_after(last_read(generations, reached.older), generations, reached.older)
        same = find_same(generations, reached)
        if same is not None:
            file = self._open(generations[same], reached.offset, reached.older)
            if not holds(file, reached) or crc32(self._before) != reached.before:
                self.close()
                raise RotationError(0, "the file was cut just now", self.path)
            return True
        copy = find_older_copy(generations, reached)
        if copy is not None:
            self._open(copy, copy.size, reached.older)
            return True
        here = locate(generations, reached.file)
        if here is None:
            return self._settle_without(reached, generations)
        if generations[here].readable:
            self._note_loss(self._open(generations[here], 0, reached.older).path, CUT)
            return True
        if not here:
            open_generation(generations[here]).close()  # raises the error that explains it
            raise RotationError(0, "it may be read after all", generations[here].path)
        # It cannot be read any more: continue after it.
        size = generations[here].size
        settled = self._settle_after(here + (size > reached.offset), generations, generations[here].by_inode)
        if settled and size < reached.offset:
            self._note_loss(generations[here].path, CUT)
        return settled

    def _settle_without(self, reached: LogOffset, generations: list[Generation]) -> bool:
        """Continue after the file before, because the file itself is gone."""
        cause = CUT if self._was_cut else GONE
        after = last_read(generations, reached.older)
        released_whole = self._released_whole
        if not after or (released_whole is not None and not have_data(generations[:after])):
            return False
        successor = next_filled(generations, after)
        if not self._settle_after(after, generations, older_than(generations, successor)):
            return False
        if not released_whole or successor == len(generations) - 1:
            self._note_loss(self.path, cause)
        return True

    def _settle_after(self, after: int, generations: list[Generation], older: FileIdentity | None) -> bool:
        """Open the generation after that number; False: it does not exist yet."""
        if not after:
            return False
        successor = next_filled(generations, after)
        skipped = self._skipped_between(generations, successor, after)
        self._open(generations[successor], 0, older)
        self._note_skipped(skipped)
        return True

    def _open(self, generation: Generation, offset: int, older: FileIdentity | None) -> LogFile:
        self.file = file = open_generation(generation)
        self._older, self._was_cut, self._released_whole = older, False, None
        self._move_to(offset)
        return file

    def _move_to(self, offset: int) -> None:
        start = max(0, offset - BEFORE)
        self.offset, self._data = offset, b""
        self._before = self._opened.read(start, offset - start)

    # --- Newer files ---

    def _is_next(self, file: LogFile) -> bool:
        """Whether the file, of which nothing was read so far, still follows the last read one.

        If not, it was cut before it could be read: a copy holds its data, and is read first.
        """
        generations = scan(self.path)
        inode = file.identity.inode
        after = last_read(generations, self._older)
        is_there = any(generation.inode == inode for generation in generations)
        return not after or generations[next_filled(generations, after)].inode == inode or not is_there

    def _open_newer(self, here: LogFile) -> LogFile | None:
        """Open the file to read after this one; None: it does not exist yet."""
        generations = scan(self.path)
        inodes = [generation.inode for generation in generations]
        is_there = here.identity.inode in inodes  # the inode of an open file belongs to no other file
        self._is_detached = not is_there
        after = inodes.index(here.identity.inode) if is_there else last_read(generations, self._older)
        if not have_data(generations[:after]):
            return None
        if is_there:
            newer = next((number for number in range(after - 1, 0, -1) if generations[number].readable), 0)
        else:
            newer = next_filled(generations, after)
        skipped = self._skipped_between(generations, newer, after)
        file = open_generation(generations[newer])
        self._skipped = skipped
        if not is_there:
            self._is_behind_gap = self._older is None or newer == len(generations) - 1
        return file

    def _copied(self, here: LogFile, newer: LogFile) -> int:
        """How many bytes of the newer file are what was read of this one; 0: it is another file.

        A file that replaced this one (`sed -i`) may have been made before the last of what was read was written, and
        may be changed; the part that differs is read. A detached file that is the log again is read on.
        """
        offset = self.detached.take_back(newer.identity.inode)
        if offset is not None:
            return offset if offset <= newer.size else 0
        if self.is_detached:
            return count_same(here, newer, self.offset)
        return self.offset if self.offset and holds(newer, self.reached) else 0

    def _is_disk_full(self) -> bool:
        """Whether a log exists and cannot be written for want of space."""
        if not os.path.exists(self.path):
            return False
        with contextlib.suppress(StorageError):
            if not Disk().free(self.path):
                logger.warning("%s was deleted, and its disk is full: closing it to free its space", self._opened.path)
                return True
        return False

    def _detach(self, file: LogFile) -> None:
        """Close a file that is still a generation of the log; keep any other open."""
        if not (self._is_detached or file.deleted):
            file.close()
        elif self.detached.add(file, self.offset):
            self._note_loss(file.path, DELETED)

    # --- Losses ---

    def _skipped_between(self, generations: list[Generation], successor: int, after: int) -> list[Generation]:
        """Return what would be left out, the newest first; OlderRefusedError unless `skip_unreadable` is set."""
        skipped = [generation for generation in generations[successor + 1 : after] if generation.refused]
        if skipped and generations[successor].readable and not self.skip_unreadable:
            raise OlderRefusedError(errno.EACCES, os.strerror(errno.EACCES), skipped[-1].path)
        return skipped

    def _note_skipped(self, skipped: Sequence[Generation]) -> None:
        for generation in reversed(skipped):
            self._note_loss(generation.path, REFUSED)
            self._older = generation.by_inode

    def _note_loss(self, file: str, cause: str) -> None:
        self.loss_count += 1
        self.losses.append(LogLoss(file, cause))
        logger.warning("%s: %s; continuing in %s; unread records may be lost", file, cause, self._opened.path)
