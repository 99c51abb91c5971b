"""Waiting for a condition, with a deadline: what tests do instead of sleeping for a fixed time."""

import time
from collections.abc import Callable

_PAUSE = 0.01  # seconds between two looks
_REST = 2  # a look that takes long is followed by a pause so many times as long: it must not slow what is waited for


def wait_until(condition: Callable[[], object], seconds: float, what: str | Callable[[], str]) -> None:
    """Return once the condition holds; else AssertionError saying `what`, which is a text or makes one.

    The last look begins when the time is over: whoever was kept from looking meanwhile still gets one.
    """
    deadline = time.monotonic() + seconds
    while True:
        looked = time.monotonic()
        if condition():
            return
        if looked > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what if isinstance(what, str) else what()}")
        rest = max(_PAUSE, _REST * (time.monotonic() - looked))
        time.sleep(max(_PAUSE, min(rest, deadline - time.monotonic())))
