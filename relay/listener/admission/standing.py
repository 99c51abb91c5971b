"""Sources with a good sender, which strangers behind the same address cannot lock out. Pure; times are in seconds.

Behind a NAT one address belongs to many. A source has a standing while a connection of it has logged in or has sent a
message, and `REMEMBERED` seconds longer. Its penalties then let `PER_SECOND` connections pass each second. That is the
limit: strangers behind the same address compete for these connections, and each attempt of a good sender has a chance.

At most `MOST_SOURCES` without a good connection are remembered; the one that left first is forgotten first.
"""

from typing import Final

REMEMBERED: Final = 600.0
PER_SECOND: Final = 20
MOST_SOURCES: Final = 16_384


class Standing:
    """The sources with a standing."""

    def __init__(self, most: int = MOST_SOURCES) -> None:
        self._most = most
        self._open: dict[str, int] = {}
        self._left: dict[str, float] = {}  # the one that left first is the first
        self._second = 0
        self._passed: dict[str, int] = {}  # in this second

    def __len__(self) -> int:
        return len(self._open) + len(self._left)

    def begin(self, source: str) -> None:
        """A connection of the source is a good one."""
        self._open[source] = self._open.get(source, 0) + 1
        self._left.pop(source, None)

    def end(self, source: str, now: float) -> None:
        """A good connection of the source has ended."""
        self._open[source] -= 1
        if not self._open[source]:
            del self._open[source]
            self._left[source] = now
            if len(self._left) > self._most:
                del self._left[next(iter(self._left))]

    def lets_pass(self, source: str, now: float) -> bool:
        """Whether one more connection passes although the source has a penalty."""
        if source not in self._open and self._left.get(source, now - REMEMBERED) <= now - REMEMBERED:
            return False
        if self._second != int(now):
            self._second, self._passed = int(now), {}
        self._passed[source] = self._passed.get(source, 0) + 1
        return self._passed[source] <= PER_SECOND
