"""Connecting by TCP to a host and port: every address of the host in turn, freed at once by a `stop`.

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

GLANCE: Final = 0.05  # between two looks at `stop`

Socket = TypeVar("Socket", bound=socket.socket)
TcpAddress = tuple[int, int, tuple[str, int]]
"""Family, protocol, and address; of an IPv6 address flow and scope are kept as well, since connect needs the scope."""


class DialTarget(NamedTuple):
    """Whom to reach, and how its failures are put."""

    what: str
    """As errors name it: `SSH server 192.0.2.1:22`."""
    host: str
    port: int
    address_key: str
    """The configuration's key for the host, and below for the port: what an error's remedy says to mend."""
    port_key: str
    listener: str
    """What should listen there: `SSH server`."""


def resolve(goal: DialTarget) -> list[TcpAddress]:
    """Every address of the host."""
    try:
        found = socket.getaddrinfo(goal.host, goal.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        words = error.strerror if isinstance(error, socket.gaierror) else "it is no host name"
        cause = f"the host name does not resolve ({words})"
        remedy = f"`getent hosts {goal.host}` must answer: mend {goal.address_key}, or the name service"
        raise UnknownHostError(goal.what, cause, remedy) from error
    return [(family, protocol, address) for family, _, protocol, _, address in found]  # type: ignore[misc]  # see TcpAddress


def connect(
    goal: DialTarget, addresses: list[TcpAddress], make: type[Socket], stop: threading.Event, patience: float
) -> Socket:
    """Connect to the first address that answers within `patience`; the socket is left non-blocking."""
    failures: list[str] = []
    remedy = f"no {goal.listener} listens there: start it, or mend {goal.port_key}"
    for address in addresses:
        try:
            return _connect(address, make, stop, patience)
        except _StoppedError:
            raise TemporaryError(goal.what, "stopped while connecting") from None
        except OSError as error:
            failures.append(f"{address[2][0]}: {_reason(error, patience)}")
            if error.errno == errno.ENETUNREACH:
                remedy = f"`ip route get {address[2][0]}` must find a way: mend the routes, or {goal.address_key}"
            elif not isinstance(error, ConnectionRefusedError):
                remedy = f"is the server up, is {goal.address_key} right, and does no firewall drop it?"
    raise UnavailableError(goal.what, "; ".join(failures), remedy)


class _StoppedError(Exception):
    pass


def _connect(address: TcpAddress, make: type[Socket], stop: threading.Event, patience: float) -> Socket:
    family, protocol, place = address
    sock = make(family, socket.SOCK_STREAM, protocol)
    with contextlib.ExitStack() as undo:
        undo.callback(sock.close)
        sock.setblocking(False)
        code = sock.connect_ex(place)
        if code == errno.EINPROGRESS:
            _wait_for_connection(sock, stop, patience)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        undo.pop_all()
    return sock


def _wait_for_connection(sock: socket.socket, stop: threading.Event, patience: float) -> None:
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    deadline = time.monotonic() + patience
    while not poll.poll(GLANCE * 1000):
        if stop.is_set():
            raise _StoppedError
        if time.monotonic() > deadline:
            raise TimeoutError


def _reason(error: OSError, limit: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {limit:g} s"
    return (error.strerror or str(error)).lower()
