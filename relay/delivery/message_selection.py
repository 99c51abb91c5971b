"""What a destination wants: messages of some types, and of some priorities (relay.syslog.priority).

relay's own events are wanted whatever their priority. What is left out is left out as the configuration says: it is no
loss and needs no proof. Where every priority is wanted no message is looked at: a block's header tells enough.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.spool.block import Block, Header, type_bitmap
from relay.syslog.priority import EVERY_PRIORITY, priority
from relay.values.event import EventType

_OWN: Final = 1 << EventType.RELAY


class MessageSelection(NamedTuple):
    """Two bitmaps: of event types, and of priorities."""

    types: int
    priorities: int = EVERY_PRIORITY

    def all_of(self, header: Header) -> bool:
        """Whether every message of a block is wanted, as far as its header tells."""
        return not header.types_present & ~self._unread

    def count(self, block: Block) -> int:
        """How many messages of a block are wanted."""
        if block.header.types_present & self.types & ~self._unread:
            return sum(1 for _ in self.messages(block))
        return sum(span.messages for span in block.header.spans if self.types >> span.type & 1)

    def messages(self, block: Block) -> Iterator[tuple[EventType, int, bytes]]:
        """Those messages of a block, each with its type and number."""
        if self.all_of(block.header):
            return block.messages()
        unread = self._unread
        return (
            (kind, number, message)
            for kind, number, message in block.messages()
            if unread >> kind & 1 or (self.types >> kind & 1 and self.priorities >> priority(message) & 1)
        )

    @property
    def _unread(self) -> int:
        """The types of which every message is wanted."""
        return self.types if self.priorities == EVERY_PRIORITY else self.types & _OWN


NOTHING: Final = MessageSelection(0)
EVERYTHING: Final = MessageSelection(type_bitmap(list(EventType)))
