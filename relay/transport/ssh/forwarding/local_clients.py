"""The connections of local programs to a port forwarding, and which of them makes room for another.

At the ceiling the oldest connection that has sent nothing for a second is closed first. Without one, a program of
another user gets the place of the connection that was quiet for longest, of the user that has the most: so no user can
take the forwarding away from the others. The users are those of /proc/net/tcp, which is read a few times a second at
most; without it, only silent connections make room. A Unix socket names the user itself, and has numbers for ports.
"""

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from relay.transport.ssh.forwarding import local_port

SILENT_FOR: Final = 1.0
"""Seconds after which a program that has sent nothing may have to make room."""
_LOOK_UP_INTERVAL: Final = 0.2
"""Seconds between two readings of the users."""

FindUsers = Callable[[int], Mapping[int, int]]
"""See `local_port.users_of`."""


@dataclass(slots=True)
class _LocalClient:
    """A connection of a local program."""

    port: int
    """Its own."""
    user: int | None
    """None: to be looked up."""
    last: float
    """When it began, or sent something last (monotonic)."""
    is_connected: bool = False
    """Whether it has a channel."""
    has_sent: bool = False
    is_cut: bool = False
    """Whether it makes room; it may still be blocked in its channel."""


class LocalClients:
    """The connections that are open now. For any thread."""

    def __init__(
        self,
        ceiling: int,
        port: int,
        *,
        users_of: FindUsers = local_port.users_of,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ceiling = ceiling
        """How many may be open; a server that refuses channels lowers it."""
        self._port = port
        self._users_of = users_of
        self._monotonic = monotonic
        self._next_look_up = float("-inf")
        self._changed = threading.Condition()
        self._open: dict[socket.socket, _LocalClient] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: socket.socket, port: int, user: int | None = None) -> bool:
        """Add a connection from that port of a program, of that user if it is known, unless there are too many."""
        with self._changed:
            staying = sum(not client.is_cut for client in self._open.values())
            if staying >= self.ceiling and self._cut_one(port, user) is None:
                return False
            self._open[connection] = _LocalClient(port, user, self._monotonic())
            return True

    def connected(self, connection: socket.socket) -> None:
        """It has a channel."""
        with self._changed:
            if (client := self._open.get(connection)) is not None:
                client.is_connected = True

    def has_sent(self, connection: socket.socket) -> None:
        """It has sent something."""
        if (client := self._open.get(connection)) is not None:
            client.has_sent, client.last = True, self._monotonic()

    def replace_one(self, port: int, seconds: float) -> bool:
        """Let another connection make room for the channel of the program at that port, because the server has no more.

        Waits up to that many seconds for its end; False if none may be closed.
        """
        with self._changed:
            leaving = [each for each, it in self._open.items() if it.is_cut]
            if not leaving:
                self.ceiling = max(1, sum(client.is_connected for client in self._open.values()))
                user = next((it.user for it in self._open.values() if it.port == port), None)
                if (cut := self._cut_one(port, user)) is None:
                    return False
                leaving = [cut]
            return self._changed.wait_for(lambda: any(each not in self._open for each in leaving), seconds)

    def leave(self, connection: socket.socket) -> None:
        """Remove a connection whose channel is closed."""
        with self._changed:
            self._open.pop(connection, None)
            self._changed.notify_all()

    def cut(self) -> None:
        """End every connection, which frees the threads that are blocked in them."""
        with self._changed:
            for connection in self._open:
                _shut(connection)

    def _cut_one(self, newcomer: int, user: int | None) -> socket.socket | None:
        """End the connection that makes room for a newcomer from that port, if there is one; returns it."""
        if len(self._open) >= 2 * self.ceiling:  # as many are cut, and still blocked
            return None
        now = self._monotonic()
        staying = {each: it for each, it in self._open.items() if it.port != newcomer and not it.is_cut}
        silent = (each for each, it in staying.items() if not it.has_sent and it.last <= now - SILENT_FOR)
        chosen = next(silent, None) or self._quietest_of_largest_user(staying, newcomer, user, now)
        if chosen is not None:
            self._open[chosen].is_cut = True
            _shut(chosen)
        return chosen

    def _quietest_of_largest_user(
        self, staying: Mapping[socket.socket, _LocalClient], newcomer: int, user: int | None, now: float
    ) -> socket.socket | None:
        if now < self._next_look_up:
            return None
        self._next_look_up = now + _LOOK_UP_INTERVAL
        known = {newcomer: user, **{it.port: it.user for it in staying.values()}}
        users = self._users_of(self._port) if user is None else known
        counts = Counter(users.get(client.port) for client in staying.values())
        largest, most = max(counts.items(), key=lambda pair: pair[1], default=(None, 0))
        own = users.get(newcomer)
        if own is None or largest is None or most <= counts[own] + 1:
            return None
        theirs = [(it.last, each) for each, it in staying.items() if users.get(it.port) == largest]
        return min(theirs, key=lambda pair: pair[0])[1]


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
