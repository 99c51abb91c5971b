"""The reception of one sender's byte stream: octets, frames, batches, fsync, answers, close.

The promise, and the reason for the shape of this file: a close after the peer's half-close says "accepted". So a
stream is closed cleanly only when the peer has half-closed (or has been idle for long) and everything it sent is
durable. In every other case (a failed spool, a broken or unfinished frame, a stop) it is aborted with a reset, so that
no sender treats its end as acceptance. Messages before a bad frame are made durable first. A message over the size
limit is cut, marked and counted, because its sender would only repeat it for ever. The last line of a stream is a
message without its trailer too, and is marked: it may be incomplete.

Every batch has the stream's Provenance. A stream whose first octets are of another protocol is reset and named in
the log, once a minute for each sender, with its octets, of which `Aside` keeps some.

A protocol that acknowledges is also answered after fsync, message by message, while the stream continues. If its close
says no more than its answers did (`Dialect.parts`), a stop closes the stream. A stream whose oldest message is
unanswered for longer than `answer_within` ends as by a stop.

While the spool cannot be written nothing is answered, streams are not read, and their senders wait. A new stream is
read once, to recognise its dialect. If its senders would give up for good unless their stream is closed (`parts`), it
is read on, and ends after `answer_within`. If its sender waits for answers, it ends when the sender has gone. What such
a stream has not submitted yet is dropped, because its sender sends it again.

A stream that has completed no message in time is reset: after `silent_timeout` if it has sent nothing and nobody was
verified, after `first_message_timeout` otherwise. Where answers alone accept messages, it is closed. A stream that has
completed a message, or another one of the same connection, may stay silent: many senders seldom have anything to send.

Ceilings for each stream: one result of ByteStream.read(), one unfinished message, and `undurable_batches` batches that
are submitted and not yet durable. Beyond that the stream is not read, and the sender waits. It is not read either while
the peer does not read relay's answers, for at most `frame_timeout`. Messages of one octet take fifty times as much
memory as on the wire, so the streams of one listener are parsed and submitted in turn. Streams that are answered are
not: their frames are longer, and the time until they are parted counts from the parsing. Nothing is lost uncounted:
ListenerCounters has one counter for each cause.
"""

import asyncio
import contextlib
import logging
from collections import deque
from typing import Final, NamedTuple, Protocol

from relay.errors import ProtocolError, RelayError, StorageError, UnavailableError
from relay.listener.admission.source_log import SourceLog
from relay.listener.conversation import SYSLOG, Conversation, Dialect, SyslogConversation, dialect_of
from relay.listener.reception.listener_counters import ListenerCounters
from relay.listener.reception.stream_errors import (
    SlowSenderError,
    TruncatedStreamError,
    UnusedStreamError,
)
from relay.listener.reception.stream_terms import StreamTerms
from relay.syslog.other_protocol import OtherProtocolError, needs_more, other_protocol
from relay.system.clock import Clock, wall_clock
from relay.values.address import canonical_host, source_of
from relay.values.event import Batch, Submit
from relay.values.provenance import Provenance, ReceiptMark
from relay.values.size import size_text
from relay.values.text import counted

ANSWER_WITHIN: Final = 3.0
"""Seconds; audisp-remote waits 5 by default."""
LOOK_INTERVAL: Final = 1.0
"""Seconds between two looks whether a sender has gone."""
PART_TIMEOUT: Final = 1.0
"""How many seconds the close of an unfinished stream may take."""

_log = logging.getLogger(__name__)


class ByteStream(Protocol):
    """One sender's connection over any transport."""

    identity: str = ""
    """What was verified of the sender, as `Provenance.identity` has it; known from the first read on."""
    marks: ReceiptMark = ReceiptMark(0)
    """The marks of every message of the stream."""

    @property
    def peer(self) -> str:
        """The sender's name, for people."""

    @property
    def address(self) -> str:
        """The sender's IP address, or this machine's name; behind a listed proxy known from the first read on."""

    @property
    def half_closed(self) -> bool:
        """Whether the peer has sent its end, or has gone; also while octets before it are unread."""
        return False

    @property
    def has_completed(self) -> bool:
        """Whether a message was complete on any stream of the same connection."""
        return False

    def completed(self) -> None:
        """Note that a message was complete."""
        return

    async def read(self) -> bytes:
        """The next octets; b"" at the peer's half-close, UnavailableError when the connection is lost."""

    async def write(self, data: bytes) -> None:
        """Send an answer; waits while the peer does not read. UnavailableError when the connection is lost."""

    async def close(self) -> None:
        """End the stream cleanly, which says "accepted" to the peer."""

    def abort(self) -> None:
        """End the stream so that the peer sees a failure; harmless when it has ended."""


class _Undurable(NamedTuple):
    """A submitted batch, and how many of the stream's messages it holds."""

    durable: "asyncio.Future[None]"
    messages: int


class StreamReception:
    """Receives one stream, from its first octet to its end."""

    def __init__(  # noqa: PLR0913  what streams share comes from outside
        self,
        stream: ByteStream,
        submit: Submit,
        counters: ListenerCounters,
        terms: StreamTerms,
        clock: Clock = wall_clock,
        *,
        turn: asyncio.Lock | None = None,
        source_log: SourceLog | None = None,
    ) -> None:
        """`turn` is shared by the streams that together may hold the messages of one read, `source_log` likewise."""
        self._stream = stream
        self._submit = submit
        self._counters = counters
        self._terms = terms
        self._clock = clock
        self._turn = asyncio.Lock() if turn is None else turn
        self._source_log = SourceLog(_log) if source_log is None else source_log
        self._begun = b""  # the octets received before the dialect is known
        self._dialect: Dialect | None = None
        self._conversation: Conversation = SyslogConversation()  # until the dialect is known
        self._undurable: deque[_Undurable] = deque()
        self._unanswered_since: deque[float] = deque()  # of each batch, also of the one that is being submitted
        self._due: asyncio.Timeout | None = None  # while the stream is received
        self._answering: asyncio.Task[None] | None = None
        self._to_answer = asyncio.Event()
        self._writing = asyncio.Lock()
        self._waited = 0.0  # for the rest of the current frame
        self._reading = 0.0  # seconds spent in reading, until a message is complete
        self._has_octets = self._has_completed = False
        self._cut = self._dropped = 0  # messages and octets of the conversation that are counted

    async def run(self) -> RelayError | None:
        """Return when the stream has ended, with the reason unless it was accepted; such faults are counted."""
        self._counters.connections += 1
        self._counters.open += 1
        _log.info("connection from %s opened", self._stream.peer)
        try:
            async with asyncio.timeout(None) as self._due:
                await self._receive_and_close()
            _log.info("connection from %s ended: accepted", self._stream.peer)
        except TimeoutError:
            self._counters.unanswered += 1
            _log.info("connection from %s ended: its messages are not durable in time", self._stream.peer)
            await self._part()
        except RelayError as error:
            if isinstance(error, UnusedStreamError):
                await self._part()
            self._stream.abort()
            self._count(error)
            await self._report(error)
            return error.with_traceback(None)  # which refers to this frame
        except BaseException:
            await self._part()
            raise
        finally:
            self._counters.open -= 1
            self._due = None  # it refers to its task, whose failure asyncio would report at some later time
            # Retrieve the results that nobody awaits any more; otherwise asyncio would complain about them.
            if self._answering is not None:
                self._answering.cancel()
                self._answering.add_done_callback(_retrieve)
            for each in self._undurable:
                each.durable.add_done_callback(_retrieve)
        return None

    async def _report(self, error: RelayError) -> None:
        if isinstance(error, UnavailableError) and not self._is_amid_a_frame():
            # Senders end in this way as well; a sender that loses its network has it in its own log.
            _log.info("connection from %s ended: %s", self._stream.peer, error.cause)
            return
        source, kind = source_of(self._stream.address), type(error).__name__
        is_logged = self._source_log.warn(source, kind, "connection from %s aborted: %s", self._stream.peer, error)
        if is_logged and isinstance(error, OtherProtocolError) and self._terms.aside is not None:
            await asyncio.to_thread(self._terms.aside.keep, self._stream.address, error.octets)

    async def _part(self) -> None:
        """End an unfinished stream. If its answers alone accept messages, durable ones are answered first.

        After a reset, audisp-remote connects again only after `heartbeat_timeout` without any record; after an end of
        file, with the next record.
        """
        self._due = None  # it has expired
        if self._answering is not None:
            self._answering.cancel()
        if all(each.parts for each in ([self._dialect] if self._dialect is not None else self._terms.dialects)):
            with contextlib.suppress(TimeoutError, RelayError):
                async with asyncio.timeout(PART_TIMEOUT):
                    await self._write_reply()
                    await self._stream.close()
        self._stream.abort()

    async def _receive_and_close(self) -> None:
        fault = await self._receive()
        await self._wait_for_durable(at_most=0)
        try:
            if self._answering is not None:
                self._answering.cancel()
                await asyncio.wait([self._answering])
                await self._write_reply()
        except RelayError as error:
            fault = fault or error  # the first one is the cause
        if fault is not None:
            try:
                raise fault
            finally:
                # Its traceback refers to this frame: the connection would stay until a garbage collection.
                del fault
        try:
            async with asyncio.timeout(self._terms.frame_timeout):  # the last answers may be unsent
                await self._stream.close()
        except TimeoutError:
            raise self._unread_answers() from None

    async def _receive(self) -> RelayError | None:
        """Submit everything that arrives; returns the reason why the stream cannot be closed cleanly."""
        try:
            while not self._conversation.closing and (data := await self._read()):
                await self._hand_on(data)
        except StorageError:
            raise  # batches that are not durable yet need not be waited for
        except SlowSenderError as error:
            await self._finish()  # a line may lack no more than its trailer
            return error
        except RelayError as error:
            answering = self._answering
            if answering is None or not answering.done() or answering.cancelled():
                return error
            cause = answering.exception()  # the answers failed first, and aborted the stream
            return cause if isinstance(cause, RelayError) else error
        return await self._finish()

    async def _finish(self) -> RelayError | None:
        """Submit the last message, which the half-close ends."""
        if self._begun:  # too few octets for any dialect but the last
            if (other := other_protocol(self._begun, ended=True)) is not None:
                return OtherProtocolError(other, self._begun)
            self._dialect = self._terms.dialects[-1]
            self._conversation = self._dialect.converse(self._terms.max_message_size)
            await self._hand_on_to_conversation(self._begun)
        await self._submit_messages(self._conversation.finish())
        self._count_cut_messages()
        return TruncatedStreamError("stream", "it ended inside a frame") if self._conversation.partial else None

    async def _wait_until_writable(self) -> None:
        """Wait while the spool cannot be written; UnavailableError when a sender that waits for answers has gone."""
        writable = self._terms.writable
        while writable is not None and not writable.is_set():
            if self._dialect is not None and self._dialect.answers and self._stream.half_closed:
                raise UnavailableError("stream", "the sender gave up while the spool could not be written")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_INTERVAL):
                    await writable.wait()

    async def _read(self) -> bytes:
        """The next octets, within the time that the terms allow; b"" at the half-close and for an idle stream."""
        if self._dialect is not None and not self._dialect.parts:
            await self._wait_until_writable()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        amid_a_frame, was_used = self._is_amid_a_frame(), self._is_used
        timeout = self._terms.frame_timeout - self._waited if amid_a_frame else self._silence_allowed()
        try:
            async with asyncio.timeout(timeout):
                data = await self._stream.read()
        except TimeoutError:
            if amid_a_frame:
                cause = f"the rest of a frame did not arrive within {self._terms.frame_timeout:g} s"
                raise SlowSenderError("stream", cause) from None
            self._reading += loop.time() - begun
            data = b""
            # Octets may have arrived at this moment: the close of an idle stream would accept them.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    data = await self._stream.read()
            if not data and was_used:
                self._counters.idle += 1
            elif not data and self._silence_allowed() > 0:  # the sender has become known meanwhile
                return await self._read()
            elif not data:
                raise UnusedStreamError("stream", f"no message came within {self._reading:.3g} s") from None
            return data
        if amid_a_frame:
            self._waited += loop.time() - begun
        self._reading += loop.time() - begun
        return data

    @property
    def _is_used(self) -> bool:
        return self._has_completed or self._stream.has_completed

    def _silence_allowed(self) -> float:
        """Seconds that the stream may be silent between two frames."""
        if self._is_used:
            return self._terms.idle_timeout
        is_stranger = not self._has_octets and not self._stream.identity
        return (self._terms.silent_timeout if is_stranger else self._terms.first_message_timeout) - self._reading

    def _is_amid_a_frame(self) -> bool:
        return self._conversation.partial or bool(self._begun.strip(b"\r\n"))

    async def _hand_on(self, data: bytes) -> None:
        self._counters.octets += len(data)
        self._has_octets = True
        async with self._writing:  # a peer that does not read our answers is not read
            pass
        if self._dialect is None:
            data = self._begun + data
            if not self._identify(data):
                self._begun = data
                return
            self._begun = b""
        if self._dialect is None or not self._dialect.answers:
            await self._wait_for_durable(at_most=self._terms.undurable_batches - 1)
            async with self._turn:
                await self._hand_on_to_conversation(data)
        else:
            await self._hand_on_to_conversation(data)

    async def _hand_on_to_conversation(self, data: bytes) -> None:
        conversation = self._conversation
        messages = conversation.receive(data)
        self._count_cut_messages()
        if messages or not conversation.partial:
            self._waited = 0.0
        self._to_answer.set()
        await self._submit_messages(messages)
        if conversation.error is not None:
            raise conversation.error

    def _identify(self, begun: bytes) -> bool:
        """Whether the stream's first octets are enough to identify its dialect; then its conversation begins."""
        if (other := other_protocol(begun)) is not None:
            raise OtherProtocolError(other, begun)
        if needs_more(begun):
            return False
        dialect = dialect_of(begun, self._terms.dialects)
        if dialect is None:
            return False
        self._dialect = dialect
        self._conversation = dialect.converse(self._terms.max_message_size)
        if dialect.answers:
            self._answering = asyncio.get_running_loop().create_task(self._answer())
        return True

    async def _submit_messages(self, messages: list[bytes]) -> None:
        if not messages:
            return
        if not self._has_completed:
            self._has_completed = True
            self._stream.completed()
        self._unanswered_since.append(asyncio.get_running_loop().time())
        self._set_due()
        await self._wait_for_durable(at_most=self._terms.undurable_batches - 1)
        await self._wait_until_writable()
        stream, dialect = self._stream, self._dialect or SYSLOG
        waits = self._dialect is not None and self._dialect.waits
        events = dialect.events(messages, self._clock(), stream.peer)
        if of_all := stream.marks:
            events = [event._replace(marks=of_all) for event in events]
        for index, mark in self._conversation.marks.items():
            events[index] = events[index]._replace(marks=mark | of_all)
        provenance = None
        if self._terms.listener:
            address = canonical_host(stream.address)
            provenance = Provenance(address, stream.identity, self._terms.listener, dialect.name)
        batch = Batch(events, awaited=waits, provenance=provenance)
        self._undurable.append(_Undurable(await self._submit(batch), len(messages)))
        self._undurable[-1].durable.add_done_callback(lambda _: self._to_answer.set())
        self._counters.messages += len(messages)

    def _count_cut_messages(self) -> None:
        """Add the messages that the conversation has cut since the last call, and log them."""
        conversation, counters = self._conversation, self._counters
        if conversation.oversized == self._cut:
            return
        counters.cut += conversation.oversized - self._cut
        counters.dropped_octets += conversation.dropped - self._dropped
        self._cut, self._dropped = conversation.oversized, conversation.dropped
        self._terms.notices.warn(
            "cut",
            "messages longer than max-message-size (%s) are cut: %s so far, the last one from %s; raise "
            "max-message-size in [receiver], or have the sender send shorter ones",
            size_text(self._terms.max_message_size),
            counted(counters.cut, "message"),
            self._stream.peer,
        )

    async def _wait_for_durable(self, *, at_most: int) -> None:
        while len(self._undurable) > at_most:
            # Shielded, because the future is the spool's: cancelling this task must not cancel it.
            await asyncio.shield(self._undurable[0].durable)
            self._accept()

    def _accept(self) -> None:
        """Accept the batches that are durable by now; StorageError when one never will be."""
        while self._undurable and self._undurable[0].durable.done():
            self._undurable[0].durable.result()
            self._conversation.accepted(self._undurable.popleft().messages)
            self._unanswered_since.popleft()
        self._set_due()

    def _set_due(self) -> None:
        within, due = self._terms.answer_within, self._due
        if self._dialect is None or not self._dialect.parts:
            return
        if within is not None and due is not None and not due.expired():
            due.reschedule(self._unanswered_since[0] + within if self._unanswered_since else None)

    async def _answer(self) -> None:
        """Answer messages as they become durable, until cancelled; a task beside the one that reads."""
        try:
            while True:
                await self._to_answer.wait()
                self._to_answer.clear()
                await self._write_reply()
        except RelayError:
            self._stream.abort()  # the reading task reports the reason, or finds the connection lost
            raise

    async def _write_reply(self) -> None:
        self._accept()
        async with self._writing:
            if reply := self._conversation.reply():
                try:
                    async with asyncio.timeout(self._terms.frame_timeout):
                        await self._stream.write(reply)
                except TimeoutError:
                    raise self._unread_answers() from None

    def _unread_answers(self) -> SlowSenderError:
        return SlowSenderError("stream", f"relay's answers were not read within {self._terms.frame_timeout:g} s")

    def _count(self, error: RelayError) -> None:
        match error:
            case UnusedStreamError():
                self._counters.unused += 1
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


def _retrieve(done: "asyncio.Future[None]") -> None:
    if not done.cancelled():
        done.exception()
