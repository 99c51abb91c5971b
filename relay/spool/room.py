"""Room for both spools of a store: what goes first, what goes only by policy, and what is then counted.

- `reserve` and `give_way`: at `max-size`, and on a full disk, what every destination has proven goes, the oldest
  segment of the retained spool first. (The transient spool lets go of what is proven at once.)
- `expire`: what is proven and older than the retention goes.
- `rotate`: the oldest segment goes although it is not proven. What each destination has not got of it is counted in
  that destination's gap, in its slot, before the file is deleted: a crash in between leaves the count and the file, and
  then the file is not delivered and not counted again. What is under way at that moment is in doubt: the proof of it
  may still come; when its session ends first, or the process, it is lost. A gap event that goes undelivered gives its
  count back to the gap.
- A gap waits in its slot until it stands in the spool as an event (`pending`, `told`).
"""

import threading
from collections.abc import Iterable
from typing import Final

import msgspec

from relay.errors import full_error
from relay.event import Position
from relay.spool.cursor import Cursor, Slots
from relay.spool.gap import Gap, Range, ranges_of
from relay.spool.spool import Oldest, Spool

GAP_KEY: Final = "gap "
IGNORED: Final = ""
"""The server's name of the gap of events that were never taken in."""
REFUSED: Final = "refused by disk-full-action ignore"
ROTATED: Final = "deleted by disk-full-action rotate"


class StoreRoom:
    """Keeps both spools of a store within bounds. Safe to use from several threads."""

    def __init__(self, folder: str, max_size: int, slots: Slots, changed: threading.Condition) -> None:
        self._folder = folder
        self._max_size = max_size
        self._slots = slots
        self._changed = changed
        self.counting = threading.RLock()
        """Held while something is counted or taken back, and while a destination reads a block and says so: else
        two threads would undo each other's counts."""
        self._spools: tuple[Spool, ...] = ()
        self._cursors: dict[str, tuple[Cursor, int]] = {}
        self._sent: dict[str, tuple[int, int]] = {}
        """Up to which block of each spool a destination's session has sent."""
        self._gaps = {
            key.removeprefix(GAP_KEY): Gap.decode(slots.get(key) or b"", key.removeprefix(GAP_KEY))
            for key in slots.keys()  # noqa: SIM118  a method of ours, not a dict's
            if key.startswith(GAP_KEY)
        }
        self.cut_short = 0
        """Segments that went for want of room, before their retention was over; since the start."""
        self.rotated = 0
        """Segments that went undelivered; since the start."""

    def serve(self, retained: Spool, transient: Spool) -> None:
        """Begin, with the spools that are now open."""
        self._spools = (retained, transient)

    # --- Destinations ---

    def follow(self, destination: str, cursor: Cursor, wanted: int) -> Cursor:
        """Keep what this destination has not proven; where it goes on (a bitmap tells the types it gets)."""
        self.give_up(destination)
        counted = self._gaps.get(destination) or Gap(server=destination)
        start = msgspec.structs.replace(
            cursor,
            retained=max(cursor.retained, counted.retained),
            transient=max(cursor.transient, counted.transient),
        )
        with self._changed:
            self._cursors[destination] = (start, wanted)
        return start

    def sending(self, destination: str, retained: int, transient: int) -> None:
        """Note that everything before these blocks is under way; the session's end or a proof follows."""
        self._sent[destination] = (retained, transient)

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
                _, wanted = self._cursors.get(destination, (cursor, 0))
                self._cursors[destination] = (cursor, wanted)
        self._spools[1].release(self._proven()[1])

    def _proven(self) -> tuple[int, int]:
        """Up to which block of each spool every destination has proven."""
        with self._changed:
            cursors = [cursor for cursor, _ in self._cursors.values()]
        return min((each.retained for each in cursors), default=0), min((each.transient for each in cursors), default=0)

    # --- Room ---

    @property
    def held(self) -> int:
        """Octets of both spools that no rule but a disk-full policy lets go of."""
        return sum(spool.allocated_from(proven) for spool, proven in zip(self._spools, self._proven(), strict=False))

    @property
    def used(self) -> int:
        """Octets that both spools take on the disk."""
        return sum(spool.allocated for spool in self._spools)

    def reserve(self, octets: int) -> None:
        """Keep within `max-size`; StorageError when nothing more is proven."""
        while self.used + octets > self._max_size:
            if not self.give_way():
                cause = f"its max-size of {self._max_size} bytes is reached, and nothing more of it is proven"
                raise full_error(self._folder, cause, "mend the delivery (`relay status`), or raise spool.max-size")

    def give_way(self) -> bool:
        """Delete the oldest segment that is proven."""
        if not self._spools:
            return False
        went = self._spools[0].release_oldest(self._proven()[0])
        self.cut_short += went
        return went

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
        with self.counting:
            for destination in list(self._cursors):
                self._count(destination, spool is self._spools[0], oldest)
            went = spool.release_oldest(oldest.following)
        self.rotated += went
        return went

    def _count(self, destination: str, retained: bool, oldest: Oldest) -> None:  # noqa: FBT001  which of two spools
        cursor, wanted = self._cursors[destination]
        gap = self._gaps.get(destination) or Gap(server=destination)
        reached = max(cursor.retained, gap.retained) if retained else max(cursor.transient, gap.transient)
        if reached >= oldest.following:
            return
        sent = self._sent.get(destination, (0, 0))[0 if retained else 1]
        lost: list[Range] = []
        under_way: list[Range] = []
        for header in oldest.blocks:
            if header.number >= reached:
                (under_way if header.number < sent else lost).extend(ranges_of(header, wanted))
        for number, told in oldest.gaps:
            if number >= reached and told.server in {destination, IGNORED}:
                # The event that told of it goes too, so its count begins anew.
                (under_way if number < sent else lost).extend(each for each in told.ranges if wanted >> each.type & 1)
                gap = msgspec.structs.replace(gap, unnamed=gap.unnamed + told.unnamed)
        counted = gap.doubt(under_way) if under_way else gap
        counted = counted.add(ROTATED, lost) if lost else counted
        place = {"retained": oldest.following} if retained else {"transient": oldest.following}
        self._keep(msgspec.structs.replace(counted, **place))

    # --- Gaps ---

    def lose(self, destination: str, cause: str, lost: Iterable[Range]) -> None:
        """Count a loss of this destination, durably; StorageError when that failed too."""
        with self.counting:
            gap = self._gaps.get(destination) or Gap(server=destination)
            self._keep(gap.add(cause, lost))

    def refuse(self, lost: Iterable[Range], positions: Iterable[Position]) -> None:
        """Count events that are not taken in, and how far their sources have come with them, in one slot."""
        with self.counting:
            gap = self._gaps.get(IGNORED) or Gap()
            reached = gap.positions | {each.source: (each.count, each.place) for each in positions}
            self._keep(msgspec.structs.replace(gap.add(REFUSED, lost), positions=reached))

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

    def told(self, gap: Gap) -> None:
        """An event tells of this gap, durably; losses since it was made remain to be told."""
        with self.counting:
            self._keep(self._gaps[gap.server].told(gap))
