"""What a program does from when it is ready until it is stopped: it reloads when it is asked to, and logs its status.

A configuration with a mistake changes nothing, and its mistakes are logged. Reloads never overlap. A SIGHUP
during a reload causes another one, because the files may have changed again.
"""

import asyncio
import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Protocol

from relay.config.mistake import Mistake, MistakesError
from relay.errors import ConfigurationError, InternalError, RelayError, TemporaryError
from relay.program.control import Reloaded
from relay.program.reload.loaded import Loaded
from relay.program.reload.plan import PartsByName, ReloadPlan
from relay.program.road import Road
from relay.system.operational_log import NOTICE
from relay.system.signals import Signals
from relay.values.text import error_text

_log = logging.getLogger("relay")


class RunningParts(Protocol):
    """What is reloaded: all that a program runs."""

    async def prepare(self, new: Loaded) -> ReloadPlan:
        """Find out what is to be done; a RelayError refuses it, and nothing has changed."""

    async def exchange(self, new: Loaded, what: ReloadPlan) -> tuple[str, ...]:
        """Do it. What is not over yet is answered, one sentence each; after a RelayError another reload goes on."""


def log_ready(program: str, start: Loaded, parts: str) -> None:
    """Write to the log that a program is ready, and what it consists of."""
    configuration = ", ".join(start.files) or "flags alone"
    _log.log(
        NOTICE, "ready: relay %s %s; configuration: %s; %s", program, version("relay-syslog"), configuration, parts
    )


def refuse_fixed(what: ReloadPlan, runs: PartsByName, new: Loaded) -> None:
    """MistakesError for keys that cannot change while a program runs, when they did."""
    found = []
    for key in what.fixed.exchanged:
        sentence = f'cannot change from "{runs.fixed[key]}" while relay runs; restart relay, or set it back'
        found.append(Mistake(new.locate(tuple(key.split("."))), sentence))
    if found:
        raise MistakesError(tuple(found))


class Reloads:
    """Reloads one program, as often as it is asked to."""

    def __init__(self, road: Road, read_again: Callable[[], Loaded], running: RunningParts) -> None:
        self._road = road
        self._read_again = read_again
        self._running = running
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Reloaded]] = set()

    async def serve(self, signals: Signals, failed: "asyncio.Future[None] | None" = None) -> None:
        """Reload and log the status on request, until a signal stops the program; raise what `failed` raises."""
        self._road.reload = self.reload
        stop = asyncio.create_task(signals.stopping.wait())
        ends: set[asyncio.Future[Any]] = {stop} if failed is None else {stop, failed}
        followed = (asyncio.create_task(self._follow(signals)), asyncio.create_task(self._report(signals)))
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if failed is not None and failed.done():
                failed.result()
            self._road.log_stop(signals.stopped_by)
        finally:
            self._road.refuse_reloads()
            tasks: tuple[asyncio.Task[Any], ...] = (stop, *followed, *self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def reload(self) -> Reloaded:
        """Read the configuration again and exchange what changed; returns and logs the result."""
        task = asyncio.create_task(self._reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task})
        if task.cancelled():
            return Reloaded.refused(TemporaryError("relay", "it was stopped while it reloaded"))
        return task.result()

    async def _follow(self, signals: Signals) -> None:
        while True:
            await signals.reload.wait()
            signals.reload.clear()
            await self.reload()

    async def _report(self, signals: Signals) -> None:
        while True:
            await signals.report.wait()
            signals.report.clear()
            self._road.log_status()

    async def _reload(self) -> Reloaded:
        async with self._turn:
            try:
                return await self._read_and_exchange()
            except Exception as bug:  # noqa: BLE001  whatever fails here, what runs goes on
                error = InternalError("relay", f"a bug: {error_text(bug)}", "please report it with the log")
                _log.error("the reload failed: %s", error)
                _log.debug("a bug", exc_info=bug)
                return Reloaded.refused(error)

    async def _read_and_exchange(self) -> Reloaded:
        try:
            new = await asyncio.to_thread(self._read_again)
            what = await self._running.prepare(new)
        except RelayError as error:
            _log.error("the reload is refused, the former configuration holds: %s", _number(error))
            for line in error.mistakes if isinstance(error, ConfigurationError) else ():
                _log.error("%s", line)
            return Reloaded.refused(error)
        try:
            changes = (*what.sentences, *await self._running.exchange(new, what))
        except RelayError as error:
            incomplete = TemporaryError("relay", f"the reload is not complete: {error}", "reload again")
            _log.error("%s", incomplete)
            return Reloaded.refused(incomplete)
        _log.log(NOTICE, "reloaded: %s", "; ".join(changes) or "nothing changed")
        return Reloaded(changes=changes)


def _number(error: RelayError) -> str:
    if not isinstance(error, ConfigurationError):
        return str(error)
    count = len(error.mistakes)
    return f"{count} mistake{'s' * (count != 1)}"
