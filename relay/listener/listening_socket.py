"""Listening sockets that a dying process closes before its connections, and the base class of the listeners.

A sender treats the end of its stream as acceptance once it can open the next connection. A killed process closes its
descriptors one after the other, on Linux the highest first. If the listening socket had a low descriptor, connections
would end while new ones still succeed, and the sender would count messages as accepted that were never read.
"""

import asyncio
import contextlib
import errno
import fcntl
import functools
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from relay.errors import CannotCreateError, PermissionRefusedError, RelayError, UnavailableError, UnknownHostError
from relay.system.descriptors import descriptor_limit
from relay.values.address import Address
from relay.values.configuration.listener_url import UNIX

_MOST: Final = 1024
"""Listening sockets that get the highest descriptors; connections get lower ones. Routers may have a port each."""
_SHARE: Final = 8
"""Of fewer descriptors, listening sockets get an eighth, and at least `_LEAST`."""
_LEAST: Final = 16

BACKLOG: Final = 512
"""Connections that the kernel keeps until they are accepted."""

Bind = Callable[[], list[socket.socket]]
"""Makes the sockets of a listener, without blocking sockets; it may block itself, and raise OSError."""


class Listener(ABC):
    """Listens from `start` to `stop`, each called once; or `async with`."""

    def __init__(self, name: str, bind: Bind) -> None:
        self._name = name  # in errors
        self._bind = bind
        self._sockets: list[socket.socket] = []

    @property
    def address(self) -> Address:
        """The first address that it listens on, with the real port when port 0 was configured; while it listens."""
        host, port, *_ = self._sockets[0].getsockname()
        return Address(host, port)

    async def _listen(self) -> None:
        try:
            self._sockets = await asyncio.to_thread(self._bind)
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


def binding(address: Address) -> Bind:
    """Listen for TCP on every address of the host."""

    def listening(family: int, end: tuple[str, int]) -> socket.socket:
        return socket.create_server(end, family=family, backlog=BACKLOG)

    return functools.partial(_bind_all, address, socket.SOCK_STREAM, listening)


def binding_for_datagrams(address: Address) -> Bind:
    """Receive UDP on every address of the host."""

    def receiving(family: int, end: tuple[str, int]) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if family == socket.AF_INET6:  # as create_server does: IPv4 has its own URL
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(end)
        except OSError:
            sock.close()
            raise
        return sock

    return functools.partial(_bind_all, address, socket.SOCK_DGRAM, receiving)


def _bind_all(
    address: Address, kind: socket.SocketKind, bind: Callable[[int, tuple[str, int]], socket.socket]
) -> list[socket.socket]:
    found = socket.getaddrinfo(*address, type=kind, flags=socket.AI_PASSIVE)
    ends = dict.fromkeys((family, (str(end[0]), int(end[1]))) for family, _, _, _, end in found)
    with contextlib.ExitStack() as undo:
        sockets = []
        for family, end in ends:
            sockets.append(bind(family, end))
            undo.callback(sockets[-1].close)
        undo.pop_all()
    return [on_high_descriptor(sock) for sock in sockets]


def ip_of(address: Any) -> str:  # noqa: ANN401  its form depends on the family
    """The IP address of a peer's socket address; "" for a Unix socket."""
    return str(address[0]) if isinstance(address, tuple) else ""


def lowest_of_listening(limit: int) -> int:
    """The descriptor from which on those of listening sockets are, when a process may have so many."""
    return limit - max(_LEAST, min(_MOST, limit // _SHARE))


def on_high_descriptor(sock: socket.socket) -> socket.socket:
    """The socket on a descriptor above those of connections, if one is available; it does not block."""
    sock.setblocking(False)
    try:
        number = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, lowest_of_listening(descriptor_limit()))
    except OSError:  # the low descriptor works, only without that protection
        return sock
    with sock:
        return socket.socket(sock.family, sock.type, sock.proto, number)


_NO_RIGHT: Final = (PermissionRefusedError, "this user is not allowed to listen there")
_CAUSES: Final[dict[int, tuple[Callable[[str, str, str], RelayError], str, str]]] = {
    errno.EADDRINUSE: (
        UnavailableError,
        "the address is already in use",
        "stop the program that listens there (ss -lntup shows it), or choose another port",
    ),
    errno.EADDRNOTAVAIL: (UnavailableError, "no interface has this address", "set an address of this machine"),
    errno.EACCES: (*_NO_RIGHT, "choose a port above 1023, or grant CAP_NET_BIND_SERVICE"),
    errno.EPERM: (*_NO_RIGHT, "choose a port above 1023, or grant CAP_NET_BIND_SERVICE"),
    errno.ENOENT: (CannotCreateError, "its folder does not exist", "make the folder, or choose another path"),
}


def cannot_listen(what: str, error: OSError) -> RelayError:
    """The error for a failed `Bind`."""
    if isinstance(error, socket.gaierror):
        return UnknownHostError(what, "the host name does not resolve", "set an address of this machine")
    if what.startswith(UNIX) and isinstance(error, PermissionError):
        kind, cause = _NO_RIGHT
        return kind(what, cause, "choose a folder in which relay's user is allowed to make files")
    if (found := _CAUSES.get(error.errno or 0)) is None:
        return UnavailableError(what, error.strerror or str(error))
    make, cause, remedy = found
    return make(what, cause, remedy)
