"""Listening sockets that a dying process closes before its connections, and the base class of the listeners.

A sender treats the end of its stream as acceptance once it can open the next connection. A killed process closes its
descriptors one after the other, on Linux the highest first. If the listening socket had a low descriptor, connections
would end while new ones still succeed, and the sender would count messages as accepted that were never read.
"""

import asyncio
import contextlib
import errno
import fcntl
import resource
import socket
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Final, Self

from relay.errors import PermissionRefusedError, RelayError, UnavailableError, UnknownHostError
from relay.values.address import Address

HIGHEST: Final = 4096
"""The upper end of the listening sockets' descriptors, if the process may have so many; connections get lower ones."""
_BELOW_LIMIT: Final = 16


class Listener(ABC):
    """Listens on every address of a host from `start` to `stop`, each called once; or `async with`."""

    def __init__(self, name: str, host: str, port: int) -> None:
        self._name = name  # in errors
        self._configured = Address(host, port)
        self._sockets: list[socket.socket] = []

    @property
    def address(self) -> Address:
        """The first address that it listens on, with the real port when port 0 was configured."""
        if not self._sockets:
            return self._configured
        host, port, *_ = self._sockets[0].getsockname()
        return Address(host, port)

    async def _listen(self, backlog: int) -> None:
        try:
            self._sockets = await asyncio.to_thread(listen, *self._configured, backlog)
        except OSError as error:
            raise cannot_listen(self._name, error) from error

    @abstractmethod
    async def start(self) -> None:
        """Listen; a RelayError explains why that fails."""

    @abstractmethod
    async def stop(self) -> None:
        """Accept no more connections, and break off the open ones."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def listen(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Listen on every address of the host, without blocking; OSError when one of them fails."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = {(family, (str(address[0]), int(address[1]))): None for family, _, _, _, address in found}
    with contextlib.ExitStack() as undo:
        sockets = []
        for family, address in addresses:
            sock = socket.create_server(address, family=family, backlog=backlog)
            undo.callback(sock.close)
            sockets.append(sock)
        undo.pop_all()
    return [_raised(sock) for sock in sockets]


def _raised(sock: socket.socket) -> socket.socket:
    """The socket on a high descriptor, if one is available."""
    sock.setblocking(False)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = HIGHEST if soft == resource.RLIM_INFINITY else min(soft, HIGHEST)
    try:
        number = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, lowest - _BELOW_LIMIT)
    except OSError:  # the low descriptor works, only without that protection
        return sock
    with sock:
        return socket.socket(sock.family, sock.type, sock.proto, number)


def cannot_listen(what: str, error: OSError) -> RelayError:
    """The error for a failed `listen`."""
    if isinstance(error, socket.gaierror):
        return UnknownHostError(what, "the host name does not resolve", "set an address of this machine")
    match error.errno:
        case errno.EADDRINUSE:
            remedy = "stop the program that listens there (ss -ltnp shows it), or choose another port"
            return UnavailableError(what, "the address is already in use", remedy)
        case errno.EADDRNOTAVAIL:
            return UnavailableError(what, "no interface has this address", "set an address of this machine")
        case errno.EACCES | errno.EPERM:
            remedy = "choose a port above 1023, or grant CAP_NET_BIND_SERVICE"
            return PermissionRefusedError(what, "this user is not allowed to listen there", remedy)
        case _:
            return UnavailableError(what, error.strerror or str(error))
