"""Housekeeping: what it does about each state of intake, spool, disk and clocks."""

import asyncio
import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from harness.waiting import until
from typing_extensions import override

from relay.archive.ledger import Extent
from relay.errors import StorageError, full_error
from relay.events import own_events
from relay.events.own_events import Author
from relay.program.housekeeping import Housekeeping, HousekeepingPolicy, Watches
from relay.program.intake import Intake
from relay.program.watch.alarm_command import AlarmCommand
from relay.program.watch.all_users import AllUsers
from relay.program.watch.certificate_watch import CertificateWatch
from relay.program.watch.halt_request import HaltMethod, HaltRequest
from relay.program.watch.silence_watch import Silence, Silences, SilenceWatch
from relay.spool.commit import Routing
from relay.spool.cursor import Cursor
from relay.spool.full_disk import Policy
from relay.spool.spool import RunSeed
from relay.spool.spool_reader import SpoolReader
from relay.spool.store import Store
from relay.system.disk import Disk
from relay.values.alarm import AlarmChange
from relay.values.clocks import Clocks
from relay.values.event import Batch, Event, EventType, Position

AUTHOR = Author("h", "h", "", "128T")
SECOND = 1_000_000
DAY = 86_400 * SECOND
FULL = full_error("spool", "it is full", "")
BROKEN = StorageError("spool", "Input/output error")


class UnreadableDisk(Disk):
    """A disk that stops to tell its free space."""

    is_readable = True

    @override
    def free(self, path: str) -> int:
        if not self.is_readable:
            raise BROKEN
        return super().free(path)


class House:
    """A store with its intake and its housekeeping, on clocks that the test moves; users' messages are in `folder`."""

    def __init__(self, folder: Path, policy: Policy = "halt", run: bytes = b"run00001", space_left: int = 0) -> None:
        self.folder = folder
        self.clocks = Clocks(1_000 * DAY, 3_600 * SECOND)
        self.store = Store(
            Disk(),
            str(folder / "state"),
            segment_size=1 << 16,
            max_size=1 << 20,
            run=RunSeed(run, b"s" * 16),
            policy=policy,
        )
        routing = Routing(frozenset({EventType.AUDIT, EventType.RELAY}), frozenset())
        self.intake = Intake(
            self.store, routing, functools.partial(own_events.gap, AUTHOR), interval=0, clock=lambda: self.clocks.wall
        )
        self.policy = HousekeepingPolicy(
            author=AUTHOR, disk_full_action=policy, retention=DAY / SECOND, space_left=space_left
        )
        self.disk = UnreadableDisk()
        self.housekeeping = Housekeeping(
            self.disk, self.store, self.intake, [], self.policy, self.watches, lambda: self.clocks
        )

    def watches(self, store: Store, former: Watches | None) -> Watches:
        """What this house watches; nobody is warned."""
        del former
        halt = HaltMethod(command=("/usr/bin/touch", str(self.folder / "halted")), boot_id="a boot")
        users = AllUsers(Disk(), str(self.folder / "message"), str(self.folder / "motd"))
        return Watches(
            users=users,
            certificates=CertificateWatch([]),
            halt=HaltRequest(Disk(), store.slots, halt, lambda _: None),
        )

    def after(self, seconds: float) -> list[str]:
        """Move both clocks, look, and return the events: MSGID and, for alarms, name and state."""
        step = int(seconds * SECOND)
        self.clocks = Clocks(self.clocks.wall + step, self.clocks.boot + step)
        return [_summary(event) for event in self.housekeeping.look()]


def _summary(event: Event) -> str:
    def value(name: bytes) -> str:
        return event.tail.partition(b' %b="' % name)[2].partition(b'"')[0].decode()

    msgid = event.head.split()[5].decode()
    return f"{msgid} {value(b'alarm')} {value(b'state')}".strip()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    with made.store:
        yield made


def test_while_nothing_is_wrong_the_only_event_is_a_heartbeat_a_minute(house: House) -> None:
    assert [house.after(1) for _ in range(59)] == [[]] * 59
    assert house.after(1) == ["HEARTBEAT"]
    assert house.after(59) == []
    assert house.after(1) == ["HEARTBEAT"]


def test_a_full_spool_is_an_alarm_until_it_accepts_events_again(house: House) -> None:
    house.intake.error = FULL
    assert house.after(1) == ["ALARM spool-full add"]
    assert house.after(1) == []
    house.intake.error = None
    assert house.after(1) == ["ALARM spool-full clear"]


def test_a_disk_that_fails_is_a_different_alarm(house: House) -> None:
    house.intake.error = BROKEN
    assert house.after(1) == ["ALARM disk-failing add"]


def test_a_disk_whose_free_space_is_unknown_keeps_the_other_alarms(house: House) -> None:
    house.disk.is_readable = False
    house.intake.error = BROKEN
    assert house.after(1) == ["ALARM disk-failing add"]
    house.intake.error = None
    assert house.after(1) == ["ALARM disk-failing clear"]


def test_the_halt_is_requested_once_after_a_minute_without_delivery(house: House) -> None:
    house.intake.error = FULL
    for _ in range(58):
        house.after(1)
    assert not (house.folder / "halted").exists()
    house.after(3)
    assert (house.folder / "halted").exists()
    (house.folder / "halted").unlink()
    house.after(100)
    assert not (house.folder / "halted").exists(), "once a boot"


def test_alarms_about_lost_events_end_a_minute_after_the_last_loss(tmp_path: Path) -> None:
    house = House(tmp_path, "ignore")
    with house.store:
        house.intake.refused[EventType.AUDIT] = 5
        house.store.space.rotated = 1
        assert house.after(1) == ["ALARM spool-ignoring add", "ALARM spool-rotating add"]
        house.intake.refused[EventType.AUDIT] = 6
        assert house.after(40) == []
        assert house.after(40) == ["ALARM spool-rotating clear", "HEARTBEAT"]
        assert house.after(30) == ["ALARM spool-ignoring clear"]
        assert not (tmp_path / "halted").exists()


def test_little_space_on_the_disk_is_an_alarm(tmp_path: Path) -> None:
    house = House(tmp_path, space_left=1 << 60)
    with house.store:
        assert house.after(1) == ["ALARM disk-space-left add"]


def test_alarms_survive_a_restart(tmp_path: Path) -> None:
    first = House(tmp_path)
    with first.store:
        first.intake.error = FULL
        assert first.after(1) == ["ALARM spool-full add"]
    second = House(tmp_path, run=b"run00002")
    with second.store:
        assert second.after(1) == ["ALARM spool-full clear"]


def test_segments_are_deleted_by_age_after_a_day_of_clocks_that_agree(house: House) -> None:
    async def fill() -> None:
        committing = asyncio.create_task(house.intake.run())
        for number in range(1, 80):
            event = Event(EventType.AUDIT, 1, b"<110>1 - h a - - [128T", b' type="audit"] ' + b"x" * 3000)
            await (await house.intake.submit(Batch([event], Position("a", number, b""))))
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)

    asyncio.run(fill())
    house.store.follow("server", Cursor(), 0b10)
    house.store.move_cursor("server", Cursor(retained=house.store.retained.next_number))
    allocated = house.store.retained.allocated
    house.after(23 * 3600)
    assert house.store.retained.allocated == allocated
    for _ in range(30):
        house.after(3600)
    assert house.store.retained.allocated == 1 << 16, "the newest segment alone"


def test_a_run_begins_with_an_event_that_names_the_run_before(tmp_path: Path) -> None:
    async def run(house: House) -> None:
        tasks = [asyncio.create_task(house.intake.run()), asyncio.create_task(house.housekeeping.run())]
        while not house.intake.accepted[EventType.RELAY]:  # noqa: ASYNC110  it is committed in another thread
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    payloads = []
    for name in (b"run00001", b"run00002"):
        house = House(tmp_path, run=name)
        with house.store:
            asyncio.run(run(house))
            reader = SpoolReader(house.store.retained, house.store.retained.next_number - 1)
            found = reader.read()
            assert found is not None
            payloads.append(found.payload)  # type: ignore[union-attr]  # a spool without damage gives blocks
    assert b" OPENING [" in payloads[0]
    assert b"previousRun" not in payloads[0]
    assert b'previousRun="%b" last="relay 1"' % b"run00001".hex().encode() in payloads[1]


def test_another_policy_is_followed_from_the_next_look_on(house: House) -> None:
    asyncio.run(house.housekeeping.exchange(replace(house.policy, space_left=1 << 62), house.watches))
    assert house.after(1) == ["ALARM disk-space-left add"]
    asyncio.run(house.housekeeping.exchange(house.policy, house.watches))
    assert house.after(1) == ["ALARM disk-space-left clear"]


def test_other_watches_are_built_from_the_former_ones(house: House) -> None:
    before = house.housekeeping.watches
    builds: list[Watches | None] = []

    def build(store: Store, former: Watches | None) -> Watches:
        builds.append(former)
        return house.watches(store, former)

    asyncio.run(house.housekeeping.exchange(house.policy, build))
    assert builds == [before]
    assert house.housekeeping.watches is not before


def test_a_bug_in_a_look_is_an_alarm_and_the_looks_continue(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    assert house.after(1) == []
    house.intake.error = FULL
    with monkeypatch.context() as broken:
        broken.setattr(house.disk, "free", lambda _: 1 // 0)
        assert house.after(1) == ["ALARM internal-error add"]
        assert house.after(57) == []
        assert house.after(1) == ["HEARTBEAT"], "the other parts of a look work"
    assert house.after(1) == ["ALARM spool-full add"]
    house.intake.error = None
    assert house.after(58) == ["ALARM spool-full clear"]
    assert house.after(1) == ["ALARM internal-error clear", "HEARTBEAT"], "a minute after the last failure"


def test_the_alarm_command_gets_each_alarm(tmp_path: Path) -> None:
    house = House(tmp_path)
    noted: list[str] = []

    class Noting(AlarmCommand):
        @override
        def note(self, change: AlarmChange) -> None:
            noted.append(f"{change.alarm.name} {change.raised}")

    with house.store:
        house.housekeeping.watches = replace(house.housekeeping.watches, alarm_command=Noting(()))
        house.intake.error = FULL
        house.after(1)
        house.intake.error = None
        house.after(1)
    assert noted == ["spool-full True", "spool-full False"]


@pytest.mark.parametrize("name", ["datagrams-dropped", "name-disputed", "too-many-originators"])
def test_an_alarm_about_a_count_ends_a_minute_after_it_last_grew(house: House, name: str) -> None:
    house.housekeeping._lost_counts = {name: 0}
    assert house.after(1) == []
    house.housekeeping._lost_counts = {name: 5}
    assert house.after(1) == [f"ALARM {name} add"]
    assert house.after(57) == []
    house.housekeeping._lost_counts = {name: 6}
    assert house.after(1) == ["HEARTBEAT"]
    assert house.after(59) == []
    assert house.after(1) == [f"ALARM {name} clear", "HEARTBEAT"]


def test_a_bug_in_what_a_program_counts_does_not_end_the_housekeeping(tmp_path: Path) -> None:
    async def run(house: House) -> None:
        house.housekeeping.losses = lambda: {"never": 1 // 0}
        tasks = [asyncio.create_task(house.intake.run()), asyncio.create_task(house.housekeeping.run())]
        await until(lambda: house.housekeeping.alarms.get("internal-error") is not None)
        assert not tasks[1].done()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    house = House(tmp_path)
    with house.store:
        asyncio.run(run(house))


@pytest.mark.parametrize("is_heard", [True, False])
def test_the_end_of_a_silence_says_whether_the_originator_came_back(
    house: House, monkeypatch: pytest.MonkeyPatch, is_heard: bool
) -> None:
    watch, silence = SilenceWatch(), Silence("fw1", "fw1 is silent", settled=True)
    house.housekeeping.watches = replace(house.housekeeping.watches, silence=watch)
    monkeypatch.setattr(house.housekeeping, "_silences", lambda _: Silences([silence], recalled=True))
    assert house.after(1) == ["ALARM originator-silent add"]
    monkeypatch.setattr(house.housekeeping, "_silences", lambda _: Silences(recalled=True))
    if is_heard:
        watch.note("fw1", Extent(at=(1, 1), sender="", identity=None, via="", off=0, len=1, n=1))
    (event,) = house.housekeeping.look()
    assert b'state="clear"' in event.tail
    assert event.tail.endswith(
        b"fw1 is silent (clear)" if is_heard else b"fw1 is not watched any more; it has not come back (clear)"
    )


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (3600, "set forward by 1h, to 1972-09-27T01:00:02.000Z; times of receipt follow it"),
        (-3600, "set back by 1h, to 1972-09-26T23:00:02.000Z; times of receipt follow it"),
        (3650 * 86_400, "set forward by 3650d, to 1982-09-25T00:00:02.000Z; times of receipt follow it; nothing is"),
    ],
)
def test_a_clock_that_is_set_is_logged_once(
    house: House, caplog: pytest.LogCaptureFixture, step: int, text: str
) -> None:
    house.after(1)
    house.clocks = house.clocks._replace(wall=house.clocks.wall + step * SECOND)
    for _ in range(30):
        house.after(1)
    (line,) = [each for each in caplog.messages if "clock" in each]
    assert text in line


def test_a_clock_that_runs_slews_or_sleeps_is_not_logged(house: House, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        house.clocks = house.clocks._replace(wall=house.clocks.wall + 500)  # 500 ppm
        house.after(1)
    house.after(86_400)  # the machine was suspended
    assert [each for each in caplog.messages if "clock" in each] == []


def test_a_clock_that_is_set_every_second_is_logged_once_a_minute(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(100):
        house.clocks = house.clocks._replace(wall=house.clocks.wall + (-1) ** number * 3600 * SECOND)
        house.after(1)
    assert len([each for each in caplog.messages if "clock" in each]) == 1


def test_a_clock_that_is_set_between_two_runs_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = House(tmp_path)
    with first.store:
        first.after(901)
    second = House(tmp_path, run=b"run00002")
    second.clocks = Clocks(first.clocks.wall + 5 * DAY, first.clocks.boot + 3600 * SECOND)
    with second.store:
        second.housekeeping.look()
    (line,) = [each for each in caplog.messages if "clock" in each]
    assert "set forward by" in line


def test_nothing_may_be_deleted_by_age_from_the_moment_in_which_the_clock_is_set(house: House) -> None:
    """The archive's days have a thread of their own, which may ask before the next look."""
    for _ in range(26):
        house.after(3600)
    assert house.housekeeping.may_delete_by_age()
    house.clocks = house.clocks._replace(wall=house.clocks.wall + 3650 * DAY)
    assert not house.housekeeping.may_delete_by_age()
    house.after(1)
    assert not house.housekeeping.may_delete_by_age()
