"""Plain TCP to a collector: a relay.transport.Transport without a session of its own; each pipe is a connection.

A vanished collector is noticed within about 30 s: by TCP_USER_TIMEOUT while octets wait for it, by keepalive while none
do. Nothing is encrypted and nobody is authenticated: for trusted networks.

An end of file that answers relay's arrives with the acknowledgement of everything that relay sent (RFC 9293 section
3.10.7.4: each segment carries it). An earlier one was already in transit, for example because the collector closed an
idle connection. Then it has not received everything, and may never, so that pipe is dead.
"""

import contextlib
import fcntl
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator
from typing import Final

from typing_extensions import override

from relay.errors import InternalError, UnavailableError
from relay.transport import LARGEST_READ, Pipe, Transport, drain
from relay.transport.dial import DialTarget, connect, resolve
from relay.values.address import Address

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for connecting to each of a collector's addresses."""
_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),  # milliseconds
)
_POLL_INTERVAL: Final = 0.5  # seconds between two checks whether a blocked pipe was closed
_GONE: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_LOOPBACK: Final = ("127.", "::1", "::ffff:127.")


def collector_target(host: str, port: int) -> DialTarget:
    """A collector that relay connects to directly, with the words for its errors."""
    return DialTarget(f"collector {Address(host, port)}", host, port, "address", "port", "collector")


def unacknowledged(sock: socket.socket) -> int:
    """How many of our octets the peer's kernel has not acknowledged yet; our end of file counts as one."""
    (octets,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(octets)


class TcpTransport(Transport):
    """A route to one collector; `close` also ends a blocked connect. `timeout`: seconds for each address."""

    def __init__(self, host: str, port: int, stop: threading.Event, timeout: float = CONNECT_TIMEOUT) -> None:
        self._target = collector_target(host, port)
        self._stop = stop
        self._timeout = timeout
        self._closed = threading.Event()
        self._pipes: list[TcpPipe] = []

    def __repr__(self) -> str:
        address = Address(self._target.host, self._target.port)
        return f"<TcpTransport {address} {'alive' if self.alive else 'closed'}>"

    @property
    @override
    def alive(self) -> bool:
        return not self._closed.is_set()

    @override
    def open(self) -> "TcpPipe":
        """A new connection; UnavailableError when none can be made, UnknownHostError without an address."""
        if not self.alive:
            raise UnavailableError(self._target.what, "the transport is closed")
        sock = connect(self._target, resolve(self._target), socket.socket, self._stop, self._timeout)
        for option in _OPTIONS:
            sock.setsockopt(*option)
        pipe = TcpPipe(sock, self._target.what)
        self._pipes = [*(former for former in self._pipes if not former.closed), pipe]
        if self._closed.is_set():  # `close` was called meanwhile, and may have missed this pipe
            pipe.close()
        return pipe

    @override
    def close(self) -> None:
        self._closed.set()
        for pipe in self._pipes:
            pipe.close()


class TcpPipe(Pipe):
    """One connection. Its socket does not block, so that `close` can free a thread that waits."""

    def __init__(self, sock: socket.socket, what: str) -> None:
        self.closed = False
        self.local = False
        with contextlib.suppress(OSError):  # the connection has ended already; its first use will fail
            self.local = str(sock.getpeername()[0]).startswith(_LOOPBACK)
        self._socket = sock
        self._what = what
        self._half_closed = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<TcpPipe to {self._what}{' (closed)' if self.closed else ''}>"

    @property
    @override
    def ended(self) -> bool:
        return self.closed or bool(self._poll(select.POLLRDHUP, 0) & _GONE)

    @override
    def send(self, data: bytes) -> None:
        if self._half_closed:
            raise InternalError("pipe", "nothing can be sent after the half-close")
        rest = memoryview(data)
        while rest:
            events = self._poll(select.POLLOUT | select.POLLRDHUP, _POLL_INTERVAL)
            if self.closed or events & _GONE:
                raise self._broken()
            if events & select.POLLOUT:
                with self._mapped(), contextlib.suppress(BlockingIOError):
                    rest = rest[self._socket.send(rest) :]

    @override
    def receive(self, timeout: float) -> bytes | None:
        deadline = time.monotonic() + timeout
        while not self._poll(select.POLLIN, min(_POLL_INTERVAL, max(0.0, deadline - time.monotonic()))):
            if self.closed:
                raise self._broken()
            if time.monotonic() >= deadline:
                return None
        with self._mapped(), contextlib.suppress(BlockingIOError):
            data = self._socket.recv(LARGEST_READ)
            if not data:
                with self._lock:
                    if self.closed:
                        raise self._broken()
                    complete = not unacknowledged(self._socket)
                if not complete:
                    raise UnavailableError(self._what, "it closed the connection before it had everything")
            return data
        return None

    @override
    def half_close(self) -> None:
        if self.ended:
            raise self._broken()
        self._half_closed = True
        with self._mapped():
            self._socket.shutdown(socket.SHUT_WR)

    @override
    def drained(self, timeout: float) -> None:
        if not self._half_closed:
            raise InternalError("pipe", "only a half-closed stream can be drained")
        drain(self, timeout, f"proof from {self._what}")

    @override
    def close(self) -> None:
        with self._lock:
            if not self.closed:
                self.closed = True
                with contextlib.suppress(OSError):  # the collector has closed already
                    self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for it
                self._socket.close()

    def _poll(self, events: int, timeout: float) -> int:
        with self._lock:
            if self.closed:
                return select.POLLHUP
            poll = select.poll()
            poll.register(self._socket, events)
        return next((found for _, found in poll.poll(timeout * 1000)), 0)

    def _broken(self) -> UnavailableError:
        cause = "the connection is closed" if self.closed else "it closed the connection"
        return UnavailableError(self._what, cause)

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            raise
        except OSError as error:
            if self.closed:
                raise self._broken() from error
            cause = f"the connection broke off ({(error.strerror or str(error)).lower()})"
            raise UnavailableError(self._what, cause) from error
