"""What each destination still lacks of both spools, and what is counted because it will never arrive.

- What a segment holds that is deleted undelivered is counted in the gap of each destination that lacks it
  (`count_deleted`), in its slot, before the file goes. What is under way at that moment is in doubt: the proof of it
  may still come; when its session ends first, or the process, it is lost. A gap event that goes undelivered gives its
  count back to the gap. Which segment goes, and when, is for `relay/spool/full_disk.py`.
- What damage took is counted once for each destination, when it is known: the same slot says up to which block
  (`read`, `count_deleted`).
- What a new destination will never get, since it begins late, is counted when it begins (`begin`).
- A gap waits in its slot until it stands in the spool as an event (`pending`, `told`).
"""

import contextlib
import itertools
import logging
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from relay.errors import StorageError
from relay.spool.block import Block
from relay.spool.cursor import Cursor, KnownNumbers
from relay.spool.losses.gap import Gap, LostRange, ranges_of
from relay.spool.losses.numbers import RunEnd
from relay.spool.segments.segment_reader import SpoolDamage
from relay.spool.slots import Slots
from relay.spool.spool import DeletableSegment, Spool, reported_gaps
from relay.spool.spool_reader import SpoolReader
from relay.values.event import EventType, Position

GAP_KEY: Final = "gap "
IGNORED: Final = ""
"""The server's name of the gap of events that were never taken in."""
TRIED_KEY: Final = "tried"
"""Under it stand the chains of blocks whose events were refused."""
REFUSED: Final = "refused for want of space"
LATE: Final = "before this server's beginning"
DAMAGED: Final = "damaged in the spool"
DELETED: Final = "missing from the spool (files were deleted or emptied)"
ROTATED: Final = "deleted by disk-full-action rotate"
MADE_ROOM: Final = "deleted to make room, since this server is not required"

_log = logging.getLogger("relay.spool")


class _FollowedDestination(NamedTuple):
    """A destination that is delivered to."""

    cursor: Cursor
    wanted: int
    """The types that it gets, as a bitmap."""
    required: bool


class StoreLosses:
    """Knows the destinations and their gaps. Safe to use from several threads."""

    def __init__(self, slots: Slots, changed: threading.Condition) -> None:
        self._slots = slots
        self._changed = changed
        self.counting = threading.RLock()
        """Held while something is counted or taken back, and while a destination reads a block and says so: else
        two threads would undo each other's counts."""
        self._spools: tuple[Spool, ...] = ()
        self._followed: dict[str, _FollowedDestination] = {}
        self._reached: dict[str, tuple[dict[int, RunEnd], dict[int, RunEnd]]] = {}
        """The numbers before the blocks of each spool that a destination's session has come to, and not proven."""
        self.lost: Counter[str] = Counter()
        """Events that damage, or somebody who deleted files, took from a destination: those found since the start."""
        self._sent: dict[str, tuple[int, int]] = {}
        """Up to which block of each spool a destination's session has sent."""
        self._gaps = {
            key.removeprefix(GAP_KEY): Gap.decode(slots.get(key) or b"", key.removeprefix(GAP_KEY))
            for key in slots.keys()  # noqa: SIM118  a method of ours, not a dict's
            if key.startswith(GAP_KEY)
        }
        self._unkept: set[str] = set()
        """Servers whose gap is newer here than in its slot."""
        self.refused_chains = _chains(slots.get(TRIED_KEY))
        """Of blocks whose events were refused, and counted, before the start."""

    @property
    def spools(self) -> tuple[Spool, ...]:
        """The retained one, and the transient one."""
        return self._spools

    @property
    def retained(self) -> Spool:
        """The spool that keeps what is proven for a while."""
        return self._spools[0]

    @property
    def transient(self) -> Spool:
        """The spool that does not."""
        return self._spools[1]

    def serve(self, retained: Spool, transient: Spool) -> None:
        """Begin, with the spools that are now open."""
        self._spools = (retained, transient)
        ends = (retained.next_number, transient.next_number)
        self._gaps = {server: gap.within(*ends) for server, gap in self._gaps.items()}

    # --- Destinations ---

    def follow(self, destination: str, cursor: Cursor, wanted: int, *, required: bool = True) -> Cursor:
        """Keep what this destination has not proven; where it goes on (a bitmap tells the types it gets)."""
        self.give_up(destination)
        counted = self._gap_of(destination)
        start = cursor.at(
            max(cursor.reached_retained, counted.reached_retained),
            max(cursor.reached_transient, counted.reached_transient),
        )
        with self._changed:
            self._followed[destination] = _FollowedDestination(start, wanted, required)
        return self._pass_holes(destination, start)

    def _pass_holes(self, destination: str, start: Cursor) -> Cursor:
        """Count at once what is missing where a destination goes on; where it then goes on."""
        with self.counting:
            for spool, number in zip(self._spools, (start.retained, start.transient), strict=True):
                reader = SpoolReader(spool, number)
                reader.begin_at(number, self._known(destination, spool, number))
                if reader.at_hole and (item := reader.read()) is not None:
                    self._count_lost(destination, reader, item)
            gap = self._gap_of(destination)
        return start.at(
            max(start.reached_retained, gap.reached_retained), max(start.reached_transient, gap.reached_transient)
        )

    def _known(self, destination: str, spool: Spool, number: int) -> RunEnd | None:
        """The numbers before a destination's next block, as its cursor tells them."""
        cursor = self._followed[destination].cursor
        at, known = (
            (cursor.retained, cursor.retained_numbers)
            if spool is self._spools[0]
            else (cursor.transient, cursor.transient_numbers)
        )
        if known is None or at != number:
            return None
        try:
            return RunEnd(
                bytes.fromhex(known.run), {EventType.from_label(label): last for label, last in known.last.items()}
            )
        except (KeyError, ValueError):
            return None

    def rename(self, former: str, name: str) -> None:
        """What is counted for a destination belongs to another name from now on; under either, numbers go on."""
        with self.counting:
            old, own = self._gap_of(former), self._gap_of(name)
            joined = old.add(own.cause, own.ranges) if own.ranges else old
            if old != Gap(server=former) or own != Gap(server=name):
                number, unnamed = max(old.number, own.number), old.unnamed + own.unnamed
                self._keep(msgspec.structs.replace(joined, server=name, number=number, unnamed=unnamed))
                self._keep(Gap(server=former, number=old.number))
            with self._changed:
                self._followed.pop(former, None)
            self._sent.pop(former, None)

    def leave(self, destination: str) -> None:
        """Keep nothing for a destination that is not delivered to any more."""
        self.give_up(destination)
        with self._changed:
            self._followed.pop(destination, None)

    def begin(self, destination: str, start: Cursor, wanted: int) -> None:
        """Count what a new destination will never get, since it begins there: once, even if this is begun again."""
        with self.counting:
            gap = self._gap_of(destination)
            parts = []
            for spool, counted, first in zip(
                self._spools, (gap.retained, gap.transient), (start.retained, start.transient), strict=True
            ):
                parts += [spool.held(counted, first, wanted), spool.gone(wanted) if not counted else ()]
            late = gap.add(LATE, itertools.chain.from_iterable(parts))
            if late.events > gap.events:
                reached = {
                    "retained": max(gap.retained, start.retained),
                    "transient": max(gap.transient, start.transient),
                }
                self._keep(msgspec.structs.replace(late, **reached))

    def read(
        self, destination: str, retained: SpoolReader, transient: SpoolReader, *, only: int | None = None
    ) -> Block | SpoolDamage | None:
        """What is next for a destination, in whose readers' places it is then under way; a proof follows, or `give_up`.

        With `only` it reads one of the two: 0 or 1.

        Whoever makes room must know to the block what is under way; what was counted before is not read any more.
        """
        with self.counting:
            gap = self._gap_of(destination)
            cursor = self._followed[destination].cursor
            places = (max(cursor.retained, gap.retained), max(cursor.transient, gap.transient))
            numbers = self._reached.setdefault(destination, ({}, {}))
            readers = (retained, transient)
            for reader, place, reached in zip(readers, places, numbers, strict=True):
                if only is not None and reader is not readers[only]:
                    continue
                reader.skip_to(place)
                if not reader.begun:
                    reader.begin_at(place, self._known(destination, reader.spool, place))
                while (item := reader.read()) is not None:
                    self._count_lost(destination, reader, item)
                    if reader.reached is not None:
                        reached[reader.next_number] = reader.reached
                    if isinstance(item, Block) or not item.gone:
                        self._sent[destination] = (retained.next_number, transient.next_number)
                        return item
        return None

    def with_numbers(self, destination: str, cursor: Cursor) -> Cursor:
        """The cursor with the numbers before its blocks, as far as these are known."""
        with self.counting:
            retained, transient = self._reached.get(destination, ({}, {}))
            known = self._followed.get(destination)
            before = known.cursor if known else cursor
            numbers = (
                _known_of(retained.get(cursor.retained))
                or (before.retained_numbers if before.retained == cursor.retained else None),
                _known_of(transient.get(cursor.transient))
                or (before.transient_numbers if before.transient == cursor.transient else None),
            )
            for reached, number in ((retained, cursor.retained), (transient, cursor.transient)):
                for proven in [each for each in reached if each < number]:
                    del reached[proven]
        return msgspec.structs.replace(cursor, retained_numbers=numbers[0], transient_numbers=numbers[1])

    def give_up(self, destination: str) -> None:
        """A session ended: what was deleted while it was under way is lost."""
        with self.counting:
            self._sent.pop(destination, None)
            self._reached.pop(destination, None)
            gap = self._gaps.get(destination)
            if gap is not None and gap.in_doubt:
                self._keep(msgspec.structs.replace(gap.add(ROTATED, gap.in_doubt), in_doubt=()))

    def moved(self, destination: str, cursor: Cursor) -> None:
        """Note a proof; what is in doubt is proven by a proof of everything that was sent."""
        with self.counting:
            gap = self._gaps.get(destination)
            sent = self._sent.get(destination, (0, 0))
            whole = cursor.retained >= sent[0] and cursor.transient >= sent[1]
            if gap is not None and gap.in_doubt and whole:
                self._keep(msgspec.structs.replace(gap, in_doubt=()))
            with self._changed:
                known = self._followed.get(destination, _FollowedDestination(cursor, 0, required=True))
                self._followed[destination] = known._replace(cursor=cursor)

    @property
    def all_required(self) -> bool:
        """Whether every destination is."""
        with self._changed:
            return all(each.required for each in self._followed.values())

    def proven(self, *, required: bool = False) -> tuple[int, int]:
        """Up to which block of each spool every destination, or every required one, has proven."""
        with self._changed:
            cursors = [each.cursor for each in self._followed.values() if each.required or not required]
            nothing = sys.maxsize if required and self._followed else 0  # with none that is required, nobody holds
        return min((each.retained for each in cursors), default=nothing), min(
            (each.transient for each in cursors), default=nothing
        )

    # --- Counting ---

    def count_deleted(self, spool: Spool, oldest: DeletableSegment, cause: str) -> None:
        """Count what each destination loses when a spool's oldest segment is deleted; call it with `counting` held."""
        for destination in list(self._followed):
            self._count(destination, oldest, cause, retained=spool is self._spools[0])

    def _count(self, destination: str, oldest: DeletableSegment, cause: str, *, retained: bool) -> None:
        cursor, wanted, _ = self._followed[destination]
        gap = self._with_damage(self._gap_of(destination), retained, oldest, wanted)
        reached, part = (
            max(cursor.reached_retained, gap.reached_retained)
            if retained
            else max(cursor.reached_transient, gap.reached_transient)
        )
        if reached >= oldest.following:
            return  # and with it all that it lacked by damage
        sent = self._sent.get(destination, (0, 0))[0 if retained else 1]
        lost: list[LostRange] = []
        under_way: list[LostRange] = []
        for number, index, told in oldest.gaps:
            if (number, index) >= (reached, part) and told.server in {destination, IGNORED}:
                # The event that told of it goes too, so its count begins anew.
                (under_way if number < sent else lost).extend(each for each in told.ranges if wanted >> each.type & 1)
                gap = msgspec.structs.replace(gap, unnamed=gap.unnamed + told.unnamed)
        for header in oldest.blocks:
            if header.number >= reached:
                done = part if header.number == reached else 0
                (under_way if header.number < sent else lost).extend(ranges_of(header, wanted, done))
        counted = gap.doubt(under_way) if under_way else gap
        counted = counted.add(cause, lost) if lost else counted
        name = "retained" if retained else "transient"
        place = {name: oldest.following, f"{name}_part": 0}
        self._keep(msgspec.structs.replace(counted, **place))

    @staticmethod
    def _with_damage(gap: Gap, retained: bool, oldest: DeletableSegment, wanted: int) -> Gap:  # noqa: FBT001  which of two spools
        """The gap with what damage took of a segment, as far as it is not counted yet."""
        counted = gap.damaged_retained if retained else gap.damaged_transient
        lost = [each for number, each in oldest.damaged if number > counted and wanted >> each.type & 1]
        reached = max(counted, *(number for number, _ in oldest.damaged), 0)
        return _damage_counted(gap.add(DAMAGED, lost) if lost else gap, reached, retained=retained)

    # --- Gaps ---

    def lose(self, destination: str, cause: str, lost: Iterable[LostRange], reached: Cursor) -> None:
        """Count a loss of this destination, durably; StorageError when that failed too.

        The same write says that what is before `reached` is done with: a crash before the cursor has moved there
        neither delivers nor counts it again.
        """
        with self.counting:
            gap = self._gap_of(destination).add(cause, lost)
            retained, retained_part = max(gap.reached_retained, reached.reached_retained)
            transient, transient_part = max(gap.reached_transient, reached.reached_transient)
            self._keep(
                msgspec.structs.replace(
                    gap,
                    retained=retained,
                    retained_part=retained_part,
                    transient=transient,
                    transient_part=transient_part,
                )
            )

    def _count_lost(self, destination: str, reader: SpoolReader, item: Block | SpoolDamage) -> None:
        """Count what this destination's reader's last `read` found to be lost, durably, unless it is counted."""
        retained = reader.spool is self._spools[0]
        gap = self._gap_of(destination)
        wanted = self._followed[destination].wanted
        lost = [each for each in reader.missing if wanted >> each.type & 1]
        if isinstance(item, SpoolDamage) and item.gone:
            self._log_missing(destination, item, lost)
            name = "retained" if retained else "transient"
            place = {name: item.last + 1, f"{name}_part": 0}
            gap = msgspec.structs.replace(gap.add(DELETED, lost) if lost else gap, **place)
            self._keep(_damage_counted(gap, item.last + 1, retained=retained))
        elif lost and reader.next_number > (gap.damaged_retained if retained else gap.damaged_transient):
            self._keep(_damage_counted(gap.add(DAMAGED, lost), reader.next_number, retained=retained))
        else:
            return
        self.lost[destination] += sum(each.events for each in lost)

    @staticmethod
    def _log_missing(destination: str, item: SpoolDamage, lost: Iterable[LostRange]) -> None:
        events = "; ".join(f"{each.label} {each.first} to {each.last} of run {each.run}" for each in lost)
        what = f"lost and counted: {events}" if events else "nothing is known to be lost"
        _log.error("%s: blocks %d to %d of %s: %s; %s", destination, item.first, item.last, item.path, item.cause, what)

    def _gap_of(self, destination: str) -> Gap:
        return self._gaps.get(destination) or Gap(server=destination)

    def refuse(self, lost: Iterable[LostRange]) -> None:
        """Count events that are not taken in."""
        with self.counting:
            self._note_tried()
            self._keep((self._gaps.get(IGNORED) or Gap()).add(REFUSED, lost))

    def _note_tried(self) -> None:
        """What was written of these events before they were refused must not be taken for accepted after a restart."""
        tried = [chain.hex() for spool in self._spools for chain in spool.tried]
        if tried:
            self._slots.put(TRIED_KEY, msgspec.json.encode(tried))

    def refused_positions(self) -> list[Position]:
        """How far sources have come with events that an older relay refused, while no event tells of it."""
        with self._changed:
            gap = self._gaps.get(IGNORED) or Gap()
        return [Position(source, count, place) for source, (count, place) in gap.positions.items()]

    def _keep(self, gap: Gap) -> None:
        self._slots.put(GAP_KEY + gap.server, gap.encode())
        self._unkept.discard(gap.server)
        with self._changed:
            self._gaps[gap.server] = gap

    def pending(self) -> list[Gap]:
        """The gaps that no event tells of yet."""
        if self._unkept:
            with self.counting:
                self._keep_up()
        with self._changed:
            return [gap for gap in self._gaps.values() if gap.events]

    def recognise(self, newest: Block) -> None:
        """Note what gaps the newest block tells of: whoever ended right after writing it did not come to that."""
        for _, said in reported_gaps(newest):
            gap = self._gaps.get(said.server)
            if gap is not None and gap.number == said.number:
                self.told(msgspec.structs.replace(said, positions=gap.positions))

    def told(self, gap: Gap) -> None:
        """An event reports this gap, durably; losses since it was made remain to be told.

        A slot that cannot be written now is written with the next commit; a crash before that may repeat the event.
        """
        with self.counting:
            rest = self._gaps[gap.server].told(gap)
            with self._changed:
                self._gaps[gap.server] = rest
            self._unkept.add(gap.server)
            self._keep_up()

    def _keep_up(self) -> None:
        with contextlib.suppress(StorageError):
            for server in tuple(self._unkept):
                self._keep(self._gaps[server])


def _damage_counted(gap: Gap, before: int, *, retained: bool) -> Gap:
    """The gap with the note that damage before this block is counted."""
    return msgspec.structs.replace(gap, **({"damaged_retained": before} if retained else {"damaged_transient": before}))


def _known_of(reached: RunEnd | None) -> KnownNumbers | None:
    return (
        KnownNumbers(reached.run.hex(), {kind.label: last for kind, last in reached.last.items()}) if reached else None
    )


def _chains(data: bytes | None) -> frozenset[bytes]:
    try:
        return frozenset(map(bytes.fromhex, msgspec.json.decode(data or b"[]", type=list[str])))
    except (msgspec.MsgspecError, ValueError):
        return frozenset()
