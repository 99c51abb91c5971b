"""When to try again: full jitter, within a second at first, then at most `longest` seconds. Never given up.

What trying again cannot mend (`RelayError.retryable` is False: a wrong host key, a refused key) waits the longest
interval every time. An attempt that returns begins the intervals anew. Setting `stopped` ends every wait at once.

A wait also ends, within LOOKING seconds, when one of `files` has changed since the last attempt began: a repaired key
or certificate is used without a restart.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set
from tenacity.wait import wait_base, wait_random_exponential

from relay.errors import RelayError
from relay.transport.from_files import states

LONGEST: Final = 60.0  # seconds
LOOKING: Final = 1.0  # seconds between two looks at the files

Note = Callable[[RelayError, float], None]
"""Called with why an attempt failed and how many seconds pass before the next."""


class _Wait(wait_base):
    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._jitter = wait_random_exponential(multiplier=1, max=longest)

    def __call__(self, retry_state: RetryCallState) -> float:
        error = _failure(retry_state)
        return self._jitter(retry_state) if error is None or error.retryable else self._longest


class _Pause:
    """Sleeps until the time has passed, `stopped` is set, or one of the files has changed since `begin`."""

    def __init__(self, stopped: threading.Event, files: Sequence[str]) -> None:
        self._stopped = stopped
        self._files = files
        self.begin()

    def begin(self) -> None:
        """An attempt begins, and may read the files."""
        self._seen = states(self._files)

    def __call__(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._stopped.wait(min(left, LOOKING) if self._files else left) or states(self._files) != self._seen:
                return


def keep_trying(
    attempt: Callable[[], None],
    stopped: threading.Event,
    note: Note,
    *,
    longest: float = LONGEST,
    files: Sequence[str] = (),
) -> None:
    """Call `attempt` again and again until `stopped` is set; other errors than RelayError end it.

    An attempt looks at `stopped` itself before it begins: tenacity makes one more after the event is set.
    """
    pause = _Pause(stopped, files)

    def begin() -> None:
        pause.begin()
        attempt()

    while not stopped.is_set():
        retrying = Retrying(
            retry=retry_if_exception_type(RelayError),
            wait=_Wait(longest),
            sleep=pause,
            stop=stop_when_event_set(stopped),
            before_sleep=lambda state: _tell(state, note),
            reraise=True,
        )
        with contextlib.suppress(RelayError):  # raised only once stopped; the attempt before it was noted
            retrying(begin)


def _tell(state: RetryCallState, note: Note) -> None:
    error = _failure(state)
    if error is not None:
        note(error, state.next_action.sleep if state.next_action else 0.0)


def _failure(state: RetryCallState) -> RelayError | None:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, RelayError) else None
