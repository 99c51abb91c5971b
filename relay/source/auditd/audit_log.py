"""Following auditd's log: through rotation, and from the last position after a restart, by one mechanism.

After the end of a file comes the next newer generation (`generations`). The newest generation is followed
(`folder_watch`). A file is read to its end once more after a newer one has appeared. Files that were rotated while
relay was stopped are thus read like files that are rotated while it runs. Compressed and dated generations are not
read.

The position (`log_position`) is the file, the byte reached in it, and the events that are still open. The same bytes
after the same position give the same events with the same counts, as long as events leave by the log's own records and
times. An event also leaves after a silence of its writer, which the log does not show.

Irregularities, and what relay does:

- The log is missing: relay waits for it. If the log is unreadable at the start, that is a PermissionRefusedError; later
  it is a warning, and relay retries.
- An older file is unreadable (auditd gives its log_group to the newest only), and a newer one is readable: it is
  skipped, at the start at once, later after `patience_s`. It is not read later either.
- The file of the position is gone: reading continues with the file after the one before it, else with the oldest. Of
  its open events, the records that can still be read are forwarded.
- The log was deleted, replaced or renamed while auditd writes to it: it stays open and is read on (`detached_files`). A
  deleted file is closed, because it occupies space on the disk, when no process has it open for writing (where relay's
  user can find that out), or when the disk is full and there is a new log.
- The file is shorter than the byte reached, or the bytes before it have changed: it was cut. Reading continues in a
  copy that holds what was read, if there is one (logrotate's copytruncate), else at the beginning. Records that were
  written between such a copy and the cut cannot be read.
- The file contains NULs: blocks that were never written, as after a power cut, or a hole. auditd writes no NUL, so
  whole runs of them are skipped, and holes are not read. A run of NULs ends a line: a record that was cut before it is
  a line of its own, and the record behind it is whole. NULs at the very end wait until data follows or a newer file
  exists, so that data written over them is read. A gap counts them.
- A line is malformed: it is forwarded unchanged, marked, and counted in `malformed`. A line over 1 MiB is forwarded in
  pieces of that size. A last line without LF waits for its end until a newer file shows that it has none.

Data that was skipped, gone or cut is counted in `loss_count`, and a gap reports it to every server
(`unreported_losses`), unless the serial numbers show that nothing is missing. The gap becomes durable with the position
behind it.

Memory: one chunk of the log (256 KiB; 1 MiB while a line is that long, or of a detached file), the events of one more
that is becoming durable, and the open events of the assembler.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from typing_extensions import override

from relay.errors import NoInputError, PermissionRefusedError
from relay.events import own_events
from relay.events.audit.assembly import Assembler
from relay.events.audit.mapping import AuditMapping
from relay.events.audit.record import parse
from relay.events.own_events import Author
from relay.source import Source, SourceTerms
from relay.source.auditd.detached_files import QUIET_S
from relay.source.auditd.folder_watch import RESCAN_S, FolderWatch, folders_of
from relay.source.auditd.follower import DELETED, NEVER_WRITTEN, Follower, LogLoss, OlderRefusedError, Start
from relay.source.auditd.generations import MAX_LINE, LogFile, RotationError
from relay.source.auditd.log_position import (
    CHUNK,
    LogPosition,
    RecordLocation,
    RecordName,
    decode,
    encode,
    reassemble,
)
from relay.source.auditd.unreported_losses import UnreportedLosses, is_numbered
from relay.source.batch_in_flight import BatchInFlight
from relay.system.clock import wall_clock
from relay.values.configuration.source_settings import AuditLogSource
from relay.values.event import Batch, Event, Position, Submit

_SLICE: Final = 128  # lines between two chances for other tasks
_SOON_S: Final = 0.05
_ABSENT_S: Final = 1.0
"""How long the log is missing before relay warns; a rotation makes it disappear for a moment."""
_DETACHED_S: Final = 1.0
"""How often detached files are read, because inotify may not report them."""
_HEADLESS: Final = "the beginnings of events that were open are gone"
_REMEDY: Final = (
    "set log_group in /etc/audit/auditd.conf to a group of that user, restart auditd, and chgrp the files that it has"
    " rotated already: it does so only with the newest"
)
"""Seen with auditd 3.0.9: the older files keep root's group."""

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedLog:
    """Which log to follow, and how to watch it."""

    path: str
    start: Start = "oldest"
    """Where reading begins without a position."""
    inotify: bool = True
    interval_s: float = 0.25
    """How often the folder is scanned without inotify."""
    rescan_s: float = RESCAN_S
    """How often the folder is scanned with inotify."""
    patience_s: float = 5.0
    """How long an older file may be unreadable before it is skipped: a chgrp changes one file after the other."""
    detached_quiet_s: float = QUIET_S
    chunk: int = CHUNK
    """How many octets are read at once."""


class AuditLog(Source):
    """The source `audit-log`."""

    _in_flight: BatchInFlight

    def __init__(self, name: str, log: WatchedLog, mapping: AuditMapping, author: Author) -> None:
        self.name = name
        self.path = os.path.abspath(log.path)
        self.events = 0
        """Submitted so far, ever: the position's count."""
        self.malformed = 0
        self.last_error = ""
        self._log = log
        self._mapping = mapping
        self._author = author
        self._draining = False
        self._begin_at(None)

    @classmethod
    def from_settings(cls, table: AuditLogSource, terms: SourceTerms) -> Self:
        """See `relay.source.registry`."""
        return cls(table.name, WatchedLog(path=table.path, start=table.start), terms.audit_mapping(), terms.author)

    def __repr__(self) -> str:
        return f"<AuditLog {self.name!r} {self.file or self.path!r} offset={self.offset} events={self.events}>"

    @property
    def file(self) -> str:
        """The name with which the file being read was opened; empty while there is none."""
        return self._follower.file.path if self._follower.file is not None else ""

    @property
    def offset(self) -> int:
        """The byte reached in that file."""
        return self._follower.offset

    @property
    @override
    def open_events(self) -> int:
        return len(self._assembler.open)

    @property
    @override
    def loss_count(self) -> int:
        return self._follower.loss_count

    @property
    @override
    def lag(self) -> int:
        try:
            return self._follower.lag
        except OSError:
            return -1

    @override
    def finish(self) -> float:
        return 0

    @override
    def adopt(self, other: Source) -> bool:
        return False  # `other` continues at the position, which costs nothing

    @override
    async def run(self, submit: Submit, position: Position | None, *, drain: bool) -> None:
        self._begin_at(position)
        self._in_flight = BatchInFlight(submit)
        self._draining = drain
        watch = FolderWatch(
            *folders_of(self.path),
            interval_s=self._log.interval_s,
            rescan_s=self._log.rescan_s,
            inotify=self._log.inotify,
        )
        try:
            async with watch:
                await self._find_at_start()
                while True:
                    timeout = await self._read_all()
                    if drain and timeout is None and not self._failing:
                        return
                    is_missing = self._absent_since is not None and not self._absence_logged
                    is_detached = self._follower.needs_polling
                    await watch.wait(
                        _earliest(timeout, _ABSENT_S if is_missing else None, _DETACHED_S if is_detached else None)
                    )
        finally:
            self._follower.close()
            self._follower.detached.close()

    # --- The beginning ---

    def _begin_at(self, position: Position | None) -> None:
        self._position: LogPosition | None = None
        self.events = 0
        if position is not None:
            self.events = position.count
            self._position = decode(position.data)
            if self._position is None:
                start = self._log.start
                logger.warning("%s: the stored position cannot be read; continuing at start = %s", self.path, start)
        stored = self._position
        self._follower = Follower(
            self.path,
            start=self._log.start,
            reached=stored.reached if stored is not None else None,
            detached_quiet_s=self._log.detached_quiet_s,
        )
        self._assembler: Assembler[RecordLocation] = Assembler()
        self._assembled = False
        self._within = stored is not None and stored.within
        """Whether the offset is inside a line over the ceiling."""
        self._last = stored.last if stored is not None else None
        self._newest_ms = self._last.time if self._last is not None else 0
        self._losses = UnreportedLosses()
        self._had_detached = False
        """Whether the last position says that there are detached files."""
        self._failing = False
        self._refused_since: float | None = None
        self._absent_since: float | None = None
        self._absence_logged = False
        if stored is not None and stored.left_behind:
            self._follower.losses.append(LogLoss(self.path, DELETED))

    async def _find_at_start(self) -> None:
        """Find the log. An error is raised at once, because the user who starts relay sees it."""
        try:
            await _in_thread(self._follower.check_newest)
            if not await _in_thread(self._find):
                await self._report_absence(patience_s=0)
        except RotationError:
            return
        except PermissionError as error:
            raise PermissionRefusedError(
                str(error.filename or self.path), "relay's user is not allowed to read the audit log", _REMEDY
            ) from error
        except OSError as error:
            raise NoInputError(self.path, error.strerror or "cannot be read", "check the source's path") from error

    def _find(self) -> bool:
        """Find the file to read, and the records of open events before the offset; False: no file exists yet."""
        follower = self._follower
        losses = follower.loss_count
        if not follower.settle() or follower.file is None:
            return False
        if follower.loss_count > losses:
            self._within = False
        if not self._assembled and self._position is not None:
            try:
                made = reassemble(self.path, self._position, follower.file, follower.offset, time.monotonic())
            except RotationError:
                follower.close()  # the file may be deleted by now, so the offset is found anew
                raise
            self._assembler = made.assembler
            if made.headless:
                follower.losses.append(LogLoss(follower.file.path, _HEADLESS, certain=True))
        self._assembled = True
        return True

    # --- Reading ---

    async def _read_all(self) -> float | None:
        """Read all data; for how many seconds nothing is to be done, None: until something changes."""
        try:
            while await self._step():
                pass
        except RotationError:
            return _SOON_S
        except OSError as error:
            self._failing = True
            self._note_error(error)
            await self._expire()
        else:
            self._failing, self._refused_since, self._follower.skip_unreadable = False, None, False
            await self._report_absence()
        await self._in_flight.settle()
        deadline = _earliest(self._assembler.deadline, self._losses.deadline)
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    async def _step(self) -> bool:
        """Read a chunk, switch to the next file, or close silent events; False when there was nothing to do."""
        follower = self._follower
        if not (follower.file and self._assembled) and not await _in_thread(self._find):
            return await self._read_detached() or await self._expire()
        data, nul, _ = (await _in_thread(lambda: follower.read_lines(self._log.chunk))).partition(b"\0")
        if follower.file is None:
            return True  # it was cut: find the offset again
        whole = data.rfind(b"\n") + 1
        nuls = await _in_thread(lambda: follower.nuls(len(data))) if nul and not whole else None
        if whole:
            events = await self._assemble(data[:whole])
            if self._draining and not self.lag:
                events += self._mapping.all(self._assembler.interrupt())
        elif len(data) >= MAX_LINE:
            events = self._malformed(data)
            self._within = True
            follower.advance(len(data))
        elif nuls and (nuls.is_followed or (follower.has_newer and not follower.is_detached)):
            events = [*await self._assemble(data), *self._mapping.all(self._assembler.interrupt())]
            self._within = False
            if events:
                await self._submit(events)  # before the gap
            follower.skip_nuls(nuls.octets)
            return True
        elif not follower.has_newer:
            # Once there is a newer file, this one is complete, but perhaps was not at the last read: read once more.
            return await _in_thread(follower.find_newer) or await self._read_detached() or await self._expire()
        else:
            events = [] if follower.is_detached else await self._assemble(data)
            self._within = False
            await _in_thread(follower.switch)
        if events:
            await self._submit(events)
        return True

    async def _read_detached(self) -> bool:
        """Read on in detached files; whether there was data. Losses are reported first: this data proves nothing."""
        detached = self._follower.detached
        if self._losses.deadline is not None or not (detached or self._had_detached):
            return False
        part = await _in_thread(lambda: detached.read(time.monotonic()))
        if part is None and (detached or not self._had_detached):
            return False
        events: list[Event] = []
        if part is not None:
            await self._feed(_lines(part.data), part.file, part.offset, events)
            if part.nuls:
                self._follower.losses.append(LogLoss(part.file.path, NEVER_WRITTEN, certain=True, nuls=part.nuls))
        await self._submit(events)  # also without events, to store that the last detached file is closed
        return True

    async def _assemble(self, data: bytes) -> list[Event]:
        """Turn lines into the events that they complete; the last may lack its LF."""
        events: list[Event] = []
        lines = _lines(data)
        file, offset = self._follower.file, self._follower.offset
        if file is None:
            raise ValueError("lines without a file")
        if self._within and lines:
            self._within = False
            rest = lines.pop(0)
            offset += len(rest) + 1
            events += self._malformed(rest)
        self._note_losses()
        self._losses.compare(filter(None, map(parse, lines)), whole=self._assembler.is_whole)
        if await self._feed(lines, file, offset, events):
            self._follower.detached.supersede(time.monotonic())
        self._follower.advance(len(data))
        return events

    async def _feed(self, lines: list[bytes], file: LogFile, offset: int, events: list[Event]) -> bool:
        """Assemble the lines that begin at an offset; whether the last record is later than all before."""
        feed, write = self._assembler.feed, self._mapping.events
        for first in range(0, len(lines), _SLICE):
            now = time.monotonic()
            for line in lines[first : first + _SLICE]:
                record = parse(line)
                if record is None:
                    events += self._malformed(line)
                else:
                    if record.joined:
                        self.malformed += 1
                    for event in feed(record, (file, offset), now):
                        events += write(event)
                offset += len(line) + 1
            await asyncio.sleep(0)
        newest = next(filter(None, map(parse, reversed(lines))), None)
        if newest is None:
            return False
        numbered = next(filter(is_numbered, filter(None, map(parse, reversed(lines)))), None)
        self._last = RecordName.of(numbered) if numbered is not None else self._last
        is_later = newest.time > self._newest_ms
        self._newest_ms = max(newest.time, self._newest_ms)
        return is_later

    def _malformed(self, line: bytes) -> list[Event]:
        """Write a malformed line, behind the event that it ends."""
        self.malformed += 1
        before = self._mapping.all(self._assembler.interrupt())
        return [*before, self._mapping.malformed(line, wall_clock())]

    async def _expire(self) -> bool:
        """Submit events that were silent for too long. Only at the log's end: elsewhere relay itself is behind."""
        now = time.monotonic()
        expired = self._mapping.all(self._assembler.expire(now))
        self._note_losses()
        deadline = self._losses.deadline
        is_due = bool(expired) or (deadline is not None and deadline <= now)
        if is_due:
            await self._submit(expired)
        return is_due

    def _note_error(self, error: OSError) -> None:
        """Log a new error. Have an unreadable older file skipped when that has been the error for long enough."""
        cause = f"{error.filename or self.path}: {error.strerror}"
        if cause != self.last_error:
            logger.warning("the audit log cannot be read at present; retrying: %s", cause)
            self.last_error = cause
        if not isinstance(error, OlderRefusedError):
            self._refused_since, self._follower.skip_unreadable = None, False  # also if the start ends with an error
            return
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        self._follower.skip_unreadable = now - self._refused_since >= self._log.patience_s

    async def _report_absence(self, patience_s: float = _ABSENT_S) -> None:
        """Warn when the log is missing for so long, or its path is not a regular file."""
        cause = await _in_thread(self._follower.why_absent)
        self.last_error = f"{self.path}: {cause}; waiting for it" if cause else ""
        if not cause:
            self._absent_since, self._absence_logged = None, False
            return
        now = time.monotonic()
        self._absent_since = self._absent_since or now
        if not self._absence_logged and now - self._absent_since >= patience_s:
            self._absence_logged = True
            logger.warning("%s", self.last_error)

    # --- Submitting ---

    def _note_losses(self) -> None:
        for loss in self._follower.losses:
            self._losses.note(loss, self._last, time.monotonic())
        self._follower.losses.clear()

    async def _submit(self, events: list[Event]) -> None:
        """Submit a batch with the position behind it and the losses before it."""
        self._note_losses()
        if (unread := self._losses.take(self.name)) is not None:
            events = [own_events.unread_gap(self._author, wall_clock(), unread), *events]
        self._had_detached = bool(self._follower.detached)
        data = encode(
            self._follower.reached,
            self._assembler.open,
            within=self._within,
            last=self._last,
            left_behind=self._had_detached,
        )
        self.events += len(events)
        await self._in_flight.submit(Batch(events, Position(self.name, self.events, data)))


def _lines(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _earliest(*times: float | None) -> float | None:
    return min((each for each in times if each is not None), default=None)


async def _in_thread(work: Callable[[], Result]) -> Result:
    """Do work that a slow disk delays. When cancelled, it returns only after the work is over."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await task
        raise
