"""Damage at every kind of place: found, named with segment, block and offset, and the rest is counted."""

import struct
import zlib
from pathlib import Path

import pytest

from relay.spool import block
from relay.spool.block import Contents, Span
from relay.spool.inspection.verify import MAX_BREAKS, Verified, verify
from relay.spool.segments import segment
from relay.spool.segments.segment_reader import BlockLocation, open_segment
from relay.spool.spool import RunSeed, Spool
from relay.system.disk import Disk
from relay.values.event import EventType, Position

BLOCKS = 60
SIZE = 4096


def contents(number: int, text: bytes = b"x" * 300) -> Contents:
    message = b"<13>1 %06d %b" % (number, text)
    return Contents([Span(EventType.AUDIT, number, 1)], [message], [Position("a", number, b"")], 2, 1, 1, len(message))


def opened(folder: Path, *, size: int = SIZE, spool_id: bytes = b"0123456789abcdef") -> Spool:
    return Spool.open(Disk(), str(folder), segment_size=size, run=RunSeed(b"run00001", spool_id))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A spool of 60 blocks in several segments."""
    spool = opened(tmp_path)
    for number in range(1, BLOCKS + 1):
        spool.append(contents(number), number)
    spool.close()
    assert len(segments(tmp_path)) > 5
    return tmp_path


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.segment"))


def first_of(path: Path) -> int:
    return segment.first_of(path.name)


def blocks_of(path: Path) -> list[tuple[int, block.Header]]:
    _, reader = open_segment(Disk(), str(path.parent), BlockLocation.start_of(first_of(path)))
    with reader:
        return [(found.offset, found.header) for found in reader.headers()]


def change(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path: Path, offset: int) -> None:
    with path.open("rb") as file:
        file.seek(offset)
        octet = file.read(1)[0]
    change(path, offset, bytes([octet ^ 0x10]))


def verified(folder: Path, **cursors: int) -> Verified:
    return verify(Disk(), str(folder), cursors)


def places(found: Verified) -> list[tuple[str, int, int]]:
    return [(Path(each.path).name, each.offset, each.block) for each in found.breaks]


def test_a_whole_spool_is_counted(folder: Path) -> None:
    found = verified(folder, server=BLOCKS + 1)
    last = blocks_of(segments(folder)[-1])[-1][1]
    assert (found.blocks, found.messages, found.first, found.next_number) == (BLOCKS, BLOCKS, 1, BLOCKS + 1)
    assert (found.broken, found.breaks, found.lost, found.torn) == (0, (), 0, None)
    assert (found.segments, found.head) == (len(segments(folder)), last.chain)
    assert found.octets == sum(header.size for path in segments(folder) for _, header in blocks_of(path))


def test_an_empty_spool_is_whole(tmp_path: Path) -> None:
    assert verified(tmp_path)[:7] == (0, 0, 0, 0, 0, 1, block.CHAIN_START)
    assert verified(tmp_path / "none").broken == 0


def test_a_spool_whose_oldest_segments_were_deleted_is_whole(folder: Path) -> None:
    segments(folder)[0].unlink()
    second = first_of(segments(folder)[0])
    found = verified(folder)
    assert (found.broken, found.first, found.blocks) == (0, second, BLOCKS + 1 - second)


def middle(folder: Path) -> tuple[Path, int, block.Header]:
    """The third block of the third segment."""
    path = segments(folder)[2]
    return path, *blocks_of(path)[2]


@pytest.mark.parametrize(
    "part", ["magic", "lengths", "fields", "chain", "variable part", "crc", "payload", "last octet"]
)
def test_an_octet_flipped_in_a_block_is_one_break_there_and_costs_that_block(folder: Path, part: str) -> None:
    path, offset, header = middle(folder)
    flip(
        path,
        offset
        + {
            "magic": 3,
            "lengths": 11,
            "fields": 20,
            "chain": 80,
            "variable part": 115,
            "crc": header.length - 2,
            "payload": header.length + 50,
            "last octet": header.size - 1,
        }[part],
    )
    found = verified(folder)
    assert places(found) == [(path.name, offset, header.number)]
    assert f"lost: block {header.number}" in found.breaks[0].cause
    assert (found.broken, found.lost, found.blocks) == (1, 1, BLOCKS - 1)
    assert found.next_number == BLOCKS + 1


def test_every_flipped_octet_of_a_segment_is_noticed(tmp_path: Path) -> None:
    """All of it, except for the zeros after its last block."""
    spool = opened(tmp_path, size=600)
    for number in range(1, 8):
        spool.append(contents(number, b""), number)
    spool.close()
    path = segments(tmp_path)[1]
    last_offset, last = blocks_of(path)[-1]
    whole = path.read_bytes()
    found = []
    for place in range(last_offset + last.size):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        found.append(verified(tmp_path))
    assert {each.broken for each in found} == {1}
    assert {each.breaks[0].path for each in found} == {str(path)}


def reseal(data: bytes, header: block.Header, new_payload: bytes) -> bytes:
    """A forgery: another payload, with every checksum of the block right except for the chain."""
    head = bytearray(data[: header.length - 4])
    struct.pack_into(">I", head, 68, zlib.crc32(new_payload))
    return bytes(head) + zlib.crc32(head).to_bytes(4, "big") + new_payload


def test_a_payload_replaced_with_matching_checksums_breaks_the_chain(folder: Path) -> None:
    path, offset, header = middle(folder)
    data = path.read_bytes()[offset : offset + header.size]
    payload = data[header.length :].replace(b"xxx", b"yyy")
    change(path, offset, reseal(data, header, payload))
    found = verified(folder)
    assert places(found) == [(path.name, offset, header.number)]
    assert "the hash chain is broken" in found.breaks[0].cause
    assert (found.blocks, found.lost) == (BLOCKS, 0)


def test_a_rewritten_segment_breaks_the_chain_at_the_next_one(folder: Path) -> None:
    """Every block of it is right by itself, and follows the one before."""
    path, following = segments(folder)[2:4]
    file, header = segment.open_existing(Disk(), str(path))
    file.close()
    end, chain = segment.HEADER_LENGTH, header.previous_chain or b""
    for number in range(header.first, first_of(following)):
        made, data = block.encode(contents(number, b"y" * 300), number, b"run00001", number, chain)
        change(path, end, data)
        end, chain = end + made.size, made.chain
    found = verified(folder)
    assert places(found) == [(following.name, 0, first_of(following))]
    assert "does not continue where the one before it ends" in found.breaks[0].cause
    assert (found.blocks, found.lost) == (BLOCKS, 0)


@pytest.mark.parametrize("how", ["zeros", "moved up"])
def test_a_removed_block_is_missed(folder: Path, how: str) -> None:
    path, offset, header = middle(folder)
    data = path.read_bytes()
    if how == "zeros":
        change(path, offset, bytes(header.size))
    else:
        path.write_bytes((data[:offset] + data[offset + header.size :]).ljust(len(data), b"\0"))
    found = verified(folder)
    assert places(found) == [(path.name, offset, header.number)]
    assert (found.broken, found.lost, found.blocks) == (1, 1, BLOCKS - 1)


def test_the_last_blocks_of_an_older_segment_are_missed(folder: Path) -> None:
    path, following = segments(folder)[2:4]
    offset, header = blocks_of(path)[-2]
    path.write_bytes(path.read_bytes()[:offset])
    found = verified(folder)
    assert places(found) == [(path.name, offset, header.number)]
    assert f"lost: blocks {header.number} to {first_of(following) - 1}" in found.breaks[0].cause
    assert (found.lost, found.blocks) == (2, BLOCKS - 2)


def test_two_exchanged_blocks_are_noticed(folder: Path) -> None:
    path = segments(folder)[2]
    (one, first), (two, second) = blocks_of(path)[2:4]
    data = path.read_bytes()
    assert first.size == second.size
    change(path, one, data[two : two + second.size])
    change(path, two, data[one : one + first.size])
    found = verified(folder)
    assert places(found)[0] == (path.name, one, first.number)
    assert found.lost >= 1


def test_a_removed_segment_is_missed_with_its_blocks(folder: Path) -> None:
    before, gone, following = segments(folder)[1:4]
    gone.unlink()
    offset, last = blocks_of(before)[-1]
    found = verified(folder)
    assert places(found) == [(before.name, offset + last.size, first_of(gone))]
    cause = f"the next one begins with block {first_of(following)}; lost: blocks {first_of(gone)} to"
    assert cause in found.breaks[0].cause
    assert found.lost == first_of(following) - first_of(gone)
    assert found.blocks == BLOCKS - found.lost


@pytest.mark.parametrize("index", [0, 2, -1])
def test_a_damaged_segment_header_is_one_break_and_costs_nothing(folder: Path, index: int) -> None:
    path = segments(folder)[index]
    flip(path, 40)
    found = verified(folder)
    assert places(found) == [(path.name, 0, first_of(path))]
    assert (found.segments, found.blocks, found.lost) == (len(segments(folder)), BLOCKS, 0)
    assert "its own header is damaged" in found.breaks[0].cause


def test_a_segment_of_another_spool_is_noticed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other_folder = tmp_path_factory.mktemp("other")
    other = opened(other_folder, spool_id=b"fedcba9876543210")
    for number in range(1, BLOCKS + 1):
        other.append(contents(number), number)
    other.close()
    path = segments(folder)[2]
    path.write_bytes((other_folder / path.name).read_bytes())
    found = verified(folder)
    assert found.breaks[0][2:] == (first_of(path), "it belongs to another spool")


def test_a_segment_under_another_name_is_noticed(folder: Path) -> None:
    first, second = segments(folder)[1:3]
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    assert f"begins with block {first_of(second)}" in verified(folder).breaks[0].cause


def test_a_void_block_of_a_failed_sync_is_not_a_break(tmp_path: Path) -> None:
    """What a failed write left at an older segment's end, whole or not, was written again in the next."""
    for leftover in (b"", b"half a block", block.frame(contents(3).messages[0])):
        folder = tmp_path / str(len(leftover))
        spool = opened(folder)
        for number in (1, 2, 3):
            spool.append(contents(number), number)
        end, chain, last = spool._end, spool._chain, spool.last
        spool.append(contents(4), 4)
        spool._end, spool._chain, spool.last = end, chain, last
        change(segments(folder)[0], end + 30, leftover)
        spool._begin_segment(4, 400, 4)
        spool.append(contents(4), 4)
        spool.append(contents(5), 5)
        spool.close()
        found = verified(folder)
        assert (found.broken, found.blocks, found.segments) == (0, 5, 2)


@pytest.mark.parametrize("kept", [5, 8, 60, 130, 200, 300])
def test_a_torn_tail_is_not_damage(folder: Path, kept: int) -> None:
    path = segments(folder)[-1]
    offset, header = blocks_of(path)[-1]
    change(path, offset + kept, bytes(header.size - kept))
    found = verified(folder)
    assert (found.broken, found.blocks, found.next_number) == (0, BLOCKS - 1, BLOCKS)
    assert found.torn is not None
    assert found.torn[:3] == (str(path), offset, BLOCKS)
    assert 0 < found.torn.octets <= kept


def test_newest_blocks_that_a_cursor_had_passed_are_missed(folder: Path) -> None:
    path = segments(folder)[-1]
    offset, header = blocks_of(path)[-1]
    change(path, offset, bytes(header.size))
    assert verified(folder, slow=3).broken == 0
    found = verified(folder, fast=BLOCKS + 1, slow=3)
    assert places(found) == [(path.name, offset, BLOCKS)]
    assert f"block {BLOCKS}" in found.breaks[0].cause
    assert "the cursor of fast" in found.breaks[0].cause


def test_many_breaks_are_all_counted_and_only_some_kept(tmp_path: Path) -> None:
    spool = opened(tmp_path, size=1 << 20)
    for number in range(1, 301):
        spool.append(contents(number), number)
    spool.close()
    path = segments(tmp_path)[0]
    for offset, header in blocks_of(path)[::2]:
        flip(path, offset + header.length + 20)
    found = verified(tmp_path)
    assert (found.broken, len(found.breaks), found.lost, found.blocks) == (150, MAX_BREAKS, 150, 150)


def test_large_blocks_are_checked_like_small_ones(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(1, 5):
        spool.append(contents(number, b"z" * 3_000_000), number)
    spool.close()
    assert verified(tmp_path).blocks == 4
    flip(segments(tmp_path)[1], 2_500_000)
    assert [each.block for each in verified(tmp_path).breaks] == [2]


def test_segments_deleted_meanwhile_were_proven_and_are_not_a_break(folder: Path) -> None:
    doomed = segments(folder)[:3]

    class Releasing(Disk):
        """A disk on which the writer lets three segments go after they were listed."""

        def names(self, folder: str) -> list[str]:
            listed = super().names(folder)
            for path in doomed:
                path.unlink(missing_ok=True)
            return listed

    found = verify(Releasing(), str(folder), {})
    assert (found.broken, found.first) == (0, first_of(segments(folder)[0]))
