"""A reader of a spool that continues from a bookmark, at any event and in a spool that was replaced."""

from itertools import islice
from pathlib import Path

from program.history.spools import event, fill, filled, opened, texts

from relay.program.history.bookmark import Bookmark
from relay.program.history.event_filter import EventFilter
from relay.program.history.spool_history import SpoolHistory
from relay.system.disk import Disk
from relay.values.event import EventType


def test_at_any_event_the_next_reader_gets_the_rest(tmp_path: Path) -> None:
    state = tmp_path / "state"
    filled(state, [event("0")], [event("1"), event("2"), event("3")], [event("4", EventType.TRAFFIC), event("5")])
    expected = texts(SpoolHistory(Disk(), str(state), EventFilter()).events())
    for stop in range(1, len(expected) + 1):
        bookmark = Bookmark(Disk(), str(tmp_path / f"bookmark{stop}"))
        reader = SpoolHistory(Disk(), str(state), EventFilter(), bookmark.spool_positions())
        items = reader.events()
        used = texts(islice(items, stop))
        next(items, None)  # asked for, and not used
        bookmark.save_spools(reader.positions)
        rest = texts(SpoolHistory(Disk(), str(state), EventFilter(), bookmark.spool_positions()).events())
        assert sorted({*used, *rest}) == sorted(expected)
        if stop > 1:  # before a position exists, the first block comes again
            assert len(used) + len(rest) == len(expected)


def test_new_events_follow_and_a_replaced_spool_begins_anew(tmp_path: Path) -> None:
    state, path = tmp_path / "state", tmp_path / "bookmark"

    def read() -> list[str]:
        bookmark = Bookmark(Disk(), str(path))
        reader = SpoolHistory(Disk(), str(state), EventFilter(), bookmark.spool_positions())
        found = texts(reader.events())
        bookmark.save_spools(reader.positions)
        return found

    with opened(state) as store:
        fill(store, [[event("a")], [event("b")]])
        assert read() == ["a", "b"]
        assert read() == []
        fill(store, [[event("c")]], committed_second=9)
        assert read() == ["c"]
    path.write_text(path.read_text().replace((b"s" * 16).hex(), (b"t" * 16).hex()))
    assert read() == ["a", "b", "c"]  # it was the bookmark of another spool
    assert read() == []
