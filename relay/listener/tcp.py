"""Listeners for stream sockets, and the one for plain TCP; `relay.listener.stream` receives their streams.

Ceilings: those of `relay.listener.admission` (a further connection is reset and counted). A connection may hold about
320 KiB that were received and not yet read; beyond that its socket is not read, TCP's own window closes, and the sender
waits. TCP keepalive detects vanished peers within about two minutes.

A stop aborts the open connections: what was not half-closed and durable is not accepted, and its sender keeps it.
"""

import asyncio
import contextlib
import logging
import socket
from typing import Any, cast

from typing_extensions import override

from relay.errors import ProtocolError, RelayError, UnavailableError
from relay.listener.acceptor import Acceptor, refuse, set_reset_on_close
from relay.listener.admission.admission import Admission, AdmittedConnection
from relay.listener.admission.penalties import SenderFault
from relay.listener.admission.source_log import SourceLog
from relay.listener.listening_socket import Bind, Listener, binding, ip_of
from relay.listener.proxied_stream import ProxiedStream
from relay.listener.reception.listener_counters import ListenerCounters
from relay.listener.reception.stream_errors import (
    SlowHandshakeError,
    SlowSenderError,
    TruncatedStreamError,
    UnusedStreamError,
)
from relay.listener.reception.stream_terms import StreamTerms
from relay.listener.stream import ByteStream, StreamReception
from relay.syslog.other_protocol import OtherProtocolError
from relay.values.address import Address, is_in
from relay.values.event import Submit
from relay.values.text import bug_text

_log = logging.getLogger(__name__)

# asyncio reads up to 256 KiB at a time; one more such read may come on top of this.
READ_AHEAD = 64 * 1024

_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)
_INTERNET = frozenset({socket.AF_INET, socket.AF_INET6})
_ENDED_BY_PEER = frozenset({7, 8})
"""TCP_CLOSE and TCP_CLOSE_WAIT of net/tcp_states.h."""


class StreamListener(Listener):
    """Listens on stream sockets. Each connection is one stream, and one task."""

    authenticates = False
    """Whether its senders count as unauthenticated at first."""

    def __init__(
        self,
        name: str,
        bind: Bind,
        submit: Submit,
        *,
        counters: ListenerCounters | None = None,
        terms: StreamTerms | None = None,
        admission: Admission | None = None,
    ) -> None:
        super().__init__(name, bind)
        self.counters = ListenerCounters() if counters is None else counters
        self._submit = submit
        self.terms = StreamTerms() if terms is None else terms
        """Of the next streams."""
        self._admission = Admission() if admission is None else admission
        self._turn = asyncio.Lock()
        self._source_log = SourceLog(_log)
        self._acceptors: list[Acceptor] = []
        self._receptions: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        state = "listening" if self._acceptors else "not listening"
        return f"<{type(self).__name__} {self._name} {state}, {len(self._receptions)} connections>"

    @override
    async def start(self) -> None:
        await self._listen()
        self._acceptors = [Acceptor(sock, self._accept, self._admission) for sock in self._sockets]
        for acceptor in self._acceptors:
            acceptor.start()

    @override
    async def stop(self) -> None:
        acceptors, self._acceptors, self._sockets = self._acceptors, [], []
        for acceptor in acceptors:
            acceptor.stop()
        for reception in self._receptions:
            reception.cancel()
        await asyncio.gather(*self._receptions, return_exceptions=True)
        self._source_log.close()

    def _stream(self, connection: ByteStream, admitted: AdmittedConnection) -> ByteStream | None:
        """The stream to receive on a connection; None if there cannot be one."""
        del admitted
        return connection

    def _accept(self, accepted: socket.socket, address: Any) -> None:  # noqa: ANN401  its form depends on the family
        host = ip_of(address)
        is_proxy = is_in(host, self.terms.proxies)
        admitted = self._admission.admit(host, authenticates=self.authenticates, is_proxy=is_proxy)
        if admitted is None:
            self.counters.refused += 1
            refuse(accepted)
            return
        connection = SocketConnection(accepted, address, admitted)
        admitted.close = connection.abort
        reception = asyncio.get_running_loop().create_task(self._receive(connection))
        self._receptions.add(reception)

        def forget(ended: asyncio.Task[None]) -> None:
            if not ended.cancelled() and (error := ended.exception()) is not None:
                cause = bug_text(error)
                _log.error("connection from %s ended: %s; please report it with the log", connection.peer, cause)
            connection.abort()  # has ended already, unless a stop cancelled its reception before the first step
            admitted.leave()
            self._receptions.discard(reception)

        reception.add_done_callback(forget)

    async def _receive(self, connection: "SocketConnection") -> None:
        await connection.open()
        behind: ByteStream = connection
        if is_in(connection.address, self.terms.proxies):
            behind = ProxiedStream(connection, connection.admitted.move)
        if (stream := self._stream(behind, connection.admitted)) is None:
            self.counters.refused += 1
            return
        reception = StreamReception(
            stream, self._submit, self.counters, self.terms, turn=self._turn, source_log=self._source_log
        )
        error = await reception.run()
        if (fault := fault_of(error, authenticates=self.authenticates)) is not None:
            connection.admitted.fault(fault)


class TcpListener(StreamListener):
    """Listens for plain TCP on every address of a host."""

    def __init__(
        self,
        host: str,
        port: int,
        submit: Submit,
        *,
        counters: ListenerCounters | None = None,
        terms: StreamTerms | None = None,
        admission: Admission | None = None,
    ) -> None:
        name, bind = f"tcp://{Address(host, port)}", binding(Address(host, port))
        super().__init__(name, bind, submit, counters=counters, terms=terms, admission=admission)


def fault_of(error: RelayError | None, *, authenticates: bool) -> SenderFault | None:
    """The sender's fault for the end of a stream on which no message was complete."""
    match error:
        case OtherProtocolError():
            return SenderFault.GARBAGE
        case UnusedStreamError():
            return SenderFault.SILENT
        case SlowSenderError() | SlowHandshakeError():
            return SenderFault.TIMEOUT
        case ProtocolError() if not isinstance(error, TruncatedStreamError):
            return SenderFault.AUTHENTICATION if authenticates else SenderFault.GARBAGE
        case _:
            return None


class SocketConnection(asyncio.Protocol, ByteStream):
    """One accepted connection; over TCP asyncio sets TCP_NODELAY, so that answers are sent at once."""

    def __init__(self, accepted: socket.socket, address: Any, admitted: AdmittedConnection) -> None:  # noqa: ANN401
        self.admitted = admitted
        self._host = ip_of(address) or socket.gethostname()
        self._is_tcp = accepted.family in _INTERNET
        self._url = f"tcp://{Address(*address[:2])}" if self._is_tcp else f"unix socket of {self._host}"
        self._socket = accepted
        self._transport: asyncio.Transport
        self._is_open = False
        self._closed = asyncio.get_running_loop().create_future()
        self._unread: list[bytes] = []
        self._unread_size = 0
        self._half_closed = False
        self._reader: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    async def open(self) -> None:
        """Let the event loop read it from now on."""
        if self._is_tcp:
            with contextlib.suppress(OSError):  # the peer has gone, as the first read reports
                for option in _KEEPALIVE:
                    self._socket.setsockopt(*option)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self, self._socket)

    # --- Called by the event loop ---

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # it is a stream socket's
        self._is_open = True

    @override
    def data_received(self, data: bytes) -> None:
        self.admitted.heard()
        self._unread.append(data)
        self._unread_size += len(data)
        if self._unread_size >= READ_AHEAD:
            self._transport.pause_reading()
        if self._is_tcp:
            # Saves 44 ms for senders that wait for TCP's acknowledgement. The kernel resets it, so after every read.
            with contextlib.suppress(OSError):  # the peer has gone, as the next read reports
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._wake_reader()

    @override
    def eof_received(self) -> bool:
        self._half_closed = True
        self._wake_reader()
        return True  # keep the other direction: its close says "accepted"

    @override
    def pause_writing(self) -> None:
        self._writable.clear()

    @override
    def resume_writing(self) -> None:
        self._writable.set()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        # `read` and `write` raise an error of relay's own.
        self._closed.set_result(None)
        self._writable.set()
        self._wake_reader()

    # --- ByteStream ---

    @property
    @override
    def address(self) -> str:
        return self._host

    @property
    @override
    def peer(self) -> str:
        return self._url

    @property
    @override
    def half_closed(self) -> bool:
        if self._half_closed or self._closed.done():
            return True
        if not self._is_tcp:
            return False
        with contextlib.suppress(OSError):  # its end is not read while octets before it wait; the kernel knows
            return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _ENDED_BY_PEER
        return True

    @property
    @override
    def has_completed(self) -> bool:
        return self.admitted.has_completed

    @override
    def completed(self) -> None:
        self.admitted.completed()

    @override
    async def read(self) -> bytes:
        while not self._unread:
            if self._half_closed:
                return b""
            if self._closed.done():
                raise self._lost()
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = b"".join(self._unread)
        self._unread.clear()
        self._unread_size = 0
        self._transport.resume_reading()
        return data

    @override
    async def write(self, data: bytes) -> None:
        self._transport.write(data)
        await self._writable.wait()
        if self._closed.done():
            raise self._lost()

    @override
    async def close(self) -> None:
        self._transport.close()
        await asyncio.shield(self._closed)

    @override
    def abort(self) -> None:
        if self._closed.done():
            return
        set_reset_on_close(self._socket)
        if self._is_open:
            self._transport.abort()
        else:
            self._socket.close()

    def _lost(self) -> UnavailableError:
        return UnavailableError(f"connection from {self.peer}", "the peer broke it off")

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
