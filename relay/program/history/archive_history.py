"""The history of an archive, in the order of receipt: day by day, and within a day by the extents of the ledgers.

Each originator's own order is that of its logs. A log without a readable ledger comes at its day's beginning.

A history that continues (`following`) gives what the ledgers have recorded, so not what a writer is just committing.
At each call of `events` it looks for new originators, days and parts of days, and reads each log from where it ended
(`reading_position`). `positions` is exact whenever the caller asks for the next event: then all before were used.

Memory: about `BLOCKS` octets of logs for all originators of a day together, their names, and one position for each. A
day with more than 500 originators takes about 15 KiB for each of them.
"""

import heapq
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, tzinfo
from operator import itemgetter
from typing import Final

from typing_extensions import override

from relay.archive.layout import DayFiles
from relay.archive.ledger import Removal
from relay.archive.reading.day_log import A_DAY, DayLog, marks_at
from relay.archive.reading.ledger_reader import CHUNK, DayEnd
from relay.archive.reading.line_search import BLOCK, ArchivedMessage, Found, search, search_backward
from relay.archive.reading.log_octets import OpenLogs
from relay.archive.reading.originators import OriginatorFolder, days_of, originators, require_archive
from relay.errors import DataError, NoInputError, RelayError, StorageError
from relay.program.history.event_filter import EventFilter
from relay.program.history.past_event import ArchiveFacts, History, Item, PastEvent, UnreadableStretch
from relay.program.history.reading_position import DayPosition, OriginatorPosition
from relay.syslog.rfc5424 import format_timestamp
from relay.system.disk import Disk
from relay.values.event import EventType

BLOCKS: Final = 2 * 1_048_576
_SMALLEST: Final = 2048
_UNRECORDED: Final = "unrecorded"
"""The mark of a line that no readable ledger describes."""

Keyed = tuple[int, Item]


class ArchiveHistory(History):
    """The history of an archive."""

    def __init__(
        self,
        disk: Disk,
        folder: str,
        event_filter: EventFilter,
        *,
        following: bool = False,
        positions: dict[str, OriginatorPosition] | None = None,
        zone: tzinfo = UTC,
    ) -> None:
        """`positions`: continue from these; they are changed while events are read. `zone`: of times without one."""
        self._disk = disk
        self._folder = folder
        self._filter = event_filter
        self._query = event_filter.line_query()
        self._following = following
        self._zone = zone
        self.positions = {} if positions is None else positions
        """By the originator's folder."""
        self._restored = set(self.positions)
        self._listed: dict[str, tuple[int, list[DayFiles]]] = {}
        """Folder → its modification when it was listed, and its days."""
        self._logs = OpenLogs()
        self._flaws: list[UnreadableStretch] = []
        require_archive(disk, folder)

    # --- Forward ---

    @override
    def events(self) -> Iterator[Item]:
        days: dict[str, dict[OriginatorFolder, list[DayFiles]]] = {}
        for folder in self._originators():
            for files in self._days(folder):
                if self._has_more(folder, files):
                    days.setdefault(files.day, {}).setdefault(folder, []).append(files)
        for _, found in sorted(days.items()):
            block = max(min(BLOCKS // len(found), BLOCK), _SMALLEST)
            streams = [self._forward(folder, parts, block) for folder, parts in found.items()]
            for _, item in heapq.merge(*streams, key=itemgetter(0)):
                yield from self._take_flaws()
                yield item
            yield from self._take_flaws()

    def _has_more(self, folder: OriginatorFolder, files: DayFiles) -> bool:
        """Whether a day may have what was not read yet."""
        if not self._following:
            return True
        position = self._position(folder)
        log = position.logs.get(files.stem)
        if log is None:
            return files.stem not in position.read
        return not log.finished and log.facts != _facts(folder, files)

    def _forward(self, folder: OriginatorFolder, parts: list[DayFiles], block: int) -> Iterator[Keyed]:
        """One originator's day. The key never decreases, whatever the writer's clock did."""
        reached = 0
        for files in parts:
            day = self._opened(folder, files, block)
            try:
                stream = self._continued(day) if self._following else self._whole(day, block)
                for key, item in stream:
                    reached = max(reached, key)
                    yield reached, item
            except (NoInputError, StorageError, DataError) as error:
                yield reached, _unreadable(day, error)
                if self._following:  # not again until the files change
                    position = self._position(folder).logs.setdefault(files.stem, DayPosition())
                    position.facts = _facts(folder, files)
            finally:
                day.close()

    def _whole(self, day: DayLog, block: int) -> Iterator[Keyed]:
        """A day from its beginning to its present end."""
        if self._is_ruled_out(day):
            return
        if not day.path:
            yield from self._without_log(day, day.end(), 0)
            return
        for key, found in search(day, self._query, block=block):
            if found is not None and self._filter.takes(event := self._event(day, found)):
                yield key, event

    def _continued(self, day: DayLog) -> Iterator[Keyed]:
        """What a day has got since its position."""
        positions = self._position(day.folder)
        position = positions.logs.get(day.files.stem) or positions.begin(day.files.stem, _stem_before(day))
        facts = _facts(day.folder, day.files)
        end = day.end()  # before the rest: nothing is added to a closed log
        if day.ledger is not None and position.go_back(day.ledger.hash_at):
            cause = "after a crash, relay wrote its last lines again; they are printed again"
            yield day.begin, UnreadableStretch(day.ledger.path, 0, cause, is_expected=True)
        if not day.path:
            yield from self._without_log(day, end, position.off)
            # A log that was moved away can come back; it is named once until then.
            position.finished = bool(end.removal or (end.closing and position.off >= end.closing.len))
            position.facts = facts
            return
        is_over = bool(end.closing or end.removal or self._is_continued(day))
        until = self._end_of(day, is_over=is_over)
        if position.off > day.log.size():
            cause = "it is shorter than what was read of it, so it is read from its beginning"
            yield day.begin, UnreadableStretch(day.path, 0, cause, is_expected=True)
            position.off = 0
        for key, found in search(day, self._query, begin=position.off, until=until):
            if found is not None:
                position.enter(found.piece.extent, found.piece.line)
                if self._filter.takes(event := self._event(day, found)):
                    yield key, event
                position.off = found.end
        if until > position.off:
            self._pass(day, position, until)
        position.facts, position.finished = facts, is_over

    def _end_of(self, day: DayLog, *, is_over: bool) -> int:
        """How far the log can be read: only what is recorded, while its writer adds to it."""
        if day.ledger is None or is_over:
            return day.end_of_lines(day.log.size())
        recorded = day.recorded()
        return recorded[0].off + recorded[0].len if recorded else 0

    def _pass(self, day: DayLog, position: DayPosition, until: int) -> None:
        """Move the position over lines that the query ruled out."""
        recorded = day.recorded()
        if recorded is not None and recorded[0].off < until:
            position.enter(*recorded)
        position.off = until

    def _is_continued(self, day: DayLog) -> bool:
        """Whether the writer continued in another log, so that it will not add to this one."""
        later = [files for files in self._days(day.folder) if (files.day, files.part) > (day.files.day, day.files.part)]
        if day.ledger is None:
            return bool(later)
        return any(_stem_before(self._opened(day.folder, files, CHUNK)) == day.files.stem for files in later[:2])

    # --- Backward ---

    @override
    def newest(self, limit: int) -> Iterator[Item]:
        if self._following:
            self._note_ends()
        newest = list(self.backward(limit))
        yield from (item for item in newest if isinstance(item, UnreadableStretch))
        yield from (item for item in reversed(newest) if isinstance(item, PastEvent))

    def backward(self, limit: int | None = None) -> Iterator[Item]:
        """The selected events, the newest first, up to so many; what cannot be read is not counted."""
        items = iter(()) if limit == 0 else self._all_backward()
        found = 0
        for item in items:
            yield item
            found += isinstance(item, PastEvent)
            if found == limit:
                return

    def _all_backward(self) -> Iterator[Item]:
        days: dict[str, dict[OriginatorFolder, list[DayFiles]]] = {}
        for folder in self._originators():
            for files in self._days(folder):
                days.setdefault(files.day, {}).setdefault(folder, []).append(files)
        for _, found in sorted(days.items(), reverse=True):
            block = max(min(BLOCKS // len(found), BLOCK), _SMALLEST)
            streams = [self._backward(folder, parts, block) for folder, parts in reversed(found.items())]
            for _, item in heapq.merge(*streams, key=itemgetter(0), reverse=True):
                yield from self._take_flaws()
                if item is not None:
                    yield item
            yield from self._take_flaws()

    def _backward(
        self, folder: OriginatorFolder, parts: list[DayFiles], block: int
    ) -> Iterator[tuple[int, Item | None]]:
        reached = 1 << 63
        for files in reversed(parts):
            day = self._opened(folder, files, min(block, CHUNK))
            try:
                if self._is_ruled_out(day):
                    continue
                if not day.path:
                    yield from ((reached, item) for _, item in self._without_log(day, day.end(), 0))
                    continue
                for key, found in self._lines_backward(day, block):
                    reached = min(reached, key)
                    if found is None:
                        yield reached, None
                    elif self._filter.takes(event := self._event(day, found)):
                        yield reached, event
            except (NoInputError, StorageError, DataError) as error:
                yield reached, _unreadable(day, error)
            finally:
                day.close()

    def _lines_backward(self, day: DayLog, block: int) -> Iterator[Found]:
        before = None
        if self._following:
            position = self._position(day.folder)
            noted = position.logs.get(day.files.stem)
            before = None if noted is None or noted.finished else noted.off
        return search_backward(day, self._query, block=block, before=before)

    def _note_ends(self) -> None:
        """Set the position of each log to its present end."""
        for folder in self._originators():
            for files in self._days(folder):
                day = self._opened(folder, files, CHUNK)
                position = self._position(folder).begin(files.stem, _stem_before(day))
                try:
                    end = day.end()
                    is_over = not day.path or bool(end.closing or end.removal or self._is_continued(day))
                    if day.path:
                        self._pass(day, position, self._end_of(day, is_over=is_over))
                    position.finished = is_over
                except (NoInputError, StorageError, DataError) as error:
                    self._flaws.append(_unreadable(day, error))
                finally:
                    day.close()

    # --- What there is ---

    def _originators(self) -> list[OriginatorFolder]:
        selected = self._filter.originators
        found = originators(self._disk, self._folder)
        return [folder for folder in found if selected is None or selected(folder.name)]

    def _days(self, folder: OriginatorFolder) -> list[DayFiles]:
        try:
            modified = os.stat(folder.path).st_mtime_ns
        except OSError:  # it was removed since it was listed
            return []
        known = self._listed.get(folder.path)
        if known is None or known[0] != modified:
            known = self._listed[folder.path] = modified, days_of(self._disk, folder)
        return known[1]

    def _position(self, folder: OriginatorFolder) -> OriginatorPosition:
        position = self.positions.get(folder.name)
        if position is None:
            position = self.positions[folder.name] = OriginatorPosition()
        elif folder.name in self._restored:
            self._restored.discard(folder.name)
            days = {files.stem: files for files in self._days(folder)}
            if any(
                log.finished and self._is_another(folder, days[stem], log)
                for stem, log in position.logs.items()
                if stem in days
            ):
                position = self.positions[folder.name] = OriginatorPosition()
                cause = "the bookmark is of other ledgers, so all days are read from the beginning"
                self._flaws.append(UnreadableStretch(folder.path, 0, cause, is_expected=True))
            position.find_read(
                days.values(),
                lambda stem: _stem_before(self._opened(folder, days[stem], CHUNK)) if stem in days else None,
            )
        return position

    def _is_another(self, folder: OriginatorFolder, files: DayFiles, log: DayPosition) -> bool:
        """Whether a closed day is not the one that was read: its ledger would not have changed."""
        with suppress(NoInputError):
            ledger = self._opened(folder, files, CHUNK).ledger
            return (
                ledger is not None and bool(log.passed) and ledger.hash_at(log.passed[-1].line) != log.passed[-1].sha256
            )
        return False

    def _opened(self, folder: OriginatorFolder, files: DayFiles, chunk: int) -> DayLog:
        def flaw(path: str, offset: int, cause: str) -> None:
            self._flaws.append(UnreadableStretch(path, offset, f"not a line of a ledger: {cause}"))

        return DayLog(folder, files, self._logs, flaw, chunk=min(chunk, CHUNK))

    def _take_flaws(self) -> Iterator[UnreadableStretch]:
        flaws, self._flaws = self._flaws, []
        return iter(flaws)

    def _is_ruled_out(self, day: DayLog) -> bool:
        """Whether no event of the day is selected, by its name and the last line of its ledger."""
        if self._filter.rules_out_receipt(day.begin, day.begin + A_DAY - 1):
            return True
        if self._filter.earliest is None and self._filter.latest is None:
            return False
        closing = day.end().closing
        return closing is not None and self._filter.rules_out_day(day.begin, closing)

    def _event(self, day: DayLog, found: ArchivedMessage) -> PastEvent:
        extent = found.piece.extent
        marks: tuple[str, ...] = ()
        if extent is None:
            marks = (_UNRECORDED,)
        elif extent.marks:
            number = day.line_number(found.piece, found.offset) if found.number < 0 else found.number
            marks = marks_at(extent, number)
        facts = ArchiveFacts(day.folder.name, day.path, found.offset, extent, marks)
        return PastEvent(found.message, EventType.LOG, extent.at[0] if extent else day.begin, self._zone, facts)

    def _without_log(self, day: DayLog, end: DayEnd, read: int) -> Iterable[Keyed]:
        """Name a day whose log is missing, where somebody asked for its events."""
        size = end.closing.len if end.closing else None
        if size is not None and read >= size:
            return
        path = f"{day.folder.path}/{day.files.stem}"
        if end.removal is None:
            yield day.begin, UnreadableStretch(path, 0, "the log of this day is missing; only its ledger is there")
        elif self._following or self._filter.earliest is not None or self._filter.received_from is not None:
            yield day.begin, UnreadableStretch(path, read, _removal_cause(end.removal), is_expected=True)


def _removal_cause(removal: Removal) -> str:
    return f"removed by retention ({removal.cause}) on {format_timestamp(removal.removed)[:10].decode()}"


def _facts(folder: OriginatorFolder, files: DayFiles) -> object:
    """Names, sizes and times of a day's files."""
    found: list[tuple[str, int, int]] = []
    for name in (*files.logs[:1], files.ledger):
        with suppress(OSError):
            status = os.stat(f"{folder.path}/{name}")
            found.append((name, status.st_size, status.st_mtime_ns))
    return found


def _unreadable(day: DayLog, error: RelayError) -> UnreadableStretch:
    if isinstance(error.__cause__, FileNotFoundError) and day.ledger is not None:
        with suppress(NoInputError, StorageError):
            if (removal := day.ledger.end().removal) is not None:  # since the folder was listed
                return UnreadableStretch(day.path, 0, _removal_cause(removal), is_expected=True)
    """What cannot be read of a day; a missing permission is an error, because the caller can get it."""
    if isinstance(error.__cause__, PermissionError):
        raise error
    return UnreadableStretch(error.what or day.path, 0, error.cause)


def _stem_before(day: DayLog) -> str | None:
    """The stem of the log that this one continues, by its ledger's heading."""
    try:
        heading = None if day.ledger is None else day.ledger.heading()
    except (NoInputError, StorageError):
        return None
    return heading.after.removesuffix(".ledger") if heading is not None and heading.after else None
