"""How much of a spool is behind a block: in messages, octets and time, without reading the spool each time. Pure.

The index notes now and then how many messages and octets come before a block. Between two notes it assumes that all
blocks are alike. It keeps at most `MOST_NOTES`. Then every second one is forgotten, and from then on the distance
between two notes is twice as long. So a large backlog is counted less exactly, by about one part in a thousand.
"""

import bisect
from operator import attrgetter
from typing import Final, NamedTuple

MOST_NOTES: Final = 2048


class Backlog(NamedTuple):
    """What waits."""

    messages: int = 0
    octets: int = 0
    since: int = 0
    """When the oldest of it was committed, or shortly before; microseconds since the epoch, 0 when nothing waits."""

    def plus(self, other: "Backlog") -> "Backlog":
        """Both together."""
        times = [each.since for each in (self, other) if each.since]
        return Backlog(self.messages + other.messages, self.octets + other.octets, min(times, default=0))


class _Note(NamedTuple):
    first: int
    """The first block of a stretch."""
    messages: int
    """Before it."""
    octets: int
    """The same."""
    committed: int
    """When it was committed."""


class BacklogIndex:
    """Of one spool."""

    def __init__(self, first: int, most: int = MOST_NOTES) -> None:
        self._notes: list[_Note] = []
        self._end = _Note(first, 0, 0, 0)
        self._most = most
        self._distance = 1
        """Calls of `add` from one note to the next."""
        self._calls = 0
        """Since the newest note."""

    def add(self, end: int, messages: int, octets: int, committed: int) -> None:
        """Note that so many messages and octets lie in the blocks before `end`, the newest committed at that time."""
        if end <= self._end.first:
            return
        self._calls += 1
        if self._calls >= self._distance or not self._notes:
            self._notes.append(self._end._replace(committed=committed))
            self._calls = 0
        self._end = _Note(end, self._end.messages + messages, self._end.octets + octets, 0)
        if len(self._notes) > self._most:
            self._notes = self._notes[::2]
            self._distance *= 2

    def forget(self, number: int) -> None:
        """Forget what lies before block `number`: nobody will ask for it. The next notes are close again."""
        index = max(bisect.bisect_right(self._notes, number, key=attrgetter("first")) - 1, 0)
        self._notes = self._notes[index:]
        if len(self._notes) < self._most // 4:
            self._distance = 1

    def behind(self, number: int) -> Backlog:
        """What lies in block `number` and later ones."""
        if number >= self._end.first or not self._notes:
            return Backlog()
        index = max(bisect.bisect_right(self._notes, number, key=attrgetter("first")) - 1, 0)
        note, following = self._notes[index], [*self._notes[index + 1 : index + 2], self._end][0]
        share = max(number - note.first, 0) / (following.first - note.first)
        messages = note.messages + share * (following.messages - note.messages)
        octets = note.octets + share * (following.octets - note.octets)
        return Backlog(round(self._end.messages - messages), round(self._end.octets - octets), note.committed)
