"""The listening sockets of a port forwarding: a local port, or a Unix socket for certain users."""

import contextlib
import itertools
import logging
import socket
import sys
import time
from typing import Any, Final

from sshtunnel import _ThreadingForwardServer
from typing_extensions import override

from relay.errors import CannotCreateError
from relay.system.files.socket_file import SocketFile, open_socket
from relay.transport.ssh.forwarding import local_port
from relay.transport.ssh.forwarding.local_clients import LocalClients
from relay.transport.ssh.forwarding.local_socket import ids_of, name_of, user_of
from relay.values.configuration.settings import PortForwarding
from relay.values.text import error_text

WINDOW: Final = 1 << 16  # octets of the collector's answers, and of the program's data in our socket
_BACKLOG: Final = 64
_NOTICE_INTERVAL: Final = 60.0  # seconds between two lines about rejected connections
_SOCKET_MODE: Final = 0o666
"""Everybody may connect: the user's id decides, and the connection of another user is closed."""

_log = logging.getLogger("relay.port_forward")


class PortServer(_ThreadingForwardServer):
    """A local port, with a ceiling on its connections; `shutdown` closes it at once."""

    request_queue_size = _BACKLOG

    def __init__(
        self,
        clients: LocalClients,
        forwarding: PortForwarding,
        address: tuple[str, int],
        handler: Any,  # noqa: ANN401 - theirs
        *,
        logger: logging.Logger,
    ) -> None:
        self._clients = clients
        self._forwarding = forwarding
        self._quiet_until = float("-inf")
        self.address_family = socket.AF_UNIX if forwarding.local_socket else local_port.family(address[0])
        super().__init__(address, handler, logger=logger)

    @override
    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)  # each connection's
        try:
            super().server_bind()
        except OSError as error:
            raise local_port.refusal(error, self._forwarding.local_address, self._forwarding.local_port) from error

    @override
    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self.admit(request, client_address, None, client_address[0])  # socketserver closes what is not admitted

    def admit(self, request: socket.socket, client_address: tuple[str, int], user: int | None, named: str) -> bool:
        """Whether the connection finds room; else it is logged by that name."""
        admitted = self._clients.admit(request, client_address[1], user)
        if not admitted:
            self.note_rejected(named, f"{self._clients.ceiling} are open")
        return admitted

    def note_rejected(self, named: str, cause: str) -> None:
        """Log a rejected connection; further ones are not logged for a minute."""
        if (now := time.monotonic()) >= self._quiet_until:
            self._quiet_until = now + _NOTICE_INTERVAL
            message = "port-forwarding %s: rejecting connections (now from %s), because %s"
            _log.warning(message, self._forwarding.listens_on, named, cause)

    @override
    def shutdown_request(self, request: Any) -> None:
        self._clients.leave(request)
        super().shutdown_request(request)

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        # A missing channel was reported already, and a program that goes away is not an error.
        error = sys.exception()
        cause = error_text(error) if error is not None else "unknown"
        _log.debug("port-forwarding: the connection of %s ended: %s", client_address, cause)

    @override
    def shutdown(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread in `serve_forever`
        super().shutdown()


class SocketServer(PortServer):
    """A Unix socket for the programs of certain users. Its connections have numbers in place of ports."""

    def __init__(self, clients: LocalClients, forwarding: PortForwarding, *given: Any, **named: Any) -> None:  # noqa: ANN401
        self._users = ids_of(forwarding.local_users)
        self._numbers = itertools.cycle(range(1, 1 << 16))
        self._file: SocketFile | None = None
        super().__init__(clients, forwarding, *given, **named)

    @override
    def server_bind(self) -> None:
        path = self._forwarding.local_socket
        self.socket.close()
        try:
            self.socket = open_socket(path, socket.SOCK_STREAM, _SOCKET_MODE, _BACKLOG, "local-socket")
        except OSError as error:
            remedy = "its folder must exist, and relay's user must be allowed to write to it"
            raise CannotCreateError(path, f"listening there fails ({error.strerror})", remedy) from error
        self._file = SocketFile(path)
        self.server_address = path  # type: ignore[assignment]  # as socketserver's own classes for Unix sockets

    @override
    def server_activate(self) -> None:
        """It listens already, since nobody else looked at its file."""

    @override
    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, _ = self.socket.accept()
        return connection, ("127.0.0.1", next(self._numbers))

    @override
    def verify_request(self, request: Any, client_address: Any) -> bool:
        user = user_of(request)
        named = f"user {name_of(user)}"
        if user not in self._users:
            self.note_rejected(named, "local-users does not name the user")
            return False
        return self.admit(request, client_address, user, named)

    @override
    def server_close(self) -> None:
        super().server_close()
        if self._file is not None:
            self._file.remove()
