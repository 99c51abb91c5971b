"""A disk that fails as real disks do: a double of relay.system.disk.Disk for crash and fault tests.

It is in memory. Written data is visible at once, and durable only after a sync:

- `crash` forgets a part of what was not synced. Every 512-octet sector of every unsynced write survives or not, by the
  given randomness, and so do lengths (allocate, truncate). A folder's unsynced changes (create, rename, remove) happen
  or not, each by itself, in any order.
- A call can fail: `fail_at` has the number of the call (from 1) and the errno. A failed write leaves a prefix behind (a
  short write). A failed sync drops the data that it should have written, and a later successful sync does not restore
  it (as on Linux, which marks the pages clean); only writing it again does.
- `without` names one place in the code whose sync silently does nothing, to test the tests. `sites` has every such
  place that was reached: the calling function, and which sync it called.
"""

import errno
import os
import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

from relay.errors import TemporaryError
from relay.system.disk import Disk, File, Lock, storage_error

SECTOR = 512


class Crash(BaseException):
    """The power failed: no code under test must catch this."""


@dataclass(slots=True)
class _Inode:
    """A file's contents: as visible, as durable, and the changes in between."""

    seen: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(offset, data) of a write, (length, None) of a change of length."""

    def write(self, data: bytes, offset: int) -> None:
        _splice(self.seen, data, offset)
        self.pending.append((offset, data))

    def set_length(self, length: int) -> None:
        _set_length(self.seen, length)
        self.pending.append((length, None))

    def sync(self) -> None:
        for place, data in self.pending:
            _apply(self.durable, place, data)
        self.pending.clear()

    def crash(self, chance: random.Random) -> None:
        for place, data in self.pending:
            if data is None:
                if chance.random() < 0.5:
                    _set_length(self.durable, place)
                continue
            for start, end in _sectors(place, len(data)):
                if chance.random() < 0.5:
                    _splice(self.durable, data[start:end], place + start)
        self.pending.clear()
        self.seen = bytearray(self.durable)


def _sectors(offset: int, length: int) -> list[tuple[int, int]]:
    """Return the parts of a write that survive or not, by the sectors of the file."""
    parts, start = [], 0
    while start < length:
        end = min(length, start + SECTOR - (offset + start) % SECTOR)
        parts.append((start, end))
        start = end
    return parts


def _apply(content: bytearray, place: int, data: bytes | None) -> None:
    if data is None:
        _set_length(content, place)
    else:
        _splice(content, data, place)


def _splice(content: bytearray, data: bytes, offset: int) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _set_length(content: bytearray, length: int) -> None:
    if length < len(content):
        del content[length:]
    else:
        content.extend(bytes(length - len(content)))


class FakeFile(File):
    """An open file on a FakeDisk."""

    def __init__(self, disk: "FakeDisk", path: str, inode: _Inode) -> None:
        super().__init__(path, -1)
        self._disk = disk
        self._inode = inode

    def write(self, data: bytes | memoryview, offset: int) -> None:
        content = bytes(data)
        try:
            self._disk.call("write", self.path)
        except Exception:
            self._inode.write(content[: self._disk.chance.randrange(len(content) + 1)], offset)
            raise
        self._inode.write(content, offset)

    def read(self, length: int, offset: int) -> bytes:
        return bytes(self._inode.seen[offset : offset + length])

    def sync(self) -> None:
        try:
            self._disk.call("sync", self.path)
        except Exception:
            self._inode.pending.clear()
            raise
        if self._disk.syncs("sync"):
            self._inode.sync()

    def allocate(self, size: int) -> None:
        self._disk.call("allocate", self.path)
        if size > len(self._inode.seen):
            self._inode.set_length(size)

    def truncate(self, size: int) -> None:
        self._disk.call("truncate", self.path)
        self._inode.set_length(size)

    @property
    def size(self) -> int:
        return len(self._inode.seen)

    @property
    def deleted(self) -> bool:
        return not any(inode is self._inode for inode in self._disk.seen())

    def close(self) -> None:
        pass


class FakeLock(Lock):
    """A lock of a FakeDisk; a crash releases it."""

    def __init__(self, disk: "FakeDisk", path: str) -> None:
        super().__init__(path, -1)
        self._disk = disk

    def release(self) -> None:
        self._disk.locked.discard(self.path)


class FakeDisk(Disk):
    """The disk; it outlives the crashes of its users."""

    def __init__(self, seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.calls: list[str] = []
        self.fail_at: dict[int, int] = {}
        """Number of a call → errno."""
        self.fail_always: int = 0
        """Errno of every call that needs space, while it is not 0."""
        self.crash_at = 0
        """Number of the call before which the power fails, so that no later call returns; 0 for never."""
        self.without = ""
        self.sites: set[str] = set()
        self.locked: set[str] = set()
        self._seen: dict[str, _Inode] = {}
        self._durable: dict[str, _Inode] = {}
        self._pending: list[tuple[str, str, _Inode | None]] = []
        """(folder, path, inode or None for gone): unsynced entries."""
        self._folders: set[str] = {"/"}

    def call(self, name: str, path: str) -> None:
        """Count a call that changes something; it may fail, or be the last one before the crash."""
        self.calls.append(name)
        number = len(self.calls)
        if 0 < self.crash_at <= number:
            raise Crash(f"before call {number}: {name} {path}")
        code = self.fail_at.get(number, self.fail_always)
        if code:
            raise storage_error(path, name, OSError(code, os.strerror(code)))

    def syncs(self, kind: str) -> bool:
        """Return whether the requested sync happens, and record the caller."""
        asking = sys._getframe(2).f_code
        site = f"{asking.co_qualname} {kind}"
        self.sites.add(site)
        return site != self.without

    def crash(self) -> None:
        """Lose what a power cut may lose; the disk can be used again afterwards."""
        self.chance.shuffle(self._pending)
        for _, path, inode in self._pending:
            if self.chance.random() < 0.5:
                _enter(self._durable, path, inode)
        self._pending.clear()
        for inode in {id(inode): inode for inode in (*self._seen.values(), *self._durable.values())}.values():
            inode.crash(self.chance)
        self._seen = dict(self._durable)
        self.locked.clear()
        self.crash_at = 0

    def kill(self) -> None:
        """End the process but not the machine: written data is still visible, and as durable as before."""
        self.locked.clear()
        self.crash_at = 0

    def seen(self) -> Iterable[_Inode]:
        """Return every file that has a name."""
        return self._seen.values()

    # --- relay.system.disk.Disk ---

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> FakeFile:
        del writable
        inode = self._seen.get(path)
        if inode is None:
            if not create:
                raise storage_error(path, "open", OSError(errno.ENOENT, "no such file"))
            self.call("create", path)
            inode = _Inode()
            self._change(path, inode)
        return FakeFile(self, path, inode)

    def exists(self, path: str) -> bool:
        return path in self._seen or path in self._folders

    def names(self, folder: str) -> list[str]:
        entries = {*self._seen, *self._folders}
        return sorted(path.rpartition("/")[2] for path in entries if path.rpartition("/")[0] == folder)

    def make_folder(self, path: str, *, durable: bool = True) -> list[str]:
        """Durable on return, as the real call promises; that promise is not tested here."""
        del durable
        made: list[str] = []
        while path not in self._folders:
            self._folders.add(path)
            made.append(path)
            path = path.rpartition("/")[0] or "/"
        return made

    def require_private(self, path: str) -> None:
        """The folder exists."""

    def replace(self, source: str, target: str) -> None:
        self.call("replace", target)
        inode = self._seen[source]
        self._change(target, inode)
        self._change(source, None)

    def remove(self, path: str) -> None:
        self.call("remove", path)
        self._change(path, None)

    def sync_folder(self, path: str) -> None:
        self.call("sync_folder", path)
        if not self.syncs("sync_folder"):
            return
        for folder, name, inode in self._pending:
            if folder == path:
                _enter(self._durable, name, inode)
        self._pending = [change for change in self._pending if change[0] != path]

    def lock(self, path: str) -> Lock:
        if path in self.locked:
            raise TemporaryError(path, "in use")
        self.locked.add(path)
        if path not in self._seen:
            self._change(path, _Inode())
        return FakeLock(self, path)

    def lock_owner(self, path: str) -> int | None:
        return 1 if path in self.locked else None

    def free(self, path: str) -> int:
        del path
        return 0 if self.fail_always else 1 << 40

    def _change(self, path: str, inode: _Inode | None) -> None:
        _enter(self._seen, path, inode)
        self._pending.append((path.rpartition("/")[0], path, inode))


def _enter(entries: dict[str, _Inode], path: str, inode: _Inode | None) -> None:
    if inode is None:
        entries.pop(path, None)
    else:
        entries[path] = inode
