"""A server of the auditd protocol that keeps to it, except where the test decides otherwise."""

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NamedTuple

from harness.answering_peer import AnsweringPeer
from relay.syslog.auditd_remote import ACK, HEARTBEAT, MAGIC

_HEADER: Final = struct.Struct("<IBBIHI")


class Message(NamedTuple):
    type: int
    sequence: int
    body: bytes


Answer = Callable[["AuditdPeer", Message], bytes]
"""What is answered to a record."""


def encode(type_: int, sequence: int, body: bytes = b"") -> bytes:
    """A message of the protocol."""
    return _HEADER.pack(MAGIC, 0, 0, type_, len(body), sequence) + body


def keep(peer: "AuditdPeer", message: Message) -> bytes:
    """Keep the record and acknowledge it, as a server should."""
    peer.records.append(message.body)
    return encode(ACK, message.sequence)


class AuditdPeer(AnsweringPeer[Message]):
    """An AnsweringPeer that acknowledges `beats` heartbeats; after them it is silent, or closes."""

    def __init__(
        self, answer: Answer = keep, *, first: tuple[Answer, ...] = (), beats: int = 1_000_000, closes: bool = False
    ) -> None:
        super().__init__(partial(answer, self), [partial(each, self) for each in first], _reader)
        self.records: list[bytes] = []
        """Kept, in order."""
        self.heartbeats = 0
        self._beats = beats
        self._closes = closes

    def _reply(self, question: Message) -> bytes | None:
        if question.type != HEARTBEAT:
            return None
        self.heartbeats += 1
        if self.heartbeats <= self._beats:
            return encode(ACK, question.sequence)
        if self._closes:
            raise ConnectionAbortedError
        return b""


def _reader() -> Callable[[bytes], Iterator[Message]]:
    begun = b""

    def receive(data: bytes) -> Iterator[Message]:
        nonlocal begun
        begun += data
        at = 0
        while (message := _message(begun, at)) is not None:
            at += _HEADER.size + len(message.body)
            yield message
        begun = begun[at:]

    return receive


def _message(data: bytes, at: int) -> Message | None:
    if len(data) - at < _HEADER.size:
        return None
    _, _, _, type_, length, sequence = _HEADER.unpack_from(data, at)
    body = at + _HEADER.size
    return Message(type_, sequence, data[body : body + length]) if len(data) >= body + length else None
