"""The wall clock."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Microseconds since the epoch."""


def wall_clock() -> int:
    """Now, in microseconds since the epoch."""
    return time.time_ns() // 1000
