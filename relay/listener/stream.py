"""What one sender's byte stream goes through: octets, frames, batches, fsync, answers, close.

The promise, and the reason for the shape of this file: a close after the peer's half-close says "accepted". So a
stream is closed cleanly only when the peer has half-closed (or has been idle for long) and everything it sent is
durable. In every other case, a failed spool, a broken or unfinished frame, a stop, it is aborted (a reset), so that
no sender takes the end of the stream for acceptance. What came before a bad frame is made durable first. A message
over the size limit is the exception: it is dropped and counted, for its sender would only send it again for ever.
A protocol that acknowledges is answered after fsync as well, message by message, while the stream goes on; where a
close says nothing more than its answers did (`Dialect.parts`), a stop closes the stream. A stream whose oldest message
is unanswered for longer than `answer_within` ends as by a stop.

Ceilings for each stream: what ByteStream.read() gives at once, one unfinished message, and `undurable_batches`
batches that are submitted and not yet durable; beyond that it is not read, and the sender waits. While the peer does
not read our answers it is not read either, for at most `frame_timeout`. Nothing is lost without a number:
ListenerCounters has one for each way.
"""

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from relay.errors import ProtocolError, RelayError, StorageError, UnavailableError
from relay.listener.conversation import SYSLOG, Conversation, Dialect, SyslogConversation, dialect_of, log_event
from relay.syslog.framing import DEFAULT_MAX_MESSAGE_SIZE
from relay.system.clock import Clock, wall_clock
from relay.values.event import Batch, Submit

PART_S: Final = 1.0
"""So long we wait until a stream that is closed amid its life is closed."""

_log = logging.getLogger(__name__)


class ByteStream(Protocol):
    """One sender's connection, whatever carries it."""

    @property
    def peer(self) -> str:
        """Who sends, for people."""

    async def read(self) -> bytes:
        """Wait for octets; b"" at the peer's half-close, UnavailableError when the connection is lost."""

    async def write(self, data: bytes) -> None:
        """Answer; waits while the peer does not read. UnavailableError when the connection is lost."""

    async def close(self) -> None:
        """End the stream cleanly, which the peer takes for "accepted"."""

    def abort(self) -> None:
        """End the stream so that the peer sees a failure; harmless when it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTerms:
    """What one stream may speak and ask of us; times in seconds."""

    dialects: tuple[Dialect, ...] = (SYSLOG,)
    """The last one is what a stream is taken for whose first octets are no other's."""
    max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE
    idle_timeout: float = 86_400.0
    """How long a stream may be silent between two frames; then it is closed."""
    frame_timeout: float = 60.0
    """How long we wait in all for the rest of a frame that has begun, or for our answer to be read; then the stream
    is aborted."""
    undurable_batches: int = 2
    answer_within: float | None = None
    """How long a message may go unanswered; then the stream is ended. None: as long as it takes."""


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
    """Streams aborted because of octets that are no frame, or no answerable one."""
    slow: int = 0
    """Streams aborted because the rest of a frame did not come."""
    idle: int = 0
    """Streams closed because nothing came."""
    lost: int = 0
    """Streams that the peer or the network broke off."""
    storage_errors: int = 0
    """Streams aborted because the spool could not keep what they brought."""
    unanswered: int = 0
    """Streams ended because what they brought was not durable in time."""


class _Undurable(NamedTuple):
    """A batch that is submitted, and how many of the stream's messages it holds."""

    durable: "asyncio.Future[None]"
    messages: int


class SlowSenderError(ProtocolError):
    """The rest of a frame did not come in time."""


class TruncatedStreamError(ProtocolError):
    """The stream was half-closed inside a frame; a clean close would accept what cannot be kept."""


class StreamReception:
    """Takes one stream in, from its first octet to its end."""

    def __init__(
        self,
        stream: ByteStream,
        submit: Submit,
        counters: ListenerCounters,
        terms: StreamTerms,
        clock: Clock = wall_clock,
    ) -> None:
        self._stream = stream
        self._submit = submit
        self._counters = counters
        self._terms = terms
        self._clock = clock
        self._begun = b""  # what came before the dialect could be told
        self._dialect: Dialect | None = None
        self._conversation: Conversation = SyslogConversation()  # until the dialect is known
        self._undurable: deque[_Undurable] = deque()
        self._unanswered_since: deque[float] = deque()  # of each batch, also of the one that is being submitted
        self._due: asyncio.Timeout | None = None  # while it is received
        self._answering: asyncio.Task[None] | None = None
        self._to_answer = asyncio.Event()
        self._writing = asyncio.Lock()
        self._waited = 0.0  # for the frame that is under way

    async def run(self) -> None:
        """Return when the stream has ended, one way or the other; the peer's faults and the spool's are counted."""
        self._counters.connections += 1
        self._counters.open += 1
        _log.info("connection from %s opened", self._stream.peer)
        try:
            async with asyncio.timeout(None) as self._due:
                await self._take_in_and_close()
            _log.info("connection from %s ended: accepted", self._stream.peer)
        except TimeoutError:
            self._counters.unanswered += 1
            _log.info("connection from %s ended: what it brought is not durable in time", self._stream.peer)
            await self._part()
        except RelayError as error:
            self._stream.abort()
            self._count(error)
            if isinstance(error, UnavailableError) and not self._is_amid_a_frame():
                # Senders end so as well, and one that loses its network is named by its own log.
                _log.info("connection from %s ended: %s", self._stream.peer, error.cause)
            else:
                _log.warning("connection from %s aborted: %s", self._stream.peer, error)
        except BaseException:
            await self._part()
            raise
        finally:
            self._counters.open -= 1
            self._due = None  # it holds its task, whose failure would be told when the garbage is next collected
            self._leave_behind()

    async def _part(self) -> None:
        """End a stream amid its life; what is durable by now is answered first, where answers are all that counts.

        A reset has audisp-remote connect again only after `heartbeat_timeout` without any record; an end of file, with
        the next record.
        """
        self._due = None  # its time is over
        if self._answering is not None:
            self._answering.cancel()
        if self._dialect is not None and self._dialect.parts:
            with contextlib.suppress(TimeoutError, RelayError):
                async with asyncio.timeout(PART_S):
                    await self._write_reply()
                    await self._stream.close()
        self._stream.abort()

    async def _take_in_and_close(self) -> None:
        fault = await self._take_in()
        await self._wait_for_durable(at_most=0)
        try:
            await self._answer_the_rest()
        except RelayError as error:
            fault = fault or error  # the first one is the cause
        if fault is not None:
            raise fault
        await self._stream.close()

    async def _take_in(self) -> RelayError | None:
        """Submit all that comes; answer what forbids a clean close."""
        try:
            while not self._conversation.closing and (data := await self._read()):
                await self._hand_on(data)
        except StorageError:
            raise  # what is not durable yet need not be waited for
        except RelayError as error:
            return self._answers_failed() or error
        if self._dialect is None:
            self._conversation.receive(self._begun)  # too short to tell: of no dialect but the last
        return None if self._conversation.finish() else TruncatedStreamError("stream", "it ended inside a frame")

    async def _read(self) -> bytes:
        """Read, for as long as the terms allow; b"" at the half-close and when an idle stream is to be closed."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        amid_a_frame = self._is_amid_a_frame()
        patience = self._terms.frame_timeout - self._waited if amid_a_frame else self._terms.idle_timeout
        try:
            async with asyncio.timeout(patience):
                data = await self._stream.read()
        except TimeoutError:
            if amid_a_frame:
                cause = f"the rest of a frame did not come within {self._terms.frame_timeout:g} s"
                raise SlowSenderError("stream", cause) from None
            data = await self._read_at_once()
            self._counters.idle += not data
            return data
        if amid_a_frame:
            self._waited += loop.time() - begun
        return data

    def _is_amid_a_frame(self) -> bool:
        return self._conversation.partial or bool(self._begun)

    async def _read_at_once(self) -> bytes:
        """Read what came in the moment in which patience ended: an idle stream's close would say "accepted" of it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                return await self._stream.read()
        return b""

    async def _hand_on(self, data: bytes) -> None:
        self._counters.octets += len(data)
        async with self._writing:  # who does not read our answers is not read
            pass
        if self._dialect is None:
            data = self._begun + data
            if not self._tell_dialect(data):
                self._begun = data
                return
            self._begun = b""
        conversation = self._conversation
        oversized = conversation.oversized
        messages = conversation.receive(data)
        self._counters.oversized += conversation.oversized - oversized
        if messages or not conversation.partial:
            self._waited = 0.0
        self._to_answer.set()
        if messages:
            await self._submit_messages(messages)
        if conversation.error is not None:
            raise conversation.error

    def _tell_dialect(self, begun: bytes) -> bool:
        dialect = dialect_of(begun, self._terms.dialects)
        if dialect is None:
            return False
        self._dialect = dialect
        self._conversation = dialect.converse(self._terms.max_message_size)
        if dialect.answers:
            self._answering = asyncio.get_running_loop().create_task(self._answer())
        return True

    async def _submit_messages(self, messages: list[bytes]) -> None:
        self._unanswered_since.append(asyncio.get_running_loop().time())
        self._set_due()
        await self._wait_for_durable(at_most=self._terms.undurable_batches - 1)
        now, peer = self._clock(), self._stream.peer
        to_event, waits = (self._dialect.event, self._dialect.waits) if self._dialect else (log_event, False)
        batch = Batch([to_event(message, now, peer) for message in messages], awaited=waits)
        self._undurable.append(_Undurable(await self._submit(batch), len(messages)))
        self._undurable[-1].durable.add_done_callback(lambda _: self._to_answer.set())
        self._counters.messages += len(messages)

    async def _wait_for_durable(self, *, at_most: int) -> None:
        while len(self._undurable) > at_most:
            # Shielded: the future is the spool's, and our being cancelled must not cancel it.
            await asyncio.shield(self._undurable[0].durable)
            self._accept()

    def _accept(self) -> None:
        """Accept what is durable by now. StorageError when it will never be."""
        while self._undurable and self._undurable[0].durable.done():
            self._undurable[0].durable.result()
            self._conversation.accepted(self._undurable.popleft().messages)
            self._unanswered_since.popleft()
        self._set_due()

    def _set_due(self) -> None:
        within, due = self._terms.answer_within, self._due
        if within is not None and due is not None and not due.expired():
            due.reschedule(self._unanswered_since[0] + within if self._unanswered_since else None)

    async def _answer(self) -> None:
        """Answer, as messages become durable, until cancelled; a task beside the reading."""
        try:
            while True:
                await self._to_answer.wait()
                self._to_answer.clear()
                await self._write_reply()
        except RelayError:
            self._stream.abort()  # the reading tells why, or finds the connection lost
            raise

    async def _write_reply(self) -> None:
        self._accept()
        async with self._writing:
            if reply := self._conversation.reply():
                await self._write(reply)

    async def _write(self, reply: bytes) -> None:
        try:
            async with asyncio.timeout(self._terms.frame_timeout):
                await self._stream.write(reply)
        except TimeoutError:
            cause = f"our answers were not read within {self._terms.frame_timeout:g} s"
            raise SlowSenderError("stream", cause) from None

    def _answers_failed(self) -> RelayError | None:
        """Why the answering gave up, and with it the stream."""
        if self._answering is None or not self._answering.done() or self._answering.cancelled():
            return None
        error = self._answering.exception()
        return error if isinstance(error, RelayError) else None

    async def _answer_the_rest(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.wait([self._answering])
            await self._write_reply()

    def _leave_behind(self) -> None:
        """Look at what becomes of what nobody waits for any more, lest asyncio complain that none did."""
        if self._answering is not None:
            self._answering.cancel()
            self._answering.add_done_callback(_look_at)
        for each in self._undurable:
            each.durable.add_done_callback(_look_at)

    def _count(self, error: RelayError) -> None:
        match error:
            case StorageError():
                self._counters.storage_errors += 1
            case SlowSenderError():
                self._counters.slow += 1
            case TruncatedStreamError():
                self._counters.truncated += 1
            case ProtocolError():
                self._counters.framing_errors += 1
            case _:
                self._counters.lost += 1


def _look_at(done: "asyncio.Future[None]") -> None:
    if not done.cancelled():
        done.exception()
