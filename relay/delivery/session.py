"""What a destination's loop needs of the far end: one session, from connecting to its loss."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from relay.event import EventType
from relay.spool.block import Block
from relay.spool.cursor import Cursor


class Refused(NamedTuple):
    """A message that the far end has refused for good."""

    run: bytes
    type: EventType
    number: int
    message: bytes
    answer: str
    """What it said."""


class Session(Protocol):
    """Every method may raise a RelayError: then what was sent since the last proof is void and is sent again."""

    proof: str
    """The kind of its proof, as `relay status` shows it: `drained`, `acknowledged`, `archived`, `unproven`."""

    @property
    def refused(self) -> Sequence[Refused]:
        """What the last interval that was proven left out, since it would never be taken; empty for most."""

    def send(self, block: Block) -> None:
        """Send the block's messages of the wanted types; blocks while the far end is slow."""

    def prove(self, cursor: Cursor) -> Cursor | None:
        """Return how far is settled: `cursor`, which stands for everything sent, once all of that is proven.

        A session that has no proof settles an earlier cursor, or none yet; it is asked again soon.
        """

    def check(self) -> None:
        """Called now and then while there is nothing to send: raise when the far end is gone."""

    def end(self) -> None:
        """Called when delivery is stopped, between two sends: say so where the protocol can. Never raises."""

    def close(self) -> None:
        """Give it up. May be called from another thread, and frees whatever blocks."""
