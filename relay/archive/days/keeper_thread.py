"""The day keeper of a running program: its thread, its events, and its counters as `relay status` shows them."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from threading import Thread

from relay.archive.days.day_keeper import DayKeeper
from relay.archive.days.retention import RetentionTerms
from relay.archive.days.uncommitted_closings import UncommittedClosings
from relay.errors import RelayError
from relay.events.own_events import Author, RemovedFromArchive, removal
from relay.system.background.supervision import keep_running
from relay.system.disk import Disk
from relay.values.configuration.receiver_settings import ReceiverSettings
from relay.values.event import Event


class KeeperThread:
    """`begin` begins the work; `end` ends it, and waits for the step that is under way."""

    def __init__(self, receiver: ReceiverSettings, closings: UncommittedClosings, may_age: Callable[[], bool]) -> None:
        self._keeper = DayKeeper(Disk(), receiver.archive, RetentionTerms.of(receiver.retention), closings, may_age)
        work = partial(keep_running, "the keeper of closed days", self._keeper.run, self._keeper.stopping)
        self._thread = Thread(target=work, name="days", daemon=True)

    def begin(self) -> None:
        """Begin to look."""
        self._thread.start()

    def exchange(self, receiver: ReceiverSettings) -> None:
        """Follow these settings from now on."""
        self._keeper.exchange(RetentionTerms.of(receiver.retention))

    async def end(self) -> None:
        """Stop; an unfinished compression is begun anew by the next start."""
        self._keeper.stop()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    @property
    def fault(self) -> RelayError | None:
        """Why a day could not be compressed or removed."""
        return self._keeper.fault

    @property
    def state(self) -> str:
        """What is done with closed days, in words."""
        return str(self._keeper.terms)

    @property
    def counters(self) -> dict[str, int]:
        """What was done since the start."""
        return asdict(self._keeper.counters)

    def events(self, author: Author, now: int) -> list[Event]:
        """The events about what was removed since the last call."""
        events = []
        while self._keeper.removed:
            report = self._keeper.removed.popleft()
            by_age, by_size = report.causes.get("age", 0), report.causes.get("size", 0)
            removed = RemovedFromArchive(report.days, report.octets, by_age, by_size, report.names, str(report))
            events.append(removal(author, now, removed))
        return events
