"""A state directory's store: the retained and the transient spool, the slots, the lock, and the run.

Layout: `lock`, `slots`, `spool/retained/`, `spool/transient/`, all 0600 and 0700. One process at a time writes; others
may look (`Overview`). Every opening draws a new random run; its numbers begin at 1 for each type, and one run serves
both spools, so that (run, type, number) names a message for ever.
"""

import contextlib
import logging
import threading
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self

import msgspec

from relay.crash_point import crash_point
from relay.disk import Disk, Lock
from relay.errors import DataError, StorageError
from relay.event import EventType, Position
from relay.spool import block, segment
from relay.spool.cursor import Cursor, Slots, read_slots
from relay.spool.refused import RefusedMessages
from relay.spool.room import StoreRoom
from relay.spool.spool import Recovery, Run, Spool

LOCK: Final = "lock"
SLOTS: Final = "slots"
RETAINED: Final = "spool/retained"
TRANSIENT: Final = "spool/transient"
CURSOR_KEY: Final = "cursor "
NUMBERS_KEY: Final = "numbers"
LEFT_KEY: Final = "left "
"""Since when a destination is in no configuration any more, in microseconds since the epoch."""
KEPT: Final = 24 * 3600 * 1_000_000
"""How long its cursor is kept, in case it comes back."""

_log = logging.getLogger("relay.spool")


def _remembered_numbers(data: bytes | None, run: bytes) -> dict[EventType, int]:
    try:
        kept = msgspec.json.decode(data or b"{}", type=dict[str, str | dict[str, int]])
        numbers = kept.get("last", {})
        if kept.get("run") == run.hex() and isinstance(numbers, dict):
            return {EventType.from_label(label): number for label, number in numbers.items()}
    except (msgspec.MsgspecError, KeyError):
        pass
    return {}


def _tell(recovery: Recovery) -> None:
    """Log what was found when a spool was opened."""
    for text in recovery.damage:
        _log.error("damage in the spool: %s", text)
    for text in recovery.left_alone:
        _log.error("left alone: %s", text)
    if recovery.torn:
        _log.warning(
            "a write that was cut short: %d octets cut from the spool's end%s; their copy is %s",
            recovery.torn,
            _torn_text(recovery.torn_header),
            recovery.torn_copy or "missing, since there was no room; they stay where they are",
        )


def _torn_text(header: block.Header | None) -> str:
    """What the header of a block that was cut short still tells."""
    if header is None:
        return ""
    events = ", ".join(f"{kind.label} {first} to {first + count - 1}" for kind, first, count in header.spans)
    return (
        f" (block {header.number} of run {header.run.hex()}: {events or 'no events'}; never accepted, or damaged since)"
    )


class Store:
    """The opened store. Use it with `with`."""

    def __init__(self, disk: Disk, folder: str, *, segment_size: int, max_size: int, run: Run) -> None:
        disk.make_folder(folder)
        disk.require_private(folder)
        self.folder = folder
        self.refused = RefusedMessages(disk, folder)
        self._remembered_at = (0, 0)
        self.run = run.run
        self.changed = threading.Condition()
        """Notified after every commit to either spool."""
        self._lock: Lock = disk.lock(f"{folder}/{LOCK}")
        try:
            self.slots = Slots(disk, f"{folder}/{SLOTS}")
            self.room = StoreRoom(folder, max_size, self.slots, self.changed)
            self.retained, self.transient = (
                Spool.open(
                    disk,
                    f"{folder}/{name}",
                    segment_size=segment_size,
                    run=run,
                    changed=self.changed,
                    room=self.room,
                )
                for name in (RETAINED, TRANSIENT)
            )
            self.room.serve(self.retained, self.transient)
            for spool in (self.retained, self.transient):
                _tell(spool.recovery)
            self._recognise_gaps()
        except BaseException:
            self._lock.release()
            raise

    def _recognise_gaps(self) -> None:
        if self.retained.last is not None:
            reader = self.retained.reader(self.retained.last.number)
            newest = reader.read()
            reader.close()
            if isinstance(newest, block.Block):
                with contextlib.suppress(StorageError):  # then they may be told twice, under one number
                    self.room.recognise(newest)

    @property
    def run_text(self) -> bytes:
        """The run as it stands in a message's `relayRun`."""
        return self.run.hex().encode()

    def position(self, source: str) -> Position | None:
        """Where a source goes on."""
        return self.positions.get(source)

    @property
    def positions(self) -> dict[str, Position]:
        """What the retained spool's newest block says, or further, when events were refused and counted since."""
        positions = dict(self.retained.positions)
        for refused in self.room.refused_positions():
            known = positions.get(refused.source)
            if known is None or known.count < refused.count:
                positions[refused.source] = refused
        return positions

    def cursor(self, destination: str) -> Cursor | None:
        """The stored cursor; None for a destination that has none yet."""
        data = self.slots.get(CURSOR_KEY + destination)
        return None if data is None else self._within(Cursor.decode(data))

    def begin(self, destination: str, start: Cursor, wanted: int) -> Cursor:
        """Where a destination goes on; a new one begins at `start`, and what it will never get is counted.

        With `start` behind the oldest block every header before it is read: some seconds for a large spool.
        """
        cursor = self.cursor(destination)
        if cursor is not None and not self._has_missed(destination, cursor):
            return cursor
        self.room.begin(destination, start, wanted)
        self.slots.put(CURSOR_KEY + destination, start.encode())
        return start

    def _has_missed(self, destination: str, cursor: Cursor) -> bool:
        """Whether a destination comes back that had left the configuration, and what it needs first is gone."""
        left = self.slots.get(LEFT_KEY + destination) is not None
        return left and (cursor.retained < self.retained.oldest_first or cursor.transient < self.transient.oldest_first)

    def _within(self, cursor: Cursor) -> Cursor:
        """After a cut tail, cursors beyond the end are set back to it."""
        return Cursor(
            retained=min(cursor.retained, self.retained.next_number),
            transient=min(cursor.transient, self.transient.next_number),
            proven_at=cursor.proven_at,
            proof=cursor.proof,
            delivered=cursor.delivered,
        )

    def previous_run(self) -> tuple[bytes, dict[EventType, int]] | None:
        """The run that wrote last before this one, and its last number of each type; None for a new spool."""
        headers = [spool.last for spool in (self.retained, self.transient) if spool.last is not None]
        if not headers:
            return None
        run = max(headers, key=lambda header: header.committed).run
        numbers = _remembered_numbers(self.slots.get(NUMBERS_KEY), run)
        for spool in (self.retained, self.transient):
            if spool.last is not None and spool.last.run == run:
                for kind, number in spool.previous_numbers.items():
                    numbers[kind] = max(number, numbers.get(kind, 0))
        return run, numbers

    def resize(self, *, segment_size: int, max_size: int) -> None:
        """Use these sizes from now on; of the segments that exist, only the newest still grows."""
        for spool in (self.retained, self.transient):
            spool.segment_size = segment_size
        self.room.max_size = max_size

    def leave(self, destination: str) -> None:
        """Keep nothing for this destination any more, until it is followed again; its cursor stays stored."""
        self.room.leave(destination)

    def remember_numbers(self, last: Mapping[EventType, int]) -> None:
        """Keep this run's last numbers when a segment began: the next opening looks only into the newest ones.

        What cannot be kept now is kept later: less is known of this run then, if it ends before, and nothing is lost.
        """
        newest = (self.retained.newest_first, self.transient.newest_first)
        if newest != self._remembered_at:
            numbers = {kind.label: number for kind, number in last.items()}
            with contextlib.suppress(StorageError):
                self.slots.put(NUMBERS_KEY, msgspec.json.encode({"run": self.run.hex(), "last": numbers}))
                self._remembered_at = newest

    def follow(self, destination: str, cursor: Cursor, wanted: int, *, required: bool = True) -> Cursor:
        """Keep what this destination has not proven, from now on; answers where it goes on."""
        return self.room.follow(destination, cursor, wanted, required=required)

    def forget_others(self, destinations: Collection[str], now: int) -> None:
        """Note which cursors are nobody's any more, and forget those that have been so for `KEPT` (microseconds)."""
        for key in self.slots.keys():  # noqa: SIM118  a method of ours, not a dict's
            name = key.removeprefix(CURSOR_KEY)
            if name == key:
                continue
            left = self.slots.get(LEFT_KEY + name)
            if name in destinations:
                if left is not None:
                    self.slots.remove(LEFT_KEY + name)
            elif left is None:
                self.slots.put(LEFT_KEY + name, str(now).encode())
            elif now - int(left) > KEPT:
                for each in (CURSOR_KEY, LEFT_KEY):
                    self.slots.remove(each + name)

    def move_cursor(self, destination: str, cursor: Cursor) -> None:
        """Store a cursor, durably; what every destination has proven of the transient spool is deleted."""
        self.slots.put(CURSOR_KEY + destination, cursor.encode())
        crash_point("cursor-moved")
        self.room.moved(destination, cursor)

    def close(self) -> None:
        """Close the files and give up the lock."""
        self.retained.close()
        self.transient.close()
        self.slots.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class SpoolOverview(NamedTuple):
    """What a spool's folder tells without its writer."""

    segments: int
    octets: int
    """Octets of blocks, not of allocated files."""
    next_number: int
    messages: int
    by_type: Mapping[EventType, int]
    newest: block.Header | None
    oldest_committed: int = 0
    """Commit time of the oldest block counted, in microseconds since the epoch; 0 when there is none."""


class Overview(NamedTuple):
    """What a state directory tells, whether or not a process is writing it."""

    retained: SpoolOverview
    transient: SpoolOverview
    cursors: Mapping[str, Cursor]


def overview(disk: Disk, folder: str) -> Overview:
    """Look at a state directory without changing it. Reads every block header: cost grows with the spool."""
    slots = read_slots(disk, f"{folder}/{SLOTS}")
    cursors = {
        key.removeprefix(CURSOR_KEY): Cursor.decode(copy.value)
        for key, (_, copy) in slots.items()
        if key.startswith(CURSOR_KEY)
    }
    return Overview(_look(disk, f"{folder}/{RETAINED}"), _look(disk, f"{folder}/{TRANSIENT}"), cursors)


def waiting(disk: Disk, folder: str, cursor: Cursor) -> SpoolOverview:
    """What of both spools a destination with this cursor still has before it."""
    retained = _look(disk, f"{folder}/{RETAINED}", cursor.retained)
    transient = _look(disk, f"{folder}/{TRANSIENT}", cursor.transient)
    by_type = dict(retained.by_type)
    for kind, count in transient.by_type.items():
        by_type[kind] = by_type.get(kind, 0) + count
    times = [spool.oldest_committed for spool in (retained, transient) if spool.oldest_committed]
    return SpoolOverview(
        retained.segments + transient.segments,
        retained.octets + transient.octets,
        retained.next_number,
        retained.messages + transient.messages,
        by_type,
        retained.newest,
        min(times, default=0),
    )


def _look(disk: Disk, folder: str, start: int = 0) -> SpoolOverview:
    """Look at a spool's folder, counting blocks from number `start` on."""
    firsts = [segment.first_of(name) for name in disk.names(folder) if segment.NAME.fullmatch(name)]
    segments = octets = oldest = 0
    by_type: dict[EventType, int] = {}
    newest: block.Header | None = None
    for index, first in enumerate(firsts):
        following = firsts[index + 1] if index + 1 < len(firsts) else None
        if following is not None and following <= start:
            continue
        try:
            file, _ = segment.open_existing(disk, f"{folder}/{segment.name_of(first)}")
        except DataError:
            continue
        segments += 1
        with file:
            for header in segment.headers_through_damage(file, first, following):
                newest = header
                if header.number < start:
                    continue
                octets += header.size
                oldest = oldest or header.committed
                for span in header.spans:
                    by_type[span.type] = by_type.get(span.type, 0) + span.messages
    next_number = newest.number + 1 if newest else 1
    return SpoolOverview(segments, octets, next_number, sum(by_type.values()), by_type, newest, oldest)
