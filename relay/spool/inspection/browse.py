"""A spool as another process sees it: read-only, without the writer's memory, also while the writer works.

Such a reader cannot know what is synced; it takes a block for written when it is whole on the disk (both CRCs), which
a write can be for the moment between the write and its fsync. What a crash takes back in that moment may have been
seen here, and nowhere else.

Headers are read without their payloads: 1 KiB a block, or whole stretches where blocks are small. The end is the first
place in the newest segment where no whole block stands, nor any later. Segments may be deleted meanwhile: those were
proven, and are passed over in silence. Whatever else is missing or broken is `SpoolDamage`, and reading goes on after
it.
Memory: one block, and 8 octets for each block of one segment when reading backwards.
"""

import errno
from array import array
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Self

from relay.errors import DataError, StorageError
from relay.spool import block
from relay.spool.block import Block, BlockError, Header
from relay.spool.segments import segment
from relay.spool.spool import SpoolDamage
from relay.system.disk import Disk, File

_GLANCE: Final = 1024
_STRETCH: Final = 64 * 1024

Wanted = Callable[[Header], bool]


class BlockLocation(NamedTuple):
    """Where a block stands or will stand."""

    first: int
    """Its segment's first block."""
    offset: int
    number: int


class LocatedBlock(NamedTuple):
    """A block's header, and where it stands."""

    offset: int
    header: Header


def firsts(disk: Disk, folder: str) -> list[int]:
    """The first block numbers of the segments that are there, rising."""
    return [segment.first_of(name) for name in disk.names(folder) if segment.NAME.fullmatch(name)]


def blocks_text(first: int, last: int) -> str:
    """Block numbers for a sentence."""
    return f"block {first}" if first == last else f"blocks {first} to {last}"


class SegmentBlocks:
    """One segment's blocks in order. Use it with `with`; opening raises DataError when it is no segment."""

    def __init__(self, disk: Disk, folder: str, place: BlockLocation) -> None:
        self.path = f"{folder}/{segment.name_of(place.first)}"
        self._file, self.header = segment.open_existing(disk, self.path)
        self._window = _Window(self._file)
        self.place = place
        """Where the next block is expected."""
        self._searched = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def allocated(self) -> int:
        """Octets of the file."""
        return self._file.size

    def next(self, following: int | None) -> LocatedBlock | SpoolDamage | None:
        """The next block; `following` is where the segment after this one begins, None for the newest.

        None: no more for now in the newest, no more ever in the others.
        """
        if following is not None and self.place.number >= following:
            return None
        offset = self.place.offset
        try:
            header = self._window.header(offset)
            if header.number != self.place.number:
                raise BlockError(f"block {header.number} stands where {self.place.number} belongs")
        except BlockError as error:
            return self._step_over(str(error), following)
        if following is None and not self._is_whole(offset, header):
            return None
        self.place = BlockLocation(self.place.first, offset + header.size, header.number + 1)
        return LocatedBlock(offset, header)

    def load(self, found: LocatedBlock) -> Block | SpoolDamage:
        """The block with its payload, checked."""
        payload = self._file.read(found.header.payload_length, found.offset + found.header.length)
        try:
            block.check_payload(found.header, payload)
        except BlockError as error:
            number = found.header.number
            return SpoolDamage(self.path, found.offset, str(error), number, number)
        return Block(found.header, payload)

    def at(self, offset: int) -> LocatedBlock:
        """The block at an offset where `next` found one."""
        return LocatedBlock(offset, self._window.header(offset))

    def _is_whole(self, offset: int, header: Header) -> bool:
        """Whether the block is not just being written: another one follows, or its payload is all there."""
        if self._file.read(len(block.MAGIC), offset + header.size) == block.MAGIC:
            return True
        return isinstance(self.load(LocatedBlock(offset, header)), Block)

    def _step_over(self, cause: str, following: int | None) -> LocatedBlock | SpoolDamage | None:
        """Go on at the next whole block of this segment, or at its end."""
        first, offset, number = self.place
        found = self._find(following)
        if found is not None and self._has_come():
            return self.next(following)
        if found is not None:
            self.place = BlockLocation(first, found.offset, found.header.number)
            return SpoolDamage(self.path, offset, cause, number, found.header.number - 1)
        if following is None:
            return None
        self.place = BlockLocation(first, offset, following)
        return SpoolDamage(self.path, offset, cause, number, following - 1)

    def _find(self, following: int | None) -> LocatedBlock | None:
        """The next whole block that belongs here; a place that was searched in vain is not searched again."""
        offset: int | None = self.place.offset
        if following is None and offset == self._searched:
            return None
        while offset is not None and (offset := segment.find_block(self._file, offset)) is not None:
            found = LocatedBlock(offset, segment.read_header(self._file, offset))
            if self._belongs(found.header.number, following) and isinstance(self.load(found), Block):
                return found
            offset += 1
        self._searched = self.place.offset
        return None

    def _has_come(self) -> bool:
        """Whether the expected block has been written since it was missed; later ones are no sign of damage then."""
        try:
            return segment.read_block(self._file, self.place.offset).header.number == self.place.number
        except BlockError:
            return False

    def _belongs(self, number: int, following: int | None) -> bool:
        return number >= self.place.number and (following is None or number < following)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Window:
    """Reads headers, and little else: a stretch ahead where blocks are small."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._data = b""
        self._base = 0

    def header(self, offset: int) -> Header:
        """The header at `offset`; BlockError when none is there now."""
        try:
            header = block.decode_header(self._view(offset))
        except BlockError:
            header = None
        if header is None:  # what was read ahead may be older than the block, or the header longer than a glance
            self._data = b""
            header = segment.read_header(self._file, offset)
        return header

    def _view(self, offset: int) -> memoryview:
        start = offset - self._base
        if not 0 <= start <= len(self._data) - _GLANCE:
            near = 0 <= start <= _STRETCH
            self._data = self._file.read(_STRETCH if near else _GLANCE, offset)
            self._base, start = offset, 0
        return memoryview(self._data)[start:]


class SpoolWalk:
    """Forward through a spool, from a place or from the oldest block. Close it, or use it with `with`."""

    def __init__(self, disk: Disk, folder: str, place: BlockLocation | None = None) -> None:
        self._disk = disk
        self.folder = folder
        self.place = place
        self._blocks: SegmentBlocks | None = None
        self._following: int | None = None
        self._spool_id = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, wanted: Wanted) -> Block | SpoolDamage | None:
        """The next block whose header is wanted; None at the present end, and a later call goes on from there."""
        while (found := self.next()) is not None:
            if isinstance(found, SpoolDamage):
                return found
            if self._blocks is not None and wanted(found.header):
                return self._blocks.load(found)
        return None

    def next(self) -> LocatedBlock | SpoolDamage | None:
        """The next block's header alone."""
        while True:
            if self._blocks is None:
                entered = self._enter()
                if not isinstance(entered, SegmentBlocks):
                    return entered
                self._blocks = entered
            found = self._blocks.next(self._following)
            self.place = self._blocks.place
            if found is not None:
                if isinstance(found, LocatedBlock) or self._disk.exists(self._blocks.path):
                    return found
                self._leave()  # it was deleted, and perhaps those after it as well
            elif self._following is not None:
                self._leave()
            elif not self._look_for_following():
                return None

    def _look_for_following(self) -> bool:
        """Whether there is a segment after this one; then this one is to be read once more, to its end."""
        first = self.place.first if self.place else 0
        self._following = min((number for number in firsts(self._disk, self.folder) if number > first), default=None)
        return self._following is not None

    def _enter(self) -> SegmentBlocks | SpoolDamage | None:
        """Open the segment of the place, or the oldest one after it."""
        while True:
            there = firsts(self._disk, self.folder)
            start = self.place.first if self.place else 0
            first = min((number for number in there if number >= start), default=None)
            if first is None:
                return None
            self._following = min((number for number in there if number > first), default=None)
            if self.place is None or self.place.first != first:
                self.place = BlockLocation(first, segment.HEADER_LENGTH, first)
            try:
                return self._opened(self.place)
            except DataError as error:
                last = first if self._following is None else self._following - 1
                self.place = BlockLocation(first + 1, segment.HEADER_LENGTH, last + 1)
                return SpoolDamage(f"{self.folder}/{segment.name_of(first)}", 0, error.cause, first, last)
            except StorageError as error:
                if error.errno != errno.ENOENT:
                    raise
                self.place = BlockLocation(first + 1, segment.HEADER_LENGTH, first + 1)

    def _opened(self, place: BlockLocation) -> SegmentBlocks:
        blocks = SegmentBlocks(self._disk, self.folder, place)
        self._spool_id = self._spool_id or blocks.header.spool
        if blocks.header.spool not in {self._spool_id, b""} or blocks.header.first != place.first:
            blocks.close()
            raise DataError(blocks.path, "belongs to another spool")
        return blocks

    def _leave(self) -> None:
        """Go to the segment after this one."""
        first = self.place.first if self.place else 0
        self.close()
        self.place = BlockLocation(first + 1, segment.HEADER_LENGTH, first + 1)

    def close(self) -> None:
        """Close its file; a later call opens it again."""
        if self._blocks is not None:
            self._blocks.close()
            self._blocks = None


def end_of(disk: Disk, folder: str) -> BlockLocation | None:
    """The present end: where the next block will stand; None when the folder has no segment."""
    there = firsts(disk, folder)
    if not there:
        return None
    with SpoolWalk(disk, folder, BlockLocation(there[-1], segment.HEADER_LENGTH, there[-1])) as walk:
        while walk.next() is not None:
            pass
        return walk.place


def walk_from(disk: Disk, folder: str, number: int) -> SpoolWalk:
    """A walk that begins with the segment of block `number`, or with the oldest."""
    before = [first for first in firsts(disk, folder) if first <= number]
    place = BlockLocation(before[-1], segment.HEADER_LENGTH, before[-1]) if before else None
    return SpoolWalk(disk, folder, place)


def backwards(disk: Disk, folder: str, end: BlockLocation, wanted: Wanted) -> Iterator[Block | SpoolDamage]:
    """The wanted blocks before `end`, the newest first; of each segment what is lost comes after its blocks."""
    there = [first for first in firsts(disk, folder) if first <= end.first]
    following = end.number
    for first in reversed(there):
        try:
            blocks = SegmentBlocks(disk, folder, BlockLocation(first, segment.HEADER_LENGTH, first))
        except DataError as error:
            yield SpoolDamage(error.what, 0, error.cause, first, following - 1)
        except StorageError as error:
            if error.errno != errno.ENOENT:
                raise
            return  # it was deleted, and so were those before it
        else:
            with blocks:
                yield from _backwards_in(blocks, following, wanted)
        following = first


def _backwards_in(blocks: SegmentBlocks, following: int, wanted: Wanted) -> Iterator[Block | SpoolDamage]:
    offsets, lost = array("Q"), []
    while (found := blocks.next(following)) is not None:
        if isinstance(found, SpoolDamage):
            lost.append(found)
        elif wanted(found.header):
            offsets.append(found.offset)
    for offset in reversed(offsets):
        yield blocks.load(blocks.at(offset))
    yield from lost
