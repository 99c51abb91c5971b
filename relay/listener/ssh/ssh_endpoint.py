"""The receiver's own SSH end: senders log in with a key, forward to relay's listeners, and can do nothing else.

Public keys only. Of SSH's features it serves only `direct-tcpip` channels (RFC 4254 section 7.2) to relay's own
listeners: no shell, no command, no sftp, no other address, nothing in the other direction. A channel never becomes a
TCP connection. It is handed over in the process as a ByteStream, together with the key that opened it.

A sender treats a channel's end of file after its own as acceptance. So a channel ends cleanly only when the function
that serves it closes it. If that function aborts it, fails, returns without closing it or is stopped, the whole
connection is broken off, because in a living connection every end looks clean.

Messages of a channel without relay's mark (`relay.transport.ssh.channel_mark`) are FORWARDED: another program sent
them, through a router's port forwarding or an `ssh -L` of its own.

Ceilings are those of `relay.listener.admission` for connections, and EndpointLimits. A connection beyond them is
closed, a channel refused. A channel holds at most WINDOW unread octets; a peer that sends more is disconnected. The
keys' file is read at every login.

A host key or keys' file that cannot be used stops this end alone: its connections are closed, or its logins refused,
until the file can be used. A host key that was in use stays in use.
"""

import asyncio
import logging
import socket
from collections.abc import Collection

import asyncssh
from typing_extensions import override

from relay.errors import RelayError
from relay.listener.acceptor import Acceptor, refuse
from relay.listener.admission.admission import Admission
from relay.listener.admission.source_log import SourceLog
from relay.listener.listening_socket import binding
from relay.listener.ssh.server_options import server_options
from relay.listener.ssh.ssh_connection import EndpointLimits, Serve, SshConnection
from relay.listener.ssh.ssh_listener import EndpointCounters, SshListener
from relay.transport.from_files import FromFiles
from relay.transport.ssh import private_key
from relay.transport.ssh.authorized_keys import AuthorizedKeys, same_host
from relay.values.address import Address

_log = logging.getLogger(__name__)


def _authorized(file: str) -> FromFiles[AuthorizedKeys]:
    return FromFiles("the SSH end's list of keys", [file], lambda: AuthorizedKeys.read(file))


class SshEndpoint(SshListener):
    """Listens for SSH."""

    def __init__(  # noqa: PLR0913 - each is one thing that the configuration names
        self,
        host: str,
        port: int,
        *,
        host_key_file: str,
        authorized_keys_file: str,
        allowed: Collection[tuple[str, int]],
        serve: Serve,
        limits: EndpointLimits | None = None,
        admission: Admission | None = None,
    ) -> None:
        super().__init__(f"SSH end {Address(host, port)}", binding(Address(host, port)))
        self.counters = EndpointCounters()
        self.limits = EndpointLimits() if limits is None else limits
        self.serve = serve
        self.notices = SourceLog(_log)
        self.authorized = _authorized(authorized_keys_file)
        self._options = self._options_for(host_key_file)
        self._allowed = frozenset(allowed)
        self._admission = Admission() if admission is None else admission
        self._acceptors: list[Acceptor] = []
        self._connections: set[SshConnection] = set()
        self._beginning: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()  # also of connections that have ended

    def __repr__(self) -> str:
        state = "listening" if self._sockets else "not listening"
        return f"<SshEndpoint {self._name} {state}, {len(self._connections)} connections>"

    def _options_for(self, file: str) -> FromFiles[asyncssh.SSHServerConnectionOptions]:
        quiet, answer = self.limits.liveness
        return FromFiles(
            "the SSH end's host key", [file], lambda: server_options(private_key.load(file), quiet, answer)
        )

    @override
    def refresh(self) -> RelayError | None:
        host_key, authorized = self._options.refresh(), self.authorized.refresh()
        return host_key or authorized

    @override
    async def start(self) -> None:
        """Listen, and log the mistakes in the keys' file; a RelayError explains why listening fails."""
        self.refresh()
        self._log_mistakes()
        await self._listen()
        self._acceptors = [Acceptor(sock, self._accept, self._admission) for sock in self._sockets]
        for acceptor in self._acceptors:
            acceptor.start()

    @override
    def exchange(self, host_key_file: str, authorized_keys_file: str, allowed: Collection[tuple[str, int]]) -> None:
        options, authorized = self._options_for(host_key_file), _authorized(authorized_keys_file)
        if (error := options.refresh() or authorized.refresh()) is not None:
            raise error
        self._options, self.authorized = options, authorized
        self._allowed = frozenset(allowed)
        self._log_mistakes()

    def _log_mistakes(self) -> None:
        for mistake in self.authorized.value.mistakes if self.authorized.value is not None else ():
            _log.warning("%s", mistake)

    @override
    async def stop(self) -> None:
        if not self._sockets:
            return
        for acceptor in self._acceptors:
            acceptor.stop()
        self._sockets = []
        await asyncio.gather(*self._beginning, return_exceptions=True)
        await self._stop_serving()  # first: a cancelled stream is aborted, never closed as if it were accepted
        await asyncio.gather(*(connection.end() for connection in self._connections))
        await self._stop_serving()  # streams that were opened meanwhile
        self.notices.close()

    async def _stop_serving(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def may_open(self, host: str, port: int) -> bool:
        """Whether that is the address of one of relay's own listeners."""
        return any(port == own_port and same_host(host, own) for own, own_port in self._allowed)

    def note_serving(self, task: asyncio.Task[None]) -> None:
        """Add a task that serves a stream; it may outlast the stream's connection."""
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    def forget(self, connection: "SshConnection") -> None:
        """Remove a connection that has ended."""
        self._connections.discard(connection)

    def _accept(self, accepted: socket.socket, address: tuple[str, int]) -> None:
        host, port = address[:2]
        self._options.refresh()
        admitted = None if self._options.value is None else self._admission.admit(host, authenticates=True)
        if admitted is None or self._options.value is None:
            self.counters.refused += 1
            refuse(accepted)
            return
        self.counters.connections += 1
        connection = SshConnection(self, self._options.value, (host, port), admitted)
        self._connections.add(connection)
        beginning = asyncio.get_running_loop().create_task(_begin(connection, accepted))
        self._beginning.add(beginning)
        beginning.add_done_callback(self._beginning.discard)


async def _begin(connection: SshConnection, accepted: socket.socket) -> None:
    """Let asyncio serve the connection on a socket that was accepted."""
    try:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, accepted)
    except OSError:  # it has ended already
        accepted.close()
        connection.ended(None)
