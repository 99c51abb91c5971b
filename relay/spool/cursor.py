"""Cursor: how far a destination is proven. It is stored as JSON in a slot (`relay/spool/slots.py`)."""

import msgspec


class KnownNumbers(msgspec.Struct, frozen=True, array_like=True):
    """The numbers that a run had given before a block: by these it is known what a missing block held."""

    run: str
    last: dict[str, int]
    """By the types' labels."""


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far a destination is proven: the next block to deliver of each spool, and how much of that block."""

    retained: int = 1
    transient: int = 1
    retained_part: int = 0
    """So many messages at the beginning of block `retained` need no delivery any more. A relay that does not know the
    field repeats them."""
    transient_part: int = 0
    proven_at: int = 0
    """When the last proof came, in microseconds since the epoch; 0 for never."""
    proof: str = ""
    """Its kind: `drained`, `acknowledged`, `archived`."""
    delivered: int = 0
    """Messages proven so far, ever."""
    server: str = ""
    """Protocol and final address of the server to which this cursor belongs; empty where none was recorded."""
    retained_numbers: KnownNumbers | None = None
    """Before the next block of the retained spool; None when they are not known."""
    transient_numbers: KnownNumbers | None = None

    def encode(self) -> bytes:
        """As it stands in a slot."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> "Cursor":
        """From a slot; a value that cannot be read is as good as none."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError:
            return cls()

    @property
    def reached_retained(self) -> tuple[int, int]:
        """Block and part of the retained spool: comparable."""
        return self.retained, self.retained_part

    @property
    def reached_transient(self) -> tuple[int, int]:
        """The same of the transient spool."""
        return self.transient, self.transient_part

    def at(self, retained: tuple[int, int], transient: tuple[int, int]) -> "Cursor":
        """The same cursor at another place of each spool; numbers are known before the old places only."""
        (block, part), (transient_block, transient_part) = retained, transient
        return msgspec.structs.replace(
            self,
            retained=block,
            retained_part=part,
            retained_numbers=self.retained_numbers if block == self.retained else None,
            transient=transient_block,
            transient_part=transient_part,
            transient_numbers=self.transient_numbers if transient_block == self.transient else None,
        )
