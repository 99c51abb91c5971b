"""One sender's SSH connection: its login by key, and what it may ask for, which is `direct-tcpip` alone.

asyncssh runs the protocol. This subclass decides, and adds the ceilings that asyncssh lacks:

- before the login: octets, key exchanges, failed attempts and time;
- a peer that does not read is not read either, because the answers to its requests would pile up here;
- packets that wait for the end of a key exchange, which the peer may never end;
- octets that are parsed at once, because asyncssh copies its whole buffer for each packet.

The identity of a sender is the key whose signature was verified, never one that it only asked about. Certificates are
refused: they have limits that relay does not check.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import asyncssh
from asyncssh.connection import SSHConnection
from asyncssh.constants import (
    MSG_CHANNEL_OPEN,
    MSG_GLOBAL_REQUEST,
    MSG_KEXINIT,
    MSG_REQUEST_FAILURE,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_RESOURCE_SHORTAGE,
)
from asyncssh.packet import SSHPacket, String
from asyncssh.public_key import KeyImportError, decode_ssh_public_key
from typing_extensions import override

from relay.errors import RelayError
from relay.listener.admission.admission import AdmittedConnection
from relay.listener.admission.penalties import SenderFault
from relay.listener.admission.source_log import SourceLog
from relay.listener.ssh.channel_stream import BoundedChannel, ChannelStream
from relay.listener.ssh.ssh_listener import EndpointCounters
from relay.transport.from_files import FromFiles
from relay.transport.ssh.algorithms import SERVER, signature_algorithms
from relay.transport.ssh.authorized_keys import AuthorizedKey, AuthorizedKeys
from relay.transport.ssh.liveness import LivenessTimeouts
from relay.transport.ssh.public_key import PublicKey
from relay.values.address import Address, source_of
from relay.values.text import bug_text, decoded, excerpt

MAX_UNAUTHENTICATED: Final = 1 << 18
"""Octets before the login; a key exchange takes some 10 KB, and each attempt less than 2 KB."""
MAX_ATTEMPTS: Final = 10
"""Failed attempts to log in; a client may try several keys."""
MAX_DEFERRED: Final = 1000
"""Packets that wait for the end of a key exchange."""
CLOSING_CHANNELS: Final = 64
"""Channels that relay has closed, and the peer has not closed yet."""
_END_SECONDS: Final = 1.0
_SLICE: Final = 1 << 15  # octets that are parsed at once; one full packet

_ACKNOWLEDGE_AT_ONCE: Final = (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
"""Holds for a moment only; it saves a sender 44 ms an exchange."""
_LIBRARY: Final = f"{os.path.dirname(asyncssh.__file__)}/"
_DIRECT: Final = b"direct-tcpip"
_SIGNATURES: Final = frozenset(name.encode("ascii") for name in signature_algorithms(SERVER.key_types))

_LIVENESS: Final = LivenessTimeouts(quiet=30.0, answer=30.0)

_log = logging.getLogger(__name__)

Serve = Callable[[ChannelStream], Awaitable[object]]
"""Receives one stream, and closes or aborts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointLimits:
    """Limits for one connection; times in seconds."""

    channels: int = 8  # for each connection
    authentication: float = 30.0  # from the start of the connection to the end of the login
    liveness: LivenessTimeouts = _LIVENESS


class ConnectionTerms(Protocol):
    """What all connections of an endpoint share."""

    limits: EndpointLimits
    counters: EndpointCounters
    serve: Serve
    authorized: FromFiles[AuthorizedKeys]
    notices: SourceLog

    def may_open(self, host: str, port: int) -> bool:
        """Whether that is the address of one of relay's own listeners."""

    def note_serving(self, task: asyncio.Task[None]) -> None:
        """Add a task that serves a stream; it may outlast the stream's connection."""

    def forget(self, connection: "SshConnection") -> None:
        """Remove a connection that has ended."""


class SshConnection(asyncssh.SSHServerConnection):
    """One sender's connection. For the event loop's thread only."""

    def __init__(
        self,
        terms: ConnectionTerms,
        options: asyncssh.SSHServerConnectionOptions,
        address: tuple[str, int],
        admitted: AdmittedConnection,
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop, options)
        self._protocol_factory = lambda: _Callbacks(self)
        self.host = address[0]
        self.peer = f"ssh://{Address(*address)}"
        self._terms = terms
        self._admitted = admitted
        self._proven: AuthorizedKey | None = None
        self._is_over = False
        self._cause = ""
        self._arrived = 0  # octets
        self._exchanges = 0
        self._attempts = 0
        self._streams: set[ChannelStream] = set()  # that count as open channels
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = asyncio.Event()
        self._deadline = loop.call_later(
            terms.limits.authentication,
            lambda: self.break_off(f"it did not log in within {terms.limits.authentication:g} s", SenderFault.TIMEOUT),
        )
        admitted.close = self.break_off

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._transport is not None

    @property
    def identity(self) -> AuthorizedKey:
        """The key that logged in."""
        assert self._proven is not None, "channels are opened only after a login"  # noqa: S101 - a fact of RFC 4252
        return self._proven

    def break_off(self, cause: str = "", fault: SenderFault | None = None) -> None:
        """End the connection at once, for a cause that is logged; `ended` is called later."""
        self._is_over = True
        self._cause = self._cause or cause
        if fault is not None:
            self._admitted.fault(fault)
        self._force_close(None)

    async def end(self) -> None:
        """Break the connection off and wait until it has ended, which takes no time unless there is a bug."""
        self.break_off()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await self._ended.wait()

    async def written(self) -> None:
        """Return once the kernel has everything that was sent, or the connection has ended."""
        await self._writable.wait()

    # --- asyncio's protocol ---

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        transport.set_write_buffer_limits(high=0)
        with contextlib.suppress(OSError):  # the peer has gone already
            if not self._is_over:
                return super().connection_made(transport)
        transport.abort()
        return self.ended(None)

    @override
    def data_received(self, data: bytes, datatype: object = None) -> None:
        self._arrived += len(data)
        self._admitted.heard()
        if self._proven is None and self._arrived > MAX_UNAUTHENTICATED:
            self.break_off("it sends too many octets before the login", SenderFault.GARBAGE)
        for start in range(0, len(data), _SLICE):
            if self._transport is None:
                return
            super().data_received(data[start : start + _SLICE])
        if len(self._deferred_packets) > MAX_DEFERRED:
            self.break_off("it asks for answers and does not end the key exchange")
        if self._transport is not None:
            with contextlib.suppress(OSError):  # it has ended already
                self._transport.get_extra_info("socket").setsockopt(*_ACKNOWLEDGE_AT_ONCE)

    @override
    def pause_writing(self) -> None:
        self._writable.clear()
        if self._transport is not None:
            self._transport.pause_reading()

    @override
    def resume_writing(self) -> None:
        self._writable.set()
        if self._transport is not None:
            self._transport.resume_reading()

    # --- The login ---

    @override
    async def reload_config(self) -> None:
        """Do nothing: relay has no configuration file of asyncssh, which would parse all options again, in a thread."""

    @override
    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """Whether the key may log in. Without `msg` the client only asks, and proves nothing yet."""
        if (error := self._terms.authorized.refresh()) is not None:
            self._terms.notices.warn("", "keys", "every login is refused: %s", error)
            return False
        key_type = decoded(SSHPacket(key_data).get_string())
        shown = PublicKey(key_type, key_data)
        authorized = None if self._terms.authorized.value is None else self._terms.authorized.value.find(shown)
        if authorized is None:
            self._warn("key", "%s, as %s: key %s is not authorized", self.peer, excerpt(username), shown.fingerprint)
            return False
        if not msg:
            return True
        try:  # asyncssh's own list of signature algorithms has SHA-1
            signed = SSHPacket(signature).get_string() in _SIGNATURES and decode_ssh_public_key(key_data).verify(
                String(self._session_id) + msg, signature
            )
        except KeyImportError:
            signed = False
        if signed:
            self._proven = authorized
        else:
            self._warn(
                "key", "%s, as %s: the signature by key %s is wrong", self.peer, excerpt(username), shown.fingerprint
            )
        return signed

    @override
    def send_userauth_failure(self, partial_success: bool) -> None:
        self._attempts += 1
        if self._attempts > MAX_ATTEMPTS:
            self._admitted.fault(SenderFault.AUTHENTICATION)
            raise asyncssh.PermissionDenied("too many failed attempts to log in")
        super().send_userauth_failure(partial_success)

    def logged_in(self) -> None:
        """Called when the login is complete."""
        self._deadline.cancel()
        self._terms.counters.logins += 1
        self._admitted.authenticated()
        _log.info("%s logged in with %s (%s)", self.peer, self.identity.key.fingerprint, self.identity.comment)

    # --- Requests ---

    async def _exchange_keys(self, kind: int, number: int, packet: SSHPacket) -> None:
        self._exchanges += 1
        if self._exchanges > 1 and self._proven is None:
            raise asyncssh.ProtocolError("a second key exchange before the login")
        await self._process_kexinit(kind, number, packet)

    def _refuse_request(self, _kind: int, _number: int, packet: SSHPacket) -> None:
        packet.get_string()
        if packet.get_boolean():
            self.send_packet(MSG_REQUEST_FAILURE)

    def _open_channel(self, kind: int, number: int, packet: SSHPacket) -> None:
        asked = SSHPacket(packet.get_remaining_payload())
        if asked.get_string() == _DIRECT:
            self._process_channel_open(kind, number, packet)
        else:
            self._terms.counters.refused_channels += 1
            self.send_channel_open_failure(asked.get_uint32(), OPEN_ADMINISTRATIVELY_PROHIBITED, "", "")

    _packet_handlers = {  # noqa: RUF012 - asyncssh's
        **SSHConnection._packet_handlers,  # noqa: SLF001
        MSG_KEXINIT: _exchange_keys,
        MSG_GLOBAL_REQUEST: _refuse_request,
        MSG_CHANNEL_OPEN: _open_channel,
    }

    def channel_asked(self, destination: tuple[str, int], originator: tuple[str, int]) -> ChannelStream:
        """The stream for a channel that the sender wants; ChannelOpenError refuses it."""
        host, port = destination
        if not (self._terms.may_open(host, port) and self.identity.may_open(host, port)):
            self._warn("channel", "%s is not allowed to open %s:%d", self.peer, excerpt(host), port)
            raise self._refusal(OPEN_ADMINISTRATIVELY_PROHIBITED)
        most = self._terms.limits.channels
        if len(self._streams) >= most or len(self._channels) >= most + CLOSING_CHANNELS:
            raise self._refusal(OPEN_RESOURCE_SHORTAGE)
        stream = ChannelStream(self, destination, originator)
        self._streams.add(stream)
        return stream

    def _refusal(self, reason: int) -> asyncssh.ChannelOpenError:
        self._terms.counters.refused_channels += 1
        return asyncssh.ChannelOpenError(reason, "")

    def begin_serving(self, stream: ChannelStream) -> None:
        """Serve a channel that is open."""
        self._terms.counters.channels += 1
        self._terms.note_serving(asyncio.get_running_loop().create_task(self._serve(stream)))

    async def _serve(self, stream: ChannelStream) -> None:
        try:
            await self._terms.serve(stream)
        except RelayError as error:
            _log.warning("stream from %s: %s", stream.peer, error)
        except Exception as error:  # noqa: BLE001 - a failed stream must not affect other connections
            _log.error("stream from %s ended: %s; please report it with the log", stream.peer, bug_text(error))
        finally:
            stream.abort()  # unless it was closed
            self.release(stream)

    @property
    def has_completed(self) -> bool:
        """Whether a message was complete on any of its channels."""
        return self._admitted.has_completed

    def completed(self) -> None:
        """A message was complete."""
        self._admitted.completed()

    def release(self, stream: ChannelStream) -> None:
        """A channel no longer counts."""
        self._streams.discard(stream)

    # --- The end ---

    def ended(self, error: Exception | None) -> None:
        """Called once, when the connection has ended."""
        self._deadline.cancel()
        self._writable.set()
        self._terms.forget(self)
        self._ended.set()
        try:
            self._log_end(error)
        finally:
            self._admitted.leave()

    def _log_end(self, error: Exception | None) -> None:
        cause = self._cause
        match error:
            case asyncssh.ConnectionLost(reason=reason) if "keepalive" in reason:
                cause = f"it has not answered for {sum(self._terms.limits.liveness):g} s"
            case None | asyncssh.ConnectionLost() | OSError():
                pass
            case asyncssh.DisconnectError():
                cause = excerpt(error.reason)
            case _ if _last_file(error).startswith(_LIBRARY):  # asyncssh checks less than a stranger may send
                cause = f"it sends a malformed packet ({type(error).__name__})"
                self._admitted.fault(SenderFault.GARBAGE)
            case _:
                cause = f"{bug_text(error)}; please report it with the log"
        if cause:
            when = "" if self._proven is not None else " before it logged in"
            self._warn("closed", "%s was closed%s: %s", self.peer, when, cause)
        elif self._proven is not None:
            _log.info("%s ended", self.peer)

    def _warn(self, kind: str, message: str, *arguments: object) -> None:
        self._terms.notices.warn(source_of(self.host), kind, message, *arguments)


def _last_file(error: Exception) -> str:
    """The file of the code that raised it."""
    file, trace = "", error.__traceback__
    while trace is not None:
        file, trace = trace.tb_frame.f_code.co_filename, trace.tb_next
    return file


class _Callbacks(asyncssh.SSHServer):
    """asyncssh's view of relay; it passes everything on to the connection."""

    def __init__(self, connection: SshConnection) -> None:
        self._connection = connection

    @override
    def public_key_auth_supported(self) -> bool:
        return True

    @override
    def auth_completed(self) -> None:
        self._connection.logged_in()

    @override
    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> tuple[BoundedChannel, ChannelStream]:
        stream = self._connection.channel_asked((dest_host, dest_port), (orig_host, orig_port))
        return BoundedChannel(self._connection, stream), stream

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.ended(exc)
