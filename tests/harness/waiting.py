"""Wait for a condition with a deadline, instead of sleeping for a fixed time."""

import asyncio
import time
from collections.abc import Callable

_PAUSE = 0.005  # seconds between two looks
_REST = 2  # after a slow look the pause is this many times as long as the look, so that looking slows nothing down


def wait_until(condition: Callable[[], object], seconds: float, what: str | Callable[[], str]) -> None:
    """Return when the condition is true; after `seconds` AssertionError with `what`, a text or its maker.

    The last look begins after the deadline: a test that was kept from running still gets one.
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


async def until(condition: Callable[[], object], seconds: float = 60, what: str = "the condition") -> None:
    """`wait_until` for a coroutine: the loop runs meanwhile. The seconds are the loop's, and a test may move them."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(_PAUSE)
