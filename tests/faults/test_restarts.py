"""A process is killed, or refused by the disk, and started again; the power goes only later.

The machine remembers meanwhile what its disk does not hold. What a start has found there, and goes by, must not be
taken back by the power cut.
"""

import errno
from collections.abc import Callable
from functools import partial

import pytest
from harness.fake_disk import Crash, FakeDisk

from relay.errors import StorageError
from relay.spool.block import Block, Contents, Span
from relay.spool.slots import Slots
from relay.spool.spool import RunSeed, Spool
from relay.spool.spool_reader import SpoolReader
from relay.values.event import EventType, Position

SLOTS = "/slots"
SEEDS = 100
SYNC_OF_A_BLOCK, SYNC_OF_A_FOLDER = 2, 7
"""Calls from the beginning of an append: write, sync; and for a segment create, truncate, allocate, …, sync_folder."""
Interrupt = Callable[[FakeDisk, int], None]


def killed(disk: FakeDisk, call: int) -> None:
    disk.crash_at = call


def refused(disk: FakeDisk, call: int) -> None:
    """The next calls too, so that writing it again in a new segment is refused as well."""
    disk.fail_at = dict.fromkeys(range(call, call + 20), errno.EIO)


INTERRUPTS = pytest.mark.parametrize("interrupt", [killed, refused])


def interrupted(disk: FakeDisk, interrupt: Interrupt, calls: int, body: Callable[[], object]) -> None:
    """The body ends at that call, and its process with it; afterwards the disk is well again."""
    interrupt(disk, len(disk.calls) + calls)
    with pytest.raises((Crash, StorageError)):
        body()
    disk.fail_at.clear()
    disk.kill()


def opened(disk: FakeDisk) -> Spool:
    return Spool.open(disk, "/spool", segment_size=4096, run=RunSeed(b"run00001", b"0123456789abcdef"))


def append(spool: Spool, length: int) -> None:
    number = spool.next_number
    text = b"<110>1 - %d %b" % (number, b"x" * length)
    spans, positions = [Span(EventType.AUDIT, number, 1)], [Position("audit", number, b"")]
    spool.append(Contents(spans, [text], positions, 2, 1, 1, len(text)), number)


def blocks(spool: Spool) -> list[int]:
    """The numbers of what can be read."""
    reader = SpoolReader(spool, 1)
    return [found.header.number for found in iter(reader.read, None) if isinstance(found, Block)]


@INTERRUPTS
@pytest.mark.parametrize("length", [10, 3900], ids=["the same segment", "a new segment"])
def test_the_last_block_at_a_start_survives_the_next_block_and_a_power_cut(interrupt: Interrupt, length: int) -> None:
    """The source's position is behind it: what it holds is not given again."""
    for seed in range(SEEDS):
        disk = FakeDisk(seed)
        spool = opened(disk)
        append(spool, 700)
        interrupted(disk, interrupt, SYNC_OF_A_BLOCK, partial(append, spool, 700))

        again = opened(disk)
        append(again, length)
        disk.crash()
        assert blocks(opened(disk)) == list(range(1, again.next_number))


@INTERRUPTS
def test_the_newest_segment_at_a_start_keeps_its_name_after_a_power_cut(interrupt: Interrupt) -> None:
    for seed in range(SEEDS):
        disk = FakeDisk(seed)
        interrupted(disk, interrupt, SYNC_OF_A_FOLDER, partial(append, opened(disk), 10))

        again = opened(disk)
        append(again, 10)
        disk.crash()
        assert blocks(opened(disk)) == list(range(1, again.next_number))


def slot_after(disk: FakeDisk, interrupt: Interrupt) -> tuple[bytes | None, bytes | None]:
    """A slot as a start found it, and after a power cut in the middle of its next change."""
    Slots(disk, SLOTS).put("key", b"1" * 2000)
    interrupted(disk, interrupt, SYNC_OF_A_BLOCK, partial(Slots(disk, SLOTS).put, "key", b"2" * 2000))
    again = Slots(disk, SLOTS)
    found = again.get("key")
    disk.crash_at = len(disk.calls) + SYNC_OF_A_BLOCK
    with pytest.raises(Crash):
        again.put("key", b"3" * 2000)
    disk.crash()
    return found, Slots(disk, SLOTS).get("key")


@INTERRUPTS
def test_a_slot_at_a_start_is_not_lost_when_its_next_write_is_torn(interrupt: Interrupt) -> None:
    """The change takes the place of the other copy, which may be the only one on the disk."""
    seen = set()
    for seed in range(SEEDS):
        found, later = slot_after(FakeDisk(seed), interrupt)
        assert found is not None
        assert later in {found, b"3" * 2000}
        seen.add((found[:1], later[:1] if later else later))
    assert len(seen) > 1


def test_a_start_that_does_not_sync_the_slots_it_found_is_found_out() -> None:
    """The test of the test."""
    lost = 0
    for seed in range(SEEDS):
        disk = FakeDisk(seed)
        disk.without = "Slots._settle sync"
        found, later = slot_after(disk, killed)
        lost += later not in {found, b"3" * 2000}
    assert lost
