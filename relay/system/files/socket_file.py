"""The file of a Unix socket on which a program listens.

A socket's file outlives its process. A file at the path is removed only if it is a socket that nobody serves. Anything
else there is an error: another file, a link, or the socket of a program that runs. The listener's own file is removed
when it stops, unless another one has taken its place. Of several relays that start at once on an old file, one listens:
each locks the socket's folder from its look at the file until it listens.
"""

import contextlib
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from typing import Final

from relay.errors import CannotCreateError

LOCK_SECONDS: Final = 2.0
_LOCK_PAUSE: Final = 0.01


def open_socket(path: str, kind: socket.SocketKind, mode: int, backlog: int, key: str) -> socket.socket:
    """Make a socket's file of that mode, and listen there; CannotCreateError when something else is at the path.

    `key` is the one of the configuration that names the path.
    """
    with _locked(os.path.dirname(path)), contextlib.ExitStack() as undo:
        _make_way(path, key)
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, kind))
        sock.bind(path)
        undo.callback(_unlink, path)
        os.chmod(path, mode)
        if kind is socket.SOCK_STREAM:
            sock.listen(backlog)
        undo.pop_all()
    return sock


def is_served(path: str) -> bool:
    """Whether a program listens on the socket at that path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(path)  # sends nothing; a stream socket that is served answers EPROTOTYPE
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            pass
        return True


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Wait for other relays that begin to listen in this folder, but not for long: other programs may lock it too."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # a folder in which this user may make files, without reading it
        yield
        return
    try:
        until = time.monotonic() + LOCK_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(_LOCK_PAUSE)
        yield
    finally:
        os.close(descriptor)


def _make_way(path: str, key: str) -> None:
    """Remove the file that a killed program left."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        kind = f"a link to {os.path.realpath(path)}" if stat.S_ISLNK(found.st_mode) else "not a socket"
        raise CannotCreateError(path, f"it exists and is {kind}", f"choose another path in `{key}`, or remove it")
    if is_served(path):
        remedy = f"choose another path in `{key}`, or stop the program that listens there (`ss -xlp src {path}`)"
        raise CannotCreateError(path, "another program listens on this socket", remedy)
    _unlink(path)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


class SocketFile:
    """The file of a listener's socket, from the moment when it listens."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity = _identity(path)

    def set_mode(self, mode: int) -> None:
        """Change who may send."""
        with contextlib.suppress(OSError):  # removed by somebody else: nobody can send
            os.chmod(self._path, mode)

    def remove(self) -> None:
        """Remove it, unless it is another one by now."""
        if self._identity is not None and _identity(self._path) == self._identity:
            with contextlib.suppress(OSError):
                _unlink(self._path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
