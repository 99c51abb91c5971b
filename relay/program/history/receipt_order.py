"""Merges readers by the time of receipt. Few are open at a time, so thousands of originators take little memory.

A reader is opened when its turn comes, from what is known about it before: no item of it comes earlier (backward:
later) than its key. When too many are open, the one that has just been used is closed, because its next item is usually
the farthest away. It is opened again at that item. So a reader must begin where the last one of the same originator
ended: behind the last item after which the caller asked for another.
"""

import heapq
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Final, NamedTuple

from relay.program.history.past_event import Item, UnreadableStretch

MOST_OPEN: Final = 1000
"""Readers; one has about 20 KiB. With more, a message can cost an opening: about 0.1 ms instead of 0.02 ms."""

Keyed = tuple[int, Item | None]
"""The time of receipt, and an item; None: nothing comes before this time (backward: after it)."""
Reader = Generator[Keyed, None, None]


class Waiting(NamedTuple):
    """A reader that is not open."""

    key: int
    open: Callable[[], Reader]


def merged(waiting: Iterable[Waiting], *, backward: bool = False, most_open: int = MOST_OPEN) -> Iterator[Item | None]:
    """The items of all readers in order; at equal times those of one reader follow each other."""
    sign = -1 if backward else 1
    openers: list[Callable[[], Reader]] = []
    order: list[tuple[int, int]] = []
    for number, reader_to_open in enumerate(waiting):
        order.append((sign * reader_to_open.key, number))
        openers.append(reader_to_open.open)
    heapq.heapify(order)
    is_open: dict[int, tuple[Reader, Item | None]] = {}
    while order:
        key, number = order[0]
        if number in is_open:
            reader, item = is_open[number]
            yield item
        else:
            reader = openers[number]()
        head = next(reader, None)
        if head is None:
            heapq.heappop(order)
            is_open.pop(number, None)
            continue
        heapq.heapreplace(order, (max(key, sign * head[0]), number))
        is_open[number] = reader, head[1]
        # What cannot be read is reported once, so its reader is not closed before it is used.
        if len(is_open) > most_open and order[0][1] != number and not isinstance(head[1], UnreadableStretch):
            is_open.pop(number)[0].close()
