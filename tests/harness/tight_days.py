"""Lives of a store that is too small, under `rotate` and `ignore`; `every_call` makes each call of the disk fail.

This is to these policies what `BadDays` is to `halt`. One source can deliver again; its batch waits under `ignore`. The
other cannot; its events use the reserve, and are refused beyond it. The oracle: every accepted event is delivered, or
counted by its type in a delivered gap event, and under `ignore` no event of the first source is counted. The count
exceeds what was not delivered only by events that were deleted under way and whose proof never came (such an event may
be both, and a gap may be reported twice), and by what was refused when its process ended.
"""

import random
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.bad_days import FOLDER, SERVER, BrokenPromiseError, _Source, _text, gap_event
from harness.fake_disk import Crash, FakeDisk
from relay.errors import RelayError, StorageError
from relay.program.intake import DEFAULT_LIMITS
from relay.spool.block import Block
from relay.spool.commit import Commit, Routing
from relay.spool.cursor import Cursor
from relay.spool.full_disk import Policy
from relay.spool.losses.gap import Gap, reported_gap
from relay.spool.spool import RunSeed
from relay.spool.spool_reader import SpoolReader
from relay.spool.store import Store
from relay.syslog.rfc5424 import parse
from relay.values.event import Batch, Event, EventType

if TYPE_CHECKING:
    from relay.spool.both_spools import BothSpools

ROUTING = Routing(frozenset({EventType.AUDIT, EventType.ALARM, EventType.RELAY}), frozenset({EventType.TRAFFIC}))
WANTED = sum(1 << kind for kind in EventType)
SEGMENT_SIZE = 2048
SEGMENTS = 6
_KINDS = {b"a": EventType.AUDIT, b"t": EventType.TRAFFIC, b"u": EventType.ALARM}
_UNREPEATABLE = 0.5
"""Of all batches."""


@dataclass(slots=True, kw_only=True)
class TightDays:
    """One disk, one policy, and what was promised; call `live_once` any number of times, then `settle`."""

    seed: int
    policy: Policy
    steps: int = 16
    disk: FakeDisk = field(init=False)
    chance: random.Random = field(init=False)
    accepted: int = 0
    """Events that were reported to the source as durable, or counted."""
    unrepeatable: set[bytes] = field(default_factory=set)
    """Texts of the accepted events of the other source."""
    given: int = 0
    """The number of its events."""
    received: set[bytes] = field(default_factory=set)
    """Texts of the events that the collector got."""
    proven: set[bytes] = field(default_factory=set)
    """Texts, and names of gaps, whose arrival was proven."""
    gaps: dict[bytes, Gap] = field(default_factory=dict)
    """By server and number: of two events with one number, which report one gap, the later one has more."""

    def __post_init__(self) -> None:
        self.disk = FakeDisk(self.seed)
        self.chance = random.Random(self.seed * 7919 + 1)

    def live_once(self, life: int, *, power_cut: bool) -> None:
        """Live one life, with the prepared failures; it ends with a power cut or a kill."""
        try:
            with self._open(life, SEGMENTS) as store:
                _Life(self, store).run()
        except (Crash, StorageError):
            self.disk.locked.clear()  # the process has ended
        if power_cut:
            self.disk.crash()
        else:
            self.disk.kill()

    def _open(self, life: int, segments: int) -> Store:
        run = RunSeed((life + 1).to_bytes(8, "big"), b"spool of the day")
        size = segments * SEGMENT_SIZE
        store = Store(self.disk, FOLDER, segment_size=SEGMENT_SIZE, max_size=size, run=run, policy=self.policy)
        position = store.position("audit")
        reached = position.count if position else 0
        if reached < self.accepted:
            raise BrokenPromiseError(f"accepted {self.accepted} events, and the position says {reached}")
        self.accepted = reached
        return store

    def settle(self) -> None:
        """Live a last life with space and without failures; then compare the promises with what arrived."""
        self.disk.fail_at, self.disk.crash_at = {}, 0
        with self._open(99, 10_000) as store:
            life = _Life(self, store)
            for _ in range(3):  # a commit reports the gaps that existed before it
                life.take_in()
                life.deliver(1 << 30)
                life.prove()
            if store.losses.pending():
                raise BrokenPromiseError(f"never reported: {store.losses.pending()}")
        self._judge()

    def _judge(self) -> None:
        expected = {_text(number) for number in range(1, self.accepted + 1)} | self.unrepeatable
        counted = _counted(self.gaps.values())
        twice = _counted(gap for name, gap in self.gaps.items() if name not in self.proven)
        for letter, kind in _KINDS.items():
            missing = {text for text in expected - self.received if text.startswith(letter)}
            both = {text for text in self.received - self.proven if text.startswith(letter)}
            unanswered = self.given - len(self.unrepeatable) if kind is EventType.ALARM else 0
            if self.policy == "ignore" and kind is not EventType.ALARM and (missing or counted[kind]):
                raise BrokenPromiseError(f"{counted[kind]} {kind.label} events were refused that could have waited")
            if not len(missing) <= counted[kind] <= len(missing) + len(both) + twice[kind] + unanswered:
                raise BrokenPromiseError(
                    f"{len(missing)} {kind.label} events did not arrive, {counted[kind]} are counted, "
                    f"and {len(both)} arrived without a proof, as did gaps of {twice[kind]}"
                )


def _counted(gaps: Iterable[Gap]) -> Counter[EventType]:
    counted: Counter[EventType] = Counter()
    for gap in gaps:
        for each in gap.ranges:
            counted[EventType(each.type)] += each.events
    return counted


class _Life:
    """One process: an intake's commits and a destination's sessions, in turns."""

    def __init__(self, days: TightDays, store: Store) -> None:
        self._days = days
        self._store = store
        self._source = _Source(store.position("audit"))
        self._numbers = dict.fromkeys(EventType, 1)
        self._positions = store.positions
        self._commit: Commit | None = None
        self._waiting: Batch | None = None
        """Of the source that can deliver again."""
        self._others: list[bytes] = []
        """Texts of the other source's events in this commit."""
        self._attempts = 0
        self._cursor = store.follow(SERVER, store.cursor(SERVER) or Cursor(), WANTED)
        self._sent: set[bytes] = set()
        self._readers: BothSpools[SpoolReader]
        self._new_session()

    def run(self) -> None:
        chance = self._days.chance
        for _ in range(self._days.steps):
            drawn = chance.random()
            if drawn < 0.75:
                self.take_in()
            elif drawn < 0.95:
                self.deliver(chance.randrange(1, 6))
                if chance.random() < 0.5:
                    self.prove()
            else:
                self._new_session()

    def take_in(self) -> None:
        """Try a commit once; when it fails, it is tried again, waits, or is refused."""
        days = self._days
        commit = self._commit = self._commit or self._next()
        try:
            commit.write(lambda: 1_000_000, reserve=bool(self._others))
        except StorageError as error:
            self._attempts += 1
            if not error.full and self._attempts < DEFAULT_LIMITS.attempts:
                return
            if self._others:
                with suppress(RelayError):  # else the slots cannot be written either
                    commit.refuse()
                    self._answer(commit)
            elif self._waiting is not None:
                self._numbers = commit.reached
                self._waiting = commit.rest_of(self._waiting)
                self._commit, self._attempts = None, 0
            return
        self._positions = commit.positions
        if not self._others:
            days.accepted = max(days.accepted, self._source.given)
            self._waiting = None
        self._answer(commit)

    def _next(self) -> Commit:
        days = self._days
        if days.chance.random() < _UNREPEATABLE:
            days.given += 1
            self._others = [b"u%d" % days.given]
            tail = b' type="alarm"] %b %b' % (self._others[0], b"x" * days.chance.choice((10, 300, 700)))
            batch = Batch([Event(EventType.ALARM, 1, b"<110>1 - h relay - - [128T", tail)], repeatable=False)
        else:
            batch = self._waiting = self._waiting or self._source.give(days.chance)
        return Commit(self._store, ROUTING, [batch], self._numbers, self._positions, gap_event)

    def _answer(self, commit: Commit) -> None:
        self._days.unrepeatable |= set(self._others)
        self._numbers = commit.reached
        self._commit, self._others, self._attempts = None, [], 0

    def _new_session(self) -> None:
        with suppress(StorageError):
            self._store.losses.end_session(SERVER)
        self._sent.clear()
        self._readers = SpoolReader.of_both(self._store.spools, self._cursor.blocks)

    def deliver(self, blocks: int) -> None:
        """Send that many blocks."""
        for _ in range(blocks):
            found = self._store.losses.read(SERVER, self._readers)
            if found is None:
                return
            if not isinstance(found, Block):
                raise BrokenPromiseError(f"damage that no fault made: {found}")
            for kind, _, message in found.messages():
                self._receive(kind, message)

    def _receive(self, kind: EventType, message: bytes) -> None:
        if kind is EventType.RELAY:
            gap = reported_gap(message)
            assert gap is not None
            params = dict(parse(message).structured_data[0].params)
            name = b"%b %b" % (gap.server.encode(), params[b"gap"])
            self._days.gaps[name] = gap
            self._sent.add(name)
            return
        text = message.split(b"] ")[1].split()[0]
        self._sent.add(text)
        self._days.received.add(text)

    def prove(self) -> None:
        """The collector has acknowledged what was sent."""
        retained, transient = self._readers
        reached = Cursor(retained=retained.next_number, transient=transient.next_number, proof="drained")
        try:
            self._store.move_cursor(SERVER, reached)
        except StorageError:
            self._new_session()
            return
        self._cursor = reached
        self._days.proven |= self._sent
        self._sent.clear()
