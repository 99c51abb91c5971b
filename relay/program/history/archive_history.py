"""The history of an archive, in the order of receipt: day by day, and within a day by the extents of the ledgers.

Each originator's own order is that of its logs. A log without a readable ledger comes at its day's beginning.

A history that continues (`following`) gives what the ledgers have recorded, so not what a writer is just committing.
At each call of `events` it looks for new originators, days and parts of days, and reads each log from where it ended
(`reading_position`). `positions` is exact whenever the caller asks for the next event: then all before were used.

Memory: about `BLOCKS` octets of logs for all originators of a day together, their names, and one position for each.
Of many originators in one day only some are open at a time (`receipt_order`).
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import partial
from typing import Final

from typing_extensions import override

from relay.archive.layout import COMPRESSIONS, DayFiles
from relay.archive.ledger import Removal
from relay.archive.ledgers.ledger_end import CHUNK
from relay.archive.ledgers.ledger_reader import DayEnd
from relay.archive.reading.day_log import A_DAY, DayLog, marks_at
from relay.archive.reading.line_search import (
    BLOCK,
    ArchivedMessage,
    SearchedTo,
    search,
    search_backward,
)
from relay.archive.reading.log_octets import OpenLogs
from relay.archive.reading.originators import OriginatorFolder, days_of, originators, require_archive
from relay.errors import DataError, NoInputError, RelayError, StorageError
from relay.program.history.event_filter import EventFilter
from relay.program.history.past_event import ArchiveFacts, History, Item, PastEvent, UnreadableStretch
from relay.program.history.reading_position import DayPosition, OriginatorPosition
from relay.program.history.receipt_order import MOST_OPEN, Keyed, Reader, Waiting, merged
from relay.syslog.rfc5424 import format_timestamp
from relay.system.disk import Disk
from relay.values.event import EventType

BLOCKS: Final = 2 * 1_048_576
_SMALLEST: Final = 2048
_A_LINE: Final = 512
_REPORTED: Final = 100
_LAST: Final = 1 << 63
"""A time after every receipt."""
_UNRECORDED: Final = "unrecorded"
"""The mark of a line that no readable ledger describes."""


@dataclass(slots=True)
class _OriginatorDay:
    """One originator's day, and how far it was read. When it is read again, it continues there."""

    folder: OriginatorFolder
    parts: Sequence[DayFiles]
    """Those that are left, in the order of reading."""
    block: int
    """How many octets of a log to read at once."""
    reached: int
    """The key of the last item; no later key is beyond it."""
    off: int = -1
    """Where to continue in the first of the parts; -1: at its beginning (backward: its end)."""

    def end_part(self) -> None:
        """Go on with the next part."""
        self.parts, self.off = self.parts[1:], -1


class ArchiveHistory(History):
    """The history of an archive."""

    def __init__(  # noqa: PLR0913  `most_open` is a seam for tests
        self,
        disk: Disk,
        folder: str,
        event_filter: EventFilter,
        *,
        following: bool = False,
        positions: dict[str, OriginatorPosition] | None = None,
        zone: tzinfo = UTC,
        most_open: int = MOST_OPEN,
    ) -> None:
        """`positions`: continue from these; they are changed while events are read. `zone`: of times without one.

        `most_open`: how many originators' days are open at a time.
        """
        self._disk = disk
        self._folder = folder
        self._filter = event_filter
        self._query = event_filter.line_query()
        self._following = following
        self._zone = zone
        self._most_open = most_open
        self.positions = {} if positions is None else positions
        """By the originator's folder."""
        self._restored = set(self.positions)
        self._listed: dict[str, tuple[int, list[DayFiles]]] = {}
        """Folder → its modification when it was listed, and its days."""
        self._names: dict[DayFiles, DayFiles] = {}
        """The same names are kept once, because most originators have files of the same days."""
        self._logs = OpenLogs()
        self._flaws: list[UnreadableStretch] = []
        self._reported: deque[tuple[str, int]] = deque(maxlen=_REPORTED)
        """Damaged lines of ledgers."""
        require_archive(disk, folder)

    # --- Forward ---

    @override
    def events(self) -> Iterator[Item]:
        for _, found in sorted(self._by_day(self._has_more).items()):
            days = self._originator_days(found, 0)
            yield from self._merged(Waiting(0, partial(self._forward, day)) for day in days)

    def _by_day(
        self, takes: Callable[[OriginatorFolder, DayFiles], bool]
    ) -> dict[str, dict[OriginatorFolder, list[DayFiles]]]:
        """The originators of each day, with the parts of the day."""
        days: dict[str, dict[OriginatorFolder, list[DayFiles]]] = {}
        for folder in self._originators():
            for files in self._days(folder):
                if takes(folder, files):
                    days.setdefault(files.day, {}).setdefault(folder, []).append(files)
        return days

    def _originator_days(self, found: dict[OriginatorFolder, list[DayFiles]], reached: int) -> Iterator[_OriginatorDay]:
        block = max(min(BLOCKS // min(len(found), self._most_open), BLOCK), _SMALLEST)
        if len(found) > self._most_open and not self._query.texts:
            block = _A_LINE  # a day is often closed after one line, and then reads it all again
        return (_OriginatorDay(folder, parts, block, reached) for folder, parts in found.items())

    def _merged(self, waiting: Iterable[Waiting], *, backward: bool = False) -> Iterator[Item]:
        for item in merged(waiting, backward=backward, most_open=self._most_open):
            yield from self._take_flaws()
            if item is not None:
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

    def _forward(self, state: _OriginatorDay) -> Reader:
        """One originator's day. The key never decreases, whatever the writer's clock did."""
        while state.parts:
            day = self._opened(state.folder, state.parts[0], max(state.block, _SMALLEST))
            try:
                for key, item in self._continued(day) if self._following else self._whole(day, state):
                    state.reached = max(state.reached, key)
                    yield state.reached, item
            except (NoInputError, StorageError, DataError) as error:
                yield state.reached, _unreadable(day, error)
                if self._following:  # not again until the files change
                    position = self._position(day.folder).logs.setdefault(day.files.stem, DayPosition())
                    position.facts = _facts(day.folder, day.files)
            finally:
                day.close()
            state.end_part()

    def _whole(self, day: DayLog, state: _OriginatorDay) -> Iterator[tuple[int, Item]]:
        """A day from its beginning, or from where it was left, to its present end."""
        if self._is_ruled_out(day):
            return
        if not day.path:
            yield from self._without_log(day, day.end(), 0)
            return
        for key, found in search(day, self._query, block=state.block, begin=max(state.off, 0)):
            if self._filter.takes(event := self._event(day, found)):
                yield key, event
            state.off = found.end

    def _continued(self, day: DayLog) -> Iterator[tuple[int, Item]]:
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
        for _, found in sorted(self._by_day(lambda *_: True).items(), reverse=True):
            newest_first = {folder: parts[::-1] for folder, parts in reversed(found.items())}
            days = self._originator_days(newest_first, _LAST)
            waiting = (Waiting(self._newest_key(day), partial(self._backward, day)) for day in days)
            yield from self._merged(waiting, backward=True)

    def _newest_key(self, state: _OriginatorDay) -> int:
        """The key of the newest message by the ledger; the day's end where only the log shows it."""
        day = self._opened(state.folder, state.parts[0], _SMALLEST)
        with suppress(RelayError, OSError):  # reading reports it
            recorded = day.recorded()
            is_plain = day.path and not day.path.endswith(COMPRESSIONS)
            if recorded and not (is_plain and os.stat(day.path).st_size > recorded[0].off + recorded[0].len):
                return recorded[0].at[0]
        return day.begin + A_DAY

    def _backward(self, state: _OriginatorDay) -> Reader:
        while state.parts:
            day = self._opened(state.folder, state.parts[0], max(state.block, _SMALLEST))
            try:
                if self._is_ruled_out(day):
                    pass
                elif day.path:
                    yield from self._lines_backward(day, state)
                else:
                    yield from ((state.reached, item) for _, item in self._without_log(day, day.end(), 0))
            except (NoInputError, StorageError, DataError) as error:
                yield state.reached, _unreadable(day, error)
            finally:
                day.close()
            state.end_part()

    def _lines_backward(self, day: DayLog, state: _OriginatorDay) -> Iterator[Keyed]:
        before = state.off if state.off >= 0 else None
        if self._following and before is None:
            noted = self._position(day.folder).logs.get(day.files.stem)
            before = None if noted is None or noted.finished else noted.off
        for key, found in search_backward(day, self._query, block=state.block, before=before):
            state.reached = min(state.reached, key)
            if isinstance(found, SearchedTo):
                state.off = found.offset
                yield state.reached, None
                continue
            if self._filter.takes(event := self._event(day, found)):
                yield state.reached, event
            state.off = found.offset

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
        return [each for each in found if selected is None or selected(each.name) or selected(each.intended_name)]

    def _days(self, folder: OriginatorFolder) -> list[DayFiles]:
        try:
            modified = os.stat(folder.path).st_mtime_ns
        except OSError:  # it was removed since it was listed
            return []
        known = self._listed.get(folder.path)
        if known is None or known[0] != modified:
            days = [self._names.setdefault(files, files) for files in days_of(self._disk, folder)]
            known = self._listed[folder.path] = modified, days
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
            if (path, offset) not in self._reported:  # a day that is opened again meets it again
                self._reported.append((path, offset))
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

    def _without_log(self, day: DayLog, end: DayEnd, read: int) -> Iterator[tuple[int, Item]]:
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
