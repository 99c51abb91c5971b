"""Blocks as a destination gets them from the spool."""

from collections.abc import Sequence

from relay.spool.block import CHAIN_START, Block, Contents, Span, encode, type_bitmap
from relay.values.event import EventType

RUN = b"\x5f" * 8
EVERY_TYPE = type_bitmap(list(EventType))


def block(messages: Sequence[bytes], kind: EventType = EventType.LOG, *, first: int = 1) -> Block:
    """A block of messages of one type, numbered from `first`."""
    return encode_contents([Span(kind, first, len(messages))], messages)


def mixed(parts: Sequence[tuple[EventType, Sequence[bytes]]]) -> Block:
    """A block of messages of several types, each type numbered from 1."""
    spans, reached = [], dict.fromkeys(EventType, 0)
    for kind, messages in parts:
        spans.append(Span(kind, reached[kind] + 1, len(messages)))
        reached[kind] += len(messages)
    return encode_contents(spans, [message for _, messages in parts for message in messages])


def encode_contents(spans: Sequence[Span], messages: Sequence[bytes]) -> Block:
    """A block of these spans."""
    contents = Contents(spans, messages, [], EVERY_TYPE, 0, 0, max(map(len, messages)))
    header, octets = encode(contents, 1, RUN, 1, CHAIN_START)
    return Block(header, octets[header.length :])
