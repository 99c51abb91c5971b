"""A state directory's store: the retained and the transient spool, the slots, the lock, and the run.

Layout: `lock`, `slots`, `spool/retained/`, `spool/transient/`, all 0600 and 0700. One process at a time writes; others
may look (`relay/spool/inspection/`). Every opening draws a new random run. Its numbers begin at 1 for each type, and
one run serves both spools, so that (run, type, number) identifies a message for ever.
"""

import contextlib
import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from relay.errors import StorageError
from relay.spool.block import Block
from relay.spool.both_spools import BothSpools
from relay.spool.cursor import Cursor
from relay.spool.full_disk import FullDisk, Policy
from relay.spool.losses.refused_messages import RefusedMessages
from relay.spool.losses.run_memory import RunMemory
from relay.spool.losses.store_losses import StoreLosses, refused_chains
from relay.spool.slots import Slots
from relay.spool.spool import Recovery, RunSeed, Spool
from relay.spool.spool_reader import SpoolReader
from relay.spool.succession import CursorMove, ServerKey, moves
from relay.system.crash_point import crash_point
from relay.system.disk import Disk, Lock
from relay.values.event import EventType, Position
from relay.values.text import quoted

LOCK: Final = "lock"
SLOTS: Final = "slots"
FOLDERS: Final = BothSpools("spool/retained", "spool/transient")
CURSOR_KEY: Final = "cursor "
LEFT_KEY: Final = "left "
"""When a destination left the configuration, in microseconds since the epoch."""
KEPT: Final = 24 * 3600 * 1_000_000
"""How long its cursor is kept, in case it comes back; microseconds."""

_log = logging.getLogger("relay.spool")


class Store:
    """The opened store. Use it with `with`."""

    def __init__(
        self, disk: Disk, folder: str, *, segment_size: int, max_size: int, run: RunSeed, policy: Policy = "halt"
    ) -> None:
        disk.make_folder(folder)
        disk.require_private(folder)
        self.folder = folder
        self.refused = RefusedMessages(disk, folder)
        self.run = run.run
        self.changed = threading.Condition()
        """Notified after every commit to either spool."""
        self._lock: Lock = disk.lock(f"{folder}/{LOCK}")
        try:
            self.slots = Slots(disk, f"{folder}/{SLOTS}")
            refused = refused_chains(self.slots)
            self.spools = FOLDERS.map(
                lambda name: Spool.open(
                    disk,
                    f"{folder}/{name}",
                    segment_size=segment_size,
                    run=run,
                    changed=self.changed,
                    refused=refused,
                )
            )
            self.losses = StoreLosses(self.slots, self.changed, self.spools)
            if self.slots.fresh and any(spool.last for spool in self.spools):
                _log.error(
                    "%s/%s was missing: how far each server was proven is not known any more, so all that is spooled"
                    " is delivered again, and losses that were counted and not reported yet are forgotten",
                    folder,
                    SLOTS,
                )
            cursors = [Cursor.decode(self.slots.get(CURSOR_KEY + name) or b"") for name in self._stored_cursors()]
            used = BothSpools(
                max((cursor.retained for cursor in cursors), default=1),
                max((cursor.transient for cursor in cursors), default=1),
            )
            self._run_memory = RunMemory(self.slots, self.spools, self.run, used)
            self.space = FullDisk(disk, folder, self.losses, max_size, policy)
            for spool in self.spools:
                _log_recovery(spool.recovery)
            self._recognise_reports()
        except BaseException:
            self._lock.release()
            raise

    def _recognise_reports(self) -> None:
        if self.retained.last is not None:
            reader = SpoolReader(self.retained, self.retained.last.number)
            newest = reader.read()
            reader.close()
            if isinstance(newest, Block):
                with contextlib.suppress(StorageError):  # then they may be reported twice, under one number
                    self.losses.recognise_reports(newest)

    @property
    def retained(self) -> Spool:
        """The spool that keeps what is proven for a while."""
        return self.spools.retained

    @property
    def transient(self) -> Spool:
        """The spool that deletes what is proven at once."""
        return self.spools.transient

    @property
    def run_text(self) -> bytes:
        """The run in the form of a message's `relayRun`."""
        return self.run.hex().encode()

    @property
    def previous_run(self) -> tuple[bytes, Mapping[EventType, int]] | None:
        """The run that wrote last before this one, and its last number of each type; None for a new spool."""
        return self._run_memory.previous

    def position(self, source: str) -> Position | None:
        """Where a source continues."""
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

    def resize(self, *, segment_size: int, max_size: int) -> None:
        """Use these sizes from now on; of the segments that exist, only the newest still grows."""
        for spool in self.spools:
            spool.segment_size = segment_size
        self.space.max_size = max_size

    def remember_numbers(self, last: Mapping[EventType, int], *, at_once: bool = False) -> None:
        """Store this run's last numbers when a segment began, or at once."""
        self._run_memory.remember(last, at_once=at_once)

    # --- Destinations ---

    def _stored_cursors(self) -> list[str]:
        """The destinations with a cursor, sorted."""
        return [key.removeprefix(CURSOR_KEY) for key in self.slots.keys() if key.startswith(CURSOR_KEY)]  # noqa: SIM118  a method of ours, not a dict's

    def cursor(self, destination: str) -> Cursor | None:
        """The stored cursor, at most at the spools' ends; None for a destination that has none yet."""
        data = self.slots.get(CURSOR_KEY + destination)
        if data is None:
            return None
        cursor = Cursor.decode(data)
        ends = [(spool.next_number, 0) for spool in self.spools]
        return cursor.at(BothSpools(*map(min, cursor.reached, ends)))

    def claim(self, servers: Mapping[str, ServerKey]) -> None:
        """Give each configured server, by its name, the cursor that belongs to it; call it before `begin`."""
        stored = {name: cursor.server for name in self._stored_cursors() if (cursor := self.cursor(name)) is not None}
        found = moves(stored, servers)
        for move in found:
            self.losses.rename(move.former, move.name)
            for kind in (LEFT_KEY, CURSOR_KEY):
                value = self.slots.get(kind + move.former)
                if value is not None:
                    self.slots.put(kind + move.name, value)
                    self.slots.remove(kind + move.former)
        _log_moves(found, servers)

    def begin(self, destination: str, start: Cursor, types: int, server: ServerKey = "") -> Cursor:
        """Where a destination, which gets these types (a bitmap), continues. A new one begins at `start`.

        What a new one will never get is counted. The cursor belongs to `server` from now on. With `start` behind the
        oldest block every header before it is read: some seconds for a large spool.
        """
        cursor = self.cursor(destination)
        oldest = self.spools.map(lambda spool: spool.oldest_first)
        if cursor is not None:
            left = self.slots.get(LEFT_KEY + destination) is not None
            if not (left and any(block < first for block, first in zip(cursor.blocks, oldest, strict=True))):
                if server and cursor.server != server:
                    cursor = msgspec.structs.replace(cursor, server=server)
                    self.slots.put(CURSOR_KEY + destination, cursor.encode())
                return cursor
        start = msgspec.structs.replace(
            start,
            server=server,
            retained=max(start.retained, oldest.retained),
            transient=max(start.transient, oldest.transient),
        )
        self.losses.begin(destination, start, types)
        self.slots.put(CURSOR_KEY + destination, start.encode())
        return start

    def follow(self, destination: str, cursor: Cursor, types: int, *, required: bool = True) -> Cursor:
        """Keep what this destination has not proven, from now on; returns where it continues."""
        return self.losses.follow(destination, cursor, types, required=required)

    def leave(self, destination: str) -> None:
        """Keep nothing for this destination any more, until it is followed again; its cursor stays stored."""
        self.losses.leave(destination)

    def forget_others(self, destinations: Collection[str], now: int) -> None:
        """Note which cursors belong to no destination any more, and forget them after `KEPT` (microseconds)."""
        for name in self._stored_cursors():
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

    def restore_cursor(self, destination: str, cursor: Cursor) -> None:
        """Store the cursor of a destination that keeps it itself, before it is followed; deletes nothing.

        Otherwise what other destinations still need would be deleted, because they are not followed yet either.
        """
        self.slots.put(CURSOR_KEY + destination, cursor.encode())

    def close(self) -> None:
        """Close the files and give up the lock."""
        for spool in self.spools:
            spool.close()
        self.slots.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _log_recovery(recovery: Recovery) -> None:
    for text in recovery.damage:
        _log.error("damage in the spool: %s", text)
    for text in recovery.left_alone:
        _log.error("left alone: %s", text)
    torn = ""
    if recovery.torn_header:  # the header of the block that was cut short is whole
        number, run, spans = recovery.torn_header.number, recovery.torn_header.run.hex(), recovery.torn_header.spans
        events = ", ".join(f"{kind.label} {first} to {first + count - 1}" for kind, first, count, *_ in spans)
        torn = f" (block {number} of run {run}: {events or 'no events'}; never accepted, or damaged since)"
    if recovery.torn:
        _log.warning(
            "a write was cut short: %d octets were cut from the spool's end%s; their copy is %s",
            recovery.torn,
            torn,
            recovery.torn_copy or "missing, because there was no space for it; they stay where they are",
        )


def _log_moves(found: Sequence[CursorMove], servers: Mapping[str, ServerKey]) -> None:
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
            _log.warning("the cursor of the server that was %s is kept as %s for 24 h", name, quoted(aside))
