"""Connecting by TCP to a host and port: every address of the host in turn; a `stop` event ends it at once.

UnknownHostError when the name does not resolve, UnavailableError with each address's failure when none answers,
TemporaryError when stopped. Times are seconds.
"""

import contextlib
import errno
import os
import select
import socket
import threading
import time
from typing import Final, NamedTuple, TypeVar

from relay.errors import TemporaryError, UnavailableError, UnknownHostError

POLL_INTERVAL: Final = 0.05
"""Seconds between two checks of `stop`."""

Socket = TypeVar("Socket", bound=socket.socket)
TcpAddress = tuple[int, int, tuple[str, int]]
"""Family, protocol, and address; an IPv6 address has flow and scope as well, because connect needs the scope."""


class DialTarget(NamedTuple):
    """A host and port, with the words for its errors."""

    what: str  # the target's name in errors: `SSH server 192.0.2.1:22`
    host: str
    port: int
    address_key: str  # the configuration's key for the host, as remedies name it
    port_key: str  # the same for the port
    listener: str  # the program that should listen there: `SSH server`


def resolve(target: DialTarget) -> list[TcpAddress]:
    """Every address of the host."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "it is not a host name"
        cause = f"the host name does not resolve ({reason})"
        remedy = f"`getent hosts {target.host}` must find it: correct {target.address_key}, or the name service"
        raise UnknownHostError(target.what, cause, remedy) from error
    return [(family, protocol, address) for family, _, protocol, _, address in found]  # type: ignore[misc]  # see TcpAddress


def connect(
    target: DialTarget, addresses: list[TcpAddress], make: type[Socket], stop: threading.Event, timeout: float
) -> Socket:
    """Connect to the first address that answers, each within `timeout`; the socket is left non-blocking."""
    failures: list[str] = []
    remedy = f"no {target.listener} listens there: start it, or correct {target.port_key}"
    for address in addresses:
        try:
            return _connect(target, address, make, stop, timeout)
        except OSError as error:
            host, reason = address[2][0], (error.strerror or str(error)).lower()
            if isinstance(error, TimeoutError):
                reason = f"no answer within {timeout:g} s"
            failures.append(f"{host}: {reason}")
            if error.errno == errno.ENETUNREACH:
                remedy = f"`ip route get {host}` must find a route: correct the routes, or {target.address_key}"
            elif not isinstance(error, ConnectionRefusedError):
                remedy = f"check {target.address_key}, that the server is up, and that no firewall drops the connection"
    raise UnavailableError(target.what, "; ".join(failures), remedy)


def _connect(
    target: DialTarget, address: TcpAddress, make: type[Socket], stop: threading.Event, timeout: float
) -> Socket:
    family, protocol, peer = address
    deadline = time.monotonic() + timeout
    sock = make(family, socket.SOCK_STREAM, protocol)
    with contextlib.ExitStack() as undo:
        undo.callback(sock.close)
        sock.setblocking(False)
        code = sock.connect_ex(peer)
        if code == errno.EINPROGRESS:
            poll = select.poll()
            poll.register(sock, select.POLLOUT)
            while not poll.poll(POLL_INTERVAL * 1000):
                if stop.is_set():
                    raise TemporaryError(target.what, "stopped while connecting")
                if time.monotonic() > deadline:
                    raise TimeoutError
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        undo.pop_all()
    return sock
