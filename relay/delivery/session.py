"""What a destination's loop needs of the far end: one session, from connecting to its loss."""

from typing import Protocol

from relay.spool.block import Block


class Session(Protocol):
    """Every method may raise a RelayError: then what was sent since the last proof is void and is sent again."""

    proof: str
    """The kind of its proof, as `relay status` shows it: `drained`, `acknowledged`, `archived`."""

    def send(self, block: Block) -> None:
        """Send the block's messages of the wanted types; blocks while the far end is slow."""

    def prove(self, cursor: bytes) -> None:
        """Return once everything sent is proven; `cursor` is what the proof stands for."""

    def check(self) -> None:
        """Called now and then while there is nothing to send: raise when the far end is gone."""

    def close(self) -> None:
        """Give it up. May be called from another thread, and frees whatever blocks."""
