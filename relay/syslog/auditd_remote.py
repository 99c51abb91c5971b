"""The auditd remote protocol (its "managed" format): what audisp-remote says to an auditd with `tcp_listen_port`.

No standard says it; this is what audit 3.0.9 does, measured. Before every message, in both directions, stand 16
octets, little-endian: magic (4), header version 0 (1), message version 0 (1), type (4), length of the body (2),
sequence (4), which the answer repeats. The type's bits: 0x40000000 reply, 0x20000000 fatal, 0x10000000 warning.

- MESSAGE carries one audit record. audisp-remote ends it with an LF, which is not the record's; at most one is
  taken away. It is answered by ACK when it is kept, DISKLOW when it is kept but room is short, and with the fatal bit
  (DISKFULL, DISKERROR) when it is not kept.
- HEARTBEAT is answered by ACK, at once.
- ENDING comes from a server that stops: unasked, with sequence 0.

`AuditdClient` and `AuditdServer` know no socket and no clock: octets in, octets and values out. What the peer breaks
is an AuditdRemoteError, kept in `error`: what came before it is still given, every later `receive` raises it. What we
would break is an UnsendableError. Memory: one message, at most 64 KiB, since the length has 16 bits, and the sequence
of each message that is not answered. Work is linear in the octets, however they are cut.
"""

import operator
import struct
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from relay.errors import DataError, ProtocolError

MAGIC: Final = 0xFF0000FE
MAGIC_OCTETS: Final = MAGIC.to_bytes(4, "little")
"""What every stream of this protocol begins with."""
LARGEST_BODY: Final = 0xFFFF
LARGEST_RECORD: Final = 8954
"""What auditd keeps whole; it acknowledges a little more and cuts it."""

MESSAGE: Final = 0x00000000
HEARTBEAT: Final = 0x00000001
ACK: Final = 0x40000000
ENDING: Final = 0x40000001
DISKLOW: Final = 0x50000001
DISKFULL: Final = 0x60000001
DISKERROR: Final = 0x60000002
_REPLY: Final = 0x40000000
_FATAL: Final = 0x20000000
_WARNING: Final = 0x10000000
_NAMES: Final = {
    MESSAGE: "MESSAGE",
    HEARTBEAT: "HEARTBEAT",
    ACK: "ACK",
    ENDING: "ENDING",
    DISKLOW: "DISKLOW",
    DISKFULL: "DISKFULL",
    DISKERROR: "DISKERROR",
}

_HEADER: Final = struct.Struct("<IBBIHI")
_SEQUENCES: Final = 1 << 32
_PASSED: Final = 1 << 31


class AuditdRemoteError(ProtocolError):
    """The peer's stream is none of this protocol, or answers what was not asked."""

    def __init__(self, cause: str) -> None:
        super().__init__("auditd stream", cause, "close the connection")


class UnsendableError(DataError):
    """A record that auditd would not keep as it is."""

    def __init__(self, cause: str) -> None:
        super().__init__("audit record", cause, "send it in another form")


class Reply(NamedTuple):
    """What a server answered."""

    type: int
    sequence: int

    @property
    def kept(self) -> bool:
        """Whether it has the record, with or without a warning."""
        return self.type == ACK or self.type & (_FATAL | _WARNING) == _WARNING

    @property
    def fatal(self) -> bool:
        """Whether it does not have the record."""
        return bool(self.type & _FATAL)

    @property
    def warning(self) -> bool:
        """Whether it has the record and wants to be looked after."""
        return bool(self.type & _WARNING)

    @property
    def name(self) -> str:
        """For people."""
        return _name(self.type)


class _Frame(NamedTuple):
    type: int
    sequence: int
    body: bytes | None
    """None: it was passed over, too long."""


def _name(type_: int) -> str:
    return _NAMES.get(type_, f"type {type_:#010x}")


def _encode(type_: int, sequence: int, body: bytes = b"") -> bytes:
    return _HEADER.pack(MAGIC, 0, 0, type_, len(body), sequence) + body


class _FrameReader:
    """Finds the frames in a stream that comes in pieces."""

    __slots__ = ("_begun", "_limit", "_passing", "_wanted", "error")

    def __init__(self, limit: int) -> None:
        self.error: AuditdRemoteError | None = None
        self._limit = limit
        self._begun = bytearray()  # what there is of an unfinished frame
        self._wanted = _HEADER.size  # octets that it must have before it is worth a look
        self._passing = 0  # octets of a body over the limit that are still to come

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._begun) or self._passing > 0

    def receive(self, data: bytes) -> list[_Frame]:
        """Take in the next octets; the frames that they complete."""
        if self.error is not None:
            raise self.error
        frames: list[_Frame] = []
        begun = self._begun
        begun += data
        at = self._pass_over(0)
        while len(begun) - at >= self._wanted:
            at = self._read_one(at, frames)
        del begun[:at]
        return frames

    def _pass_over(self, at: int) -> int:
        passed = min(self._passing, len(self._begun) - at)
        self._passing -= passed
        return at + passed

    def _read_one(self, at: int, frames: list[_Frame]) -> int:
        """Read what begins at `at`; answer where the next begins, or the same place when more must come first."""
        magic, header_version, message_version, type_, length, sequence = _HEADER.unpack_from(self._begun, at)
        body = at + _HEADER.size
        if magic != MAGIC:
            return self._refuse(f"a header begins with {MAGIC:#010x}, not with {magic:#010x}")
        if header_version or message_version:
            return self._refuse(f"version {header_version}.{message_version} of it is not known, only 0.0")
        if length > self._limit:
            frames.append(_Frame(type_, sequence, None))
            self._passing = length
            at = self._pass_over(body)
        elif len(self._begun) < body + length:
            self._wanted = _HEADER.size + length
            return at
        else:
            frames.append(_Frame(type_, sequence, bytes(self._begun[body : body + length])))
            at = body + length
        self._wanted = _HEADER.size
        return at

    def _refuse(self, cause: str) -> int:
        self.error = AuditdRemoteError(cause)
        return len(self._begun)


class AuditdServer:
    """The server's side of one connection; a `Conversation`.

    A message longer than `max_message_size` is passed over, counted in `oversized` and acknowledged all the same: its
    sender would only send it again for ever. One that has nothing to keep (`is_empty`) is acknowledged in its turn.
    """

    __slots__ = ("_frames", "_is_empty", "_replies", "_unanswered", "error", "oversized")

    closing = False

    def __init__(
        self, max_message_size: int = LARGEST_BODY, *, is_empty: Callable[[bytes], bool] = operator.not_
    ) -> None:
        self.error: ProtocolError | None = None
        self.oversized = 0
        """Messages passed over because they are too long."""
        self._is_empty = is_empty
        self._frames = _FrameReader(min(max_message_size, LARGEST_BODY))
        self._unanswered: deque[tuple[int, bool]] = deque()  # sequence, and whether there is something to keep
        self._replies: list[bytes] = []

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._frames.partial

    def receive(self, data: bytes) -> list[bytes]:
        """Take in the next octets; the records that they complete, without their LF."""
        if self.error is not None:
            raise self.error
        records: list[bytes] = []
        for frame in self._frames.receive(data):
            if frame.type == MESSAGE:
                self._take(frame, records)
            elif frame.type == HEARTBEAT:
                self._replies.append(_encode(ACK, frame.sequence))
            else:
                self.error = AuditdRemoteError(f"a client does not send {_name(frame.type)}")
                return records
        self.error = self._frames.error
        return records

    def _take(self, frame: _Frame, records: list[bytes]) -> None:
        record = b"" if frame.body is None else frame.body.removesuffix(b"\n")
        self.oversized += frame.body is None
        is_kept = not self._is_empty(record)
        self._unanswered.append((frame.sequence, is_kept))
        if is_kept:
            records.append(record)
        else:
            self._answer_what_needs_no_keeping()

    def accepted(self, messages: int) -> None:
        """So many more records, oldest first, are durable."""
        for _ in range(messages):
            self._replies.append(_encode(ACK, self._unanswered.popleft()[0]))
            self._answer_what_needs_no_keeping()

    def _answer_what_needs_no_keeping(self) -> None:
        while self._unanswered and not self._unanswered[0][1]:
            self._replies.append(_encode(ACK, self._unanswered.popleft()[0]))

    def reply(self) -> bytes:
        """Take what is to be sent to the client now."""
        replies = b"".join(self._replies)
        self._replies.clear()
        return replies

    def finish(self) -> bool:
        """End the stream; answer whether it ended on a frame's end."""
        if self.error is not None:
            raise self.error
        return not self.partial


class AuditdClient:
    """The client's side of one connection. Answers must come in the order of what they answer, as auditd's do."""

    __slots__ = ("_frames", "_sequence", "_unanswered", "error")

    def __init__(self, last_sequence: int = 0) -> None:
        self.error: ProtocolError | None = None
        self._frames = _FrameReader(LARGEST_BODY)
        self._sequence = last_sequence
        self._unanswered: deque[int] = deque()

    @property
    def unanswered(self) -> int:
        """How many messages and heartbeats are not answered yet."""
        return len(self._unanswered)

    def message(self, record: bytes) -> bytes:
        """The octets that carry a record; UnsendableError when auditd would cut it, or take it for two."""
        if not record or len(record) > LARGEST_RECORD:
            raise UnsendableError(f"it has {len(record)} octets, not 1 to {LARGEST_RECORD}")
        if b"\n" in record or b"\0" in record:
            raise UnsendableError("it holds an LF or a NUL, where auditd would end it")
        return self._ask(MESSAGE, record)

    def heartbeat(self) -> bytes:
        """The octets of a heartbeat."""
        return self._ask(HEARTBEAT)

    def _ask(self, type_: int, body: bytes = b"") -> bytes:
        self._sequence = (self._sequence + 1) % _SEQUENCES or 1  # 0 is ENDING's
        self._unanswered.append(self._sequence)
        return _encode(type_, self._sequence, body)

    def receive(self, data: bytes) -> list[Reply]:
        """Take in the next octets; the answers that they complete, in the order of what they answer, and ENDING."""
        if self.error is not None:
            raise self.error
        replies: list[Reply] = []
        for frame in self._frames.receive(data):
            reply = Reply(frame.type, frame.sequence)
            if cause := self._fault(reply):
                self.error = AuditdRemoteError(cause)
                return replies
            replies.append(reply)
        self.error = self._frames.error
        return replies

    def _fault(self, reply: Reply) -> str:
        """What is wrong with an answer; "" and the question is answered when nothing is."""
        if reply.type == ENDING:
            return ""
        if not reply.type & _REPLY or not (reply.kept or reply.fatal):
            return f"a server does not answer {reply.name}"
        if self._unanswered and self._unanswered[0] == reply.sequence:
            self._unanswered.popleft()
            return ""
        if reply.sequence in self._unanswered:
            return f"{reply.name} for {reply.sequence} came before the answer to {self._unanswered[0]}"
        if (self._sequence - reply.sequence) % _SEQUENCES < _PASSED:
            return f"{reply.name} for {reply.sequence} came a second time"
        return f"{reply.name} for {reply.sequence}, which was never sent"
