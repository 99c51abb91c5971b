"""The logs and ledgers that an archive's writer appends to: where each day is continued, begun, closed or given up.

A day is continued only if its files are as the journal says. Otherwise they are given up, which means that the writer
never touches them again, and a new part of the day begins (`DATE.2.log`). A ledger that another one continues is closed
first, so that it never grows afterwards. When an originator's folder cannot be used, `~aside/FOLDER` is used instead.
"""

import logging
import os
import stat
import time
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from relay.archive import layout
from relay.archive.days.event_times import EventTimes
from relay.archive.ledger import Closing
from relay.archive.ledgers.ledger_end import lines_backward
from relay.archive.writer.archive_counters import ArchiveCounters
from relay.archive.writer.extent_draft import ExtentDraft
from relay.archive.writer.journal import DaySizes
from relay.archive.writer.open_day import NOT_LOCATED, OpenDay
from relay.archive.writer.open_files import OpenFiles, default_limit
from relay.archive.writer.recovery import WHOLE_DISK_ERRORS, extents
from relay.errors import CannotCreateError, StorageError
from relay.system.clock import wall_clock
from relay.system.disk import Disk
from relay.system.files.file_access import FileAccess

_DAY: Final = 86_400_000_000

_log = logging.getLogger("relay.archive")


class DayLimits(NamedTuple):
    """Ceilings of what is open, and when days are closed."""

    max_open: int = 0
    """Days whose files are open; 0: by this process's limit of descriptors."""
    max_days: int = 16_384
    """Days that are not closed; above it, the longest untouched ones are closed."""
    closing_grace: int = 300
    """Seconds after midnight in which the day before is not closed."""
    closing_seconds: float = 0.25
    """How long one commit may take to close days."""


class OpenDays:
    """All days that are open."""

    def __init__(
        self,
        disk: Disk,
        archive: str,
        suffix: str,
        limits: DayLimits,
        counters: ArchiveCounters,
        access: FileAccess,
    ) -> None:
        self.days: dict[str, DaySizes] = {}
        """Their committed sizes, or zeros for those that have begun since, by their logs' paths."""
        self.ended: list[str] = []
        """The paths of logs that were closed or given up since the last commit."""
        self.files = OpenFiles(disk, archive, limits.max_open or default_limit(), access)
        self._disk = disk
        self._archive = archive
        self._suffix = suffix
        self._limits = limits
        self._access = access
        self.unusable: set[str] = set()
        """Paths of files that an earlier writer could not write or sync."""
        self._counters = counters
        self._by_place: dict[tuple[str, str], OpenDay] = {}
        self._by_path: dict[str, OpenDay] = {}
        self._touched: dict[OpenDay, None] = {}
        self._touched_days: dict[str, None] = {}
        self._closed_before = ""

    def of(self, folder: str, day: str, originator: str) -> OpenDay:
        """An originator's day, for adding to its drafts."""
        log = self._by_place.get((folder, day))
        if log is None:
            log = self._by_place[folder, day] = OpenDay(folder, day, originator, self._suffix)
        self._touched[log] = self._touched_days[day] = None
        return log

    def waiting(self, folder: str) -> Iterator[ExtentDraft]:
        """What waits of one originator."""
        for day in self._touched_days:
            log = self._by_place.get((folder, day))
            if log is not None:
                yield from log.drafts

    @property
    def touched(self) -> Iterable[OpenDay]:
        """Those with something new since the last commit."""
        return self._touched

    def render(self) -> list[DaySizes]:
        """Turn all drafts into octets; the days that begin, whose sizes the journal must have before anything else."""
        waiting = sorted((log for log in self._touched if log.drafts), key=lambda log: (log.folder, log.day))
        begun = []
        for log in waiting:
            if log.part == NOT_LOCATED or not self._is_as_left(log):
                begun += self._locate(log)
            log.render_drafts()
        return begun

    def append(self) -> None:
        """Write what is rendered."""
        for log in [log for log in self._touched if log.rendered]:
            self.files.append(log)

    @property
    def grown(self) -> tuple[DaySizes, ...]:
        """The sizes that the next commit makes valid."""
        ended = frozenset(self.ended)
        return tuple(log.sizes for log in self._touched if log.part and log.path not in ended)

    def note_committed(self) -> None:
        """Note that the journal has `grown` and `ended`."""
        for sizes in self.grown:
            self.days.pop(sizes.path, None)
            self.days[sizes.path] = sizes
        for path in self.ended:
            log = self._by_path.pop(path, None)
            if log is not None:
                self.files.close(log)
        self.ended = []
        self._touched = {}
        self._touched_days = {}
        if len(self._by_place) > self._limits.max_days:
            self._by_place = {place: log for place, log in self._by_place.items() if log.files is not None}
            self._by_path = {log.path: log for log in self._by_place.values()}

    # --- Where a day is continued ---

    def _is_as_left(self, log: OpenDay) -> bool:
        """Whether a day's files are as this writer left them. Nobody else may touch them while the day is open."""
        if log.rendered:
            return True  # it was looked at for this commit
        for path, size, index in ((log.path, log.log, 0), (log.ledger_path, log.ledger, 1)):
            full = f"{self._archive}/{path}"
            try:
                facts = os.lstat(full)
            except OSError:
                return False
            if full in self.unusable:
                return False
            if not stat.S_ISREG(facts.st_mode) or facts.st_size != size:
                return False
            if log.files is not None and log.identities[index] != (facts.st_dev, facts.st_ino):
                return False
        return True

    def _locate(self, log: OpenDay) -> list[DaySizes]:
        """Find where to continue a day; its sizes if it begins."""
        if log.part != NOT_LOCATED:
            self._give_up(log)
        aside = f"{layout.ASIDE}/{log.wanted_folder.replace('/', '~')}"  # also of ~disputed/NAME, where readers look
        log.folder = log.wanted_folder
        try:
            return [] if self._continue(log) else [self._begin(log)]
        except (StorageError, CannotCreateError) as error:
            if getattr(error, "errno", 0) in WHOLE_DISK_ERRORS:
                raise
            log.folder = aside
            begun = [] if self._continue(log) else [self._begin(log)]
            _log.warning("%s; what comes for %s is stored in %s", error, log.wanted_folder, aside)
            return begun

    def _continue(self, log: OpenDay) -> bool:
        """Continue the newest part of a day if it is open and as it was left; else choose the number of a new part."""
        found = [each for each in self._days_of(log.folder) if each.day == log.day]
        parts = [each.part for each in found]
        log.part = max(parts, default=1)
        sizes = self.days.get(log.path)
        is_usable = self.unusable.isdisjoint((f"{self._archive}/{log.path}", f"{self._archive}/{log.ledger_path}"))
        own_log = log.path.rpartition("/")[2]
        has_another_log = any(name != own_log for each in found if each.part == log.part for name in each.logs)
        if is_usable and not has_another_log and not self._size(log.path) and not self._size(log.ledger_path):
            return False  # the process crashed when this part began
        if sizes is not None and self._take_up(log, sizes):
            return True
        log.part = max(parts, default=0) + 1
        return False

    def _take_up(self, log: OpenDay, sizes: DaySizes) -> bool:
        """Open a day's files where the journal says that they end; False, and given up, when they are not like that."""
        log.log, log.ledger = sizes.log, sizes.ledger
        if self._is_as_left(log):
            try:
                self.files.open(log)
                log.previous = self._last_line(log.ledger_path)
            except StorageError as error:
                if error.errno in WHOLE_DISK_ERRORS:
                    raise
            else:
                log.taken_up_at, log.lines, log.times = log.ledger, 0, EventTimes()
                self._by_path[log.path] = log
                return True
        self._give_up(log)
        return False

    def _begin(self, log: OpenDay) -> DaySizes:
        """Begin a new part of a day."""
        for made in self._disk.make_folder(f"{self._archive}/{log.folder}", durable=False):
            self._access.give_to(made, is_folder=True)
        after, previous = self._end_previous(log)
        log.log = log.ledger = 0
        log.taken_up_at, log.lines, log.times = 0, 0, EventTimes()
        log.begins_anew = True
        self.files.open(log)
        self.days[log.path] = sizes = log.sizes
        self._by_path[log.path] = log
        log.render_heading(after, previous)
        return sizes

    def _end_previous(self, log: OpenDay) -> tuple[str | None, bytes]:
        """The ledger that a new one continues, and its last line. If it is open, it is closed."""
        own = (log.day, log.part)
        for found in reversed(self._days_of(log.folder)):
            if not found.ledger or (found.day, found.part) >= own:
                continue
            stem = f"{log.folder}/{found.stem}"
            paths = [stem + suffix for suffix in layout.LOG_SUFFIXES.values() if stem + suffix in self.days]
            closed = self._close(self.days[paths[0]]) if paths else None
            if closed is not None:
                return found.ledger, closed.previous
            if line := self._last_line(stem + layout.LEDGER_SUFFIX):
                return found.ledger, line
        return None, b""

    def _give_up(self, log: OpenDay) -> None:
        """Never touch these files again."""
        _log.warning(
            "%s/%s: it or its ledger was changed, or cannot be written; a new part begins", self._archive, log.path
        )
        self._counters.new_parts += 1
        self.files.close(log)
        self.ended.append(log.path)
        self.days.pop(log.path, None)
        self._by_path.pop(log.path, None)
        log.begins_anew = False

    def _days_of(self, folder: str) -> list[layout.DayFiles]:
        return layout.days_in(self._disk.names(f"{self._archive}/{folder}"))

    def _size(self, path: str) -> int:
        try:
            return os.lstat(f"{self._archive}/{path}").st_size
        except OSError:
            return 0

    def _last_line(self, path: str) -> bytes:
        """The last whole line of a ledger that is not a `Removal`; empty when there is none."""
        with self._disk.open(f"{self._archive}/{path}", writable=False) as file:
            lines = (line.octets for line in lines_backward(file.read, file.size))
            return next((line for line in lines if line != b"\n" and not line.startswith(b'{"removed"')), b"")

    # --- The end of days ---

    def close_before(self, newest: int) -> None:
        """Close the days before that of the newest message, and the longest untouched above the ceiling.

        Days more than a day later are closed too: the clock was ahead and has been set back.
        """
        today = layout.day_of(newest - self._limits.closing_grace * 1_000_000)
        surplus = len(self.days) - self._limits.max_days
        if today == self._closed_before and surplus <= 0:
            return
        until = time.monotonic() + self._limits.closing_seconds
        ahead = layout.day_of(layout.begin_of(today) + 2 * _DAY)
        for index, sizes in enumerate(list(self.days.values())):
            if index >= surplus and today <= sizes.path.rpartition("/")[2] < ahead:
                continue
            if time.monotonic() > until:
                return
            if sizes.path in self.days:
                self._close(sizes)
        self._closed_before = today

    def _close(self, sizes: DaySizes) -> OpenDay | None:
        """Close an open day; None when its files are not as they were left, and it is given up instead."""
        log = self._by_path.get(sizes.path)
        if log is None:
            log = self._left_open(sizes)
            if not sizes.ledger or not self._take_up(log, sizes):
                self.ended.append(sizes.path)
                self.days.pop(sizes.path, None)
                return None
        elif not self._is_as_left(log):
            self._give_up(log)
            self._forget_place(log)
            return None
        for extent in extents(self._disk, f"{self._archive}/{log.ledger_path}", log.taken_up_at):
            log.lines += extent.n
            log.times.add_extent(extent)
        time_span, outliers = log.times.closing()
        closing = Closing(closed=wall_clock(), len=log.log, n=log.lines, time=time_span, outliers=outliers)
        log.render_closing(closing)
        self._touched[log] = None
        self.ended.append(log.path)
        del self.days[log.path]
        self._forget_place(log)
        return log

    def _left_open(self, sizes: DaySizes) -> OpenDay:
        """A day that another process left open."""
        folder, _, name = sizes.path.rpartition("/")
        found = layout.days_in([name])[0]
        log = OpenDay(folder, found.day, "", name[len(found.stem) :])
        log.part = found.part
        return log

    def _forget_place(self, log: OpenDay) -> None:
        place = (log.wanted_folder, log.day)
        if self._by_place.get(place) is log:
            del self._by_place[place]
