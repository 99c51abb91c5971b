"""Writing the known_hosts file: a server's keys in, or out, once a person has confirmed it.

What is to stand there is told by pure functions; `store` puts it in place of the old text in one step (a new file,
synced and renamed over), so that a crash leaves one or the other. A file that is there keeps its mode and, as far as
this user may, its owner; a new one has mode 0644, since host keys are public. Lines that are not concerned stay byte
for byte. Errors: NoInputError, PermissionRefusedError, StorageError, CannotCreateError.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from shlex import quote
from typing import Final

from relay.errors import CannotCreateError, NoInputError, PermissionRefusedError
from relay.system.disk import Disk
from relay.transport.ssh.host_key import KnownKey, known_hosts_line, names_without
from relay.transport.ssh.public_key import PublicKey

_NEW_MODE: Final = 0o644


def with_keys(text: bytes, host: str, port: int, keys: Iterable[PublicKey]) -> bytes:
    """The file's text with one more line for each of a server's keys."""
    if text and not text.endswith(b"\n"):
        text += b"\n"
    return text + b"".join(known_hosts_line(host, port, key).encode() + b"\n" for key in keys)


def without_keys(text: bytes, path: str, host: str, port: int, stale: Sequence[KnownKey]) -> bytes:
    """The file's text in which those lines no longer pin a server; other servers' names on them stay.

    PermissionRefusedError for a line whose wildcards cover other servers too: what it is worth, a person must say.
    """
    lines = text.decode("utf-8", "surrogateescape").split("\n")  # as `KnownHosts.parse` counts them
    removed: set[int] = set()
    for known in stale:
        names = names_without(known.names, host, port)
        if names is None:
            what = f"{path} line {known.line}"
            cause = f"{known.names} covers other servers as well, so relay does not take it away"
            raise PermissionRefusedError(what, cause, "edit or remove that line by hand")
        line = lines[known.line - 1]
        lines[known.line - 1] = line.replace(known.names, names, 1)
        if not names:
            removed.add(known.line)
    kept = (line for number, line in enumerate(lines, 1) if number not in removed)
    return "\n".join(kept).encode("utf-8", "surrogateescape")


def read(path: str) -> bytes:
    """The file's text; nothing when there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise NoInputError(path, f"cannot be read ({error.strerror})", "let this user read it") from error


def store(path: str, text: bytes, disk: Disk) -> None:
    """Put the text in the file's place, durably."""
    path = os.path.realpath(path)  # a link stays a link
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise CannotCreateError(path, "its folder does not exist", f"make it: `install -d -m 755 {quote(folder)}`")
    new = f"{path}.{os.getpid()}.new"
    with contextlib.ExitStack() as undo:
        with disk.open(new, create=True) as file:
            undo.callback(disk.remove, new)
            file.truncate(0)
            file.write(text, 0)
            _take_after(path, file.descriptor)
            file.sync()
        disk.replace(new, path)
        undo.pop_all()
    disk.sync_folder(folder)


def _take_after(path: str, descriptor: int) -> None:
    """Give the new file the mode and owner of the one it replaces."""
    mode = _NEW_MODE
    with contextlib.suppress(OSError):  # there is none yet, or it belongs to somebody whom we cannot give files to
        old = os.stat(path)
        mode = stat.S_IMODE(old.st_mode)
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, mode)
