"""Where a segment's whole blocks end: what opening a spool needs to know of its newest segment."""

from collections.abc import Collection
from typing import NamedTuple

from relay.spool.block import BlockError, Header
from relay.spool.segments import segment
from relay.spool.segments.segment import SegmentHeader
from relay.spool.segments.segment_reader import BlockLocation, SegmentReader, SpoolDamage
from relay.system.disk import File
from relay.values.event import EventType


class SegmentTail(NamedTuple):
    """The end of a segment's whole blocks."""

    end: int
    """Offset."""
    last: Header | None
    chain: bytes | None
    """Of the last whole block; without one, of the block before the segment. None when that is not known."""
    torn: int
    """Octets behind `end` that are neither zeros nor a block: a crash cut a write short."""
    torn_header: Header | None
    """The header of the block at `end`, when it is whole."""
    damage: tuple[str, ...]
    """Damage before `end`, each with its offset."""
    refused: tuple[bytes, ...]
    """The chain of the block at `end`, when its events were refused and counted."""
    numbers: dict[EventType, int]
    """The last number of each type in the last block's run, as far as this segment holds them."""


def find_tail(file: File, header: SegmentHeader, refused: Collection[bytes] = ()) -> SegmentTail:
    """Check every block of a segment; it ends behind the last block whose chain is not in `refused`."""
    reader = SegmentReader(file, BlockLocation.start_of(header.first), trust_headers=True)
    end, last, chain = segment.HEADER_LENGTH, None, header.previous_chain
    void: tuple[bytes, ...] = ()
    damage: list[str] = []
    numbers: dict[EventType, int] = {}
    while (found := reader.block()) is not None:
        if isinstance(found, SpoolDamage):
            end = reader.location.offset
            damage.append(f"offset {found.offset}: {found.cause}; the next block is at {end}")
            continue
        if found.header.chain in refused:
            void = (found.header.chain,)
            break
        if chain is not None and not damage and not reader.follows(found, chain):
            damage.append(f"offset {end}: block {found.header.number}: the hash chain is broken")
        if last is not None and last.run != found.header.run:
            numbers.clear()
        numbers.update((span.type, span.first + span.messages - 1) for span in found.header.spans)
        last, chain, end = found.header, found.header.chain, reader.location.offset
    try:
        torn_header = segment.read_header(file, end)
    except BlockError:
        torn_header = None
    torn = segment.nonzero_length(file, end)
    return SegmentTail(end, last, chain, torn, torn_header, tuple(damage), void, numbers)
