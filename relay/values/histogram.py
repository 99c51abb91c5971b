"""A histogram of durations, as Prometheus has them. Pure.

One thread adds to a histogram; others may read it at any time. Such a reader may see the sum of one observation more
than the counts.
"""

import bisect
from collections.abc import Sequence
from typing import Final

COMMIT_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Seconds that a disk needs."""
PROOF_BOUNDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86_400.0)
"""Seconds until a far end has proven a message."""


class Histogram:
    """Counts of durations up to each bound; the last count is of those beyond all bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a duration; a negative one, of a clock that was set back, as 0."""
        seconds = max(seconds, 0.0)
        self.counts[bisect.bisect_left(self.bounds, seconds)] += times
        self.sum += seconds * times

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[float, int]]:
        """For each bound, and for infinity, how many durations are not longer."""
        total, pairs = 0, list[tuple[float, int]]()
        for bound, count in zip((*self.bounds, float("inf")), tuple(self.counts), strict=True):
            total += count
            pairs.append((bound, total))
        return pairs
