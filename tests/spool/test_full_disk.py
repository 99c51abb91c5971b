"""A full disk: which sources wait, which use the reserve, what is refused, and that all continues by itself."""

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from harness.waiting import until

from relay.events import own_events
from relay.program.intake import Intake
from relay.spool.block import Block
from relay.spool.commit import Routing
from relay.spool.cursor import Cursor
from relay.spool.full_disk import RESERVE, Policy
from relay.spool.losses.gap import reported_gap
from relay.spool.spool import RunSeed
from relay.spool.spool_reader import SpoolReader
from relay.spool.store import Store
from relay.system.disk import Disk
from relay.values.event import Batch, Event, EventType, Position

SEGMENT = 16 * 1024
SIZE = 8 * SEGMENT
KINDS = frozenset({EventType.AUDIT, EventType.ALARM, EventType.RELAY})
ROUTING = Routing(KINDS, frozenset({EventType.TRAFFIC}))
ALL_TYPES = (1 << len(EventType)) - 1
LENGTH = 1000
gap_event = functools.partial(own_events.gap, own_events.Author("h", "h", "", "128T"))


class SmallDisk(Disk):
    """A real disk that says how much is free."""

    room = 1 << 40

    def free(self, path: str) -> int:
        del path
        return self.room


class House(NamedTuple):
    store: Store
    intake: Intake
    disk: SmallDisk

    def prove_all(self) -> None:
        store = self.store
        reached = Cursor(retained=store.retained.next_number, transient=store.transient.next_number)
        store.move_cursor("server", reached)


def event(number: int, kind: EventType = EventType.AUDIT) -> Event:
    tail = b' type="%b"] %06d ' % (kind.label.encode(), number) + b"x" * LENGTH
    return Event(kind, 1, b"<110>1 - h auditd - - [128T", tail)


def audit(number: int) -> Batch:
    return Batch([event(number)], Position("audit", number, b"%d" % number))


def dispatched(number: int) -> Batch:
    return Batch([event(number, EventType.ALARM)], repeatable=False)


def lived(folder: Path, body: Callable[[House], Awaitable[None]], policy: Policy = "ignore", run: int = 1) -> None:
    """A life of a store with one server that proves only what the body says."""
    disk = SmallDisk()
    name = RunSeed(run.to_bytes(8, "big"), b"s" * 16)

    async def main(store: Store) -> None:
        intake = Intake(store, ROUTING, gap_event, interval=0)
        committing = asyncio.create_task(intake.run())
        try:
            async with asyncio.timeout(60):
                await body(House(store, intake, disk))
        finally:
            committing.cancel()
            await asyncio.gather(committing, return_exceptions=True)

    with Store(disk, str(folder), segment_size=SEGMENT, max_size=SIZE, run=name, policy=policy) as store:
        store.follow("server", store.cursor("server") or Cursor(), ALL_TYPES)
        asyncio.run(main(store))


def stored(store: Store) -> list[bytes]:
    """Everything that a reader gets of the retained spool."""
    reader = SpoolReader(store.retained, 1)
    found: list[bytes] = []
    while isinstance(item := reader.read(), Block):
        found += [message for _, _, message in item.messages()]
    reader.close()
    return found


async def fill(house: House, first: int = 1) -> tuple[int, "asyncio.Future[None]"]:
    """Submit one event after the other until one waits: its number, and what it waits for."""
    for number in itertools.count(first):
        durable = await house.intake.submit_for("log")(audit(number))
        while not durable.done() and house.intake.error is None:  # noqa: ASYNC110  it changes in the commit's thread
            await asyncio.sleep(0)
        if not durable.done():
            return number, durable
    raise AssertionError


@pytest.mark.parametrize("policy", ["halt", "ignore"])
def test_a_source_that_can_deliver_again_waits_and_continues_once_there_is_space(
    tmp_path: Path, policy: Policy
) -> None:
    async def body(house: House) -> None:
        number, durable = await fill(house)
        more = [await house.intake.submit_for("log")(audit(number + each)) for each in range(1, 20)]
        assert house.intake.waiting == {"log"}
        assert house.store.position("audit") == Position("audit", number - 1, b"%d" % (number - 1))
        while not all(each.done() for each in (durable, *more)):
            house.prove_all()
            await asyncio.sleep(0)
        await until(lambda: house.intake.error is None)
        assert house.intake.waiting == frozenset()
        assert house.store.position("audit") == Position("audit", number + 19, b"%d" % (number + 19))
        assert house.intake.refused.total() == 0
        assert house.store.losses.pending() == []

    lived(tmp_path, body, policy)


def test_events_that_cannot_be_delivered_again_use_the_reserve_and_are_then_refused_and_counted(tmp_path: Path) -> None:
    kept = []

    async def body(house: House) -> None:
        number, durable = await fill(house)
        for each in range(1, 101):
            await (await house.intake.submit(dispatched(each)))
        accepted, refused = house.intake.accepted[EventType.ALARM], house.intake.refused[EventType.ALARM]
        assert accepted + refused == 100
        assert SIZE // RESERVE // (2 * LENGTH) < accepted < 2 * SIZE // RESERVE // LENGTH
        assert not durable.done(), "what waits does not use the reserve"
        (gap,) = house.store.losses.pending()
        assert [(each.label, each.first, each.last) for each in gap.ranges] == [("alarm", accepted + 1, 100)]
        kept.append((number, accepted))

    lived(tmp_path, body)

    async def later(house: House) -> None:
        number, accepted = kept[0]
        assert house.store.position("audit") == Position("audit", number - 1, b"%d" % (number - 1))
        house.prove_all()
        await (await house.intake.submit(audit(number)))
        await (await house.intake.submit(dispatched(101)))
        assert house.store.losses.pending() == []
        (gap,) = filter(None, map(reported_gap, stored(house.store)))
        assert [(each.run, each.label, each.first, each.last) for each in gap.ranges] == [
            (f"{1:016x}", "alarm", accepted + 1, 100)
        ]

    lived(tmp_path, later, run=2)


def test_the_state_without_space_ends_without_a_new_event_and_the_gap_is_reported(tmp_path: Path) -> None:
    async def body(house: House) -> None:
        refused = house.intake.refused
        number = 0
        while not refused:
            number += 1
            await (await house.intake.submit(dispatched(number)))
        assert house.intake.error is not None
        house.prove_all()
        await until(lambda: house.intake.error is None)
        await until(lambda: not house.store.losses.pending())
        assert [gap.events for gap in map(reported_gap, stored(house.store)) if gap] == [refused.total()]

    lived(tmp_path, body)


def test_while_nothing_is_freed_waiting_batches_are_not_retried(tmp_path: Path) -> None:
    async def body(house: House) -> None:
        _, durable = await fill(house)
        tried: list[int] = []
        append = house.store.retained.append

        def counted(*arguments: object) -> object:
            tried.append(1)
            return append(*arguments)  # type: ignore[arg-type]  # what the owner of the space gives it

        house.store.retained.append = counted  # type: ignore[method-assign, assignment]
        for each in range(50):
            await (await house.intake.submit(dispatched(each)))
        assert len(tried) <= 51
        assert not durable.done()

    lived(tmp_path, body)


@pytest.mark.parametrize("policy", ["halt", "ignore"])
def test_when_other_programs_fill_the_file_system_sources_wait_and_the_allocated_rest_is_the_reserve(
    tmp_path: Path, policy: Policy
) -> None:
    async def body(house: House) -> None:
        await (await house.intake.submit(audit(1)))
        await (await house.intake.submit(audit(2)))
        house.disk.room = 0
        number, durable = await fill(house, 3)
        assert number < 2 * SEGMENT // LENGTH
        await (await house.intake.submit(dispatched(1)))
        assert house.intake.refused.total() == 0
        house.disk.room = 1 << 40
        await asyncio.wait_for(durable, 10)
        await until(lambda: house.intake.error is None)

    lived(tmp_path, body, policy)


def test_rotate_has_no_reserve_and_nothing_waits(tmp_path: Path) -> None:
    async def body(house: House) -> None:
        for number in range(1, 301):
            await (await house.intake.submit(audit(number)))
        assert house.intake.error is None
        assert house.store.space.rotated > 0
        assert house.store.retained.allocated > SIZE - 2 * SEGMENT

    lived(tmp_path, body, "rotate")


def test_a_larger_max_size_and_another_policy_take_effect_at_once(tmp_path: Path) -> None:
    async def body(house: House) -> None:
        number, durable = await fill(house)
        house.store.space.max_size = 2 * SIZE
        await asyncio.wait_for(durable, 10)
        _, durable = await fill(house, number + 1)
        house.store.space.policy = "rotate"
        await asyncio.wait_for(durable, 10)

    lived(tmp_path, body)


def test_the_durable_part_of_a_waiting_commit_is_not_written_twice(tmp_path: Path) -> None:
    """The transient spool has its part, and the retained one cannot take its own: a failing disk, say."""

    async def body(house: House) -> None:
        await (await house.intake.submit(audit(1)))
        append = house.store.retained.append
        house.store.retained.append = _no_space  # type: ignore[method-assign, assignment]
        batch = Batch([event(1, EventType.TRAFFIC), event(2), event(3, EventType.TRAFFIC)], Position("audit", 4, b"4"))
        durable = await house.intake.submit(batch)
        await until(lambda: house.intake.error is not None)
        house.store.retained.append = append  # type: ignore[method-assign]
        await asyncio.wait_for(durable, 10)
        await (await house.intake.submit(Batch([event(5, EventType.TRAFFIC)], Position("audit", 5, b"5"))))
        assert _messages_of_each_block(house.store) == [2, 1]
        assert house.intake.accepted == {EventType.AUDIT: 2, EventType.TRAFFIC: 3}
        assert house.store.position("audit") == Position("audit", 5, b"5")

    lived(tmp_path, body)


def _no_space(*_: object) -> None:
    from relay.errors import full_error

    raise full_error("spool", "it is full", "")


def _messages_of_each_block(store: Store) -> list[int]:
    reader = SpoolReader(store.transient, 1)
    found = []
    while isinstance(item := reader.read(), Block):
        found.append(item.header.messages)
    reader.close()
    return found
