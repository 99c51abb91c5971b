"""Connections in the order of their arrival, in all and by source. Pure; times are seconds of any one clock."""

from typing import Generic, TypeVar

Item = TypeVar("Item")


class OldestFirst(Generic[Item]):
    """Items that arrived at a time from a source; each is there once."""

    def __init__(self) -> None:
        self._times: dict[Item, float] = {}
        self._by_source: dict[str, dict[Item, None]] = {}

    def __len__(self) -> int:
        return len(self._times)

    def __contains__(self, item: Item) -> bool:
        return item in self._times

    def add(self, item: Item, source: str, now: float) -> None:
        """Add an item that is not there; times must not decrease."""
        self._times[item] = now
        self._by_source.setdefault(source, {})[item] = None

    def discard(self, item: Item, source: str) -> None:
        """Remove an item, if it is there."""
        if self._times.pop(item, None) is not None:
            of_source = self._by_source[source]
            del of_source[item]
            if not of_source:
                del self._by_source[source]

    def number_of(self, source: str) -> int:
        """How many items of a source there are."""
        return len(self._by_source.get(source, ()))

    def oldest(self, before: float, source: str | None = None) -> Item | None:
        """The oldest item (of a source, if one is named) that arrived no later than `before`, or None."""
        items = self._times if source is None else self._by_source.get(source, {})
        item = next(iter(items), None)
        return item if item is not None and self._times[item] <= before else None

    def largest_source(self) -> str:
        """The source with the most items; "" without any."""
        return max(self._by_source, key=self.number_of, default="")
