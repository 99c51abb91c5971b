"""What the segments of a spool hold by type and number, so that losses can be counted. Reads the segments.

`types` is a bitmap of the event types that count (bit = the type's number).
"""

from collections.abc import Iterator
from typing import NamedTuple

from relay.spool.block import Block, Header
from relay.spool.losses.gap import Gap, LostRange, ranges_of, reported_gaps
from relay.spool.losses.numbers import Numbers
from relay.spool.segments.segment_reader import SpoolDamage
from relay.spool.spool import Spool


class DeletableSegment(NamedTuple):
    """A segment that may be deleted."""

    first: int
    following: int
    """The first block of the segment after it."""
    created: int
    """Microseconds since the epoch; 0, long ago, when its header does not say it."""
    blocks: tuple[Header, ...]
    """Of its whole blocks."""
    damaged: tuple[tuple[int, LostRange], ...]
    """What damage took of it, each with the block before which that is known, as a reader's `next_number`."""
    gaps: tuple[tuple[int, int, Gap], ...]
    """The gaps that its events report, each with its block's number and the event's index in that block."""


def oldest_segment(spool: Spool) -> DeletableSegment | None:
    """A spool's oldest segment; None when it has the newest block and must stay."""
    while True:
        newest = spool.last.number if spool.last else 0
        first, following = next(spool.segments(), (0, 0))
        if not first or following > newest:
            return None
        reader = spool.segment_reader(first, following)
        if reader is not None:
            break
    numbers = numbers_before(spool, first, look_back=False)
    before = numbers.copy()
    whole: list[Header] = []
    damaged: list[tuple[int, LostRange]] = []
    gaps: list[tuple[int, int, Gap]] = []
    with reader:
        for found in reader.blocks():
            if isinstance(found, SpoolDamage):
                damaged += ((found.last + 1, each) for each in numbers.miss(found.header))
                continue
            whole.append(found.header)
            damaged += ((found.header.number + 1, each) for each in numbers.see(found.header))
            gaps += ((found.header.number, index, gap) for index, gap in reported_gaps(found))
        created = reader.created
    ahead = numbers.copy()
    damaged += _known_from_the_next(spool, ahead, following)
    numbers.doubt(ahead.in_doubt)
    spool.remembered_numbers = {first: before, following: numbers}
    return DeletableSegment(first, following, created, tuple(whole), tuple(damaged), tuple(gaps))


def _known_from_the_next(spool: Spool, numbers: Numbers, first: int) -> list[tuple[int, LostRange]]:
    """What damage took at a segment's end, and at the beginning of the next one, which begins with block `first`.

    Once the segment is deleted, this cannot be known any more.
    """
    newest = spool.last.number if spool.last else 0
    _, following = spool.segment_of(first)
    damaged: list[tuple[int, LostRange]] = []
    begun = False
    reader = spool.segment_reader(first, following or newest + 1)
    if reader is None:
        return damaged
    with reader:
        for found in reader.blocks():
            if isinstance(found, Block):
                damaged += ((found.header.number + 1, each) for each in numbers.see(found.header))
                begun = True
            elif not begun:
                damaged += ((found.last + 1, each) for each in numbers.miss(found.header))
            if begun and (isinstance(found, SpoolDamage) or not numbers.in_doubt):
                break
    return damaged


def numbers_before(spool: Spool, first: int, *, look_back: bool) -> Numbers:
    """What is known of the numbers before the segment that begins with block `first`.

    `look_back`: read the segment before it, unless its numbers are remembered.
    """
    known = spool.remembered_numbers.get(first)
    if known is not None:
        return known.copy()
    numbers = Numbers(from_the_first=first == 1, ends=spool.known_ends())
    before, _ = spool.segment_of(first - 1)
    reader = spool.segment_reader(before, first) if look_back and before else None
    if reader is not None:
        with reader:
            for found in reader.blocks():
                if isinstance(found, SpoolDamage):
                    numbers.miss(found.header)
                else:
                    numbers.see(found.header)
    return numbers


def headers_between(spool: Spool, first: int, end: int) -> Iterator[Header]:
    """The headers of the whole blocks from `first` to the one before `end`."""
    for start, following in spool.segments():
        if following > first and start < end and (reader := spool.segment_reader(start, min(following, end))):
            with reader:
                yield from (header for _, header in reader.headers() if header.number >= first)


def held(spool: Spool, first: int, end: int, types: int) -> Iterator[LostRange]:
    """What the blocks from `first` to the one before `end` hold."""
    for header in headers_between(spool, first, end):
        yield from ranges_of(header, types)


def deleted_before(spool: Spool, types: int) -> Iterator[LostRange]:
    """What was deleted of the oldest block's run, by the first number of each type in the oldest segment.

    Nothing is known of the runs before that one.
    """
    start, following = next(spool.segments(), (1, 1))
    reader = spool.segment_reader(start, following) if start > 1 else None
    if reader is None:
        return
    run, seen = None, 0
    with reader:
        for _, header in reader.headers():
            run = run or header.run
            for kind, first, *_ in header.spans if header.run == run else ():
                if (types & ~seen) >> kind & 1 and first > 1:
                    yield LostRange(run.hex(), int(kind), 1, first - 1, first - 1)
                seen |= 1 << kind
