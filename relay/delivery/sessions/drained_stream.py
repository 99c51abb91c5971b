"""Proof by draining: syslog on a stream to a collector that never acknowledges (RFC 6587; the facts are measured).

The proof has three steps:

1. Half-close the stream and wait for the collector's end of file: it closes only after it has read everything.
2. Open the next stream. sshd turns a reset into an end of file as well, and a collector that was killed refuses the
   next open.
3. Wait a little, and check that this stream has not ended. A collector that is dying closes its sockets one after the
   other, and the listening one may be the last. (relay's receiver closes it first: relay.listener.listening_socket.)

No data is sent on the next stream before the former one is drained, so the order is kept. Two cases remain unproven: a
collector that takes longer to die, or is killed and started again between the steps; and data that the collector has
read but not stored. `relay status` says `drained`.

A collector that ends the stream by itself has not accepted everything: it rejects a message, and lives on. If relay's
half-close came first, this would look like a proof. Therefore a stream is half-closed no sooner than a moment after the
last octets. A message larger than any proven one (`AcceptedSize`) is sent on a stream of its own, which is watched for
`DrainTimeouts.watch` before it is half-closed.

A collector that has not closed in time is slow, or never closes. To distinguish the two, a stream without a message is
half-closed; `note_closing` is called with whether the collector closes it.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from typing_extensions import override

from relay.delivery.sessions.delivery_session import (
    NOTHING_PROVEN,
    DeliverySession,
    FaultSearch,
    MessageId,
    ProvenExtent,
)
from relay.delivery.sessions.session_steps import ReportStep, SessionStep, StepFinding, report_nothing
from relay.delivery.sessions.syslog_encoder import SyslogEncoder
from relay.delivery.sessions.write_buffer import WriteBuffer
from relay.errors import UnavailableError
from relay.spool.block import Block
from relay.spool.cursor import Cursor
from relay.system.crash_point import crash_point
from relay.transport import SETTLING, Pipe, StillOpenError, Transport

ACCEPTED_BY_ALL: Final = 2048
"""Octets of a message that every collector accepts (RFC 5424 section 6.1: receivers should accept so many)."""
WATCHED_STREAMS: Final = 16
"""How many streams are watched after one that the collector has ended by itself."""
SETTLED_SECONDS: Final = 0.02
"""The next stream must stay open for this time, or longer where openings take long, as on a loaded machine."""
_OPENINGS: Final = 5


class DrainTimeouts(NamedTuple):
    """Times of a proof, in seconds."""

    drain: float = 60.0
    """How long a collector may take to close a stream after relay's end of file."""
    empty: float = 10.0
    """The same for a stream without a message."""
    watch: float = 0.2
    """How long a watched stream stays open after its messages: a collector that rejects one closes unasked."""


DEFAULT_TIMEOUTS: Final = DrainTimeouts()


class AcceptedSize:
    """What a collector has shown of the messages that it accepts; outlives the sessions with it."""

    def __init__(self, octets: int = ACCEPTED_BY_ALL, watched_streams: float = 0) -> None:
        self.octets = octets
        """The largest message that it surely accepts."""
        self.watched_streams = watched_streams
        """How many more streams are watched, because the collector has ended one by itself."""
        self._surely_accepted = octets

    def forget(self) -> None:
        """The collector may have been restarted, and have another limit now."""
        self.octets = min(self.octets, self._surely_accepted)


class _DrainedInterval(NamedTuple):
    """An interval that is proven unless the next stream ends before `settles_at` (monotonic seconds)."""

    cursor: Cursor
    settles_at: float


class DrainedStream(DeliverySession):
    """A session over a transport, with its first pipe; owns and closes them."""

    proof = "drained"
    search = FaultSearch.BY_HALVES
    heard = 0.0

    def __init__(  # noqa: PLR0913  what is remembered from session to session comes from outside
        self,
        transport: Transport,
        pipe: Pipe,
        encoder: SyslogEncoder,
        *,
        note_closing: Callable[[bool], None] = lambda _: None,
        timeouts: DrainTimeouts = DEFAULT_TIMEOUTS,
        accepted: AcceptedSize | None = None,
        report: ReportStep = report_nothing,
    ) -> None:
        self._transport = transport
        self._encoder = encoder
        self._note_closing = note_closing
        self._timeouts = timeouts
        self._accepted = accepted or AcceptedSize(encoder.max_size)
        self._report = report
        self._buffer = WriteBuffer(self._write)
        self._pipe: Pipe | None = pipe
        self._sent = False  # anything since the stream was last drained
        self._drained: _DrainedInterval | None = None
        self._settling = SETTLING
        self._large: MessageId | None = None  # on a stream of its own; every message before it is proven
        self.heard = time.monotonic()

    @property
    @override
    def alive(self) -> bool:
        return self._transport.alive

    @override
    def proven_extent(self) -> ProvenExtent:
        """Every message before one that failed on a stream of its own."""
        return NOTHING_PROVEN if self._large is None else ProvenExtent(up_to=self._large)

    @override
    def send(self, block: Block) -> None:
        if self._encoder.largest(block) <= self._accepted.octets:
            for data in self._encoder.framed(block):
                self._append(data)
            return
        for message_id, octets, data in self._encoder.singly(block):
            if octets <= self._accepted.octets:
                self._append(data)
            else:
                self._send_alone(message_id, octets, data)

    def _send_alone(self, message_id: MessageId, octets: int, data: bytes) -> None:
        """Send a message that is larger than any before it, and prove it."""
        if self._sent:
            self._require_open(self._end_stream())
            self._sent = False
        elif self._drained is not None:
            self._require_open(self._drained.settles_at)
        self._large = message_id
        pipe = self._open_pipe()
        self._append(data)
        self._buffer.flush()
        if _ends_unasked(pipe, max(self._timeouts.watch, 5 * self._settling)):
            cause = f"it closed the connection on a message of {octets} octets"
            raise UnavailableError("collector", cause, "is its limit lower than max-message-size?")
        self._require_open(self._end_stream())
        self._large = None
        self._accepted.octets = octets
        self._sent = True  # so that `prove` has something to prove, and the cursor moves

    def _append(self, data: bytes) -> None:
        self._sent = True
        self._buffer.append(data)

    def _write(self, data: bytes) -> None:
        pipe = self._open_pipe()
        try:
            pipe.send(data)
        except UnavailableError:
            self._accepted.watched_streams = WATCHED_STREAMS
            raise
        self.heard = time.monotonic()

    def _open_pipe(self) -> Pipe:
        if self._pipe is None:
            self._pipe = self._transport.open()
        return self._pipe

    @override
    def prove(self, cursor: Cursor) -> Cursor | None:
        """Drain the messages sent since the last call, and open the next stream; the proof settles a moment later.

        Messages sent meanwhile go out on the next stream: they arrive after the ones before them, or not at all.
        """
        settled = None
        if self._sent:
            settled = self._settle(wait=True)
            self._drained = _DrainedInterval(cursor, self._end_stream())
            self._sent = False
        self._settle(wait=False)
        return cursor if self._drained is None else settled

    def _end_stream(self) -> float:
        """Drain the stream and open the next one; returns when that has been open for its time (monotonic)."""
        self._buffer.flush()
        crash_point("interval-sent")
        pipe = self._open_pipe()
        if self._sent:
            watched = self._timeouts.watch if self._accepted.watched_streams else 0.0
            if _ends_unasked(pipe, max(watched, self.heard + self._settling - time.monotonic())):
                self._accepted.watched_streams = WATCHED_STREAMS
                raise UnavailableError("collector", "it closed the connection before relay did", "see its own log")
            self._accepted.watched_streams = max(self._accepted.watched_streams - 1, 0)
        self._report(SessionStep.MESSAGE, StepFinding(""))
        pipe.half_close()
        try:
            pipe.drained(self._timeouts.drain)
        except StillOpenError:
            self._find_out_whether_it_closes()
            raise
        self._note_closing(True)
        crash_point("interval-drained")
        pipe.close()
        self._pipe = None
        begun = time.monotonic()
        self._pipe = self._transport.open()
        self.heard = opened = time.monotonic()
        self._settling = max(SETTLING, 2 * (opened - begun))
        return opened + max(SETTLED_SECONDS, (opened - begun) * _OPENINGS)

    def _settle(self, *, wait: bool) -> Cursor | None:
        """The cursor of the drained interval, once, when the next stream has been open for its time."""
        if self._drained is None or (not wait and time.monotonic() < self._drained.settles_at):
            return None
        self._require_open(self._drained.settles_at)
        crash_point("interval-proven")
        self._report(SessionStep.PROOF, StepFinding("has read to the end, and answers again"))
        cursor, self._drained = self._drained.cursor, None
        return cursor

    def _require_open(self, settles_at: float) -> None:
        """Raise unless the stream after a drained one is still open at that time."""
        time.sleep(max(0.0, settles_at - time.monotonic()))
        if self._pipe is None or self._pipe.ended:
            raise UnavailableError("collector", "it ended the next stream at once", "is it going down, or full?")

    def _find_out_whether_it_closes(self) -> None:
        empty = self._transport.open()
        try:
            empty.half_close()
            empty.drained(self._timeouts.empty)
        except StillOpenError:
            self._note_closing(False)
        finally:
            empty.close()

    @override
    def check(self) -> None:
        """Raise when the transport is dead. A stream that the collector closed while idle is opened when needed."""
        if not self._transport.alive:
            raise UnavailableError("collector", "the connection is lost", "it is opened again")
        if self._pipe is not None and self._pipe.ended and not self._buffer:
            self._pipe.close()
            self._pipe = None
            self._accepted.forget()

    @override
    def close(self) -> None:
        self._transport.close()


def _ends_unasked(pipe: Pipe, seconds: float) -> bool:
    """Whether the collector ends a stream within that time."""
    deadline = time.monotonic() + seconds
    while not pipe.ended and (left := deadline - time.monotonic()) > 0:
        pipe.receive(left)
    return pipe.ended
