"""Policies of a full spool: what goes, what is counted, and that nothing goes uncounted."""

import asyncio
import functools
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from harness.fake_disk import Crash, FakeDisk
from program.history import spools

from relay.events import own_events
from relay.program.intake import Intake
from relay.spool.block import Block
from relay.spool.commit import Commit, Routing
from relay.spool.cursor import Cursor
from relay.spool.full_disk import Policy
from relay.spool.losses.gap import MAX_RANGES, Gap, LostRange, reported_gap
from relay.spool.losses.store_losses import LATE
from relay.spool.spool import RunSeed, Spool
from relay.spool.spool_reader import SpoolReader
from relay.spool.store import CURSOR_KEY, Store
from relay.system.disk import Disk
from relay.values.event import Batch, Event, EventType, Position

SEGMENT = 16 * 1024
SEGMENTS = 4
ALL_TYPES = 1 << EventType.AUDIT | 1 << EventType.RELAY
ROUTING = Routing(frozenset({EventType.AUDIT, EventType.RELAY}), frozenset())
RUN = RunSeed(b"\x00" * 7 + b"\x01", b"s" * 16)
LATER = RunSeed(b"\x00" * 7 + b"\x02", b"s" * 16)
gap_event = functools.partial(own_events.gap, own_events.Author("h", "h", "", "128T"))


def opened(folder: Path, run: RunSeed = RUN, disk: Disk | None = None, policy: Policy = "halt") -> Store:
    size = SEGMENTS * SEGMENT
    return Store(disk or Disk(), str(folder), segment_size=SEGMENT, max_size=size, run=run, policy=policy)


def event(number: int) -> Event:
    return Event(EventType.AUDIT, 1, b"<110>1 - h auditd - - [128T", b' type="audit"] %06d ' % number + b"x" * 1000)


def taking_in(store: Store, body: Callable[[Intake], Awaitable[None]]) -> None:
    async def main() -> None:
        intake = Intake(store, ROUTING, gap_event, interval=0)
        committing = asyncio.create_task(intake.run())
        working = asyncio.ensure_future(body(intake))
        try:
            await asyncio.wait({committing, working}, timeout=100, return_when=asyncio.FIRST_COMPLETED)
            for task in (committing, working):
                if task.done():
                    task.result()
            assert working.done(), "it took too long"
        finally:
            committing.cancel()
            working.cancel()
            await asyncio.gather(committing, working, return_exceptions=True)

    asyncio.run(main())


async def submit(intake: Intake, first: int, last: int) -> None:
    for number in range(first, last + 1):
        await (await intake.submit(Batch([event(number)], Position("audit", number, b"%d" % number))))


def messages(spool: Spool, number: int = 1) -> list[bytes]:
    reader = SpoolReader(spool, number)
    found = []
    while isinstance(item := reader.read(), Block):
        found += [message for _, _, message in item.messages()]
    reader.close()
    return found


def numbers(found: list[bytes]) -> list[int]:
    return [int(message.partition(b"] ")[2][:6]) for message in found if b' type="audit"' in message]


def gaps(found: list[bytes]) -> list[bytes]:
    return [message for message in found if b" GAP [" in message]


def test_rotate_accepts_every_event_and_counts_every_deleted_one(tmp_path: Path) -> None:
    with opened(tmp_path, policy="rotate") as store:
        store.follow("server", Cursor(), ALL_TYPES)
        taking_in(store, lambda intake: submit(intake, 1, 200))
        found = messages(store.retained)
    kept = numbers(found)
    assert kept == list(range(kept[0], 201))
    reported = gaps(found)
    assert reported
    assert all(b' server="server"' in message for message in reported)
    counted = [each for message in reported if (gap := reported_gap(message)) for each in gap.ranges]
    counted += [each for gap in store.losses.pending() for each in gap.ranges]
    # Most gap events were rotated away themselves: their losses are reported again.
    assert sum(each.events for each in counted if each.label == "audit") == kept[0] - 1


def test_a_gap_is_read_back_from_the_event_that_reports_it() -> None:
    ranges = (LostRange("0" * 16, 1, 5, 9, 4), LostRange("1" * 16, 8, 1, 1, 1))
    gap = Gap(server='hostile "] server', number=7, cause="rotate, damage", ranges=ranges, unnamed=3)
    message = b'%b relayRun="r" relaySeq="1"%b' % gap_event(1, gap)[2:4]
    assert reported_gap(message) == Gap(server=gap.server, number=7, cause=gap.cause, ranges=ranges, unnamed=3)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"<13>1 - - - - - -",
        b"<46>1 - h relay - GAP [128T] x",
        b'<46>1 - h relay - GAP [128T cause="x" lost="y"] x',
        b"\xff GAP [",
    ],
)
def test_a_message_that_reports_no_gap_yields_none(message: bytes) -> None:
    assert reported_gap(message) is None


def test_a_crash_at_any_moment_of_rotate_leaves_every_event_kept_or_counted() -> None:
    """On a disk that forgets what is not synced: the sum is exact or, when a file came back, too high, not too low."""
    for crash_at in range(40, 400, 7):
        disk = FakeDisk(crash_at)
        disk.crash_at = crash_at
        accepted = 0

        async def body(intake: Intake) -> None:
            nonlocal accepted
            for number in range(1, 61):
                await submit(intake, number, number)
                accepted = number

        try:
            store = opened(Path("/state"), disk=disk, policy="rotate")
            store.follow("server", Cursor(), ALL_TYPES)
            taking_in(store, body)
        except Crash:
            pass
        disk.crash()
        again = opened(Path("/state"), LATER, disk)
        position = again.position("audit")
        assert (position.count if position else 0) >= accepted
        found = messages(again.retained)
        counted = {
            number
            for gap in again.losses.pending()
            for each in gap.ranges
            if each.label == "audit"
            for number in range(each.first, each.last + 1)
        }
        for message in gaps(found):
            for part in message.split(b'lost="')[1:]:
                _, label, first, last, _ = part.partition(b'"')[0].split()
                counted |= set(range(int(first), int(last) + 1)) if label == b"audit" else set()
        assert set(range(1, accepted + 1)) <= set(numbers(found)) | counted, f"crash at call {crash_at}"
        again.close()


def test_expiry_deletes_only_proven_segments(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.follow("server", Cursor(), ALL_TYPES)
        clock = iter(range(1_000_000, 10**12, 1_000_000))

        async def main() -> None:
            intake = Intake(store, ROUTING, gap_event, interval=0, clock=lambda: next(clock))
            committing = asyncio.create_task(intake.run())
            await submit(intake, 1, 40)
            committing.cancel()
            await asyncio.gather(committing, return_exceptions=True)

        asyncio.run(main())
        assert store.space.expire(10**12) == 0, "nothing is proven"
        store.move_cursor("server", Cursor(retained=store.retained.next_number))
        assert store.space.expire(0) == 0, "nothing is old"
        segments = len(list((tmp_path / "spool" / "retained").glob("*.segment")))
        assert segments > 2
        assert store.space.expire(10**12) == segments - 1, "all but the newest"
        assert numbers(messages(store.retained))[-1] == 40


def numbered(run: int, first: int = 1, last: int = 10) -> LostRange:
    return LostRange(f"{run:016x}", 1, first, last, last - first + 1)


def test_a_gap_names_the_ranges_that_grew_last_and_counts_the_rest() -> None:
    gap = Gap(server="s")
    for run in range(MAX_RANGES):
        gap = gap.add("rotate", [numbered(run)])
    gap = gap.add("damage", [numbered(0, 11, 20)])
    gap = gap.add("rotate", [numbered(run) for run in range(MAX_RANGES, MAX_RANGES + 5)])
    assert [each.run for each in gap.ranges] == [f"{run:016x}" for run in (*range(6, MAX_RANGES), 0, *range(24, 29))]
    assert numbered(0, 1, 20) in gap.ranges
    assert (gap.unnamed, gap.events, gap.cause) == (50, (MAX_RANGES + 5) * 10 + 10, "rotate, damage")
    assert len(gap.encode()) < 3000
    assert Gap.decode(gap.encode(), "s") == gap


def test_after_a_report_only_later_losses_remain_in_the_gap() -> None:
    gap = Gap(server="s").add("rotate", [numbered(run) for run in range(MAX_RANGES + 5)])
    assert (gap.after_report(gap).events, gap.after_report(gap).number) == (0, 2)
    more = gap.add("rotate", [numbered(7, 11, 14)])
    assert more.after_report(gap).ranges == (numbered(7, 11, 14),)
    newer = numbered(MAX_RANGES + 5)
    evicting = gap.add("rotate", [newer])
    assert evicting.after_report(gap).ranges == (newer,)
    assert evicting.after_report(gap).unnamed == 0, "a reported range that made way for another counts only once"
    again = evicting.add("rotate", [numbered(5, 11, 14)])
    assert again.after_report(gap).ranges == (newer, numbered(5, 11, 14)), "the first of the named had given way"
    assert again.after_report(gap).events == 14


def test_a_server_that_begins_now_has_the_earlier_events_as_one_gap(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.follow("first", Cursor(), ALL_TYPES)
        taking_in(store, lambda intake: submit(intake, 1, 25))
        now = Cursor(retained=store.retained.next_number)
        assert store.begin("late", now, ALL_TYPES) == now
        assert store.begin("late", Cursor(retained=99), ALL_TYPES) == now, "it continues where it began"
        (gap,) = store.losses.pending()
        assert (gap.server, gap.cause) == ("late", LATE)
        assert [(each.label, each.first, each.last, each.events) for each in gap.ranges] == [("audit", 1, 25, 25)]
        assert store.follow("late", now, ALL_TYPES).retained == now.retained
        assert store.begin("choosy", now, 1 << EventType.SECURITY) == now
        assert [gap.server for gap in store.losses.pending()] == ["late"], "it does not lack what it does not select"


def test_a_server_that_begins_with_the_oldest_block_has_the_deleted_events_of_that_run_as_a_gap(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.follow("first", Cursor(), ALL_TYPES)
        taking_in(store, lambda intake: submit(intake, 1, 40))
        assert store.begin("early", Cursor(), ALL_TYPES) == Cursor()
        assert store.losses.pending() == [], "all of it is there"
        store.move_cursor("first", Cursor(retained=store.retained.next_number))
        assert store.space._free_proven()
        assert store.begin("late", Cursor(), ALL_TYPES) == Cursor(retained=store.retained.oldest_first)
        (gap,) = store.losses.pending()
        kept = numbers(messages(store.retained))
        assert [(each.label, each.first, each.last) for each in gap.ranges] == [("audit", 1, kept[0] - 1)]


def test_a_crash_between_the_count_and_the_cursor_of_a_late_server_counts_nothing_twice() -> None:
    for crash_at in range(1, 8):
        disk = FakeDisk(crash_at)
        with opened(Path("/state"), disk=disk) as store:
            taking_in(store, lambda intake: submit(intake, 1, 10))
            disk.crash_at = len(disk.calls) + crash_at
            try:
                store.begin("late", Cursor(retained=store.retained.next_number), ALL_TYPES)
            except Crash:
                store.close()
        disk.crash()
        with opened(Path("/state"), LATER, disk) as again:
            again.begin("late", Cursor(retained=again.retained.next_number), ALL_TYPES)
            assert sum(gap.events for gap in again.losses.pending()) == 10


def _power_goes(gap: Gap) -> None:
    raise Crash(f"before it is noted that an event tells of {gap}")


def test_a_gap_whose_event_was_written_right_before_the_end_is_not_reported_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = FakeDisk()
    with opened(Path("/state"), disk=disk) as store:
        store.losses.lose("server", LATE, [LostRange("0" * 16, 1, 1, 5, 5)], Cursor())
        commit = Commit(store, ROUTING, [], dict.fromkeys(EventType, 1), {}, gap_event)
        monkeypatch.setattr(store.losses, "reported", _power_goes)
        with pytest.raises(Crash):
            commit.write(lambda: 1)
    disk.kill()
    with opened(Path("/state"), LATER, disk) as again:
        assert len(gaps(messages(again.retained))) == 1
        assert again.losses.pending() == []


def test_blocks_that_come_after_the_spool_was_lost_are_delivered(tmp_path: Path) -> None:
    with opened(tmp_path, policy="rotate") as store:
        store.follow("server", Cursor(), ALL_TYPES)
        taking_in(store, lambda intake: submit(intake, 1, 200))
    shutil.rmtree(tmp_path / "spool")
    with opened(tmp_path, LATER) as again:
        cursor = again.follow("server", again.cursor("server") or Cursor(), ALL_TYPES)
        readers = SpoolReader.of_both(again.spools, cursor.blocks)
        taking_in(again, lambda intake: submit(intake, 201, 205))
        found = []
        while isinstance(item := again.losses.read("server", readers), Block):
            found += [message for _, _, message in item.messages()]
    assert numbers(found) == list(range(201, 206))


# --- Servers that are not required, have refused, or have left ---


def test_a_server_that_is_not_required_loses_before_any_policy_applies_and_its_loss_is_counted(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.follow("optional", Cursor(), ALL_TYPES, required=False)

        async def deliver(intake: Intake) -> None:
            for first in range(1, 200, 10):
                await submit(intake, first, first + 9)
                store.move_cursor("server", Cursor(retained=store.retained.next_number))

        store.follow("server", Cursor(), ALL_TYPES)
        taking_in(store, deliver)
        found = messages(store.retained)
        kept = numbers(found)
        (counted,) = [gap for gap in store.losses.pending() if gap.server == "optional"] or [Gap()]
    reported = [gap for message in gaps(found) if (gap := reported_gap(message)) is not None]
    assert kept[-1] == 200
    assert kept[0] > 1
    assert {gap.server for gap in reported} == {"optional"}
    missed = sum(each.events for gap in (*reported, counted) for each in gap.ranges if each.type == EventType.AUDIT)
    assert missed == 200 - len(kept)


def test_without_a_required_server_no_segment_is_held(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.follow("optional", Cursor(), ALL_TYPES, required=False)
        taking_in(store, lambda intake: submit(intake, 1, 200))
        assert numbers(messages(store.retained))[-1] == 200


def test_a_refused_event_is_neither_delivered_nor_counted_again_after_a_crash(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.follow("server", Cursor(), ALL_TYPES)
        taking_in(store, lambda intake: submit(intake, 1, 5))
        lost = [LostRange(RUN.run.hex(), int(EventType.AUDIT), 3, 3, 1)]
        store.losses.lose("server", "refused by the server", lost, Cursor(retained=6))
    with opened(tmp_path, LATER) as store:  # the cursor had not moved
        assert store.begin("server", Cursor(), ALL_TYPES) == Cursor()
        assert store.follow("server", Cursor(), ALL_TYPES).retained == 6
        assert [gap.events for gap in store.losses.pending()] == [1]


DAY = 24 * 3600 * 1_000_000


def test_the_cursor_of_a_server_that_left_is_kept_for_a_day(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for name in ("stays", "leaves", "returns"):
            store.move_cursor(name, Cursor(retained=1, delivered=7))
        store.forget_others({"stays"}, 1000)
        store.forget_others({"stays"}, 1000 + DAY)
        assert store.cursor("leaves") is not None
        store.forget_others({"stays", "returns"}, 1000 + DAY)
        store.forget_others({"stays", "returns"}, 1001 + DAY)
        assert store.cursor("leaves") is None
        store.forget_others({"stays"}, 2000 + DAY)
        store.forget_others({"stays"}, 2000 + DAY + DAY // 2)
        assert store.cursor("returns") == store.cursor("stays") == Cursor(retained=1, delivered=7)


def test_a_server_that_returns_too_late_begins_anew_and_its_loss_is_counted(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.follow("other", Cursor(), ALL_TYPES)
        store.slots.put(CURSOR_KEY + "server", Cursor(retained=2, delivered=1).encode())
        store.forget_others({"other"}, 1000)

        async def deliver(intake: Intake) -> None:
            for first in range(1, 200, 10):
                await submit(intake, first, first + 9)
                store.move_cursor("other", Cursor(retained=store.retained.next_number))

        taking_in(store, deliver)
        assert store.begin("server", Cursor(), ALL_TYPES) == Cursor(retained=store.retained.oldest_first)
        assert [gap.cause for gap in store.losses.pending() if gap.server == "server"] == [LATE]


# --- Blocks that are proven in part ---


def test_deleting_a_partly_proven_block_counts_only_its_rest(tmp_path: Path) -> None:
    """A gap that an event in the proven part reports is not counted again; one in the rest is."""
    reported = [
        Gap(server="server", number=number, cause="x", ranges=(LostRange("0" * 16, 1, 1, 5, 5),)) for number in (1, 2)
    ]
    with spools.opened(tmp_path, segment_size=8 * 1024) as store:
        first = [spools.gap_event(1, reported[0]), *(spools.event(str(number)) for number in range(9))]
        spools.fill(
            store, [[*first, spools.gap_event(1, reported[1])], *([spools.event("x" * 900)] for _ in range(20))]
        )
        store.follow("server", Cursor(retained=1, retained_part=7), ~0)
        assert store.space.rotate()
        (gap,) = store.losses.pending()
    ranges = {(each.run, each.type): each for each in gap.ranges}
    assert ranges["0" * 16, EventType.AUDIT].events == 5, "the second gap alone"
    assert ranges[spools.RUN.run.hex(), EventType.AUDIT].first == 7


def test_an_event_refused_within_a_block_is_neither_delivered_nor_counted_again_after_a_crash(tmp_path: Path) -> None:
    with spools.opened(tmp_path) as store:
        spools.fill(store, [[spools.event(str(number)) for number in range(9)]])
        store.follow("server", Cursor(), ALL_TYPES)
        lost = [LostRange(RUN.run.hex(), int(EventType.AUDIT), 3, 3, 1)]
        store.losses.lose("server", "refused by the server", lost, Cursor(retained=1, retained_part=3))
    with spools.opened(tmp_path) as store:  # the cursor had not moved
        begun = store.begin("server", Cursor(), ALL_TYPES)
        assert begun == Cursor()
        assert store.follow("server", begun, ALL_TYPES).reached.retained == (1, 3)


def test_deleted_events_stay_in_doubt_until_everything_sent_is_proven(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        cursor = store.follow("server", Cursor(), ALL_TYPES)
        taking_in(store, lambda intake: submit(intake, 1, 40))
        readers = SpoolReader.of_both(store.spools, cursor.blocks)
        while isinstance(store.losses.read("server", readers), Block):
            pass
        assert store.space.rotate()
        store.move_cursor("server", Cursor(retained=1, retained_part=0, delivered=1))
        store.losses.end_session("server")
        assert store.losses.pending() != []
