"""Checking a spool from end to end: every header, every payload, and the hash chain through all segments.

At a break the spool is not as its writer left it: octets are not a block, a header or payload does not match its CRC,
a block does not follow the one before it, or numbers or segments are missing. Checking continues at the next whole
block. All breaks are counted; the first `MAX_BREAKS` are kept.

Not visible are octets after the last block of an older segment: a failed write leaves them, and the next segment voids
them. Newest blocks that were cut off cleanly are missed only when a destination's cursor is beyond the end. The chain
before the oldest segment is taken from that segment's header. A tail that is not a whole block is `torn`: a write is
under way, or a crash cut it short. It is damage only when no writer is running.

Memory: one block. Segments that are deleted meanwhile were proven, and are skipped.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from relay.errors import DataError, StorageError
from relay.spool import block
from relay.spool.inspection.browse import blocks_text, bounds
from relay.spool.segments import segment
from relay.spool.segments.segment import SegmentHeader
from relay.spool.segments.segment_reader import BlockLocation, SegmentReader, SpoolDamage, open_segment
from relay.system.disk import Disk

MAX_BREAKS: Final = 100


class SpoolBreak(NamedTuple):
    """Where the spool is broken."""

    path: str
    offset: int
    block: int
    """The number of the block that belongs there."""
    cause: str


class TornTail(NamedTuple):
    """The newest segment's end, when it is not a whole block."""

    path: str
    offset: int
    block: int
    octets: int


class Verified(NamedTuple):
    """The result."""

    segments: int
    blocks: int
    """Whole ones."""
    messages: int
    octets: int
    first: int
    """The oldest block's number; 0 without a segment."""
    next_number: int
    head: bytes
    """The chain after the newest block."""
    lost: int
    """Block numbers without a whole block."""
    broken: int
    breaks: tuple[SpoolBreak, ...]
    """The first of them, in order."""
    torn: TornTail | None


def verify(disk: Disk, folder: str, cursors: Mapping[str, int]) -> Verified:
    """Check the spool in `folder`; `cursors`, read before, are its destinations' next blocks."""
    check = _ChainCheck(disk, folder)
    for first, end in bounds(disk, folder):
        check.segment(first, end)
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
        """Of the block before; None when that is damaged."""
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
            header, reader = open_segment(self._disk, self._folder, BlockLocation.start_of(first), following)
        except DataError as error:
            self._break(path, 0, first, error.cause)
            self._first, self._expected = self._first or first, self._expected or first
            self._continue_at(first if following is None else following, None)
        except StorageError as error:
            if not error.absent:
                raise
            # It was deleted since it was listed, and so were those before it.
            self._first, self._expected, self._chain = 0, 0, None
        else:
            with reader:
                self._enter(path, header, first)
                self._read(reader)

    def cursor(self, name: str, number: int) -> None:
        """Blocks before a cursor were synced: when it is beyond the end, blocks are gone."""
        end = max(self._expected, 1)
        if number > end:
            self._break(*self._end, end, f"{blocks_text(end, number - 1)} gone: the cursor of {name} is behind them")

    def _break(self, path: str, offset: int, number: int, cause: str) -> None:
        self._broken += 1
        if len(self._breaks) < MAX_BREAKS:
            self._breaks.append(SpoolBreak(path, offset, number, cause))

    def _continue_at(self, number: int, chain: bytes | None) -> None:
        """Expect that block next; the blocks between are lost."""
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
        self._continue_at(first, known if header.previous_chain is None else header.previous_chain)

    def _misfit(self, header: SegmentHeader, first: int) -> str:
        if header.spool not in {self._spool_id, b""}:
            return "it belongs to another spool"
        if header.first != first:
            return f"its header says that it begins with block {header.first}"
        if first > self._expected:
            return f"missing before it: {blocks_text(self._expected, first - 1)}"
        if self._chain is not None and header.previous_chain not in {self._chain, None}:
            return "the hash chain is broken: this segment does not continue where the one before it ends"
        return ""

    def _read(self, reader: SegmentReader) -> None:
        """Check the blocks of a segment. At the newest segment's end there may be a torn tail."""
        while (found := reader.block()) is not None:
            if isinstance(found, SpoolDamage):
                cause, following = found.cause, found.last + 1
                if reader.location.offset == found.offset:
                    cause += f"; this segment holds no later block, and the next one begins with block {following}"
                cause += f"; lost: {blocks_text(found.first, found.last)}"
                self._break(reader.path, found.offset, found.first, cause)
                self._continue_at(following, None)
                continue
            if self._chain is not None and not reader.follows(found, self._chain):
                cause = "the hash chain is broken: it does not follow the block before it"
                self._break(reader.path, reader.location.offset - found.header.size, found.header.number, cause)
            self._blocks += 1
            self._messages += found.header.messages
            self._octets += found.header.size
            self._expected = found.header.number + 1
            self._chain = self._head = found.header.chain
            self._end = (reader.path, reader.location.offset)
        if reader.end is None and (octets := reader.torn_octets):
            self._torn = TornTail(reader.path, reader.location.offset, self._expected, octets)
