"""Events, and how far a source has come: the values that travel from a source to the spool.

An event is already framed as an RFC 5424 message, but for its identity (run and number), which only the spool's
writer can give. `head` and `tail` are the message's bytes before and after the place of the identity. A message
that another program made is relayed byte for byte: it is all in `head`, and `tail` is empty.
"""

import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from asyncio import Future


class EventType(enum.IntEnum):
    """The type of an event; the number is its bit in the spool's block headers and never changes."""

    ADMIN = 0
    AUDIT = 1
    ALARM = 2
    PROVISIONING = 3
    SYSTEM = 4
    SECURITY = 5
    TRAFFIC = 6
    LOG = 7
    RELAY = 8

    @property
    def label(self) -> str:
        """The name that users read and write: `audit`."""
        return self.name.lower()

    @classmethod
    def from_label(cls, label: str) -> "EventType":
        """The type of that name; KeyError when there is none."""
        return cls[label.upper()]


class Event(NamedTuple):
    """What a source yields: a message that lacks only its identity."""

    type: EventType
    time: int
    """When it happened, in microseconds since the epoch, as the event itself says."""
    head: bytes
    tail: bytes = b""


@dataclass(frozen=True, slots=True)
class Position:
    """The place reached in a source, once every event up to it is taken in."""

    source: str
    """The source's configured name."""
    count: int
    """How many events the source has given up to here, ever: what makes opaque places comparable."""
    place: bytes
    """Only the source can read it; at most 64 KiB."""


class Batch(NamedTuple):
    """Events that are committed together, and the position that they bring their source to."""

    events: Sequence[Event]
    position: Position | None = None
    """None for a listener, whose senders keep what is not acknowledged."""
    awaited: bool = False
    """Whether its sender sends no more until it is accepted: then it does not wait for others to share its commit."""
    repeatable: bool = True
    """Whether its source keeps these events until they are accepted, or can deliver them again.

    While there is no space such a batch waits. Any other may use the reserve, and is refused and counted when that is
    used up; so it has no position."""


Submit = Callable[[Batch], Awaitable["Future[None]"]]
"""Takes a batch in; the future is done once its events and its position are durable."""
