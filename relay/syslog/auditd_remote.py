"""The auditd remote protocol (its "managed" format): audisp-remote speaks it to an auditd with `tcp_listen_port`.

No standard describes it; these are measurements of audit 3.0.9. Every message, in both directions, begins with 16
octets, little-endian: magic (4), header version 0 (1), message version 0 (1), type (4), length of the body (2),
sequence (4), which the answer repeats. The type's bits: 0x40000000 reply, 0x20000000 fatal, 0x10000000 warning.

- MESSAGE carries one audit record. audisp-remote ends it with an LF, which is not part of the record; at most one LF is
  removed. The answer is ACK when the record is kept, DISKLOW when it is kept but the disk is nearly full, and has
  the fatal bit (DISKFULL, DISKERROR) when it is not kept.
- HEARTBEAT is answered by ACK, at once.
- ENDING comes unasked from a server that stops, with sequence 0.

`AuditdClient` and `AuditdServer` are either end. When the peer breaks the protocol, `error` is an AuditdRemoteError;
see relay.syslog.answered_frames. A record that relay must not send raises UnsendableError. Memory: one message, at most
64 KiB because the length has 16 bits, and the sequence of each unanswered message. Work is linear in the octets.
"""

import operator
import struct
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from typing_extensions import override

from relay.errors import DataError, ProtocolError
from relay.syslog.answered_frames import AnsweringServer, FrameReader, FrameReceiver

MAGIC: Final = 0xFF0000FE
MAGIC_OCTETS: Final = MAGIC.to_bytes(4, "little")
"""The first octets of every stream of this protocol."""
LARGEST_BODY: Final = 0xFFFF
LARGEST_RECORD: Final = 8954
"""The longest record that auditd keeps whole; it acknowledges slightly longer ones and truncates them."""

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
    """The peer's stream is not this protocol, or answers a question that was not asked."""

    def __init__(self, cause: str) -> None:
        super().__init__("auditd stream", cause, "close the connection")


class UnsendableError(DataError):
    """A record that auditd would not keep unchanged."""

    def __init__(self, cause: str) -> None:
        super().__init__("audit record", cause, "send it in another form")


class Reply(NamedTuple):
    """A server's answer."""

    type: int
    sequence: int

    @property
    def kept(self) -> bool:
        """Whether it has the record, with or without a warning."""
        return self.type == ACK or self.type & (_FATAL | _WARNING) == _WARNING

    @property
    def accepted(self) -> bool:
        """Whether it is without the fatal bit, as an answer to a record that is kept."""
        return not self.type & _FATAL

    @property
    def warns(self) -> bool:
        """Whether the server needs attention."""
        return bool(self.type & _WARNING)

    def __str__(self) -> str:
        return _name(self.type)


class _Frame(NamedTuple):
    type: int
    sequence: int
    body: bytes
    dropped: int = 0
    """Octets of its body over the ceiling."""


def _name(type_: int) -> str:
    return _NAMES.get(type_, f"type {type_:#010x}")


def _encode(type_: int, sequence: int, body: bytes = b"") -> bytes:
    return _HEADER.pack(MAGIC, 0, 0, type_, len(body), sequence) + body


class AuditdFrameReader(FrameReader[_Frame]):
    """Finds the frames of one side."""

    def __init__(self, largest: int) -> None:
        super().__init__(largest)
        self._oversized = _Frame(0, 0, b"")  # the unfinished frame that is too large

    @override
    def _read_frame(self, data: bytes, at: int, frames: list[_Frame]) -> int:
        body = at + _HEADER.size
        if body > len(data):
            return self._wait(data, at, _HEADER.size)
        header: tuple[int, int, int, int, int, int] = _HEADER.unpack_from(data, at)
        magic, header_version, message_version, type_, length, sequence = header
        if magic != MAGIC:
            self.error = AuditdRemoteError(f"a header begins with {MAGIC:#010x}, not with {magic:#010x}")
        elif header_version or message_version:
            cause = f"version {header_version}.{message_version} of it is not known, only 0.0"
            self.error = AuditdRemoteError(cause)
        elif length > self._largest:
            self._oversized = _Frame(type_, sequence, b"", length - self._largest)
            self._to_skip = length
            return self._skip(data, body, frames)
        elif body + length > len(data):
            return self._wait(data, at, _HEADER.size + length)
        else:
            frames.append(_Frame(type_, sequence, data[body : body + length]))
        return body + length

    @override
    def _end_oversized(self, content: bytes, last: int, frames: list[_Frame]) -> None:
        frames.append(self._oversized._replace(body=content))


class AuditdServer(AnsweringServer[_Frame]):
    """The server's side of one connection.

    A message longer than `max_message_size` is cut, marked and acknowledged like any other. A message without content
    (`is_empty`) is acknowledged in its turn.
    """

    def __init__(
        self, max_message_size: int = LARGEST_BODY, *, is_empty: Callable[[bytes], bool] = operator.not_
    ) -> None:
        super().__init__(AuditdFrameReader(min(max_message_size + 1, LARGEST_BODY)))  # 1: the LF behind the record
        self._limit = max_message_size
        self._is_empty = is_empty

    @override
    def _handle(self, frame: _Frame, items: list[bytes]) -> AuditdRemoteError | None:
        acknowledgement = _encode(ACK, frame.sequence)
        if frame.type == MESSAGE:
            record = frame.body.removesuffix(b"\n")
            is_kept = not self._is_empty(record)
            self._answer(acknowledgement, when_accepted=is_kept)
            if is_kept:
                if dropped := frame.dropped + max(0, len(record) - self._limit):
                    self._note_cut(items, dropped)
                items.append(record[: self._limit])
        elif frame.type == HEARTBEAT:
            self._ready.append(acknowledgement)
        else:
            return AuditdRemoteError(f"a client does not send {_name(frame.type)}")
        return None


class AuditdClient(FrameReceiver[_Frame, Reply]):
    """The client's side of one connection. Answers must come in the order of their questions, as auditd's do."""

    def __init__(self, last_sequence: int = 0) -> None:
        super().__init__(AuditdFrameReader(LARGEST_BODY))
        self._sequence = last_sequence
        self._unanswered: deque[int] = deque()

    @property
    def unanswered(self) -> int:
        """How many messages and heartbeats are not answered yet."""
        return len(self._unanswered)

    def message(self, record: bytes) -> bytes:
        """The octets that carry a record; UnsendableError when auditd would truncate it, or split it in two."""
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

    @override
    def _handle(self, frame: _Frame, items: list[Reply]) -> AuditdRemoteError | None:
        reply = Reply(frame.type, frame.sequence)
        sequence = reply.sequence
        if reply.type == ENDING:
            cause = ""
        elif not reply.type & _REPLY or not (reply.kept or not reply.accepted):
            cause = f"a server does not answer {reply}"
        elif self._unanswered and self._unanswered[0] == sequence:
            self._unanswered.popleft()
            cause = ""
        elif sequence in self._unanswered:
            cause = f"{reply} for {sequence} came before the answer to {self._unanswered[0]}"
        elif (self._sequence - sequence) % _SEQUENCES < _PASSED:
            cause = f"{reply} for {sequence} came a second time"
        else:
            cause = f"{reply} for {sequence}, which was never sent"
        if cause:
            return AuditdRemoteError(cause)
        items.append(reply)
        return None
