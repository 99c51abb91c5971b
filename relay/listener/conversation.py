"""The protocols that a stream may speak, identified by its first octets.

A conversation is one stream's protocol without its socket: octets in, messages out, and the octets of the answer.
Syslog never answers: there the clean close says "accepted". The dialect turns messages into events.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from typing_extensions import override

from relay.errors import ProtocolError
from relay.events.audit.received import received_record
from relay.events.audit.record import says_nothing
from relay.syslog import auditd_remote
from relay.syslog.framing import Decoder
from relay.syslog.relp import RelpServer
from relay.values.event import Event, EventType
from relay.values.provenance import ReceiptMark


class Conversation(Protocol):
    """One stream's protocol, on the receiving side. Any cut of the octets gives the same messages."""

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and not ended."""

    @property
    def oversized(self) -> int:
        """How many messages were cut because they are too long."""

    @property
    def dropped(self) -> int:
        """How many octets of these messages were dropped."""

    @property
    def marks(self) -> dict[int, ReceiptMark]:
        """The marks of messages of the last `receive` or `finish`, by their index in it; most messages have none."""

    @property
    def error(self) -> ProtocolError | None:
        """Why the stream cannot continue; the messages before the error count."""

    @property
    def closing(self) -> bool:
        """Whether the peer has announced its end, in its protocol."""

    def receive(self, data: bytes) -> list[bytes]:
        """Parse the stream's next octets; returns the messages that they complete. Raises `error` once it is set."""

    def accepted(self, messages: int) -> None:
        """So many more messages, the oldest first, are durable: their answers may be sent."""

    def reply(self) -> bytes:
        """Take the octets that are to be sent to the peer now; b"" if there are none."""

    def finish(self) -> list[bytes]:
        """End the stream, at the peer's half-close; returns the messages that this completes.

        The stream ended inside a frame if `partial` is still true.
        """


class SyslogConversation(Decoder, Conversation):
    """Syslog framing as a conversation: it has no answers."""

    __slots__ = ()

    closing = False

    @override
    def accepted(self, messages: int) -> None:
        pass

    @override
    def reply(self) -> bytes:
        return b""


ToEvents = Callable[[Sequence[bytes], int, str], list[Event]]
"""Converts messages to events, from their time in microseconds since the epoch and their peer."""

_event_of = functools.partial(tuple.__new__, Event)  # takes half as long as Event(…)


def log_events(messages: Sequence[bytes], now: int, peer: str) -> list[Event]:
    """Keep messages of another program unchanged."""
    del peer
    same = itertools.repeat
    return list(map(_event_of, zip(same(EventType.LOG), same(now), messages, same(b""), same(0), strict=False)))


def one_by_one(to_event: Callable[[bytes, int, str], Event]) -> ToEvents:
    """Convert messages by a function that converts one."""
    return lambda messages, now, peer: [to_event(message, now, peer) for message in messages]


class Dialect(NamedTuple):
    """A protocol that a listener supports."""

    name: str
    begins: bytes  # the first octets of each of its streams; b"" for the dialect of every other stream
    converse: Callable[[int], Conversation]  # begin a conversation with a ceiling for one message, in octets
    answers: bool  # whether it ever answers
    events: ToEvents = log_events
    waits: bool = False  # whether its senders may send nothing more until they are answered
    parts: bool = False
    """Whether relay's stop closes its streams instead of resetting them: its close accepts nothing, and its senders do
    not treat a reset as an end."""


RELP: Final = Dialect("relp", b"1 open ", RelpServer, answers=True)
AUDITD: Final = Dialect(
    "auditd",
    auditd_remote.MAGIC_OCTETS,
    lambda limit: auditd_remote.AuditdServer(limit, is_empty=says_nothing),
    answers=True,
    events=one_by_one(received_record),
    waits=True,
    parts=True,
)
SYSLOG: Final = Dialect("syslog", b"", SyslogConversation, answers=False)

ALL: Final = (RELP, AUDITD, SYSLOG)


def dialect_of(begun: bytes, dialects: Sequence[Dialect]) -> Dialect | None:
    """The dialect of a stream with those first octets; None if more are needed. The last one is the default."""
    if any(len(begun) < len(dialect.begins) and dialect.begins.startswith(begun) for dialect in dialects[:-1]):
        return None
    return next((dialect for dialect in dialects[:-1] if begun.startswith(dialect.begins)), dialects[-1])
