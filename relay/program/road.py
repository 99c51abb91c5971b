"""The road of an event, which `relay run` and `relay receive` share: a store, an intake, and destinations.

A program adds its sources or listeners. The road is drained when every destination has proven all that the store holds.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from relay.delivery.destination import Destination
from relay.delivery.route import Route
from relay.errors import DataError, RelayError, TemporaryError
from relay.events import own_events
from relay.program.housekeeping import Housekeeping, HousekeepingPolicy, WatchesBuilder
from relay.program.intake import Intake
from relay.program.status.control_socket import Reloaded, answering, no_reload
from relay.program.status.live import Live, LiveAlarm, LiveDestination, LivePart, LiveSource
from relay.spool.block import RUN_LENGTH
from relay.spool.commit import Routing
from relay.spool.losses.gap import Gap
from relay.spool.segments.segment import SPOOL_ID_LENGTH
from relay.spool.spool import RunSeed
from relay.spool.store import Store
from relay.system.background.supervision import Supervisor
from relay.system.clock import wall_clock
from relay.system.disk import Disk
from relay.system.operational_log import NOTICE
from relay.system.signals import Signals
from relay.values.configuration.settings import SpoolSettings
from relay.values.event import Batch, Event, EventType
from relay.values.size import rounded_size
from relay.values.text import counted

if TYPE_CHECKING:
    from relay.values.histogram import Histogram

DRAIN_POLL_SECONDS: Final = 0.02

_log = logging.getLogger("relay")


def new_run() -> RunSeed:
    """A random run, and a random name in case the spool is new."""
    return RunSeed(os.urandom(RUN_LENGTH), os.urandom(SPOOL_ID_LENGTH))


class RoadTerms(NamedTuple):
    """The settings that a road follows."""

    spool: SpoolSettings
    routing: Routing
    policy: HousekeepingPolicy
    watches: WatchesBuilder

    def gap_event(self, now: int, lost: Gap) -> Event:
        """The event that reports a gap."""
        return own_events.gap(self.policy.author, now, lost)


class Road:
    """Store, intake, destinations and housekeeping. Use it with `open`."""

    def __init__(
        self, store: Store, intake: Intake, housekeeping: Housekeeping, destinations: list[Destination]
    ) -> None:
        self.store = store
        self.intake = intake
        self.housekeeping = housekeeping
        self.destinations = destinations
        self.live_sources: Callable[[], list[LiveSource]] = list
        """Returns the state of each source."""
        self.live_parts: Callable[[], list[LivePart]] = list
        """Returns the state of each listener, port forwarding and SSH end."""
        self.archive_commit_seconds: Histogram | None = None
        """How long each commit of the archive takes; None: this program has no archive."""
        self.supervisor = Supervisor()
        self.reload: Callable[[], Awaitable[Reloaded]] = no_reload
        """Called for each request to reload."""
        self._started = wall_clock()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, state_directory: str, terms: RoadTerms) -> "AsyncIterator[Road]":
        """The road over the store in `state_directory`; on leaving, everything stops and the store is closed."""
        disk = Disk()
        with Store(
            disk,
            state_directory,
            segment_size=terms.spool.segment_size,
            max_size=terms.spool.max_size,
            run=new_run(),
            policy=terms.policy.disk_full_action,
        ) as store:
            intake = Intake(store, terms.routing, terms.gap_event, interval=terms.spool.commit_interval)
            destinations: list[Destination] = []
            housekeeping = Housekeeping(disk, store, intake, destinations, terms.policy, terms.watches)
            road = cls(store, intake, housekeeping, destinations)
            tasks = [asyncio.create_task(intake.run()), asyncio.create_task(housekeeping.run())]
            for what, task in zip(("the intake", "the housekeeping"), tasks, strict=True):
                road.supervisor.watch(what, task)
            try:
                async with answering(state_directory, road.live, lambda: road.reload()):  # noqa: PLW0108  it changes
                    yield road
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                store.remember_numbers(intake.last_numbers, at_once=True)
                await asyncio.gather(*(asyncio.to_thread(each.stop) for each in destinations))

    def live(self) -> Live:
        """The answer of the control socket."""
        sources = []
        for source in self.live_sources():
            accepted, refused = self.intake.of_source.get(source.name, (0, 0))
            waits = source.name in self.intake.waiting
            sources.append(msgspec.structs.replace(source, accepted=accepted, refused=refused, waits_for_space=waits))
        parts = self.live_parts()
        if (watch := self.housekeeping.watches.audit_trail) is not None:
            parts.insert(0, LivePart(name="auditd watch", state=watch.state, error=watch.error))
        return Live(
            pid=os.getpid(),
            started=self._started,
            intake_error=str(self.intake.error or ""),
            destinations=tuple(
                LiveDestination(
                    name=each.name,
                    state=each.state,
                    error=str(each.error or ""),
                    error_since=each.error_since,
                    proofs=each.proofs,
                    damage=len(each.damage),
                    refused=each.refused,
                    largest_refused=each.largest_refused,
                )
                for each in self.destinations
            ),
            accepted=_by_label(self.intake.accepted),
            refused=_by_label(self.intake.refused),
            sources=tuple(sources),
            parts=tuple(parts),
            alarms=tuple(
                LiveAlarm(**asdict(change.alarm), since=change.since) for change in self.housekeeping.alarms.active
            ),
        )

    def log_status(self) -> None:
        """Write the status to the log, in short lines."""
        live, space = self.live(), self.store.space
        used = f"{rounded_size(space.used)} of {rounded_size(space.max_size)} used"
        accepted = f"{counted(sum(self.intake.accepted.values()), 'event')} accepted since the start"
        _log.log(NOTICE, "status: spool: %s, %s%s", used, accepted, _error(live.intake_error))
        for source in live.sources:
            lag = "lag unknown" if source.lag < 0 else f"{source.lag} bytes to read"
            _log.log(NOTICE, "status: source %s: %s%s", source.name, lag, _error(source.error))
        for each in self.destinations:
            state, error = f"{each.state}, {self.waiting_of(each)}", _error(str(each.error or ""))
            _log.log(NOTICE, "status: destination %s: %s%s", each.name, state, error)

    def waiting_of(self, destination: Destination) -> str:
        """How much waits for a destination, in words."""
        retained, transient = self._ends()
        blocks = retained - destination.cursor.retained + transient - destination.cursor.transient
        return counted(blocks, "block waits", "blocks wait") if blocks else "nothing waits"

    def log_stop(self, signal_name: str) -> None:
        """Write to the log that the program stops, why, and how much waits."""
        waiting = "; ".join(f"{each.name}: {self.waiting_of(each)}" for each in self.destinations)
        _log.log(NOTICE, "stops on %s%s", signal_name, f"; {waiting}" if waiting else "")

    async def exchange(self, terms: RoadTerms) -> None:
        """Follow these terms from now on; nothing that runs ends because of it."""
        self.store.resize(segment_size=terms.spool.segment_size, max_size=terms.spool.max_size)
        self.store.space.policy = terms.policy.disk_full_action
        self.intake.exchange(terms.routing, terms.gap_event, interval=terms.spool.commit_interval)
        await self.housekeeping.exchange(terms.policy, terms.watches)

    async def deliver(self, routes: Sequence[Route], kept: Collection[str] = ()) -> None:
        """Deliver to these destinations and to no others; it takes time to find where a new one begins.

        The destinations in `kept` continue as they are. The others end first, with a proof of all they have sent.
        """
        leaving = [each for each in self.destinations if each.name not in kept]
        await asyncio.gather(*(asyncio.to_thread(each.finish) for each in leaving))
        names = {route.name for route in routes}
        for name in {each.name for each in leaving} - names:
            self.store.leave(name)
        await asyncio.to_thread(self.store.claim, {route.name: route.server for route in routes})
        begun = [route for route in routes if route.name not in kept]
        starts = []
        for route in begun:
            counted = route.selection.types if route.counted_types is None else route.counted_types
            starts.append(await asyncio.to_thread(self.store.begin, route.name, route.start, counted, route.server))
        # The store follows all of them before the first one's proofs free any space.
        new = {
            route.name: Destination(
                route.name,
                self.store,
                route.connect,
                selection=route.selection,
                start=start,
                required=route.required,
                files=route.files,
                longest_pause=route.longest_pause,
            )
            for route, start in zip(begun, starts, strict=True)
        }
        known = {each.name: each for each in self.destinations} | new
        self.destinations[:] = [known[route.name] for route in routes]
        self.store.forget_others(names, wall_clock())
        if self.destinations:
            await asyncio.to_thread(self.store.space.release_proven)
        for destination in new.values():
            destination.start()

    async def drained(self, timeout: float | None) -> None:  # noqa: ASYNC109  it is the user's, and has its own error
        """Return once all that the store holds is proven, including the gaps that are found meanwhile.

        TemporaryError after `timeout` seconds. DataError when a part of the spool was lost, which has been delivered as
        gaps then. If every destination that is behind has an error that no retry can repair, the first of these errors
        is raised at once.
        """
        try:
            async with asyncio.timeout(timeout):
                proven = (0, 0)
                while self.store.losses.pending() or proven != self._ends():
                    if self.store.losses.pending():
                        await (await self.intake.submit(Batch(())))  # the commit that reports them
                    proven = self._ends()
                    while behind := self._behind(*proven):
                        if (error := _permanent_error(behind)) is not None:
                            raise error
                        await asyncio.sleep(DRAIN_POLL_SECONDS)
        except TimeoutError:
            behind = self._behind(*self._ends()) or self.destinations
            cause = f"not proven within {timeout:g} s ({behind[0].error or behind[0].state})"
            raise TemporaryError(behind[0].name, cause) from None
        lost = sorted(self.store.losses.lost.items())
        if lost:
            counts = ", ".join(f"{counted(events, 'event')} lost for {server}" for server, events in lost)
            cause = f"damaged or missing in part: {counts}; everything else is proven, and gap events report the loss"
            remedy = f"look for the cause with `relay spool verify --state {self.store.folder}`"
            raise DataError(f"{self.store.folder}/spool", cause, remedy)

    def _ends(self) -> tuple[int, int]:
        return self.store.retained.next_number, self.store.transient.next_number

    def _behind(self, retained: int, transient: int) -> list[Destination]:
        return [each for each in self.destinations if not each.has_proven(retained, transient)]

    async def raise_permanent_error(self) -> None:
        """Raise an error that no retry can repair, once sources wait for space that only a delivery can free."""
        while True:
            error = _permanent_error(self._behind(*self._ends()))
            if error is not None and self.intake.waiting:
                raise error
            await asyncio.sleep(DRAIN_POLL_SECONDS)


def _permanent_error(behind: Sequence[Destination]) -> RelayError | None:
    """The first error, if every destination that is behind has one that no retry can repair."""
    errors = [each.error for each in behind if each.error and not each.error.retryable]
    return errors[0] if behind and len(errors) == len(behind) else None


def _by_label(counts: Mapping[EventType, int]) -> dict[str, int]:
    return {event_type.label: count for event_type, count in sorted(counts.items()) if count}


def _error(text: str) -> str:
    return f"; {text}" if text else ""


async def until_drained(road: Road, work: Coroutine[None, None, None], signals: Signals) -> None:
    """Do `work` to its end; TemporaryError when a signal stops it before that, InternalError when the road fails."""
    working = asyncio.create_task(work)
    stop = asyncio.create_task(signals.stopping.wait())
    failed = road.supervisor.failed
    ends: tuple[asyncio.Future[Any], ...] = (working, stop, failed)
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()
        if not working.done():
            raise TemporaryError("drain", "stopped before everything was proven", "`relay status` shows what waits")
        await working
    finally:
        for task in (working, stop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
