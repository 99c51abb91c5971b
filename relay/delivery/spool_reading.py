"""Reads a destination's blocks from its cursor on: both spools in order, whole blocks or a few messages at a time.

Messages proven ahead of the cursor (probes, see relay.delivery.suspicion) are left out. Memory: one block of each
spool.
"""

import itertools
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from relay.delivery.message_selection import MessageSelection
from relay.delivery.sessions.delivery_session import MessageId
from relay.errors import RelayError
from relay.spool.block import Block
from relay.spool.both_spools import BothSpools
from relay.spool.cursor import BlockPosition, Cursor
from relay.spool.segments.segment_reader import SpoolDamage
from relay.spool.spool_reader import SpoolReader
from relay.spool.store import Store

PROBES: Final = 256
"""The probe is chosen among so many messages after a suspected one."""


class BlockPiece(NamedTuple):
    """Consecutive messages of one block."""

    spool: int
    """0: retained, 1: transient."""
    block: Block
    first: int
    """The first message's index in its block."""
    messages: int
    """How many are selected."""
    left_out: int
    """How many selected messages directly before it are proven already."""
    after: BlockPosition
    """Behind its last message."""

    @property
    def start(self) -> BlockPosition:
        """Of its first message."""
        return self.block.header.number, self.first

    def index_of(self, message: MessageId) -> int | None:
        """A message's index in the block; None when it is not in this piece."""
        header = self.block.header
        if header.run != message.run:
            return None
        start = self.first
        for span in header.spans:
            if span.type == message.type and 0 <= message.number - span.first < span.messages:
                return start + message.number - span.first
            start += span.messages
        return None


class SpoolReading:
    """Reads for one session; close it at the session's end."""

    def __init__(self, store: Store, destination: str, selection: MessageSelection, cursor: Cursor) -> None:
        self._losses = store.losses
        self._destination = destination
        self._selection = selection
        self._readers: Final = SpoolReader.of_both(store.spools, cursor.blocks)
        self._reached = list(cursor.reached)
        self._rests: list[Block | None] = [None, None]

    def close(self) -> None:
        """Close its files."""
        for reader in self._readers:
            reader.close()

    @property
    def reached(self) -> BothSpools[BlockPosition]:
        """How far it has read in each spool."""
        return BothSpools(
            *(
                reached if rest is not None else max(reached, (reader.next_number, 0))
                for reached, rest, reader in zip(self._reached, self._rests, self._readers, strict=True)
            )
        )

    @property
    def more(self) -> bool:
        """Whether more blocks can be read."""
        return any(
            rest is not None or (reader.spool.last is not None and reader.spool.last.number >= reader.next_number)
            for rest, reader in zip(self._rests, self._readers, strict=True)
        )

    def next(self, spool: int | None, limit: int, ahead: Collection[MessageId]) -> BlockPiece | SpoolDamage | None:
        """Read at most `limit` selected messages (0: any number) of one spool, or of either; None without any.

        Messages in `ahead` are proven already, and left out.
        """
        for each in (0, 1) if spool is None else (spool,):
            if self._rests[each] is None:
                item = self._losses.read(self._destination, self._readers, only=each)
                if isinstance(item, SpoolDamage):
                    return item
                if item is None:
                    continue
                number, index = self._reached[each]
                first = index if number == item.header.number else 0
                self._reached[each] = (item.header.number, first)
                self._rests[each] = item.cut(first, item.header.messages)
            if (rest := self._rests[each]) is not None:
                return self._next_piece(each, rest, limit, ahead)
        return None

    def _next_piece(self, spool: int, rest: Block, limit: int, ahead: Collection[MessageId]) -> BlockPiece:
        """The next piece of what is left of a block: it begins after messages in `ahead`, and ends before the next."""
        number, begin = self._reached[spool]
        total = rest.header.messages
        first, end, left_out = 0, total, 0
        if limit or ahead:
            count = end = 0
            for one in rest.singly():
                selected = self._selection.count(one)
                if first_message_id(one) in ahead:
                    if end > first:
                        break
                    left_out += selected
                    first = end = end + 1
                    continue
                if limit and count + selected > limit:
                    break
                count += selected
                end += 1
        cut = rest.cut(first, end)
        self._rests[spool] = rest.cut(end, total) if end < total else None
        after = (number, begin + end) if end < total else (self._readers[spool].next_number, 0)
        self._reached[spool] = after
        return BlockPiece(spool, cut, begin + first, self._selection.count(cut), left_out, after)


def first_message_id(block: Block) -> MessageId:
    """The identity of a block's first message."""
    first = block.header.spans[0]
    return MessageId(block.header.run, first.type, first.first)


def selected_before(piece: BlockPiece, index: int, store: Store, selection: MessageSelection) -> int:
    """How many selected messages of a piece come before an index of its block, which is read again for that."""
    reader = SpoolReader(store.transient if piece.spool else store.retained, piece.block.header.number)
    try:
        found = reader.read()
    except RelayError:  # it is deleted meanwhile: the count is for people only
        found = None
    finally:
        reader.close()
    return selection.count(found.cut(piece.first, index)) if isinstance(found, Block) else index - piece.first


def first_selected(store: Store, selection: MessageSelection, cursor: Cursor, spool: int) -> BlockPiece | None:
    """The first selected message of a spool from the cursor on."""
    return next(_single_messages(store, selection, cursor, spool), None)


def choose_probe(
    store: Store, selection: MessageSelection, suspected: tuple[Cursor, int], choice: int, ahead: Collection[MessageId]
) -> BlockPiece | None:
    """A message other than the suspected one, which is the first of a spool from a cursor on; None without any.

    Messages in `ahead` are proven already. The smallest is the best choice (0), because collectors object to size more
    than to anything else.
    """
    cursor, spool = suspected
    in_order = [_single_messages(store, selection, cursor, each) for each in (0, 1)]
    next(in_order[spool], None)
    found = [
        piece
        for piece in itertools.islice(itertools.chain(*in_order), PROBES)
        if first_message_id(piece.block) not in ahead
    ]
    found.sort(key=lambda piece: piece.block.header.payload_length)
    return found[choice % len(found)] if found else None


def _single_messages(store: Store, selection: MessageSelection, cursor: Cursor, spool: int) -> Iterator[BlockPiece]:
    """The selected messages of a spool from the cursor on, one at a time."""
    source, (number, part) = store.spools[spool], cursor.reached[spool]
    reader = SpoolReader(source, number)
    try:
        while (found := reader.read()) is not None:
            if isinstance(found, SpoolDamage):
                continue
            total = found.header.messages
            first = part if found.header.number == number else 0
            for index, one in enumerate(found.cut(first, total).singly(), first):
                if selection.count(one):
                    after = (found.header.number, index + 1) if index + 1 < total else (reader.next_number, 0)
                    yield BlockPiece(spool, one, index, 1, 0, after)
    finally:
        reader.close()
