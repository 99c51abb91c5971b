"""The history of a state directory: both of its spools, in the order of their commits.

An event has its message's time, else the latest time in its block. A block is skipped unread when its header rules it
out: it has none of the selected types, or is outside the selected time. Messages of other programs (type `log`) may
have any type and any time, so a block with one is read. Memory: one block, and for `newest` the events that it returns.
"""

import heapq
from collections.abc import Iterable, Iterator
from operator import itemgetter

from typing_extensions import override

from relay.errors import NoInputError
from relay.program.history.event_filter import EventFilter
from relay.program.history.past_event import History, Item, PastEvent, UnreadableStretch, past_event
from relay.spool.block import Block, Header
from relay.spool.inspection import browse
from relay.spool.inspection.browse import SpoolWalk
from relay.spool.segments.segment_reader import BlockLocation, SpoolDamage
from relay.spool.store import FOLDERS, LOCK
from relay.system.disk import Disk

Keyed = tuple[int, Item]


class SpoolHistory(History):
    """The history of a state directory: both of its spools."""

    def __init__(self, disk: Disk, state_directory: str, event_filter: EventFilter) -> None:
        require_state(disk, state_directory)
        self._disk = disk
        self._filter = event_filter
        self._folders = [f"{state_directory}/{name}" for name in FOLDERS]
        self._walks = [SpoolWalk(disk, folder) for folder in self._folders]

    @override
    def events(self) -> Iterator[Item]:
        for _, item in heapq.merge(*map(self._forward, self._walks), key=itemgetter(0)):
            yield item

    @override
    def newest(self, limit: int) -> Iterator[Item]:
        ends = [browse.end_of(self._disk, folder) for folder in self._folders]
        self._walks = [SpoolWalk(self._disk, folder, end) for folder, end in zip(self._folders, ends, strict=True)]
        last = [self._last(folder, end, limit) for folder, end in zip(self._folders, ends, strict=True) if end]
        items = [item for _, item in heapq.merge(*last, key=itemgetter(0))]
        yield from (item for item in items if isinstance(item, UnreadableStretch))
        yield from [item for item in items if isinstance(item, PastEvent)][-limit or len(items) :]

    def _forward(self, walk: SpoolWalk) -> Iterator[Keyed]:
        """The following events of one spool, keyed by commit time. The key never decreases, whatever the clock did."""
        reached = 0
        while (found := walk.read(self._may_be_in)) is not None:
            if isinstance(found, Block):
                reached = max(reached, found.header.committed)
            for item in self._items(walk.folder, found):
                yield reached, item

    def _may_be_in(self, header: Header) -> bool:
        types = frozenset(span.type for span in header.spans)
        return self._filter.may_be_in_block(types, header.earliest, header.latest)

    def _last(self, folder: str, end: BlockLocation, limit: int) -> list[Keyed]:
        """The last events of one spool, in order."""
        blocks: list[list[Keyed]] = []
        events = 0
        if limit:
            for found in browse.backwards(self._disk, folder, end, self._may_be_in):
                committed = found.header.committed if isinstance(found, Block) else 0
                items = [(committed, item) for item in self._items(folder, found)]
                blocks.append(items[-limit:])
                events += sum(isinstance(item, PastEvent) for _, item in items)
                if events >= limit:
                    break
        return [keyed for items in reversed(blocks) for keyed in items]

    def _items(self, folder: str, found: Block | SpoolDamage) -> Iterable[Item]:
        if isinstance(found, SpoolDamage):
            return (
                UnreadableStretch(
                    found.path, found.offset, f"{found.cause}; left out: {browse.blocks_text(found.first, found.last)}"
                ),
            )
        try:
            return [
                event
                for kind, _, message in found.messages()
                if self._filter.takes(event := past_event(message, kind, found.header.latest))
            ]
        except ValueError:
            return (UnreadableStretch(folder, 0, f"block {found.header.number} does not hold framed messages"),)


def require_state(disk: Disk, state_directory: str) -> None:
    """NoInputError unless relay keeps its state there."""
    if not disk.exists(f"{state_directory}/{LOCK}"):
        cause = "relay has kept no state there yet"
        raise NoInputError(state_directory, cause, "start relay, or name its folder with --state DIR or -c FILE")
