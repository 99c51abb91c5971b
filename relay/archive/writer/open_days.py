"""The logs and ledgers that an archive's writer appends to: where each day is continued, begun, closed or given up.

A day is continued only if its files are as the journal says. Otherwise they are given up, which means that the writer
never touches them again, and a new part of the day begins (`DATE.2.log`). What another program did to them is the first
line of the originator's next ledger (`FileChange`); if nothing of that originator waits, a part begins for that line
alone. All days that an earlier writer left open are compared before anything is appended.

A ledger that another one continues is closed first, so that it never grows afterwards. When an originator's folder
cannot be used, `~aside/FOLDER` is used instead.
"""

import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from relay.archive import layout
from relay.archive.days.event_times import EventTimes
from relay.archive.ledger import Closing, FileChange, hash_of
from relay.archive.ledgers.ledger_end import lines_backward
from relay.archive.ledgers.ledger_reader import LedgerReader
from relay.archive.writer.archive_counters import ArchiveCounters
from relay.archive.writer.changed_files import ChangedFiles, differences
from relay.archive.writer.extent_draft import ExtentDraft
from relay.archive.writer.journal import DaySizes
from relay.archive.writer.open_day import NOT_LOCATED, OpenDay
from relay.archive.writer.open_files import OpenFiles, default_limit
from relay.archive.writer.recovery import WHOLE_DISK_ERRORS, extents
from relay.errors import CannotCreateError, NoInputError, StorageError
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
        self._are_compared = False
        self._changed_files = ChangedFiles(disk, archive)
        self._changes: dict[tuple[str, str], list[FileChange]] = {}
        """What no ledger has yet, by folder and day."""
        self._given_up: dict[tuple[str, str], int] = {}
        """The last part that this writer gave up, by folder and day."""

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
        if not self._are_compared:
            self._compare_all()
        waiting = sorted((log for log in self._touched if log.drafts), key=lambda log: (log.folder, log.day))
        begun = []
        for log in waiting:
            if log.part == NOT_LOCATED or not self._is_as_left(log):
                begun += self._locate(log)
            log.render_drafts()
        return begun + self._record_changes()

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
        return self._is_usable(log) and not differences(self._archive, log)

    def _is_usable(self, log: OpenDay) -> bool:
        return self.unusable.isdisjoint((f"{self._archive}/{log.path}", f"{self._archive}/{log.ledger_path}"))

    def _compare_all(self) -> None:
        """Compare every day that an earlier writer left open, and give up those that another program changed."""
        for sizes in list(self.days.values()):
            if sizes.ledger and sizes.path not in self._by_path:
                log = self._left_open(sizes)
                if not self._is_as_left(log):
                    self._give_up(log)
        self._are_compared = True

    def _record_changes(self) -> list[DaySizes]:
        """Begin a part for each change that no ledger has yet; the days that begin."""
        begun = []
        for folder, day in list(self._changes):
            log = self._by_place.get((folder, day))
            if log is None:
                log = self._by_place[folder, day] = OpenDay(folder, day, self._originator_of(folder), self._suffix)
            self._touched[log] = None
            if log.part == NOT_LOCATED:
                begun += self._locate(log)
            for change in self._changes.pop((folder, day), ()):
                log.render_change(change)
        return begun

    def _originator_of(self, folder: str) -> str:
        """The name in a folder's newest ledger; the folder's own when it has none."""
        name = folder.rpartition("/")[2]
        with suppress(StorageError, NoInputError):
            for found in reversed(self._days_of(folder)):
                if found.ledger and (heading := LedgerReader(f"{self._archive}/{folder}/{found.ledger}").heading()):
                    return heading.originator
        return name

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
        given_up = self._given_up.get((log.folder, log.day), 0)
        own_log = log.path.rpartition("/")[2]
        has_another_log = any(name != own_log for each in found if each.part == log.part for name in each.logs)
        is_empty = not self._size(log.path) and not self._size(log.ledger_path)
        if log.part > given_up and self._is_usable(log) and not has_another_log and is_empty:
            return False  # it is the first, or the process crashed when this part began
        if sizes is not None and self._take_up(log, sizes):
            return True
        log.part = max((*parts, self._given_up.get((log.folder, log.day), 0))) + 1
        return False

    def _take_up(self, log: OpenDay, sizes: DaySizes) -> bool:
        """Open a day's files where the journal says that they end; False, and given up, when they are not like that."""
        log.log, log.ledger = sizes.log, sizes.ledger
        log.head = sizes.head.hex()
        if self._is_as_left(log):
            try:
                self.files.open(log)
                log.previous = self._last_line(log.ledger_path)
                if sizes.head not in {b"", bytes.fromhex(hash_of(log.previous))}:
                    self._give_up(log, ("the end of the ledger was rewritten",))
                    return False
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
        self.days[log.path] = sizes = DaySizes(log.path, 0, 0)
        self._by_path[log.path] = log
        log.render_heading(after, previous)
        for place in [place for place in self._changes if place[0] in {log.folder, log.wanted_folder}]:
            for change in self._changes.pop(place):
                log.render_change(change)
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

    def _give_up(self, log: OpenDay, rewritten: tuple[str, ...] = ()) -> None:
        """Never touch these files again."""
        place = (log.folder, log.day)
        if found := (*differences(self._archive, log), *rewritten):
            change = self._changed_files.describe(log, found, wall_clock())
            self._changes.setdefault(place, []).append(change)
            kept = f"{self._archive}/{layout.OWN}/changed has a copy" if change.aside else "there is nothing to copy"
            _log.error(
                "%s/%s: another program changed it: %s; a new part begins and its ledger records this; %s",
                *(self._archive, log.path, change.cause, kept),
            )
        else:
            _log.warning("%s/%s: it or its ledger cannot be written; a new part begins", self._archive, log.path)
        self._given_up[place] = max(log.part, self._given_up.get(place, 0))
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

    def close_before(self, newest: int) -> list[DaySizes]:
        """Close the days before that of the newest message, and the longest untouched above the ceiling.

        Days more than a day later are closed too: the clock was ahead and has been set back. Returns the days that
        begin, to record that others were changed.
        """
        today = layout.day_of(newest - self._limits.closing_grace * 1_000_000)
        surplus = len(self.days) - self._limits.max_days
        if today == self._closed_before and surplus <= 0:
            return []
        until = time.monotonic() + self._limits.closing_seconds
        ahead = layout.day_of(layout.begin_of(today) + 2 * _DAY)
        for index, sizes in enumerate(list(self.days.values())):
            if index >= surplus and today <= sizes.path.rpartition("/")[2] < ahead:
                continue
            if time.monotonic() > until:
                break
            if sizes.path in self.days:
                self._close(sizes)
        else:
            self._closed_before = today
        return self._record_changes()

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
        log.part, log.log, log.ledger, log.head = found.part, sizes.log, sizes.ledger, sizes.head.hex()
        return log

    def _forget_place(self, log: OpenDay) -> None:
        place = (log.wanted_folder, log.day)
        if self._by_place.get(place) is log:
            del self._by_place[place]
