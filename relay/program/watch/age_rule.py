"""May segments be deleted by their age now? Pure: readings of two clocks in, the answer out.

The wall clock can jump; the boot clock (CLOCK_BOOTTIME) only runs, but begins anew with every boot. Both are in
microseconds. When the two disagree by more than an hour about the time that has passed, be it in one step or in many
small ones, nothing is deleted by age for 24 hours of the boot clock. The same holds without a reading to compare with,
and after a reboot during which the machine was off for more than an hour: the boot clock does not know how long that
was, so a wall clock that came up in the future cannot be told from it.

An `AgeRule` is what is to be remembered, in a slot: `look` answers the same value while nothing needs to be written,
which is about every quarter of an hour.
"""

from typing import Final, Self

import msgspec

from relay.values.clocks import Clocks

_SECOND: Final = 1_000_000
DISAGREEMENT: Final = 3600 * _SECOND
HOLD: Final = 24 * 3600 * _SECOND
_NOTED_EVERY: Final = 900 * _SECOND


class AgeRule(msgspec.Struct, frozen=True, kw_only=True):
    """The clocks as they were noted, and what followed from them."""

    wall: int
    boot: int
    drift: int = 0
    """How far the wall clock had run ahead of the boot clock, in this boot or since the last disagreement."""
    hold: int = HOLD
    """For how long from then on nothing is to be deleted by age."""

    @classmethod
    def begin(cls, now: Clocks) -> Self:
        """Begin without anything remembered."""
        return cls(wall=now.wall, boot=now.boot)

    def look(self, now: Clocks) -> "AgeRule":
        """What is to be remembered from now on; this very value when nothing changed."""
        ran = self._ran(now)
        drift = self.drift + (now.wall - self.wall) - ran
        if abs(drift) > DISAGREEMENT:
            return AgeRule.begin(now)
        rebooted = now.boot < self.boot
        if not rebooted and ran < _NOTED_EVERY:
            return self
        return AgeRule(wall=now.wall, boot=now.boot, drift=0 if rebooted else drift, hold=max(self.hold - ran, 0))

    def may_delete(self, now: Clocks) -> bool:
        """Whether age counts at this moment; to be asked of what `look` answered for it."""
        return self._ran(now) >= self.hold

    def _ran(self, now: Clocks) -> int:
        """How long the boot clock says it was; after a reboot, since that."""
        return now.boot - self.boot if now.boot >= self.boot else now.boot

    def encode(self) -> bytes:
        """As it stands in a slot."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes | None, now: Clocks) -> "AgeRule":
        """From a slot; without a value that can be read, as `begin` says."""
        try:
            return msgspec.json.decode(data or b"", type=cls)
        except msgspec.MsgspecError:
            return cls.begin(now)
