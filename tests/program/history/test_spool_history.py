"""The history of a spool, read from outside: selected events come in order, and only what is necessary is read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from program.history.spools import (
    NOON_US,
    SECOND_US,
    CountingDisk,
    event,
    fill,
    filled,
    foreign,
    opened,
    segments,
    texts,
)

from relay.errors import NoInputError
from relay.program.history.event_filter import EventFilter
from relay.program.history.past_event import PastEvent, UnreadableStretch
from relay.program.history.spool_history import SpoolHistory
from relay.spool import block
from relay.spool.segments import segment
from relay.spool.segments.segment_reader import BlockLocation, open_segment
from relay.system.disk import Disk
from relay.values.event import EventType
from relay.values.glob_matcher import glob_matcher

ALL = EventFilter()


def history(folder: Path, **conditions: Any) -> SpoolHistory:
    return SpoolHistory(Disk(), str(folder), EventFilter(**conditions))


def numbered(first: int, end: int, *, size: int = 600) -> Iterator[list[Any]]:
    """One event a commit; some 80 to a segment."""
    return ([event(f"{'x' * size} {number}", second=number)] for number in range(first, end))


def names(first: int, end: int) -> list[str]:
    return [str(number) for number in range(first, end)]


def test_without_conditions_all_events_come_in_commit_order(tmp_path: Path) -> None:
    filled(tmp_path, *numbered(1, 200))
    assert len(segments(tmp_path)) > 2
    assert texts(history(tmp_path).events()) == names(1, 200)


def test_both_spools_are_one_history(tmp_path: Path) -> None:
    kinds = [EventType.AUDIT, EventType.TRAFFIC, EventType.ADMIN, EventType.TRAFFIC, EventType.AUDIT]
    filled(tmp_path, *([event(str(number), kind)] for number, kind in enumerate(kinds)))
    assert len(segments(tmp_path, "transient")) == 1
    items = list(history(tmp_path).events())
    assert texts(items) == names(0, 5)
    assert [item.type for item in items if isinstance(item, PastEvent)] == [kind.label for kind in kinds]
    assert texts(history(tmp_path).newest(2)) == ["3", "4"]


@pytest.mark.parametrize("limit", [0, 1, 5, 79, 80, 81, 199, 200, 10_000])
def test_the_newest_events_are_the_last_of_all(tmp_path: Path, limit: int) -> None:
    filled(tmp_path, *numbered(1, 201))
    assert texts(history(tmp_path).newest(limit)) == names(max(201 - limit, 1), 201)


def test_the_newest_events_of_a_large_block_are_its_last(tmp_path: Path) -> None:
    filled(tmp_path, [event(str(number)) for number in range(50)], [event(str(number)) for number in range(50, 60)])
    assert texts(history(tmp_path).newest(12)) == names(48, 60)


def test_the_newest_selected_events_may_be_far_back(tmp_path: Path) -> None:
    commits = list(numbered(1, 200))
    commits[3] = [event("rare 4", EventType.ADMIN)]
    commits[150] = [event("rare 151", EventType.ADMIN)]
    filled(tmp_path, *commits)
    assert texts(history(tmp_path, types=frozenset({"admin"})).newest(5)) == ["4", "151"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"types": frozenset({"admin"})}, ["b", "e"]),
        ({"types": frozenset({"admin", "alarm"})}, ["b", "c", "e"]),
        ({"types": frozenset({"traffic"})}, []),
        ({"routers": frozenset({b"r2"})}, ["c", "d"]),
        ({"routers": frozenset({b"combo9"})}, ["e"]),
        ({"routers": frozenset({b"r"})}, []),
        ({"texts": (b"opaque",)}, ["d"]),
        ({"texts": (b"Opaque",)}, []),
        ({"earliest": NOON_US + 2 * SECOND_US}, ["c", "d", "e"]),
        ({"latest": NOON_US + 2 * SECOND_US}, ["a", "b", "c"]),
        ({"earliest": NOON_US + 1, "latest": NOON_US + 3 * SECOND_US - 1}, ["b", "c"]),
        ({"routers": frozenset({b"r2"}), "types": frozenset({"alarm"})}, ["c"]),
        ({"types": frozenset({"alarm"}), "texts": (b"opaque",)}, []),
    ],
)
@pytest.mark.parametrize("one_block", [False, True])
def test_each_condition_holds(tmp_path: Path, conditions: Any, expected: list[str], one_block: bool) -> None:
    events = [
        event("a"),
        event("b", EventType.ADMIN, second=1),
        event("c", EventType.ALARM, second=2, router="r2"),
        event("opaque d", second=3, router="r2"),
        event("e", EventType.ADMIN, second=4, host="combo9"),
    ]
    filled(tmp_path, *([events] if one_block else [[each] for each in events]))
    assert texts(history(tmp_path, **conditions).events()) == expected
    assert texts(history(tmp_path, **conditions).newest(100)) == expected


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"severity": 3}, ["a", "b"]),
        ({"severity": 5}, ["a", "b", "c", "e"]),
        ({"severity": 7}, ["a", "b", "c", "d", "e"]),
        ({"msgids": glob_matcher(["M*"])}, ["a"]),
        ({"fields": ((b"user", glob_matcher(["al*", "b*"])),)}, ["a", "d"]),
        ({"fields": ((b"user", glob_matcher(["al*"])), (b"exe", glob_matcher(["/bin/*"])))}, ["a"]),
        ({"failed": True}, ["d"]),
        ({"failed": True, "severity": 3}, []),
    ],
)
def test_a_filter_can_select_by_the_messages_own_fields(tmp_path: Path, conditions: Any, expected: list[str]) -> None:
    """Without a priority it is a notice; by MSGID and parameters only RFC 5424 is found."""
    messages = (
        b'<11>1 - h a - M1 [x@1 user="alice" exe="/bin/a"] a',
        b"<10>Oct 11 22:14:15 h old: b",
        b"without a priority c",
        b'<15>1 - h a - - [x@1 user="bob"][y@1 SYSCALL.success="no"] d',
        b'<13>1 - h a - - [x@1 user="carol" success="yes"] e',
    )
    filled(tmp_path, [foreign(message) for message in messages])
    assert texts(history(tmp_path, **conditions).events()) == expected


def test_messages_of_other_programs_have_their_own_type_and_time(tmp_path: Path) -> None:
    """A receiver's spool holds all of it as type log; a router's events carry their type and time in them."""
    relayed = (
        b'<109>1 2024-03-05T00:00:00Z h auditd - X [128T relayRun="5f" relaySeq="7" type="admin" router="far"] relayed'
    )
    filled(tmp_path, [foreign(relayed), foreign(b"<13>old style"), foreign(b"<13>1 - - - - - - untimed")])
    assert texts(history(tmp_path, types=frozenset({"admin"})).events()) == ["relayed"]
    assert texts(history(tmp_path, types=frozenset({"log"})).events()) == ["style", "untimed"]
    assert texts(history(tmp_path, latest=NOON_US - 1).events()) == ["relayed"]
    assert texts(history(tmp_path, earliest=NOON_US).events()) == ["style", "untimed"]
    assert texts(history(tmp_path, routers=frozenset({b"far"})).events()) == ["relayed"]


def test_a_router_whose_name_needs_escaping_is_found(tmp_path: Path) -> None:
    quoted = b'<13>1 - h a - - [128T router="a\\"b"] found'
    filled(tmp_path, [foreign(quoted), foreign(b'<13>1 - a"b a - - - found-too'), foreign(b'<13>1 - h a - - - a"b')])
    assert texts(history(tmp_path, routers=frozenset({b'a"b'})).events()) == ["found", "found-too"]


def test_a_missing_state_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match="has kept no state"):
        SpoolHistory(Disk(), str(tmp_path), ALL)


def test_an_empty_spool_has_an_empty_history(tmp_path: Path) -> None:
    filled(tmp_path)
    assert texts(history(tmp_path).events()) == []
    assert texts(history(tmp_path).newest(3)) == []


# --- What is read ---


def test_headers_alone_find_the_few_selected_blocks_among_many(tmp_path: Path) -> None:
    """200,000 messages, of which six are of the selected type."""
    commits = []
    for number in range(200):
        commits.append([event(f"{number}-{each} {'x' * 150}") for each in range(1000)])
        if number % 40 == 7:
            commits[-1].append(event(str(number), EventType.ADMIN))
    filled(tmp_path, *commits, segment_size=16 * 1024 * 1024)
    size = sum(path.stat().st_size for path in segments(tmp_path))
    disk = CountingDisk()
    wanted = EventFilter(types=frozenset({"admin"}))
    assert texts(SpoolHistory(disk, str(tmp_path), wanted).newest(5)) == ["7", "47", "87", "127", "167"]
    assert disk.octets_read < size // 20
    before, disk.octets_read = disk.octets_read, 0
    assert texts(SpoolHistory(disk, str(tmp_path), EventFilter(types=frozenset({"alarm"}))).events()) == []
    assert disk.octets_read < before
    disk.octets_read = 0
    assert texts(SpoolHistory(disk, str(tmp_path), EventFilter(earliest=NOON_US + SECOND_US)).events()) == []
    assert disk.octets_read < before


def test_the_newest_are_found_without_reading_the_older_segments(tmp_path: Path) -> None:
    filled(tmp_path, *numbered(1, 500))
    disk = CountingDisk()
    assert texts(SpoolHistory(disk, str(tmp_path), ALL).newest(2)) == ["498", "499"]
    assert disk.octets_read < 4 * 64 * 1024
    assert len(segments(tmp_path)) > 5


# --- While a writer works ---


def test_following_continues_where_it_ended_over_new_segments(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        fill(store, numbered(1, 20))
        all_of_it, last_of_it = history(tmp_path), history(tmp_path)
        assert texts(all_of_it.events()) == names(1, 20)
        assert texts(last_of_it.newest(2)) == ["18", "19"]
        for first in range(20, 400, 95):
            fill(store, numbered(first, first + 95), committed_second=first)
            assert texts(all_of_it.events()) == names(first, first + 95)
            assert texts(last_of_it.events()) == names(first, first + 95)
        assert texts(all_of_it.events()) == []
    assert len(segments(tmp_path)) > 4


def test_following_an_empty_spool_begins_with_its_first_event(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        followed, limited = history(tmp_path), history(tmp_path)
        assert texts(followed.events()) == texts(limited.newest(10)) == []
        fill(store, [[event("first"), event("second", EventType.TRAFFIC)]])
        assert sorted(texts(followed.events())) == sorted(texts(limited.events())) == ["first", "second"]


@pytest.mark.parametrize("shown", [1, 100, 300, -1])
def test_a_half_written_block_does_not_appear_yet(tmp_path: Path, shown: int) -> None:
    """Its header may be whole already; it counts once its payload is."""
    with opened(tmp_path) as store:
        fill(store, numbered(1, 4))
        end = store.retained._end
        fill(store, numbered(4, 5))
        path = segments(tmp_path)[0]
        written = path.read_bytes()[end : store.retained._end]
        with path.open("r+b") as file:
            file.seek(end)
            file.write(written[:shown].ljust(len(written), b"\0"))
        followed, limited = history(tmp_path), history(tmp_path)
        assert texts(followed.events()) == names(1, 4)
        assert texts(limited.newest(1)) == ["3"]
        with path.open("r+b") as file:
            file.seek(end)
            file.write(written)
        assert texts(followed.events()) == texts(limited.events()) == ["4"]


def test_segments_deleted_meanwhile_are_skipped(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        fill(store, numbered(1, 400))
        items = history(tmp_path).events()
        begun = [next(items) for _ in range(5)]
        firsts = [segment.first_of(path.name) for path in segments(tmp_path)]
        assert store.retained.release(firsts[3]) == 3
        rest = texts(items)
        assert texts(begun) == names(1, 6)
        assert rest == [*names(6, firsts[1]), *names(firsts[3], 400)]
        assert texts(history(tmp_path).newest(1000)) == names(firsts[3], 400)


# --- Damage ---


def damage(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        octet = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([octet ^ 0x55]))


def offset_of(path: Path, number: int) -> tuple[int, block.Header]:
    _, reader = open_segment(Disk(), str(path.parent), BlockLocation.start_of(segment.first_of(path.name)))
    with reader:
        return next((offset, header) for offset, header in reader.headers() if header.number == number)


def unread(items: list[Any]) -> list[UnreadableStretch]:
    return [item for item in items if isinstance(item, UnreadableStretch)]


def past(items: list[Any]) -> list[str]:
    return texts(item for item in items if isinstance(item, PastEvent))


@pytest.mark.parametrize("number", [1, 40, 199])
@pytest.mark.parametrize("where", ["header", "payload"])
def test_damage_is_reported_with_its_offset_and_the_rest_follows(tmp_path: Path, number: int, where: str) -> None:
    filled(tmp_path, *numbered(1, 201))
    path = next(path for path in reversed(segments(tmp_path)) if segment.first_of(path.name) <= number)
    offset, header = offset_of(path, number)
    damage(path, offset + (20 if where == "header" else header.length + 30))
    expected = [name for name in names(1, 201) if name != str(number)]
    for items in (list(history(tmp_path).events()), list(history(tmp_path).newest(1000))):
        assert past(items) == expected
        assert [(item.path, item.offset) for item in unread(items)] == [(str(path), offset)]
        assert f"; left out: block {number}" in unread(items)[0].cause


def test_a_missing_segment_is_reported_with_its_blocks(tmp_path: Path) -> None:
    filled(tmp_path, *numbered(1, 300))
    firsts = [segment.first_of(path.name) for path in segments(tmp_path)]
    segments(tmp_path)[1].unlink()
    for items in (list(history(tmp_path).events()), list(history(tmp_path).newest(1000))):
        assert past(items) == [*names(1, firsts[1]), *names(firsts[2], 300)]
        assert [f"left out: blocks {firsts[1]} to {firsts[2] - 1}" in item.cause for item in unread(items)] == [True]


@pytest.mark.parametrize("index", [0, 1, -1])
def test_a_file_that_is_not_a_segment_is_reported_and_skipped(tmp_path: Path, index: int) -> None:
    filled(tmp_path, *numbered(1, 300))
    path = segments(tmp_path)[index]
    firsts = [*(segment.first_of(path.name) for path in segments(tmp_path)), 300]
    path.write_bytes(b"no segment")
    first = segment.first_of(path.name)
    gone = range(first, firsts[firsts.index(first) + 1])
    for items in (list(history(tmp_path).events()), list(history(tmp_path).newest(1000))):
        assert past(items) == [name for name in names(1, 300) if int(name) not in gone]
        assert [(item.path, item.offset) for item in unread(items)] == [(str(path), 0)]


def test_a_torn_tail_is_the_end(tmp_path: Path) -> None:
    filled(tmp_path, *numbered(1, 10))
    path = segments(tmp_path)[0]
    offset, header = offset_of(path, 9)
    with path.open("r+b") as file:
        file.seek(offset + header.length + 10)
        file.write(bytes(header.payload_length - 10))
    assert texts(history(tmp_path).events()) == names(1, 9)
    assert texts(history(tmp_path).newest(1)) == ["8"]
