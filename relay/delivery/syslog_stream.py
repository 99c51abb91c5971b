"""Syslog over a byte pipe to a collector that never acknowledges, proven by draining (facts: RFC 6587, measured).

The proof has three steps. Half-close the stream and wait for the collector's end of file: it closes only after it has
read everything. Then open the next stream: sshd turns a reset into an end of file as well, and a collector that was
killed refuses the next open. Then wait a little, and see that this stream has not ended: a collector that is dying
closes its sockets one after the other, and the listening one may be the last (the likely cause of intervals that the
first two steps alone lost on a loaded machine). No data goes out on the next stream before the interval before it is
proven, so order is kept. What remains unproven is a collector that takes longer to die, or is killed and started
again between the steps, and data that it has read but not stored: status says `drained`.
"""

import time
from collections.abc import Iterator
from typing import Final

from relay.audit.parts import parts
from relay.crash_point import crash_point
from relay.errors import UnavailableError
from relay.spool.block import Block
from relay.syslog.framing import non_transparent, octet_counted
from relay.transport import Pipe, Transport

WRITE: Final = 64 * 1024
DRAIN_SECONDS: Final = 60.0
SETTLED_SECONDS: Final = 0.02
"""How long the next stream must have been open at least; longer where openings take long, as on a loaded machine."""
_OPENINGS: Final = 5


class SyslogStream:
    """A session (see `session.Session`) over a transport; owns and closes it."""

    proof = "drained"

    def __init__(
        self, transport: Transport, *, wanted: int, max_message_size: int, octet_counting: bool = True
    ) -> None:
        self._transport = transport
        self._wanted = wanted
        self._max_message_size = max_message_size
        self._octet_counting = octet_counting
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._pipe: Pipe | None = transport.open()

    def send(self, block: Block) -> None:
        """Send what is wanted of a block, in writes of `WRITE` octets or more."""
        for data in self._encode(block):
            self._buffer.append(data)
            self._buffered += len(data)
            if self._buffered >= WRITE:
                self._flush()

    def _encode(self, block: Block) -> Iterator[bytes]:
        header = block.header
        as_it_is = not header.types_present & ~self._wanted and header.largest <= self._max_message_size
        if as_it_is and self._octet_counting:
            yield block.payload
            return
        for kind, _, message in block.messages():
            if self._wanted >> kind & 1:
                yield from self._frames(message)

    def _frames(self, message: bytes) -> Iterator[bytes]:
        if self._octet_counting:
            yield from (octet_counted(part) for part in parts(message, self._max_message_size))
            return
        # A line feed would end the frame early (RFC 6587 section 3.4.2). Audit events go record by record; what
        # has a line feed even so is written as rsyslog writes it.
        for record in parts(message, None):
            for part in parts(record.replace(b"\n", b"#012"), self._max_message_size):
                yield non_transparent(part)

    def _flush(self) -> None:
        if self._buffer:
            data = b"".join(self._buffer)
            self._buffer.clear()
            self._buffered = 0
            self._open_pipe().send(data)

    def _open_pipe(self) -> Pipe:
        if self._pipe is None:
            self._pipe = self._transport.open()
        return self._pipe

    def prove(self, cursor: bytes) -> None:
        """Drain the stream, then open the next one."""
        del cursor  # a collector is not told; it is the archive's sessions that keep it
        self._flush()
        crash_point("interval-sent")
        pipe = self._open_pipe()
        pipe.half_close()
        pipe.drained(DRAIN_SECONDS)
        crash_point("interval-drained")
        pipe.close()
        self._pipe = None
        begun = time.monotonic()
        self._pipe = self._transport.open()
        time.sleep(max(SETTLED_SECONDS, (time.monotonic() - begun) * _OPENINGS))
        if self._pipe.ended:
            raise UnavailableError("collector", "it ended the next stream at once", "is it going down, or full?")
        crash_point("interval-proven")

    def check(self) -> None:
        """Raise when the transport is dead; a stream that the collector closed while idle is opened when needed."""
        if not self._transport.alive:
            raise UnavailableError("collector", "the connection is lost", "it is opened again")
        if self._pipe is not None and self._pipe.ended and not self._buffer:
            self._pipe.close()
            self._pipe = None

    def close(self) -> None:
        """Close the transport."""
        self._transport.close()
