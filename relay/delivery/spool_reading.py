"""What a destination reads: blocks of both spools in order, whole or a few messages at a time, from its cursor on.

Messages that are proven ahead of the cursor (a probe, see relay.delivery.suspicion) are left out. Memory: one block of
each spool.
"""

import itertools
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from relay.delivery.message_selection import MessageSelection
from relay.delivery.sessions.delivery_session import MessageId
from relay.errors import RelayError
from relay.spool.block import Block
from relay.spool.cursor import Cursor
from relay.spool.segments.segment_reader import SpoolDamage
from relay.spool.spool_reader import SpoolReader
from relay.spool.store import Store

PROBES: Final = 256
"""Among so many messages behind a suspected one the probe is chosen."""


class BlockPiece(NamedTuple):
    """Consecutive messages of one block."""

    spool: int
    """0: retained, 1: transient."""
    block: Block
    first: int
    """The index in its block of the first message."""
    messages: int
    """Those that are wanted."""
    left_out: int
    """Wanted ones right before it that are proven already."""
    after: tuple[int, int]
    """Block and index behind it."""

    @property
    def start(self) -> tuple[int, int]:
        """Block and index of its first message."""
        return self.block.header.number, self.first

    def index_of(self, message: MessageId) -> int | None:
        """A message's index in the block; None when it is not in this piece."""
        header = self.block.header
        if header.run != message.run:
            return None
        start = self.first
        for kind, number, messages in header.spans:
            if kind == message.type and 0 <= message.number - number < messages:
                return start + message.number - number
            start += messages
        return None


class SpoolReading:
    """One session's; close it at the session's end."""

    def __init__(self, store: Store, destination: str, selection: MessageSelection, cursor: Cursor) -> None:
        self._losses = store.losses
        self._destination = destination
        self._selection = selection
        self.readers: Final = (
            SpoolReader(store.retained, cursor.retained),
            SpoolReader(store.transient, cursor.transient),
        )
        self._reached = [cursor.reached_retained, cursor.reached_transient]
        self._rests: list[Block | None] = [None, None]

    def close(self) -> None:
        """Close its files."""
        for reader in self.readers:
            reader.close()

    @property
    def reached(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Block and index up to which it has read, of each spool."""
        return self._reached_of(0), self._reached_of(1)

    def _reached_of(self, spool: int) -> tuple[int, int]:
        if self._rests[spool] is not None:
            return self._reached[spool]
        return max(self._reached[spool], (self.readers[spool].next_number, 0))

    @property
    def more(self) -> bool:
        """Whether more is there to be read."""
        return any(
            rest is not None or (reader.spool.last is not None and reader.spool.last.number >= reader.next_number)
            for rest, reader in zip(self._rests, self.readers, strict=True)
        )

    def next(self, spool: int | None, limit: int, passed: Collection[MessageId]) -> BlockPiece | SpoolDamage | None:
        """At most `limit` wanted messages (0: any number) of one spool, or of either; None when none is there yet.

        Messages in `passed` are left out.
        """
        for each in (0, 1) if spool is None else (spool,):
            if self._rests[each] is None:
                item = self._losses.read(self._destination, *self.readers, only=each)
                if isinstance(item, SpoolDamage):
                    return item
                if item is None:
                    continue
                number, index = self._reached[each]
                first = index if number == item.header.number else 0
                self._reached[each] = (item.header.number, first)
                self._rests[each] = item.cut(first, item.header.messages)
            if (rest := self._rests[each]) is not None:
                return self._piece(each, rest, limit, passed)
        return None

    def _piece(self, spool: int, rest: Block, limit: int, passed: Collection[MessageId]) -> BlockPiece:
        number, begin = self._reached[spool]
        total = rest.header.messages
        first, end, left_out = 0, total, 0
        if limit or passed:
            first, end, left_out = self._limits(rest, limit, passed)
        cut = rest.cut(first, end)
        self._rests[spool] = rest.cut(end, total) if end < total else None
        after = (number, begin + end) if end < total else (self.readers[spool].next_number, 0)
        self._reached[spool] = after
        return BlockPiece(spool, cut, begin + first, self._selection.count(cut), left_out, after)

    def _limits(self, rest: Block, limit: int, passed: Collection[MessageId]) -> tuple[int, int, int]:
        """The first message, the one behind the last, and how many wanted ones before the first are left out."""
        first = end = left_out = count = 0
        for one in rest.singly():
            wanted = self._selection.count(one)
            if identity_of(one) in passed:
                if end > first:
                    break
                left_out += wanted
                first = end = end + 1
                continue
            if limit and count + wanted > limit:
                break
            count += wanted
            end += 1
        return first, end, left_out


def identity_of(block: Block) -> MessageId:
    """Of the first message of a block."""
    kind, number, _ = block.header.spans[0]
    return MessageId(block.header.run, kind, number)


def selected_before(piece: BlockPiece, index: int, store: Store, selection: MessageSelection) -> int:
    """How many wanted messages of a piece stand before an index of its block; the block is read again for that."""
    spool = store.transient if piece.spool else store.retained
    reader = SpoolReader(spool, piece.block.header.number)
    try:
        found = reader.read()
    except RelayError:  # it is deleted meanwhile: the count is for people only
        return index - piece.first
    finally:
        reader.close()
    return selection.count(found.cut(piece.first, index)) if isinstance(found, Block) else index - piece.first


def suspect(store: Store, selection: MessageSelection, cursor: Cursor, spool: int) -> BlockPiece | None:
    """The first wanted message of a spool from the cursor on."""
    return next(_singly(store, selection, cursor, spool), None)


def choose_probe(
    store: Store, selection: MessageSelection, suspected: tuple[Cursor, int], choice: int, passed: Collection[MessageId]
) -> BlockPiece | None:
    """A message behind the suspected one, which is the first of a spool from a cursor on; None without any.

    The smallest one is the best choice (0), since size is what collectors mind most.
    """
    cursor, spool = suspected
    in_order = [_singly(store, selection, cursor, each) for each in (0, 1)]
    next(in_order[spool], None)
    found = [
        piece
        for piece in itertools.islice(itertools.chain(*in_order), PROBES)
        if identity_of(piece.block) not in passed
    ]
    found.sort(key=lambda piece: piece.block.header.payload_length)
    return found[choice % len(found)] if found else None


def _singly(store: Store, selection: MessageSelection, cursor: Cursor, spool: int) -> Iterator[BlockPiece]:
    """The wanted messages of a spool from the cursor on, one at a time."""
    source, (number, part) = (
        (store.transient, cursor.reached_transient) if spool else (store.retained, cursor.reached_retained)
    )
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
