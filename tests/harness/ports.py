"""TCP and UDP ports: a free one, and whether a port is in use."""

import contextlib
import functools
import itertools
import os
import random
import socket
import threading
from pathlib import Path

LOOPBACK = "127.0.0.1"

_FIRST = 10_000  # below are the ports of known services
_BLOCK = 128
_LISTEN = "0A"  # proc(5): the state of a TCP socket that listens
_OPEN = "07"  # and of any UDP socket


class _Blocks:
    """Ports that no other process draws from: the holder of the abstract socket of its name owns a block.

    Abstract names, like ports, belong to a network namespace (unix(7)), and are free again when their holder ends.
    """

    def __init__(self) -> None:
        # From this port on, the kernel assigns ports to sockets that request any (ip(7)).
        given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        firsts = range(_FIRST, max(given, 2 * _FIRST) - _BLOCK, _BLOCK)
        self._firsts = random.SystemRandom().sample(firsts, len(firsts))
        self._held: list[socket.socket] = []
        self._drawing = threading.Lock()
        self._ports = itertools.cycle(range(0))

    def draw(self) -> int:
        with self._drawing:
            while True:
                for _ in range(_BLOCK):
                    port = next(self._ports, None)
                    if port is not None and _is_free(port):
                        return port
                self._ports = itertools.cycle(self._hold())

    def _hold(self) -> range:
        """Take one more block."""
        while True:
            first = self._firsts.pop()
            name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                name.bind(f"\0relay tests: ports from {first}")
            except OSError:
                name.close()
            else:
                self._held.append(name)
                return range(first, first + _BLOCK)


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind((LOOPBACK, port))
        return True
    return False


@functools.cache
def _blocks_of(_process: int) -> _Blocks:
    return _Blocks()


def free_port() -> int:
    """Return a port that is free and that no other caller gets, in any process."""
    return _blocks_of(os.getpid()).draw()


def listens(port: int, *, pid: int | None = None, udp: bool = False) -> bool:
    """Return whether the port is listened on, by the kernel's table: a connection would count as a sender.

    With `pid`, return whether that process listens, in its own network namespace; False when it has ended.
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
    """Return the targets of its descriptors, by proc(5)."""
    return {os.readlink(descriptor) for descriptor in (process / "fd").iterdir()}
