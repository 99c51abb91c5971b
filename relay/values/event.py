"""Events, and how far a source was read: the values that travel from a source to the spool.

An event is an RFC 5424 message that lacks only its identity (run and sequence number), which the spool's writer adds.
`head` and `tail` are the message's octets before and after the identity. A message that another program wrote is
relayed octet for octet: `head` holds all of it, and `tail` is empty.
"""

import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from relay.values.provenance import Provenance

if TYPE_CHECKING:
    from asyncio import Future


class EventType(enum.IntEnum):
    """The type of an event, and all that depends on it: every other table of types in relay is derived from this one.

    The number is the type's bit in the spool's block headers and never changes. The key behind it is the key of
    [audit] that enables the type and makes it persistent. A type without one is always enabled and always persistent.
    """

    audit_key: str

    ADMIN = 0, "administration"
    AUDIT = 1
    ALARM = 2
    PROVISIONING = 3
    SYSTEM = 4, "system"
    SECURITY = 5, "security"
    TRAFFIC = 6, "traffic"
    LOG = 7
    """What is of none of the types above: a type that relay does not know, malformed data, received messages."""
    RELAY = 8
    """relay's own events. They are sent to every server, whatever its `types`, `facilities` and `severity`."""

    def __new__(cls, bit: int, audit_key: str = "") -> Self:
        """Define a type, from its line in the table above."""
        kind = int.__new__(cls, bit)
        kind._value_ = bit
        kind.audit_key = audit_key
        return kind

    @property
    def label(self) -> str:
        """The name that users read and write: `audit`."""
        return self.name.lower()

    @classmethod
    def from_label(cls, label: str) -> "EventType":
        """Return the type with that label; KeyError when there is none."""
        return cls[label.upper()]


ALWAYS_RETAINED: Final = frozenset(kind for kind in EventType if not kind.audit_key)
"""The types that no configuration disables, and that are always persistent."""
OPTIONAL_TYPES: Final = tuple(sorted((kind for kind in EventType if kind.audit_key), key=lambda kind: kind.audit_key))
"""The types that have a key in [audit], in the order of these keys."""
SERVER_TYPES: Final = tuple(kind for kind in EventType if kind is not EventType.RELAY)
"""The types that a server can select."""
ROUTER_TYPES: Final = tuple(kind for kind in SERVER_TYPES if kind is not EventType.LOG)
"""The types that a router's events name in their tag `type`."""


class Event(NamedTuple):
    """What a source yields: a message that lacks only its identity."""

    type: EventType
    time: int
    """When it happened, in microseconds since the epoch, as the event itself says."""
    head: bytes
    tail: bytes = b""
    marks: int = 0
    """`ReceiptMark` of a received message."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a source was read, once every event up to there is durable."""

    source: str
    """The source's configured name."""
    count: int
    """How many events the source has submitted up to here, ever; it orders positions, whose data is opaque."""
    data: bytes
    """Only the source can read it; at most 64 KiB."""


class Batch(NamedTuple):
    """Events that are committed together, and the position of their source behind them."""

    events: Sequence[Event]
    position: Position | None = None
    """None for a listener, whose senders keep what is not acknowledged."""
    awaited: bool = False
    """Whether its sender sends no more until it is accepted. Then it does not wait for others to share its commit."""
    repeatable: bool = True
    """Whether its source keeps these events until they are accepted, or can deliver them again.

    While space is missing such a batch waits. Any other batch may use the reserve, and is refused and counted when
    the reserve is used up; so it has no position."""
    provenance: Provenance | None = None
    """Who sent these messages; None: relay made them."""


Submit = Callable[[Batch], Awaitable["Future[None]"]]
"""Accepts a batch; the future is done once its events and its position are durable."""
