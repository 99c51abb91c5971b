"""Files of the spool that somebody else deletes or empties: what a server still needed of them is counted, exactly."""

import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from relay.events import own_events
from relay.spool.block import Block
from relay.spool.commit import Commit, Routing
from relay.spool.cursor import Cursor
from relay.spool.inspection.overview import overview, waiting
from relay.spool.losses.gap import Gap, LostRange, reported_gap
from relay.spool.losses.store_losses import DELETED
from relay.spool.segments import segment
from relay.spool.segments.segment_reader import SpoolDamage
from relay.spool.spool import RunSeed
from relay.spool.spool_reader import SpoolReader
from relay.spool.store import Store
from relay.system.disk import Disk
from relay.values.event import Batch, Event, EventType

SEGMENT = 2048
AUDIT, ALARM, TRAFFIC = EventType.AUDIT, EventType.ALARM, EventType.TRAFFIC
ROUTING = Routing(frozenset({AUDIT, ALARM, EventType.RELAY}), frozenset({TRAFFIC}))
ALL_TYPES = (1 << len(EventType)) - 1
SERVER = "server"
gap_event = functools.partial(own_events.gap, own_events.Author("h", "h", "", "128T"))


class Life:
    """One process: a store, an intake's commits, and one server's session."""

    def __init__(self, folder: Path, run: int) -> None:
        name = RunSeed(run.to_bytes(8, "big"), b"%016d" % run)
        self.folder = folder
        self.store = Store(Disk(), str(folder), segment_size=SEGMENT, max_size=1 << 30, run=name)
        self.numbers = dict.fromkeys(EventType, 1)
        self.cursor = self.store.begin(SERVER, Cursor(), ALL_TYPES)
        self.cursor = self.store.follow(SERVER, self.cursor, ALL_TYPES)
        self.delivered: list[tuple[int, EventType, int]] = []
        self.reported: list[Gap] = []
        self.new_session()

    def new_session(self) -> None:
        self.readers = SpoolReader.of_both(self.store.spools, self.cursor.blocks)

    def take_in(self, *kinds: EventType) -> None:
        events = [Event(kind, 1, b"<110>1 - h a - - [128T", b"] " + b"x" * 300) for kind in kinds]
        commit = Commit(self.store, ROUTING, [Batch(events)], self.numbers, {}, gap_event)
        commit.write(lambda: 1)
        self.numbers = commit.reached

    def deliver(self, blocks: int = 1 << 30) -> None:
        """Read so many blocks, as a session does, and prove them."""
        for _ in range(blocks):
            item = self.store.losses.read(SERVER, self.readers)
            if item is None:
                break
            assert isinstance(item, Block), item
            run = int.from_bytes(item.header.run, "big")
            for kind, number, message in item.messages():
                if (gap := reported_gap(message)) is not None:
                    self.reported.append(gap)
                else:
                    self.delivered.append((run, kind, number))
        self.cursor = Cursor(retained=self.readers[0].next_number, transient=self.readers[1].next_number)
        self.store.move_cursor(SERVER, self.cursor)

    @property
    def counted(self) -> list[tuple[int, EventType, int]]:
        found = []
        for gap in (*self.reported, *self.store.losses.pending()):
            assert gap.cause == DELETED
            for each in gap.ranges:
                assert each.last - each.first + 1 == each.events
                found += [(int(each.run, 16), EventType(each.type), number) for number in _numbers(each)]
        return sorted(found)

    def end(self, *, clean: bool = True) -> None:
        if clean:
            last = {kind: number - 1 for kind, number in self.numbers.items() if number > 1}
            self.store.remember_numbers(last, at_once=True)
        self.store.close()


def _numbers(each: LostRange) -> range:
    return range(each.first, each.last + 1)


def given(run: int, kinds: list[tuple[EventType, ...]]) -> list[tuple[int, EventType, int]]:
    """Every event of a run that took these in."""
    numbers = dict.fromkeys(EventType, 0)
    found = []
    for each in kinds:
        for kind in each:
            numbers[kind] += 1
            found.append((run, kind, numbers[kind]))
    return found


PLAN = [(AUDIT,), (AUDIT, ALARM), (AUDIT, AUDIT, TRAFFIC), (TRAFFIC,)] * 8


def filled(folder: Path, run: int = 1) -> Life:
    life = Life(folder, run)
    for kinds in PLAN:
        life.take_in(*kinds)
    return life


def files(folder: Path, spool: str = "retained") -> list[Path]:
    return sorted((folder / "spool" / spool).glob("*.segment"))


class Member(NamedTuple):
    """One way in which files go."""

    name: str
    harm: Callable[[Path], None]


def _delete(which: slice, spool: str = "retained") -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        for path in files(folder, spool)[which]:
            path.unlink()

    return harm


def _empty(which: slice) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        for path in files(folder)[which]:
            os.truncate(path, 0)

    return harm


def _delete_both_ends(folder: Path) -> None:
    for path in (files(folder)[0], files(folder)[-1]):
        path.unlink()


MEMBERS = [
    Member("the oldest", _delete(slice(0, 2))),
    Member("one in the middle", _delete(slice(2, 3))),
    Member("several in the middle", _delete(slice(1, 4))),
    Member("the newest", _delete(slice(-1, None))),
    Member("the two newest", _delete(slice(-2, None))),
    Member("the oldest and the newest", _delete_both_ends),
    Member("all of the retained spool", _delete(slice(0, None))),
    Member("the oldest of the transient spool", _delete(slice(0, 1), "transient")),
    Member("all of the transient spool", _delete(slice(0, None), "transient")),
    Member("the whole folder", lambda folder: shutil.rmtree(folder / "spool")),
    Member("the oldest, emptied", _empty(slice(0, 1))),
    Member("one in the middle, emptied", _empty(slice(2, 3))),
]


@pytest.mark.parametrize("proven", [0, 12], ids=["nothing proven", "some proven"])
@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_files_deleted_while_relay_is_down_are_a_gap_exact_by_the_numbers(
    tmp_path: Path, member: Member, proven: int
) -> None:
    before = filled(tmp_path)
    before.deliver(proven)
    before.end()
    assert len(files(tmp_path)) >= 6
    assert len(files(tmp_path, "transient")) >= 2
    member.harm(tmp_path)
    after = Life(tmp_path, 2)
    for kinds in PLAN[:8]:
        after.take_in(*kinds)
    after.deliver()
    delivered = sorted(before.delivered + after.delivered)
    everything = sorted(given(1, PLAN) + given(2, PLAN[:8]))
    assert sorted(delivered + after.counted) == everything
    after.new_session()
    after.deliver()
    assert sorted(delivered + after.counted) == everything, "a second session counts nothing again"
    after.end()


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_files_deleted_while_relay_runs_are_a_gap_and_relay_continues(tmp_path: Path, member: Member) -> None:
    life = filled(tmp_path)
    life.deliver(12)
    member.harm(tmp_path)
    for kinds in PLAN[:8]:
        life.take_in(*kinds)
    life.deliver()
    life.take_in(AUDIT, ALARM, TRAFFIC)
    life.deliver()
    everything = sorted(given(1, [*PLAN, *PLAN[:8], (AUDIT, ALARM, TRAFFIC)]))
    assert sorted(life.delivered + [each for each in life.counted if each not in life.delivered]) == everything
    assert not set(life.delivered) & set(life.counted)
    life.end()


def test_runs_deleted_whole_are_counted_by_their_last_numbers(tmp_path: Path) -> None:
    first = filled(tmp_path, 1)
    first.deliver(7)
    first.end()
    filled(tmp_path, 2).end()
    filled(tmp_path, 3).end()
    for path in files(tmp_path)[:-1]:
        path.unlink()
    last = Life(tmp_path, 4)
    last.take_in(AUDIT)
    last.deliver()
    everything = sorted(each for run in (1, 2, 3) for each in given(run, PLAN)) + given(4, [(AUDIT,)])
    assert sorted(first.delivered + last.delivered + last.counted) == everything
    last.end()


def test_each_server_gets_a_gap_of_its_own_missing_events(tmp_path: Path) -> None:
    life = filled(tmp_path)
    life.deliver()
    life.store.begin("other", Cursor(), 1 << ALARM)
    life.store.follow("other", Cursor(), 1 << ALARM)
    life.end()
    _delete(slice(0, 2))(tmp_path)
    after = Life(tmp_path, 2)
    after.store.follow("other", after.store.cursor("other") or Cursor(), 1 << ALARM)
    (gap,) = after.store.losses.pending()
    assert (gap.server, gap.cause) == ("other", DELETED)
    assert [(each.label, each.first) for each in gap.ranges] == [("alarm", 1)]
    after.end()


def test_missing_files_are_counted_and_logged_before_a_server_can_be_reached(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path).end()
    _delete(slice(0, 2))(tmp_path)
    caplog.clear()
    after = Life(tmp_path, 2)
    assert after.counted
    assert any(record.message.startswith("server: blocks 1 to ") for record in caplog.records)
    after.end()


def test_status_reports_missing_blocks_as_missing(tmp_path: Path) -> None:
    before = filled(tmp_path)
    before.end()
    shutil.rmtree(tmp_path / "spool")
    seen = overview(Disk(), str(tmp_path))
    assert waiting(Disk(), str(tmp_path), SERVER, seen.cursors[SERVER]).missing > 0
    after = Life(tmp_path, 2)
    after.end()
    assert waiting(Disk(), str(tmp_path), SERVER, seen.cursors[SERVER]).missing == 0, "it is counted"


def test_without_its_slots_everything_is_delivered_again_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = filled(tmp_path)
    before.deliver(20)
    before.end()
    (tmp_path / "slots").unlink()
    after = Life(tmp_path, 2)
    assert any("slots was missing" in record.getMessage() for record in caplog.records)
    after.deliver()
    assert sorted(after.delivered) == sorted(given(1, PLAN))
    after.end()


def test_slots_that_are_deleted_while_relay_runs_are_written_again(tmp_path: Path) -> None:
    life = filled(tmp_path)
    life.deliver(5)
    (tmp_path / "slots").unlink()
    life.deliver(5)
    life.end()
    after = Life(tmp_path, 2)
    assert (after.cursor.retained, after.cursor.transient) == (life.cursor.retained, life.cursor.transient)
    after.end()


def test_a_reader_continues_in_a_deleted_file_that_it_has_open(tmp_path: Path) -> None:
    life = filled(tmp_path)
    life.deliver(2)
    held = segment.first_of(files(tmp_path)[1].name) - 1
    _delete(slice(0, 1))(tmp_path)
    life.deliver(held)
    assert life.readers.retained.next_number > held, "it has read all of the deleted file"
    assert not life.counted
    life.end()


def test_damage_is_still_reported_as_damage(tmp_path: Path) -> None:
    before = filled(tmp_path)
    before.end()
    path = files(tmp_path)[1]
    with path.open("r+b") as file:
        file.seek(segment.HEADER_LENGTH)
        file.write(b"\xff" * (SEGMENT - segment.HEADER_LENGTH))
    after = Life(tmp_path, 2)
    lost = [
        item
        for item in iter(lambda: after.store.losses.read(SERVER, after.readers), None)
        if isinstance(item, SpoolDamage)
    ]
    assert [item.gone for item in lost] == [False]
    assert {gap.cause for gap in after.store.losses.pending()} == {"damaged in the spool"}
    after.end()
