"""One segment's reader: a block, damage that it steps over, or the end."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.spool import block
from relay.spool.block import Block, Contents, Span
from relay.spool.segments import segment
from relay.spool.segments.segment import HEADER_LENGTH, SegmentHeader
from relay.spool.segments.segment_reader import BlockLocation, LocatedHeader, SegmentReader, SpoolDamage, open_segment
from relay.system.disk import Disk, File
from relay.values.event import EventType

FIRST, BLOCKS = 5, 4
NUMBERS = range(FIRST, FIRST + BLOCKS)


class Segment:
    """A segment of four blocks, and where each is."""

    def __init__(self, folder: Path, size: int) -> None:
        header = SegmentHeader(b"0123456789abcdef", FIRST, 1, block.CHAIN_START)
        segment.create(Disk(), str(folder), header, 1 << 20).close()
        self.folder = folder
        self.path = folder / segment.name_of(FIRST)
        self.headers: dict[int, LocatedHeader] = {}
        self.end, self._chain, self._size = HEADER_LENGTH, block.CHAIN_START, size
        for number in NUMBERS:
            self.append(number)

    def encoded(self, number: int) -> tuple[block.Header, bytes]:
        """The next block, with that number."""
        message = b"x" * self._size
        contents = Contents([Span(EventType.AUDIT, number, 1)], [message], [], 1 << EventType.AUDIT, 1, 1, self._size)
        return block.encode(contents, number, b"run00001", number, self._chain)

    def append(self, number: int) -> None:
        """Write a block."""
        header, data = self.encoded(number)
        self.write(self.end, data)
        self.headers[number] = LocatedHeader(self.end, header)
        self.end, self._chain = self.end + header.size, header.chain

    def write(self, offset: int, data: bytes) -> None:
        """Change octets of the file."""
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def damage_header(self, number: int) -> None:
        """Change an octet in the middle of a block's header."""
        self.write(self.headers[number].offset + 40, b"\xff")

    def damage_payload(self, number: int) -> None:
        """Change the last octet of a block."""
        found = self.headers[number]
        self.write(found.offset + found.header.size - 1, b"\xff")

    def reader(self, end: int | None = None) -> SegmentReader:
        """From the first block on."""
        _, reader = open_segment(Disk(), str(self.folder), BlockLocation.start_of(FIRST), end)
        return reader


@pytest.fixture(params=[100, 3000, 100_000], ids=lambda size: f"{size} octets")
def small_or_large(request: pytest.FixtureRequest, tmp_path: Path) -> Segment:
    return Segment(tmp_path, request.param)


def described(found: Iterator[Block | LocatedHeader | SpoolDamage]) -> list[int | tuple[int, int]]:
    """The numbers of blocks, and the first and last one of damage."""
    return [(each.first, each.last) if isinstance(each, SpoolDamage) else each.header.number for each in found]


def blocks(reader: SegmentReader) -> list[int | tuple[int, int]]:
    with reader:
        return described(reader.blocks())


def headers(reader: SegmentReader) -> list[int | tuple[int, int]]:
    with reader:
        return described(iter(reader.header, None))


@pytest.mark.parametrize("end", [None, FIRST + BLOCKS])
@pytest.mark.parametrize("read", [blocks, headers])
def test_whole_blocks_are_read_to_the_end(
    small_or_large: Segment, read: Callable[[SegmentReader], list[int]], end: int | None
) -> None:
    assert read(small_or_large.reader(end)) == [*NUMBERS]


def test_blocks_from_the_next_segments_first_one_on_are_void(small_or_large: Segment) -> None:
    assert blocks(small_or_large.reader(FIRST + 2)) == [FIRST, FIRST + 1]
    assert headers(small_or_large.reader(FIRST + 2)) == [FIRST, FIRST + 1]


def test_a_damaged_header_is_stepped_over(small_or_large: Segment) -> None:
    small_or_large.damage_header(FIRST + 1)
    for end in (None, FIRST + BLOCKS):
        for read in (blocks, headers):
            assert read(small_or_large.reader(end)) == [FIRST, (FIRST + 1, FIRST + 1), FIRST + 2, FIRST + 3]


def test_a_damaged_payload_is_known_by_its_header(small_or_large: Segment) -> None:
    small_or_large.damage_payload(FIRST + 1)
    with small_or_large.reader() as reader:
        found = list(reader.blocks())
    assert isinstance(found[1], SpoolDamage)
    assert found[1].header == small_or_large.headers[FIRST + 1].header
    assert described(iter(found)) == [FIRST, (FIRST + 1, FIRST + 1), FIRST + 2, FIRST + 3]
    assert headers(small_or_large.reader()) == [*NUMBERS]
    with small_or_large.reader() as reader:
        assert isinstance(reader.load(reader.header_at(small_or_large.headers[FIRST + 1].offset)), SpoolDamage)


def test_damage_at_the_end_is_a_torn_tail_in_the_newest_segment_alone(small_or_large: Segment) -> None:
    last = FIRST + BLOCKS - 1
    small_or_large.damage_header(last)
    with small_or_large.reader() as reader:
        assert described(reader.blocks()) == [*NUMBERS[:-1]]
        assert reader.torn_octets == small_or_large.headers[last].header.size
        assert reader.location == BlockLocation(FIRST, small_or_large.headers[last].offset, last)
    with small_or_large.reader(last + 5) as reader:
        found = list(reader.blocks())
    assert isinstance(found[-1], SpoolDamage)
    assert (found[-1].first, found[-1].last, found[-1].gone) == (last, last + 4, False)


def test_zeros_where_blocks_belong_are_a_missing_file(small_or_large: Segment) -> None:
    with small_or_large.reader(FIRST + BLOCKS + 3) as reader:
        found = list(reader.blocks())
    assert isinstance(found[-1], SpoolDamage)
    assert (found[-1].first, found[-1].last, found[-1].gone) == (FIRST + BLOCKS, FIRST + BLOCKS + 2, True)


def test_a_block_that_is_written_meanwhile_is_read_by_a_later_call(small_or_large: Segment) -> None:
    """What was read ahead has zeros, or half a block, in its place."""
    following = FIRST + BLOCKS
    with small_or_large.reader() as by_block, small_or_large.reader() as by_header:
        assert described(by_block.blocks()) == described(iter(by_header.header, None)) == [*NUMBERS]
        _, data = small_or_large.encoded(following)
        small_or_large.write(small_or_large.end, data[: len(data) // 2])
        assert (by_block.block(), by_header.header()) == (None, None)
        small_or_large.append(following)
        assert described(by_block.blocks()) == described(iter(by_header.header, None)) == [following]


class _FileWrittenMeanwhile(File):
    """A file to which the next block is appended right after so many reads."""

    def __init__(self, file: File, reads: int, append: Callable[[], None]) -> None:
        super().__init__(file.path, file.descriptor)
        self._reads = reads
        self._append = append

    def read(self, length: int, offset: int) -> bytes:
        data = super().read(length, offset)
        self._reads -= 1
        if self._reads == 0:
            self._append()
        return data


@pytest.mark.parametrize("reads", range(1, 9))
def test_a_block_that_is_written_between_two_reads_is_whole_and_continues_the_chain(
    small_or_large: Segment, reads: int
) -> None:
    last, following = small_or_large.headers[FIRST + BLOCKS - 1], FIRST + BLOCKS
    file = Disk().open(str(small_or_large.path))
    file = _FileWrittenMeanwhile(file, reads, lambda: small_or_large.append(following))
    with SegmentReader(file, BlockLocation(FIRST, small_or_large.end, following)) as reader:
        found = reader.block()
        while found is None:  # these reads were fewer
            found = reader.block()
        assert isinstance(found, Block)
        assert reader.follows(found, last.header.chain)


def test_the_chain_is_followed_from_block_to_block(small_or_large: Segment) -> None:
    chain = block.CHAIN_START
    with small_or_large.reader() as reader:
        while isinstance(found := reader.block(), Block):
            assert reader.follows(found, chain)
            assert not reader.follows(found, b"\xff" * 32)
            chain = found.header.chain
    assert chain == small_or_large.headers[FIRST + BLOCKS - 1].header.chain


def test_only_an_opening_continues_at_a_block_with_a_damaged_payload(small_or_large: Segment) -> None:
    """Its newest block may be torn, and damage before it must still be reported."""
    small_or_large.damage_header(FIRST + BLOCKS - 2)
    small_or_large.damage_payload(FIRST + BLOCKS - 1)
    assert blocks(small_or_large.reader()) == [FIRST, FIRST + 1]
    file = Disk().open(str(small_or_large.path))
    trusting = SegmentReader(file, BlockLocation.start_of(FIRST), trust_headers=True)
    assert blocks(trusting) == [FIRST, FIRST + 1, (FIRST + 2, FIRST + 2)]
