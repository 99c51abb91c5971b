"""Checking a spool from end to end: every header, every payload, and the hash chain through all segments.

A break is a place where the spool is not as its writer left it: octets that are no block, a header or payload against
its CRC, a block that does not follow the one before it, numbers or segments that are missing. Checking goes on behind
each, at the next whole block, and counts; what is kept of the breaks is at most `MAX_BREAKS`.

What cannot be seen: octets after the last block of an older segment (a write that failed leaves them, and the segment
after it voids them), and a spool whose newest blocks were cut off cleanly, unless a destination's cursor stands beyond
the end; the oldest segment's word is taken for the chain before it. A tail that is no whole block is `torn`: a write
that is under way, or that a crash cut short. Only who knows whether a writer runs can call it damage.

Memory: one block. Segments that are deleted meanwhile were proven, and are passed over.
"""

import contextlib
import errno
from collections.abc import Mapping
from typing import Final, NamedTuple

from relay.errors import DataError, StorageError
from relay.spool import block
from relay.spool.block import Block, BlockError
from relay.spool.inspection.browse import blocks_text, firsts
from relay.spool.segments import segment
from relay.spool.segments.segment import SegmentHeader
from relay.system.disk import Disk, File

MAX_BREAKS: Final = 100
_STRETCH: Final = 1024 * 1024
_LONG_HEADER: Final = 64 * 1024


class SpoolBreak(NamedTuple):
    """Where the spool is broken."""

    path: str
    offset: int
    block: int
    """The number of the block that should stand there."""
    cause: str


class TornTail(NamedTuple):
    """The newest segment's end, when it is no whole block."""

    path: str
    offset: int
    block: int
    octets: int


class Verified(NamedTuple):
    """What was found."""

    segments: int
    blocks: int
    """Whole ones."""
    messages: int
    octets: int
    first: int
    """The oldest block's number; 0 when there is no segment."""
    next_number: int
    head: bytes
    """The chain after the newest block."""
    lost: int
    """Numbers for which there is no whole block."""
    broken: int
    breaks: tuple[SpoolBreak, ...]
    """The first of them, in order."""
    torn: TornTail | None


def verify(disk: Disk, folder: str, cursors: Mapping[str, int]) -> Verified:
    """Check the spool in `folder`; `cursors`, read before, are where its destinations stand."""
    check = _ChainCheck(disk, folder)
    there = firsts(disk, folder)
    for index, first in enumerate(there):
        check.segment(first, there[index + 1] if index + 1 < len(there) else None)
    for name, number in sorted(cursors.items()):
        check.cursor(name, number)
    return check.verified()


class _ChainCheck:
    """The state between one block and the next."""

    def __init__(self, disk: Disk, folder: str) -> None:
        self._disk = disk
        self._folder = folder
        self._breaks: list[SpoolBreak] = []
        self._broken = self._lost = 0
        self._spool_id = b""
        self._chain: bytes | None = None
        """Of the block before; None after one that cannot tell."""
        self._head = block.CHAIN_START
        self._first = 0
        self._expected = 0
        """The next block's number; 0 before the first segment."""
        self._segments = self._blocks = self._messages = self._octets = 0
        self._torn: TornTail | None = None
        self._end = (folder, 0)

    def verified(self) -> Verified:
        return Verified(
            self._segments,
            self._blocks,
            self._messages,
            self._octets,
            self._first,
            max(self._expected, 1),
            self._head,
            self._lost,
            self._broken,
            tuple(self._breaks),
            self._torn,
        )

    def segment(self, first: int, following: int | None) -> None:
        """Check one segment; in it, blocks from number `following` on are void."""
        path = f"{self._folder}/{segment.name_of(first)}"
        try:
            file, header = segment.open_existing(self._disk, path)
        except DataError as error:
            self._break(path, 0, first, error.cause)
            self._first, self._expected = self._first or first, self._expected or first
            self._go_on_at(first if following is None else following, None)
        except StorageError as error:
            if error.errno != errno.ENOENT:
                raise
            self._first, self._expected, self._chain = (
                0,
                0,
                None,
            )  # deleted since it was listed, and so were those before it
        else:
            with file:
                self._enter(path, header, first)
                self._read(_MissingStretches(file), following)

    def cursor(self, name: str, number: int) -> None:
        """A cursor moves only over synced blocks, so one beyond the end tells of blocks that are gone."""
        end = max(self._expected, 1)
        if number > end:
            self._break(*self._end, end, f"{blocks_text(end, number - 1)} gone: the cursor of {name} stands behind")

    def _break(self, path: str, offset: int, number: int, cause: str) -> None:
        self._broken += 1
        if len(self._breaks) < MAX_BREAKS:
            self._breaks.append(SpoolBreak(path, offset, number, cause))

    def _go_on_at(self, number: int, chain: bytes | None) -> None:
        """Expect that block next; what stands between is lost."""
        self._lost += number - self._expected
        self._expected, self._chain = number, chain

    def _enter(self, path: str, header: SegmentHeader, first: int) -> None:
        """Check that the segment follows the one before it."""
        self._segments += 1
        self._end = (path, segment.HEADER_LENGTH)
        self._spool_id = self._spool_id or header.spool  # of a damaged header it is empty
        if not self._first:
            self._first = first
        if not self._expected:
            self._expected, self._chain = first, block.CHAIN_START if first == 1 else None
        for cause in (header.damage, self._misfit(header, first)):
            if cause:
                self._break(path, 0, self._expected, cause)
        known = self._chain if first == self._expected else None
        self._go_on_at(first, known if header.previous_chain is None else header.previous_chain)

    def _misfit(self, header: SegmentHeader, first: int) -> str:
        if header.spool not in {self._spool_id, b""}:
            return "it belongs to another spool"
        if header.first != first:
            return f"its header says that it begins with block {header.first}"
        if first > self._expected:
            return f"missing before it: {blocks_text(self._expected, first - 1)}"
        if self._chain is not None and header.previous_chain not in {self._chain, None}:
            return "the hash chain is broken: this segment does not go on where the one before it ends"
        return ""

    def _read(self, stretches: "_MissingStretches", following: int | None) -> None:
        offset: int | None = segment.HEADER_LENGTH
        while offset is not None and (following is None or self._expected < following):
            try:
                found, header_octets = stretches.block(offset)
                if found.header.number != self._expected:
                    raise BlockError(f"block {found.header.number} stands where {self._expected} belongs")
            except BlockError as error:
                offset = self._step_over(stretches, offset, str(error), following)
                continue
            self._check_chain(stretches.path, offset, found, header_octets)
            self._count(found)
            offset += found.header.size
            self._end = (stretches.path, offset)

    def _check_chain(self, path: str, offset: int, found: Block, header_octets: bytes) -> None:
        if self._chain is None:
            return
        try:
            block.check_chain(found.header, header_octets, found.payload, self._chain)
        except BlockError:
            cause = "the hash chain is broken: it does not follow the block before it"
            self._break(path, offset, found.header.number, cause)

    def _count(self, found: Block) -> None:
        self._blocks += 1
        self._messages += found.header.messages
        self._octets += found.header.size
        self._expected = found.header.number + 1
        self._chain = self._head = found.header.chain

    def _step_over(self, stretches: "_MissingStretches", offset: int, cause: str, following: int | None) -> int | None:
        """Tell a break and go on behind it; at the newest segment's end there is none, but perhaps a torn tail."""
        found = stretches.find(offset, self._expected, following)
        if found is None and following is None:
            octets = segment.nonzero_length(stretches.file, offset)
            self._torn = TornTail(stretches.path, offset, self._expected, octets) if octets else None
            return None
        if found is not None and stretches.has_come(offset, self._expected):
            return offset
        place, number = found or (None, following or 0)
        if found is None:
            cause = f"{cause}; this segment holds no later block, and the next one begins with block {number}"
        self._break(stretches.path, offset, self._expected, f"{cause}; lost: {blocks_text(self._expected, number - 1)}")
        self._go_on_at(number, None)
        return place


class _MissingStretches:
    """Reads a segment's blocks whole, from long stretches of the file."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.path = file.path
        self._data = b""
        self._base = 0

    def block(self, offset: int) -> tuple[Block, bytes]:
        """The block at `offset` and its header's octets; BlockError when none is whole there."""
        header = block.decode_header(self._octets(offset, _LONG_HEADER))
        if header is None:
            header = block.decode_header(self._octets(offset, block.MAX_HEADER))
        if header is None:
            raise BlockError("the file ends inside a block's header")
        octets = self._octets(offset, header.size)
        payload = bytes(octets[header.length : header.size])
        block.check_payload(header, payload)
        return Block(header, payload), bytes(octets[: header.length])

    def find(self, offset: int, first: int, end: int | None) -> tuple[int, int] | None:
        """Offset and number of the next whole block of those numbers, from `offset` on."""
        place: int | None = offset
        while place is not None and (place := segment.find_block(self.file, place)) is not None:
            with contextlib.suppress(BlockError):
                number = segment.read_block(self.file, place).header.number
                if first <= number and (end is None or number < end):
                    return place, number
            place += 1
        return None

    def has_come(self, offset: int, number: int) -> bool:
        """Whether that block stands there by now, written since it was missed."""
        self._data = b""
        with contextlib.suppress(BlockError):
            return segment.read_block(self.file, offset).header.number == number
        return False

    def _octets(self, offset: int, length: int) -> memoryview:
        """So many octets, and perhaps more; fewer at the file's end."""
        start = offset - self._base
        if not 0 <= start <= len(self._data) - length:
            self._data = self.file.read(max(length, _STRETCH), offset)
            self._base, start = offset, 0
        return memoryview(self._data)[start:]
