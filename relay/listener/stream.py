"""What one sender's byte stream goes through: octets, frames, batches, fsync, close.

The promise, and the reason for the shape of this file: a close after the peer's half-close says "accepted". So a
stream is closed cleanly only when the peer has half-closed (or has been idle for long) and everything it sent is
durable. In every other case, a failed spool, a broken or unfinished frame, a stop, it is aborted (a reset), so that
no sender takes the end of the stream for acceptance. What came before a bad frame is made durable first. A message
over the size limit is the exception: it is dropped and counted, for its sender would only send it again for ever.

Ceilings for each stream: what ByteStream.read() gives at once, one unfinished message, and `undurable_batches`
batches that are submitted and not yet durable; beyond that it is not read, and the sender waits. Nothing is lost
without a number: ListenerCounters has one for each way.
"""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from relay.errors import ProtocolError, RelayError, StorageError
from relay.event import Batch, Event, EventType
from relay.intake import Clock, Submit, wall_clock
from relay.syslog.framing import DEFAULT_MAX_MESSAGE_SIZE, Decoder, FramingError

_log = logging.getLogger(__name__)


class ByteStream(Protocol):
    """One sender's connection, whatever carries it."""

    @property
    def peer(self) -> str:
        """Who sends, for people."""

    async def read(self) -> bytes:
        """Wait for octets; b"" at the peer's half-close, UnavailableError when the connection is lost."""

    async def close(self) -> None:
        """End the stream cleanly, which the peer takes for "accepted"."""

    def abort(self) -> None:
        """End the stream so that the peer sees a failure; harmless when it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """What one stream may ask of us; times in seconds."""

    max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE
    idle_timeout: float = 86_400.0
    """How long a stream may be silent between two frames; then it is closed."""
    frame_timeout: float = 60.0
    """How long we wait in all for the rest of a frame that has begun; then the stream is aborted."""
    undurable_batches: int = 2


@dataclass(slots=True, kw_only=True)
class ListenerCounters:
    """What a listener has seen since it began. Only its event loop writes; others may read."""

    open: int = 0
    """Connections now."""
    connections: int = 0
    refused: int = 0
    """Connections beyond a ceiling, reset at once."""
    messages: int = 0
    octets: int = 0
    oversized: int = 0
    """Messages passed over because they are too long."""
    truncated: int = 0
    """Streams aborted because they were half-closed inside a frame."""
    framing_errors: int = 0
    slow: int = 0
    """Streams aborted because the rest of a frame did not come."""
    idle: int = 0
    """Streams closed because nothing came."""
    lost: int = 0
    """Streams that the peer or the network broke off."""
    storage_errors: int = 0
    """Streams aborted because the spool could not keep what they brought."""


class SlowSenderError(ProtocolError):
    """The rest of a frame did not come in time."""


class TruncatedStreamError(ProtocolError):
    """The stream was half-closed inside a frame; a clean close would accept what cannot be kept."""


class StreamReception:
    """Takes one stream in, from its first octet to its end."""

    __slots__ = ("_clock", "_counters", "_decoder", "_limits", "_stream", "_submit", "_undurable", "_waited")

    def __init__(
        self,
        stream: ByteStream,
        submit: Submit,
        counters: ListenerCounters,
        limits: StreamLimits,
        clock: Clock = wall_clock,
    ) -> None:
        self._stream = stream
        self._submit = submit
        self._counters = counters
        self._limits = limits
        self._clock = clock
        self._decoder = Decoder(limits.max_message_size)
        self._undurable: deque[asyncio.Future[None]] = deque()
        self._waited = 0.0  # for the frame that is under way

    async def run(self) -> None:
        """Return when the stream has ended, one way or the other; the peer's faults and the spool's are counted."""
        self._counters.connections += 1
        self._counters.open += 1
        try:
            await self._take_in_and_close()
        except RelayError as error:
            self._stream.abort()
            self._count(error)
            _log.warning("connection from %s aborted: %s", self._stream.peer, error)
        except BaseException:
            self._stream.abort()
            raise
        finally:
            self._counters.open -= 1
            self._leave_behind()

    async def _take_in_and_close(self) -> None:
        fault = await self._take_in()
        await self._wait_for_durable(at_most=0)
        if fault is not None:
            raise fault
        await self._stream.close()

    async def _take_in(self) -> RelayError | None:
        """Submit all that comes; answer what forbids a clean close."""
        try:
            while data := await self._read():
                await self._hand_on(data)
        except StorageError:
            raise  # what is not durable yet need not be waited for
        except RelayError as error:
            return error
        return None if self._decoder.finish() else TruncatedStreamError("syslog stream", "it ended inside a frame")

    async def _read(self) -> bytes:
        """Read, for as long as the limits allow; b"" at the half-close and when an idle stream is to be closed."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        amid_a_frame = self._decoder.partial
        patience = self._limits.frame_timeout - self._waited if amid_a_frame else self._limits.idle_timeout
        try:
            async with asyncio.timeout(patience):
                data = await self._stream.read()
        except TimeoutError:
            if amid_a_frame:
                cause = f"the rest of a frame did not come within {self._limits.frame_timeout:g} s"
                raise SlowSenderError("syslog stream", cause) from None
            self._counters.idle += 1
            return b""
        if amid_a_frame:
            self._waited += loop.time() - begun
        return data

    async def _hand_on(self, data: bytes) -> None:
        oversized = self._decoder.oversized
        messages = self._decoder.receive(data)
        self._counters.octets += len(data)
        self._counters.oversized += self._decoder.oversized - oversized
        if messages or not self._decoder.partial:
            self._waited = 0.0
        if messages:
            await self._submit_messages(messages)
        if self._decoder.error is not None:
            raise self._decoder.error

    async def _submit_messages(self, messages: list[bytes]) -> None:
        await self._wait_for_durable(at_most=self._limits.undurable_batches - 1)
        now = self._clock()
        batch = Batch([Event(EventType.LOG, now, message) for message in messages])
        self._undurable.append(await self._submit(batch))
        self._counters.messages += len(messages)

    async def _wait_for_durable(self, *, at_most: int) -> None:
        while len(self._undurable) > at_most:
            # Shielded: the future is the spool's, and our being cancelled must not cancel it.
            await asyncio.shield(self._undurable[0])
            self._undurable.popleft()

    def _leave_behind(self) -> None:
        """Look at what becomes of batches that nobody waits for any more, lest asyncio complain that none did."""
        for durable in self._undurable:
            durable.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _count(self, error: RelayError) -> None:
        match error:
            case StorageError():
                self._counters.storage_errors += 1
            case FramingError():
                self._counters.framing_errors += 1
            case SlowSenderError():
                self._counters.slow += 1
            case TruncatedStreamError():
                self._counters.truncated += 1
            case _:
                self._counters.lost += 1
