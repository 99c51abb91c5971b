"""Spans of numbers, in order and apart: what lies between them, and what others leave of them. Pure."""

from collections.abc import Iterable, Iterator

Span = tuple[int, int]
"""The first and the last number."""


def size(spans: Iterable[Span]) -> int:
    """Count the numbers."""
    return sum(last - first + 1 for first, last in spans)


def between(spans: Iterable[Span], reached: int) -> Iterator[Span]:
    """What lies after `reached` and between the spans, which are in order."""
    for first, last in spans:
        if first > reached + 1:
            yield reached + 1, first - 1
        reached = last


def without(spans: Iterable[Span], others: Iterable[Span]) -> Iterator[Span]:
    """What of the spans lies in none of the others; both are in order, and neither overlaps itself."""
    rest = iter(others)
    other = next(rest, None)
    for first, last in spans:
        begin = first
        while other is not None and other[0] <= last:
            if other[0] > begin:
                yield begin, other[0] - 1
            begin = max(begin, other[1] + 1)
            if other[1] > last:
                break
            other = next(rest, None)
        if begin <= last:
            yield begin, last
