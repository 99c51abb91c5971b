"""Many short lives of a store on a FakeDisk: intake, spool and delivery, with crashes and failing calls in between.

The oracle: accepted events are delivered at least once, in order; no event has two identities, and no identity two
events; a crash never takes a moved cursor back; a crash leaves torn tails and no damage.
"""

import errno
import functools
import random
from dataclasses import dataclass, field

from harness.fake_disk import Crash, FakeDisk
from relay.errors import StorageError
from relay.events import own_events
from relay.spool.commit import Commit, Routing
from relay.spool.cursor import Cursor
from relay.spool.segments.segment_reader import SpoolDamage
from relay.spool.spool import RunSeed
from relay.spool.spool_reader import SpoolReader
from relay.spool.store import Store
from relay.syslog.rfc5424 import identity
from relay.values.event import Batch, Event, EventType, Position

gap_event = functools.partial(own_events.gap, own_events.Author("h", "h", "", "128T"))
FOLDER = "/state"
SERVER = "server"
ROUTING = Routing(retained=frozenset({EventType.AUDIT}), transient=frozenset({EventType.TRAFFIC}))
FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
POWER_CUTS = 0.6
"""Of all crashes; the others are kills, which leave unsynced writes in memory."""


class BrokenPromiseError(AssertionError):
    """A promise was not kept."""


@dataclass(slots=True, kw_only=True)
class BadDays:
    """One disk and the promises made on it; call `live` once, and `settle` at the end."""

    seed: int
    without: str = ""
    lives: int = 6
    steps: int = 12
    disk: FakeDisk = field(init=False)
    chance: random.Random = field(init=False)
    accepted: int = 0
    """Events that were reported to the source as durable."""
    moved: Cursor = field(default_factory=Cursor)
    received: list[tuple[bytes, bytes]] = field(default_factory=list)
    """(identity, text) as the collector got them."""

    def __post_init__(self) -> None:
        self.disk = FakeDisk(self.seed)
        self.disk.without = self.without
        self.chance = random.Random(self.seed * 7919 + 1)

    def live(self, *, crashes: bool = True, failures: bool = True) -> None:
        """So many lives, each ended by a crash at some call or between two."""
        for life in range(self.lives):
            if crashes:
                self.disk.crash_at = len(self.disk.calls) + self.chance.randrange(1, 60)
            if failures and self.chance.random() < 0.5:
                number = len(self.disk.calls) + self.chance.randrange(1, 40)
                self.disk.fail_at = dict.fromkeys(
                    range(number, number + self.chance.choice((1, 1, 2, 5))), self._errno()
                )
            self.live_once(life, power_cut=crashes and self.chance.random() < POWER_CUTS)

    def live_once(self, life: int, *, power_cut: bool) -> None:
        """Live one life, with the prepared failures; it ends with a power cut or a kill."""
        try:
            self._one_life(life)
        except Crash:
            pass
        except StorageError:
            # Not even opening succeeded: as for a process that ends with that error.
            pass
        if power_cut:
            self.disk.crash()
        else:
            self.disk.kill()

    def _errno(self) -> int:
        return self.chance.choice(FAILURES)

    def _open(self, life: int) -> Store:
        run = RunSeed(self.seed.to_bytes(4, "big") + (life + 1).to_bytes(4, "big"), b"spool of the day")
        return Store(self.disk, FOLDER, segment_size=2048, max_size=1 << 30, run=run)

    def _one_life(self, life: int) -> None:
        store = self._open(life)
        self._check_start(store)
        source = _Source(store.position("audit"))
        commit: Commit | None = None
        numbers = dict.fromkeys(EventType, 1)
        positions = dict(store.retained.positions)
        delivery = _Deliveries(store, self._cursor(store), self.received)
        for _ in range(self.steps):
            if self.chance.random() < 0.6:
                commit = commit or Commit(store, ROUTING, [source.give(self.chance)], numbers, positions, gap_event)
                try:
                    commit.write(lambda: 1_000_000)
                except StorageError:
                    continue  # the intake tries the same commit again
                numbers, positions = commit.reached, commit.positions
                self.accepted = max(self.accepted, source.given)
                commit = None
            else:
                delivery.send(self.chance.randrange(1, 4))
                if self.chance.random() < 0.7:
                    self._prove(store, delivery)
        store.close()

    def _prove(self, store: Store, delivery: "_Deliveries") -> None:
        reached = delivery.reached
        try:
            store.move_cursor(SERVER, reached)
        except StorageError:
            return
        self.moved = reached

    @staticmethod
    def _cursor(store: Store) -> Cursor:
        return store.follow(SERVER, store.cursor(SERVER) or Cursor(), 0b1111_1111)

    def _check_start(self, store: Store) -> None:
        position = store.position("audit")
        reached = position.count if position else 0
        if reached < self.accepted:
            raise BrokenPromiseError(f"accepted {self.accepted} events, and the position says {reached}")
        self.accepted = reached
        for spool in (store.retained, store.transient):
            if spool.recovery.left_alone or spool.recovery.damage:
                raise BrokenPromiseError(f"a crash alone made damage: {spool.recovery}")
        cursor = store.cursor(SERVER) or Cursor()
        if (cursor.retained, cursor.transient) < (self.moved.retained, self.moved.transient):
            raise BrokenPromiseError(f"the cursor was moved to {self.moved}, and is {cursor}")

    def settle(self) -> None:
        """A last life without faults: deliver everything, then hold the promises against what arrived."""
        self.disk.fail_at, self.disk.crash_at = {}, 0
        store = self._open(99)
        self._check_start(store)
        delivery = _Deliveries(store, self._cursor(store), self.received)
        delivery.send(1 << 30)
        store.close()
        self._judge()

    def _judge(self) -> None:
        identity_of: dict[bytes, bytes] = {}
        text_of: dict[bytes, bytes] = {}
        for name, text in self.received:
            if identity_of.setdefault(text, name) != name:
                raise BrokenPromiseError(f"event {text!r} has the identities {identity_of[text]!r} and {name!r}")
            if text_of.setdefault(name, text) != text:
                raise BrokenPromiseError(f"the identity {name!r} names {text_of[name]!r} and {text!r}")
        for kind in (b"a", b"t"):
            # What the transient spool took just before a crash may be delivered before it is accepted.
            accepted = [text for _, text in self.received if int(text[1:]) <= self.accepted]
            first_seen = list(dict.fromkeys(text for text in accepted if text.startswith(kind)))
            expected = [text for text in map(_text, range(1, self.accepted + 1)) if text.startswith(kind)]
            if first_seen != expected:
                missing = sorted(set(expected) - set(first_seen))
                raise BrokenPromiseError(
                    f"accepted {len(expected)} {kind!r}, delivered {len(first_seen)}; missing {missing[:5]}"
                )


def _text(number: int) -> bytes:
    """Event `number` of the source, for ever the same: every third is traffic."""
    return b"%c%d" % (b"t"[0] if number % 3 == 0 else b"a"[0], number)


class _Source:
    """Gives events one after the other, and again from a position."""

    def __init__(self, position: Position | None) -> None:
        self.given = position.count if position else 0

    def give(self, chance: random.Random) -> Batch:
        events = []
        for _ in range(chance.randrange(1, 5)):
            self.given += 1
            text = _text(self.given)
            kind = EventType.TRAFFIC if text.startswith(b"t") else EventType.AUDIT
            padding = b"x" * chance.choice((10, 300, 700))
            tail = b' type="%b"] %b %b' % (kind.label.encode(), text, padding)
            events.append(Event(kind, 1, b"<110>1 - h auditd - - [128T", tail))
        return Batch(events, Position("audit", self.given, b"%d" % self.given))


class _Deliveries:
    """Reads both spools from the cursor on, as a destination's loop does."""

    def __init__(self, store: Store, cursor: Cursor, received: list[tuple[bytes, bytes]]) -> None:
        self._readers = (SpoolReader(store.retained, cursor.retained), SpoolReader(store.transient, cursor.transient))
        self._received = received

    def send(self, blocks: int) -> None:
        for reader in self._readers:
            self._read(reader, blocks)

    def _read(self, reader: SpoolReader, blocks: int) -> None:
        for _ in range(blocks):
            found = reader.read()
            if found is None:
                return
            if isinstance(found, SpoolDamage):
                raise BrokenPromiseError(f"damage that no fault made: {found}")
            for _, _, message in found.messages():
                named = identity(message)
                assert named is not None
                self._received.append(
                    (b"%b %b %d" % (named.run, named.type, named.sequence), message.split(b"] ")[1].split()[0])
                )

    @property
    def reached(self) -> Cursor:
        retained, transient = self._readers
        return Cursor(retained=retained.next_number, transient=transient.next_number, proof="drained")
