"""Plain TCP to a collector: a relay.transport.Transport without a session of its own, each pipe a connection.

A collector that vanishes is noticed within about 30 s: by TCP_USER_TIMEOUT while octets wait for it, by keepalive
while nothing does. Nothing is encrypted, and nobody is known: for networks that are trusted.

An end of file that answers ours comes behind the acknowledgement of all that we sent (RFC 9293 section 3.10.7.4: each
segment carries it). One that comes sooner was on its way already, as when a collector tires of an idle connection: it
has not had everything, and may never, so that pipe is dead.
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

from relay.errors import InternalError, UnavailableError
from relay.transport import LARGEST_READ, drain
from relay.transport.dial import DialTarget, connect, resolve
from relay.values.address import Address

CONNECTING: Final = 10.0
_OPTIONS: Final = (
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 15),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 30_000),  # milliseconds
)
_GLANCE: Final = 0.5  # seconds between two looks at a pipe that takes or gives nothing
_GONE: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_LOOPBACK: Final = ("127.", "::1", "::ffff:127.")


def collector_target(host: str, port: int) -> DialTarget:
    """A collector that is gone to directly, as errors name it and what they have mended."""
    return DialTarget(f"collector {Address(host, port)}", host, port, "address", "port", "collector")


class TcpTransport:
    """A way to one collector; `close` frees whoever is blocked in a pipe or in connecting.

    `patience`: seconds for connecting to each of its addresses.
    """

    def __init__(self, host: str, port: int, stop: threading.Event, patience: float = CONNECTING) -> None:
        self._place = Address(host, port)
        self._goal = collector_target(host, port)
        self._stop = stop
        self._patience = patience
        self._closed = threading.Event()
        self._pipes: list[TcpPipe] = []

    def __repr__(self) -> str:
        return f"<TcpTransport {self._place} {'alive' if self.alive else 'closed'}>"

    @property
    def alive(self) -> bool:
        """Whether a pipe may still be opened."""
        return not self._closed.is_set()

    def open(self) -> "TcpPipe":
        """A new connection; UnavailableError when there is none to be had, UnknownHostError without an address."""
        if not self.alive:
            raise UnavailableError(self._goal.what, "the way to it is closed")
        sock = connect(self._goal, resolve(self._goal), socket.socket, self._stop, self._patience)
        for level, name, value in _OPTIONS:
            sock.setsockopt(level, getattr(socket, name), value)
        self._pipes = [*(pipe for pipe in self._pipes if not pipe.closed), pipe := TcpPipe(sock, self._goal.what)]
        if self._closed.is_set():  # `close` came meanwhile, and may not have seen this one
            pipe.close()
        return pipe

    def close(self) -> None:
        """End every pipe at once; never raises."""
        self._closed.set()
        for pipe in self._pipes:
            pipe.close()


class TcpPipe:
    """One connection; a relay.transport.Pipe. Its socket does not block: whoever waits is freed by `close`."""

    def __init__(self, sock: socket.socket, what: str) -> None:
        self.closed = False
        self.local = _is_loopback(sock)
        """Whether the other end is on this machine, where a forwarder may stand between us and the collector."""
        self._socket = sock
        self._what = what
        self._half_closed = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<TcpPipe to {self._what}{' (closed)' if self.closed else ''}>"

    @property
    def ended(self) -> bool:
        """Whether the collector has ended its half, or the connection is dead."""
        return self.closed or bool(self._poll(select.POLLRDHUP, 0) & _GONE)

    def send(self, data: bytes) -> None:
        """Send everything; see relay.transport.Pipe."""
        if self._half_closed:
            raise InternalError("pipe", "nothing can be sent after the half-close")
        rest = memoryview(data)
        while rest:
            events = self._poll(select.POLLOUT | select.POLLRDHUP, _GLANCE)
            if self.closed or events & _GONE:
                raise self._broken()
            if events & select.POLLOUT:
                with self._mapped(), contextlib.suppress(BlockingIOError):
                    rest = rest[self._socket.send(rest) :]

    def receive(self, timeout: float) -> bytes | None:
        """What the collector says; see relay.transport.Pipe."""
        deadline = time.monotonic() + timeout
        while not self._poll(select.POLLIN, min(_GLANCE, max(0.0, deadline - time.monotonic()))):
            if self.closed:
                raise self._broken()
            if time.monotonic() >= deadline:
                return None
        with self._mapped(), contextlib.suppress(BlockingIOError):
            data = self._socket.recv(LARGEST_READ)
            if not data and self._unacknowledged():
                raise UnavailableError(self._what, "it closed the connection before it had everything")
            return data
        return None

    def half_close(self) -> None:
        """Say that no more comes; see relay.transport.Pipe."""
        if self.ended:
            raise self._broken()
        self._half_closed = True
        with self._mapped():
            self._socket.shutdown(socket.SHUT_WR)

    def drained(self, timeout: float) -> None:
        """Return once the collector has ended its half after ours; see relay.transport.Pipe."""
        if not self._half_closed:
            raise InternalError("pipe", "only a half-closed stream can be drained")
        drain(self, timeout, f"proof from {self._what}")

    def close(self) -> None:
        """Give the connection up; never raises."""
        with self._lock:
            if not self.closed:
                self.closed = True
                with contextlib.suppress(OSError):  # the collector was faster
                    self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for it
                self._socket.close()

    def _unacknowledged(self) -> int:
        """How many octets the collector's machine has not acknowledged yet; the end of ours counts as one."""
        with self._lock:
            if self.closed:
                raise self._broken()
            (octets,) = struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))
        return int(octets)

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


def _is_loopback(sock: socket.socket) -> bool:
    try:
        return str(sock.getpeername()[0]).startswith(_LOOPBACK)
    except OSError:  # it has ended already, as the first use will tell
        return False
