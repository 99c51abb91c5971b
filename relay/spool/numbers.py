"""Numbers: what damage took, by the numbers of the events around it. Pure.

Within (run, type) a spool's events are numbered without a hole but for those that were refused, and one run follows the
other, each from 1 on. A block whose payload alone is damaged tells by its header what it held. What a damaged header
held is known when the next event of each type comes: `see` answers it then. It is not known of a type that does not
come again in its run, nor of the first blocks that are followed, unless they are the spool's first.
"""

import copy
from typing import Self

from relay.event import EventType
from relay.spool.block import Header
from relay.spool.gap import Range


class Numbers:
    """Follows a spool's blocks in their order."""

    def __init__(self, *, from_the_first: bool = False) -> None:
        self._next: dict[EventType, int] = {}
        """The next number of each type in the run that is followed."""
        self._run: bytes | None = b"" if from_the_first else None
        self._default: int | None = None
        """The next number of a type that has not come in this run; None when its beginning was not seen."""
        self._in_doubt: frozenset[EventType] = frozenset()

    def __repr__(self) -> str:
        return f"<Numbers next={self._next} in_doubt={sorted(self._in_doubt)}>"

    def copy(self) -> Self:
        """Another that follows on its own."""
        return copy.copy(self)

    @property
    def in_doubt(self) -> frozenset[EventType]:
        """Types of which damage may have taken some."""
        return self._in_doubt

    def doubt(self, types: frozenset[EventType]) -> None:
        """Only these types are in doubt; of the others is known what damage took."""
        self._in_doubt = types

    def see(self, header: Header) -> tuple[Range, ...]:
        """A block comes next; what damage took before it, as far as that is known now."""
        self._enter(header.run)
        missing = []
        following = dict(self._next)
        for kind, first, messages in header.spans:
            expected = following.get(kind, self._default)
            if kind in self._in_doubt and expected is not None and first > expected:
                missing.append(Range(header.run.hex(), int(kind), expected, first - 1, first - expected))
            following[kind] = first + messages
        self._in_doubt -= {span.type for span in header.spans}
        self._next = following
        return tuple(missing)

    def _enter(self, run: bytes) -> None:
        if run == self._run:
            return
        self._default = None if self._run is None else 1
        self._run, self._next = run, {}

    def miss(self, header: Header | None) -> tuple[Range, ...]:
        """A damaged block, or several, come next; what they held, as far as that is known now."""
        if header is None:
            self._in_doubt = frozenset(EventType)
            return ()
        before = self.see(header)
        run = header.run.hex()
        held = (Range(run, int(kind), first, first + count - 1, count) for kind, first, count in header.spans)
        return (*before, *held)
