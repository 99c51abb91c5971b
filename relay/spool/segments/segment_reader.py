"""Reads one segment's blocks in order and steps over damage: every reader of a spool is a fold over this.

`block` returns the next block, whole and checked; `header` returns its header alone and leaves its payload unread.
Both return one of three things:

- The block, or its header with its offset. The next call continues behind it.
- `SpoolDamage`, when the octets are not the expected block. The next call continues at the next whole block of this
  segment, found by its magic; without one the segment is at its end. What a damaged header held is not known here.
  When only the payload is damaged, `SpoolDamage.header` says what the block held.
- None at the end. With `end` this is after the block before `end`; from that number on blocks are void. Without it,
  in the newest segment, no whole block follows yet: a later call returns what has been written meanwhile. Then
  `torn_octets` distinguishes a clean end (0) from a torn tail: octets of a write that is under way, or that a crash
  cut short. A torn tail is not damage.

What each user adds:

| user | reads | adds |
|---|---|---|
| `SpoolReader` (delivery) | `block`, up to the newest synced one | the numbers of what is lost; missing files |
| `SpoolWalk`, `backwards` (history) | `header`, then `load` for selected blocks | the next segment; deleted ones |
| `survey`, `overview` | `header` | totals |
| `verify` | `block` | the hash chain |
| `find_tail` (opening) | `block`, with `trust_headers` | where to cut; the next number |

Another process may read while the writer works: octets that look wrong are read again from the file before they count
as damage. Memory: one block and 64 KiB. Offsets are octets from the file's beginning. Not for several threads.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple, Self

from relay.errors import DataError
from relay.spool import block
from relay.spool.block import Block, BlockError, Header
from relay.spool.segments import segment
from relay.spool.segments.segment import SegmentHeader
from relay.system.disk import Disk, File

_GLANCE: Final = 1024
"""Octets read for a header whose neighbours are far away."""
_STRETCH: Final = 64 * 1024
"""Octets read ahead where blocks are small, or read whole."""


class BlockLocation(NamedTuple):
    """Where a block is, or will be written."""

    first: int
    """Its segment's first block."""
    offset: int
    number: int

    @classmethod
    def start_of(cls, first: int) -> Self:
        """The location of a segment's first block."""
        return cls(first, segment.HEADER_LENGTH, first)


class LocatedHeader(NamedTuple):
    """A block's header and its offset in the segment."""

    offset: int
    header: Header


class SpoolDamage(NamedTuple):
    """Damage that a reader stepped over: blocks that cannot be read."""

    path: str
    offset: int
    cause: str
    first: int
    last: int
    header: Header | None = None
    """The block's header, when only its payload is damaged."""
    gone: bool = False
    """Whether their file is missing, or has only zeros in their place."""


class SegmentReader:
    """Reads a segment from a location on, to the block before `end`. Closes the file; use it with `with`.

    `trust_headers`: continue behind damage also at a block of which only the header is whole.
    """

    def __init__(
        self, file: File, location: BlockLocation, end: int | None = None, *, trust_headers: bool = False
    ) -> None:
        self.path = file.path
        self.end = end
        """The number of the block with which the next segment begins; None for the newest segment. May be set."""
        self._file = file
        self._first, self._offset, self._number = location
        self._trust_headers = trust_headers
        self._data = b""
        """Octets read ahead, from `_base` on."""
        self._base = 0
        self._searched = -1
        """An offset from which the newest segment was searched for a block in vain; it is not searched again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def location(self) -> BlockLocation:
        """Where the next block is expected. May be set."""
        return BlockLocation(self._first, self._offset, self._number)

    @location.setter
    def location(self, location: BlockLocation) -> None:
        self._first, self._offset, self._number = location

    @property
    def allocated(self) -> int:
        """Octets of the file."""
        return self._file.size

    @property
    def created(self) -> int:
        """When the segment was made, in microseconds since the epoch; 0, long ago, when its header does not say it."""
        try:
            return segment.header_of(self._file).created
        except DataError:
            return 0

    @property
    def torn_octets(self) -> int:
        """Octets from here to the last one that is not zero."""
        return segment.nonzero_length(self._file, self._offset)

    def block(self) -> Block | SpoolDamage | None:
        """The next block; see the head of this file."""
        if self.end is not None and self._number >= self.end:
            return None
        header = None
        try:
            header = self._expected_header(_STRETCH)
            found = Block(header, self._payload(self._offset, header))
        except BlockError as error:
            return self._step_over(str(error), header)
        self._continue_behind(header)
        return found

    def header(self) -> LocatedHeader | SpoolDamage | None:
        """The next block's header; see the head of this file. In the newest segment the last payload is checked."""
        if self.end is not None and self._number >= self.end:
            return None
        offset = self._offset
        try:
            header = self._expected_header(_STRETCH if 0 <= offset - self._base <= _STRETCH else _GLANCE)
        except BlockError as error:
            found = self._step_over(str(error), None)
            return LocatedHeader(offset, found.header) if isinstance(found, Block) else found
        if self.end is None and not self._is_written(header):
            return None
        self._continue_behind(header)
        return LocatedHeader(offset, header)

    def blocks(self) -> Iterator[Block | SpoolDamage]:
        """What `block` returns, to the end."""
        return iter(self.block, None)

    def headers(self) -> Iterator[LocatedHeader]:
        """The headers of the whole blocks, to the end; damage is left out."""
        return (found for found in iter(self.header, None) if isinstance(found, LocatedHeader))

    def header_at(self, offset: int) -> LocatedHeader:
        """The header at an offset at which `header` found one."""
        return LocatedHeader(offset, self._header_at(offset, _GLANCE))

    def load(self, found: LocatedHeader) -> Block | SpoolDamage:
        """The block of a header, with its payload."""
        try:
            return Block(found.header, self._payload(found.offset, found.header))
        except BlockError as error:
            number = found.header.number
            return SpoolDamage(self.path, found.offset, str(error), number, number, found.header)

    def follows(self, found: Block, chain: bytes) -> bool:
        """Whether the block that `block` returned last continues the hash chain."""
        offset, length = self._offset - found.header.size, found.header.length
        octets = self._read_ahead(offset, length)
        if len(octets) < length:
            octets = self._file.read(length, offset)
        return block.continues_chain(found.header, octets, found.payload, chain)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    # --- Damage ---

    def _step_over(self, cause: str, header: Header | None) -> Block | SpoolDamage | None:
        """Continue behind the expected block, of which at most the header is whole; None when that is the end."""
        offset, number = self._offset, self._number
        later = None
        if header is None or self.end is None:
            later = self._find(offset + (header.size if header else 0))
            if later is None and self.end is None:
                return None
            written = self._block_at(offset)
            if written is not None and written.header.number == number:  # it was being written
                self._data = b""
                self._continue_behind(written.header)
                return written
        if header is not None:
            self._continue_behind(header)
            return SpoolDamage(self.path, offset, cause, number, number, header)
        if later is not None:
            self._offset, self._number = later.offset, later.header.number
        else:
            self._number = self.end or number
        gone = later is None and self.torn_octets == 0
        return SpoolDamage(self.path, offset, cause, number, self._number - 1, gone=gone)

    def _find(self, start: int) -> LocatedHeader | None:
        """The next whole block from an offset on that belongs to this segment and was not read yet."""
        if self.end is None and start == self._searched:
            return None
        offset = segment.find_block(self._file, start)
        while offset is not None:
            header = segment.read_header(self._file, offset)
            belongs = self._number <= header.number and (self.end is None or header.number < self.end)
            if belongs and (self._trust_headers or self._block_at(offset) is not None):
                return LocatedHeader(offset, header)
            offset = segment.find_block(self._file, offset + 1)
        self._searched = start
        return None

    def _is_written(self, header: Header) -> bool:
        """Whether the block here is not just being written: another one follows, or its payload is complete."""
        behind = self._offset + header.size
        if self._file.read(len(block.MAGIC), behind) in block.MAGICS:
            return True
        try:
            self._payload(self._offset, header)
        except BlockError:
            return self._find(behind) is not None
        return True

    # --- Octets ---

    def _continue_behind(self, header: Header) -> None:
        self._offset += header.size
        self._number = header.number + 1

    def _expected_header(self, ahead: int) -> Header:
        header = self._header_at(self._offset, ahead)
        if header.number != self._number:
            raise BlockError(f"block {header.number} is in the place of block {self._number}")
        return header

    def _header_at(self, offset: int, ahead: int) -> Header:
        """The header at `offset`; where less than a glance was read ahead, `ahead` octets are read for it."""
        start = offset - self._base
        if not 0 <= start <= len(self._data) - _GLANCE:
            self._data, self._base, start = self._file.read(ahead, offset), offset, 0
        try:
            header = block.decode_header(memoryview(self._data)[start:])
        except BlockError:
            header = None
        if header is None:  # what was read ahead may be older than the block, or shorter than its header
            self._data, self._base = self._file.read(_STRETCH, offset), offset
            header = block.decode_header(self._data)
        if header is None:
            self._data = b""
            header = segment.read_header(self._file, offset)
        return header

    def _payload(self, offset: int, header: Header) -> bytes:
        """The payload of the block at `offset`, checked; BlockError when it is damaged."""
        offset += header.length
        payload = self._read_ahead(offset, header.payload_length)
        if len(payload) < header.payload_length:  # to copy what there is takes longer than to read it again
            payload = self._file.read(header.payload_length, offset)
        try:
            block.check_payload(header, payload)
        except BlockError:  # what was read ahead may be older than the block
            payload = self._file.read(header.payload_length, offset)
            block.check_payload(header, payload)
        return payload

    def _block_at(self, offset: int) -> Block | None:
        """The whole block at an offset, read from the file; None when there is none."""
        try:
            header = segment.read_header(self._file, offset)
            payload = self._file.read(header.payload_length, offset + header.length)
            block.check_payload(header, payload)
        except BlockError:
            return None
        return Block(header, payload)

    def _read_ahead(self, offset: int, length: int) -> bytes:
        """The octets at an offset, as far as they were read ahead."""
        start = offset - self._base
        return self._data[start : start + length] if start >= 0 else b""


def open_segment(
    disk: Disk, folder: str, location: BlockLocation, end: int | None = None
) -> tuple[SegmentHeader, SegmentReader]:
    """A segment's header and its reader.

    DataError when the file is not a segment; StorageError, which is `absent` when the file was deleted.
    """
    file, header = segment.open_existing(disk, f"{folder}/{segment.name_of(location.first)}")
    return header, SegmentReader(file, location, end)
