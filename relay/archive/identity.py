"""Which events the archive holds: the numbers seen of each originator, run and type. Pure.

relaySeq counts within (run, type), so what was seen is nearly always one interval a run and type, however many events
that is. An event that came in parts (`relayPart="2/5"`) is remembered part by part until it is complete, then as its
number alone.

Every ceiling forgets, and what is forgotten can be stored twice but is never lost; `forgotten` counts:

- intervals of one key (1,024): the lowest goes,
- keys (65,536): the one that was not touched for longest goes, at the next `take`,
- numbers of which only some parts came (4,096): the one that began first goes.

An identity that is not `usable` is none: the message is stored as it comes.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

MAX_INTERVALS = 1024
MAX_KEYS = 65_536
MAX_PARTIAL = 4096
MAX_PARTS = 4096
MAX_NUMBER = 2**63 - 1


class SequenceKey(NamedTuple):
    """Within a key, numbers rise by one."""

    originator: bytes
    run: bytes
    type: bytes


class MessagePart(NamedTuple):
    """One part of a numbered event that is not complete."""

    key: SequenceKey
    number: int
    part: int
    parts: int


class SeenMarks(NamedTuple):
    """What became seen: whole numbers as (first, last) intervals a key, and parts."""

    numbers: tuple[tuple[SequenceKey, tuple[tuple[int, int], ...]], ...] = ()
    parts: tuple[MessagePart, ...] = ()


def usable(number: int, parts: int) -> bool:
    """Whether an identity's numbers are small enough to be kept; a sender may have written anything."""
    return number <= MAX_NUMBER and parts <= MAX_PARTS


class Intervals:
    """A set of integers as sorted, disjoint intervals that do not touch."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __repr__(self) -> str:
        return f"<Intervals {list(self)!r}>"

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        return len(self._firsts)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._firsts, number)
        return place > 0 and number <= self._lasts[place - 1]

    def add(self, number: int) -> bool:
        """False when it was there."""
        lasts = self._lasts
        if lasts and number == lasts[-1] + 1:
            lasts[-1] = number
            return True
        if number in self:
            return False
        self.add_all(number, number)
        return True

    def add_all(self, first: int, last: int) -> None:
        """Add `first` to `last`, whatever of it was there."""
        low = bisect_right(self._lasts, first - 2)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def forget_lowest(self) -> None:
        """Forget the lowest interval."""
        del self._firsts[0], self._lasts[0]


class Seen:
    """All that was seen, and what became seen since the last `take`."""

    def __init__(
        self, *, max_keys: int = MAX_KEYS, max_intervals: int = MAX_INTERVALS, max_partial: int = MAX_PARTIAL
    ) -> None:
        self.forgotten = 0
        self._max_keys = max_keys
        self._max_intervals = max_intervals
        self._max_partial = max_partial
        self._numbers: dict[SequenceKey, Intervals] = {}
        self._partial: dict[tuple[SequenceKey, int], tuple[int, int]] = {}  # → parts, bitmap of those that came
        self._new_numbers: dict[SequenceKey, Intervals] = {}
        self._new_parts: list[MessagePart] = []

    def add(self, key: SequenceKey, number: int, part: int = 1, parts: int = 1) -> bool:
        """Mark as seen; False when it was seen before."""
        numbers = self._numbers.get(key)
        if numbers is None:
            numbers = self._numbers[key] = Intervals()
        if parts == 1:
            if not numbers.add(number):
                return False
            self._finish(key, number, numbers)
            return True
        return number not in numbers and self._add_part(MessagePart(key, number, part, parts), numbers)

    def add_all(self, key: SequenceKey, first: int, last: int) -> None:
        """Mark `first` to `last` as seen."""
        for numbers in (self._numbers.setdefault(key, Intervals()), self._new_numbers.setdefault(key, Intervals())):
            numbers.add_all(first, last)
            self._trim(numbers)

    def restore(self, marks: SeenMarks) -> None:
        """Take in what an earlier `take` or `all` gave; it is not new."""
        for key, intervals in marks.numbers:
            numbers = self._numbers.pop(key, None) or Intervals()
            self._numbers[key] = numbers
            for first, last in intervals:
                numbers.add_all(first, last)
            self._trim(numbers)
        for part in marks.parts:
            self.add(*part)
        self.take()

    def take(self) -> SeenMarks:
        """What became seen since the last call."""
        marks = SeenMarks(_plain(self._new_numbers.items()), tuple(self._new_parts))
        for key in self._new_numbers:
            if key in self._numbers:
                self._numbers[key] = self._numbers.pop(key)
        self._new_numbers = {}
        self._new_parts = []
        while len(self._numbers) > self._max_keys:
            del self._numbers[next(iter(self._numbers))]
            self.forgotten += 1
        return marks

    def all(self) -> SeenMarks:
        """Everything, for a new beginning of a journal; the longest untouched first."""
        parts = (
            MessagePart(key, number, part, parts)
            for (key, number), (parts, came) in self._partial.items()
            for part in range(1, parts + 1)
            if came >> part & 1
        )
        return SeenMarks(_plain(self._numbers.items()), tuple(parts))

    def _finish(self, key: SequenceKey, number: int, numbers: Intervals) -> None:
        new = self._new_numbers.get(key)
        if new is None:
            new = self._new_numbers[key] = Intervals()
        new.add(number)
        if self._partial:
            self._partial.pop((key, number), None)
        if len(numbers) > self._max_intervals:
            self._trim(numbers)

    def _add_part(self, mark: MessagePart, numbers: Intervals) -> bool:
        place = (mark.key, mark.number)
        parts, came = self._partial.get(place, (mark.parts, 0))
        if parts != mark.parts:  # cut anew, at another limit: the old parts say nothing about the new ones
            came = 0
        if came >> mark.part & 1:
            return False
        came |= 1 << mark.part
        if came.bit_count() == mark.parts:
            numbers.add(mark.number)
            self._finish(mark.key, mark.number, numbers)
            return True
        self._partial[place] = (mark.parts, came)
        self._new_parts.append(mark)
        if len(self._partial) > self._max_partial:
            del self._partial[next(iter(self._partial))]
            self.forgotten += 1
        return True

    def _trim(self, numbers: Intervals) -> None:
        while len(numbers) > self._max_intervals:
            numbers.forget_lowest()
            self.forgotten += 1


def _plain(
    numbers: Iterable[tuple[SequenceKey, Intervals]],
) -> tuple[tuple[SequenceKey, tuple[tuple[int, int], ...]], ...]:
    return tuple((key, tuple(intervals)) for key, intervals in numbers if intervals)
