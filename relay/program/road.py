"""The road of an event, as `relay run` and `relay receive` share it: a store, an intake, and destinations.

A program adds its sources or listeners. Drained means: everything the store holds is proven by every destination.
"""

import asyncio
import contextlib
import functools
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from relay.delivery.destination import Destination
from relay.delivery.message_selection import MessageSelection
from relay.delivery.sessions.delivery_session import DeliverySession
from relay.errors import DataError, RelayError, TemporaryError
from relay.events import own_events
from relay.program.control import Live, LiveAlarm, LiveDestination, LivePart, LiveSource, Reloaded, answering, no_reload
from relay.program.housekeeping import Fault, Housekeeping, HousekeepingPolicy
from relay.program.intake import Intake, Routing
from relay.spool.block import RUN_LENGTH
from relay.spool.cursor import Cursor
from relay.spool.segments.segment import SPOOL_ID_LENGTH
from relay.spool.spool import RunSeed
from relay.spool.store import Store
from relay.spool.succession import ServerKey
from relay.system.clock import wall_clock
from relay.system.disk import Disk
from relay.system.operational_log import NOTICE
from relay.system.signals import Signals
from relay.values.alarm import AlarmChange
from relay.values.event import Batch, EventType, Submit
from relay.values.settings import SpoolSettings
from relay.values.size import rounded_size

DRAIN_POLL_SECONDS: Final = 0.02

_log = logging.getLogger("relay")


def new_run() -> RunSeed:
    """A random run, and a random name in case the spool is new."""
    return RunSeed(os.urandom(RUN_LENGTH), os.urandom(SPOOL_ID_LENGTH))


class Route(NamedTuple):
    """How a destination is delivered to."""

    name: str
    connect: Callable[[threading.Event], DeliverySession]
    wanted: MessageSelection
    start: Cursor
    """Where it begins, without a stored cursor."""
    required: bool = True
    """Whether it holds what it has not got, when room is needed."""
    server: ServerKey = ""
    """Its protocol and final address: to them its cursor belongs."""
    files: Sequence[str] = ()
    """What `connect` reads: keys and certificates."""


class Road:
    """Store, intake and destinations. Use it with `open`."""

    def __init__(self, store: Store, intake: Intake) -> None:
        self.store = store
        self.intake = intake
        self.destinations: list[Destination] = []
        self.sources: list[Callable[[], LiveSource]] = []
        """Each tells the state of one source."""
        self.parts: list[Callable[[], LivePart]] = []
        """Each tells the state of one listener, port forwarding or SSH end."""
        self.faults: list[Fault] = []
        """Each tells what one listener or port forwarding waits for."""
        self.housekeeping: Housekeeping | None = None
        self.reload: Callable[[], Awaitable[Reloaded]] = no_reload
        """Called for each request to reload."""
        self._started = wall_clock()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, state_directory: str, settings: SpoolSettings, routing: Routing, care: HousekeepingPolicy
    ) -> "AsyncIterator[Road]":
        """The road over the store in `state_directory`; on leaving, everything stops and the store is closed."""
        disk = Disk()
        with Store(
            disk,
            state_directory,
            segment_size=settings.segment_size,
            max_size=settings.max_size,
            run=new_run(),
            policy=care.disk_full_action,
        ) as store:
            intake = Intake(
                store,
                routing,
                functools.partial(own_events.gap, care.author),
                interval=settings.commit_interval,
            )
            road = cls(store, intake)
            road.housekeeping = Housekeeping(disk, store, intake, road.destinations, care)
            road.housekeeping.faults = road.faults
            tasks = [asyncio.create_task(intake.run()), asyncio.create_task(road.housekeeping.run())]
            try:
                async with answering(state_directory, road.live, road.answer_reload):
                    yield road
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                store.remember_numbers(intake.last_numbers, at_once=True)
                await asyncio.gather(*(asyncio.to_thread(each.stop) for each in road.destinations))

    def live(self) -> Live:
        """What the control socket tells."""
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
                    damage=len(each.lost),
                    refused=each.refused,
                    largest_refused=each.largest_refused,
                )
                for each in self.destinations
            ),
            accepted=_by_label(self.intake.accepted),
            refused=_by_label(self.intake.refused),
            sources=tuple(map(self._live_source, self.sources)),
            parts=(*self._watch(), *(tell() for tell in self.parts)),
            alarms=tuple(map(_live_alarm, self.housekeeping.alarms.active if self.housekeeping else ())),
        )

    def _live_source(self, tell: Callable[[], LiveSource]) -> LiveSource:
        source = tell()
        accepted, refused = self.intake.of_source.get(source.name, (0, 0))
        waits = source.name in self.intake.waiting
        return msgspec.structs.replace(source, accepted=accepted, refused=refused, waits_for_space=waits)

    async def answer_reload(self) -> Reloaded:
        """Reload, where the program that runs can."""
        return await self.reload()

    def refuse_reloads(self) -> None:
        """Reload nothing any more."""
        self.reload = no_reload

    def _watch(self) -> tuple[LivePart, ...]:
        trail = self.housekeeping.audit_trail if self.housekeeping else None
        return () if trail is None else (LivePart(name="auditd watch", state=trail.state, error=trail.error),)

    def log_status(self) -> None:
        """Write the status to the log, in short lines."""
        live, space = self.live(), self.store.space
        taken_in = sum(self.intake.accepted.values())
        used = f"{rounded_size(space.used)} of {rounded_size(space.max_size)} used"
        events = f"{taken_in} event{'s' * (taken_in != 1)} taken in since the start"
        _log.log(NOTICE, "status: spool: %s, %s%s", used, events, _error(live.intake_error))
        for source in live.sources:
            lag = "lag unknown" if source.lag < 0 else f"{source.lag} bytes to read"
            _log.log(NOTICE, "status: source %s: %s%s", source.name, lag, _error(source.error))
        for each in self.destinations:
            waits = self.waiting_of(each)
            _log.log(
                NOTICE, "status: destination %s: %s, %s%s", each.name, each.state, waits, _error(str(each.error or ""))
            )

    def waiting_of(self, destination: Destination) -> str:
        """Say how much a destination has yet to get."""
        ends = self.store.retained.next_number, self.store.transient.next_number
        reached = destination.cursor.retained, destination.cursor.transient
        blocks = sum(end - place for end, place in zip(ends, reached, strict=True))
        return (
            f"{blocks} block{'s' * (blocks != 1)} {'wait' if blocks != 1 else 'waits'}" if blocks else "nothing waits"
        )

    def log_stop(self, signal_name: str) -> None:
        """Write to the log that the program stops, why, and what waits."""
        waiting = "; ".join(f"{each.name}: {self.waiting_of(each)}" for each in self.destinations)
        _log.log(NOTICE, "stops on %s%s", signal_name, f"; {waiting}" if waiting else "")

    async def exchange(self, settings: SpoolSettings, routing: Routing, care: HousekeepingPolicy) -> None:
        """Go on with these; nothing that runs is ended for it."""
        self.store.resize(segment_size=settings.segment_size, max_size=settings.max_size)
        self.store.space.policy = care.disk_full_action
        self.intake.exchange(routing, functools.partial(own_events.gap, care.author), interval=settings.commit_interval)
        if self.housekeeping is not None:
            await self.housekeeping.exchange(care)

    def submit_of(self, source: str) -> Submit:
        """What a source is to hand its batches to."""
        return self.housekeeping.submit_of(source) if self.housekeeping else self.intake.submit_for(source)

    async def deliver(self, ways: Sequence[Route], kept: Collection[str] = ()) -> None:
        """Deliver to these destinations, and to no other; where a new one begins takes time to find out.

        The destinations in `kept` go on as they are. The others end first, with a proof of what they have sent.
        """
        leaving = [each for each in self.destinations if each.name not in kept]
        await asyncio.gather(*(asyncio.to_thread(each.finish) for each in leaving))
        for name in {each.name for each in leaving} - {way.name for way in ways}:
            self.store.leave(name)
        await asyncio.to_thread(self.store.claim, {way.name: way.server for way in ways})
        begun = [way for way in ways if way.name not in kept]
        starts = [await asyncio.to_thread(self._start_of, way) for way in begun]
        new = {
            way.name: Destination(
                way.name,
                self.store,
                way.connect,
                selection=way.wanted,
                start=start,
                required=way.required,
                files=way.files,
            )
            for way, start in zip(begun, starts, strict=True)
        }  # all are followed before the first one's proofs free anything
        known = {each.name: each for each in self.destinations} | new
        self.destinations[:] = [known[way.name] for way in ways]
        self.store.forget_others({way.name for way in ways}, wall_clock())
        for destination in new.values():
            destination.start()

    def _start_of(self, way: Route) -> Cursor:
        return self.store.begin(way.name, way.start, way.wanted.types, way.server)

    async def drained(self, patience: float | None) -> None:
        """Return once all that the store holds is proven, the gaps included that are found meanwhile.

        TemporaryError after `patience` seconds; DataError when something of the spool was lost, which is delivered as
        gaps then. Where all that are behind have an error that no retry repairs, the first of these errors ends it at
        once.
        """
        try:
            async with asyncio.timeout(patience):
                proven = (0, 0)
                while self.store.losses.pending() or proven != self._ends():
                    if self.store.losses.pending():
                        await (await self.intake.submit(Batch(())))  # the commit that reports them
                    proven = self._ends()
                    await self._proven_so_far(proven)
        except TimeoutError:
            behind = self._behind(*self._ends()) or self.destinations
            cause = f"not proven within {patience:g} s"
            raise TemporaryError(behind[0].name, f"{cause} ({behind[0].error or behind[0].state})") from None
        self._report_losses()

    async def _proven_so_far(self, ends: tuple[int, int]) -> None:
        while behind := self._behind(*ends):
            if (hopeless := self._hopeless(behind)) is not None:
                raise hopeless
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    def _ends(self) -> tuple[int, int]:
        return self.store.retained.next_number, self.store.transient.next_number

    def _behind(self, retained: int, transient: int) -> list[Destination]:
        return [each for each in self.destinations if not each.has_proven(retained, transient)]

    @staticmethod
    def _hopeless(behind: Sequence[Destination]) -> RelayError | None:
        errors = [each.error for each in behind if each.error and not each.error.retryable]
        return errors[0] if behind and len(errors) == len(behind) else None

    async def until_hopeless(self) -> None:
        """Raise an error that no retry repairs, while sources wait for space that only a delivery can free."""
        while True:
            hopeless = self._hopeless(self._behind(*self._ends()))
            if hopeless is not None and self.intake.waiting:
                raise hopeless
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    def _report_losses(self) -> None:
        lost = sorted(self.store.losses.lost.items())
        if not lost:
            return
        counts = ", ".join(f"{_events(count)} for {server}" for server, count in lost)
        cause = f"damaged or missing in part: {counts}; everything else is proven, and gap events report what is lost"
        spool = f"{self.store.folder}/spool"
        raise DataError(spool, cause, f"look for the cause with `relay spool verify --state {self.store.folder}`")


def _events(count: int) -> str:
    return f"{count} event lost" if count == 1 else f"{count} events lost"


def _by_label(counts: Mapping[EventType, int]) -> dict[str, int]:
    return {kind.label: count for kind, count in sorted(counts.items()) if count}


def _live_alarm(change: AlarmChange) -> LiveAlarm:
    told = change.alarm
    return LiveAlarm(name=told.name, severity=told.severity, text=told.text, about=told.about, since=change.since)


def _error(text: str) -> str:
    return f"; {text}" if text else ""


async def until_drained(work: Coroutine[None, None, None], signals: Signals) -> None:
    """Do `work` to its end; TemporaryError when a signal stops it before that."""
    working = asyncio.create_task(work)
    stop = asyncio.create_task(signals.stopping.wait())
    try:
        await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise TemporaryError("drain", "stopped before everything was proven", "`relay status` tells what waits")
        await working
    finally:
        for task in (working, stop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
