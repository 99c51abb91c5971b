"""The audit log's position: what the spool stores as `place`, and going back to it after a restart.

Before the byte reached stands what must be read again: the records of the events that were still open, which are given
to the assembler once more; and a stretch of 256 KiB, so that the assembler knows which events have left, and a record
that comes after its event is known as late, as it would have been without the restart.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from relay.events.audit.assembly import Assembler, OpenEvent
from relay.events.audit.record import Key, Record, parse
from relay.source.auditd.follower import LogOffset, holds
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

CHUNK: Final = 256 * 1024
_STRETCH: Final = 256 * 1024
_LINE: Final = re.compile(rb"[^\n]*\n|[^\n]+")
_BETWEEN_NULS: Final = re.compile(rb"[^\0]+")

RecordPlace = tuple[LogFile, int]
"""A record's file and first byte."""


class OpenEventStart(NamedTuple):
    """Where an event that was open begins; time and serial tell whether the record there is still the same."""

    file: int
    """Index into the position's `files`."""
    offset: int
    time: int
    """Milliseconds since the epoch."""
    serial: int


class RecordName(NamedTuple):
    """How people find a record: which node's, when, and its serial."""

    node: str
    time: int
    """Milliseconds since the epoch."""
    serial: int

    @classmethod
    def of(cls, record: Record) -> "RecordName":
        """The record's."""
        return cls(record.node.decode("ascii"), record.time, record.serial)


class Reassembled(NamedTuple):
    """What `reassemble` made."""

    assembler: Assembler[RecordPlace]
    headless: int
    """Events that were open and whose beginning is gone."""


class LogPosition(msgspec.Struct, frozen=True):
    """A position's place, stored as JSON; the at most 256 open events make it some 20 KB at most."""

    files: tuple[FileIdentity, ...]
    """The file reached; the one before it, if there is one; and the others in which open events began."""
    offset: int
    before: int
    older: bool
    """Whether the second of `files` is the one before."""
    within: bool
    """The offset stands inside a line over the ceiling."""
    open: tuple[OpenEventStart, ...]
    last: RecordName | None = None
    """The last record that was read, but for auditd's own (`untold`)."""
    left_behind: bool = False
    """Files that are the log's no more were still open, and may have been written on (`left_behind`)."""

    @property
    def place(self) -> LogOffset:
        """The part that the follower needs."""
        return LogOffset(self.files[0], self.offset, self.before, self.files[1] if self.older else None)


def encode(
    place: LogOffset,
    open_events: Sequence[OpenEvent[RecordPlace]],
    *,
    within: bool,
    last: RecordName | None = None,
    left_behind: bool = False,
) -> bytes:
    """Write a position."""
    files = [place.file] if place.older is None else [place.file, place.older]
    opened = []
    for (file, offset), (time, serial, _) in open_events:
        identity = file.identity
        if identity not in files:
            files.append(identity)
        opened.append(OpenEventStart(files.index(identity), offset, time, serial))
    older = place.older is not None
    position = LogPosition(tuple(files), place.offset, place.before, older, within, tuple(opened), last, left_behind)
    return msgspec.json.encode(position)


def decode(data: bytes) -> LogPosition | None:
    """Read a position; None when it is none of ours."""
    try:
        position = msgspec.json.decode(data, type=LogPosition)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    known = len(position.files)
    legal = known > position.older and all(0 <= event.file < known for event in position.open)
    return position if legal else None


def reassemble(path: str, position: LogPosition, here: LogFile, offset: int, now: float) -> Reassembled:
    """Make the assembler as it was at the position, from what the files still hold.

    `here` and `offset` are where reading will go on. RotationError: try again.
    """
    generations = scan(path)
    inodes = [generation.inode for generation in generations]
    if here.identity.inode not in inodes:
        raise RotationError(0, "the file was renamed", path)
    end = inodes.index(here.identity.inode)
    places = [locate(generations, file) for file in position.files]
    if holds(here, position.place):
        places[0] = end  # also when it is a copy, and too short to be known by its fingerprint alone
    began = {
        (places[event.file], event.offset): (event.time, event.serial)
        for event in position.open
        if (place := places[event.file]) is not None and (-place, event.offset) < (-end, offset)
    }
    start = _stretch_start(generations, end, offset)
    for place, first in began:
        start = min(start, (-(place or 0), first))
    assembler: Assembler[RecordPlace] = Assembler()
    keys: set[Key] = set()
    again: list[tuple[Record, RecordPlace]] = []
    for number, file, first, line in _lines_between(generations, start, (end, offset)):
        record = parse(line)
        if record is None:
            continue
        if began.get((number, first)) == (record.time, record.serial):
            keys.add(record.key)
        if record.key in keys:
            again.append((record, (file, first)))
        else:
            assembler.feed(record, (file, first), now)
    assembler.flush()  # all that was not open then had left
    for record, record_place in again:
        assembler.resume(record, record_place, now)
    return Reassembled(assembler, len(position.open) - len(keys))


def _stretch_start(generations: Sequence[Generation], end: int, offset: int) -> tuple[int, int]:
    """Find where the stretch before a place begins: the file's number (negated: earlier is less) and the byte."""
    if offset < _STRETCH and end + 1 < len(generations):
        return -(end + 1), max(0, generations[end + 1].size - (_STRETCH - offset))
    return -end, max(0, offset - _STRETCH)


def _lines_between(
    generations: Sequence[Generation], start: tuple[int, int], end: tuple[int, int]
) -> Iterator[tuple[int, LogFile, int, bytes]]:
    """Read the lines between two places: each one's generation, file, first byte and text; where that may be read."""
    for number in range(-start[0], end[0] - 1, -1):
        if not generations[number].readable:
            continue
        file = open_generation(generations[number])
        try:
            first = start[1] if number == -start[0] else 0
            for offset, line in _lines(file, first, end[1] if number == end[0] else file.size):
                yield number, file, offset, line
        finally:
            file.close()


def _lines(file: LogFile, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Read whole lines from a place that may stand within one; a line over the ceiling is left out.

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
