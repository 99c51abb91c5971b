"""A state directory's store: the retained and the transient spool, the slots, the lock, and the run.

Layout: `lock`, `slots`, `spool/retained/`, `spool/transient/`, all 0600 and 0700. One process at a time writes; others
may look (`Overview`). Every opening draws a new random run; its numbers begin at 1 for each type, and one run serves
both spools, so that (run, type, number) names a message for ever.
"""

import contextlib
import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from relay.errors import StorageError
from relay.spool import block
from relay.spool.cursor import Cursor
from relay.spool.full_disk import FullDisk, Policy
from relay.spool.losses.numbers import RunEnd
from relay.spool.losses.refused_messages import RefusedMessages
from relay.spool.losses.store_losses import StoreLosses
from relay.spool.slots import Slots
from relay.spool.spool import Recovery, RunSeed, Spool
from relay.spool.spool_reader import SpoolReader
from relay.spool.succession import CursorMove, ServerKey, moves
from relay.system.crash_point import crash_point
from relay.system.disk import Disk, Lock
from relay.values.event import EventType, Position

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

RUNS_KEY: Final = "runs"
MAX_RUNS: Final = 16
"""Runs whose last numbers are kept: what is missing of older ones is not known."""

_Value = TypeVar("_Value")

_log = logging.getLogger("relay.spool")


class RememberedNumbers(msgspec.Struct, frozen=True):
    """What the slot `numbers` tells of the run that wrote it: an older relay wrote the first two alone."""

    run: str = ""
    last: dict[str, int] = {}
    transient: tuple[str, ...] = ()
    """The types that the transient spool takes."""
    next_retained: int = 1
    next_transient: int = 1


class _EndedRun(msgspec.Struct, frozen=True, array_like=True):
    """The last number of each type of a run that is over, by the spool that took the type."""

    run: str
    retained: dict[str, int]
    transient: dict[str, int]

    def end(self, *, retained: bool) -> RunEnd:
        """As a spool knows it."""
        last = self.retained if retained else self.transient
        return RunEnd(bytes.fromhex(self.run), {EventType.from_label(label): number for label, number in last.items()})


def decoded(data: bytes | None, kind: type[_Value], default: _Value) -> _Value:
    """A slot's value; one that cannot be read is as good as none."""
    try:
        return default if data is None else msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError:
        return default


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


def _report(found: Sequence[CursorMove], servers: Mapping[str, ServerKey]) -> None:
    """Log whose cursor which server continues from, and which are put aside."""
    owners = {move.name: move.former for move in found if move.aside}
    heirs = {move.former: move.name for move in found if not move.aside}
    for former, name in heirs.items():
        sentence = "%s continues where %s was: the same protocol and final address (%s)"
        _log.warning(sentence, name, owners.get(former, former), servers[name])
    for aside, name in owners.items():
        if name not in heirs.values():
            _log.warning("%s is another log server than before (%s): it has a new cursor", name, servers[name])
        if aside not in heirs:
            _log.warning("the cursor of the server that was %s is kept as %r for 24 h", name, aside)


class Store:
    """The opened store. Use it with `with`."""

    def __init__(
        self, disk: Disk, folder: str, *, segment_size: int, max_size: int, run: RunSeed, policy: Policy = "halt"
    ) -> None:
        disk.make_folder(folder)
        disk.require_private(folder)
        self.folder = folder
        self.refused = RefusedMessages(disk, folder)
        self._remembered_at = (0, 0)
        self.previous_run: tuple[bytes, dict[EventType, int]] | None = None
        """The run that wrote last before this one, and its last number of each type; None for a new spool."""
        self.run = run.run
        self.changed = threading.Condition()
        """Notified after every commit to either spool."""
        self._lock: Lock = disk.lock(f"{folder}/{LOCK}")
        try:
            self.slots = Slots(disk, f"{folder}/{SLOTS}")
            self.losses = StoreLosses(self.slots, self.changed)
            self.retained, self.transient = (
                Spool.open(
                    disk,
                    f"{folder}/{name}",
                    segment_size=segment_size,
                    run=run,
                    changed=self.changed,
                    refused=self.losses.refused_chains,
                )
                for name in (RETAINED, TRANSIENT)
            )
            self.losses.serve(self.retained, self.transient)
            if self.slots.fresh and (self.retained.last or self.transient.last):
                _log.error(
                    "%s/%s was missing: how far each server was proven is not known any more, so all that is spooled"
                    " is delivered again, and losses that were counted and not reported yet are forgotten",
                    folder,
                    SLOTS,
                )
            self._go_on()
            self.space = FullDisk(disk, folder, self.losses, max_size, policy)
            for spool in (self.retained, self.transient):
                _tell(spool.recovery)
            self._recognise_gaps()
        except BaseException:
            self._lock.release()
            raise

    def _go_on(self) -> None:
        """Find the runs that are over, and have no block number used again, whatever is missing of the files."""
        remembered = decoded(self.slots.get(NUMBERS_KEY), RememberedNumbers, RememberedNumbers())
        cursors = [
            Cursor.decode(self.slots.get(key) or b"")
            for key in self.slots.keys()  # noqa: SIM118  a method of ours, not a dict's
            if key.startswith(CURSOR_KEY)
        ]
        for spool, numbers in (
            (self.retained, [remembered.next_retained, *(cursor.retained for cursor in cursors)]),
            (self.transient, [remembered.next_transient, *(cursor.transient for cursor in cursors)]),
        ):
            if max(numbers) > spool.next_number:
                cause = f"blocks {spool.next_number} to {max(numbers) - 1} were there, and are missing"
                _log.error("%s: %s: its newest files were deleted or emptied, maybe with more", spool.folder, cause)
                spool.go_on_at(max(numbers))
        runs = decoded(self.slots.get(RUNS_KEY), tuple[_EndedRun, ...], ())
        self.previous_run = previous = self._previous_run(remembered)
        if previous is not None and previous[0].hex() not in {each.run for each in runs}:
            runs = (*runs, self._ended(*previous, remembered.transient))[-MAX_RUNS:]
            with contextlib.suppress(StorageError):  # then less is known of this run later, and nothing is lost
                self.slots.put(RUNS_KEY, msgspec.json.encode(runs))
        with contextlib.suppress(KeyError, ValueError):
            self.retained.ends = tuple(each.end(retained=True) for each in runs)
            self.transient.ends = tuple(each.end(retained=False) for each in runs)

    def _ended(self, run: bytes, last: Mapping[EventType, int], transient: tuple[str, ...]) -> _EndedRun:
        newest = self.transient.last
        types = transient or tuple(
            kind.label for kind in EventType if newest is not None and newest.types_taken >> kind & 1
        )
        labels = {kind.label: number for kind, number in last.items()}
        return _EndedRun(
            run.hex(),
            {label: number for label, number in labels.items() if label not in types},
            {label: number for label, number in labels.items() if label in types},
        )

    def _recognise_gaps(self) -> None:
        if self.retained.last is not None:
            reader = SpoolReader(self.retained, self.retained.last.number)
            newest = reader.read()
            reader.close()
            if isinstance(newest, block.Block):
                with contextlib.suppress(StorageError):  # then they may be told twice, under one number
                    self.losses.recognise(newest)

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
        for refused in self.losses.refused_positions():
            known = positions.get(refused.source)
            if known is None or known.count < refused.count:
                positions[refused.source] = refused
        return positions

    def cursor(self, destination: str) -> Cursor | None:
        """The stored cursor; None for a destination that has none yet."""
        data = self.slots.get(CURSOR_KEY + destination)
        return None if data is None else self._within(Cursor.decode(data))

    def claim(self, servers: Mapping[str, ServerKey]) -> None:
        """Give each configured server, by its name, the cursor that belongs to it; to be called before `begin`."""
        names = sorted(key.removeprefix(CURSOR_KEY) for key in self.slots.keys() if key.startswith(CURSOR_KEY))  # noqa: SIM118  a method of ours, not a dict's
        stored = {name: cursor.server for name in names if (cursor := self.cursor(name)) is not None}
        found = moves(stored, servers)
        for move in found:
            self.losses.rename(move.former, move.name)
            for kind in (LEFT_KEY, CURSOR_KEY):
                value = self.slots.get(kind + move.former)
                if value is not None:
                    self.slots.put(kind + move.name, value)
                    self.slots.remove(kind + move.former)
        _report(found, servers)

    def begin(self, destination: str, start: Cursor, wanted: int, server: ServerKey = "") -> Cursor:
        """Where a destination goes on; a new one begins at `start`, and what it will never get is counted.

        The cursor belongs to `server` from now on. With `start` behind the oldest block every header before it is
        read: some seconds for a large spool.
        """
        cursor = self.cursor(destination)
        if cursor is not None and not self._has_missed(destination, cursor):
            if server and cursor.server != server:
                cursor = msgspec.structs.replace(cursor, server=server)
                self.slots.put(CURSOR_KEY + destination, cursor.encode())
            return cursor
        start = msgspec.structs.replace(
            start,
            server=server,
            retained=max(start.retained, self.retained.oldest_first),
            transient=max(start.transient, self.transient.oldest_first),
        )
        self.losses.begin(destination, start, wanted)
        self.slots.put(CURSOR_KEY + destination, start.encode())
        return start

    def _has_missed(self, destination: str, cursor: Cursor) -> bool:
        """Whether a destination comes back that had left the configuration, and what it needs first is gone."""
        left = self.slots.get(LEFT_KEY + destination) is not None
        return left and (cursor.retained < self.retained.oldest_first or cursor.transient < self.transient.oldest_first)

    def _within(self, cursor: Cursor) -> Cursor:
        """After a cut tail, cursors beyond the end are set back to it."""
        return cursor.at(
            min(cursor.reached_retained, (self.retained.next_number, 0)),
            min(cursor.reached_transient, (self.transient.next_number, 0)),
        )

    def _previous_run(self, remembered: RememberedNumbers) -> tuple[bytes, dict[EventType, int]] | None:
        headers = [spool.last for spool in (self.retained, self.transient) if spool.last is not None]
        run = max(headers, key=lambda header: header.committed).run if headers else b""
        is_behind = (
            self.retained.next_number <= remembered.next_retained
            and self.transient.next_number <= remembered.next_transient
        )
        if remembered.run and (is_behind or not run):  # what that run wrote may be missing
            run = bytes.fromhex(remembered.run)
        if not run:
            return None
        numbers: dict[EventType, int] = {}
        if remembered.run == run.hex():
            with contextlib.suppress(KeyError):
                numbers |= {EventType.from_label(label): number for label, number in remembered.last.items()}
        for spool in (self.retained, self.transient):
            if spool.last is not None and spool.last.run == run:
                for kind, number in spool.previous_numbers.items():
                    numbers[kind] = max(number, numbers.get(kind, 0))
        return run, numbers

    def resize(self, *, segment_size: int, max_size: int) -> None:
        """Use these sizes from now on; of the segments that exist, only the newest still grows."""
        for spool in (self.retained, self.transient):
            spool.segment_size = segment_size
        self.space.max_size = max_size

    def leave(self, destination: str) -> None:
        """Keep nothing for this destination any more, until it is followed again; its cursor stays stored."""
        self.losses.leave(destination)

    def remember_numbers(self, last: Mapping[EventType, int], *, at_once: bool = False) -> None:
        """Keep this run's last numbers when a segment began: the next opening looks only into the newest ones.

        What cannot be kept now is kept later: less is known of this run then, if it ends before, and nothing is lost.
        """
        newest = (self.retained.newest_first, self.transient.newest_first)
        if newest != self._remembered_at or at_once:
            taken = self.transient.last.types_taken if self.transient.last else 0
            remembered = RememberedNumbers(
                self.run.hex(),
                {kind.label: number for kind, number in last.items()},
                tuple(kind.label for kind in EventType if taken >> kind & 1),
                self.retained.next_number,
                self.transient.next_number,
            )
            with contextlib.suppress(StorageError):
                self.slots.put(NUMBERS_KEY, msgspec.json.encode(remembered))
                self._remembered_at = newest

    def follow(self, destination: str, cursor: Cursor, wanted: int, *, required: bool = True) -> Cursor:
        """Keep what this destination has not proven, from now on; answers where it goes on."""
        return self.losses.follow(destination, cursor, wanted, required=required)

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
        cursor = self.losses.with_numbers(destination, cursor)
        self.slots.put(CURSOR_KEY + destination, cursor.encode())
        crash_point("cursor-moved")
        self.space.moved(destination, cursor)

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
