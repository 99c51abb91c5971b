"""Damage in a store is counted once for each destination: by the reader, or by rotate when the segment goes first."""

import functools
from pathlib import Path

import pytest
from harness.fake_disk import FakeDisk

from relay.events import own_events
from relay.spool.block import Block
from relay.spool.both_spools import BothSpools
from relay.spool.commit import Commit, Routing
from relay.spool.cursor import Cursor
from relay.spool.losses.store_losses import DAMAGED
from relay.spool.segments import segment
from relay.spool.segments.segment_reader import BlockLocation, open_segment
from relay.spool.spool import RunSeed
from relay.spool.spool_reader import SpoolReader
from relay.spool.store import Store
from relay.values.event import Batch, Event, EventType

FOLDER = "/state"
SEGMENT = 4096
KINDS = (EventType.AUDIT, EventType.SECURITY)
ALL_TYPES = 1 << EventType.AUDIT | 1 << EventType.SECURITY
ROUTING = Routing(frozenset(KINDS), frozenset())
BLOCKS = 40
gap_event = functools.partial(own_events.gap, own_events.Author("h", "h", "", "128T"))


def opened(disk: FakeDisk, life: int) -> Store:
    run = RunSeed(life.to_bytes(8, "big"), b"s" * 16)
    return Store(disk, FOLDER, segment_size=SEGMENT, max_size=1 << 30, run=run)


def filled() -> FakeDisk:
    """Blocks of one or two types, one to three events each, in several segments."""
    disk = FakeDisk()
    with opened(disk, 1) as store:
        numbers = dict.fromkeys(EventType, 1)
        for number in range(BLOCKS):
            kinds = [KINDS[each % 2] for each in range(1 + number % 3)] if number % 3 else [KINDS[0]]
            events = [Event(kind, 1, b"<110>1 - h a - - [128T", b"] " + b"x" * 100) for kind in kinds]
            commit = Commit(store, ROUTING, [Batch(events)], numbers, {}, gap_event)
            commit.write(lambda: 1)
            numbers = commit.reached
    return disk


def segments(disk: FakeDisk) -> list[str]:
    folder = f"{FOLDER}/spool/retained"
    return [f"{folder}/{name}" for name in disk.names(folder) if segment.NAME.fullmatch(name)]


def flip(disk: FakeDisk, path: str, offset: int) -> None:
    with disk.open(path) as file:
        file.write(bytes([file.read(1, offset)[0] ^ 0x10]), offset)


def read_on(store: Store, reader: SpoolReader, blocks: int = 1 << 30) -> int:
    """So many blocks as a destination reads them; how many events they held."""
    read = 0
    for _ in range(blocks):
        item = store.losses.read("server", BothSpools(reader, SpoolReader(store.transient, 1)))
        if item is None:
            break
        if isinstance(item, Block):
            read += item.header.messages
    return read


def counted(store: Store) -> int:
    return sum(gap.events for gap in store.losses.pending())


def all_events(disk: FakeDisk) -> int:
    with opened(disk, 99) as store:
        reader = SpoolReader(store.retained, 1)
        store.follow("server", Cursor(), ALL_TYPES)
        return read_on(store, reader)


def blocks_of(disk: FakeDisk, path: str) -> list[tuple[int, int]]:
    """Offset of header and payload of each."""
    folder, _, name = path.rpartition("/")
    _, reader = open_segment(disk, folder, BlockLocation.start_of(segment.first_of(name)))
    with reader:
        return [(offset, offset + header.length) for offset, header in reader.headers()]


def places(disk: FakeDisk) -> list[tuple[int, int]]:
    """Segment and offset of every kind of place: in headers and payloads of first, middle and last blocks."""
    found = []
    for number in (0, 1, 2):
        blocks = blocks_of(disk, segments(disk)[number])
        for header, payload in (blocks[0], blocks[3], blocks[-2], blocks[-1]):
            found += [(number, header + 3), (number, header + 30), (number, payload + 20)]
        found.append((number, 40))
    return found


PLACES = places(filled())


@pytest.mark.parametrize("read_first", [0, 5, 12, 20])
@pytest.mark.parametrize("restart", [False, True], ids=["", "restart"])
def test_rotate_counts_exactly_what_damage_took_of_a_segment(read_first: int, restart: bool) -> None:
    whole = all_events(filled())
    for number, offset in PLACES:
        disk = filled()
        flip(disk, segments(disk)[number], offset)
        store = opened(disk, 2)
        store.follow("server", Cursor(), ALL_TYPES)
        read_on(store, SpoolReader(store.retained, 1), read_first)
        store.losses.end_session("server")  # the session ends unproven
        for _ in range(2):
            assert store.space.rotate()
            if restart:
                store.close()
                store = opened(disk, 3)
                store.follow("server", Cursor(), ALL_TYPES)
        left = read_on(store, SpoolReader(store.retained, 1))
        assert left + counted(store) == whole, f"segment {number}, octet {offset}"
        store.close()


def test_damage_is_counted_once_however_often_it_is_read() -> None:
    whole = all_events(filled())
    for number, offset in PLACES:
        disk = filled()
        flip(disk, segments(disk)[number], offset)
        for life in (2, 3, 4):
            with opened(disk, life) as store:
                store.follow("server", Cursor(), ALL_TYPES)
                for _ in range(2):
                    left = read_on(store, SpoolReader(store.retained, 1))
                    store.losses.end_session("server")
                assert left + counted(store) == whole, f"segment {number}, octet {offset}, life {life}"
                assert all(gap.cause == DAMAGED for gap in store.losses.pending())


def test_damage_is_counted_for_each_destination_by_the_types_it_gets() -> None:
    disk = filled()
    header, _ = blocks_of(disk, segments(disk)[0])[2]
    flip(disk, segments(disk)[0], header + 30)
    with opened(disk, 2) as store:
        store.follow("server", Cursor(), 1 << EventType.SECURITY)
        store.follow("other", Cursor(), 1 << EventType.TRAFFIC)
        read_on(store, SpoolReader(store.retained, 1))
        (gap,) = store.losses.pending()
    assert [(each.label, each.events) for each in gap.ranges] == [("security", 1)]


def test_a_power_cut_brings_back_the_oldest_segment_at_most_and_leaves_no_hole() -> None:
    for seed in range(200):
        disk = filled()
        disk.chance.seed(seed)
        with opened(disk, 2) as store:
            firsts = [segment.first_of(Path(path).name) for path in segments(disk)]
            gone = 1 + seed % (len(firsts) - 1)
            assert store.retained.release(firsts[gone]) == gone
        disk.crash()
        there = [segment.first_of(Path(path).name) for path in segments(disk)]
        assert there in (firsts[gone:], firsts[gone - 1 :]), f"seed {seed}"
