"""When a failed attempt is repeated: relay's only schedule of growing, random delays. relay never gives up.

`Backoff` computes delays; `keep_trying` decides to wait and waits. An error that another attempt cannot repair
(`RelayError.retryable` is False: a wrong host key, a rejected key) waits for the longest delay every time.

Polls of something on this machine at a fixed interval are not retries in this sense: nothing is spared by a longer
delay, and no other machine is protected by a random one.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set

from relay.errors import RelayError
from relay.transport.from_files import states

LONGEST: Final = 60.0  # seconds
FILE_CHECK_INTERVAL: Final = 1.0  # seconds
_MOST_DOUBLINGS: Final = 20

ReportFailure = Callable[[RelayError, float], None]
"""Called with a failed attempt's error and the seconds until the next attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays between attempts, in seconds: random parts of an interval that doubles with each failure in a row."""

    first: float = 1.0
    longest: float = LONGEST
    least: float = 0.0  # the part of the interval that every delay has at least, from 0 (full jitter) to 1 (no jitter)

    def delay(self, failures: int, error: RelayError | None = None) -> float:
        """How long to wait after so many failures in a row, the last one by that error."""
        if error is not None and not error.retryable:
            return self.longest
        interval = self.first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)
        return min(interval, self.longest) * random.uniform(self.least, 1)  # noqa: S311 - not a secret


def keep_trying(
    attempt: Callable[[], None],
    stopped: threading.Event,
    report: ReportFailure,
    *,
    backoff: Backoff | None = None,
    files: Sequence[str] = (),
) -> None:
    """Repeat `attempt` until `stopped` is set; an attempt that returns resets the delays.

    Setting `stopped` ends a wait at once. A wait also ends, within FILE_CHECK_INTERVAL seconds, when one of `files` has
    changed since the attempt began, so a repaired key or certificate is used without a restart.

    An error that is not a RelayError ends it. An attempt must check `stopped` itself before it does anything, because
    tenacity makes one more attempt after the event is set.
    """
    delays = backoff or Backoff()
    seen = states(files)

    def begin() -> None:
        nonlocal seen
        seen = states(files)
        attempt()

    def sleep(seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if stopped.wait(min(left, FILE_CHECK_INTERVAL) if files else left) or states(files) != seen:
                return

    def before_sleep(state: RetryCallState) -> None:
        if (error := _failure(state)) is not None:
            report(error, state.next_action.sleep if state.next_action else 0.0)

    while not stopped.is_set():
        retrying = Retrying(
            retry=retry_if_exception_type(RelayError),
            wait=lambda state: delays.delay(state.attempt_number, _failure(state)),
            sleep=sleep,
            stop=stop_when_event_set(stopped),
            before_sleep=before_sleep,
            reraise=True,
        )
        with contextlib.suppress(RelayError):  # raised only once stopped; earlier failures were reported
            retrying(begin)


def _failure(state: RetryCallState) -> RelayError | None:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, RelayError) else None
