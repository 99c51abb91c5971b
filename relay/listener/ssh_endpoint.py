"""The receiver's own SSH end: senders log in with a key and forward to relay's listeners, and can do nothing else.

Public keys only. Of all that SSH offers only `direct-tcpip` channels (RFC 4254 section 7.2) to relay's own listeners
are served: no shell, no command, no sftp, no other address, nothing in the other direction. A channel never becomes a
TCP connection: it is handed over in the process as a ByteStream, together with the key that opened it.

A sender takes a channel's end of file after its own for proof of acceptance. So a channel is ended cleanly only when
the one who serves it closes it; if he aborts it, fails, returns without closing or is stopped, the whole connection is
broken off, since within a living one every end looks clean.

Ceilings are EndpointLimits; a connection beyond them is closed, a channel refused. A channel holds at most WINDOW
octets that are not read yet; a peer that sends more is broken off. The keys' file is read again at every login.

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
from typing import TYPE_CHECKING, Any, Final, cast

import paramiko
from paramiko.buffered_pipe import BufferedPipe
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
)

from relay.errors import RelayError, UnavailableError
from relay.listener.listening_socket import Listener, cannot_listen, listen
from relay.transport.from_files import FromFiles
from relay.transport.ssh import private_key
from relay.transport.ssh.authorized_keys import AuthorizedKey, AuthorizedKeys, same_host
from relay.transport.ssh.liveness import LivenessTimeouts
from relay.transport.ssh.public_key import PublicKey
from relay.transport.ssh.transport_layer import ALGORITHMS, TransportLayer, WatchedSocket
from relay.values.text import excerpt

if TYPE_CHECKING:
    _OctetPipe = BufferedPipe[bytes]
else:
    _OctetPipe = BufferedPipe  # generic for the stubs only

WINDOW: Final = 1 << 20  # octets of a channel that a sender may be ahead of us
_READ: Final = 1 << 18
_BACKLOG: Final = 128
_BREATH: Final = 0.5  # seconds to wait when the system has no file descriptor left

_LIVENESS: Final = LivenessTimeouts(quiet=30.0, answer=30.0)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointLimits:
    """What all senders together, and one connection, may ask of us; times in seconds."""

    connections: int = 200
    per_address: int = 50
    unauthenticated: int = 20
    channels: int = 8
    """For each connection."""
    authentication: float = 30.0
    """From the connection's beginning to the end of the login."""
    liveness: LivenessTimeouts = _LIVENESS


@dataclass(slots=True, kw_only=True)
class EndpointCounters:
    """What an endpoint has seen since it began."""

    connections: int = 0
    refused: int = 0
    """Connections beyond a ceiling."""
    logins: int = 0
    channels: int = 0
    refused_channels: int = 0


class ChannelStream:
    """One channel, as a relay.listener.stream.ByteStream. For the event loop's thread only."""

    def __init__(self, connection: "_SshConnection", channel: paramiko.Channel, destination: tuple[str, int]) -> None:
        self.destination = destination
        self.key = connection.identity
        self.closed = False
        self._connection = connection
        self._channel = channel
        self._news = asyncio.Event()
        self._reading: asyncio.Future[bytes] | None = None
        channel.in_buffer.set_event(cast("threading.Event", _Wake(connection.loop, self._news)))

    @property
    def peer(self) -> str:
        """Who sends, for people."""
        return f"{self._connection.peer} ({self.key.comment or self.key.key.fingerprint})"

    async def read(self) -> bytes:
        """Wait for octets; b"" at the sender's half-close, UnavailableError when the connection is lost."""
        while self._reading is None and not self._has_news():
            self._news.clear()
            await self._news.wait()
        if self._reading is None:
            # Not on the loop: paramiko may have to send, to widen the sender's window. Kept, and shielded: a caller who
            # gives up waiting must not lose what was read for him.
            self._reading = self._connection.run(self._channel.recv, _READ)
        data = await asyncio.shield(self._reading)
        self._reading = None
        if not data and not (self._channel.eof_received and self._connection.alive):
            raise _lost(self.peer)
        return data

    async def write(self, data: bytes) -> None:
        """Answer; waits while the sender does not read. UnavailableError when the connection is lost."""
        try:
            await asyncio.shield(self._connection.run(self._channel.sendall, data))
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise _lost(self.peer) from error

    async def close(self) -> None:
        """End the channel cleanly, which the sender takes for "accepted"."""
        self.closed = True
        self._connection.release(self._channel.chanid)  # first: the sender may open the next at once
        # Should the sender have gone, he knows nothing and sends again.
        with contextlib.suppress(UnavailableError, paramiko.SSHException, EOFError, OSError):
            await asyncio.shield(self._connection.run(self._channel.close))

    def abort(self) -> None:
        """Break the whole connection off, so that the sender cannot take this end for a clean one."""
        if not self.closed:
            self.closed = True
            self._connection.close()

    def _has_news(self) -> bool:
        return self._channel.recv_ready() or bool(self._channel.eof_received) or self._channel.closed


Serve = Callable[[ChannelStream], Awaitable[None]]
"""Takes one stream in, and closes it or aborts it."""


def _host_key(file: str) -> FromFiles[paramiko.PKey]:
    return FromFiles("the SSH end's host key", [file], lambda: private_key.load(file))


def _authorized(file: str) -> FromFiles[AuthorizedKeys]:
    return FromFiles("the SSH end's list of keys", [file], lambda: AuthorizedKeys.read(file))


class SshEndpoint(Listener):
    """What listens for SSH."""

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
    ) -> None:
        self.counters = EndpointCounters()
        self.limits = EndpointLimits() if limits is None else limits
        self.serve = serve
        self.authorized_keys_file = authorized_keys_file
        self._address = host, port
        self._host_key = _host_key(host_key_file)
        self._authorized = _authorized(authorized_keys_file)
        self._allowed = frozenset(allowed)
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._connections: set[_SshConnection] = set()
        self._serving: set[asyncio.Task[None]] = set()  # also of connections that have ended

    def __repr__(self) -> str:
        state = "listening" if self._sockets else "not listening"
        return f"<SshEndpoint {self.address[0]}:{self.address[1]} {state}, {len(self._connections)} connections>"

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, with the real port when port 0 was asked for; of several addresses the first."""
        if not self._sockets:
            return self._address
        host, port, *_ = self._sockets[0].getsockname()
        return host, port

    def refresh(self) -> RelayError | None:
        """Why nobody can log in with the files as they are now. For any thread."""
        host_key, authorized = self._host_key.refresh(), self._authorized.refresh()
        return host_key or authorized

    async def start(self) -> None:
        """Listen; a RelayError says why it cannot be. Lines of the keys' file that admit nobody are logged."""
        self.refresh()
        self._log_mistakes()
        self._sockets = await self._listen()
        loop = asyncio.get_running_loop()
        self._accepting = [loop.create_task(self._accept(listening)) for listening in self._sockets]

    def exchange(self, host_key_file: str, authorized_keys_file: str, allowed: Collection[tuple[str, int]]) -> None:
        """Serve the connections that begin from now on with these; a RelayError says why that cannot be."""
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

    async def stop(self) -> None:
        """Accept nobody any more, and break the connections off that are left."""
        if not self._sockets:
            return
        for accepting in self._accepting:
            accepting.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for listening in self._sockets:
            listening.close()
        self._sockets = []
        await self._stop_serving()  # first: what is cancelled is aborted, never closed as if it were accepted
        await asyncio.gather(*(connection.end() for connection in self._connections))
        await self._stop_serving()  # streams that were opened meanwhile

    async def _stop_serving(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def may_open(self, host: str, port: int) -> bool:
        """Whether that is one of relay's own listeners."""
        return any(port == own_port and same_host(host, own) for own, own_port in self._allowed)

    def note_serving(self, task: asyncio.Task[None]) -> None:
        """A stream is served from now on until the task is done; what it brought may outlast its connection."""
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    def forget(self, connection: "_SshConnection") -> None:
        """The connection has ended."""
        self._connections.discard(connection)

    async def _listen(self) -> list[socket.socket]:
        host, port = self._address
        try:
            return await asyncio.to_thread(listen, host, port, _BACKLOG)
        except OSError as error:
            raise cannot_listen(f"SSH end {host}:{port}", error) from error

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, (host, port, *_) = await loop.sock_accept(listening)
            except OSError:
                await asyncio.sleep(_BREATH)
                continue
            self._host_key.refresh()
            if self._is_full(host) or self._host_key.value is None:
                self.counters.refused += 1
                accepted.close()
                continue
            self.counters.connections += 1
            sock = WatchedSocket(descriptor=accepted.detach())
            with contextlib.suppress(OSError):  # gone already, which its thread will find
                sock.be_prompt()
            connection = _SshConnection(self, sock, (host, port))
            self._connections.add(connection)
            connection.start(self._host_key.value)

    def _is_full(self, host: str) -> bool:
        strangers = sum(not connection.authenticated for connection in self._connections)
        neighbours = sum(connection.host == host for connection in self._connections)
        return (
            len(self._connections) >= self.limits.connections
            or neighbours >= self.limits.per_address
            or strangers >= self.limits.unauthenticated
        )


class _SshConnection(paramiko.ServerInterface):
    """One sender's connection. The check_ methods are called by paramiko's thread, everything else by the loop's."""

    def __init__(self, endpoint: SshEndpoint, sock: WatchedSocket, address: tuple[str, int]) -> None:
        self.host, port = address
        self.peer = f"ssh://[{self.host}]:{port}" if ":" in self.host else f"ssh://{self.host}:{port}"
        self.loop = asyncio.get_running_loop()
        self._endpoint = endpoint
        self._layer = _ServerLayer(sock, self, endpoint.limits.liveness)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="ssh channel")
        self._destinations: dict[int, tuple[str, int]] = {}  # of the channels that are open
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
        assert self._identity is not None, "only who is logged in opens channels"  # noqa: S101 - a fact of RFC 4252
        return self._identity

    def start(self, host_key: paramiko.PKey) -> None:
        self._layer.add_server_key(host_key)
        self._deadline = self.loop.call_later(self._endpoint.limits.authentication, self._demand_login)
        self._layer.start_server(threading.Event(), self)  # with an event, it does not wait

    def run(self, work: Callable[..., Any], *arguments: object) -> "asyncio.Future[Any]":
        """Do what may block, one at a time; UnavailableError when the connection has ended."""
        try:
            return self.loop.run_in_executor(self._worker, work, *arguments)
        except RuntimeError:
            raise _lost(self.peer) from None

    def close(self) -> None:
        """Break the connection off; `ended` follows."""
        self._layer.close()

    async def end(self) -> None:
        """Break the connection off and wait until it has ended."""
        self.close()
        await self._ended.wait()

    def _demand_login(self) -> None:
        if not self.authenticated:
            self.close()

    # --- What the layer tells, on the loop ---

    def channel_opened(self, channel: paramiko.Channel) -> None:
        stream = ChannelStream(self, channel, self._destinations[channel.chanid])
        self._endpoint.counters.channels += 1
        task = self.loop.create_task(self._serve(stream, channel.chanid))
        self._endpoint.note_serving(task)

    async def _serve(self, stream: ChannelStream, number: int) -> None:
        try:
            await self._endpoint.serve(stream)
        except RelayError as error:
            _log.warning("stream from %s: %s", stream.peer, error)
        except Exception:  # noqa: BLE001 - whatever fails in one stream, the other connections live on
            _log.exception("stream from %s", stream.peer)
        finally:
            stream.abort()  # unless it was closed
            self.release(number)

    def release(self, number: int) -> None:
        """A channel takes no room any more."""
        self._destinations.pop(number, None)

    def logged_in(self) -> None:
        self._endpoint.counters.logins += 1
        _log.info("%s logged in with %s (%s)", self.peer, self.identity.key.fingerprint, self.identity.comment)

    def ended(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._identity is not None:
            _log.info("%s ended", self.peer)
        self._worker.shutdown(wait=False)
        self._endpoint.forget(self)
        self._ended.set()

    # --- What paramiko asks, in its own thread ---

    def get_allowed_auths(self, username: str) -> str:
        del username
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        """Whether the key may log in. Asked once without and once with a signature, which paramiko then verifies."""
        try:
            authorized = AuthorizedKeys.read(self._endpoint.authorized_keys_file)
        except RelayError as error:
            _log.error("nobody can log in: %s", error)
            return AUTH_FAILED
        shown = PublicKey(key.get_name(), key.asbytes())
        found = authorized.find(shown)
        if found is None or key.public_blob is not None:  # a certificate has limits that nothing here looks at
            _log.warning("%s, as %s: key %s is refused", self.peer, excerpt(username), shown.fingerprint)
            return AUTH_FAILED
        self._identity = found
        return AUTH_SUCCESSFUL

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        del origin
        host, port = destination
        if not (self._endpoint.may_open(host, port) and self.identity.may_open(host, port)):
            _log.warning("%s may not open %s:%d", self.peer, excerpt(host), port)
            return self._refuse(OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED)
        if len(self._destinations) >= self._endpoint.limits.channels:
            return self._refuse(OPEN_FAILED_RESOURCE_SHORTAGE)
        self._destinations[chanid] = destination
        return OPEN_SUCCEEDED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        del kind, chanid
        return self._refuse(OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED)

    def _refuse(self, reason: int) -> int:
        self._endpoint.counters.refused_channels += 1
        return reason


class _ServerLayer(TransportLayer):
    """The transport layer's server side: tells its connection, on the event loop, what happens in paramiko's thread."""

    def __init__(self, sock: WatchedSocket, connection: _SshConnection, timeouts: LivenessTimeouts) -> None:
        super().__init__(sock, ALGORITHMS["default"], window=WINDOW)
        self._connection = connection
        self._timeouts = timeouts

    def run(self) -> None:
        """Serve the connection to its end."""
        try:
            super().run()
        finally:
            self._tell(self._connection.ended)

    def _tell(self, news: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended before us
            self._connection.loop.call_soon_threadsafe(news, *arguments)

    def _auth_trigger(self) -> None:
        super()._auth_trigger()  # type: ignore[misc]  # not in the stubs
        self.watch(self._timeouts)
        self._tell(self._connection.logged_in)

    def _queue_incoming_channel(self, channel: paramiko.Channel) -> None:
        # Before the channel's first octet is read: paramiko itself lets a peer send beyond the window it was given.
        with channel.lock:
            channel.in_buffer = _BoundedPipe(WINDOW)
            channel.in_stderr_buffer = _BoundedPipe(0)
            if channel.closed:  # by the loop, a moment ago: it closed the pipes that these two replace
                channel.in_buffer.close()
        self._tell(self._connection.channel_opened, channel)


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
    """What a BufferedPipe takes for a threading.Event: it wakes a coroutine instead of a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
        self._loop = loop
        self._news = news

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended before us
            self._loop.call_soon_threadsafe(self._news.set)

    def clear(self) -> None:
        """Nothing: who waits looks for himself."""
