"""Syslog over a byte pipe to a collector that never acknowledges, proven by draining (facts: RFC 6587, measured).

The proof has three steps. Half-close the stream and wait for the collector's end of file: it closes only after it has
read everything. Then open the next stream: sshd turns a reset into an end of file as well, and a collector that was
killed refuses the next open. Then wait a little, and see that this stream has not ended: a collector that is dying
closes its sockets one after the other, and the listening one may be the last. (Ours makes it the first:
relay.listener.listening_socket.) No data goes out on the next stream before the one before it is drained, so order is
kept. What remains unproven is a collector that takes longer to die, or is killed and started
again between the steps, and data that it has read but not stored: status says `drained`.

A collector that has not closed in time is slow, or never closes. To tell them apart a stream without a message is
half-closed: whether the collector closes anything is told to `closes`.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from relay.crash_point import crash_point
from relay.delivery.syslog_messages import SyslogMessages
from relay.errors import UnavailableError
from relay.spool.block import Block
from relay.spool.cursor import Cursor
from relay.transport import Pipe, StillOpenError, Transport

WRITE: Final = 64 * 1024
SETTLED_SECONDS: Final = 0.02
"""How long the next stream must have been open at least; longer where openings take long, as on a loaded machine."""
_OPENINGS: Final = 5


class Patience(NamedTuple):
    """How long a collector may take to close a stream after our end of file, in seconds."""

    drain: float = 60.0
    empty: float = 10.0
    """For a stream without a message."""


class _Drained(NamedTuple):
    """An interval that is proven unless the stream after it ends too soon."""

    cursor: Cursor
    settles_at: float
    """By the monotonic clock, seconds."""


class SyslogStream:
    """A session (see `session.Session`) over a transport, with its first pipe; owns and closes them."""

    proof = "drained"
    refused = ()

    def __init__(
        self,
        transport: Transport,
        pipe: Pipe,
        messages: SyslogMessages,
        closes: Callable[[bool], None] = lambda _: None,
        patience: Patience | None = None,
    ) -> None:
        self._transport = transport
        self._messages = messages
        self._closes = closes
        self._patience = patience or Patience()
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._pipe: Pipe | None = pipe
        self._sent = False  # anything since the stream was last drained
        self._drained: _Drained | None = None

    def send(self, block: Block) -> None:
        """Send what is wanted of a block, in writes of `WRITE` octets or more."""
        self._sent = True
        for data in self._messages.framed(block):
            self._buffer.append(data)
            self._buffered += len(data)
            if self._buffered >= WRITE:
                self._flush()

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

    def prove(self, cursor: Cursor) -> Cursor | None:
        """Drain what was sent since the last call, and open the next stream; what it proves is settled a moment later.

        What is sent meanwhile goes out on the next stream, and so comes behind what it follows or not at all.
        """
        settled = None
        if self._sent:
            settled = self._settle(wait=True)
            self._drain(cursor)
        self._settle(wait=False)
        return cursor if self._drained is None else settled

    def prove_now(self) -> None:
        """Drain the stream, also of what was sent by others, and wait until that is settled."""
        self._drain(Cursor())
        self._settle(wait=True)

    def _drain(self, cursor: Cursor) -> None:
        self._flush()
        crash_point("interval-sent")
        pipe = self._open_pipe()
        pipe.half_close()
        try:
            pipe.drained(self._patience.drain)
        except StillOpenError:
            self._look_whether_it_closes()
            raise
        self._closes(True)
        crash_point("interval-drained")
        pipe.close()
        self._pipe = None
        begun = time.monotonic()
        self._pipe = self._transport.open()
        opened = time.monotonic()
        self._drained = _Drained(cursor, opened + max(SETTLED_SECONDS, (opened - begun) * _OPENINGS))
        self._sent = False

    def _settle(self, *, wait: bool) -> Cursor | None:
        """What was drained, once the stream after it has been open for its moment; once."""
        if self._drained is None:
            return None
        left = self._drained.settles_at - time.monotonic()
        if left > 0 and not wait:
            return None
        time.sleep(max(left, 0.0))
        if self._pipe is None or self._pipe.ended:
            raise UnavailableError("collector", "it ended the next stream at once", "is it going down, or full?")
        crash_point("interval-proven")
        cursor, self._drained = self._drained.cursor, None
        return cursor

    def _look_whether_it_closes(self) -> None:
        empty = self._transport.open()
        try:
            empty.half_close()
            empty.drained(self._patience.empty)
        except StillOpenError:
            self._closes(False)
        finally:
            empty.close()

    def check(self) -> None:
        """Raise when the transport is dead; a stream that the collector closed while idle is opened when needed."""
        if not self._transport.alive:
            raise UnavailableError("collector", "the connection is lost", "it is opened again")
        if self._pipe is not None and self._pipe.ended and not self._buffer:
            self._pipe.close()
            self._pipe = None

    def end(self) -> None:
        """Nothing is said."""

    def close(self) -> None:
        """Close the transport."""
        self._transport.close()
