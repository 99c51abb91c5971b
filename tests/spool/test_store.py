"""Both spools of a state directory: their common size, and what a destination's cursor holds."""

import functools
from pathlib import Path

import pytest
from program.history.spools import event, fill

from relay.errors import StorageError
from relay.spool import block
from relay.spool.block import Contents, Span
from relay.spool.cursor import Cursor
from relay.spool.inspection.overview import overview, waiting
from relay.spool.spool import RunSeed
from relay.spool.spool_reader import SpoolReader
from relay.spool.store import Store
from relay.system.disk import Disk
from relay.values.event import EventType

SEGMENT = 4096


def opened(folder: Path, segments: int = 4) -> Store:
    run = RunSeed(b"12345678", b"s" * 16)
    return Store(Disk(), str(folder), segment_size=SEGMENT, max_size=segments * SEGMENT, run=run)


def contents(number: int) -> Contents:
    message = b"%d " % number + b"x" * 1000
    return Contents([Span(EventType.AUDIT, number, 1)], [message], [], 1, 1, 1, len(message))


def test_at_max_size_only_proven_segments_are_deleted(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.follow("fast", Cursor(), 0b10)
        store.follow("slow", Cursor(), 0b10)
        append = functools.partial(store.space.append, store.retained, reserve=True)
        for number in range(1, 13):
            append(contents(number), number)
        with pytest.raises(StorageError, match="the spool's max-size of 16KiB is used up"):
            append(contents(13), 13)
        store.move_cursor("fast", Cursor(retained=13))
        with pytest.raises(StorageError):
            append(contents(13), 13)
        store.move_cursor("slow", Cursor(retained=4))
        append(contents(13), 13)
        assert SpoolReader(store.retained, 1).read() == SpoolReader(store.retained, 4).read()
        assert store.retained.allocated == 4 * SEGMENT


def test_a_destination_that_left_holds_nothing_and_keeps_its_cursor(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for name in ("stays", "goes"):
            store.follow(name, store.begin(name, Cursor(), 0b10), 0b10)
        for number in range(1, 13):
            store.retained.append(contents(number), number)
        store.move_cursor("goes", Cursor(retained=2))
        store.move_cursor("stays", Cursor(retained=13))
        with pytest.raises(StorageError, match="max-size"):
            store.space.append(store.retained, contents(13), 13, reserve=True)
        store.leave("goes")
        store.space.append(store.retained, contents(13), 13, reserve=True)
        assert store.cursor("goes") == Cursor(retained=2)


def test_new_sizes_apply_from_then_on_and_no_block_is_lost(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.follow("slow", Cursor(), 0b10)
        for number in range(1, 13):
            store.space.append(store.retained, contents(number), number, reserve=True)
        with pytest.raises(StorageError, match="max-size"):
            store.space.append(store.retained, contents(13), 13, reserve=True)
        store.resize(segment_size=2 * SEGMENT, max_size=8 * SEGMENT)
        for number in range(13, 22):
            store.space.append(store.retained, contents(number), number, reserve=True)
        sizes = sorted(path.stat().st_size for path in (tmp_path / "spool/retained").glob("*.segment"))
        assert (sizes[0], sizes[-1]) == (SEGMENT, 2 * SEGMENT)
        found = iter(SpoolReader(store.retained, 1).read, None)
        assert [each.header.number for each in found if isinstance(each, block.Block)] == list(range(1, 22))


def test_the_transient_spool_deletes_what_every_destination_has_proven(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.follow("a", Cursor(), 0b10)
        store.follow("b", Cursor(), 0b10)
        for number in range(1, 10):
            store.transient.append(contents(number), number)
        store.move_cursor("a", Cursor(transient=9))
        assert store.transient.allocated == 3 * SEGMENT
        store.move_cursor("b", Cursor(transient=7))
        assert store.transient.allocated == SEGMENT


def test_a_cursor_beyond_the_end_is_set_back_to_it(tmp_path: Path) -> None:
    """After a torn tail was cut, or the spool was lost and the slots were not."""
    with opened(tmp_path) as store:
        store.retained.append(contents(1), 1)
        store.move_cursor("a", Cursor(retained=40, transient=7, delivered=39))
        assert store.cursor("a") == Cursor(retained=2, transient=1, delivered=39)
        assert store.cursor("b") is None


def test_what_waits_is_counted_from_outside_while_a_writer_works(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for number in range(1, 8):
            store.retained.append(contents(number), 1_000 + number)
        store.move_cursor("a", Cursor(retained=6, delivered=5))
        seen = overview(Disk(), str(tmp_path))
        assert (seen.spools.retained.messages, seen.spools.transient.messages) == (7, 0)
        assert seen.cursors == {"a": Cursor(retained=6, delivered=5)}
        ahead = waiting(Disk(), str(tmp_path), "a", seen.cursors["a"])
        assert (ahead.messages, ahead.oldest_committed) == (2, 1_006)


def test_only_the_rest_of_a_partly_proven_block_waits(tmp_path: Path) -> None:
    with opened(tmp_path, 16) as store:
        fill(store, [[event(str(number)) for number in range(10)], [event("last")]])
        store.move_cursor("a", Cursor(retained=1, retained_part=7, delivered=7))
        assert waiting(Disk(), str(tmp_path), "a", Cursor(retained=1, retained_part=7)).messages == 4
    with opened(tmp_path) as store:
        assert store.cursor("a") == Cursor(retained=1, retained_part=7, delivered=7)
