"""What a destination's loop needs of the far end: one session, from connecting to its loss."""

import enum
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from relay.spool.block import Block
from relay.spool.cursor import Cursor
from relay.values.event import EventType


class MessageId(NamedTuple):
    """What names a message for ever."""

    run: bytes
    type: EventType | int
    number: int


class ProvenExtent(NamedTuple):
    """How far what was sent is proven when a session is lost before `prove` has returned."""

    everything: bool = False
    """Everything that was sent."""
    up_to: MessageId | None = None
    """Else everything before this message; None: nothing is known."""


NOTHING_PROVEN = ProvenExtent()


class FaultSearch(enum.Enum):
    """How a message is found on which the far end ends every session (relay.delivery.suspicion)."""

    NEVER = enum.auto()
    """Not at all: a loss says nothing about a message."""
    BY_HALVES = enum.auto()
    SINGLY = enum.auto()
    """Every message has its own answer."""


class RefusedMessage(NamedTuple):
    """A message that the far end has refused for good."""

    run: bytes
    type: EventType
    number: int
    message: bytes
    answer: str
    """What it said."""


class DeliverySession(Protocol):
    """Every method may raise a RelayError: then what was sent since the last proof is void and is sent again."""

    proof: str
    """The kind of its proof, as `relay status` shows it: `drained`, `acknowledged`, `archived`, `unproven`."""

    search: FaultSearch
    """How a message is found that the far end does not accept."""

    @property
    def heard(self) -> float:
        """When the far end last did something (an answer, octets taken): seconds of the monotonic clock."""

    @property
    def owing(self) -> bool:
        """Whether the far end owes an answer although everything is proven, as to a heartbeat."""

    @property
    def alive(self) -> bool:
        """Whether the way to the far end is still open: the SSH session, or a TCP connection can be tried."""

    @property
    def refused(self) -> Sequence[RefusedMessage]:
        """What the last interval that was proven left out, since it would never be taken; empty for most."""

    def send(self, block: Block) -> None:
        """Send the block's messages of the wanted types; blocks while the far end is slow."""

    def prove(self, cursor: Cursor) -> Cursor | None:
        """Return how far is settled: `cursor`, which stands for everything sent, once all of that is proven.

        A session that has no proof settles an earlier cursor, or none yet; it is asked again soon.
        """

    def proven_extent(self) -> ProvenExtent:
        """Called when the session is lost or ended: how far everything sent since the last proof is proven."""

    def check(self) -> None:
        """Called now and then while there is nothing to send: raise when the far end is gone."""

    def end(self) -> None:
        """Called when delivery is stopped, between two sends: say so where the protocol can. Never raises."""

    def close(self) -> None:
        """Give it up. May be called from another thread, and frees whatever blocks."""
