"""Sources that end and begin while others run: a successor begins once all that was submitted before it is durable."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from harness.waiting import until

from relay.errors import UnavailableError
from relay.events.own_events import Author
from relay.program.housekeeping import HousekeepingPolicy, Watches
from relay.program.reload.running_sources import RunningSources
from relay.program.road import Road, RoadTerms
from relay.program.watch.all_users import AllUsers
from relay.program.watch.certificate_watch import CertificateWatch
from relay.spool.commit import Routing
from relay.spool.store import Store
from relay.system.disk import Disk
from relay.values.configuration.settings import SpoolSettings
from relay.values.event import Batch, Event, EventType, Position, Submit

ROUTING = Routing(frozenset({EventType.AUDIT, EventType.RELAY}), frozenset())
POLICY = HousekeepingPolicy(author=Author("h", "h", "", "128T"), disk_full_action="halt", retention=60.0, space_left=0)


def watches(store: Store, former: Watches | None) -> Watches:
    del former
    users = AllUsers(Disk(), f"{store.folder}/message", f"{store.folder}/motd")
    return Watches(users=users, certificates=CertificateWatch([]))


class Counting:
    """Submits one event after the other, each with a position, and waits for each."""

    def __init__(self, name: str = "counting") -> None:
        self.name = name
        self.began_at: int | None = None

    async def run(self, submit: Submit, position: Position | None, *, drain: bool) -> None:
        del drain
        self.began_at = count = position.count if position else 0
        while True:
            count += 1
            event = Event(EventType.AUDIT, 0, b"<110>1 - h auditd - - [128T", b"] %d" % count)
            await (await submit(Batch([event], Position(self.name, count, b""))))

    def finish(self) -> float:
        return 0


class Failing(Counting):
    """Fails to begin the first `failures` times."""

    def __init__(self, failures: int) -> None:
        super().__init__("failing")
        self.failures = failures

    async def run(self, submit: Submit, position: Position | None, *, drain: bool) -> None:
        if self.failures:
            self.failures -= 1
            raise UnavailableError("tcp://h:1", "the address is already in use")
        await super().run(submit, position, drain=drain)


def on_a_road(folder: Path, work: Callable[[Road, RunningSources], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Road.open(str(folder / "state"), RoadTerms(SpoolSettings(), ROUTING, POLICY, watches)) as road:
            sources = RunningSources(road, retry_seconds=0.01)
            try:
                await work(road, sources)
            finally:
                await sources.stop()

    asyncio.run(asyncio.wait_for(main(), 60))


def error(sources: RunningSources) -> str:
    running = sources.get("failing")
    return running.error if running is not None else ""


def count_of(road: Road, name: str = "counting") -> int:
    position = road.store.position(name)
    return position.count if position else 0


def test_a_successor_resumes_behind_the_last_durable_event(tmp_path: Path) -> None:
    async def work(road: Road, sources: RunningSources) -> None:
        sources.begin(Counting())
        for _ in range(20):
            before = count_of(road)
            await until(lambda: count_of(road) > before + 5)  # noqa: B023  it is awaited at once
            successor = Counting()
            assert await sources.exchange("counting", successor)
            await until(lambda: successor.began_at is not None)  # noqa: B023  it is awaited at once
        await sources.exchange("counting", None)
        assert road.intake.accepted[EventType.AUDIT] == count_of(road), "no event was submitted twice"
        assert not sources.failed.done()

    on_a_road(tmp_path, work)


def test_a_source_that_cannot_begin_at_the_start_ends_the_program(tmp_path: Path) -> None:
    async def work(road: Road, sources: RunningSources) -> None:
        del road
        sources.begin(Failing(1))
        with pytest.raises(UnavailableError):
            await sources.failed

    on_a_road(tmp_path, work)


def test_a_source_that_a_reload_began_is_retried(tmp_path: Path) -> None:
    async def work(road: Road, sources: RunningSources) -> None:
        assert await sources.exchange("failing", Failing(3))
        await until(lambda: error(sources))
        await until(lambda: count_of(road, "failing"))
        assert error(sources) == ""
        assert not sources.failed.done()

    on_a_road(tmp_path, work)
