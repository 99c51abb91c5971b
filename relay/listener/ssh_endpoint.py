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
import contextlib
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import paramiko
from paramiko.buffered_pipe import BufferedPipe
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
)
from typing_extensions import override

from relay.errors import RelayError, UnavailableError
from relay.listener.acceptor import Acceptor
from relay.listener.admission.admission import Admission, AdmittedConnection
from relay.listener.listening_socket import Listener, binding
from relay.listener.stream import ByteStream
from relay.system.rare_log import RareLog
from relay.transport.from_files import FromFiles
from relay.transport.ssh import channel_mark, private_key
from relay.transport.ssh.authorized_keys import AuthorizedKey, AuthorizedKeys, same_host
from relay.transport.ssh.liveness import LivenessTimeouts
from relay.transport.ssh.public_key import PublicKey
from relay.transport.ssh.transport_layer import ALGORITHMS, TransportLayer, WatchedSocket
from relay.values.address import Address
from relay.values.provenance import ReceiptMark
from relay.values.text import bug_text, excerpt

if TYPE_CHECKING:
    _OctetPipe = BufferedPipe[bytes]
else:
    _OctetPipe = BufferedPipe  # generic for the stubs only

WINDOW: Final = 1 << 20  # octets of a channel that a sender may send before they are read
_READ: Final = 1 << 18

_LIVENESS: Final = LivenessTimeouts(quiet=30.0, answer=30.0)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointLimits:
    """Limits for one connection; times in seconds."""

    channels: int = 8  # for each connection
    authentication: float = 30.0  # from the start of the connection to the end of the login
    liveness: LivenessTimeouts = _LIVENESS


@dataclass(slots=True, kw_only=True)
class EndpointCounters:
    """An endpoint's counts since it started."""

    connections: int = 0
    refused: int = 0  # connections beyond a ceiling
    logins: int = 0
    channels: int = 0
    refused_channels: int = 0


class _ChannelOpening(NamedTuple):
    """A sender's request for a channel."""

    originator: tuple[str, int]
    destination: tuple[str, int]


class ChannelStream(ByteStream):
    """One channel. For the event loop's thread only."""

    def __init__(self, connection: "_SshConnection", channel: paramiko.Channel, opening: "_ChannelOpening") -> None:
        self.destination = opening.destination
        self.marks = ReceiptMark(0) if channel_mark.is_own(opening.originator) else ReceiptMark.FORWARDED
        self.key = connection.identity
        self.identity = self.key.key.fingerprint
        self.closed = False
        self._connection = connection
        self._channel = channel
        self._news = asyncio.Event()
        self._reading: asyncio.Future[bytes] | None = None
        channel.in_buffer.set_event(cast("threading.Event", _Wake(connection.loop, self._news)))

    @property
    @override
    def peer(self) -> str:
        return f"{self._connection.peer} ({self.key.comment or self.key.key.fingerprint})"

    @property
    @override
    def address(self) -> str:
        return self._connection.host

    @property
    @override
    def half_closed(self) -> bool:
        return bool(self._channel.eof_received) or self._channel.closed or not self._connection.alive

    @override
    async def read(self) -> bytes:
        channel = self._channel
        while self._reading is None and not (channel.recv_ready() or channel.eof_received or channel.closed):
            self._news.clear()
            await self._news.wait()
        if self._reading is None:
            # In another thread, because paramiko may have to send, to widen the sender's window. Kept, and shielded: a
            # caller that stops waiting must not lose the octets that are read for it.
            self._reading = self._connection.run(channel.recv, _READ)
        data = await asyncio.shield(self._reading)
        self._reading = None
        if not data and not (channel.eof_received and self._connection.alive):
            raise _lost(self.peer)
        return data

    @override
    async def write(self, data: bytes) -> None:
        try:
            await asyncio.shield(self._connection.run(self._channel.sendall, data))
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise _lost(self.peer) from error

    @override
    async def close(self) -> None:
        self.closed = True
        self._connection.release(self._channel.chanid)  # first: the sender may open the next one at once
        # If the sender has gone, it has seen no acceptance and sends again.
        with contextlib.suppress(UnavailableError, paramiko.SSHException, EOFError, OSError):
            await asyncio.shield(self._connection.run(self._channel.close))

    @override
    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self._connection.close()  # the whole connection: the sender must not see a clean end


Serve = Callable[[ChannelStream], Awaitable[object]]
"""Receives one stream, and closes or aborts it."""


def _host_key(file: str) -> FromFiles[paramiko.PKey]:
    return FromFiles("the SSH end's host key", [file], lambda: private_key.load(file))


def _authorized(file: str) -> FromFiles[AuthorizedKeys]:
    return FromFiles("the SSH end's list of keys", [file], lambda: AuthorizedKeys.read(file))


class SshEndpoint(Listener):
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
        self.authorized_keys_file = authorized_keys_file
        self._host_key = _host_key(host_key_file)
        self._authorized = _authorized(authorized_keys_file)
        self._allowed = frozenset(allowed)
        self._admission = Admission() if admission is None else admission
        self._notices = RareLog(_log)
        self._acceptors: list[Acceptor] = []
        self._connections: set[_SshConnection] = set()
        self._serving: set[asyncio.Task[None]] = set()  # also of connections that have ended

    def __repr__(self) -> str:
        state = "listening" if self._sockets else "not listening"
        return f"<SshEndpoint {self._name} {state}, {len(self._connections)} connections>"

    def refresh(self) -> RelayError | None:
        """The error that prevents every login with the files as they are now. For any thread."""
        host_key, authorized = self._host_key.refresh(), self._authorized.refresh()
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

    def exchange(self, host_key_file: str, authorized_keys_file: str, allowed: Collection[tuple[str, int]]) -> None:
        """Use these settings for later connections; a RelayError leaves the former ones in use."""
        host_key, authorized = _host_key(host_key_file), _authorized(authorized_keys_file)
        if (error := host_key.refresh() or authorized.refresh()) is not None:
            raise error
        self._host_key, self._authorized = host_key, authorized
        self.authorized_keys_file = authorized_keys_file
        self._allowed = frozenset(allowed)
        self._log_mistakes()

    def _log_mistakes(self) -> None:
        for mistake in self._authorized.value.mistakes if self._authorized.value is not None else ():
            _log.warning("%s", mistake)

    @override
    async def stop(self) -> None:
        if not self._sockets:
            return
        for acceptor in self._acceptors:
            acceptor.stop()
        self._sockets = []
        await self._stop_serving()  # first: a cancelled stream is aborted, never closed as if it were accepted
        await asyncio.gather(*(connection.end() for connection in self._connections))
        await self._stop_serving()  # streams that were opened meanwhile

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

    def forget(self, connection: "_SshConnection") -> None:
        """Remove a connection that has ended."""
        self._connections.discard(connection)

    def _accept(self, accepted: socket.socket, address: tuple[str, int]) -> None:
        host, port = address[:2]
        self._host_key.refresh()
        admitted = None if self._host_key.value is None else self._admission.admit(host, authenticates=True)
        if admitted is None or self._host_key.value is None:
            self.counters.refused += 1
            accepted.close()
            return
        self.counters.connections += 1
        sock = WatchedSocket(descriptor=accepted.detach())
        with contextlib.suppress(OSError):  # it has ended already, as its thread will notice
            sock.set_nodelay()
        connection = _SshConnection(self, sock, (host, port), admitted)
        self._connections.add(connection)
        try:
            connection.start(self._host_key.value)
        except RuntimeError:  # no thread
            connection.close()
            connection.ended()
            self.counters.refused += 1
            self._notices.warn(
                "thread",
                "%s: no thread for a connection from %s, which is closed; raise TasksMax in the unit (ulimit -u), "
                "or lower max-connections",
                *(self._name, host),
            )


class _SshConnection(paramiko.ServerInterface):
    """One sender's connection. paramiko's thread calls the check_ methods, the event loop's thread the others."""

    def __init__(
        self, endpoint: SshEndpoint, sock: WatchedSocket, address: tuple[str, int], admitted: AdmittedConnection
    ) -> None:
        self.host = address[0]
        self.peer = f"ssh://{Address(*address)}"
        self._admitted = admitted
        self.loop = asyncio.get_running_loop()
        self._endpoint = endpoint
        self._layer = _ServerLayer(sock, self, endpoint.limits.liveness)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="ssh channel")
        self._openings: dict[int, _ChannelOpening] = {}  # of the channels that are open
        self._identity: AuthorizedKey | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()

    @property
    def alive(self) -> bool:
        return self._layer.is_active()

    @property
    def authenticated(self) -> bool:
        return self._layer.is_authenticated()

    @property
    def identity(self) -> AuthorizedKey:
        assert self._identity is not None, "channels are opened only after a login"  # noqa: S101 - a fact of RFC 4252
        return self._identity

    def start(self, host_key: paramiko.PKey) -> None:
        self._layer.add_server_key(host_key)

        def demand_login() -> None:
            if not self.authenticated:
                self.close()

        self._deadline = self.loop.call_later(self._endpoint.limits.authentication, demand_login)
        self._layer.start_server(threading.Event(), self)  # with an event, it does not block

    def run(self, work: Callable[..., Any], *arguments: object) -> "asyncio.Future[Any]":
        """Run a blocking function in this connection's thread; UnavailableError when the connection has ended."""
        try:
            return self.loop.run_in_executor(self._worker, work, *arguments)
        except RuntimeError:
            raise _lost(self.peer) from None

    def close(self) -> None:
        """Break the connection off; `ended` is called later."""
        self._layer.close()

    async def end(self) -> None:
        """Break the connection off and wait until it has ended."""
        self.close()
        await self._ended.wait()

    # --- Called by the layer, on the event loop ---

    def channel_opened(self, channel: paramiko.Channel) -> None:
        stream = ChannelStream(self, channel, self._openings[channel.chanid])
        self._endpoint.counters.channels += 1
        task = self.loop.create_task(self._serve(stream, channel.chanid))
        self._endpoint.note_serving(task)

    async def _serve(self, stream: ChannelStream, number: int) -> None:
        try:
            await self._endpoint.serve(stream)
        except RelayError as error:
            _log.warning("stream from %s: %s", stream.peer, error)
        except Exception as error:  # noqa: BLE001 - a failed stream must not affect other connections
            _log.error("stream from %s ended: %s; please report it with the log", stream.peer, bug_text(error))
        finally:
            stream.abort()  # unless it was closed
            self.release(number)

    def release(self, number: int) -> None:
        """A channel no longer counts."""
        self._openings.pop(number, None)

    def logged_in(self) -> None:
        self._endpoint.counters.logins += 1
        self._admitted.authenticated()
        _log.info("%s logged in with %s (%s)", self.peer, self.identity.key.fingerprint, self.identity.comment)

    def ended(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._identity is not None:
            _log.info("%s ended", self.peer)
        self._worker.shutdown(wait=False)
        self._admitted.leave()
        self._endpoint.forget(self)
        self._ended.set()

    # --- Called by paramiko, in its own thread ---

    def get_allowed_auths(self, username: str) -> str:
        del username
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        """Whether the key may log in; called once without and once with a signature, which paramiko then verifies."""
        try:
            authorized = AuthorizedKeys.read(self._endpoint.authorized_keys_file)
        except RelayError as error:
            _log.error("every login is refused: %s", error)
            return AUTH_FAILED
        shown = PublicKey(key.get_name(), key.asbytes())
        found = authorized.find(shown)
        if found is None or key.public_blob is not None:  # a certificate has limits that relay does not check
            _log.warning("%s, as %s: key %s is not authorized", self.peer, excerpt(username), shown.fingerprint)
            return AUTH_FAILED
        self._identity = found
        return AUTH_SUCCESSFUL

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        host, port = destination
        if not (self._endpoint.may_open(host, port) and self.identity.may_open(host, port)):
            _log.warning("%s is not allowed to open %s:%d", self.peer, excerpt(host), port)
            return self._refuse(OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED)
        if len(self._openings) >= self._endpoint.limits.channels:
            return self._refuse(OPEN_FAILED_RESOURCE_SHORTAGE)
        self._openings[chanid] = _ChannelOpening(origin, destination)
        return OPEN_SUCCEEDED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        del kind, chanid
        return self._refuse(OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED)

    def _refuse(self, reason: int) -> int:
        self._endpoint.counters.refused_channels += 1
        return reason


class _ServerLayer(TransportLayer):
    """The server side of the transport layer; it passes events of paramiko's thread to the event loop."""

    def __init__(self, sock: WatchedSocket, connection: _SshConnection, timeouts: LivenessTimeouts) -> None:
        super().__init__(sock, ALGORITHMS["default"], window=WINDOW)
        self._connection = connection
        self._timeouts = timeouts

    def run(self) -> None:
        """Serve the connection to its end."""
        try:
            super().run()
        finally:
            self._notify(self._connection.ended)

    def _notify(self, call: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended already
            self._connection.loop.call_soon_threadsafe(call, *arguments)

    def _auth_trigger(self) -> None:
        super()._auth_trigger()  # type: ignore[misc]  # not in the stubs
        self.watch(self._timeouts)
        self._notify(self._connection.logged_in)

    def _queue_incoming_channel(self, channel: paramiko.Channel) -> None:
        # Before the channel's first octet is read, because paramiko itself does not enforce the window.
        with channel.lock:
            channel.in_buffer = _BoundedPipe(WINDOW)
            channel.in_stderr_buffer = _BoundedPipe(0)
            if channel.closed:  # by the event loop, meanwhile: it closed the pipes that these two replace
                channel.in_buffer.close()
        self._notify(self._connection.channel_opened, channel)


def _lost(peer: str) -> UnavailableError:
    return UnavailableError(f"stream from {peer}", "the SSH connection was lost")


class _BoundedPipe(_OctetPipe):
    """A channel's unread octets, with a ceiling that ends the connection."""

    def __init__(self, ceiling: int) -> None:
        super().__init__()
        self._ceiling = ceiling

    def feed(self, data: bytes) -> None:
        if len(self) + len(data) > self._ceiling:
            raise paramiko.SSHException("the peer sends beyond the window")
        super().feed(data)


class _Wake:
    """In place of a BufferedPipe's threading.Event: wakes a coroutine instead of a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
        self._loop = loop
        self._news = news

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended already
            self._loop.call_soon_threadsafe(self._news.set)

    def clear(self) -> None:
        """Do nothing: the waiting coroutine clears its own event."""
