"""The messages that a destination gets: those of some types, and of some priorities (relay.syslog.priority).

relay's own events are selected whatever their priority. What was received may be filtered by its contents
(relay.delivery.received_filter). Leaving out the other messages is configured, so it is not a
loss and needs no proof. Where every priority is selected, no message is parsed: a block's header is enough.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.delivery.received_filter import ReceivedFilter
from relay.spool.block import Block, Header, type_bitmap
from relay.syslog.priority import EVERY_PRIORITY, priority
from relay.values.event import EventType

_RELAY: Final = 1 << EventType.RELAY


class MessageSelection(NamedTuple):
    """Two bitmaps, of event types and of priorities, and a filter of the messages that a receiver accepted."""

    types: int
    priorities: int = EVERY_PRIORITY
    received: ReceivedFilter | None = None
    """Of the selected messages that are not relay's own; None: no filter."""

    def all_of(self, header: Header) -> bool:
        """Whether its header shows that every message of a block is selected."""
        return not header.types_present & ~self._unparsed

    def count(self, block: Block) -> int:
        """How many messages of a block are selected."""
        if block.header.types_present & self.types & ~self._unparsed:
            return sum(1 for _ in self.messages(block))
        return sum(span.messages for span in block.header.spans if self.types >> span.type & 1)

    def messages(self, block: Block) -> Iterator[tuple[EventType, int, bytes]]:
        """The selected messages of a block, each with its type and number."""
        if self.all_of(block.header):
            return block.messages()
        if self.received is not None:
            return self._received_messages(block, self.received)
        unparsed = self._unparsed
        return (
            (kind, number, message)
            for kind, number, message in block.messages()
            if unparsed >> kind & 1 or (self.types >> kind & 1 and self.priorities >> priority(message) & 1)
        )

    def _received_messages(self, block: Block, received: ReceivedFilter) -> Iterator[tuple[EventType, int, bytes]]:
        time = block.header.committed
        for span, found in block.by_span():
            kind = span.type
            if self.types >> kind & 1:
                for number, message in enumerate(found, span.first):
                    if kind is EventType.RELAY or received.accepts(message, span, time):
                        yield kind, number, message

    @property
    def _unparsed(self) -> int:
        """The types of which every message is selected."""
        every = self.priorities == EVERY_PRIORITY and self.received is None
        return self.types if every else self.types & _RELAY


EVERYTHING: Final = MessageSelection(type_bitmap(list(EventType)))
