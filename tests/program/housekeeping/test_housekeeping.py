"""What is looked after: each state of intake, spool, disk and clocks, and what becomes of it."""

import asyncio
import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relay.errors import StorageError, full_error
from relay.events import own_events
from relay.events.own_events import Author
from relay.program.housekeeping import Housekeeping, HousekeepingPolicy
from relay.program.intake import Intake, Routing
from relay.program.watch.clock import Clocks
from relay.spool.cursor import Cursor
from relay.spool.full_disk import Policy
from relay.spool.spool import RunSeed
from relay.spool.spool_reader import SpoolReader
from relay.spool.store import Store
from relay.system.disk import Disk
from relay.values.event import Batch, Event, EventType, Position

AUTHOR = Author("h", "h", "", "128T")
SECOND = 1_000_000
DAY = 86_400 * SECOND
FULL = full_error("spool", "it is full", "")
BROKEN = StorageError("spool", "Input/output error")


class House:
    """A store with its intake and its housekeeping, on clocks that the test moves."""

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
        self.intake = Intake(self.store, routing, functools.partial(own_events.gap, AUTHOR), interval=0)
        care = HousekeepingPolicy(
            author=AUTHOR,
            disk_full_action=policy,
            retention=DAY / SECOND,
            space_left=space_left,
            max_size=1 << 20,
            halt_command=("touch", str(folder / "halted")),
        )
        self.housekeeping = Housekeeping(Disk(), self.store, self.intake, [], care, lambda: self.clocks)

    def after(self, seconds: float) -> list[str]:
        """Move both clocks, look, and answer what was said: MSGID and, for alarms, name and state."""
        step = int(seconds * SECOND)
        self.clocks = Clocks(self.clocks.wall + step, self.clocks.boot + step)
        return [_said(event) for event in self.housekeeping.look()]


def _said(event: Event) -> str:
    def value(name: bytes) -> str:
        return event.tail.partition(b' %b="' % name)[2].partition(b'"')[0].decode()

    msgid = event.head.split()[5].decode()
    return f"{msgid} {value(b'alarm')} {value(b'state')}".strip()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    with made.store:
        yield made


def test_nothing_is_said_while_nothing_is_wrong_but_a_heartbeat_a_minute(house: House) -> None:
    assert [house.after(1) for _ in range(59)] == [[]] * 59
    assert house.after(1) == ["HEARTBEAT"]
    assert house.after(59) == []
    assert house.after(1) == ["HEARTBEAT"]


def test_a_full_spool_is_an_alarm_until_it_takes_in_again(house: House) -> None:
    house.intake.error = FULL
    assert house.after(1) == ["ALARM spool-full add"]
    assert house.after(1) == []
    house.intake.error = None
    assert house.after(1) == ["ALARM spool-full clear"]


def test_a_disk_that_fails_is_another_alarm(house: House) -> None:
    house.intake.error = BROKEN
    assert house.after(1) == ["ALARM disk-failing add"]


def test_the_halt_is_asked_for_after_a_minute_without_delivery_and_once(house: House) -> None:
    house.intake.error = FULL
    for _ in range(58):
        house.after(1)
    assert not (house.folder / "halted").exists()
    house.after(3)
    assert (house.folder / "halted").exists()
    (house.folder / "halted").unlink()
    house.after(100)
    assert not (house.folder / "halted").exists(), "once a boot"


def test_ignore_and_rotate_have_alarms_of_their_own_which_end_when_it_is_quiet(tmp_path: Path) -> None:
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


def test_little_room_on_the_disk_warns(tmp_path: Path) -> None:
    house = House(tmp_path, space_left=1 << 60)
    with house.store:
        assert house.after(1) == ["ALARM disk-space-left add"]


def test_alarms_stay_over_a_restart(tmp_path: Path) -> None:
    first = House(tmp_path)
    with first.store:
        first.intake.error = FULL
        assert first.after(1) == ["ALARM spool-full add"]
    second = House(tmp_path, run=b"run00002")
    with second.store:
        assert second.after(1) == ["ALARM spool-full clear"]


def test_age_counts_after_a_day_of_clocks_that_agree(house: House) -> None:
    async def fill() -> None:
        committing = asyncio.create_task(house.intake.run())
        for number in range(1, 80):
            event = Event(EventType.AUDIT, 1, b"<110>1 - h a - - [128T", b' type="audit"] ' + b"x" * 3000)
            await (await house.intake.submit(Batch([event], Position("a", number, b""))))
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)

    house.intake._clock = lambda: house.clocks.wall
    asyncio.run(fill())
    house.store.follow("server", Cursor(), 0b10)
    house.store.move_cursor("server", Cursor(retained=house.store.retained.next_number))
    allocated = house.store.retained.allocated
    house.after(23 * 3600)
    assert house.store.retained.allocated == allocated
    for _ in range(30):
        house.after(3600)
    assert house.store.retained.allocated == 1 << 16, "the newest segment alone"


def test_the_run_is_opened_with_an_event_that_names_the_one_before(tmp_path: Path) -> None:
    async def run(house: House) -> None:
        tasks = [asyncio.create_task(house.intake.run()), asyncio.create_task(house.housekeeping.run())]
        while not house.intake.accepted[EventType.RELAY]:  # noqa: ASYNC110  it is committed in another thread
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    said = []
    for name in (b"run00001", b"run00002"):
        house = House(tmp_path, run=name)
        with house.store:
            asyncio.run(run(house))
            reader = SpoolReader(house.store.retained, house.store.retained.next_number - 1)
            found = reader.read()
            assert found is not None
            said.append(found.payload)  # type: ignore[union-attr]  # a spool without damage gives blocks
    assert b" OPENING [" in said[0]
    assert b"previousRun" not in said[0]
    assert b'previousRun="%b" last="relay 1"' % b"run00001".hex().encode() in said[1]


def test_other_settings_hold_from_the_next_look_on_and_a_watch_that_stays_wanted_goes_on(house: House) -> None:
    care = HousekeepingPolicy(
        author=AUTHOR, disk_full_action="ignore", retention=DAY / SECOND, space_left=0, max_size=1 << 20
    )
    asyncio.run(house.housekeeping.exchange(replace(care, space_left=1 << 62)))
    assert house.after(1) == ["ALARM disk-space-left add"]
    asyncio.run(house.housekeeping.exchange(care))
    assert house.after(1) == ["ALARM disk-space-left clear"]
    asyncio.run(house.housekeeping.exchange(replace(care, fed_by_auditd=frozenset({"audit"}))))
    watch = house.housekeeping.audit_trail
    assert watch is not None
    asyncio.run(house.housekeeping.exchange(replace(care, fed_by_auditd=frozenset({"audit"}), retention=1.0)))
    assert house.housekeeping.audit_trail is watch
    asyncio.run(house.housekeeping.exchange(care))
    assert house.housekeeping.audit_trail is None
