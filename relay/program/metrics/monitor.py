"""Looks at a road once a second, and measures it for a scrape.

Everything except `measure` runs in the thread of `metrics_server`. `measure` runs on the program's event loop, because
that owns what it reads.
"""

import asyncio
import contextlib
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Final

from relay.errors import RelayError, StorageError
from relay.program.metrics.backlog_index import Backlog, BacklogIndex
from relay.program.metrics.measurement import DestinationMeasurement, Measurement, SpoolMeasurement
from relay.program.metrics.progress_watch import DestinationProgress, Health, IntakeProgress, ProgressWatch
from relay.program.road import Road
from relay.spool.both_spools import BothSpools
from relay.spool.inspection.browse import bounds
from relay.spool.segments.segment_reader import BlockLocation, open_segment
from relay.spool.spool import Appended, Spool
from relay.system.clock import read_clocks, wall_clock
from relay.system.disk import Disk

_NAMES: Final = BothSpools("retained", "transient")


class Monitor:
    """Of one road, whose event loop is the one that runs when this is made."""

    def __init__(self, road: Road, disk: Disk) -> None:
        self._road = road
        self._disk = disk
        self._loop = asyncio.get_running_loop()
        self._loop_seen = time.monotonic()
        self._progress = ProgressWatch()
        self._followed = road.store.spools.map(lambda spool: _FollowedSpool(spool, disk))
        self._indexes: BothSpools[BacklogIndex] | None = None
        """None: the spools are being read."""

    # --- In the thread of the server ---

    def read_spools(self) -> None:
        """Read the headers of all blocks that wait: it takes time with a large backlog."""
        firsts = [min((each.cursor.blocks[index] for each in self._road.destinations), default=0) for index in (0, 1)]
        with contextlib.suppress(RelayError):  # then the backlog stays unknown
            first, second = (each.read(start) for each, start in zip(self._followed, firsts, strict=True))
            self._indexes = BothSpools(first, second)

    def look(self) -> None:
        """Note how far everything is; to be called once a second."""

        def note_loop() -> None:
            self._loop_seen = time.monotonic()

        with contextlib.suppress(RuntimeError):  # the program's loop is closed: it ends
            self._loop.call_soon_threadsafe(note_loop)
        intake, now = self._road.intake, time.monotonic()
        ends = self._road.store.spools.map(lambda spool: spool.next_number)
        destinations = [
            DestinationProgress(each.name, each.required, tuple(each.cursor.blocks), tuple(ends), str(each.error or ""))
            for each in tuple(self._road.destinations)
        ]
        self._progress.look(now, IntakeProgress(str(intake.error or ""), intake.commit_began), destinations)
        self.backlogs()

    def backlogs(self) -> dict[str, Backlog]:
        """How much waits for each destination; nothing while the spools are being read."""
        if self._indexes is None:
            return {}
        destinations = tuple(self._road.destinations)
        found = {each.name: Backlog() for each in destinations}
        for number, (followed, index) in enumerate(zip(self._followed, self._indexes, strict=True)):
            followed.note(index, wall_clock())
            blocks = {each.name: each.cursor.blocks[number] for each in destinations}
            index.forget(min(blocks.values(), default=0))
            found = {name: backlog.plus(index.behind(blocks[name])) for name, backlog in found.items()}
        return found

    def health(self) -> Health:
        """The health now."""
        return self._progress.health(time.monotonic(), self._loop_seen)

    # --- On the program's event loop ---

    async def measure(self, backlogs: Mapping[str, Backlog]) -> Measurement:
        """Measure everything except what waits, which the other thread knows."""
        road, clocks = self._road, read_clocks()
        live, store, intake = road.live(), road.store, road.intake
        try:
            free = self._disk.free(store.folder)
        except StorageError:
            free = None
        return Measurement(
            now=clocks.wall,
            version=version("relay-syslog"),
            python=platform.python_version(),
            live=live,
            pending_octets=intake.pending_octets,
            commit_seconds=intake.commit_seconds,
            spools=tuple(
                SpoolMeasurement(name, spool.appended.messages, spool.appended.octets, spool.sync_seconds)
                for name, spool in zip(_NAMES, store.spools, strict=True)
            ),
            used=store.space.used,
            max_size=store.space.max_size,
            free=free,
            lost=dict(store.losses.reported_events),
            destinations=tuple(
                DestinationMeasurement(
                    each.name,
                    each.cursor.delivered,
                    each.cursor.proven_at,
                    each.proof_seconds,
                    backlogs.get(each.name),
                )
                for each in road.destinations
            ),
            certificates=tuple(road.housekeeping.watches.certificates.look(clocks)),
            originators=road.housekeeping.originators,
            archive_commit_seconds=road.archive_commit_seconds,
            dropped_alarms=road.housekeeping.watches.alarm_command.dropped,
        )


class _FollowedSpool:
    """What was appended to a spool up to some moment; what came before is read from the disk once."""

    def __init__(self, spool: Spool, disk: Disk) -> None:
        self._spool = spool
        self._disk = disk
        self._noted = spool.appended
        self._end = self._noted.next_number or spool.next_number

    def read(self, start: int) -> BacklogIndex:
        """The index of all blocks from `start` to those that `note` adds."""
        index = BacklogIndex(min(start, self._end))
        for first, following in bounds(self._disk, self._spool.folder):
            if first >= self._end or (following is not None and following <= start):
                continue
            with contextlib.suppress(RelayError):  # damaged, or deleted since it was listed
                _, reader = open_segment(self._disk, self._spool.folder, BlockLocation.start_of(first), following)
                with reader:
                    for _, header in reader.headers():
                        if start <= header.number < self._end:
                            index.add(header.number + 1, header.messages, header.size, header.committed)
        return index

    def note(self, index: BacklogIndex, now: int) -> None:
        """Add what was appended since the last call."""
        appended, before = self._spool.appended, self._noted
        if appended.next_number:
            self._noted = appended
            added = Appended(appended.messages - before.messages, appended.octets - before.octets, 0)
            index.add(appended.next_number, added.messages, added.octets, now)
