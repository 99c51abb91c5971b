"""The contract between a destination's loop and its far end: one session, from connecting to its loss."""

import enum
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from relay.spool.block import Block
from relay.spool.cursor import Cursor
from relay.values.event import EventType


class MessageId(NamedTuple):
    """The identity of a message, for ever."""

    run: bytes
    type: EventType
    number: int


class ProvenExtent(NamedTuple):
    """How far the messages sent since the last proof are proven when a session ends."""

    everything: bool = False
    up_to: MessageId | None = None
    """Unless everything is proven: every message before this one is. None: nothing is known to be proven."""


NOTHING_PROVEN = ProvenExtent()


class FaultSearch(enum.Enum):
    """How to find a message on which the far end ends every session (relay.delivery.suspicion)."""

    NEVER = enum.auto()
    """A loss says nothing about a message."""
    BY_HALVES = enum.auto()
    SINGLY = enum.auto()
    """Every message has its own answer."""


class RefusedMessage(NamedTuple):
    """A message that the far end has refused for good."""

    id: MessageId
    message: bytes
    answer: str
    """The far end's reason."""


class DeliverySession(Protocol):
    """Every method may raise a RelayError: the messages sent since the last proof are then void and are sent again.

    What a method with a body returns or does is right for most sessions.
    """

    proof: str
    """The kind of its proof, as `relay status` shows it: `drained`, `acknowledged`, `archived`, `unproven`."""

    search: FaultSearch

    @property
    def heard(self) -> float:
        """When the far end last did something (an answer, octets accepted): seconds of the monotonic clock."""

    @property
    def owing(self) -> bool:
        """Whether the far end owes an answer although everything is proven, such as the answer to a heartbeat."""
        return False

    @property
    def alive(self) -> bool:
        """Whether the transport still works: the SSH session lives, or a TCP connection can be tried."""

    @property
    def refused(self) -> Sequence[RefusedMessage]:
        """The messages of the last proven interval that the far end refused for good."""
        return ()

    def send(self, block: Block) -> None:
        """Send the block's selected messages; blocks while the far end is slow."""

    def prove(self, cursor: Cursor) -> Cursor | None:
        """Return the cursor that is proven: `cursor`, the end of everything sent, once all of that is proven.

        A proof that needs time returns an earlier cursor, or None; the caller asks again soon.
        """

    def proven_extent(self) -> ProvenExtent:
        """How far the messages sent since the last proof are proven; called when the session is lost or ended."""
        return NOTHING_PROVEN

    def check(self) -> None:
        """Raise when the far end is gone; called now and then while there is nothing to send."""
        return

    def end(self) -> None:
        """Take leave where the protocol has a farewell; called between two sends when delivery stops. Never raises."""
        return

    def close(self) -> None:
        """Close the session. May be called from another thread, and frees a blocked call."""
