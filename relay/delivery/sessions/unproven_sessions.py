"""Syslog to who can prove nothing: over UDP, to a relay on this machine, to a collector that never closes its side.

What has been on its way for the trail's window without a failure counts as delivered; after a loss the rest is sent
again. Status says `unproven`.
"""

import time

from relay.delivery.cursor_trail import CursorTrail
from relay.delivery.sessions.delivery_session import NOTHING_PROVEN, FaultSearch, ProvenExtent
from relay.delivery.sessions.syslog_encoder import SyslogEncoder
from relay.errors import UnavailableError
from relay.spool.block import Block
from relay.spool.cursor import Cursor
from relay.transport import Pipe, Transport
from relay.transport.udp import UdpTransport

WRITE = 64 * 1024


class UnprovenStream:
    """A session (see `session.Session`) on one stream of a transport that is never ended; owns and closes it."""

    proof = "unproven"
    search = FaultSearch.BY_HALVES
    owing = False
    refused = ()

    def __init__(self, transport: Transport, pipe: Pipe, messages: SyslogEncoder, trail: CursorTrail) -> None:
        self._transport = transport
        self._pipe = pipe
        self._messages = messages
        self._trail = trail
        self._buffer = bytearray()
        self.heard = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether another stream may be opened."""
        return self._transport.alive

    def proven_extent(self) -> ProvenExtent:
        """Nothing is."""
        return NOTHING_PROVEN

    def send(self, block: Block) -> None:
        """Send what is wanted of a block, in writes of `WRITE` octets or more."""
        for data in self._messages.framed(block):
            self._buffer += data
            if len(self._buffer) >= WRITE:
                self._flush()

    def prove(self, cursor: Cursor) -> Cursor | None:
        """What was sent before the window; the stream must not have ended since."""
        self._flush()
        self.check()
        return self._trail.settled(time.monotonic(), cursor)

    def check(self) -> None:
        """Raise when the collector has ended the stream; what it says is thrown away."""
        while self._pipe.receive(0):
            pass
        if self._pipe.ended or not self._transport.alive:
            raise UnavailableError("collector", "it closed the connection", "it is opened again")

    def end(self) -> None:
        """Nothing is said."""

    def close(self) -> None:
        """Close the transport."""
        self._transport.close()

    def _flush(self) -> None:
        if self._buffer:
            self._pipe.send(bytes(self._buffer))
            self._buffer.clear()
            self.heard = time.monotonic()


class UnprovenDatagrams:
    """A session that sends each message as a datagram (RFC 5426)."""

    proof = "unproven"
    search = FaultSearch.NEVER
    alive = True
    owing = False
    refused = ()

    def __init__(self, way: UdpTransport, messages: SyslogEncoder, trail: CursorTrail) -> None:
        self._way = way
        self._messages = messages
        self._trail = trail
        self.heard = time.monotonic()

    def proven_extent(self) -> ProvenExtent:
        """Nothing is."""
        return NOTHING_PROVEN

    def send(self, block: Block) -> None:
        """Send what is wanted of a block, as fast as the kernel takes it."""
        for message in self._messages.datagrams(block):
            self._way.send(message)
        self.heard = time.monotonic()

    def prove(self, cursor: Cursor) -> Cursor | None:
        """What was sent before the window, when nobody has said since that it was refused."""
        self._way.check()
        return self._trail.settled(time.monotonic(), cursor)

    def check(self) -> None:
        """Raise when the last datagram was refused."""
        self._way.check()

    def end(self) -> None:
        """Nothing is said."""

    def close(self) -> None:
        """Close the socket."""
        self._way.close()
