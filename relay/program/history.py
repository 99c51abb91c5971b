"""The event history, read from a spool or from an archive, whether or not a process is writing it.

A history is read forward: `events` continues from where the last call ended to the present end, so calling it again
follows the history. `newest` returns the last few events instead, and also continues at the present end. What cannot be
read is reported in between, as `UnreadableStretch`.

- Type: the message's own, when it carries relay's identity; else the spool's type, or `log` in an archive.
- Time: the message's TIMESTAMP. Without one, in a spool the latest time in its block, in an archive the time of the
  message before it, or its day's beginning.
- Order: a spool's is the order of its commits. An archive's is by day of receipt, and within a day by time, as far as
  each originator's order allows. On a day with more than `MAX_MERGED` originators, one comes after the other.

A spool's block is skipped unread when its header rules it out: it has none of the selected types, or is outside the
selected time. Messages of other programs (type `log`) may have any type and any time, so a block with one is read.

Memory does not grow with the history: one block (spool) or message (archive) and 256 KiB for each file that is merged,
and for `newest` the requested number of events.
"""

import heapq
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from operator import itemgetter
from typing import Final, NamedTuple, Protocol

from typing_extensions import override

from relay.archive import query
from relay.archive.read import ArchiveDamage, StoredMessage, read
from relay.errors import NoInputError
from relay.spool.block import Block, Header
from relay.spool.inspection import browse
from relay.spool.inspection.browse import SpoolWalk
from relay.spool.segments.segment_reader import BlockLocation, SpoolDamage
from relay.spool.store import FOLDERS, LOCK
from relay.syslog import outcome, rfc5424
from relay.system.disk import Disk
from relay.values.event import EventType
from relay.values.glob_matcher import GlobMatcher

MAX_MERGED: Final = 64

_LABELS: Final = {kind.label.encode(): kind for kind in EventType}
_PRI: Final = re.compile(rb"<([0-9]{1,3})>")
_NOTICE: Final = 5
_TIME: Final = re.compile(rb"<[0-9]{1,3}>1 ([0-9][!-~]{1,39}) ")


class PastEvent(NamedTuple):
    """One event of the history."""

    time: int
    """Microseconds since the epoch."""
    type: str
    message: bytes


class UnreadableStretch(NamedTuple):
    """A part of the history that cannot be read."""

    path: str
    offset: int
    cause: str


Item = PastEvent | UnreadableStretch
Keyed = tuple[int, Item]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Selects the events that meet every given condition. Of several values of a condition one must match."""

    types: frozenset[str] = frozenset()
    routers: frozenset[bytes] = frozenset()
    """A HOSTNAME, or an SD-PARAM `router`."""
    earliest: int | None = None
    latest: int | None = None
    texts: tuple[bytes, ...] = ()
    """Octets that the message holds."""
    severity: int | None = None
    """This severity (RFC 5424 table 2) and the more severe ones, which have lower numbers."""
    msgids: GlobMatcher | None = None
    fields: tuple[tuple[bytes, GlobMatcher], ...] = ()
    """SD-PARAMs by name, each with a matcher for its value; an event must have all of them."""
    failed: bool = False
    """Only events that report a failure (`relay.syslog.outcome`)."""

    def may_be_in(self, header: Header) -> bool:
        """Whether a block can hold a selected event."""
        present = {span.type for span in header.spans}
        if EventType.LOG in present:
            return True
        if self.types and not any(kind.label in self.types for kind in present):
            return False
        return bool(present) and self._in_span(header.earliest, header.latest)

    def _in_span(self, earliest: int, latest: int) -> bool:
        return (self.earliest is None or latest >= self.earliest) and (self.latest is None or earliest <= self.latest)

    def takes(self, event: PastEvent) -> bool:
        """Whether the event is selected."""
        return (
            (not self.types or event.type in self.types)
            and (not self.texts or any(text in event.message for text in self.texts))
            and self._in_span(event.time, event.time)
            and (self.severity is None or _severity(event.message) <= self.severity)
            and (not self.routers or any(_is_of(router, event.message) for router in self.routers))
            and (not (self.msgids or self.fields or self.failed) or self._takes_parsed(event.message))
        )

    def _takes_parsed(self, octets: bytes) -> bool:
        try:
            message = rfc5424.parse(octets)
        except rfc5424.NotRfc5424Error:
            return False
        return (
            (self.msgids is None or self.msgids((message.msgid or b"").decode("ascii")))
            and all(_has(message, name, matches) for name, matches in self.fields)
            and (not self.failed or outcome.failed(message))
        )


def _severity(message: bytes) -> int:
    """From its PRI; notice without one (RFC 3164 section 4.3.3)."""
    priority = _PRI.match(message)
    return int(priority[1]) & 7 if priority else _NOTICE


def _has(message: rfc5424.Message, name: bytes, matches: GlobMatcher) -> bool:
    return any(
        found == name and matches(value.decode())
        for element in message.structured_data
        for found, value in element.params
    )


def _is_of(router: bytes, message: bytes) -> bool:
    if router not in message and rfc5424.escape_value(router) not in message:
        return False
    if rfc5424.hostname(message) == router:
        return True
    try:
        elements = rfc5424.parse(message).structured_data
    except rfc5424.NotRfc5424Error:
        return False
    return any((b"router", router) in element.params for element in elements)


class Names(NamedTuple):
    """The names in a message that a filter can use."""

    routers: frozenset[str] = frozenset()
    msgids: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()


def names_in(octets: bytes) -> Names:
    """The names in a message; empty unless it is RFC 5424."""
    try:
        message = rfc5424.parse(octets)
    except rfc5424.NotRfc5424Error:
        return Names()
    params = [param for element in message.structured_data for param in element.params]
    routers = [message.hostname or b"", *(value for name, value in params if name == b"router")]
    return Names(
        frozenset(router.decode() for router in routers if router),
        frozenset([message.msgid.decode()] if message.msgid else []),
        frozenset(name.decode() for name, _ in params),
    )


def _past_event(message: bytes, kind: EventType, time: int) -> PastEvent:
    """The event with the time and type that the message has, or else these."""
    match = _TIME.match(message)
    if match is not None:
        with suppress(ValueError):
            time = rfc5424.microseconds(match[1])
    if kind is EventType.LOG and (identity := rfc5424.identity(message)) is not None:
        kind = _LABELS.get(identity.type, kind)
    return PastEvent(time, kind.label, message)


class History(Protocol):
    """A history that is read forward."""

    def events(self) -> Iterator[Item]:
        """The selected events from where the last call ended to the present end."""

    def newest(self, limit: int) -> Iterator[Item]:
        """The newest `limit` selected events, oldest first; `events` then continues at the present end."""


# --- A spool's ---


class SpoolHistory(History):
    """The history of a state directory: both of its spools."""

    def __init__(self, disk: Disk, state_directory: str, event_filter: EventFilter) -> None:
        require_state(disk, state_directory)
        self._disk = disk
        self._filter = event_filter
        self._folders = [f"{state_directory}/{name}" for name in FOLDERS]
        self._walks = [SpoolWalk(disk, folder) for folder in self._folders]

    @override
    def events(self) -> Iterator[Item]:
        for _, item in heapq.merge(*map(self._forward, self._walks), key=itemgetter(0)):
            yield item

    @override
    def newest(self, limit: int) -> Iterator[Item]:
        ends = [browse.end_of(self._disk, folder) for folder in self._folders]
        self._walks = [SpoolWalk(self._disk, folder, end) for folder, end in zip(self._folders, ends, strict=True)]
        last = [self._last(folder, end, limit) for folder, end in zip(self._folders, ends, strict=True) if end]
        items = [item for _, item in heapq.merge(*last, key=itemgetter(0))]
        yield from (item for item in items if isinstance(item, UnreadableStretch))
        yield from [item for item in items if isinstance(item, PastEvent)][-limit or len(items) :]

    def _forward(self, walk: SpoolWalk) -> Iterator[Keyed]:
        """The following events of one spool, keyed by commit time. The key never decreases, whatever the clock did."""
        reached = 0
        while (found := walk.read(self._filter.may_be_in)) is not None:
            if isinstance(found, Block):
                reached = max(reached, found.header.committed)
            for item in self._items(walk.folder, found):
                yield reached, item

    def _last(self, folder: str, end: BlockLocation, limit: int) -> list[Keyed]:
        """The last events of one spool, in order."""
        blocks: list[list[Keyed]] = []
        events = 0
        if limit:
            for found in browse.backwards(self._disk, folder, end, self._filter.may_be_in):
                committed = found.header.committed if isinstance(found, Block) else 0
                items = [(committed, item) for item in self._items(folder, found)]
                blocks.append(items[-limit:])
                events += sum(isinstance(item, PastEvent) for _, item in items)
                if events >= limit:
                    break
        return [keyed for items in reversed(blocks) for keyed in items]

    def _items(self, folder: str, found: Block | SpoolDamage) -> Iterable[Item]:
        if isinstance(found, SpoolDamage):
            return (
                UnreadableStretch(
                    found.path, found.offset, f"{found.cause}; left out: {browse.blocks_text(found.first, found.last)}"
                ),
            )
        try:
            return [
                event
                for kind, _, message in found.messages()
                if self._filter.takes(event := _past_event(message, kind, found.header.latest))
            ]
        except ValueError:
            return (UnreadableStretch(folder, 0, f"block {found.header.number} does not hold framed messages"),)


def require_state(disk: Disk, state_directory: str) -> None:
    """NoInputError unless relay keeps its state there."""
    if not disk.exists(f"{state_directory}/{LOCK}"):
        cause = "relay has kept no state there yet"
        raise NoInputError(state_directory, cause, "start relay, or name its folder with --state DIR or -c FILE")


# --- An archive's ---


class ArchiveHistory(History):
    """The history of an archive. It shows whole frames, also those that the writer has not committed and may take back.

    It follows each originator's newest file, and the files of days that begin.
    """

    def __init__(
        self,
        disk: Disk,
        folder: str,
        event_filter: EventFilter,
        clock: Callable[[], int],
        *,
        max_merged: int = MAX_MERGED,
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._filter = event_filter
        self._clock = clock
        self._max_merged = max_merged
        self._first_day = ""
        if event_filter.earliest is not None:
            self._first_day = query.day_of(event_filter.earliest, before=query.CLOCK_AHEAD_DAYS)
        self._reached: dict[str, tuple[str, int]] = {}
        """Originator → its newest day's file, and how far it is read."""
        self._looked_at = ""
        """The day of the last look; empty before the first."""
        query.require_archive(disk, folder)

    @override
    def events(self) -> Iterator[Item]:
        if self._looked_at:
            yield from self._new()
            return
        names, days = self._begin()
        for day in days:
            yield from self._of_day(day, names)

    @override
    def newest(self, limit: int) -> Iterator[Item]:
        names, days = self._begin()
        unread: list[UnreadableStretch] = []
        newest: list[PastEvent] = []
        for day in reversed(days):
            newest = self._last_of_day(day, names, limit - len(newest), unread) + newest
            if len(newest) >= limit:
                break
        yield from unread
        yield from newest

    def _begin(self) -> tuple[list[str], list[str]]:
        """The originators and the days to read; where each originator's newest file ends now is noted."""
        self._looked_at = query.day_of(self._clock())
        names = query.originators(self._disk, self._folder)
        found: set[str] = set()
        for name in names:
            days = query.days_of(self._disk, self._folder, name)
            found.update(days)
            if days:
                self._reached[name] = (days[-1], self._size(name, days[-1]))
        return names, sorted(day for day in found if day >= self._first_day)

    def _size(self, name: str, day: str) -> int:
        return query.size(query.path_of(self._folder, name, day))

    def _of_day(self, day: str, names: list[str]) -> Iterator[Item]:
        """One day of every originator, merged by time where they are not too many."""
        streams = [self._keyed(name, day) for name in names if self._size(name, day)]
        if len(streams) > self._max_merged:
            return (item for stream in streams for _, item in stream)
        return (item for _, item in heapq.merge(*streams, key=itemgetter(0)))

    def _last_of_day(self, day: str, names: list[str], limit: int, unread: list[UnreadableStretch]) -> list[PastEvent]:
        """The day's newest events, in order; memory for so many."""
        order = count()
        heap: list[tuple[int, int, PastEvent]] = []
        for key, item in (keyed for name in names for keyed in self._keyed(name, day)):
            if isinstance(item, UnreadableStretch):
                unread.append(item)
            elif len(heap) < limit:
                heapq.heappush(heap, (key, next(order), item))
            elif heap and key >= heap[0][0]:
                heapq.heapreplace(heap, (key, next(order), item))
        return [event for _, _, event in sorted(heap)]

    def _keyed(self, name: str, day: str, start: int = 0) -> Iterator[Keyed]:
        """The selected messages of one file, keyed by a time that never decreases.

        Of the originator's newest file it is kept how far it is read, which is before a frame that is not whole yet.
        """
        path = query.path_of(self._folder, name, day)
        newest, end = self._reached.get(name, ("", 0))
        is_newest = newest == day
        key = time = query.begin_of(day)
        offset = start
        for found in _frames(path, start, end if is_newest else self._size(name, day)):
            if isinstance(found, StoredMessage):
                offset = found.offset + len(b"%d  " % len(found.message)) + len(found.message)
                event = _past_event(found.message, EventType.LOG, time)
                time = event.time
                key = max(key, time)
                if self._filter.takes(event):
                    yield key, event
            elif not (found.at_end and is_newest):
                offset = found.offset + found.length
                yield key, UnreadableStretch(path, found.offset, f"{found.length} octets are not a message")
        if is_newest:
            self._reached[name] = (day, offset)

    def _new(self) -> Iterator[Item]:
        """What the files have got since the last look."""
        today = query.day_of(self._clock())
        since = query.days_since(self._looked_at, today)
        for name in query.originators(self._disk, self._folder):
            day, offset = self._reached.get(name, ("", 0))
            # Looked for before the older file is read to its end: nothing is added there once a newer one has begun.
            newer = since if day else query.days_of(self._disk, self._folder, name)
            newer = [later for later in newer if later > day and self._size(name, later)]
            if day:
                yield from self._grown(name, day, offset)
            for later in newer:
                yield from self._grown(name, later, 0)
        self._looked_at = today

    def _grown(self, name: str, day: str, offset: int) -> Iterator[Item]:
        size = self._size(name, day)
        self._reached[name] = (day, size)  # less than `offset` when its writer has cut what it had not committed
        return (item for _, item in self._keyed(name, day, min(offset, size)))


def _frames(path: str, start: int, end: int) -> Iterator[StoredMessage | ArchiveDamage]:
    """The file's frames; none when it has been deleted since it was listed."""
    if start >= end:
        return
    try:
        yield from read(path, start, end)
    except NoInputError:
        if query.size(path):
            raise
