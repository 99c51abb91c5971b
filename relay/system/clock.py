"""The machine's clocks."""

import time
from collections.abc import Callable

from relay.values.clocks import Clocks

Clock = Callable[[], int]
"""Microseconds since the epoch."""


def wall_clock() -> int:
    """Now, in microseconds since the epoch."""
    return time.time_ns() // 1000


def read_clocks() -> Clocks:
    """Both clocks now; the boot clock also counts the time in which the machine was suspended."""
    return Clocks(wall_clock(), time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000)
