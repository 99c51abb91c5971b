"""When to try again: full jitter, within a second at first, then at most `longest` seconds. Never given up.

What trying again cannot mend (`RelayError.retryable` is False: a wrong host key, a refused key) waits the longest
interval every time. An attempt that returns begins the intervals anew. Setting `stopped` ends every wait at once.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import Final

from tenacity import RetryCallState, Retrying, retry_if_exception_type, sleep_using_event, stop_when_event_set
from tenacity.wait import wait_base, wait_random_exponential

from relay.errors import RelayError

LONGEST: Final = 60.0  # seconds

Note = Callable[[RelayError, float], None]
"""Called with why an attempt failed and how many seconds pass before the next."""


class _Wait(wait_base):
    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._jitter = wait_random_exponential(multiplier=1, max=longest)

    def __call__(self, retry_state: RetryCallState) -> float:
        error = _failure(retry_state)
        return self._jitter(retry_state) if error is None or error.retryable else self._longest


def keep_trying(attempt: Callable[[], None], stopped: threading.Event, note: Note, *, longest: float = LONGEST) -> None:
    """Call `attempt` again and again until `stopped` is set; other errors than RelayError end it.

    An attempt looks at `stopped` itself before it begins: tenacity makes one more after the event is set.
    """
    while not stopped.is_set():
        retrying = Retrying(
            retry=retry_if_exception_type(RelayError),
            wait=_Wait(longest),
            sleep=sleep_using_event(stopped),
            stop=stop_when_event_set(stopped),
            before_sleep=lambda state: _tell(state, note),
            reraise=True,
        )
        with contextlib.suppress(RelayError):  # raised only once stopped; the attempt before it was noted
            retrying(attempt)


def _tell(state: RetryCallState, note: Note) -> None:
    error = _failure(state)
    if error is not None:
        note(error, state.next_action.sleep if state.next_action else 0.0)


def _failure(state: RetryCallState) -> RelayError | None:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, RelayError) else None
