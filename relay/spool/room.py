"""Room for both spools of a store: what goes first, what goes only by policy, and what is then counted.

- `reserve` and `give_way`: at `max-size`, and on a full disk, what every destination has proven goes, the oldest
  segment of the retained spool first. (The transient spool lets go of what is proven at once.)
- `expire`: what is proven and older than the retention goes.
  Then what every *required* destination has proven goes; what the others have not got of it is counted, as by `rotate`.
- `rotate`: the oldest segment goes although it is not proven. What each destination has not got of it is counted in
  that destination's gap, in its slot, before the file is deleted: a crash in between leaves the count and the file, and
  then the file is not delivered and not counted again. What is under way at that moment is in doubt: the proof of it
  may still come; when its session ends first, or the process, it is lost. A gap event that goes undelivered gives its
  count back to the gap.
- What damage took is counted once for each destination, when it is known: the same slot says up to which block
  (`read`, `rotate`).
- What a new destination will never get, since it begins late, is counted when it begins (`begin`).
- A gap waits in its slot until it stands in the spool as an event (`pending`, `told`).
"""

import itertools
import sys
import threading
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from relay.errors import full_error
from relay.event import Position
from relay.spool.block import Block
from relay.spool.cursor import Cursor, Slots
from relay.spool.gap import Gap, Range, ranges_of
from relay.spool.spool import Lost, Oldest, Reader, Spool, gaps_told

GAP_KEY: Final = "gap "
IGNORED: Final = ""
"""The server's name of the gap of events that were never taken in."""
TRIED_KEY: Final = "tried"
"""Under it stand the chains of blocks whose events were refused."""
REFUSED: Final = "refused by disk-full-action ignore"
LATE: Final = "before this server's beginning"
DAMAGED: Final = "damaged in the spool"
ROTATED: Final = "deleted by disk-full-action rotate"
MADE_ROOM: Final = "deleted to make room, since this server is not required"


class _Followed(NamedTuple):
    """A destination that is delivered to."""

    cursor: Cursor
    wanted: int
    """The types that it gets, as a bitmap."""
    required: bool


class StoreRoom:
    """Keeps both spools of a store within bounds. Safe to use from several threads."""

    def __init__(self, folder: str, max_size: int, slots: Slots, changed: threading.Condition) -> None:
        self._folder = folder
        self.max_size = max_size
        self._slots = slots
        self._changed = changed
        self.counting = threading.RLock()
        """Held while something is counted or taken back, and while a destination reads a block and says so: else
        two threads would undo each other's counts."""
        self._spools: tuple[Spool, ...] = ()
        self._followed: dict[str, _Followed] = {}
        self._sent: dict[str, tuple[int, int]] = {}
        """Up to which block of each spool a destination's session has sent."""
        self._gaps = {
            key.removeprefix(GAP_KEY): Gap.decode(slots.get(key) or b"", key.removeprefix(GAP_KEY))
            for key in slots.keys()  # noqa: SIM118  a method of ours, not a dict's
            if key.startswith(GAP_KEY)
        }
        self._refused = _chains(slots.get(TRIED_KEY))
        self.cut_short = 0
        """Segments that went for want of room, before their retention was over; since the start."""
        self.rotated = 0
        """Segments that went undelivered; since the start."""

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
        start = msgspec.structs.replace(
            cursor,
            retained=max(cursor.retained, counted.retained),
            transient=max(cursor.transient, counted.transient),
        )
        with self._changed:
            self._followed[destination] = _Followed(start, wanted, required)
        return start

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

    def read(self, destination: str, retained: Reader, transient: Reader) -> Block | Lost | None:
        """What is next for a destination, in whose readers' places it is then under way; a proof follows, or `give_up`.

        Whoever makes room must know to the block what is under way; what was counted before is not read any more.
        """
        with self.counting:
            gap = self._gap_of(destination)
            retained.skip_to(gap.retained)
            transient.skip_to(gap.transient)
            for reader in (retained, transient):
                item = reader.read()
                if item is not None:
                    self._count_damage(destination, reader)
                    self._sent[destination] = (retained.next_number, transient.next_number)
                    return item
        return None

    def give_up(self, destination: str) -> None:
        """A session ended: what was deleted while it was under way is lost."""
        with self.counting:
            self._sent.pop(destination, None)
            gap = self._gaps.get(destination)
            if gap is not None and gap.in_doubt:
                self._keep(msgspec.structs.replace(gap.add(ROTATED, gap.in_doubt), in_doubt=()))

    def moved(self, destination: str, cursor: Cursor) -> None:
        """Note a proof of all that was sent; what every destination has proven of the transient spool is deleted."""
        with self.counting:
            gap = self._gaps.get(destination)
            if gap is not None and gap.in_doubt:
                self._keep(msgspec.structs.replace(gap, in_doubt=()))
            with self._changed:
                known = self._followed.get(destination, _Followed(cursor, 0, required=True))
                self._followed[destination] = known._replace(cursor=cursor)
        self._spools[1].release(self._proven()[1])

    def _proven(self, *, required: bool = False) -> tuple[int, int]:
        """Up to which block of each spool every destination, or every required one, has proven."""
        with self._changed:
            cursors = [each.cursor for each in self._followed.values() if each.required or not required]
            nothing = sys.maxsize if required and self._followed else 0  # with none that is required, nobody holds
        return min((each.retained for each in cursors), default=nothing), min(
            (each.transient for each in cursors), default=nothing
        )

    # --- Room ---

    @property
    def held(self) -> int:
        """Octets of both spools that no rule but a disk-full policy lets go of."""
        proven = self._proven(required=True)
        return sum(spool.allocated_from(reached) for spool, reached in zip(self._spools, proven, strict=False))

    @property
    def used(self) -> int:
        """Octets that both spools take on the disk."""
        return sum(spool.allocated for spool in self._spools)

    def reserve(self, octets: int) -> None:
        """Keep within `max-size`; StorageError when nothing more is proven."""
        while self.used + octets > self.max_size:
            if not self.give_way():
                cause = f"its max-size of {self.max_size} bytes is reached, and nothing more of it is proven"
                raise full_error(self._folder, cause, "mend the delivery (`relay status`), or raise spool.max-size")

    def give_way(self) -> bool:
        """Delete the oldest segment that is proven, by all if there is one, else by all that are required."""
        if not self._spools:
            return False
        went = self._spools[0].release_oldest(self._proven()[0]) or self._leave_behind()
        self.cut_short += went
        return went

    def _leave_behind(self) -> bool:
        """Delete the oldest segment of either spool that only destinations which are not required have yet to get."""
        if all(each.required for each in self._followed.values()):
            return False
        for spool, proven in zip(self._spools, self._proven(required=True), strict=True):
            oldest = spool.oldest()
            if oldest is not None and oldest.following <= proven:
                return self._delete(spool, oldest, MADE_ROOM)
        return False

    def expire(self, before: int) -> int:
        """Delete what is proven and was committed before that time (microseconds since the epoch); how many went."""
        retained, gone = self._spools[0], 0
        while self._oldest_is_older(retained, before) and retained.release_oldest(self._proven()[0]):
            gone += 1
        return gone

    @staticmethod
    def _oldest_is_older(spool: Spool, before: int) -> bool:
        made = spool.second_created
        return made is not None and made <= before

    def rotate(self) -> bool:
        """Delete the oldest segment, and count what each destination loses by it; False when none can go."""
        found = ((spool, spool.oldest()) for spool in self._spools)
        candidates = [(oldest.created, spool, oldest) for spool, oldest in found if oldest is not None]
        if not candidates:
            return False
        _, spool, oldest = min(candidates, key=lambda candidate: candidate[0])
        went = self._delete(spool, oldest, ROTATED)
        self.rotated += went
        return went

    def _delete(self, spool: Spool, oldest: Oldest, cause: str) -> bool:
        """Delete a spool's oldest segment, and count what each destination loses by it."""
        with self.counting:
            for destination in list(self._followed):
                self._count(destination, oldest, cause, retained=spool is self._spools[0])
            return spool.release_oldest(oldest.following)

    def _count(self, destination: str, oldest: Oldest, cause: str, *, retained: bool) -> None:
        cursor, wanted, _ = self._followed[destination]
        gap = self._with_damage(self._gap_of(destination), retained, oldest, wanted)
        reached = max(cursor.retained, gap.retained) if retained else max(cursor.transient, gap.transient)
        if reached >= oldest.following:
            return  # and with it all that it lacked by damage
        sent = self._sent.get(destination, (0, 0))[0 if retained else 1]
        lost: list[Range] = []
        under_way: list[Range] = []
        for number, told in oldest.gaps:
            if number >= reached and told.server in {destination, IGNORED}:
                # The event that told of it goes too, so its count begins anew.
                (under_way if number < sent else lost).extend(each for each in told.ranges if wanted >> each.type & 1)
                gap = msgspec.structs.replace(gap, unnamed=gap.unnamed + told.unnamed)
        for header in oldest.blocks:
            if header.number >= reached:
                (under_way if header.number < sent else lost).extend(ranges_of(header, wanted))
        counted = gap.doubt(under_way) if under_way else gap
        counted = counted.add(cause, lost) if lost else counted
        place = {"retained": oldest.following} if retained else {"transient": oldest.following}
        self._keep(msgspec.structs.replace(counted, **place))

    @staticmethod
    def _with_damage(gap: Gap, retained: bool, oldest: Oldest, wanted: int) -> Gap:  # noqa: FBT001  which of two spools
        """The gap with what damage took of a segment, as far as it is not counted yet."""
        counted = gap.damaged_retained if retained else gap.damaged_transient
        lost = [each for number, each in oldest.damaged if number > counted and wanted >> each.type & 1]
        reached = max(counted, *(number for number, _ in oldest.damaged), 0)
        return _damage_counted(gap.add(DAMAGED, lost) if lost else gap, reached, retained=retained)

    # --- Gaps ---

    def lose(self, destination: str, cause: str, lost: Iterable[Range], reached: Cursor) -> None:
        """Count a loss of this destination, durably; StorageError when that failed too.

        The same write says that what is before `reached` is done with: a crash before the cursor has moved there
        neither delivers nor counts it again.
        """
        with self.counting:
            gap = self._gap_of(destination).add(cause, lost)
            self._keep(
                msgspec.structs.replace(
                    gap,
                    retained=max(gap.retained, reached.retained),
                    transient=max(gap.transient, reached.transient),
                )
            )

    def _count_damage(self, destination: str, reader: Reader) -> None:
        """Count what damage took by this destination's reader's last `read`, durably, unless it is counted."""
        retained = reader.spool is self._spools[0]
        gap = self._gap_of(destination)
        counted = gap.damaged_retained if retained else gap.damaged_transient
        wanted = self._followed[destination].wanted
        lost = [each for each in reader.missing if wanted >> each.type & 1]
        if lost and reader.next_number > counted:
            self._keep(_damage_counted(gap.add(DAMAGED, lost), reader.next_number, retained=retained))

    def _gap_of(self, destination: str) -> Gap:
        return self._gaps.get(destination) or Gap(server=destination)

    def refuse(self, lost: Iterable[Range], positions: Iterable[Position]) -> None:
        """Count events that are not taken in, and how far their sources have come with them, in one slot."""
        with self.counting:
            gap = self._gaps.get(IGNORED) or Gap()
            reached = gap.positions | {each.source: (each.count, each.place) for each in positions}
            self._note_tried()
            self._keep(msgspec.structs.replace(gap.add(REFUSED, lost), positions=reached))

    def _note_tried(self) -> None:
        """What was written of these events before they were refused must not be taken for accepted after a restart."""
        tried = [chain.hex() for spool in self._spools for chain in spool.tried]
        if tried:
            self._slots.put(TRIED_KEY, msgspec.json.encode(tried))

    def was_refused(self, chain: bytes) -> bool:
        """Whether the events of the block with this chain were refused, and counted, before the start."""
        return chain in self._refused

    def refused_positions(self) -> list[Position]:
        """How far sources have come with events that were refused, while no event tells of it."""
        with self._changed:
            gap = self._gaps.get(IGNORED) or Gap()
        return [Position(source, count, place) for source, (count, place) in gap.positions.items()]

    def _keep(self, gap: Gap) -> None:
        self._slots.put(GAP_KEY + gap.server, gap.encode())
        with self._changed:
            self._gaps[gap.server] = gap

    def pending(self) -> list[Gap]:
        """The gaps that no event tells of yet."""
        with self._changed:
            return [gap for gap in self._gaps.values() if gap.events]

    def recognise(self, newest: Block) -> None:
        """Note what gaps the newest block tells of: whoever ended right after writing it did not come to that."""
        for said in gaps_told(newest):
            gap = self._gaps.get(said.server)
            if gap is not None and gap.number == said.number:
                self.told(msgspec.structs.replace(said, positions=gap.positions))

    def told(self, gap: Gap) -> None:
        """An event tells of this gap, durably; losses since it was made remain to be told."""
        with self.counting:
            self._keep(self._gaps[gap.server].told(gap))


def _damage_counted(gap: Gap, before: int, *, retained: bool) -> Gap:
    """The gap with the note that damage before this block is counted."""
    return msgspec.structs.replace(gap, **({"damaged_retained": before} if retained else {"damaged_transient": before}))


def _chains(data: bytes | None) -> frozenset[bytes]:
    try:
        return frozenset(map(bytes.fromhex, msgspec.json.decode(data or b"[]", type=list[str])))
    except (msgspec.MsgspecError, ValueError):
        return frozenset()
