"""The audit log's position: the data that the spool stores, and going back to it after a restart.

Before the byte reached is data that must be read again: the records of the events that were still open, which the
assembler gets once more; and a stretch of 256 KiB, so that the assembler knows which events have left. A record that
comes after its event is then known as late, as it would have been without the restart.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from relay.events.audit.assembly import Assembler, OpenEvent
from relay.events.audit.record import Key, Record, parse
from relay.source.auditd.generations import (
    MAX_LINE,
    FileIdentity,
    Generation,
    LogFile,
    RotationError,
    locate,
    open_generation,
    scan,
)
from relay.source.auditd.log_offset import LogOffset, holds

CHUNK: Final = 256 * 1024
_STRETCH: Final = 256 * 1024
_LINE: Final = re.compile(rb"[^\n]*\n|[^\n]+")
_BETWEEN_NULS: Final = re.compile(rb"[^\0]+")

RecordLocation = tuple[LogFile, int]
"""A record's file and first byte."""


class OpenEventStart(NamedTuple):
    """Where an open event begins. Time and serial identify its first record, because the file may have changed."""

    file: int
    """Index into the position's `files`."""
    offset: int
    time: int
    """Milliseconds since the epoch."""
    serial: int


class RecordName(NamedTuple):
    """What identifies a record for users: node, time and serial."""

    node: str
    time: int
    """Milliseconds since the epoch."""
    serial: int

    @classmethod
    def of(cls, record: Record) -> "RecordName":
        """Return the name of a record."""
        return cls(record.node.decode("ascii"), record.time, record.serial)


class Reassembled(NamedTuple):
    """The result of `reassemble`."""

    assembler: Assembler[RecordLocation]
    headless: int
    """The number of open events whose first record is gone."""


class LogPosition(msgspec.Struct, frozen=True):
    """The data of a position, stored as JSON of at most 20 KB (at most 256 events are open)."""

    files: tuple[FileIdentity, ...]
    """The file reached; the file before it, if there is one; and the others in which open events began."""
    offset: int
    before: int
    older: bool
    """Whether the second of `files` is the file before."""
    within: bool
    """Whether the offset is inside a line over the ceiling."""
    open: tuple[OpenEventStart, ...]
    last: RecordName | None = None
    """The last record that was read, except auditd's own (`unreported_losses`)."""
    left_behind: bool = False
    """Whether detached files were still open, and may have grown since (`detached_files`)."""

    @property
    def reached(self) -> LogOffset:
        """The part that the follower needs."""
        return LogOffset(self.files[0], self.offset, self.before, self.files[1] if self.older else None)


def encode(
    reached: LogOffset,
    open_events: Sequence[OpenEvent[RecordLocation]],
    *,
    within: bool,
    last: RecordName | None = None,
    left_behind: bool = False,
) -> bytes:
    """Write the data of a position."""
    files = [reached.file] if reached.older is None else [reached.file, reached.older]
    opened = []
    for (file, offset), (time, serial, _) in open_events:
        identity = file.identity
        if identity not in files:
            files.append(identity)
        opened.append(OpenEventStart(files.index(identity), offset, time, serial))
    has_older = reached.older is not None
    return msgspec.json.encode(
        LogPosition(tuple(files), reached.offset, reached.before, has_older, within, tuple(opened), last, left_behind)
    )


def decode(data: bytes) -> LogPosition | None:
    """Parse the data of a position; None when another kind of source wrote it."""
    try:
        position = msgspec.json.decode(data, type=LogPosition)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    known = len(position.files)
    legal = known > position.older and all(0 <= event.file < known for event in position.open)
    return position if legal else None


def reassemble(path: str, position: LogPosition, here: LogFile, offset: int, now: float) -> Reassembled:
    """Rebuild the assembler as it was at the position, from the data that the files still have.

    Reading will continue in `here` at `offset`. RotationError: try again.
    """
    generations = scan(path)
    inodes = [generation.inode for generation in generations]
    if here.identity.inode not in inodes:
        raise RotationError(0, "the file was renamed", path)
    end = inodes.index(here.identity.inode)
    numbers = [locate(generations, file) for file in position.files]
    if holds(here, position.reached):
        numbers[0] = end  # even if it is a copy that is too short to be identified by its fingerprint alone
    # A generation's number is negated here, so that an earlier location is less than a later one.
    began = {
        (-number, event.offset): (event.time, event.serial)
        for event in position.open
        if (number := numbers[event.file]) is not None and (-number, event.offset) < (-end, offset)
    }
    stretch = -end, max(0, offset - _STRETCH)
    if offset < _STRETCH and end + 1 < len(generations):
        stretch = -(end + 1), max(0, generations[end + 1].size - (_STRETCH - offset))
    assembler: Assembler[RecordLocation] = Assembler()
    keys: set[Key] = set()
    again: list[tuple[Record, RecordLocation]] = []
    for number, file, first, line in _lines_between(generations, min([stretch, *began]), (end, offset)):
        record = parse(line)
        if record is None:
            continue
        if began.get((-number, first)) == (record.time, record.serial):
            keys.add(record.key)
        if record.key in keys:
            again.append((record, (file, first)))
        else:
            assembler.feed(record, (file, first), now)
    assembler.flush()  # every event that was not open had left
    for record, location in again:
        assembler.resume(record, location, now)
    return Reassembled(assembler, len(position.open) - len(keys))


def _lines_between(
    generations: Sequence[Generation], start: tuple[int, int], end: tuple[int, int]
) -> Iterator[tuple[int, LogFile, int, bytes]]:
    """Read the lines between two locations in readable files: each one's generation, file, first byte and text."""
    for number in range(-start[0], end[0] - 1, -1):
        if generations[number].readable:
            with open_generation(generations[number]) as file:
                first = start[1] if number == -start[0] else 0
                for offset, line in _lines(file, first, end[1] if number == end[0] else file.size):
                    yield number, file, offset, line


def _lines(file: LogFile, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Read whole lines from an offset that may be inside a line. Lines over the ceiling are left out.

    NULs end a line, and another begins behind them.
    """
    within = offset > 0 and file.read(offset - 1, 1) not in {b"\n", b"\0"}
    length = CHUNK
    while offset < end:
        data = file.read(offset, min(length, end - offset))
        cut = data.rfind(b"\n") + 1
        if not cut and len(data) == length < MAX_LINE:
            length = MAX_LINE
            continue
        if not cut and offset + len(data) >= end:
            cut = len(data)
        length = CHUNK
        for line in _LINE.findall(data, 0, cut or len(data)):
            for piece in _BETWEEN_NULS.finditer(line):
                whole = piece.end() < len(line) or line.endswith(b"\n")
                if whole and not (within and not piece.start()):
                    yield offset + piece.start(), piece[0].removesuffix(b"\n")
            within = not line.endswith((b"\n", b"\0"))
            offset += len(line)
        if not data:
            return
