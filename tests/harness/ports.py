"""TCP and UDP ports: one that is free, and whether somebody has it."""

import contextlib
import os
import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"

_FIRST = 10_000  # below are the ports of known services
_LISTEN = "0A"  # proc(5): the state of a TCP socket that listens
_OPEN = "07"  # and of any UDP socket


def free_port() -> int:
    """A port that nobody has; below those that the kernel gives to whoever asks for any (ip(7)), where that is room.

    It stays free until a server takes it, unless another test draws the same of some twenty thousand in that moment.
    """
    given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(_FIRST, max(given, 2 * _FIRST))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port


def listens(port: int, *, pid: int | None = None, udp: bool = False) -> bool:
    """Whether somebody listens there, by the kernel's table: a connection to look would be a sender too.

    With `pid`, whether that process does, in its own network namespace; False when it has ended.
    """
    names, state = (("udp", "udp6"), _OPEN) if udp else (("tcp", "tcp6"), _LISTEN)
    place = Path(f"/proc/{pid or 'self'}")
    try:
        tables = [(place / "net" / name).read_text() for name in names]
        rows = [line.split() for table in tables for line in table.splitlines()[1:]]
        found = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == state}
        return bool(found if pid is None else found & _open_files(place))
    except OSError:
        return False


def _open_files(process: Path) -> set[str]:
    """What its descriptors are, by proc(5)."""
    return {os.readlink(descriptor) for descriptor in (process / "fd").iterdir()}
