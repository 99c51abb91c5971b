"""The numbers of relay's events, as intervals. Pure.

relaySeq counts within (run, type), so what was seen is nearly always one interval a run and type, however many events
that is. `relay.archive.writer.seen_identities` remembers them for the archive.

An identity that is not `usable` does not count: the message is stored as it comes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

MAX_PARTS = 4096
MAX_NUMBER = 2**63 - 1


class SequenceKey(NamedTuple):
    """Within a key, numbers rise by one."""

    originator: bytes
    run: bytes
    type: bytes


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

    def follow(self, number: int) -> bool:
        """Add the number after the last one; False, and nothing is done, when it is another one."""
        lasts = self._lasts
        if not lasts or number != lasts[-1] + 1:
            return False
        lasts[-1] = number
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

    def overlapping(self, first: int, last: int) -> list[tuple[int, int]]:
        """The intervals that have a number between `first` and `last`."""
        low, high = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        return list(zip(self._firsts[low:high], self._lasts[low:high], strict=True))

    def forget_lowest(self, count: int = 1) -> None:
        """Forget the lowest intervals."""
        del self._firsts[:count], self._lasts[:count]
