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
from relay.program.history.bookmark import SpoolPosition
from relay.program.history.event_filter import EventFilter
from relay.program.history.past_event import History, Item, PastEvent, UnreadableStretch
from relay.spool.block import Block, Header
from relay.spool.inspection import browse
from relay.spool.inspection.browse import SpoolWalk
from relay.spool.segments.segment_reader import BlockLocation, SpoolDamage
from relay.spool.store import FOLDERS, LOCK
from relay.system.disk import Disk

Keyed = tuple[int, Item]


class SpoolHistory(History):
    """The history of a state directory: both of its spools."""

    def __init__(
        self,
        disk: Disk,
        state_directory: str,
        event_filter: EventFilter,
        positions: dict[str, SpoolPosition] | None = None,
    ) -> None:
        """`positions`: continue from these, by the spools' folders below the state directory."""
        require_state(disk, state_directory)
        self._disk = disk
        self._filter = event_filter
        self.positions = dict(positions or {})
        """How far each spool was read; exact whenever the caller asks for the next event."""
        self._folders = {name: f"{state_directory}/{name}" for name in FOLDERS}
        self._walks = {name: SpoolWalk(disk, folder, self._start(name)) for name, folder in self._folders.items()}

    def _start(self, name: str) -> BlockLocation | None:
        """Where the position says to continue; None when it is of a spool that was replaced meanwhile."""
        position = self.positions.get(name)
        if position is None or browse.spool_id(self._disk, self._folders[name]).hex() != position.spool:
            self.positions.pop(name, None)
            return None
        return BlockLocation(position.first, position.offset, position.number)

    @override
    def events(self) -> Iterator[Item]:
        streams = [self._forward(name, walk) for name, walk in self._walks.items()]
        for _, item in heapq.merge(*streams, key=itemgetter(0)):
            yield item

    @override
    def newest(self, limit: int) -> Iterator[Item]:
        ends = {name: browse.end_of(self._disk, folder) for name, folder in self._folders.items()}
        self._walks = {name: SpoolWalk(self._disk, folder, ends[name]) for name, folder in self._folders.items()}
        for name, end in ends.items():
            if end is not None:
                self._used(name, end, 0, 0)
        last = [self._last(self._folders[name], end, limit) for name, end in ends.items() if end]
        items = [item for _, item in heapq.merge(*last, key=itemgetter(0))]
        yield from (item for item in items if isinstance(item, UnreadableStretch))
        yield from [item for item in items if isinstance(item, PastEvent)][-limit or len(items) :]

    def _forward(self, name: str, walk: SpoolWalk) -> Iterator[Keyed]:
        """The following events of one spool, keyed by commit time. The key never decreases, whatever the clock did."""
        reached = 0
        before = walk.location
        while (found := walk.read(self._may_be_in)) is not None:
            block, used = 0, 0
            if isinstance(found, Block):
                reached = max(reached, found.header.committed)
                block = found.header.number
                position = self.positions.get(name)
                used = position.used if position is not None and position.block == block else 0
            for number, item in self._items(walk.folder, found):
                if number < used:
                    continue
                yield reached, item
                if before is not None and block:
                    self._used(name, before, block, number + 1)
            before = walk.location
            if before is not None:
                self._used(name, before, 0, 0)

    def _used(self, name: str, location: BlockLocation, block: int, used: int) -> None:
        """Note that everything before this location was used, and so many messages of a block behind it."""
        known = self.positions.get(name)
        spool = known.spool if known is not None else browse.spool_id(self._disk, self._folders[name]).hex()
        self.positions[name] = SpoolPosition(spool, *location, block, used)

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
                items = [(committed, item) for _, item in self._items(folder, found)]
                blocks.append(items[-limit:])
                events += sum(isinstance(item, PastEvent) for _, item in items)
                if events >= limit:
                    break
        return [keyed for items in reversed(blocks) for keyed in items]

    def _items(self, folder: str, found: Block | SpoolDamage) -> Iterable[tuple[int, Item]]:
        """What is selected of a block, each with its number among the block's messages."""
        if isinstance(found, SpoolDamage):
            cause = f"{found.cause}; left out: {browse.blocks_text(found.first, found.last)}"
            return ((0, UnreadableStretch(found.path, found.offset, cause)),)
        try:
            return [
                (number, event)
                for number, (kind, _, message) in enumerate(found.messages())
                if self._filter.takes(event := PastEvent(message, kind, found.header.latest))
            ]
        except ValueError:
            cause = f"block {found.header.number} does not hold framed messages"
            return ((0, UnreadableStretch(folder, 0, cause)),)


def require_state(disk: Disk, state_directory: str) -> None:
    """NoInputError unless relay keeps its state there."""
    if not disk.exists(f"{state_directory}/{LOCK}"):
        cause = "relay has kept no state there yet"
        raise NoInputError(state_directory, cause, "start relay, or name its folder with --state DIR or -c FILE")
