"""Blocks as a destination gets them from the spool."""

from collections.abc import Sequence

from relay.event import EventType
from relay.spool.block import CHAIN_START, Block, Contents, Span, encode, frame, type_bitmap

RUN = b"\x5f" * 8
EVERY_TYPE = type_bitmap(list(EventType))


def block(messages: Sequence[bytes], kind: EventType = EventType.LOG, *, first: int = 1) -> Block:
    """A block of messages of one type, numbered from `first`."""
    spans = [Span(kind, first, len(messages))]
    frames = [frame(message) for message in messages]
    contents = Contents(spans, frames, [], EVERY_TYPE, 0, 0, max(map(len, messages)))
    header, octets = encode(contents, 1, RUN, 1, CHAIN_START)
    return Block(header, octets[header.length :])
