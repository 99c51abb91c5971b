"""Cursor: how far a destination is proven. It is stored as JSON in a slot (`relay/spool/slots.py`)."""

import msgspec

from relay.spool.both_spools import BothSpools
from relay.spool.losses.numbers import RunEnd
from relay.values.event import EventType

BlockPosition = tuple[int, int]
"""The next block of a spool, and how many messages at its beginning are done already."""


class KnownNumbers(msgspec.Struct, frozen=True, array_like=True):
    """The numbers that a run had given before a block: they show what a missing block held."""

    run: str
    last: dict[str, int]
    """By the types' labels."""

    @classmethod
    def of(cls, end: RunEnd) -> "KnownNumbers":
        """The stored form."""
        return cls(end.run.hex(), {kind.label: last for kind, last in end.last.items()})

    def end(self) -> RunEnd | None:
        """The form that `Numbers` uses; None when it names an unknown type, or is not a run."""
        try:
            return RunEnd(
                bytes.fromhex(self.run), {EventType.from_label(label): last for label, last in self.last.items()}
            )
        except (KeyError, ValueError):
            return None


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far a destination is proven: the next block to deliver of each spool, and how much of that block.

    The fields are those on disk; `blocks`, `reached` and `numbers` show them as pairs.
    """

    retained: int = 1
    transient: int = 1
    retained_part: int = 0
    """So many messages at the beginning of block `retained` need no delivery. An older relay, which does not know the
    field, repeats them."""
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
    """The numbers before the next block of the retained spool; None when they are not known."""
    transient_numbers: KnownNumbers | None = None

    def encode(self) -> bytes:
        """The value of its slot."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> "Cursor":
        """From a slot's value; an unreadable value counts as a new cursor."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError:
            return cls()

    @property
    def blocks(self) -> BothSpools[int]:
        """The next block of each spool."""
        return BothSpools(self.retained, self.transient)

    @property
    def reached(self) -> BothSpools[BlockPosition]:
        """The next block of each spool with the part of it that is done: comparable."""
        return BothSpools((self.retained, self.retained_part), (self.transient, self.transient_part))

    @property
    def numbers(self) -> BothSpools[KnownNumbers | None]:
        """The numbers before the next block of each spool."""
        return BothSpools(self.retained_numbers, self.transient_numbers)

    def at(self, reached: BothSpools[BlockPosition]) -> "Cursor":
        """The same cursor at other points. Numbers stay known where the block stays the same."""
        (block, part), (transient_block, transient_part) = reached
        return msgspec.structs.replace(
            self,
            retained=block,
            retained_part=part,
            retained_numbers=self.retained_numbers if block == self.retained else None,
            transient=transient_block,
            transient_part=transient_part,
            transient_numbers=self.transient_numbers if transient_block == self.transient else None,
        )

    def with_numbers(self, numbers: BothSpools[KnownNumbers | None]) -> "Cursor":
        """The same cursor with these numbers."""
        return msgspec.structs.replace(self, retained_numbers=numbers.retained, transient_numbers=numbers.transient)
