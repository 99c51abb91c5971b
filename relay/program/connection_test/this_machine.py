"""Inspects this machine for a connection test: the state directory, and the program that has the local port.

Nothing is created, written or locked, because a file that root creates here would keep relay's own user out. Instead
the kernel is asked for the rights of the current user (access(2)); run the test as the user that relay runs as.
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
from relay.system.files.socket_file import is_served
from relay.transport.ssh.forwarding import local_port
from relay.values.configuration.settings import PortForwarding

LOW_SPACE: Final = 100 * 1024**2
"""Bytes; less free space than this is a warning."""
_MEBIBYTE: Final = 1024**2
_GIBIBYTE: Final = 1024**3
_LONGEST_PID: Final = 32

# --- The state directory ---


def inspect_state_directory(disk: Disk, folder: str) -> StepFinding:
    """Whether relay could write there; StorageError when it could not."""
    _require_rights(folder, os.W_OK | os.X_OK)
    for name in (LOCK, SLOTS, *FOLDERS):
        if disk.exists(f"{folder}/{name}"):
            _require_rights(f"{folder}/{name}", os.W_OK)
    there = _nearest(folder)
    free = disk.free(there)
    found = f"{folder}: {_space(free)} free{'' if there == folder else '; relay creates it when it starts'}"
    if free < LOW_SPACE:
        return StepFinding(
            f"{found}, less than {_space(LOW_SPACE)}", f"make room there: `df -h {quote(there)}`", warning=True
        )
    return StepFinding(found)


def _require_rights(path: str, rights: int) -> None:
    """Raise unless the user has the rights, or could create the path."""
    there = _nearest(path)
    if rights & os.X_OK and not os.path.isdir(there):
        raise StorageError(path, f"{there} is not a folder", "name another state-directory")
    if not os.access(there, rights):
        consequence = "" if there == path else f", so {path} cannot be created"
        if os.statvfs(there).f_flag & os.ST_RDONLY:
            mounted = f"`findmnt -T {quote(there)}` shows it: mount it writable, or name another state-directory"
            raise StorageError(path, f"{there} is on a file system that is mounted read-only{consequence}", mounted)
        user = str(os.getuid())
        with contextlib.suppress(KeyError):
            user = pwd.getpwuid(os.getuid()).pw_name
        remedy = f"run this as relay's user; if it is {user}: `chown {user} {quote(there)}`"
        raise StorageError(path, f"the user {user} is not allowed to write {there}{consequence}", remedy)


def _nearest(path: str) -> str:
    """The path itself, or the nearest folder above it that exists."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _space(size: int) -> str:
    return f"{size / _GIBIBYTE:.1f} GiB" if size >= _GIBIBYTE else f"{size // _MEBIBYTE} MiB"


# --- The local listener ---


def inspect_local_listener(disk: Disk, forwarding: PortForwarding, state_directory: str) -> StepFinding:
    """Whether the port-forwarding's local port or socket is free, or the running relay's own. Never an error.

    relay's own delivery does not use it, so another program that has it is only in the way of third programs.
    """
    if not forwarding.local_listener:
        return StepFinding("local-listener = false: other programs cannot use this session")
    if path := forwarding.local_socket:
        served = "is served, by relay if it runs" if is_served(path) else "is free"
        return StepFinding(f"{path} {served}")
    local = forwarding.local
    try:
        local_port.require_free(local.host, local.port)
    except RelayError as error:
        holder = local_port.holder(local.host, local.port)
        running = ""
        # The lock file names the process of a running relay; the lock itself is left alone.
        with contextlib.suppress(StorageError), disk.open(f"{state_directory}/{LOCK}", writable=False) as file:
            running = file.read(_LONGEST_PID, 0).decode("ascii", "replace").strip()
        if running and holder.endswith(f"(process {running})"):
            return StepFinding(f"{local} is the running relay's (process {running})")
        see = "" if holder else f"; see whose it is: `sudo ss -ltnp sport = :{local.port}`"
        return StepFinding(
            f"{local}: {error.cause}; relay's own delivery does not need it", error.remedy + see, warning=True
        )
    return StepFinding(f"{local} is free")
