"""One channel of a sender's SSH connection, as a ByteStream.

A channel holds at most WINDOW unread octets. A peer that sends more is disconnected, and so is one that sends extended
data. A peer that does not read makes `write` wait, until the connection is given up for its silence.
"""

import asyncio
from typing import Final, Protocol

import asyncssh
from asyncssh.constants import MSG_CHANNEL_WINDOW_ADJUST
from asyncssh.packet import UInt32
from typing_extensions import override

from relay.errors import UnavailableError
from relay.listener.stream import ByteStream
from relay.transport.ssh import channel_mark
from relay.transport.ssh.authorized_keys import AuthorizedKey
from relay.values.provenance import ReceiptMark

WINDOW: Final = 1 << 20
"""Octets of a channel that a sender may send before they are read."""
_WIDEN: Final = WINDOW // 2
"""Octets that are read before the sender may send as many more."""
_PACKET: Final = 1 << 15  # octets of data in one packet, as RFC 4253 section 6.1 has it
_READ: Final = 1 << 18

Originator = tuple[str, int]
Destination = tuple[str, int]


class SshCarrier(Protocol):
    """What a channel needs of its connection."""

    peer: str
    host: str

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""

    @property
    def identity(self) -> AuthorizedKey:
        """The key that logged in."""

    @property
    def has_completed(self) -> bool:
        """Whether a message was complete on any of its channels."""

    def completed(self) -> None:
        """A message was complete."""

    async def written(self) -> None:
        """Return once the kernel has everything that was sent, or the connection has ended."""

    def begin_serving(self, stream: "ChannelStream") -> None:
        """Called once, when the channel is open."""

    def release(self, stream: "ChannelStream") -> None:
        """The channel no longer counts."""

    def break_off(self) -> None:
        """End the whole connection."""


class ChannelStream(ByteStream, asyncssh.SSHTCPSession[bytes]):
    """One channel. For the event loop's thread only."""

    def __init__(self, connection: SshCarrier, destination: Destination, originator: Originator) -> None:
        self.destination = destination
        self.marks = ReceiptMark(0) if channel_mark.is_own(originator) else ReceiptMark.FORWARDED
        self.key = connection.identity
        self.identity = self.key.key.fingerprint
        self.closed = False
        self._connection = connection
        self._channel: BoundedChannel | None = None
        self._unread = bytearray()
        self._eof = False
        self._ended = False
        self._news = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()

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
        return self._eof or self._ended or not self._connection.alive

    @property
    @override
    def has_completed(self) -> bool:
        return self._connection.has_completed

    @override
    def completed(self) -> None:
        self._connection.completed()

    @property
    def unread(self) -> int:
        """How many octets have arrived and are not read."""
        return len(self._unread)

    @override
    async def read(self) -> bytes:
        while not (self._unread or self.half_closed):
            self._news.clear()
            await self._news.wait()
        if self._unread:
            data = bytes(self._unread[:_READ])
            del self._unread[:_READ]
            if self._channel is not None:
                self._channel.widen(len(data))
            return data
        if self._eof and self._connection.alive:
            return b""
        raise self._lost()

    @override
    async def write(self, data: bytes) -> None:
        try:
            if self._channel is None:
                raise self._lost()
            self._channel.write(data)
        except OSError as error:
            raise self._lost() from error
        await self._sent.wait()
        await self._connection.written()
        if self._ended or not self._connection.alive:
            raise self._lost()

    @override
    async def close(self) -> None:
        self.closed = True
        self._connection.release(self)  # first: the sender may open the next one at once
        if self._channel is not None:
            self._channel.write_eof()
            self._channel.close()
        # If the sender has gone, it has seen no acceptance and sends again.
        await self._sent.wait()
        await self._connection.written()

    @override
    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self._connection.break_off()  # the whole connection: the sender must not see a clean end

    def feed(self, data: bytes) -> None:
        """Octets have arrived, within the window."""
        self._unread += data
        self._news.set()

    def _lost(self) -> UnavailableError:
        return UnavailableError(f"stream from {self.peer}", "the SSH connection was lost")

    # --- asyncssh's session ---

    @override
    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        assert isinstance(chan, BoundedChannel)  # noqa: S101 - the connection made it together with this stream
        self._channel = chan
        chan.set_write_buffer_limits(high=0)
        self._connection.begin_serving(self)

    @override
    def eof_received(self) -> bool:
        self._eof = True
        self._news.set()
        return True  # the other direction stays open

    @override
    def pause_writing(self) -> None:
        self._sent.clear()

    @override
    def resume_writing(self) -> None:
        self._sent.set()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._channel = None
        self._ended = True
        self._news.set()
        self._sent.set()


class BoundedChannel(asyncssh.SSHTCPChannel[bytes]):
    """asyncssh's channel, which keeps what is unread in one piece and widens the window when it is read.

    By itself it keeps each packet as an object: a window full of messages of one octet would take 100 MiB.
    """

    def __init__(self, connection: asyncssh.SSHServerConnection, stream: ChannelStream) -> None:
        super().__init__(connection, asyncio.get_running_loop(), None, "strict", WINDOW, _PACKET)
        self._stream = stream
        self._read = 0

    def widen(self, octets: int) -> None:
        """So many octets were read."""
        self._read += octets
        if self._read >= _WIDEN and self._recv_state == "open":
            self.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(self._read))
            self._recv_window += self._read
            self._read = 0

    def _accept_data(self, data: bytes, datatype: int | None = None) -> None:
        """Called by asyncssh, after it has compared the packet with the window."""
        del datatype
        self._recv_window -= len(data)
        if not self._stream.closed:
            self._stream.feed(data)
