"""The disk: the only file that calls fsync, rename, fallocate and statvfs, and the seam for fault injection.

Everything durable is reached through a `Disk` and the `File`s that it opens; a test passes a fake of both.
Offsets and sizes are in bytes. Every OSError leaves here as a StorageError that names the file and the call; its
`errno` distinguishes a full disk (ENOSPC, EDQUOT) from a failing one. After a failed call:

- `File.write`: the file may contain any prefix of the data.
- `File.sync`: nothing written since the last good sync can be assumed durable, even if a later sync succeeds.
- `Disk.replace`, `remove`, `open(create=True)`: durable only after `sync_folder` of the parent.
"""

import errno
import fcntl
import os
import pwd
import shlex
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

from relay.errors import CannotCreateError, PermissionRefusedError, StorageError, TemporaryError

FILE_MODE = 0o600
FOLDER_MODE = 0o700
_LOCK_ATTEMPTS = 10
_LOCK_PAUSE = 0.02
_READ_ONLY = "mount the file system writable; a unit of systemd must also name the folder in ReadWritePaths="


@contextmanager
def _storage_errors(path: str, call: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(path, call, error) from error


def storage_error(path: str, call: str, error: OSError) -> StorageError:
    """The StorageError for a failed `call` on `path`, with the remedy that fits the errno."""
    remedy = {
        errno.ENOSPC: "free space on this file system",
        errno.EDQUOT: "raise the quota or free space",
        errno.EIO: "check the device: the kernel's log names it",
        errno.EACCES: "check the owner and mode",
        errno.ELOOP: "put the file in place of the symbolic link",
        errno.EROFS: _READ_ONLY,
    }.get(error.errno or 0, "")
    mapped = StorageError(path, f"{call} failed: {os.strerror(error.errno or 0)}", remedy)
    mapped.errno = error.errno or 0
    return mapped


def permission_refused(path: str) -> PermissionRefusedError:
    """The error for a file or folder that this user is not allowed to read or write; it names who is allowed to."""
    while True:
        try:
            facts = os.stat(path)
            break
        except OSError:
            path = os.path.dirname(path)
    readable = os.access(path, os.R_OK | (os.X_OK if stat.S_ISDIR(facts.st_mode) else 0))
    call = "write" if readable else "read"
    if facts.st_uid == os.geteuid():
        remedy = f"it belongs to this user: `chmod u+rwX {shlex.quote(path)}`"
    elif os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid()):  # a unit's program: nobody typed a command
        remedy = f"allow the unit's user {_user_name(os.geteuid())} to {call} it"
    elif facts.st_uid == 0:
        remedy = "run this command as root"
    else:
        remedy = f"run this command as root or as the user {_user_name(facts.st_uid)}"
    return PermissionRefusedError(f"cannot {call} {path}", "permission denied", remedy)


def _user_name(uid: int) -> str:
    try:
        return f'"{pwd.getpwuid(uid).pw_name}"'
    except KeyError:
        return f"with the number {uid}"


class File:
    """An open file that is written and read at offsets."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    def __repr__(self) -> str:
        return f"<File {self.path!r} descriptor={self.descriptor}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of `data` at `offset`."""
        view = memoryview(data)
        with _storage_errors(self.path, "write"):
            while view:
                written = os.pwrite(self.descriptor, view, offset)
                offset += written
                view = view[written:]

    def read(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the file."""
        with _storage_errors(self.path, "read"):
            data = os.pread(self.descriptor, length, offset)
            while 0 < len(data) < length:
                more = os.pread(self.descriptor, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
            return data

    def sync(self) -> None:
        """Make the contents and the length durable (fdatasync)."""
        with _storage_errors(self.path, "fdatasync"):
            os.fdatasync(self.descriptor)

    def allocate(self, size: int) -> None:
        """Reserve `size` bytes on the disk for the file; bytes that were not written read as zeros."""
        with _storage_errors(self.path, "fallocate"):
            os.posix_fallocate(self.descriptor, 0, size)

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        with _storage_errors(self.path, "truncate"):
            os.ftruncate(self.descriptor, size)

    @property
    def size(self) -> int:
        """The length in bytes."""
        with _storage_errors(self.path, "stat"):
            return os.fstat(self.descriptor).st_size

    @property
    def deleted(self) -> bool:
        """Whether it has no name any more, so that it cannot be opened again."""
        with _storage_errors(self.path, "stat"):
            return os.fstat(self.descriptor).st_nlink == 0

    def close(self) -> None:
        """Close it; a second call does nothing."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


class Lock:
    """An exclusive lock that dies with its process; the file holds the owner's process id."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def release(self) -> None:
        """Release it; a second call does nothing."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Lock at once or within a moment: `lock_owner` holds the lock for an instant."""
    for _ in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE)
        else:
            return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Disk:
    """The real disk."""

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> File:
        """Open a file; `create` creates it when it is missing (mode 0600). No link is followed for writing.

        StorageError when it is something else than a file: a pipe would block, and has no offsets.
        """
        flags = (os.O_RDWR | os.O_NOFOLLOW if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        with _storage_errors(path, "open"):
            descriptor = os.open(path, flags | (os.O_CREAT if create else 0), FILE_MODE)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StorageError(path, "it is not a file", "remove what somebody has put there")
        return File(path, descriptor)

    def exists(self, path: str) -> bool:
        """Whether there is something of that name; StorageError when this user is not allowed to look."""
        with _storage_errors(path, "stat"), suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(path)
            return True
        return False

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; empty when the folder is missing."""
        with _storage_errors(folder, "list"), suppress(FileNotFoundError):
            return sorted(os.listdir(folder))
        return []

    def make_folder(self, path: str, *, durable: bool = True) -> list[str]:
        """Create a folder (mode 0700) and the missing ones above it, and return these.

        Durable on return, unless the caller says that it syncs the folders above by itself.
        """
        path = os.path.abspath(path)
        missing: list[str] = []
        made: list[str] = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for folder in reversed(missing):
            try:
                os.mkdir(folder, FOLDER_MODE)
            except FileExistsError:
                continue
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                    raise storage_error(folder, "mkdir", error) from error
                cause = f"the folder cannot be created: {os.strerror(error.errno or 0)}"
                remedy = _READ_ONLY if error.errno == errno.EROFS else "create it, or name another"
                raise CannotCreateError(folder, cause, remedy) from error
            made.append(folder)
            if durable:
                self.sync_folder(os.path.dirname(folder))
        return made

    def require_private(self, path: str) -> None:
        """PermissionRefusedError unless the folder belongs to this user and no other user has access."""
        with _storage_errors(path, "stat"):
            facts = os.stat(path)
        if facts.st_uid != os.geteuid():
            cause = f"it belongs to the user {_user_name(facts.st_uid)}, and relay runs as {_user_name(os.geteuid())}"
            raise PermissionRefusedError(path, cause, "run relay as that user, or name another folder")
        if facts.st_mode & 0o077:
            cause = f"its mode {facts.st_mode & 0o777:04o} gives other users access"
            raise PermissionRefusedError(path, cause, f"`chmod 700 {shlex.quote(path)}`")

    def replace(self, source: str, target: str) -> None:
        """Rename `source` over `target`."""
        with _storage_errors(target, "rename"):
            os.replace(source, target)

    def remove(self, path: str) -> None:
        """Delete a file."""
        with _storage_errors(path, "unlink"):
            os.unlink(path)

    def sync_folder(self, path: str) -> None:
        """Make a folder's entries durable."""
        with _storage_errors(path, "fsync of the folder"):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def lock(self, path: str) -> Lock:
        """Lock the file `path`; TemporaryError names the process that holds the lock."""
        with _storage_errors(path, "open"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            _lock(descriptor)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            cause = f"in use by the process with pid {owner}"
            raise TemporaryError(path, cause, "stop that process first, or name another folder") from error
        except OSError as error:
            os.close(descriptor)
            raise storage_error(path, "lock", error) from error
        with suppress(OSError):  # without space for its process id it is locked all the same, by an unknown process
            try:
                os.ftruncate(descriptor, os.pwrite(descriptor, b"%d\n" % os.getpid(), 0))
            except OSError:
                os.ftruncate(descriptor, 0)
        return Lock(path, descriptor)

    def lock_owner(self, path: str) -> int | None:
        """The id of the process that holds the lock file, 0 when it is unknown; None when no process does."""
        if not self.exists(path):
            return None
        with self.open(path, writable=False) as file:
            try:
                fcntl.flock(file.descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read(32, 0).decode("ascii", "replace").strip()
                return int(text) if text.isdigit() else 0
            return None

    def free(self, path: str) -> int:
        """Bytes that an ordinary user may still write on the file system of `path`."""
        with _storage_errors(path, "statvfs"):
            facts = os.statvfs(path)
        return facts.f_bavail * facts.f_frsize
