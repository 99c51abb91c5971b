"""One folder of segments: what is appended is read, whatever happened to the files in between."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from relay.errors import StorageError
from relay.spool.block import Block, Contents, Span
from relay.spool.segments import segment
from relay.spool.segments.segment_reader import SpoolDamage
from relay.spool.segments.segment_tail import find_tail
from relay.spool.spool import RunSeed, Spool
from relay.spool.spool_reader import SpoolReader
from relay.system.disk import Disk, File
from relay.values.event import EventType, Position

RUN = b"run00001"
SIZE = 4096


def opened(folder: Path, disk: Disk | None = None, run: bytes = RUN) -> Spool:
    return Spool.open(disk or Disk(), str(folder), segment_size=SIZE, run=RunSeed(run, b"0123456789abcdef"))


def contents(*messages: bytes, first: int = 1, place: bytes = b"{}") -> Contents:
    return Contents(
        spans=[Span(EventType.AUDIT, first, len(messages))],
        messages=messages,
        positions=[Position("audit", first + len(messages) - 1, place)],
        types_taken=1 << EventType.AUDIT,
        earliest=1,
        latest=1,
        largest=max(map(len, messages)),
    )


def fill(spool: Spool, count: int, size: int = 300) -> list[bytes]:
    messages = [b"%06d " % number + b"x" * (size - 7) for number in range(1, count + 1)]
    for number, message in enumerate(messages, 1):
        spool.append(contents(message, first=number), number)
    return messages


def everything(spool: Spool, number: int = 1) -> list[Block | SpoolDamage]:
    reader = SpoolReader(spool, number)
    found: list[Block | SpoolDamage] = []
    while (item := reader.read()) is not None:
        found.append(item)
    reader.close()
    return found


def delivered(items: list[Block | SpoolDamage]) -> list[bytes]:
    return [message for item in items if isinstance(item, Block) for _, _, message in item.messages()]


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.segment"))


def test_appended_messages_are_read_in_order_over_many_segments(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    messages = fill(spool, 40)
    assert len(segments(tmp_path)) > 3
    assert delivered(everything(spool)) == messages


def test_a_reader_can_begin_at_every_block(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    messages = fill(spool, 30)
    for number in range(1, 32):
        assert delivered(everything(spool, number)) == messages[number - 1 :]


class Interrupted:
    """A spool for a reader in another thread: before one of its accesses the writer appends a block."""

    def __init__(self, spool: Spool, accesses: int, append: Callable[[], object]) -> None:
        self._spool = spool
        self._accesses = accesses
        self._append = append

    def __getattr__(self, name: str) -> object:
        self._accesses -= 1
        if self._accesses == 0:
            self._append()
        return getattr(self._spool, name)


@pytest.mark.parametrize("accesses", range(1, 15))
@pytest.mark.parametrize("next_number", [3, 10])
def test_a_block_that_is_appended_while_a_reader_looks_for_it_is_read(
    tmp_path: Path, accesses: int, next_number: int
) -> None:
    spool = opened(tmp_path)
    fill(spool, 2)
    spool.skip_numbers(next_number)  # 10: blocks 3 to 9 were there, and are missing
    reader = SpoolReader(spool, 3)
    reader.spool = cast("Spool", Interrupted(spool, accesses, lambda: spool.append(contents(b"new", first=3), 3)))
    found = [item for _ in range(10) if (item := reader.read()) is not None]
    assert delivered(found) == [b"new"]
    gone = [(item.first, item.last) for item in found if isinstance(item, SpoolDamage)]
    assert gone == ([(3, 9)] if next_number == 10 else [])


def test_a_reader_waits_for_the_next_block(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    reader = SpoolReader(spool, 1)
    assert reader.read() is None
    messages = fill(spool, 1)
    found = reader.read()
    assert isinstance(found, Block)
    assert delivered([found]) == messages
    assert reader.read() is None


def test_numbers_positions_and_chain_continue_after_a_restart(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    messages = fill(spool, 20)
    last = spool.last
    spool.close()

    again = opened(tmp_path, run=b"run00002")
    assert again.last == last
    assert again.next_number == 21
    assert again.positions == {"audit": Position("audit", 20, b"{}")}
    again.append(contents(b"after", first=1), 21)
    assert delivered(everything(again)) == [*messages, b"after"]
    assert [item.header.run for item in everything(again) if isinstance(item, Block)][-2:] == [RUN, b"run00002"]
    for path in segments(tmp_path):
        file, header = segment.open_existing(Disk(), str(path))
        with file:
            tail = find_tail(file, header)
        assert (tail.damage, tail.torn) == ((), 0)


def test_a_block_larger_than_a_segment_gets_one_of_its_own(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(contents(b"small"), 1)
    spool.append(contents(b"y" * 50_000, first=2), 2)
    spool.append(contents(b"small again", first=3), 3)
    spool.close()
    assert delivered(everything(opened(tmp_path))) == [b"small", b"y" * 50_000, b"small again"]


def test_only_whole_segments_are_deleted_and_the_newest_stays(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    messages = fill(spool, 40)
    firsts = [segment.first_of(path.name) for path in segments(tmp_path)]
    assert spool.release(firsts[2] - 1) == 1
    assert spool.release(10_000) == len(firsts) - 2
    assert [segment.first_of(path.name) for path in segments(tmp_path)] == firsts[-1:]
    assert delivered(everything(spool)) == messages[firsts[-1] - 1 :]


@pytest.mark.parametrize("cut", range(1, 450, 7))
def test_a_torn_tail_is_cut_after_a_copy(tmp_path: Path, cut: int) -> None:
    """The last block's octets stop anywhere: the blocks before it are whole, the torn octets are kept aside."""
    spool = opened(tmp_path)
    messages = fill(spool, 3)
    last = spool.last
    assert last is not None
    end = spool._end
    spool.close()
    path = segments(tmp_path)[0]
    data = bytearray(path.read_bytes())
    torn = bytes(data[end - last.size : end - last.size + cut])
    data[end - last.size + cut : end] = bytes(last.size - cut)
    path.write_bytes(data)

    again = opened(tmp_path)
    assert delivered(everything(again)) == messages[:2]
    assert again.next_number == 3
    assert Path(again.recovery.torn_copy).read_bytes() == torn.rstrip(b"\0")
    again.append(contents(b"after", first=3), 9)
    again.close()
    assert delivered(everything(opened(tmp_path))) == [*messages[:2], b"after"]


def test_a_file_that_ends_inside_the_last_block_can_be_opened(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    messages = fill(spool, 3)
    end = spool._end
    spool.close()
    path = segments(tmp_path)[0]
    path.write_bytes(path.read_bytes()[: end - 5])
    again = opened(tmp_path)
    assert delivered(everything(again)) == messages[:2]
    again.append(contents(b"after", first=3), 9)
    assert delivered(everything(again)) == [*messages[:2], b"after"]


def test_every_flipped_byte_costs_at_most_its_own_block_and_is_reported(tmp_path: Path) -> None:
    """Damage in the middle is stepped over and named; never a wrong message, never a crash."""
    spool = opened(tmp_path / "whole")
    messages = fill(spool, 3, size=60)
    end = spool._end
    spool.close()
    whole = segments(tmp_path / "whole")[0].read_bytes()
    for place in range(segment.HEADER_LENGTH, end):
        folder = tmp_path / str(place)
        folder.mkdir()
        data = bytearray(whole)
        data[place] ^= 0x55
        (folder / segment.name_of(1)).write_bytes(data)
        again = opened(folder)
        items = everything(again)
        found = delivered(items)
        assert set(found) < set(messages)
        assert len(found) == 2
        lost = [
            number for item in items if isinstance(item, SpoolDamage) for number in range(item.first, item.last + 1)
        ]
        told_as_torn = again.recovery.torn > 0
        assert len(lost) == 1 or told_as_torn
        again.close()


def test_foreign_empty_and_newer_files_are_left_alone_and_named(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    messages = fill(spool, 2)
    spool.close()
    empty, foreign, newer = (tmp_path / segment.name_of(number) for number in (100, 200, 300))
    empty.write_bytes(b"")
    foreign.write_bytes(b"something else" * 100)
    newer.write_bytes(segment.MAGIC + (99).to_bytes(2, "big") + bytes(200))
    before = [path.read_bytes() for path in (empty, foreign, newer)]

    again = opened(tmp_path)
    assert delivered(everything(again)) == messages
    again.append(contents(b"after", first=3), 9)
    assert [path.read_bytes() for path in (empty, foreign, newer)] == before
    assert [text.partition(":")[0] for text in again.recovery.left_alone] == [str(empty), str(foreign), str(newer)]
    assert "spool format 99" in again.recovery.left_alone[2]


class _FailingFile(File):
    """A real file whose sync fails on request, as on a device: the data may or may not be there."""

    fail: Callable[[], bool] = staticmethod(lambda: False)

    def sync(self) -> None:
        if self.fail():
            raise StorageError(self.path, "fdatasync failed: Input/output error")
        super().sync()


class _FailingDisk(Disk):
    def __init__(self) -> None:
        self.failures: Iterator[bool] = iter(())

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> File:
        plain = super().open(path, create=create, writable=writable)
        file = _FailingFile(path, plain.descriptor)
        file.fail = lambda: next(self.failures, False)
        return file


def test_after_a_failed_sync_the_block_is_written_again_in_a_new_segment(tmp_path: Path) -> None:
    """The older segment may hold the block as well; it is void there."""
    disk = _FailingDisk()
    spool = opened(tmp_path, disk)
    messages = fill(spool, 2)
    disk.failures = iter([True])
    spool.append(contents(b"third", first=3), 3)
    assert [path.name for path in segments(tmp_path)] == [segment.name_of(1), segment.name_of(3)]
    assert delivered(everything(spool)) == [*messages, b"third"]
    spool.close()
    assert delivered(everything(opened(tmp_path))) == [*messages, b"third"]


def test_when_no_segment_can_be_synced_nothing_is_accepted_and_a_later_try_may_succeed(tmp_path: Path) -> None:
    disk = _FailingDisk()
    spool = opened(tmp_path, disk)
    messages = fill(spool, 2)
    disk.failures = iter([True, False, True])
    with pytest.raises(StorageError, match="fdatasync"):
        spool.append(contents(b"third", first=3), 3)
    assert spool.next_number == 3
    assert delivered(everything(spool)) == messages
    spool.append(contents(b"third", first=3), 3)
    assert delivered(everything(spool)) == [*messages, b"third"]
    spool.close()
    assert delivered(everything(opened(tmp_path))) == [*messages, b"third"]


def test_a_crash_between_a_segments_making_and_its_first_block_loses_nothing(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    messages = fill(spool, 2)
    spool._begin_segment(3, 100, 3)
    spool.close()
    again = opened(tmp_path)
    assert again.next_number == 3
    assert again.positions["audit"].count == 2
    again.append(contents(b"third", first=3), 3)
    assert delivered(everything(again)) == [*messages, b"third"]


def test_the_newest_block_is_never_deleted_even_when_an_empty_segment_follows(tmp_path: Path) -> None:
    """A crash between a segment's making and its first block: the number and the positions must not be lost."""
    spool = opened(tmp_path)
    fill(spool, 2)
    spool._begin_segment(3, 100, 3)
    assert spool.release(3) == 0
    spool.close()
    again = opened(tmp_path)
    assert again.release(3) == 0
    assert again.next_number == 3
    assert again.positions["audit"].count == 2


def test_readers_in_other_threads_see_every_block_once_while_the_writer_works(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    total = 300
    results: list[list[bytes]] = [[], []]

    def read(into: list[bytes]) -> None:
        reader = SpoolReader(spool, 1)
        while len(into) < total:
            found = reader.read()
            if isinstance(found, Block):
                into.extend(message for _, _, message in found.messages())
            else:
                with spool._changed:
                    spool._changed.wait_for(lambda: spool.next_number > reader.next_number, 5)

    threads = [threading.Thread(target=read, args=(into,)) for into in results]
    for thread in threads:
        thread.start()
    messages = fill(spool, total, size=200)
    for thread in threads:
        thread.join(100)
    assert results == [messages, messages]
