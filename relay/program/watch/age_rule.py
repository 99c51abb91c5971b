"""Whether segments may be deleted by their age now, decided by two clocks. Pure.

The wall clock can jump; the boot clock (CLOCK_BOOTTIME) only runs, but begins anew with every boot. Both are in
microseconds. When the two disagree by more than an hour about the time that has passed, in one step or in many small
ones, nothing is deleted by age for 24 hours of the boot clock. The same holds without a former reading, and after a
reboot during which the machine was off for more than an hour: the boot clock does not know for how long, so that could
as well be a wall clock that came up in the future.

A slot keeps an `AgeRule`. `look` returns the same value while nothing needs to be written, about a quarter of an hour.
"""

from typing import Final, Self

import msgspec

from relay.values.clocks import Clocks

_SECOND: Final = 1_000_000
DISAGREEMENT: Final = 3600 * _SECOND
HOLD: Final = 24 * 3600 * _SECOND
_NOTED_EVERY: Final = 900 * _SECOND


class AgeRule(msgspec.Struct, frozen=True, kw_only=True):
    """A reading of the clocks, and the conclusions from it."""

    wall: int
    boot: int
    drift: int = 0
    """How far the wall clock is ahead of the boot clock, since the boot or the last disagreement."""
    hold: int = HOLD
    """For how long from then on nothing may be deleted by age."""

    @classmethod
    def begin(cls, now: Clocks) -> Self:
        """Begin without a former reading."""
        return cls(wall=now.wall, boot=now.boot)

    def look(self, now: Clocks) -> "AgeRule":
        """The rule to keep from now on; this very value when nothing changed."""
        ran = self._ran(now)
        drift = self.drift + (now.wall - self.wall) - ran
        if abs(drift) > DISAGREEMENT:
            return AgeRule.begin(now)
        rebooted = now.boot < self.boot
        if not rebooted and ran < _NOTED_EVERY:
            return self
        return AgeRule(wall=now.wall, boot=now.boot, drift=0 if rebooted else drift, hold=max(self.hold - ran, 0))

    def may_delete(self, now: Clocks) -> bool:
        """Whether segments may be deleted by age now; to be asked of the value that `look` returned for `now`."""
        return self._ran(now) >= self.hold

    def _ran(self, now: Clocks) -> int:
        """The time since the reading, by the boot clock; after a reboot, the time since that."""
        return now.boot - self.boot if now.boot >= self.boot else now.boot

    def encode(self) -> bytes:
        """The content of a slot."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes | None, now: Clocks) -> "AgeRule":
        """From the content of a slot; unreadable content is like none."""
        try:
            return msgspec.json.decode(data or b"", type=cls)
        except msgspec.MsgspecError:
            return cls.begin(now)
