"""A spool as another process sees it: read-only, without the writer's memory, also while the writer works.

Such a reader cannot know which blocks are synced. It takes a block for written when the block is whole on the disk
(both CRCs), which it can be for a moment between the write and its fsync. A crash in that moment may take back a block
that was seen here, and nowhere else.

Headers are read without their payloads (`SegmentReader.header`). Segments may be deleted meanwhile: they were proven,
and are skipped without a word. Whatever else is missing or broken is `SpoolDamage`, and reading continues behind it.
Memory: one block, and 8 octets for each block of one segment when reading backwards.
"""

from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

from relay.errors import DataError, StorageError
from relay.spool.block import Block, Header
from relay.spool.segments import segment
from relay.spool.segments.segment_reader import (
    BlockLocation,
    LocatedHeader,
    SegmentReader,
    SpoolDamage,
    open_segment,
)
from relay.system.disk import Disk

HeaderFilter = Callable[[Header], bool]


def firsts(disk: Disk, folder: str) -> list[int]:
    """The first block numbers of the segments that are there, rising."""
    return [segment.first_of(name) for name in disk.names(folder) if segment.NAME.fullmatch(name)]


def bounds(disk: Disk, folder: str) -> list[tuple[int, int | None]]:
    """Each segment's first block number and the next segment's; None for the newest segment."""
    present = firsts(disk, folder)
    return list(zip(present, [*present[1:], None], strict=False))


def blocks_text(first: int, last: int) -> str:
    """Block numbers for a sentence."""
    return f"block {first}" if first == last else f"blocks {first} to {last}"


class SpoolWalk:
    """Forward through a spool, from a location or from the oldest block. Close it, or use it with `with`."""

    def __init__(self, disk: Disk, folder: str, location: BlockLocation | None = None) -> None:
        self._disk = disk
        self.folder = folder
        self.location = location
        """Where the next block is expected; None before the first `read` of a walk from the oldest block."""
        self._segment: SegmentReader | None = None
        self._spool_id = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, selected: HeaderFilter) -> Block | SpoolDamage | None:
        """The next block whose header is selected; None at the present end. A later call continues from there."""
        while (found := self.next()) is not None:
            if isinstance(found, SpoolDamage):
                return found
            if self._segment is not None and selected(found.header):
                return self._segment.load(found)
        return None

    def next(self) -> LocatedHeader | SpoolDamage | None:
        """The next block's header alone."""
        while True:
            if self._segment is None:
                entered = self._enter()
                if not isinstance(entered, SegmentReader):
                    return entered
                self._segment = entered
            found = self._segment.header()
            self.location = self._segment.location
            if found is not None:
                if isinstance(found, LocatedHeader) or self._disk.exists(self._segment.path):
                    return found
                self._leave(self.location.first)  # it was deleted, and perhaps those after it as well
            elif self._segment.end is not None:
                self._leave(self.location.first)
            else:
                later = [first for first in firsts(self._disk, self.folder) if first > self.location.first]
                if not later:
                    return None
                self._segment.end = later[0]  # it is not the newest any more: read it once more, to its end

    def _enter(self) -> SegmentReader | SpoolDamage | None:
        """Open the segment of the location, or the oldest one after it."""
        while True:
            start = self.location.first if self.location else 0
            present = [first for first in firsts(self._disk, self.folder) if first >= start]
            if not present:
                return None
            first, end = present[0], present[1] if len(present) > 1 else None
            if self.location is None or self.location.first != first:
                self.location = BlockLocation.start_of(first)
            try:
                header, reader = open_segment(self._disk, self.folder, self.location, end)
                self._spool_id = self._spool_id or header.spool
                if header.spool in {self._spool_id, b""} and header.first == first:
                    return reader
                reader.close()
                raise DataError(reader.path, "belongs to another spool")
            except DataError as error:
                last = first if end is None else end - 1
                self.location = BlockLocation(first + 1, segment.HEADER_LENGTH, last + 1)
                return SpoolDamage(f"{self.folder}/{segment.name_of(first)}", 0, error.cause, first, last)
            except StorageError as error:
                if not error.absent:
                    raise
                self._leave(first)

    def _leave(self, first: int) -> None:
        """Continue with the segment after this one."""
        self.close()
        self.location = BlockLocation.start_of(first + 1)

    def close(self) -> None:
        """Close its file; a later call opens it again."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None


def end_of(disk: Disk, folder: str) -> BlockLocation | None:
    """The present end: where the next block will be; None when the folder has no segment."""
    present = firsts(disk, folder)
    if not present:
        return None
    with SpoolWalk(disk, folder, BlockLocation.start_of(present[-1])) as walk:
        while walk.next() is not None:
            pass
        return walk.location


def spool_id(disk: Disk, folder: str) -> bytes:
    """The spool's id, as its newest segment has it; empty when there is no readable segment."""
    present = firsts(disk, folder)
    if present:
        with suppress(DataError, StorageError):
            header, reader = open_segment(disk, folder, BlockLocation.start_of(present[-1]), None)
            reader.close()
            return header.spool
    return b""


def walk_from(disk: Disk, folder: str, number: int) -> SpoolWalk:
    """A walk that begins with the segment of block `number`, or with the oldest."""
    before = [first for first in firsts(disk, folder) if first <= number]
    return SpoolWalk(disk, folder, BlockLocation.start_of(before[-1]) if before else None)


def backwards(disk: Disk, folder: str, end: BlockLocation, selected: HeaderFilter) -> Iterator[Block | SpoolDamage]:
    """The selected blocks before `end`, the newest first; what is lost of a segment comes after its blocks."""
    following = end.number
    for first in reversed([first for first in firsts(disk, folder) if first <= end.first]):
        try:
            _, reader = open_segment(disk, folder, BlockLocation.start_of(first), following)
        except DataError as error:
            yield SpoolDamage(error.what, 0, error.cause, first, following - 1)
        except StorageError as error:
            if not error.absent:
                raise
            return  # it was deleted, and so were those before it
        else:
            with reader:
                offsets, lost = array("Q"), []
                while (found := reader.header()) is not None:
                    if isinstance(found, SpoolDamage):
                        lost.append(found)
                    elif selected(found.header):
                        offsets.append(found.offset)
                for offset in reversed(offsets):
                    yield reader.load(reader.header_at(offset))
                yield from lost
        following = first
