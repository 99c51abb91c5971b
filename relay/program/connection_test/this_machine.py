"""What a connection test looks at on this machine: the state directory, and who has the local port.

Nothing is made, written or locked: a file that root made here by the way would keep relay's own user out. So rights are
asked of the kernel (access(2)) for the user who asks, and the test is best run as the user that relay runs as.
"""

import contextlib
import os
import pwd
from shlex import quote
from typing import Final

from relay.delivery.sessions.session_steps import StepFinding
from relay.errors import RelayError, StorageError
from relay.spool.store import FOLDERS, LOCK, SLOTS
from relay.system.disk import Disk
from relay.transport.ssh import local_port
from relay.values.address import Address

LOW_SPACE: Final = 100 * 1024**2
"""Octets; below this the free space is worth a warning."""
_MEBIBYTE: Final = 1024**2
_GIBIBYTE: Final = 1024**3
_LARGEST_PID_TEXT: Final = 32

# --- The state directory ---


def inspect_state_directory(disk: Disk, folder: str) -> StepFinding:
    """Whether relay could write there; StorageError when it could not."""
    _writable(folder, os.W_OK | os.X_OK)
    for name in (LOCK, SLOTS, *FOLDERS):
        if disk.exists(f"{folder}/{name}"):
            _writable(f"{folder}/{name}", os.W_OK)
    there = _nearest(folder)
    free = disk.free(there)
    found = f"{folder}: {_space(free)} free{'' if there == folder else '; relay makes it when it starts'}"
    if free < LOW_SPACE:
        return StepFinding(
            f"{found}, less than {_space(LOW_SPACE)}", f"make room there: `df -h {quote(there)}`", warning=True
        )
    return StepFinding(found)


def _writable(path: str, rights: int) -> None:
    there = _nearest(path)
    if rights & os.X_OK and not os.path.isdir(there):
        raise StorageError(path, f"{there} is no folder", "name another state-directory")
    if not os.access(there, rights):
        made = "" if there == path else f", so {path} cannot be made"
        if os.statvfs(there).f_flag & os.ST_RDONLY:
            mounted = f"`findmnt -T {quote(there)}` shows it: mount it writable, or name another state-directory"
            raise StorageError(path, f"{there} is on a file system that is mounted read-only{made}", mounted)
        user = _user_name(os.getuid())
        remedy = f"run this as relay's user; if it is {user}: `chown {user} {quote(there)}`"
        raise StorageError(path, f"the user {user} may not write {there}{made}", remedy)


def _nearest(path: str) -> str:
    """The path itself, or the nearest folder above it that is there."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _space(octets: int) -> str:
    return f"{octets / _GIBIBYTE:.1f} GiB" if octets >= _GIBIBYTE else f"{octets // _MEBIBYTE} MiB"


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


# --- The local port ---


def inspect_local_port(disk: Disk, local: Address, state_directory: str) -> StepFinding:
    """Whether the port-forwarding's local port is free, or the running relay's own. Never an error.

    Nothing that relay delivers itself goes through it: whoever else has it is only in the way of other programs.
    """
    try:
        local_port.require_free(local.host, local.port)
    except RelayError as error:
        holder = local_port.holder(local.host, local.port)
        running = _running_relay(disk, state_directory)
        if running and holder.endswith(f"(process {running})"):
            return StepFinding(f"{local} is the running relay's (process {running})")
        see = "" if holder else f"; see whose it is: `sudo ss -ltnp sport = :{local.port}`"
        return StepFinding(
            f"{local}: {error.cause}; relay's own delivery does not need it", error.remedy + see, warning=True
        )
    return StepFinding(f"{local} is free")


def _running_relay(disk: Disk, state_directory: str) -> str:
    """The process id that the lock file names, "" without one; the lock itself is left alone."""
    with contextlib.suppress(StorageError), disk.open(f"{state_directory}/{LOCK}", writable=False) as file:
        return file.read(_LARGEST_PID_TEXT, 0).decode("ascii", "replace").strip()
    return ""
