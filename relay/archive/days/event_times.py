"""The times of a day's events as a few spans, so that a query can pass over the day. Pure.

Most events of a day happened on that day or shortly before. A device without a clock says 1970 or 1993 until it has
asked a time server. One span from 1993 to now would make every query open that day, so times that lie more than `FAR`
apart are different spans: the one with the most messages is the day's `time`, and the others are its outliers.
Together they always cover every event.
"""

from bisect import bisect_left
from typing import Final, NamedTuple

from relay.archive.ledger import Extent

FAR: Final = 86_400_000_000
"""Microseconds."""
MAX_SPANS: Final = 64
MAX_OUTLIERS: Final = 8

Span = tuple[int, int]


class _Cluster(NamedTuple):
    begin: int
    end: int
    messages: int


class EventTimes:
    """The spans of one day; each two of them are more than `FAR` apart."""

    __slots__ = ("_clusters",)

    def __init__(self) -> None:
        self._clusters: list[_Cluster] = []

    def add_extent(self, extent: Extent) -> None:
        """Add the events of an extent; those without a usable time count with their time of receipt."""
        self.add(*(extent.time or extent.at), extent.n)
        if extent.time is not None and any("no-time" in labels for labels in extent.marks.values()):
            self.add(*extent.at, 0)

    def add(self, begin: int, end: int, messages: int = 1) -> None:
        """Add messages whose times lie between these two, both included."""
        clusters = self._clusters
        begin, end = min(begin, end), max(begin, end)
        first = bisect_left(clusters, begin - FAR, key=lambda each: each.end)
        last = first
        while last < len(clusters) and clusters[last].begin <= end + FAR:
            last += 1
        near = clusters[first:last]
        clusters[first:last] = [_merged([*near, _Cluster(begin, end, messages)])]
        if len(clusters) > MAX_SPANS:
            _join_nearest(clusters, MAX_SPANS)

    def closing(self) -> tuple[Span | None, tuple[Span, ...]]:
        """The day's `time` and `outliers` for its `Closing`; None for a day without events."""
        clusters = list(self._clusters)
        if not clusters:
            return None, ()
        _join_nearest(clusters, MAX_OUTLIERS + 1)
        main = max(clusters, key=lambda each: each.messages)
        return (main.begin, main.end), tuple((each.begin, each.end) for each in clusters if each is not main)


def _merged(clusters: list[_Cluster]) -> _Cluster:
    return _Cluster(
        min(each.begin for each in clusters),
        max(each.end for each in clusters),
        sum(each.messages for each in clusters),
    )


def _join_nearest(clusters: list[_Cluster], count: int) -> None:
    """Join the two neighbours with the smallest distance until there are at most `count`."""
    while len(clusters) > count:
        nearest = min(range(len(clusters) - 1), key=lambda index: clusters[index + 1].begin - clusters[index].end)
        clusters[nearest : nearest + 2] = [_merged(clusters[nearest : nearest + 2])]
