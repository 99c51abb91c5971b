"""A log and its rotated generations: PATH the newest, then PATH.1, PATH.2, … as auditd names them.

Which file is which: rotation renames a file, so that its name says nothing, and the inode of a deleted file is soon
given to a new one. A file is therefore known by its inode and the CRC-32 of its first line (of its first 256 bytes, if
that is longer; of what there is, while that is shorter); audit records begin with their time and serial, so no two
files agree in it. The device is left out: all generations lie in one folder, and a device's number may change at boot.
Where the inode is found nowhere, a fingerprint of `ENOUGH` bytes is enough: that file was copied, or restored.

A folder cannot be read at one moment while files are being renamed in it. `scan` therefore reads it until two readings
agree; since rotation brings no name back to a file that it had before, what they agree in was so in between.

Whether a file may be read is looked at by opening it: only that counts modes, access lists and capabilities alike. Of
one that may not, the inode alone is known.

OSErrors leave here as they are: the source knows whether to give up or to try again.
"""

import contextlib
import errno
import fcntl
import os
import re
import signal
import stat
import time
from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

import msgspec

FINGERPRINT = 256
ENOUGH = 40
"""Bytes: a type, a time and a serial are about so long."""
MAX_LINE = 1024 * 1024
_COUNTED = 256 * 1024
"""Octets that are looked at together for the end of a run of NULs."""
_SETTLED_NS = 1_000_000_000
"""After so long a file that is written again has another time of change."""
_READINGS = 20
_READ_ONLY = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
"""O_NONBLOCK: what was a file when it was looked at may be a FIFO by now."""


class FileIdentity(msgspec.Struct, frozen=True, array_like=True):
    """A file whatever its name: its inode, and the CRC-32 of its first `length` bytes."""

    inode: int
    length: int
    checksum: int


class Generation(NamedTuple):
    """A file of the log, under the name that it had at the last scan."""

    path: str
    inode: int
    size: int
    readable: bool = True

    @property
    def refused(self) -> bool:
        """Whether there is something in it that may not be read."""
        return self.size > 0 and not self.readable

    @property
    def by_inode(self) -> FileIdentity:
        """The file as it is known without being read."""
        return FileIdentity(self.inode, 0, crc32(b""))


class NulStretch(NamedTuple):
    """A run of NULs in a file: blocks that were never written, as after a power cut, or a hole."""

    octets: int
    is_followed: bool
    """Whether other data follows; else they reach the end of the file."""


class LogFile:
    """One open file of the log. After `close` only its identity can be asked for."""

    def __init__(self, path: str) -> None:
        self.path = path
        """The name that it was opened by; rotation may have given it another."""
        self._descriptor = os.open(path, _READ_ONLY)
        self._inode = os.fstat(self._descriptor).st_ino
        self._head = b""
        self._last_nuls: tuple[tuple[int, int, int], NulStretch] | None = None
        """What was counted last, where, and the file's size and time of change then."""
        self.learn(self.read(0, FINGERPRINT))

    def __repr__(self) -> str:
        return f"<LogFile {self.path!r} {self.identity}>"

    @property
    def identity(self) -> FileIdentity:
        """What the file is known by: as it was when it was opened, and what was learnt of it since."""
        return self._identity

    def learn(self, beginning: bytes) -> None:
        """Take what was read from the beginning: the fingerprint grows with it.

        It is not read again for this: a file that is cut and written anew would lend its inode to other bytes.
        """
        line, end, _ = beginning[:FINGERPRINT].partition(b"\n")
        if not self._head.startswith(line + end):
            self._head = line + end
        self._identity = FileIdentity(self._inode, len(self._head), crc32(self._head))

    @property
    def size(self) -> int:
        """The length in bytes now."""
        return os.fstat(self._descriptor).st_size

    @property
    def deleted(self) -> bool:
        """Whether it has no name any more."""
        return os.fstat(self._descriptor).st_nlink == 0

    @property
    def abandoned(self) -> bool:
        """Whether it has no name, and nobody has it open to write; False also where that may not be asked.

        fcntl(2): a read lease is given to the file's owner and to CAP_LEASE, and only while nobody has it open so.
        """
        if not self.deleted:
            return False
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._descriptor, fcntl.F_SETSIG, signal.SIGURG)  # what breaks a lease: this is ignored
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            return True
        return False

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer at the end of the file."""
        return os.pread(self._descriptor, length, offset)

    def nuls(self, offset: int) -> NulStretch:
        """Count the NULs from `offset` on. A hole is not read, and what did not change is not read again."""
        facts = os.fstat(self._descriptor)
        seen = (offset, facts.st_size, facts.st_mtime_ns)
        if self._last_nuls is not None and self._last_nuls[0] == seen:
            return self._last_nuls[1]
        is_settled = time.time_ns() - facts.st_mtime_ns > _SETTLED_NS
        found = self._count_nuls(offset, facts.st_size)
        self._last_nuls = (seen, found) if is_settled else None
        return found

    def _count_nuls(self, offset: int, size: int) -> NulStretch:
        end = offset
        while end < size:
            end = self._behind_hole(end, size)
            data = self.read(end, min(_COUNTED, size - end))
            rest = data.lstrip(b"\0")
            end += len(data) - len(rest)
            if rest or not data:
                break
        return NulStretch(end - offset, is_followed=end < size)

    def _behind_hole(self, offset: int, size: int) -> int:
        """Where data begins from `offset` on; lseek(2), SEEK_DATA. What a hole holds reads as NULs."""
        try:
            return min(os.lseek(self._descriptor, offset, os.SEEK_DATA), size)
        except OSError as error:
            return size if error.errno == errno.ENXIO else offset  # EINVAL: this file system does not know

    def begins_as(self, identity: FileIdentity) -> bool:
        """Whether the file's first bytes have this fingerprint."""
        head = self.read(0, identity.length)
        return len(head) == identity.length and crc32(head) == identity.checksum

    def close(self) -> None:
        """Close it; a second call does nothing."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class RotationError(OSError):
    """The files were renamed all the while: look again later."""


def scan(path: str) -> list[Generation]:
    """Read which generations there are, the newest first; none when the folder is missing."""
    before = _reading(path)
    for _ in range(_READINGS):
        now = _reading(path)
        if [entry[:2] for entry in now] == [entry[:2] for entry in before]:
            return [_if_refused(generation) for generation in now]
        before = now
    raise RotationError(0, "the log is being rotated without a pause", path)


def open_generation(generation: Generation) -> LogFile:
    """Open a generation that a scan found; RotationError when its name is another's by now."""
    try:
        file = LogFile(generation.path)
    except FileNotFoundError as error:
        raise RotationError(error.errno, "the file was renamed", generation.path) from error
    if file.identity.inode != generation.inode:
        file.close()
        raise RotationError(0, "the file was renamed", generation.path)
    return file


def locate(generations: Iterable[Generation], identity: FileIdentity) -> int | None:
    """Find a file among the generations: its place in the list, None when it is gone."""
    candidates = list(enumerate(generations))
    for place, generation in candidates:
        if generation.inode == identity.inode and _begins_as(generation, identity):
            return place
    for place, generation in candidates:
        if identity.length >= ENOUGH and _begins_as(generation, identity):
            return place
    return None


def _reading(path: str) -> list[Generation]:
    folder, name = os.path.split(path)
    pattern = re.compile(re.escape(name) + r"(?:\.([1-9][0-9]{0,5}))?")
    try:
        names = os.listdir(folder or ".")
    except FileNotFoundError:
        return []
    found = {}
    for match in filter(None, map(pattern.fullmatch, names)):
        generation = _generation(os.path.join(folder, match[0]))
        if generation is not None:
            found[int(match[1] or 0)] = generation
    return [found[number] for number in sorted(found)]


def _generation(path: str) -> Generation | None:
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        return None
    return Generation(path, facts.st_ino, facts.st_size) if stat.S_ISREG(facts.st_mode) else None


def _if_refused(generation: Generation) -> Generation:
    """Mark what may not be read. Any other error is told when the file is opened to be read."""
    try:
        os.close(os.open(generation.path, _READ_ONLY))
    except PermissionError:
        with contextlib.suppress(OSError):
            if os.stat(generation.path).st_ino == generation.inode:  # else it was renamed just now
                return generation._replace(readable=False)
    except OSError:
        pass
    return generation


def _begins_as(generation: Generation, identity: FileIdentity) -> bool:
    if generation.size < identity.length:
        return False
    if not generation.readable:
        return generation.inode == identity.inode
    file = open_generation(generation)
    try:
        return file.begins_as(identity)
    finally:
        file.close()
