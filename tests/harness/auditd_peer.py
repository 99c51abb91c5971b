"""A server of the auditd protocol of a test's own: it keeps to it except where the test tells it otherwise."""

import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Final, NamedTuple, Self

from harness.collector import Collector
from relay.syslog.auditd_remote import ACK, HEARTBEAT, MAGIC

_HEADER: Final = struct.Struct("<IBBIHI")
_READ = 1 << 16


class Message(NamedTuple):
    type: int
    sequence: int
    body: bytes


Answer = Callable[["AuditdPeer", Message], bytes]
"""What is said to a message; b"" for nothing. Raising ConnectionError closes the connection."""


def encode(type_: int, sequence: int, body: bytes = b"") -> bytes:
    """A message of the protocol."""
    return _HEADER.pack(MAGIC, 0, 0, type_, len(body), sequence) + body


def keep(peer: "AuditdPeer", message: Message) -> bytes:
    """Keep the record and acknowledge it, as a server should."""
    peer.records.append(message.body)
    return encode(ACK, message.sequence)


class AuditdPeer:
    """Listens on a free loopback port from the `with` statement on; each session's records are answered by `answer`.

    What the first sessions do instead may be given as `first`: one for each session, in order. So many heartbeats as
    `beats` says are acknowledged; after those it is silent, or closes the connection.
    """

    def __init__(
        self, answer: Answer = keep, *, first: tuple[Answer, ...] = (), beats: int = 1_000_000, closes: bool = False
    ) -> None:
        self.records: list[bytes] = []
        """Kept, in order."""
        self.refusals = 0
        self.heartbeats = 0
        self._answer = answer
        self._first = first
        self._beats = beats
        self._closes = closes
        self._collector = Collector(self._serve)
        self.port = self._collector.port
        self.open_connection: socket.socket | None = None
        """The newest session's."""

    def __enter__(self) -> Self:
        self._collector.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._collector.__exit__(kind, error, trace)

    def say(self, data: bytes) -> None:
        """Say something of its own accord, in the newest session."""
        assert self.open_connection is not None
        self.open_connection.sendall(data)

    def _serve(self, collector: Collector, connection: socket.socket) -> None:
        session = collector.connections
        answer = self._first[session - 1] if session <= len(self._first) else self._answer
        self.open_connection = connection
        begun = b""
        while data := connection.recv(_READ):
            begun += data
            at = 0
            answers: list[bytes] = []
            try:
                while (message := _message(begun, at)) is not None:
                    at += _HEADER.size + len(message.body)
                    answers.append(self._say(message, answer))
            finally:
                connection.sendall(b"".join(answers))
            begun = begun[at:]

    def _say(self, message: Message, answer: Answer) -> bytes:
        if message.type != HEARTBEAT:
            return answer(self, message)
        self.heartbeats += 1
        if self.heartbeats <= self._beats:
            return encode(ACK, message.sequence)
        if self._closes:
            raise ConnectionAbortedError
        return b""


def _message(data: bytes, at: int) -> Message | None:
    if len(data) - at < _HEADER.size:
        return None
    _, _, _, type_, length, sequence = _HEADER.unpack_from(data, at)
    body = at + _HEADER.size
    return Message(type_, sequence, data[body : body + length]) if len(data) >= body + length else None
