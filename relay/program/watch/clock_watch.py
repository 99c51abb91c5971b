"""Whether the wall clock was set: between two looks, and between two runs of relay on one boot. Pure.

The boot clock only runs. So the wall clock was set when it went further, or less far, than the boot clock did. NTP
slews a clock by at most 500 ppm. A leap second, and any step below two seconds, changes nothing that relay does.
"""

from typing import Final

from relay.values.clocks import Clocks

_SECOND: Final = 1_000_000
SMALLEST_STEP: Final = 2 * _SECOND
_SLEW: Final = 1000
"""The thousandth part of the time between two readings: twice what NTP slews."""


class ClockWatch:
    """Compares each reading of both clocks with the one before."""

    def __init__(self, former: Clocks) -> None:
        self._former = former

    def look(self, now: Clocks) -> int:
        """By how many microseconds the wall clock was set since the last reading, negative: back; 0: it was not."""
        ran = now.boot - self._former.boot
        step = now.wall - self._former.wall - ran
        self._former = now
        return step if ran >= 0 and abs(step) >= SMALLEST_STEP + ran // _SLEW else 0
