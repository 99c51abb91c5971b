"""Following auditd's log: through rotation, and from where a stop left off, by one mechanism.

After the end of a file comes the next newer generation (`generations`), until there is none: then the newest is
followed (`folder_watch`). A file is read to its end once more after a newer one has been seen. Files that were rotated
while relay was stopped are thus read like those that are rotated before its eyes. Compressed and dated generations
are not read.

The position (`position`) is which file, the byte reached in it, and the events that are still open. The same bytes
after the same position give the same events with the same counts, as long as events leave by the log's own records and
times. How long a writer is silent, after which an event leaves too, cannot be read from the log.

What goes wrong, and what then happens:

- The log is missing: it is waited for. It cannot be read at the start: PermissionRefusedError. Later: a warning, and
  further attempts.
- An older file may not be read (auditd gives its log_group to the newest alone), and a newer one may: it is passed
  over, at the start at once, later when it has been so for `patience_s`. It is not read later either.
- The file of the position is gone: reading goes on with the file after the one before it, else with the oldest. Of its
  open events comes what can still be read.
- The log was deleted, replaced or renamed while auditd writes on in it: it stays open, and what comes is read
  (`left_behind`). A deleted one is let go, for it keeps its room on the disk, when nobody has it open to write (where
  relay's user may ask that), or when the disk is full and there is a new one.
- The file is shorter than the byte reached, or other bytes stand before it: it was cut. Reading goes on in a copy that
  holds what was read, if there is one (logrotate's copytruncate); else from the beginning. What is written between such
  a copy and the cut nobody can read any more.
- It holds NULs: blocks that were never written, as after a power cut, or a hole. auditd writes no NUL, so they are
  passed over, whole runs at a time, and holes without being read. A run of NULs ends a line, so a record that was cut
  before it is a line of its own, and the record behind it is whole. NULs at the very end wait until data follows or a
  newer file exists, so that data written over them is read. A gap counts them.
- A line is no record: it is forwarded as it is, marked, and counted in `malformed`. A line over 1 MiB comes in such
  pieces. A last line without LF waits for its end until a newer file shows that it has none.

What is passed over, gone or cut is counted in `lost_places`, and told to every server by a gap (`untold`), unless the
serial numbers show that nothing is missing. The gap becomes durable with the position behind it.

Memory: one chunk of the log (256 KiB; 1 MiB while a line is that long, or of a deleted file), the events of one more
that is being made durable, and what the assembler holds open.
"""

import asyncio
import contextlib
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from relay.errors import NoInputError, PermissionRefusedError
from relay.events import own_events
from relay.events.audit.assembly import Assembler, AuditEvent
from relay.events.audit.mapping import AuditMapping
from relay.events.audit.record import parse
from relay.events.own_events import Author
from relay.source import Source, SourceTerms
from relay.source.auditd.folder_watch import FolderWatch, folders_of
from relay.source.auditd.follower import DELETED, NEVER_WRITTEN, Follower, LogLoss, OlderRefusedError, Start
from relay.source.auditd.generations import MAX_LINE, LogFile, RotationError, open_generation, scan
from relay.source.auditd.log_position import CHUNK, LogPosition, RecordName, RecordPlace, decode, encode, reassemble
from relay.source.auditd.untold import Untold, is_numbered
from relay.system.clock import wall_clock
from relay.values.event import Batch, Event, Position, Submit
from relay.values.settings import AuditLogSource

_SLICE: Final = 128  # lines between two chances for others to run
_SOON_S: Final = 0.05
_ABSENT_S: Final = 1.0
"""For how long there is no log before that is worth a warning; while it is rotated there is none either."""
_DELETED_S: Final = 1.0
"""How often files that are the log's no more are looked at: inotify may tell nothing of them."""
_LINE_ENDS: Final = re.compile(rb"[\n\0]")
_HEADLESS: Final = "the beginnings of events that were open are gone"
_REMEDY: Final = (
    "set log_group in /etc/audit/auditd.conf to a group of that user, restart auditd, and chgrp the files that it has"
    " rotated already: it does so only with the newest"
)
"""Seen with auditd 3.0.9: the older files stay root's group's."""

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Which log, and how it is watched."""

    path: str
    start: Start = "oldest"
    """Where reading begins without a position."""
    inotify: bool = True
    interval_s: float = 0.25
    """How often it is looked at without inotify."""
    patience_s: float = 5.0
    """For how long an older file may be unreadable before it is passed over: a chgrp takes them one by one."""


class AuditLog:
    """The source `audit-log`. `run` may be called again after it ended: it begins at the position it is given."""

    def __init__(self, name: str, log: Log, mapping: AuditMapping, author: Author) -> None:
        self.name = name
        self.path = os.path.abspath(log.path)
        self.events = 0
        """Given so far, ever: the position's count."""
        self.malformed = 0
        self.last_error = ""
        """Why the log cannot be read just now, or that there is none; empty while all is well."""
        self._log = log
        self._mapping = mapping
        self._author = author
        self._draining = False
        self._begin_at(None)

    @classmethod
    def from_settings(cls, table: AuditLogSource, terms: SourceTerms) -> Self:
        """See `relay.source.registry`."""
        return cls(table.name, Log(path=table.path, start=table.start), terms.audit_mapping(), terms.author)

    def __repr__(self) -> str:
        return f"<AuditLog {self.name!r} {self.file or self.path!r} offset={self.offset} events={self.events}>"

    @property
    def file(self) -> str:
        """The name by which the file being read was opened; empty while there is none."""
        return self._follower.file.path if self._follower.file is not None else ""

    @property
    def offset(self) -> int:
        """The byte reached in that file."""
        return self._follower.offset

    @property
    def open_events(self) -> int:
        """Events that are begun and have not left: they leave by a later record, or after silence (`assembly`)."""
        return len(self._assembler.open)

    @property
    def lost_places(self) -> int:
        """How often the place reached was gone, or a file was passed over, in this run."""
        return self._follower.lost_places

    @property
    def lag(self) -> int:
        """Bytes of the log that are not read; -1 when that cannot be told just now."""
        try:
            return self._follower.lag
        except OSError:
            return -1

    def finish(self) -> float:
        """The position says everything."""
        return 0

    def adopt(self, other: Source) -> bool:
        """Leave it to `other`, which goes on at the position."""
        del other
        return False

    async def run(self, submit: Submit, position: Position | None, *, drain: bool) -> None:
        """Give the events after the position; with `drain`, return once all that the log holds now is durable.

        Whatever `submit` raises ends it; what was not durable then is given again after the position.
        """
        self._begin_at(position)
        self._draining = drain
        folders = folders_of(self.path)
        try:
            async with FolderWatch(*folders, interval_s=self._log.interval_s, inotify=self._log.inotify) as watch:
                await self._find_at_start()
                while True:
                    seconds = await self._take_in(submit)
                    if drain and seconds is None and not self._failing:
                        return
                    await watch.wait(_sooner(seconds, self._until_look))
        finally:
            self._abandon()

    # --- The place to begin ---

    def _begin_at(self, position: Position | None) -> None:
        self._position = self._decode(position)
        place = self._position.place if self._position is not None else None
        self._follower = Follower(self.path, start=self._log.start, place=place)
        self._assembler: Assembler[RecordPlace] = Assembler()
        self._assembled = False
        self._within = self._position is not None and self._position.within
        self._last = self._position.last if self._position is not None else None
        self._newest_ms = self._last.time if self._last is not None else 0
        self._untold = Untold()
        self._left_behind = False
        """Whether the last position says that files were left behind."""
        self._in_flight: asyncio.Future[None] | None = None
        self._failing = False
        self._refused_since: float | None = None
        self._absent_since: float | None = None
        self._absence_told = False
        self.events = position.count if position is not None else 0
        if self._position is not None and self._position.left_behind:
            self._follower.losses.append(LogLoss(self.path, DELETED))

    def _decode(self, position: Position | None) -> LogPosition | None:
        if position is None:
            return None
        decoded = decode(position.data)
        if decoded is None:
            logger.warning("%s: the stored position cannot be read; going on at start = %s", self.path, self._log.start)
        return decoded

    async def _find_at_start(self) -> None:
        """Find the log; what forbids it now is told at once, for someone is looking on."""
        try:
            if not await _in_thread(self._find_and_check):
                await self._tell_absence(patience_s=0)
        except RotationError:
            return
        except PermissionError as error:
            raise PermissionRefusedError(
                str(error.filename or self.path), "relay's user may not read the audit log", _REMEDY
            ) from error
        except OSError as error:
            raise NoInputError(self.path, error.strerror or "cannot be read", "check the source's path") from error

    def _find_and_check(self) -> bool:
        for generation in scan(self.path)[:1]:
            open_generation(generation).close()
        return self._find()

    def _find(self) -> bool:
        """Find the file to read, and what of the events open then stands before the place; False: no file yet."""
        follower = self._follower
        lost = follower.lost_places
        if not follower.settle() or follower.file is None:
            return False
        if follower.lost_places > lost:
            self._within = False
        if not self._assembled and self._position is not None:
            self._reassemble(self._position, follower.file)
        self._assembled = True
        return True

    def _reassemble(self, position: LogPosition, file: LogFile) -> None:
        try:
            made = reassemble(self.path, position, file, self._follower.offset, time.monotonic())
        except RotationError:
            self._follower.close()  # it may be deleted by now, so the place is found anew
            raise
        self._assembler = made.assembler
        if made.headless:
            self._follower.losses.append(LogLoss(file.path, _HEADLESS, certain=True))

    # --- Reading ---

    async def _take_in(self, submit: Submit) -> float | None:
        """Read all there is; returns for how long nothing needs doing, None: until something changes."""
        try:
            while await self._step(submit):
                pass
        except RotationError:
            return _SOON_S
        except OSError as error:
            self._failing = True
            self._tell(error)
            self._lose_patience(error)
            await self._expire(submit)
        else:
            self._failing, self._refused_since, self._follower.pass_over = False, None, False
            await self._tell_absence()
        await self._settle()
        deadline = _sooner(self._assembler.deadline, self._untold.deadline)
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    async def _step(self, submit: Submit) -> bool:
        """Read a chunk, go on to the next file, or close what was silent; False when there was nothing to do."""
        follower = self._follower
        if not (follower.file and self._assembled) and not await _in_thread(self._find):
            return await self._read_left(submit) or await self._expire(submit)
        data, nul, _ = (await _in_thread(self._read)).partition(b"\0")
        if follower.file is None:
            return True  # it shrank: find it again
        cut = data.rfind(b"\n") + 1
        nuls = await _in_thread(lambda: follower.nuls(len(data))) if nul and not cut else None
        if cut:
            events = await self._assemble(data[:cut])
            if self._draining and not self.lag:
                events += self._events(self._assembler.interrupt())
        elif len(data) >= MAX_LINE:
            events = self._malformed(data)
            self._within = True
            follower.advance(len(data))
        elif nuls and (nuls.is_followed or (follower.newer_seen and not follower.at_gone)):
            events = [*await self._assemble(data), *self._events(self._assembler.interrupt())]
            self._within = False
            if events:
                await self._submit(submit, events)  # before the gap
            follower.advance_over_nuls(nuls.octets)
            return True
        elif not follower.newer_seen:
            # A newer file means that this one has its last bytes now, if not at the read before: read once more.
            return await _in_thread(follower.look) or await self._read_left(submit) or await self._expire(submit)
        else:
            events = [] if follower.at_gone else await self._assemble(data)
            self._within = False
            await _in_thread(follower.switch)
        if events:
            await self._submit(submit, events)
        return True

    def _read(self) -> bytes:
        """Read a chunk that holds an LF, if one stands within the longest line."""
        data = self._follower.read(CHUNK)
        return self._follower.read(MAX_LINE) if len(data) == CHUNK and not _LINE_ENDS.search(data) else data

    async def _read_left(self, submit: Submit) -> bool:
        """Read on in files that were left; whether there was something. Losses come first: this decides none."""
        left = self._follower.left
        if self._untold.deadline is not None or not (left or self._left_behind):
            return False
        part = await _in_thread(lambda: left.read(time.monotonic()))
        if part is None and (left or not self._left_behind):
            return False
        events: list[Event] = []
        if part is not None:
            await self._feed(_lines(part.data), part.file, part.offset, events)
            if part.nuls:
                self._follower.losses.append(LogLoss(part.file.path, NEVER_WRITTEN, certain=True, nuls=part.nuls))
        await self._submit(submit, events)  # also without events: that there are no such files any more
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
        self._untold.meet(filter(None, map(parse, lines)), whole=self._assembler.is_whole)
        if await self._feed(lines, file, offset, events):
            self._follower.left.supersede(time.monotonic())
        self._follower.advance(len(data))
        return events

    async def _feed(self, lines: list[bytes], file: LogFile, offset: int, events: list[Event]) -> bool:
        """Take lines that begin there; whether the last record is later than all before."""
        for first in range(0, len(lines), _SLICE):
            offset = self._feed_slice(lines[first : first + _SLICE], file, offset, events)
            await asyncio.sleep(0)
        newest = next(filter(None, map(parse, reversed(lines))), None)
        if newest is None:
            return False
        numbered = next(filter(is_numbered, filter(None, map(parse, reversed(lines)))), None)
        self._last = RecordName.of(numbered) if numbered is not None else self._last
        later = newest.time > self._newest_ms
        self._newest_ms = max(newest.time, self._newest_ms)
        return later

    def _feed_slice(self, lines: Iterable[bytes], file: LogFile, offset: int, events: list[Event]) -> int:
        feed, write = self._assembler.feed, self._mapping.events
        now = time.monotonic()
        for line in lines:
            record = parse(line)
            if record is None:
                events += self._malformed(line)
            else:
                if record.joined:
                    self.malformed += 1
                for event in feed(record, (file, offset), now):
                    events += write(event)
            offset += len(line) + 1
        return offset

    def _malformed(self, line: bytes) -> list[Event]:
        """Write a line that is not a record, behind the event that it ends."""
        self.malformed += 1
        before = self._events(self._assembler.interrupt())
        return [*before, self._mapping.malformed(line, wall_clock())]

    def _events(self, events: Iterable[AuditEvent]) -> list[Event]:
        return [event for each in events for event in self._mapping.events(each)]

    async def _expire(self, submit: Submit) -> bool:
        """Give what was silent for too long. Only at the log's end: elsewhere the silence is our own."""
        now = time.monotonic()
        expired = self._events(self._assembler.expire(now))
        self._note_losses()
        deadline = self._untold.deadline
        due = bool(expired) or (deadline is not None and deadline <= now)
        if due:
            await self._submit(submit, expired)
        return due

    def _tell(self, error: OSError) -> None:
        cause = f"{error.filename or self.path}: {error.strerror}"
        if cause != self.last_error:
            logger.warning("the audit log cannot be read just now, trying again: %s", cause)
            self.last_error = cause

    def _lose_patience(self, error: OSError) -> None:
        """Have what may not be read passed over, once that has been the error for long enough."""
        if not isinstance(error, OlderRefusedError):
            self._refused_since, self._follower.pass_over = None, False  # also where the start ends with an error
            return
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        self._follower.pass_over = now - self._refused_since >= self._log.patience_s

    async def _tell_absence(self, patience_s: float = _ABSENT_S) -> None:
        """Say that there is no log, or that what is there is none, when that lasts."""
        cause = await _in_thread(lambda: _why_absent(self.path))
        self.last_error = f"{self.path}: {cause}; waiting for it" if cause else ""
        if not cause:
            self._absent_since, self._absence_told = None, False
            return
        now = time.monotonic()
        self._absent_since = self._absent_since or now
        if not self._absence_told and now - self._absent_since >= patience_s:
            self._absence_told = True
            logger.warning("%s", self.last_error)

    @property
    def _until_look(self) -> float | None:
        """When to look again, whether the log is still absent, and into deleted files."""
        absent = None if self._absent_since is None or self._absence_told else _ABSENT_S
        return _sooner(absent, _DELETED_S if self._follower.reads_gone else None)

    # --- Handing over ---

    def _note_losses(self) -> None:
        for loss in self._follower.losses:
            self._untold.note(loss, self._last, time.monotonic())
        self._follower.losses.clear()

    async def _submit(self, submit: Submit, events: list[Event]) -> None:
        """Hand a batch over; while it becomes durable the next may be read, but no second one."""
        self._note_losses()
        if (unread := self._untold.take(self.name)) is not None:
            events = [own_events.unread_gap(self._author, wall_clock(), unread), *events]
        self._left_behind = bool(self._follower.left)
        place = encode(
            self._follower.place,
            self._assembler.open,
            within=self._within,
            last=self._last,
            left_behind=self._left_behind,
        )
        count = self.events + len(events)
        durable = await submit(Batch(events, Position(self.name, count, place)))
        self.events = count
        before, self._in_flight = self._in_flight, durable
        if before is not None:
            await asyncio.shield(before)

    async def _settle(self) -> None:
        if self._in_flight is not None:
            await asyncio.shield(self._in_flight)
            self._in_flight = None

    def _abandon(self) -> None:
        self._follower.close()
        self._follower.left.close()
        if self._in_flight is not None:
            # Nobody will wait for it any more; its failure is the intake's to tell.
            self._in_flight.add_done_callback(lambda durable: durable.cancelled() or durable.exception())


def _lines(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)


def _why_absent(path: str) -> str:
    """Why there is nothing to follow at a path; empty when there is."""
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return "there is no such file"
    return "" if is_file else "this is no file to read from"


async def _in_thread(work: Callable[[], Result]) -> Result:
    """Do what the disk may make slow; when cancelled, it is over all the same before this returns."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await task
        raise
