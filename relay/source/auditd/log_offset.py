"""How far a log is read, and finding the same byte again among generations that were renamed, copied or cut.

Generations are numbered as `scan` lists them: 0 is the newest. The number of all generations means "before the oldest".
"""

from collections.abc import Iterable
from typing import Final, NamedTuple
from zlib import crc32

from relay.source.auditd.generations import FileIdentity, Generation, LogFile, locate, open_generation

BEFORE: Final = 256
_COMPARED: Final = 65_536


class LogOffset(NamedTuple):
    """How far the log is read."""

    file: FileIdentity
    offset: int
    before: int
    """CRC-32 of the (at most 256) bytes before the offset; another value shows that the file was written anew."""
    older: FileIdentity | None
    """The generation read before the file: reading continues behind it when the file itself is gone."""


def holds(file: LogFile, reached: LogOffset) -> bool:
    """Whether the file begins as the one that was read, and has the same bytes before the offset."""
    start = max(0, reached.offset - BEFORE)
    before = file.read(start, reached.offset - start)
    return len(before) == reached.offset - start and crc32(before) == reached.before and file.begins_as(reached.file)


def find_same(generations: list[Generation], reached: LogOffset) -> int | None:
    """Find the generation that holds what was read: the file itself, else a copy of it."""
    order = sorted(range(len(generations)), key=lambda number: generations[number].inode != reached.file.inode)
    for number in order:
        generation = generations[number]
        if generation.readable and (generation.inode == reached.file.inode or reached.offset):
            with open_generation(generation) as file:
                if holds(file, reached):
                    return number
    return None


def find_older_copy(generations: list[Generation], reached: LogOffset) -> Generation | None:
    """Find a copy that was made before the last of what was read was written: it holds nothing new."""
    number = locate(generations, reached.file)
    if number is None or generations[number].inode == reached.file.inode:
        return None
    return generations[number] if generations[number].size < reached.offset else None


def count_same(one: LogFile, other: LogFile, end: int) -> int:
    """Count the octets of the whole lines with which both files begin, up to that byte."""
    whole = reached = 0
    while reached < end:
        length = min(_COMPARED, end - reached)
        mine, theirs = one.read(reached, length), other.read(reached, length)
        if mine != theirs:
            differ = (number for number, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1])
            last = mine.rfind(b"\n", 0, next(differ, min(len(mine), len(theirs))))
            return whole if last < 0 else reached + last + 1
        whole = reached + mine.rfind(b"\n") + 1 if b"\n" in mine else whole
        reached += length
    return end


def last_read(generations: list[Generation], older: FileIdentity | None) -> int:
    """Find the number of the generation that was read last; the number of all when it is gone."""
    number = locate(generations, older) if older is not None else None
    return len(generations) if number is None else number


def next_filled(generations: list[Generation], after: int) -> int:
    """Find the generation to read after that number, which is not 0.

    Empty and unreadable generations are skipped, except the newest.
    """
    filled = (number for number in range(after - 1, 0, -1) if generations[number].size and generations[number].readable)
    return next(filled, 0)


def have_data(generations: Iterable[Generation]) -> bool:
    """Whether any of them holds data, or may do so."""
    return any(generation.size or not generation.readable for generation in generations)


def older_than(generations: list[Generation], number: int) -> FileIdentity | None:
    """Return the identity of the generation before that one."""
    if number + 1 >= len(generations):
        return None
    older = generations[number + 1]
    if not older.readable:
        return older.by_inode
    with open_generation(older) as file:
        return file.identity
