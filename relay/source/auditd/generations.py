"""A log and its rotated generations: PATH the newest, then PATH.1, PATH.2, … as auditd names them.

Identity: rotation renames a file, so its name identifies nothing, and a new file soon gets the inode of a deleted one.
A file is therefore identified by its inode and the CRC-32 of its first line (at most its first 256 bytes, or less while
the file is shorter). Audit records begin with their time and serial, so no two files agree there. The device is left
out: all generations are in one folder, and a device's number may change at boot. Where no file has the inode, a
fingerprint of `ENOUGH` bytes identifies a file that was copied or restored.

A folder cannot be read in one moment while files are being renamed in it. `scan` therefore reads it until two listings
agree. Rotation never gives a file back a name that it had before, so both are then right for the moment between them.

`scan` opens each file to see whether it is readable, because only that respects modes, access lists and capabilities
alike. Of an unreadable file only the inode is known.

OSErrors are raised unchanged: the source decides whether to fail or to retry.
"""

import contextlib
import errno
import fcntl
import os
import re
import signal
import stat
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Self
from zlib import crc32

import msgspec

FINGERPRINT: Final = 256
ENOUGH: Final = 40
"""Bytes: the usual length of a type, a time and a serial."""
MAX_LINE: Final = 1024 * 1024
_COUNTED = 256 * 1024
"""Octets that are read together to find the end of a run of NULs."""
_SETTLED_NS = 1_000_000_000
"""A file that is written again after this time has another modification time."""
_LISTINGS = 20
_READ_ONLY = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
"""O_NONBLOCK: a FIFO may have replaced the file since the scan."""


class FileIdentity(msgspec.Struct, frozen=True, array_like=True):
    """Identifies a file under any name: its inode, and the CRC-32 of its first `length` bytes."""

    inode: int
    length: int
    checksum: int


class Generation(NamedTuple):
    """A file of the log, with the name that it had at the last scan."""

    path: str
    inode: int
    size: int
    readable: bool = True

    @property
    def refused(self) -> bool:
        """Whether it has data that relay is not allowed to read."""
        return self.size > 0 and not self.readable

    @property
    def by_inode(self) -> FileIdentity:
        """The identity without a fingerprint, for an unreadable file."""
        return FileIdentity(self.inode, 0, crc32(b""))


class NulStretch(NamedTuple):
    """A run of NULs in a file: blocks that were never written, as after a power cut, or a hole."""

    octets: int
    is_followed: bool
    """Whether other data follows; else they reach the end of the file."""


class LogFile:
    """One open file of the log. After `close` only its path and identity are available."""

    def __init__(self, path: str) -> None:
        self.path = path
        """The name with which it was opened; rotation may have renamed it."""
        self._descriptor = os.open(path, _READ_ONLY)
        self._inode = os.fstat(self._descriptor).st_ino
        self._head = b""
        self._last_nuls: tuple[tuple[int, int, int], NulStretch] | None = None
        """The last count, with its offset and the file's size and modification time at that moment."""
        self.learn(self.read(0, FINGERPRINT))

    def __repr__(self) -> str:
        return f"<LogFile {self.path!r} {self.identity}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def identity(self) -> FileIdentity:
        """The identity at the time of opening, extended by `learn`."""
        return self._identity

    def learn(self, beginning: bytes) -> None:
        """Extend the fingerprint by bytes that were read from the beginning.

        They are not read again for this, because a file that was cut and written anew has other bytes by now.
        """
        line, end, _ = beginning[:FINGERPRINT].partition(b"\n")
        if not self._head.startswith(line + end):
            self._head = line + end
        self._identity = FileIdentity(self._inode, len(self._head), crc32(self._head))

    @property
    def size(self) -> int:
        """The present length in bytes."""
        return os.fstat(self._descriptor).st_size

    @property
    def deleted(self) -> bool:
        """Whether it no longer has a name."""
        return os.fstat(self._descriptor).st_nlink == 0

    @property
    def abandoned(self) -> bool:
        """Whether it has no name, and no process has it open for writing; False also if relay cannot find out.

        fcntl(2): only the file's owner and CAP_LEASE get a read lease, and only while no process has it open so.
        """
        if not self.deleted:
            return False
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._descriptor, fcntl.F_SETSIG, signal.SIGURG)  # instead of SIGIO; it is ignored
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            return True
        return False

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer at the end of the file."""
        return os.pread(self._descriptor, length, offset)

    def nuls(self, offset: int) -> NulStretch:
        """Count the NULs from `offset` on. Holes are not read, and an unchanged file is not read again."""
        facts = os.fstat(self._descriptor)
        seen = (offset, facts.st_size, facts.st_mtime_ns)
        if self._last_nuls is not None and self._last_nuls[0] == seen:
            return self._last_nuls[1]
        is_settled = time.time_ns() - facts.st_mtime_ns > _SETTLED_NS
        end, size = offset, facts.st_size
        while end < size:
            try:
                end = min(os.lseek(self._descriptor, end, os.SEEK_DATA), size)  # lseek(2): holes read as NULs
            except OSError as error:
                if error.errno == errno.ENXIO:  # a hole up to the end; EINVAL: the file system knows no holes
                    end = size
            data = self.read(end, min(_COUNTED, size - end))
            rest = data.lstrip(b"\0")
            end += len(data) - len(rest)
            if rest or not data:
                break
        found = NulStretch(end - offset, is_followed=end < size)
        self._last_nuls = (seen, found) if is_settled else None
        return found

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
    """The files were renamed during every attempt: try again later."""


def scan(path: str, stat_file: Callable[[str], os.stat_result] = os.stat) -> list[Generation]:
    """Read which generations there are, the newest first; none when the folder is missing."""
    before = _list(path, stat_file)
    for _ in range(_LISTINGS):
        now = _list(path, stat_file)
        if [entry[:2] for entry in now] == [entry[:2] for entry in before]:
            return [generation._replace(readable=_is_readable(generation)) for generation in now]
        before = now
    raise RotationError(0, "the log is being rotated without a pause", path)


def open_generation(generation: Generation) -> LogFile:
    """Open a generation that a scan found; RotationError when another file has its name by now."""
    try:
        file = LogFile(generation.path)
    except FileNotFoundError as error:
        raise RotationError(error.errno, "the file was renamed", generation.path) from error
    if file.identity.inode != generation.inode:
        file.close()
        raise RotationError(0, "the file was renamed", generation.path)
    return file


def locate(generations: Iterable[Generation], identity: FileIdentity) -> int | None:
    """Find a file among the generations: its index in the list, None when it is gone."""
    candidates = list(enumerate(generations))
    for number, generation in candidates:
        if generation.inode == identity.inode and _begins_as(generation, identity):
            return number
    for number, generation in candidates:
        if identity.length >= ENOUGH and _begins_as(generation, identity):
            return number
    return None


def _list(path: str, stat_file: Callable[[str], os.stat_result]) -> list[Generation]:
    folder, name = os.path.split(path)
    pattern = re.compile(re.escape(name) + r"(?:\.([1-9][0-9]{0,5}))?")
    try:
        names = os.listdir(folder or ".")
    except FileNotFoundError:
        return []
    found = {}
    for match in filter(None, map(pattern.fullmatch, names)):
        file = os.path.join(folder, match[0])
        with contextlib.suppress(FileNotFoundError):
            facts = stat_file(file)
            if stat.S_ISREG(facts.st_mode):
                found[int(match[1] or 0)] = Generation(file, facts.st_ino, facts.st_size)
    return [found[number] for number in sorted(found)]


def _is_readable(generation: Generation) -> bool:
    """Whether relay is allowed to read it. Any other error is raised when the file is opened to be read."""
    try:
        os.close(os.open(generation.path, _READ_ONLY))
    except PermissionError:
        with contextlib.suppress(OSError):
            return os.stat(generation.path).st_ino != generation.inode  # it was renamed just now
    except OSError:
        pass
    return True


def _begins_as(generation: Generation, identity: FileIdentity) -> bool:
    if generation.size < identity.length:
        return False
    if not generation.readable:
        return generation.inode == identity.inode
    with open_generation(generation) as file:
        return file.begins_as(identity)
