"""Protocols whose frames carry messages that are answered: the parts that RELP and the auditd protocol share.

`FrameReader` finds frames in a stream, `FrameReceiver` is either end of a connection, `AnsweringServer` the server's.
They know no socket and no clock: octets in, values and octets out. When the peer breaks the protocol, the items before
that are still returned, `error` holds the fault, and every later `receive` raises it. The result is the same however
the octets are cut.

The content of a frame over the limit is cut to it. Its other octets are dropped by its count, and it is marked.

Memory: one frame and the octets last received, and one answer for each message that is not accepted yet. Work is linear
in the octets.
"""

from collections import deque
from typing import Generic, TypeVar

from relay.errors import ProtocolError
from relay.values.provenance import ReceiptMark

FrameT = TypeVar("FrameT")
ItemT = TypeVar("ItemT")


class FrameReader(Generic[FrameT]):
    """Finds the frames in a stream that arrives in pieces; the content of larger ones than `largest` is cut."""

    error: ProtocolError | None

    def __init__(self, largest: int) -> None:
        self.error = None
        self._largest = largest
        self._offset = 0  # of the octets not read yet, in the stream
        self._begun = bytearray()  # an unfinished frame
        self._needed = 0  # its octets before it is read again
        self._cut = bytearray()  # the content of an unfinished frame that is too large, up to the limit
        self._to_skip = 0  # octets of it that have not arrived

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._begun) or self._to_skip > 0

    def receive(self, data: bytes) -> list[FrameT]:
        """Receive the stream's next octets; the frames that they complete. Raises `error` once it is set."""
        if self.error is not None:
            raise self.error
        if self._begun:
            self._begun += data
            if len(self._begun) < self._needed:
                return []
            data = bytes(self._begun)
            self._begun.clear()
        frames: list[FrameT] = []
        at = self._skip(data, 0, frames)
        while at < len(data) and self.error is None:
            at = self._read_frame(data, at, frames)
        self._offset += len(data) - len(self._begun)
        return frames

    def _read_frame(self, data: bytes, at: int, frames: list[FrameT]) -> int:
        """Read the frame that begins at `at`; returns where the next one begins, or the end of the data."""
        raise NotImplementedError

    def _wait(self, data: bytes, at: int, needed: int) -> int:
        """Keep an unfinished frame until it has so many octets; returns the end of the data."""
        self._begun += data[at:]
        self._needed = needed
        return len(data)

    def _skip(self, data: bytes, at: int, frames: list[FrameT]) -> int:
        """Read the octets of a frame that is too large as far as they have arrived; returns where that ends."""
        skipped = min(self._to_skip, len(data) - at)
        end = at + skipped
        self._cut += data[at : min(end, at + self._largest - len(self._cut))]
        self._to_skip -= skipped
        if skipped and not self._to_skip:
            content = bytes(self._cut)
            self._cut.clear()
            self._end_oversized(content, data[end - 1], frames)
        return end

    def _end_oversized(self, content: bytes, last: int, frames: list[FrameT]) -> None:
        """End the frame that is too large; `last` is its last octet."""
        raise NotImplementedError


class FrameReceiver(Generic[FrameT, ItemT]):
    """Turns frames into items: a server's into messages, a client's into answers."""

    def __init__(self, reader: FrameReader[FrameT]) -> None:
        self.error: ProtocolError | None = None
        self._reader = reader

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._reader.partial

    def receive(self, data: bytes) -> list[ItemT]:
        """Receive the stream's next octets; the items that they complete. Raises `error` once it is set."""
        if self.error is not None:
            raise self.error
        items: list[ItemT] = []
        for frame in self._reader.receive(data):
            self.error = self._handle(frame, items)
            if self.error is not None:
                return items
        self.error = self._reader.error
        return items

    def _handle(self, frame: FrameT, items: list[ItemT]) -> ProtocolError | None:
        """Append the frame's item, if it has one; returns the fault when the frame breaks the protocol."""
        raise NotImplementedError


class AnsweringServer(FrameReceiver[FrameT, bytes]):
    """Answers messages in their order, each not before it is accepted; a relay.listener.conversation.Conversation."""

    closing = False

    def __init__(self, reader: FrameReader[FrameT]) -> None:
        super().__init__(reader)
        self.marks: dict[int, ReceiptMark] = {}
        """The marks of messages of the last `receive`, by their index in it; most messages have none."""
        self.oversized = 0
        """Messages cut because they are too long."""
        self.dropped = 0
        """Octets of these messages that were dropped."""
        self._waiting: deque[tuple[bytes, bool]] = deque()  # an answer, and whether its message is yet to be accepted
        self._ready: list[bytes] = []

    def accepted(self, messages: int) -> None:
        """Answer so many more messages, the oldest first, because they are kept for good."""
        for _ in range(messages):
            self._ready.append(self._waiting.popleft()[0])
            while self._waiting and not self._waiting[0][1]:
                self._ready.append(self._waiting.popleft()[0])

    def reply(self) -> bytes:
        """Take the octets to send to the client now; b"" for none."""
        reply = b"".join(self._ready)
        self._ready.clear()
        return reply

    def receive(self, data: bytes) -> list[bytes]:
        """See `FrameReceiver`."""
        self.marks = {}
        return super().receive(data)

    def finish(self) -> list[bytes]:
        """End the stream; it completes no message. Raises `error` if it is set."""
        if self.error is not None:
            raise self.error
        self.marks = {}
        return []

    def _note_cut(self, items: list[bytes], dropped: int) -> None:
        """Mark and count the message that is to be appended: so many octets of it were dropped."""
        self.marks[len(items)] = ReceiptMark.CUT
        self.oversized += 1
        self.dropped += dropped

    def _answer(self, octets: bytes, *, when_accepted: bool = False) -> None:
        """Queue an answer behind those of earlier messages."""
        if when_accepted or self._waiting:
            self._waiting.append((octets, when_accepted))
        else:
            self._ready.append(octets)
