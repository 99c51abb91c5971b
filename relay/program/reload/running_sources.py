"""The sources of `relay run` at work: each can be begun and ended by itself while the others go on.

A source that is ended gives nothing more, and what it gave is durable, before its successor begins: so the successor
goes on where it stopped, and nothing is lost or repeated. While the spool takes nothing in, that takes as long.

A source that is there from the start ends the program when it cannot begin, because someone looks on. One that a
reload began is tried again.
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
from relay.values.text import error_text

RETRY_SECONDS: Final = 2.0
END_SECONDS: Final = 10.0
"""How long a reload waits for a source that ends; its successor begins when it has ended, also later."""

_log = logging.getLogger("relay.source")


class _Running:
    """One source at work."""

    def __init__(self, source: EventInput, submit: Submit) -> None:
        self.source = source
        self.error = ""
        """Why it could not begin; it is tried again."""
        self.task: asyncio.Task[None] | None = None
        self.ending = False
        self._submit = submit
        self._in_flight: set[asyncio.Future[None]] = set()

    async def submit(self, batch: Batch) -> "asyncio.Future[None]":
        durable = await self._submit(batch)
        self._in_flight.add(durable)
        durable.add_done_callback(self._in_flight.discard)
        return asyncio.shield(durable)  # a source that is cancelled while it waits must not end our own wait

    async def end(self) -> None:
        """Return when it gives nothing more, and all that it gave is durable."""
        self.ending = True
        if self.task is not None:
            await asyncio.wait({self.task}, timeout=self.source.finish())
            self.task.cancel()
            await asyncio.wait({self.task})
            if not self.task.cancelled() and (error := self.task.exception()) is not None:
                _log.warning("source %s ended: %s", self.source.name, error)
        await self.settled()

    async def settled(self) -> None:
        """Return when all that it gave is durable."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)


class RunningSources:
    """All of them, by name."""

    def __init__(self, road: Road) -> None:
        self._road = road
        self._running: dict[str, _Running] = {}
        self._exchanges: dict[str, asyncio.Task[None]] = {}
        """Those that are under way."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises the error of a source that ends the program."""

    def source(self, name: str) -> EventInput | None:
        """The one that is at work under that name."""
        running = self._running.get(name)
        return running.source if running is not None else None

    def error(self, name: str) -> str:
        """Why that source could not begin; empty while all is well."""
        running = self._running.get(name)
        return running.error if running is not None else ""

    def begin(self, source: EventInput) -> None:
        """Begin with one that is there from the start of the program."""
        running = self._add(source)
        running.task = asyncio.create_task(self._run(running))
        running.task.add_done_callback(lambda task: self._note_end(running, task))

    async def exchange(self, name: str, successor: EventInput | None) -> bool:
        """End one, and begin with its successor if there is one; False when that goes on by itself."""
        before = self._exchanges.get(name)
        task = self._exchanges[name] = asyncio.create_task(self._exchange(name, successor, before))
        await asyncio.wait({task}, timeout=END_SECONDS)
        if task.done():
            task.result()
        return task.done()

    async def stop(self) -> None:
        """End all, as a program ends: what is not durable was never accepted."""
        tasks = [*self._exchanges.values(), *(each.task for each in self._running.values() if each.task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _add(self, source: EventInput) -> _Running:
        running = self._running[source.name] = _Running(source, self._road.submit_of(source.name))
        return running

    async def _exchange(self, name: str, successor: EventInput | None, before: Awaitable[None] | None) -> None:
        if before is not None:
            with contextlib.suppress(Exception):  # the reload that began it reported that
                await before
        if (former := self._running.get(name)) is not None:
            await former.end()
            self._running.pop(name, None)
        if successor is not None:
            running = self._add(successor)
            running.task = asyncio.create_task(self._keep_running(running))

    async def _run(self, running: _Running) -> None:
        source = running.source
        await source.run(running.submit, self._road.store.position(source.name), drain=False)

    async def _keep_running(self, running: _Running) -> None:
        logged = ""
        while True:
            running.error = ""
            try:
                await self._run(running)
            except RelayError as error:
                if str(error) != logged:
                    _log.warning("source %s cannot begin, and is tried again: %s", running.source.name, error)
                running.error = logged = str(error)
            except Exception as bug:  # noqa: BLE001  it stops nothing but this source
                running.error = f"a bug: {error_text(bug)}; please report it with the log"
                _log.error("source %s failed, and is tried again: %s", running.source.name, running.error)
                _log.debug("a bug", exc_info=bug)
            else:
                return
            await running.settled()
            await asyncio.sleep(RETRY_SECONDS)

    def _note_end(self, running: _Running, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not running.ending and not self.failed.done():
            self.failed.set_exception(error)
