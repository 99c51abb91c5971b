"""Lines that wait for a commit, and the extent that will describe them. Pure."""

from collections.abc import Callable, Sequence
from typing import Final

from relay.archive.days.event_times import FAR
from relay.archive.ledger import Extent
from relay.archive.log_line import unescape
from relay.syslog import rfc5424
from relay.syslog.lenient.own_batch import OwnBatch
from relay.syslog.rfc5424 import Identity
from relay.values.provenance import Provenance

MAX_OCTETS: Final = 1024 * 1024
MAX_ENTRIES: Final = 1000
"""Identities and marks that an extent lists."""


class ExtentDraft:
    """Consecutive lines of one originator and sender, in the order in which they came."""

    __slots__ = (
        "_by_identity",
        "_decode",
        "_ids",
        "_indexed",
        "_marks",
        "_near",
        "_ranges",
        "_time",
        "first",
        "is_full",
        "last",
        "lines",
        "octets",
        "provenance",
    )

    def __init__(
        self, provenance: Provenance | None, received: int, decode: Callable[[bytes], bytes] = unescape
    ) -> None:
        """`decode` gives the message of a line."""
        self.provenance = provenance
        self._decode = decode
        self.lines: list[bytes] = []
        """As the log has them, without their LFs."""
        self.octets = 0
        """Of all lines with their LFs."""
        self.is_full = False
        """Whether another line belongs to another extent."""
        self.first = self.last = received
        self._time: tuple[int, int] | None = None
        self._near: tuple[float, float] = (float("-inf"), float("inf"))
        """Events beyond these times would make a query for another time read this extent."""
        self._ids: list[tuple[bytes, bytes, list[int]]] = []
        self._ranges: dict[tuple[bytes, bytes], list[int]] = {}
        """The last range of each run and type; it is in `_ids` too."""
        self._marks: list[tuple[int, int, tuple[str, ...]]] = []
        self._indexed = 0
        """Lines that are in `_by_identity`, which only repetitions need."""
        self._by_identity: dict[Identity, list[bytes]] = {}

    def takes(self, time: int | None) -> bool:
        """Whether the next line belongs here, whose event has that time: reading one extent must stay cheap."""
        return not self.is_full and (time is None or self._near[0] <= time <= self._near[1])

    def takes_all(self, own: OwnBatch, octets: int) -> bool:
        """Whether so many octets of lines belong here, and another line may follow."""
        earliest, latest = self._time or (own.earliest, own.latest)
        return (
            not self.is_full
            and self.octets + octets < MAX_OCTETS
            and len(self._ids) + len(own.ranges) < MAX_ENTRIES
            and max(latest, own.latest) - min(earliest, own.earliest) <= FAR
        )

    def add_all(self, lines: Sequence[bytes], octets: int, received: int, own: OwnBatch) -> None:
        """Add what `takes_all` takes, as `add` does for each line."""
        self.lines += lines
        self.octets += octets
        self._note_received(received)
        self._note_time(own.earliest)
        self._note_time(own.latest)
        for run, kind, first, last in own.ranges:
            self._add_range(run, kind, first, last)

    def add(
        self, line: bytes, received: int, time: int | None, identity: Identity | None, marks: tuple[str, ...]
    ) -> None:
        """Add a line; `identity` only when it counts as seen."""
        self.lines.append(line)
        self.octets += len(line) + 1
        if self.octets >= MAX_OCTETS:
            self.is_full = True
        self._note_received(received)
        if time is not None:
            self._note_time(time)
        if identity is not None:
            run, kind, number, part, parts = identity
            if parts == 1:
                self._add_range(run, kind, number, number)
            else:
                self._ids.append((run, kind, [number, number, part, parts]))
                self.is_full = self.is_full or len(self._ids) >= MAX_ENTRIES
        if marks:
            index = len(self.lines) - 1
            if self._marks and self._marks[-1][1] == index - 1 and self._marks[-1][2] == marks:
                self._marks[-1] = (self._marks[-1][0], index, marks)
            else:
                self._marks.append((index, index, marks))
                self.is_full = self.is_full or len(self._marks) >= MAX_ENTRIES

    def _note_received(self, received: int) -> None:
        if received > self.last:
            self.last = received
        elif received < self.first:
            self.first = received

    def _note_time(self, time: int) -> None:
        known = self._time
        if known is None or not known[0] <= time <= known[1]:
            self._time = (time, time) if known is None else (min(known[0], time), max(known[1], time))
            self._near = (self._time[1] - FAR, self._time[0] + FAR)

    def _add_range(self, run: bytes, kind: bytes, first: int, last: int) -> None:
        known = self._ranges.get((run, kind))
        if known is not None and first == known[1] + 1:
            known[1] = last
        else:
            self._ranges[run, kind] = added = [first, last]
            self._ids.append((run, kind, added))
            self.is_full = self.is_full or len(self._ids) >= MAX_ENTRIES

    def messages_with(self, identity: Identity) -> list[bytes]:
        """The messages with this identity."""
        if not self._ids:
            return []
        for line in self.lines[self._indexed :]:
            message = self._decode(line)
            found = rfc5424.identity(message)
            if found is not None:
                self._by_identity.setdefault(found, []).append(message)
        self._indexed = len(self.lines)
        return self._by_identity.get(identity, [])

    def has_another_split(self, identity: Identity) -> bool:
        """Whether it has the number of this identity, whole where this is a part, or in other parts."""
        run, kind, number, part, parts = identity
        own_parts = [] if parts == 1 else [part, parts]
        return any(
            (other_run, other_kind) == (run, kind) and numbers[0] <= number <= numbers[1] and numbers[2:] != own_parts
            for other_run, other_kind, numbers in self._ids
        )

    def data(self) -> bytes:
        """The octets of the log."""
        return b"\n".join((*self.lines, b""))

    def extent(self, offset: int) -> Extent:
        """The extent, where the first line begins at `offset` in the log."""
        sender = self.provenance
        return Extent(
            at=(self.first, self.last),
            sender="" if sender is None else sender.peer,
            identity=None if sender is None else sender.identity or None,
            via="" if sender is None else sender.via,
            off=offset,
            len=self.octets,
            n=len(self.lines),
            time=self._time,
            id=tuple((run.decode(), kind.decode(), *numbers) for run, kind, numbers in self._ids),
            marks={str(first) if first == last else f"{first}-{last}": marks for first, last, marks in self._marks},
        )
