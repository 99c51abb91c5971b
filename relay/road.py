"""The road of an event, as `relay run` and `relay receive` share it: a store, an intake, and destinations.

A program adds its sources or listeners. Drained means: everything the store holds is proven by every destination.
"""

import asyncio
import contextlib
import functools
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Final, NamedTuple

from relay import own_events
from relay.alarm import AlarmChange
from relay.control import Live, LiveAlarm, LiveDestination, LivePart, LiveSource, Reloaded, answering, no_reload
from relay.delivery.destination import Destination
from relay.delivery.session import Session
from relay.delivery.wanted import Wanted
from relay.disk import Disk
from relay.errors import TemporaryError
from relay.housekeeping import Care, Housekeeping
from relay.intake import Intake, Routing, Submit, wall_clock
from relay.operational_log import NOTICE
from relay.quantity import rounded_size
from relay.settings import Spool as SpoolSettings
from relay.signals import Signals
from relay.spool.block import RUN_LENGTH
from relay.spool.cursor import Cursor
from relay.spool.segment import SPOOL_ID_LENGTH
from relay.spool.spool import Run
from relay.spool.store import Store

DRAIN_POLL_SECONDS: Final = 0.02

_log = logging.getLogger("relay")


def new_run() -> Run:
    """A random run, and a random name in case the spool is new."""
    return Run(os.urandom(RUN_LENGTH), os.urandom(SPOOL_ID_LENGTH))


class Way(NamedTuple):
    """How a destination is delivered to."""

    name: str
    connect: Callable[[threading.Event], Session]
    wanted: Wanted
    start: Cursor
    """Where it begins, without a stored cursor."""
    required: bool = True
    """Whether it holds what it has not got, when room is needed."""


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
        self.housekeeping: Housekeeping | None = None
        self.reload: Callable[[], Awaitable[Reloaded]] = no_reload
        """Called for each request to reload."""
        self._started = wall_clock()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, state_directory: str, settings: SpoolSettings, routing: Routing, care: Care
    ) -> "AsyncIterator[Road]":
        """The road over the store in `state_directory`; on leaving, everything stops and the store is closed."""
        disk = Disk()
        with Store(
            disk,
            state_directory,
            segment_size=settings.segment_size,
            max_size=settings.max_size,
            run=new_run(),
        ) as store:
            intake = Intake(
                store,
                routing,
                functools.partial(own_events.gap, care.author),
                interval=settings.commit_interval,
                policy=care.disk_full_action,
            )
            road = cls(store, intake)
            road.housekeeping = Housekeeping(disk, store, intake, road.destinations, care)
            tasks = [asyncio.create_task(intake.run()), asyncio.create_task(road.housekeeping.run())]
            try:
                async with answering(state_directory, road.live, road.answer_reload):
                    yield road
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
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
                )
                for each in self.destinations
            ),
            sources=tuple(tell() for tell in self.sources),
            parts=(*self._watch(), *(tell() for tell in self.parts)),
            alarms=tuple(map(_live_alarm, self.housekeeping.alarms.active if self.housekeeping else ())),
        )

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
        room = self.store.room
        taken_in = sum(self.intake.accepted.values())
        held = f"{rounded_size(room.used)} of {rounded_size(room.max_size)} used"
        live = self.live()
        error = f"; nothing is taken in: {live.intake_error}" if live.intake_error else ""
        _log.log(NOTICE, "status: spool: %s, %s since the start%s", held, _events(taken_in), error)
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

    async def exchange(self, settings: SpoolSettings, routing: Routing, care: Care) -> None:
        """Go on with these; nothing that runs is ended for it."""
        self.store.resize(segment_size=settings.segment_size, max_size=settings.max_size)
        self.intake.exchange(
            routing,
            functools.partial(own_events.gap, care.author),
            interval=settings.commit_interval,
            policy=care.disk_full_action,
        )
        if self.housekeeping is not None:
            await self.housekeeping.exchange(care)

    def submit_of(self, source: str) -> Submit:
        """What a source is to hand its batches to."""
        return self.housekeeping.submit_of(source) if self.housekeeping else self.intake.submit

    async def deliver(self, ways: Sequence[Way], kept: Collection[str] = ()) -> None:
        """Deliver to these destinations, and to no other; where a new one begins takes time to find out.

        The destinations in `kept` go on as they are. The others end first, with a proof of what they have sent.
        """
        leaving = [each for each in self.destinations if each.name not in kept]
        await asyncio.gather(*(asyncio.to_thread(each.finish) for each in leaving))
        for name in {each.name for each in leaving} - {way.name for way in ways}:
            self.store.leave(name)
        begun = [way for way in ways if way.name not in kept]
        starts = [await asyncio.to_thread(self._start_of, way) for way in begun]
        new = {
            way.name: Destination(
                way.name, self.store, way.connect, wanted=way.wanted, start=start, required=way.required
            )
            for way, start in zip(begun, starts, strict=True)
        }  # all are followed before the first one's proofs free anything
        known = {each.name: each for each in self.destinations} | new
        self.destinations[:] = [known[way.name] for way in ways]
        self.store.forget_others({way.name for way in ways}, wall_clock())
        for destination in new.values():
            destination.start()

    def _start_of(self, way: Way) -> Cursor:
        return self.store.begin(way.name, way.start, way.wanted.types)

    async def drained(self, patience: float | None) -> None:
        """Return once all that the store holds now is proven; TemporaryError after `patience` seconds.

        Where all that are behind are held up by what no retry mends, the first of these errors ends it at once.
        """
        retained, transient = self.store.retained.next_number, self.store.transient.next_number
        try:
            async with asyncio.timeout(patience):
                while behind := [each for each in self.destinations if not each.has_proven(retained, transient)]:
                    hopeless = [each.error for each in behind if each.error and not each.error.retryable]
                    if len(hopeless) == len(behind):
                        raise hopeless[0]
                    await asyncio.sleep(DRAIN_POLL_SECONDS)
        except TimeoutError:
            cause = f"not proven within {patience:g} s"
            raise TemporaryError(behind[0].name, f"{cause} ({behind[0].error or behind[0].state})") from None


def _live_alarm(change: AlarmChange) -> LiveAlarm:
    told = change.alarm
    return LiveAlarm(name=told.name, severity=told.severity, text=told.text, about=told.about, since=change.since)


def _events(count: int) -> str:
    return f"{count} event{'s' * (count != 1)} taken in"


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
