"""One commit of the intake: gives events their numbers and makes them durable, or counts them as refused.

One commit is one block and one fsync in each spool that it touches: the transient spool first, then the retained one
with every position. Within a block the messages of one sender lie together, in their order.

`Commit.write` may be called again after a failure; it does only what is left to be done. A crash between the two fsyncs
leaves the transient spool ahead of the positions: what the source delivers again is skipped.
"""

import itertools
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from relay.spool.block import Contents, Span, type_bitmap
from relay.spool.both_spools import RETAINED, TRANSIENT, BothSpools
from relay.spool.losses.gap import Gap, LostRange
from relay.spool.store import Store
from relay.system.clock import Clock
from relay.system.crash_point import crash_point
from relay.values.event import Batch, Event, EventType, Position
from relay.values.provenance import Provenance

Routing = BothSpools[frozenset[EventType]]
"""The types that each spool takes; a type in neither is not accepted."""

MakeGapEvent = Callable[[int, Gap], Event]
"""Makes the event that reports a gap, at a time in microseconds since the epoch."""

_type_of = operator.itemgetter(0)  # an event's type; quicker than its name, and every event passes here
_type_and_marks_of = operator.itemgetter(0, 4)


def last_numbers(next_numbers: Mapping[EventType, int]) -> dict[EventType, int]:
    """The last number of each type that has one, from the next ones."""
    return {kind: number - 1 for kind, number in next_numbers.items() if number > 1}


class Commit:
    """One commit of these batches; `numbers` are the next number of each type, `positions` those reached before."""

    def __init__(
        self,
        store: Store,
        routing: Routing,
        batches: Sequence[Batch],
        numbers: Mapping[EventType, int],
        positions: Mapping[str, Position],
        gap_event: MakeGapEvent,
    ) -> None:
        self._store = store
        self._gap_event = gap_event
        self._routing = routing
        self._batches = batches
        self._before = dict(numbers)
        self._numbers = dict(numbers)
        self.positions = dict(positions)
        self.refused: Counter[EventType] = Counter()
        self._events: Counter[EventType] = Counter()
        self._reported: list[Gap] = []
        self._contents: list[tuple[int, Contents]] | None = None
        """What is left to be written, by spool, in order."""
        self._durable: frozenset[EventType] = frozenset()
        """The types whose spool has its part."""

    def write(self, clock: Clock, *, reserve: bool = False) -> None:
        """Make everything durable, transient first. After a StorageError the rest is not accepted."""
        # Else events that could not be counted, and are stored now, might be counted after all.
        self._store.slots.discard_failed()
        if self._contents is None:
            self._contents = self._build(clock())
        while self._contents:
            index, contents = self._contents[0]
            self._store.space.append(self._store.spools[index], contents, clock(), reserve=reserve)
            self._durable |= self._routing[index]
            del self._contents[0]
            crash_point("between-the-spools" if self._contents else "committed-not-told")
        self._durable = frozenset(EventType)
        for gap in self._reported:
            self._store.losses.reported(gap)
        self._reported.clear()
        self._store.remember_numbers(last_numbers(self._numbers))

    @property
    def reached(self) -> dict[EventType, int]:
        """The next number of each type, after what is durable."""
        return {kind: (self._numbers if kind in self._durable else self._before)[kind] for kind in EventType}

    @property
    def accepted(self) -> Counter[EventType]:
        """Events of the batches that are durable."""
        return Counter({kind: count for kind, count in self._events.items() if kind in self._durable})

    def rest_of(self, batch: Batch) -> Batch:
        """The batch without the events that are durable."""
        return batch._replace(events=[event for event in batch.events if event.type not in self._durable])

    def refuse(self) -> None:
        """Count the events that are not durable instead of keeping them; StorageError when the count is not durable."""
        numbers, lost = self.reached, []
        taken = self._routing.retained | self._routing.transient
        for batch in self._batches:
            for kind, events in itertools.groupby(self.rest_of(batch).events, _type_of):
                if kind in taken:
                    count = len(list(events))
                    first, numbers[kind] = numbers[kind], numbers[kind] + count
                    lost.append(LostRange(self._store.run.hex(), int(kind), first, numbers[kind] - 1, count))
        if lost:
            self._store.losses.refuse(lost)
        for each in lost:
            self.refused[EventType(each.type)] += each.events
        self._numbers, self._contents, self._durable = numbers, [], frozenset(EventType)
        self._reported.clear()

    def _build(self, now: int) -> list[tuple[int, Contents]]:
        retained, transient = self._routing.map(lambda types: _Draft(types, self._store.run_text))
        drafts = dict.fromkeys(self._routing.transient, transient) | dict.fromkeys(self._routing.retained, retained)
        moved = False
        self._reported = self._store.losses.pending()
        for gap in self._reported:
            retained.add([self._gap_event(now, gap)], self._numbers)
        before = dict(self._numbers)
        for batch in _by_sender(self._batches):
            # Only received messages have marks, and relay's own events are many.
            key = _type_of if batch.provenance is None else _type_and_marks_of
            for _, same in itertools.groupby(self._new_events(batch), key):
                events = list(same)
                draft = drafts.get(events[0].type)
                if draft is not None:
                    draft.add(events, self._numbers, batch.provenance)
            if batch.position is not None:
                self.positions[batch.position.source] = batch.position
                moved = True
        self._events = Counter({kind: number - before[kind] for kind, number in self._numbers.items()})
        positions = tuple(self.positions.values())
        contents = []
        if transient.messages:
            contents.append((TRANSIENT, transient.contents(positions, now)))
        if retained.messages or moved:
            contents.append((RETAINED, retained.contents(positions, now)))
        return contents

    def _new_events(self, batch: Batch) -> Iterable[Event]:
        """The batch without the events that the transient spool's newest block has already."""
        position, transient = batch.position, self._store.transient
        ahead = transient.positions.get(position.source) if position else None
        if position is None or ahead is None:
            return batch.events
        first = position.count - len(batch.events) + 1
        if first > ahead.count:
            return batch.events
        return [
            event
            for count, event in enumerate(batch.events, first)
            if count > ahead.count or not transient.took(event.type)
        ]


def _by_sender(batches: Sequence[Batch]) -> Iterable[Batch]:
    """The batches of each sender in their order, so that a block has few spans; senders as they first appear."""
    grouped: dict[Provenance | None, list[Batch]] = {}
    for batch in batches:
        grouped.setdefault(batch.provenance, []).append(batch)
    return itertools.chain.from_iterable(grouped.values())


class _Draft:
    """A block in the making. Every event passes here, so each nanosecond counts."""

    def __init__(self, types: frozenset[EventType], run: bytes) -> None:
        self._types = types
        self._identity = b' relayRun="%b" relaySeq="' % run
        self.messages: list[bytes] = []
        self._times: list[int] = []
        self._spans: list[Span] = []

    def add(self, events: Sequence[Event], numbers: dict[EventType, int], provenance: Provenance | None = None) -> None:
        """Append events of one sender and of one type and the same marks, at least one, with their numbers."""
        kind, marks, identity = events[0].type, events[0].marks, self._identity
        first, count = numbers[kind], len(events)
        numbers[kind] += count
        last = self._spans[-1] if self._spans else None
        if last is not None and (last.type, last.marks, last.provenance) == (kind, marks, provenance):
            self._spans[-1] = last._replace(messages=last.messages + count)
        else:
            self._spans.append(Span(kind, first, count, provenance, marks))
        _, times, heads, tails, _ = zip(*events, strict=True)
        self._times += times
        if any(tails):
            self.messages += [
                b'%b%b%d"%b' % (head, identity, number, tail) if tail else head
                for head, number, tail in zip(heads, itertools.count(first), tails, strict=False)
            ]
        else:  # received messages
            self.messages += heads

    def contents(self, positions: tuple[Position, ...], now: int) -> Contents:
        """The whole block."""
        return Contents(
            self._spans,
            self.messages,
            positions,
            type_bitmap(list(self._types)),
            min(self._times, default=now),
            max(self._times, default=now),
            max(map(len, self.messages), default=0),
        )
