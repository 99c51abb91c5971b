"""Syslog over a byte pipe to a collector that never acknowledges, proven by draining (facts: RFC 6587, measured).

The proof has three steps. Half-close the stream and wait for the collector's end of file: it closes only after it has
read everything. Then open the next stream: sshd turns a reset into an end of file as well, and a collector that was
killed refuses the next open. Then wait a little, and see that this stream has not ended: a collector that is dying
closes its sockets one after the other, and the listening one may be the last. (Ours makes it the first:
relay.listener.listening_socket.) No data goes out on the next stream before the one before it is drained, so order is
kept. What remains unproven is a collector that takes longer to die, or is killed and started
again between the steps, and data that it has read but not stored: status says `drained`.

A collector that ends the stream by itself has not accepted everything: it does so on a message that it does not like,
and goes on living. If relay's half-close came first, this would look like a proof. So a stream is half-closed no sooner
than a moment after the last octets, and a message larger than any proven one (`AcceptedSize`) goes on a
stream of its own, which is watched for `WATCHED_SECONDS` before it is half-closed.

A collector that has not closed in time is slow, or never closes. To tell them apart a stream without a message is
half-closed: whether the collector closes anything is told to `closes`.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from relay.delivery.sessions.delivery_session import NOTHING_PROVEN, FaultSearch, MessageId, ProvenExtent
from relay.delivery.sessions.syslog_encoder import SyslogEncoder
from relay.errors import UnavailableError
from relay.spool.block import Block
from relay.spool.cursor import Cursor
from relay.system.crash_point import crash_point
from relay.transport import SETTLING, Pipe, StillOpenError, Transport

WRITE: Final = 64 * 1024
ACCEPTED_BY_ALL: Final = 2048
"""Octets that a message may have anywhere (RFC 5424 section 6.1: receivers should take so many)."""
WATCHED_SECONDS: Final = 0.2
"""How long a stream is watched whose message may be too large: a collector that does not accept it closes unasked."""
WATCHED_STREAMS: Final = 16
"""So many streams are watched after one that the collector has ended by itself."""
SETTLED_SECONDS: Final = 0.02
"""How long the next stream must have been open at least; longer where openings take long, as on a loaded machine."""
_OPENINGS: Final = 5


class DrainTimeouts(NamedTuple):
    """How long a collector may take to close a stream after our end of file, in seconds."""

    drain: float = 60.0
    empty: float = 10.0
    """For a stream without a message."""


class AcceptedSize:
    """What a collector has shown of the messages that it accepts; outlives the sessions with it."""

    def __init__(self, octets: int = ACCEPTED_BY_ALL) -> None:
        self.octets = octets
        """The largest message that it accepts for certain."""
        self.watched = 0
        """So many streams are still watched, since the collector has ended one by itself."""

    def forget(self) -> None:
        """The collector may have another limit now: it may have been restarted."""
        self.octets = min(self.octets, ACCEPTED_BY_ALL)


class _Drained(NamedTuple):
    """An interval that is proven unless the stream after it ends too soon."""

    cursor: Cursor
    settles_at: float
    """By the monotonic clock, seconds."""


class DrainedStream:
    """A session (see `session.Session`) over a transport, with its first pipe; owns and closes them."""

    proof = "drained"
    search = FaultSearch.BY_HALVES
    owing = False
    refused = ()

    def __init__(
        self,
        transport: Transport,
        pipe: Pipe,
        messages: SyslogEncoder,
        closes: Callable[[bool], None] = lambda _: None,
        patience: DrainTimeouts | None = None,
        known: AcceptedSize | None = None,
    ) -> None:
        self._transport = transport
        self._messages = messages
        self._closes = closes
        self._patience = patience or DrainTimeouts()
        self._known = known or AcceptedSize(messages.max_size)
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._pipe: Pipe | None = pipe
        self._sent = False  # anything since the stream was last drained
        self._drained: _Drained | None = None
        self._settling = SETTLING
        self._large: MessageId | None = None  # on its way on a stream of its own; all before it is proven
        self.heard = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether another stream may be opened."""
        return self._transport.alive

    def proven_extent(self) -> ProvenExtent:
        """Everything before a message that failed on a stream of its own."""
        return NOTHING_PROVEN if self._large is None else ProvenExtent(up_to=self._large)

    def send(self, block: Block) -> None:
        """Send what is wanted of a block, in writes of `WRITE` octets or more."""
        if self._messages.largest(block) > self._known.octets:
            self._send_singly(block)
            return
        for data in self._messages.framed(block):
            self._take(data)

    def _send_singly(self, block: Block) -> None:
        for name, octets, data in self._messages.singly(block):
            if octets > self._known.octets:
                self._send_alone(name, octets, data)
            else:
                self._take(data)

    def _send_alone(self, name: MessageId, octets: int, data: bytes) -> None:
        """Send a message that is larger than any before it, and prove it."""
        if self._sent:
            self._see_it_open(self._end_stream())
            self._sent = False
        elif self._drained is not None:
            self._see_it_open(self._drained.settles_at)
        self._large = name
        pipe = self._open_pipe()
        self._take(data)
        self._flush()
        if self._ends_unasked(pipe, max(WATCHED_SECONDS, 5 * self._settling)):
            cause = f"it closed the connection on a message of {octets} octets"
            raise UnavailableError("collector", cause, "is its limit lower than max-message-size?")
        self._see_it_open(self._end_stream())
        self._large = None
        self._known.octets = octets
        self._sent = True  # so that `prove` has something to prove, and the cursor moves

    @staticmethod
    def _ends_unasked(pipe: Pipe, seconds: float) -> bool:
        """Whether the collector ends a stream within that time."""
        deadline = time.monotonic() + seconds
        while not pipe.ended and (left := deadline - time.monotonic()) > 0:
            pipe.receive(left)
        return pipe.ended

    def _take(self, data: bytes) -> None:
        self._sent = True
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= WRITE:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            data = b"".join(self._buffer)
            self._buffer.clear()
            self._buffered = 0
            pipe = self._open_pipe()
            try:
                pipe.send(data)
            except UnavailableError:
                self._known.watched = WATCHED_STREAMS
                raise
            self.heard = time.monotonic()

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

    def close_stream(self) -> None:
        """Close the stream that is open ahead of its use; the transport stays open."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def _drain(self, cursor: Cursor) -> None:
        self._drained = _Drained(cursor, self._end_stream())
        self._sent = False

    def _end_stream(self) -> float:
        """Drain the stream and open the next one; when that one has been open for its moment (monotonic)."""
        self._flush()
        crash_point("interval-sent")
        pipe = self._open_pipe()
        if self._sent:
            watched = WATCHED_SECONDS if self._known.watched else 0.0
            if self._ends_unasked(pipe, max(watched, self.heard + self._settling - time.monotonic())):
                self._known.watched = WATCHED_STREAMS
                raise UnavailableError("collector", "it closed the connection before relay did", "see its own log")
            self._known.watched = max(self._known.watched - 1, 0)
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
        self.heard = opened = time.monotonic()
        self._settling = max(SETTLING, 2 * (opened - begun))
        return opened + max(SETTLED_SECONDS, (opened - begun) * _OPENINGS)

    def _settle(self, *, wait: bool) -> Cursor | None:
        """What was drained, once the stream after it has been open for its moment; once."""
        if self._drained is None:
            return None
        left = self._drained.settles_at - time.monotonic()
        if left > 0 and not wait:
            return None
        self._see_it_open(self._drained.settles_at)
        crash_point("interval-proven")
        cursor, self._drained = self._drained.cursor, None
        return cursor

    def _see_it_open(self, settles_at: float) -> None:
        """See that the stream after one that was drained is still open at that time."""
        time.sleep(max(0.0, settles_at - time.monotonic()))
        if self._pipe is None or self._pipe.ended:
            raise UnavailableError("collector", "it ended the next stream at once", "is it going down, or full?")

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
            self._known.forget()

    def end(self) -> None:
        """Nothing is said."""

    def close(self) -> None:
        """Close the transport."""
        self._transport.close()
