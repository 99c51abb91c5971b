"""One reading of the machine's two clocks."""

from typing import NamedTuple


class Clocks(NamedTuple):
    """Both in microseconds: the wall clock since the epoch, the boot clock (CLOCK_BOOTTIME) since the boot."""

    wall: int
    boot: int
