"""The sources of `relay run` while they run: each begins and ends by itself while the others go on.

Before its successor begins, a source submits nothing more and everything it submitted is durable. So the successor
resumes at its position, and nothing is lost or repeated. While the spool accepts nothing, the exchange takes that long.

A source that cannot begin at the start of the program ends the program, because somebody is watching then. One that a
reload began is retried.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from typing import Final

from relay.errors import RelayError
from relay.program.road import Road
from relay.source import EventInput
from relay.values.event import Batch, Submit
from relay.values.text import bug_text

RETRY_SECONDS: Final = 2.0
END_SECONDS: Final = 10.0
"""How long a reload waits for a source that ends. Its successor begins when it has ended, also after that."""

_log = logging.getLogger("relay.source")


class RunningSource:
    """A source, its task, and the batches of it that are not durable yet."""

    def __init__(self, source: EventInput, submit: Submit) -> None:
        self.source = source
        self.error = ""
        """Why it could not begin; it is retried."""
        self.task: asyncio.Task[None] | None = None
        self.ending = False
        self._submit = submit
        self._in_flight: set[asyncio.Future[None]] = set()

    async def submit(self, batch: Batch) -> "asyncio.Future[None]":
        """Submit a batch, and note it until it is durable."""
        durable = await self._submit(batch)
        self._in_flight.add(durable)
        durable.add_done_callback(self._in_flight.discard)
        return asyncio.shield(durable)  # a source that is cancelled while it waits must not end our own wait

    async def end(self) -> None:
        """Return when it submits nothing more, and all that it submitted is durable."""
        self.ending = True
        if self.task is not None:
            await asyncio.wait({self.task}, timeout=self.source.finish())
            self.task.cancel()
            await asyncio.wait({self.task})
            if not self.task.cancelled() and (error := self.task.exception()) is not None:
                cause = error if isinstance(error, RelayError) else bug_text(error)
                _log.warning("source %s ended: %s", self.source.name, cause)
        await self.settled()

    async def settled(self) -> None:
        """Return when all that it submitted is durable."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)


class RunningSources:
    """All of them, by name."""

    def __init__(self, road: Road, *, retry_seconds: float = RETRY_SECONDS) -> None:
        self._road = road
        self._retry_seconds = retry_seconds
        self._running: dict[str, RunningSource] = {}
        self._exchanges: dict[str, asyncio.Task[None]] = {}
        """Those that are under way."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises the error of a source that ends the program."""

    def get(self, name: str) -> RunningSource | None:
        """The source that runs under that name."""
        return self._running.get(name)

    def begin(self, source: EventInput) -> None:
        """Begin a source at the start of the program."""
        running = self._add(source)
        task = running.task = asyncio.create_task(self._run(running))

        def note_end(_: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None and not running.ending and not self.failed.done():
                self.failed.set_exception(error)

        task.add_done_callback(note_end)

    async def exchange(self, name: str, successor: EventInput | None) -> bool:
        """End a source and begin its successor, if there is one; False when that is not over after `END_SECONDS`."""
        former = self._exchanges.get(name)
        task = self._exchanges[name] = asyncio.create_task(self._exchange(name, successor, former))
        await asyncio.wait({task}, timeout=END_SECONDS)
        if task.done():
            task.result()
        return task.done()

    async def _exchange(self, name: str, successor: EventInput | None, former: Awaitable[None] | None) -> None:
        if former is not None:
            with contextlib.suppress(Exception):  # the reload that began it reported the error
                await former
        if (running := self._running.get(name)) is not None:
            await running.end()
            self._running.pop(name, None)
        if successor is not None:
            running = self._add(successor)
            running.task = asyncio.create_task(self._keep_running(running))

    async def stop(self) -> None:
        """End all of them at the end of the program: an event that is not durable was never accepted."""
        tasks = [*self._exchanges.values(), *(each.task for each in self._running.values() if each.task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _add(self, source: EventInput) -> RunningSource:
        running = RunningSource(source, self._road.housekeeping.submit_of(source.name))
        self._running[source.name] = running
        return running

    async def _run(self, running: RunningSource) -> None:
        source = running.source
        await source.run(running.submit, self._road.store.position(source.name), drain=False)

    async def _keep_running(self, running: RunningSource) -> None:
        logged = ""
        while True:
            running.error = ""
            try:
                return await self._run(running)
            except RelayError as error:
                if str(error) != logged:
                    _log.warning("source %s cannot begin, and is retried: %s", running.source.name, error)
                running.error = logged = str(error)
            except Exception as bug:  # noqa: BLE001  it stops nothing except this source
                running.error = f"{bug_text(bug)}; please report it with the log"
                _log.error("source %s failed, and is retried: %s", running.source.name, running.error)
            await running.settled()
            await asyncio.sleep(self._retry_seconds)
