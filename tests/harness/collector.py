"""A TCP collector whose every step the test decides."""

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from harness.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s
_READ = 1 << 16


class Collector:
    """Listens on a free loopback port and passes each connection to `serve`, in a thread of its own.

    Without `serve` it reads everything to the end of file and closes, as a collector should. `window` is about the
    number of octets that its kernel accepts on a connection that it does not read; 0: the default. `port` may be given.
    """

    def __init__(
        self, serve: "Callable[[Collector, socket.socket], object] | None" = None, *, window: int = 0, port: int = 0
    ) -> None:
        self._serve = Collector.read_to_the_end if serve is None else serve
        self._listening = socket.create_server((LOOPBACK, port))
        if window:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.port: int = self._listening.getsockname()[1]
        self.received = b""
        self.ended = 0
        """Connections that have ended; everything on them was received."""
        self.connections = 0
        self._served = threading.local()
        self._counting = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_listening()

    @property
    def served(self) -> int:
        """The number of the connection that the calling thread serves, from 1; later connections may exist by then."""
        number: int = self._served.number
        return number

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.connections += 1
                threading.Thread(target=self._one, args=(connection, self.connections), daemon=True).start()

    def _one(self, connection: socket.socket, number: int) -> None:
        self._served.number = number
        with connection, contextlib.suppress(OSError):
            self._serve(self, connection)
        with self._counting:
            self.ended += 1

    def read_to_the_end(self, connection: socket.socket) -> None:
        """Read until the end of file."""
        while data := connection.recv(_READ):
            with self._counting:
                self.received += data

    def stop_listening(self) -> None:
        """Refuse connections from now on."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept, which would keep the port open
        self._listening.close()


def reset(connection: socket.socket) -> None:
    """Close as a process does that is killed with unread data."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
