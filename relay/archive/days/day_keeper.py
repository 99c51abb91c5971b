"""Keeps the archive's closed days: compresses and removes them as [receiver.retention] says, in a thread of its own.

It looks at the whole archive at the start, when a UTC day begins and every few minutes, in slices: it rests nine times
as long as it looked, and from look to look it takes five times as long as a look. 400,000 files take about 4 seconds of
a processor. Each step can be interrupted by SIGKILL at any point:

- Compression: a child process writes NAME.zst.new, syncs it, reads it back and compares it. Then the copy is renamed,
  the folder synced, and the plain log deleted. So one whole copy always exists. An unfinished copy is deleted by the
  next look; a finished one beside its plain log is compared again, and the plain log deleted.
- Removal: a `Removal` is appended to the ledger and synced, then the log is deleted. The first look of the next run
  finishes a removal that a crash interrupted.

A day is touched only when the last line of its ledger is a committed `Closing`: never an open day, and nothing that
relay did not write. Days that relay gave up have no closing and stay. The next ones are removed instead, and the fault
names them when they are older or larger than retention allows. The newest ledger of an originator is never deleted,
because the next one continues its chain.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from threading import Event
from typing import Final, NamedTuple, TypeVar

from relay.archive.days.archive_survey import FolderSurvey, originator_folders, plain_log_among, survey
from relay.archive.days.compressed_log import NEW
from relay.archive.days.compressor import FREE_FLOOR, SUFFIX, CompressionJob, FileFacts, facts_of
from relay.archive.days.compressor_process import CompressorProcess
from relay.archive.days.day_counters import DayCounters, RemovedDays
from relay.archive.days.recorded_removal import append_removal, read_last_line
from relay.archive.days.retention import (
    MAX_DAYS,
    Cause,
    OldestDays,
    RetentionTerms,
    StoredDay,
    is_past,
    may_be_compressed,
    removal_cause,
)
from relay.archive.days.uncommitted_closings import UncommittedClosings
from relay.archive.days.vanished_days import VanishedDays
from relay.archive.layout import DayFiles, day_of
from relay.archive.ledger import Closing, LedgerLine, Removal
from relay.errors import DataError, InternalError, RelayError, StorageError
from relay.system.clock import Clock, wall_clock
from relay.system.crash_point import crash_point
from relay.system.disk import Disk
from relay.system.operational_log import NOTICE
from relay.values.configuration.retention_settings import NEVER
from relay.values.size import rounded_size
from relay.values.text import bug_text, counted

LOOK_SECONDS: Final = 300.0
LOOK_SHARE: Final = 5
"""The time from look to look, at least, in lengths of a look."""
RETRY_SECONDS: Final = 3600.0
"""Until a day that could not be compressed is tried again."""
MAX_FAILED: Final = 1000
MAX_UNCLOSED: Final = 100_000
MAX_REPORTS: Final = 100
_SLICE_SECONDS: Final = 0.01
_REST: Final = 9
_REST_OF_REMOVALS: Final = 1
"""The disk may be filling."""

_log = logging.getLogger("relay.days")
T = TypeVar("T")


class _FailedCompression(NamedTuple):
    retry_at: float
    """By the monotonic clock."""
    error: RelayError


class DayKeeper:
    """Use `run` in a thread; `stop` ends it. The other attributes may be read by other threads."""

    def __init__(  # noqa: PLR0913  each is a seam for tests
        self,
        disk: Disk,
        archive: str,
        terms: RetentionTerms,
        closings: UncommittedClosings,
        may_age: Callable[[], bool],
        *,
        clock: Clock = wall_clock,
        floor: int = FREE_FLOOR,
        most_days: int = MAX_DAYS,
    ) -> None:
        self.counters = DayCounters()
        self.removed: deque[RemovedDays] = deque(maxlen=MAX_REPORTS)
        """For the events that report it; the reporter removes what it has reported."""
        self.compressor = CompressorProcess()
        self._disk = disk
        self._archive = os.path.abspath(archive)
        self._terms = terms
        self._closings = closings
        self._may_age = may_age
        self._clock = clock
        self._floor = floor
        self._most_days = most_days
        self._unclosed: dict[str, int] = {}
        """Ledgers without a closing, and their sizes then: their days do not take the places of others."""
        self.stopping = Event()
        self._look_now = Event()
        self._vanished = VanishedDays(disk, self._archive)
        self._explained: dict[str, int] = {}
        """For each folder, how many days without a log are known to be removed or vanished."""
        self._look_failure: RelayError | None = None
        self._logged: deque[str] = deque(maxlen=MAX_REPORTS)
        """Failures that need not be logged again."""
        self._compressions: dict[str, _FailedCompression] = {}
        """By the path of the log; at most `MAX_FAILED`."""
        self._is_first_look = True

    @property
    def fault(self) -> RelayError | None:
        """Why a day could not be compressed or removed at the last attempt."""
        failed = next(iter(tuple(self._compressions.values())), None)
        return self._look_failure or (failed.error if failed else None)

    @property
    def terms(self) -> RetentionTerms:
        """The terms that it follows."""
        return self._terms

    def exchange(self, terms: RetentionTerms) -> None:
        """Follow these terms from now on, and look at once."""
        if terms != self._terms:
            self._terms = terms
            self._compressions.clear()
            self._look_now.set()

    def stop(self) -> None:
        """Let `run` return within a moment."""
        self.stopping.set()
        self._look_now.set()
        self.compressor.kill()

    def run(self) -> None:
        """Look, compress what is due, and wait, until `stop` is called. A bug ends one round."""
        while not self.stopping.is_set():
            self._look_now.clear()
            day, begun = day_of(self._clock()), time.monotonic()
            end = begun + LOOK_SECONDS
            try:
                due = self.look()
                end = max(end, begun + LOOK_SHARE * (time.monotonic() - begun))
                self.compress(due, until=end)
            except Exception as bug:  # noqa: BLE001  the next round may succeed, and nothing else keeps the days
                bug_error = InternalError("closed days are not kept", bug_text(bug), "please report it with the log")
                self._look_failure = self._noted(bug_error)
            finally:
                self.compressor.end()
            while time.monotonic() < end and day_of(self._clock()) == day and not self._look_now.wait(1.0):
                pass

    # --- Looking ---

    def look(self) -> OldestDays:
        """Look at every folder and remove what is due; returns the days to be compressed."""
        terms, now = self._terms, self._clock()
        oldest, due = OldestDays(self._most_days), OldestDays()
        given_up = OldestDays()
        total = 0
        self._look_failure = None
        for path in self._in_slices(self._folders(), _REST):
            try:
                found = survey(path)
                total += sum(found.sizes[name] for files in found.days for name in files.logs)
                self._tidy(found, terms, now)
                for files in found.days:
                    if not files.logs or not files.ledger:
                        continue
                    if self._unclosed.get(f"{path}/{files.ledger}", -1) == found.sizes[files.ledger]:
                        if files != found.days[-1]:
                            given_up.add(found.stored(files))
                        continue
                    oldest.add(found.stored(files))
                    if plain_log_among(files.logs) and self._is_due(found.stored(files), terms, now):
                        due.add(found.stored(files))
            except RelayError as error:
                self._look_failure = self._noted(error)
        self._is_first_look = False
        left = self._remove(oldest, total, terms, now)
        over = [each for each in given_up if removal_cause(each, left, terms, now, by_age=self._may_age())]
        if over and self._look_failure is None:
            self._look_failure = self._noted(_given_up_error(over))
        with suppress(StorageError):  # a full disk: the next look tries again
            self._vanished.save()
        return due

    def _folders(self) -> Iterator[str]:
        try:
            yield from originator_folders(self._archive)
        except StorageError as error:
            self._look_failure = self._noted(error)

    def _in_slices(self, things: Iterable[T], rest: int) -> Iterator[T]:
        """The same things, with a rest after each slice of work; they end early when the keeper stops."""
        begun = time.monotonic()
        for thing in things:
            yield thing
            worked = time.monotonic() - begun
            if worked > _SLICE_SECONDS:
                if self.stopping.wait(worked * rest):
                    return
                begun = time.monotonic()

    def _committed_end(self, path: str) -> LedgerLine | None:
        """The last line of a ledger; None while it is not certain to stay."""
        settled = self._closings.settled
        end = read_last_line(self._disk, path)
        if end is None or os.path.relpath(path, self._archive) in self._closings or self._closings.settled != settled:
            return None
        return end.line

    def _is_due(self, stored: StoredDay, terms: RetentionTerms, now: int) -> bool:
        if terms.compress_after == NEVER:
            return False
        last = self._committed_end(f"{stored.folder}/{stored.ledger}")
        return isinstance(last, Closing) and last.len > 0 and may_be_compressed(stored.day, last.closed, terms, now)

    def _tidy(self, found: FolderSurvey, terms: RetentionTerms, now: int) -> None:
        """Finish what a crash interrupted, name what vanished, and delete ledgers that are old enough."""
        for name in found.leftovers:
            self._disk.remove(f"{found.path}/{name}")
        if self._is_first_look:
            first = next((files for files in found.days if files.logs and files.ledger), None)
            if first and isinstance(self._committed_end(f"{found.path}/{first.ledger}"), Removal):
                self._delete_logs(found.stored(first))
        without = [files for files in found.days if files.ledger and not files.logs]
        if len(without) != self._explained.get(found.path, 0):
            for files in without:
                last = self._committed_end(f"{found.path}/{files.ledger}")
                day = self._name(found.path, files)
                if isinstance(last, Closing) and self._vanished.note(day, now):
                    self.counters.vanished += 1
                    _log.warning(
                        "%s: the log of this closed day was deleted or moved, and not by relay's retention", day
                    )
            self._explained[found.path] = len(without)
        for files in found.days if len(self._vanished) else ():
            if files.logs:
                self._vanished.found_again(self._name(found.path, files))
        self._remove_ledgers(found, terms, now)

    def _name(self, folder: str, files: DayFiles) -> str:
        return f"{os.path.relpath(folder, self._archive)}/{files.stem}"

    # --- Retention ---

    def _remove(self, oldest: OldestDays, total: int, terms: RetentionTerms, now: int) -> int:
        """Remove what is due; returns the octets of all logs that are left."""
        removed = RemovedDays()
        now = min(now, self._clock())  # the clock may have been set back during the look
        unclosed = len(self._unclosed)
        for stored in self._in_slices(oldest, _REST_OF_REMOVALS):
            cause = removal_cause(stored, total, terms, now, by_age=self._may_age())
            if cause is None or self.stopping.is_set():
                break
            try:
                if self._remove_day(stored, cause, now):
                    total -= stored.octets
                    name = f"{os.path.relpath(stored.folder, self._archive)}/{stored.ledger.rpartition('.')[0]}"
                    removed.add(stored, name, cause)
                else:
                    self._note_unclosed(f"{stored.folder}/{stored.ledger}")
            except StorageError as error:
                self._look_failure = self._noted(error)  # the next day may have room in the last block of its ledger
        if removed.days:
            self.counters.days_removed += removed.days
            self.counters.octets_removed += removed.octets
            self.removed.append(removed)
            _log.log(NOTICE, "%s", removed)
        if oldest.full and (removed.days or len(self._unclosed) > unclosed):
            self._look_now.set()
        return total

    def _remove_day(self, stored: StoredDay, cause: Cause, now: int) -> bool:
        path = f"{stored.folder}/{stored.ledger}"
        last = self._committed_end(path)
        if isinstance(last, Closing):
            append_removal(self._disk, path, Removal(removed=now, cause=cause))
            crash_point("removal-recorded")
        elif not isinstance(last, Removal):
            return False
        self._delete_logs(stored)
        self._explained[stored.folder] = self._explained.get(stored.folder, 0) + 1
        return True

    def _note_unclosed(self, path: str) -> None:
        with suppress(OSError):  # it was deleted meanwhile
            size = os.stat(path).st_size
            end = read_last_line(self._disk, path)
            if len(self._unclosed) < MAX_UNCLOSED and not (end and isinstance(end.line, Closing | Removal)):
                self._unclosed[path] = size

    def _delete_logs(self, stored: StoredDay) -> None:
        for name in stored.logs:
            if self._disk.exists(f"{stored.folder}/{name}"):
                self._disk.remove(f"{stored.folder}/{name}")
        self._disk.sync_folder(stored.folder)

    def _remove_ledgers(self, found: FolderSurvey, terms: RetentionTerms, now: int) -> None:
        """Delete the oldest ledgers, as far as they have no log; never the newest one."""
        if terms.ledgers == NEVER or not self._may_age():
            return
        for files in found.days[:-1]:
            if files.logs or not files.ledger or not is_past(files.day, terms.ledgers, now):
                return
            self._disk.remove(f"{found.path}/{files.ledger}")
            self._vanished.found_again(self._name(found.path, files))
            self._explained[found.path] = max(self._explained.get(found.path, 1) - 1, 0)
            self.counters.ledgers_removed += 1

    # --- Compression ---

    def compress(self, due: OldestDays, until: float) -> None:
        """Compress days one by one, until that time of the monotonic clock."""
        paths = {f"{stored.folder}/{plain_log_among(stored.logs)}": stored for stored in due}
        self._compressions = {path: failed for path, failed in self._compressions.items() if path in paths}
        for path, stored in paths.items():
            if self.stopping.is_set() or time.monotonic() >= until or self._terms.compress_after == NEVER:
                return
            failed = self._compressions.pop(path, None)
            if failed is not None and failed.retry_at > time.monotonic():
                self._compressions[path] = failed
                continue
            try:
                self._compress_day(stored, path)
            except RelayError as error:
                if self.stopping.is_set() or (isinstance(error, StorageError) and error.full):
                    return  # the alarms about the disk report this, and the compression never fills it
                if isinstance(error, StorageError) and error.absent:
                    continue
                if len(self._compressions) < MAX_FAILED:
                    self._compressions[path] = _FailedCompression(time.monotonic() + RETRY_SECONDS, error)
                self._noted(error)

    def _compress_day(self, stored: StoredDay, path: str) -> None:
        last = self._committed_end(f"{stored.folder}/{stored.ledger}")
        if not isinstance(last, Closing):
            return
        copy = f"{path}{SUFFIX}"
        is_there = self._disk.exists(copy)
        result = self.compressor.compress(CompressionJob(path, last.len, compare=is_there, floor=self._floor))
        if result.original is None or result.copy is None:
            raise result.error
        crash_point("day-compressed")
        self._require_same(path, result.original)
        self._require_same(copy if is_there else f"{copy}{NEW}", result.copy)
        if not is_there:
            self._disk.replace(f"{copy}{NEW}", copy)
            self._disk.sync_folder(stored.folder)
            crash_point("day-renamed")
        self._disk.remove(path)
        self._disk.sync_folder(stored.folder)
        self.counters.days_compressed += 1
        self.counters.octets_before += result.original.size
        self.counters.octets_after += result.copy.size

    def _require_same(self, path: str, facts: FileFacts) -> None:
        with self._disk.open(path, writable=False) as file:
            if facts_of(file.descriptor) != facts:
                raise DataError(path, "it was changed while the day was being compressed", "relay tries again")

    def _noted(self, error: RelayError) -> RelayError:
        self.counters.failed += 1
        if str(error) not in self._logged:
            self._logged.append(str(error))
            _log.warning("%s", error)
        return error


def _given_up_error(over: list[StoredDay]) -> DataError:
    size = rounded_size(sum(each.octets for each in over))
    what = f"{over[0].folder}/{over[0].ledger}"
    others = f" and {counted(len(over) - 1, 'other')}" if len(over) > 1 else ""
    cause = f"relay gave this day up{others} ({size}), so retention leaves them, and removes younger days instead"
    return DataError(what, cause, "examine what `relay archive verify` reports, and delete them")
