"""Accepts connections on one listening socket, in the place of asyncio's own server.

That one logs a traceback for each second in which the process has no file descriptor. This one reports the want to its
`Admission`, and pauses.

The last descriptors below those of listening sockets are not for connections: whatever the ceilings of some listeners
add up to, the spool and the archive can open their files. The kernel gives the lowest free descriptor, so a connection
that gets one of them is reset.
"""

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

from relay.listener.admission.admission import Admission
from relay.listener.listening_socket import lowest_of_listening
from relay.system.descriptors import RESERVE, descriptor_limit
from relay.system.rare_log import RareLog
from relay.values.text import bug_text

_log = logging.getLogger(__name__)

PAUSE: Final = 0.5
"""Seconds until a listener without a descriptor tries again."""
_AT_ONCE: Final = 16
"""Connections that one look at the socket accepts, before others get their turn."""
_SHARE: Final = 16
"""Of few descriptors, a sixteenth is not for connections."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


class Acceptor:
    """Gives each connection to `serve`, without blocking, from `start` to `stop`."""

    def __init__(
        self, listening: socket.socket, serve: Callable[[socket.socket, Any], None], admission: Admission
    ) -> None:
        self._listening = listening
        self._serve = serve
        self._admission = admission
        limit = descriptor_limit()
        self._reserved_from = lowest_of_listening(limit) - min(RESERVE, limit // _SHARE)
        self._notices = RareLog(_log)
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Accept from now on."""
        self._pause = None
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def stop(self) -> None:
        """Accept no more, and close the listening socket."""
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # EMFILE, ENFILE, ENOBUFS, ENOMEM: nothing was accepted, so nothing can be refused
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listening)
                self._pause = loop.call_later(PAUSE, self.start)
                self._admission.starved()
                return
            if accepted.fileno() >= self._reserved_from:
                self._admission.starved()
                refuse(accepted)
                continue
            accepted.setblocking(False)
            try:
                self._serve(accepted, address)
            except Exception as bug:  # noqa: BLE001  the next connections must be accepted
                refuse(accepted)
                self._notices.warn("bug", "a connection was refused: %s; please report it with the log", bug_text(bug))


def set_reset_on_close(connection: socket.socket) -> None:
    """Let the close of a TCP connection be a reset, which no sender takes for acceptance."""
    with contextlib.suppress(OSError):  # the peer has closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def refuse(connection: socket.socket) -> None:
    """Reset a connection."""
    set_reset_on_close(connection)
    connection.close()
