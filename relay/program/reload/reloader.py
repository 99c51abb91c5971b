"""The requests to a program that is ready: it reloads its configuration or logs its status.

A configuration with a mistake changes nothing, and its mistakes are logged. Reloads never overlap. A SIGHUP during a
reload causes another one, because the files may have changed again.
"""

import asyncio
import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final, Protocol

from relay.config.mistake import Mistake, MistakesError
from relay.errors import ConfigurationError, InternalError, RelayError, TemporaryError
from relay.program.reload.loaded_configuration import LoadedConfiguration
from relay.program.reload.reload_plan import PartsByName, ReloadPlan
from relay.program.road import Road
from relay.program.status.control_socket import Reloaded, no_reload
from relay.system.operational_log import NOTICE
from relay.system.signals import Signals
from relay.values.text import bug_text, counted

_log = logging.getLogger("relay")

_REFUSED: Final = "the reload is refused, the former configuration holds: "


class RunningParts(Protocol):
    """All parts of a program that a reload may change."""

    async def prepare(self, new: LoadedConfiguration) -> ReloadPlan:
        """Find the changes; a RelayError refuses the reload, and nothing has changed."""

    async def exchange(self, new: LoadedConfiguration, changes: ReloadPlan) -> tuple[str, ...]:
        """Carry out `changes`. Returns a sentence for each part that is still ending.

        After a RelayError another reload continues with the rest.
        """


def log_ready(program: str, start: LoadedConfiguration, parts: str) -> None:
    """Write to the log that a program is ready, and its parts."""
    configuration = ", ".join(start.files) or "options alone"
    _log.log(
        NOTICE, "ready: relay %s %s; configuration: %s; %s", program, version("relay-syslog"), configuration, parts
    )


def refuse_fixed(changes: ReloadPlan, runs: PartsByName, new: LoadedConfiguration) -> None:
    """MistakesError if `changes` has keys that cannot change while a program runs."""
    mistakes = []
    for key in changes.fixed.exchanged:
        sentence = f'cannot change from "{runs.fixed[key]}" while relay runs; restart relay, or set it back'
        mistakes.append(Mistake(new.locate(tuple(key.split("."))), sentence))
    if mistakes:
        raise MistakesError(tuple(mistakes))


class Reloader:
    """Reloads one program, as often as it is asked to."""

    def __init__(self, road: Road, read_again: Callable[[], LoadedConfiguration], parts: RunningParts) -> None:
        self._road = road
        self._read_again = read_again
        self._parts = parts
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[Reloaded]] = set()

    async def serve(self, signals: Signals, failed: "asyncio.Future[None] | None" = None) -> None:
        """Reload and log the status on request until a signal stops the program.

        Raises what `failed` or the road's supervisor raises.
        """
        self._road.reload = self.reload
        stop = asyncio.create_task(signals.stopping.wait())
        failures: list[asyncio.Future[Any]] = [self._road.supervisor.failed, *([] if failed is None else [failed])]

        async def reload_on_request() -> None:
            while True:
                await signals.reload.wait()
                signals.reload.clear()
                await self.reload()

        async def log_status_on_request() -> None:
            while True:
                await signals.report.wait()
                signals.report.clear()
                try:
                    self._road.log_status()
                except Exception as bug:  # noqa: BLE001  the program, and the next request, must go on
                    _log.error("the status cannot be logged: %s; please report it with the log", bug_text(bug))

        answering = (asyncio.create_task(reload_on_request()), asyncio.create_task(log_status_on_request()))
        try:
            await asyncio.wait([stop, *failures], return_when=asyncio.FIRST_COMPLETED)
            for each in failures:
                if each.done():
                    each.result()
            self._road.log_stop(signals.stopped_by)
        finally:
            self._road.reload = no_reload
            tasks: tuple[asyncio.Task[Any], ...] = (stop, *answering, *self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def reload(self) -> Reloaded:
        """Read the configuration again and exchange the changed parts; returns and logs the result."""

        async def reload_in_turn() -> Reloaded:
            async with self._one_at_a_time:
                try:
                    return await self._read_and_exchange()
                except Exception as bug:  # noqa: BLE001  the program continues after any failure here
                    error = InternalError("relay", bug_text(bug), "please report it with the log")
                    _log.error("the reload failed: %s", error)
                    return Reloaded.refused(error)

        task = asyncio.create_task(reload_in_turn())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task})
        if task.cancelled():
            return Reloaded.refused(TemporaryError("relay", "it was stopped while it reloaded"))
        return task.result()

    async def _read_and_exchange(self) -> Reloaded:
        try:
            new = await asyncio.to_thread(self._read_again)
            plan = await self._parts.prepare(new)
        except ConfigurationError as error:
            _log.error("%s%s", _REFUSED, counted(len(error.mistakes), "mistake"))
            for mistake in error.mistakes:
                _log.error("%s", mistake)
            return Reloaded.refused(error)
        except RelayError as error:
            _log.error("%s%s", _REFUSED, error)
            return Reloaded.refused(error)
        try:
            changes = (*plan.sentences, *await self._parts.exchange(new, plan))
        except RelayError as error:
            incomplete = TemporaryError("relay", f"the reload is not complete: {error}", "reload again")
            _log.error("%s", incomplete)
            return Reloaded.refused(incomplete)
        _log.log(NOTICE, "reloaded: %s", "; ".join(changes) or "nothing changed")
        return Reloaded(changes=changes)
