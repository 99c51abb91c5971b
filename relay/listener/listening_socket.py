"""What listens, and its listening sockets, which a dying process closes before its connections.

A sender takes the end of its stream for acceptance once the next connection is opened (DESIGN section 3, drained). A
process that is killed closes its descriptors one after the other, on Linux the highest first: were the listening one
low, the connections would end while new ones are still taken, and the sender would believe in what was never read.
"""

import contextlib
import errno
import fcntl
import resource
import socket
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Final, Self

from relay.errors import PermissionRefusedError, RelayError, UnavailableError, UnknownHostError

HIGHEST: Final = 4096
"""Where the process may have so many descriptors; above those that connections get."""
_BELOW_LIMIT: Final = 16


class Listener(ABC):
    """Listens on one address from `start` to `stop`, once each; or `async with`."""

    @abstractmethod
    async def start(self) -> None:
        """Listen; a RelayError says why it cannot be."""

    @abstractmethod
    async def stop(self) -> None:
        """Accept nobody any more, and break the connections off that are left."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def listen(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Listen on every address of the host, without blocking; OSError when one of them cannot be."""
    with contextlib.ExitStack() as undo:
        found = []
        for family, address in _addresses(host, port):
            sock = socket.create_server(address, family=family, backlog=backlog)
            undo.callback(sock.close)
            found.append(sock)
        undo.pop_all()
    return [_raised(sock) for sock in found]


def cannot_listen(what: str, error: OSError) -> RelayError:
    """Why relay cannot listen there, in words."""
    if isinstance(error, socket.gaierror):
        return UnknownHostError(what, "the host name does not resolve", "give an address of this machine")
    match error.errno:
        case errno.EADDRINUSE:
            remedy = "stop what listens there (ss -ltnp shows it), or choose another port"
            return UnavailableError(what, "the address is already in use", remedy)
        case errno.EADDRNOTAVAIL:
            return UnavailableError(what, "no interface has this address", "give an address of this machine")
        case errno.EACCES | errno.EPERM:
            remedy = "choose a port above 1023, or grant CAP_NET_BIND_SERVICE"
            return PermissionRefusedError(what, "this user may not listen there", remedy)
        case _:
            return UnavailableError(what, error.strerror or str(error))


def _addresses(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list({(family, (str(address[0]), int(address[1]))): None for family, _, _, _, address in found})


def _raised(sock: socket.socket) -> socket.socket:
    """Move it to a high descriptor, where there is one."""
    sock.setblocking(False)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = HIGHEST if soft == resource.RLIM_INFINITY else min(soft, HIGHEST)
    try:
        number = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, lowest - _BELOW_LIMIT)
    except OSError:  # as good as before
        return sock
    with sock:
        return socket.socket(sock.family, sock.type, sock.proto, number)
