"""Numbers: what is lost of a spool, by the numbers of the events around it. Pure.

Within (run, type) the events of a spool are numbered without a hole, except for refused events. One run follows the
other, and each begins with 1. When only a block's payload is damaged, its header says what the block held. What a block
with a damaged header held is known when the next event of each type comes (`see`). When a type does not come again in
its run, the run's last numbers (`ends`) show it, where they are known. What the first followed blocks held is unknown,
unless they are the spool's first, or the numbers before them are known (`after`).
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

from relay.spool.block import Header
from relay.spool.losses.gap import LostRange
from relay.values.event import EventType


class RunEnd(NamedTuple):
    """A run, and the last number of each type that it gave to one spool."""

    run: bytes
    last: Mapping[EventType, int]


class Numbers:
    """Follows a spool's blocks in order; `ends` are the known ends of its runs, in order."""

    def __init__(self, *, from_the_first: bool = False, ends: Sequence[RunEnd] = ()) -> None:
        self._ends = ends
        self._next: dict[EventType, int] = {}
        """The next number of each type in the run that is followed."""
        self._run: bytes | None = b"" if from_the_first else None
        self._default: int | None = None
        """The next number of a type that is new in this run; None when the run's beginning was not seen."""
        self._in_doubt: frozenset[EventType] = frozenset()

    def __repr__(self) -> str:
        return f"<Numbers next={self._next} in_doubt={sorted(self._in_doubt)}>"

    def follow(self, ends: Sequence[RunEnd]) -> None:
        """Use these ends of the runs from now on."""
        self._ends = ends

    def copy(self) -> Self:
        """An independent copy."""
        return copy.copy(self)

    @classmethod
    def after(cls, reached: RunEnd, ends: Sequence[RunEnd]) -> Self:
        """Continue behind a block before which a run had given these numbers."""
        numbers = cls(ends=ends)
        numbers._run, numbers._default = reached.run, 1
        numbers._next = {kind: last + 1 for kind, last in reached.last.items()}
        return numbers

    @property
    def reached(self) -> RunEnd | None:
        """The numbers up to here; None unless they are known for every type."""
        if self._run is None or self._default is None:
            return None
        return RunEnd(self._run, {kind: number - 1 for kind, number in self._next.items()})

    @property
    def in_doubt(self) -> frozenset[EventType]:
        """Types of which damage may have taken events."""
        return self._in_doubt

    def doubt(self, types: frozenset[EventType]) -> None:
        """Only these types are in doubt: what damage took of the others is known."""
        self._in_doubt = types

    def see(self, header: Header) -> tuple[LostRange, ...]:
        """The next block; returns what damage took before it, as far as that is known now."""
        missing = self._enter(header.run)
        following = dict(self._next)
        for kind, first, messages, *_ in header.spans:
            expected = following.get(kind, self._default)
            if kind in self._in_doubt and expected is not None and first > expected:
                missing.append(LostRange(header.run.hex(), int(kind), expected, first - 1, first - expected))
            following[kind] = first + messages
        self._in_doubt -= {span.type for span in header.spans}
        self._next = following
        return tuple(missing)

    def _enter(self, run: bytes) -> list[LostRange]:
        if run == self._run:
            return []
        missing = self._up_to(run)
        self._default = None if self._run is None else 1
        self._run, self._next = run, {}
        return missing

    def _up_to(self, run: bytes | None) -> list[LostRange]:
        """What the types in doubt lack before that run (None: of all runs), by each run's last numbers."""
        if self._run is None or not self._in_doubt:
            return []
        runs = [end.run for end in self._ends]
        begin = runs.index(self._run) if self._run in runs else 0
        end = runs.index(run) if run in runs else len(runs)
        missing = []
        for each in self._ends[begin:end]:
            for kind in sorted(self._in_doubt & each.last.keys()):
                expected = self._next.get(kind, self._default) if each.run == self._run else 1
                if expected is not None and each.last[kind] >= expected:
                    last = each.last[kind]
                    missing.append(LostRange(each.run.hex(), int(kind), expected, last, last - expected + 1))
        return missing

    def finish(self) -> list[LostRange]:
        """What the types in doubt lack, when no block follows any more."""
        return self._up_to(None)

    def pass_over(self, behind: Iterable[Header]) -> tuple[LostRange, ...]:
        """Blocks are gone, and `behind` follows them; returns what is lost, by the numbers around the hole."""
        ahead = self.copy()
        ahead.doubt(frozenset(EventType))
        missing: list[LostRange] = []
        for header in behind:
            missing += ahead.see(header)
            if not ahead.in_doubt:
                break
        else:
            missing += ahead.finish()
        for each in missing:
            run = bytes.fromhex(each.run)
            if run != self._run:
                self._run, self._default, self._next = run, 1, {}
            self._next = self._next | {EventType(each.type): each.last + 1}
        return tuple(missing)

    def miss(self, header: Header | None) -> tuple[LostRange, ...]:
        """The next blocks are damaged; returns what they held, as far as that is known now."""
        if header is None:
            self._in_doubt = frozenset(EventType)
            return ()
        before = self.see(header)
        run = header.run.hex()
        held = (LostRange(run, int(kind), first, first + count - 1, count) for kind, first, count, *_ in header.spans)
        return (*before, *held)
