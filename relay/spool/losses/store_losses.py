"""What each destination still lacks of both spools, and what is counted because it will never arrive.

- When a segment is deleted undelivered, its events are counted in the gap of each destination that lacks them
  (`count_deleted`), in its slot, before the file goes. Messages that are under way at that moment are in doubt: their
  proof may still come. They are lost when the session, or the process, ends first. A gap event that goes undelivered
  gives its count back to the gap. `relay/spool/full_disk.py` decides which segment goes, and when.
- What damage took is counted once for each destination, when it is known: the same slot says up to which block
  (`read`, `count_deleted`).
- What a new destination will never get, because it begins late, is counted when it begins (`begin`).
- A gap waits in its slot until an event in the spool reports it (`pending`, `reported`).

`types` is a bitmap of event types. Pairs are `BothSpools`; `index` chooses one of the two.
"""

import contextlib
import logging
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from relay.errors import StorageError
from relay.spool.block import Block
from relay.spool.both_spools import BothSpools, later
from relay.spool.cursor import BlockPosition, Cursor, KnownNumbers
from relay.spool.losses.gap import Gap, LostRange, ranges_of, reported_gaps
from relay.spool.losses.numbers import RunEnd
from relay.spool.losses.spool_contents import DeletableSegment, deleted_before, held
from relay.spool.segments.segment_reader import SpoolDamage
from relay.spool.slots import Slots
from relay.spool.spool import Spool
from relay.spool.spool_reader import SpoolReader
from relay.values.event import Position

GAP_KEY: Final = "gap "
IGNORED: Final = ""
"""The server's name of the gap of events that were never accepted."""
TRIED_KEY: Final = "tried"
"""The slot with the chains of blocks whose events were refused."""
REFUSED: Final = "refused for want of space"
LATE: Final = "before this server's beginning"
DAMAGED: Final = "damaged in the spool"
DELETED: Final = "missing from the spool (files were deleted or emptied)"
ROTATED: Final = "deleted by disk-full-action rotate"
FREED_SPACE: Final = "deleted to free space, because this server is not required"

_log = logging.getLogger("relay.spool")


def refused_chains(slots: Slots) -> frozenset[bytes]:
    """The chains of blocks whose events were refused and counted before the start."""
    try:
        return frozenset(map(bytes.fromhex, msgspec.json.decode(slots.get(TRIED_KEY) or b"[]", type=list[str])))
    except (msgspec.MsgspecError, ValueError):
        return frozenset()


_NOT_SENT: Final = BothSpools(0, 0)


def _nothing_passed() -> BothSpools[dict[int, RunEnd]]:
    return BothSpools({}, {})


@dataclass(slots=True)
class _FollowedDestination:
    """A destination that is delivered to."""

    cursor: Cursor
    types: int
    required: bool
    sent: BothSpools[int] = _NOT_SENT
    """The block up to which its session has sent."""
    passed: BothSpools[dict[int, RunEnd]] = field(default_factory=_nothing_passed)
    """The numbers before the blocks that its session has read and not proven, by block."""


class StoreLosses:
    """Knows the destinations and their gaps. Safe to use from several threads."""

    def __init__(self, slots: Slots, changed: threading.Condition, spools: BothSpools[Spool]) -> None:
        self._slots = slots
        self._changed = changed
        self.spools = spools
        self.counting = threading.RLock()
        """Held while something is counted or taken back, and while a destination reads a block and says so: else
        two threads would undo each other's counts."""
        self.lost: Counter[str] = Counter()
        """Events that a destination lost since the start by damage, or because somebody deleted files."""
        self.reported_events: Counter[str] = Counter()
        """Lost events that gap events have reported since the start, by destination; "" is of all destinations."""
        self._followed: dict[str, _FollowedDestination] = {}
        ends = spools.map(lambda spool: spool.next_number)
        servers = [key.removeprefix(GAP_KEY) for key in slots.keys() if key.startswith(GAP_KEY)]  # noqa: SIM118  a method of ours, not a dict's
        self._gaps = {server: Gap.decode(slots.get(GAP_KEY + server) or b"", server).within(ends) for server in servers}
        self._unstored: set[str] = set()
        """Servers whose gap is newer here than in its slot."""

    # --- Destinations ---

    def follow(self, destination: str, cursor: Cursor, types: int, *, required: bool = True) -> Cursor:
        """Keep what this destination, which gets these types, has not proven; returns where it continues."""
        self.end_session(destination)
        start = cursor.at(later(cursor.reached, self._gap_of(destination).reached))
        with self._changed:
            self._followed[destination] = _FollowedDestination(start, types, required)
        with self.counting:  # files that are missing where it continues are counted at once
            for index, spool in enumerate(self.spools):
                reader = SpoolReader(spool, start.blocks[index])
                reader.begin_at(start.blocks[index], self._numbers_at(destination, index, start.blocks[index]))
                if reader.at_hole and (item := reader.read()) is not None:
                    self._count_unread(destination, index, reader, item)
            return start.at(later(start.reached, self._gap_of(destination).reached))

    def _numbers_at(self, destination: str, index: int, number: int) -> RunEnd | None:
        """The numbers before a destination's next block, when that is `number` and its cursor has them."""
        cursor = self._followed[destination].cursor
        known = cursor.numbers[index] if cursor.blocks[index] == number else None
        return known.end() if known else None

    def rename(self, former: str, name: str) -> None:
        """What is counted for a destination belongs to another name from now on; gap numbers continue under both."""
        with self.counting:
            old, own = self._gap_of(former), self._gap_of(name)
            joined = old.add(own.cause, own.ranges) if own.ranges else old
            if old != Gap(server=former) or own != Gap(server=name):
                number, unnamed = max(old.number, own.number), old.unnamed + own.unnamed
                self._store(msgspec.structs.replace(joined, server=name, number=number, unnamed=unnamed))
                self._store(Gap(server=former, number=old.number))
            with self._changed:
                self._followed.pop(former, None)

    def leave(self, destination: str) -> None:
        """Keep nothing for a destination that is not delivered to any more."""
        self.end_session(destination)
        with self._changed:
            self._followed.pop(destination, None)

    def begin(self, destination: str, start: Cursor, types: int) -> None:
        """Count what a new destination will never get, because it begins there: once, even if this is called again."""
        with self.counting:
            gap = late = self._gap_of(destination)
            for spool, (counted, _), first in zip(self.spools, gap.reached, start.blocks, strict=True):
                late = late.add(LATE, held(spool, counted, first, types))
                if not counted:
                    late = late.add(LATE, deleted_before(spool, types))
            if late.events > gap.events:
                firsts = start.blocks.map(lambda first: (first, 0))
                reached = later(gap.reached, firsts)
                self._store(late.at(reached))

    def read(
        self, destination: str, readers: BothSpools[SpoolReader], *, only: int | None = None
    ) -> Block | SpoolDamage | None:
        """The destination's next block, which is then under way: a proof follows, or `end_session`.

        `only`: read this one of the two spools. What was counted before is not read any more. It is exact to the block
        which messages are under way: the deletion of segments depends on it.
        """
        with self.counting:
            followed = self._followed[destination]
            reached = later(followed.cursor.reached, self._gap_of(destination).reached)
            for index, (reader, (number, _)) in enumerate(zip(readers, reached, strict=True)):
                if only is not None and index != only:
                    continue
                reader.skip_to(number)
                if not reader.begun:
                    reader.begin_at(number, self._numbers_at(destination, index, number))
                while (item := reader.read()) is not None:
                    self._count_unread(destination, index, reader, item)
                    if reader.reached is not None:
                        followed.passed[index][reader.next_number] = reader.reached
                    if isinstance(item, Block) or not item.gone:
                        followed.sent = readers.map(lambda each: each.next_number)
                        return item
        return None

    def with_numbers(self, destination: str, cursor: Cursor) -> Cursor:
        """The cursor with the numbers before its blocks, as far as these are known."""
        with self.counting:
            followed = self._followed.get(destination)
            if followed is None:
                return cursor
            numbers: list[KnownNumbers | None] = []
            for index, number in enumerate(cursor.blocks):
                passed, before = followed.passed[index], followed.cursor
                stored = before.numbers[index] if before.blocks[index] == number else None
                numbers.append(KnownNumbers.of(passed[number]) if number in passed else stored)
                for proven in [each for each in passed if each < number]:
                    del passed[proven]
        return cursor.with_numbers(BothSpools(*numbers))

    def end_session(self, destination: str) -> None:
        """A session ended: what was deleted while it was under way is lost."""
        with self.counting:
            followed = self._followed.get(destination)
            if followed is not None:
                followed.sent, followed.passed = _NOT_SENT, _nothing_passed()
            gap = self._gaps.get(destination)
            if gap is not None and gap.in_doubt:
                self._store(msgspec.structs.replace(gap.add(ROTATED, gap.in_doubt), in_doubt=()))

    def moved(self, destination: str, cursor: Cursor) -> None:
        """Note a proof; a proof of everything that was sent also proves what is in doubt."""
        with self.counting:
            gap, followed = self._gaps.get(destination), self._followed.get(destination)
            sent = followed.sent if followed else _NOT_SENT
            whole = all(block >= end for block, end in zip(cursor.blocks, sent, strict=True))
            if gap is not None and gap.in_doubt and whole:
                self._store(msgspec.structs.replace(gap, in_doubt=()))
            with self._changed:
                if followed:
                    followed.cursor = cursor
                else:
                    self._followed[destination] = _FollowedDestination(cursor, 0, required=True)

    @property
    def all_required(self) -> bool:
        """Whether every destination is."""
        with self._changed:
            return all(each.required for each in self._followed.values())

    def proven(self, *, required: bool = False) -> BothSpools[int]:
        """The block of each spool before which every destination, or every required one, has proven all."""
        with self._changed:
            blocks = [each.cursor.blocks for each in self._followed.values() if each.required or not required]
            all_of_it = sys.maxsize if required and self._followed else 0  # only destinations that are not required
        return BothSpools(
            min((each.retained for each in blocks), default=all_of_it),
            min((each.transient for each in blocks), default=all_of_it),
        )

    # --- Counting ---

    def count_deleted(self, index: int, oldest: DeletableSegment, cause: str) -> None:
        """Count what each destination loses when a spool's oldest segment is deleted; call it with `counting` held."""
        for destination in list(self._followed):
            self._count_deleted_of(destination, index, oldest, cause)

    def _count_deleted_of(self, destination: str, index: int, oldest: DeletableSegment, cause: str) -> None:
        followed = self._followed[destination]
        gap, types = self._gap_of(destination), followed.types
        damaged = [each for number, each in oldest.damaged if number > gap.damaged[index] and types >> each.type & 1]
        counted = max(gap.damaged[index], *(number for number, _ in oldest.damaged), 0)
        gap = (gap.add(DAMAGED, damaged) if damaged else gap).with_damage(gap.damaged.exchange(index, counted))
        reached: BlockPosition = max(followed.cursor.reached[index], gap.reached[index])
        if reached[0] >= oldest.following:
            return  # and with it all that it lacked by damage
        lost: list[LostRange] = []
        under_way: list[LostRange] = []
        for number, message, reported in oldest.gaps:
            if (number, message) >= reached and reported.server in {destination, IGNORED}:
                # The event that reported it goes too, so its count begins anew.
                ranges = under_way if number < followed.sent[index] else lost
                ranges += [each for each in reported.ranges if types >> each.type & 1]
                gap = msgspec.structs.replace(gap, unnamed=gap.unnamed + reported.unnamed)
        for header in oldest.blocks:
            if header.number >= reached[0]:
                done = reached[1] if header.number == reached[0] else 0
                ranges = under_way if header.number < followed.sent[index] else lost
                ranges += ranges_of(header, types, done)
        gap = gap.doubt(under_way) if under_way else gap
        gap = gap.add(cause, lost) if lost else gap
        self._store(gap.at(gap.reached.exchange(index, (oldest.following, 0))))

    def lose(self, destination: str, cause: str, lost: Iterable[LostRange], reached: Cursor) -> None:
        """Count a loss of this destination, durably; StorageError when that failed too.

        The same write says that what is before `reached` is done: a crash before the cursor has moved there neither
        delivers nor counts it again.
        """
        with self.counting:
            gap = self._gap_of(destination).add(cause, lost)
            self._store(gap.at(later(gap.reached, reached.reached)))

    def _count_unread(self, destination: str, index: int, reader: SpoolReader, item: Block | SpoolDamage) -> None:
        """Count what this destination's reader's last `read` found to be lost, durably, unless it is counted."""
        gap, types = self._gap_of(destination), self._followed[destination].types
        lost = [each for each in reader.missing if types >> each.type & 1]
        if isinstance(item, SpoolDamage) and item.gone:
            events = "; ".join(f"{each.label} {each.first} to {each.last} of run {each.run}" for each in lost)
            what = f"lost and counted: {events}" if events else "nothing is known to be lost"
            blocks = f"blocks {item.first} to {item.last} of {item.path}"
            _log.error("%s: %s: %s; %s", destination, blocks, item.cause, what)
            gap = (gap.add(DELETED, lost) if lost else gap).at(gap.reached.exchange(index, (item.last + 1, 0)))
            self._store(gap.with_damage(gap.damaged.exchange(index, item.last + 1)))
        elif lost and reader.next_number > gap.damaged[index]:
            self._store(gap.add(DAMAGED, lost).with_damage(gap.damaged.exchange(index, reader.next_number)))
        else:
            return
        self.lost[destination] += sum(each.events for each in lost)

    def _gap_of(self, destination: str) -> Gap:
        return self._gaps.get(destination) or Gap(server=destination)

    def refuse(self, lost: Iterable[LostRange]) -> None:
        """Count events that are not accepted. What is on disk of them must not count as accepted after a restart."""
        with self.counting:
            tried = [chain.hex() for spool in self.spools for chain in spool.tried]
            if tried:
                self._slots.put(TRIED_KEY, msgspec.json.encode(tried))
            self._store((self._gaps.get(IGNORED) or Gap()).add(REFUSED, lost))

    def refused_positions(self) -> list[Position]:
        """The positions that sources reached with events that an older relay refused, until an event reports them."""
        with self._changed:
            gap = self._gaps.get(IGNORED) or Gap()
        return [Position(source, count, data) for source, (count, data) in gap.positions.items()]

    # --- Reports ---

    def pending(self) -> list[Gap]:
        """The gaps that no event reports yet."""
        if self._unstored:
            with self.counting:
                self._store_the_rest()
        with self._changed:
            return [gap for gap in self._gaps.values() if gap.events]

    def recognise_reports(self, newest: Block) -> None:
        """Note the gaps that the newest block reports: a process that ended right after writing it could not do so."""
        for _, reported in reported_gaps(newest):
            gap = self._gaps.get(reported.server)
            if gap is not None and gap.number == reported.number:
                self.reported(msgspec.structs.replace(reported, positions=gap.positions))

    def reported(self, gap: Gap) -> None:
        """An event reports this gap, durably; losses since it was made remain to be reported.

        A slot that cannot be written now is written with the next commit; a crash before that may repeat the event.
        """
        with self.counting:
            self.reported_events[gap.server] += gap.events
            rest = self._gaps[gap.server].after_report(gap)
            with self._changed:
                self._gaps[gap.server] = rest
            self._unstored.add(gap.server)
            self._store_the_rest()

    def _store(self, gap: Gap) -> None:
        self._slots.put(GAP_KEY + gap.server, gap.encode())
        self._unstored.discard(gap.server)
        with self._changed:
            self._gaps[gap.server] = gap

    def _store_the_rest(self) -> None:
        with contextlib.suppress(StorageError):
            for server in tuple(self._unstored):
                self._store(self._gaps[server])
