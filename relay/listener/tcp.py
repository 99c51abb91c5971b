"""A listener for plain TCP; `relay.listener.stream` receives its streams.

Ceilings: connections in all and from one address (a further one is reset and counted as refused). A connection may hold
about 320 KiB that were received and not yet read; beyond that its socket is not read, TCP's own window closes, and the
sender waits. TCP keepalive detects vanished peers within about two minutes.

A stop aborts the open connections: what was not half-closed and durable is not accepted, and its sender keeps it.
"""

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, cast

from typing_extensions import override

from relay.errors import UnavailableError
from relay.listener.listening_socket import Listener
from relay.listener.proxied_stream import ProxiedStream, is_listed
from relay.listener.stream import ByteStream, ListenerCounters, StreamReception, StreamTerms
from relay.values.address import Address
from relay.values.event import Submit

# asyncio reads up to 256 KiB at a time; one more such read may come on top of this.
READ_AHEAD = 64 * 1024
BACKLOG = 512

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)


class Ceilings(NamedTuple):
    """How many connections are served. All senders behind a tunnel have one address, so its ceiling is high too."""

    connections: int = 1000
    per_address: int = 500


class TcpListener(Listener):
    """Listens for plain TCP."""

    def __init__(
        self,
        host: str,
        port: int,
        submit: Submit,
        *,
        counters: ListenerCounters | None = None,
        terms: StreamTerms | None = None,
        ceilings: Ceilings | None = None,
    ) -> None:
        super().__init__(f"tcp://{Address(host, port)}", host, port)
        self.counters = ListenerCounters() if counters is None else counters
        self._submit = submit
        self.terms = StreamTerms() if terms is None else terms
        """Of the next streams."""
        self._ceilings = Ceilings() if ceilings is None else ceilings
        self._servers: list[asyncio.Server] = []
        self._receptions: set[asyncio.Task[None]] = set()
        self._connected: Counter[str] = Counter()  # by address
        self._stopping = False

    def __repr__(self) -> str:
        state = "listening" if self._servers else "not listening"
        return f"<TcpListener {self._name} {state}, {len(self._receptions)} connections>"

    @override
    async def start(self) -> None:
        await self._listen(BACKLOG)
        loop = asyncio.get_running_loop()
        self._servers = [
            await loop.create_server(lambda: _TcpConnection(self._accept), sock=sock, backlog=BACKLOG)
            for sock in self._sockets
        ]

    @override
    async def stop(self) -> None:
        if not self._servers:
            return
        servers, self._servers, self._sockets, self._stopping = self._servers, [], [], True
        for server in servers:
            server.close()
        for reception in self._receptions:
            reception.cancel()
        await asyncio.gather(*self._receptions, return_exceptions=True)
        await asyncio.gather(*(server.wait_closed() for server in servers))

    def _stream(self, connection: ByteStream) -> ByteStream | None:
        """The stream to receive on a connection; None if there cannot be one."""
        return connection

    def _behind_a_proxy(self, connection: "_TcpConnection") -> ByteStream:
        if not is_listed(connection.address, self.terms.proxies):
            return connection
        return ProxiedStream(connection, lambda address: self._connected[address] < self._ceilings.per_address)

    def _accept(self, connection: "_TcpConnection") -> None:
        address = connection.address
        full = (
            len(self._receptions) >= self._ceilings.connections
            or self._connected[address] >= self._ceilings.per_address
        )
        stream = None if full or self._stopping else self._stream(self._behind_a_proxy(connection))
        if stream is None:
            self.counters.refused += not self._stopping
            connection.abort()
            return
        self._connected[address] += 1
        received = StreamReception(stream, self._submit, self.counters, self.terms)
        reception = asyncio.get_running_loop().create_task(received.run())
        self._receptions.add(reception)

        def forget(_: asyncio.Task[None]) -> None:
            connection.abort()  # has ended already, unless a stop cancelled its reception before the first step
            self._receptions.discard(reception)
            self._connected[address] -= 1
            if not self._connected[address]:
                del self._connected[address]

        reception.add_done_callback(forget)


class _TcpConnection(asyncio.Protocol, ByteStream):
    """One accepted connection; asyncio has set TCP_NODELAY, so that answers are sent at once."""

    def __init__(self, accept: Callable[["_TcpConnection"], None]) -> None:
        self._accept = accept
        self._closed = asyncio.get_running_loop().create_future()
        self._unread: list[bytes] = []
        self._unread_size = 0
        self._half_closed = False
        self._reader: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    # --- Called by the event loop ---

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # create_server makes one
        self._socket: socket.socket = transport.get_extra_info("socket")
        host, port, *_ = transport.get_extra_info("peername") or ("unknown", 0)
        self._host: str = host
        self._url = f"tcp://{Address(host, port)}"
        for option in _KEEPALIVE:
            self._socket.setsockopt(*option)
        self._accept(self)

    @override
    def data_received(self, data: bytes) -> None:
        self._unread.append(data)
        self._unread_size += len(data)
        if self._unread_size >= READ_AHEAD:
            self._transport.pause_reading()
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
        if not self._closed.done():
            with contextlib.suppress(OSError):  # the peer has closed already
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._transport.abort()

    def _lost(self) -> UnavailableError:
        return UnavailableError(f"connection from {self.peer}", "the peer broke it off")

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
