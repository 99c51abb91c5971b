"""The parts that must work as long as their program runs: a bug never ends one of them unseen.

The work of a thread is begun anew after a bug. A task without which the program would only seem to run ends the
program, with exit code 70, and the service manager starts it anew: what was accepted is durable, and everything else is
sent again. Either way the log has one line, with the place of the bug.
"""

import asyncio
import functools
import logging
import threading
from collections.abc import Callable
from typing import Final

from relay.errors import InternalError
from relay.values.text import bug_text

RESTART_SECONDS: Final = 5.0
REMEDY: Final = "please report it with the log"

_log = logging.getLogger("relay")


def keep_running(
    what: str, work: Callable[[], None], stopped: threading.Event, *, pause: float = RESTART_SECONDS
) -> None:
    """Do `work` until it returns; after a bug again, unless `stopped` is set. The body of a thread."""
    while not stopped.is_set():
        try:
            return work()
        except Exception as bug:  # noqa: BLE001  as above
            _log.error("%s failed and begins anew in %g s: %s; %s", what, pause, bug_text(bug), REMEDY)
        stopped.wait(pause)
    return None


class Supervisor:
    """Watches the tasks of one program. For the event loop's thread."""

    def __init__(self) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises an InternalError once a task has ended by itself."""
        self.on_failure: Callable[[], None] = lambda: None
        """Called at the first failure."""

    def watch(self, what: str, task: asyncio.Task[None]) -> None:
        """The program must not go on when this task ends, unless it is cancelled."""
        task.add_done_callback(functools.partial(self._note_end, what))

    def _note_end(self, what: str, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        bug = task.exception()
        if self.failed.done():
            return
        error = InternalError(what, "it ended by itself" if bug is None else bug_text(bug), REMEDY)
        _log.error("relay cannot go on and ends: %s", error)
        self.failed.set_exception(error)
        self.failed.exception()  # so that asyncio does not log it too
        self.on_failure()
