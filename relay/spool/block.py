"""The block: what one commit writes. Bytes in, values out; `relay/spool/FORMAT.md` describes every octet.

A block is a header and a payload of octet-counted messages (`LEN SP MSG`, RFC 6587 section 3.4.1), so that a block of
selected types can be sent unread. All integers are big-endian, all times microseconds since the epoch. The header has
its own CRC-32 and is found again by its magic; the payload has another CRC-32. The chain is the SHA-256 over the
previous block's chain, this header (with zeros for its chain, and without its CRC) and this payload.

`decode_header` returns None for "not enough octets yet"; octets that are not a header raise BlockError with the
reason.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from relay.values.event import EventType, Position

MAGIC: Final = b"\x89RLYBLK\n"
CHAIN_START: Final = bytes(32)
RUN_LENGTH: Final = 8
MAX_HEADER: Final = 16 * 1024 * 1024
MAX_PAYLOAD: Final = 64 * 1024 * 1024

_FIXED: Final = struct.Struct(">8sIIQ8sqqqIIHHI32sII")
_SPAN: Final = struct.Struct(">BQI")
_POSITION: Final = struct.Struct(">HIQ")
_CRC: Final = struct.Struct(">I")
_CHAIN_AT: Final = _FIXED.size - 2 * _CRC.size - len(CHAIN_START)
_LENGTHS: Final = struct.Struct(">8sII")


class BlockError(ValueError):
    """These bytes are not a block; the text says what is wrong with them."""


class Span(NamedTuple):
    """Consecutive messages of one type: their first number within (run, type), and how many."""

    type: EventType
    first: int
    messages: int


class Header(NamedTuple):
    """What a block's header holds."""

    number: int
    run: bytes
    committed: int
    earliest: int
    latest: int
    largest: int
    """Octets of the longest message."""
    types_taken: int
    """Bitmap of the types that the spool took at that time, present here or not."""
    spans: tuple[Span, ...]
    positions: tuple[Position, ...]
    payload_length: int
    payload_crc: int
    chain: bytes
    length: int
    """Octets of the header itself."""

    @property
    def messages(self) -> int:
        """How many messages the payload holds."""
        return sum(span.messages for span in self.spans)

    @property
    def types_present(self) -> int:
        """Bitmap of the types in the payload."""
        return type_bitmap(span.type for span in self.spans)

    @property
    def size(self) -> int:
        """Octets of header and payload."""
        return self.length + self.payload_length


class Contents(NamedTuple):
    """What goes into a block, before it has a number and a chain."""

    spans: Sequence[Span]
    frames: Sequence[bytes]
    """The octet-counted messages, in the order of the spans."""
    positions: Sequence[Position]
    types_taken: int
    earliest: int
    latest: int
    largest: int


def type_bitmap(types: "Iterator[EventType] | Sequence[EventType]") -> int:
    """One bit for each type."""
    bitmap = 0
    for kind in types:
        bitmap |= 1 << kind
    return bitmap


def encode(contents: Contents, number: int, run: bytes, committed: int, previous_chain: bytes) -> tuple[Header, bytes]:
    """The header as a value, and the block's bytes."""
    payload = b"".join(contents.frames)
    variable = b"".join(_SPAN.pack(*span) for span in contents.spans)
    for position in contents.positions:
        source = position.source.encode()
        variable += _POSITION.pack(len(source), len(position.data), position.count) + source + position.data
    length = _FIXED.size + len(variable) + _CRC.size
    spans, positions = tuple(contents.spans), tuple(contents.positions)
    times = committed, contents.earliest, contents.latest
    sizes = len(payload), zlib.crc32(payload)
    header = Header(number, run, *times, contents.largest, contents.types_taken, spans, positions, *sizes, b"", length)
    counts = header.messages, contents.largest, header.types_present, contents.types_taken
    fixed = MAGIC, length, len(payload), number, run, *times, *counts, header.payload_crc, CHAIN_START
    head = bytearray(_FIXED.pack(*fixed, len(spans), len(positions)) + variable)
    chain = chain_hash(previous_chain, head, payload)
    head[_CHAIN_AT : _CHAIN_AT + len(chain)] = chain
    return header._replace(chain=chain), b"".join((head, _CRC.pack(zlib.crc32(head)), payload))


def chain_hash(previous_chain: bytes, blank_header: bytes | bytearray, payload: bytes) -> bytes:
    """The chain after this block; `blank_header` is the header with its chain as zeros and without its CRC."""
    digest = hashlib.sha256(previous_chain)
    digest.update(blank_header)
    digest.update(payload)
    return digest.digest()


def decode_header(data: bytes | memoryview) -> Header | None:
    """The header at the beginning of `data`; None when `data` is too short."""
    if len(data) < _LENGTHS.size:
        return None
    magic, length, payload_length = _LENGTHS.unpack_from(data)
    if magic != MAGIC:
        raise BlockError("no block begins here")
    if not _FIXED.size + _CRC.size <= length <= MAX_HEADER or payload_length > MAX_PAYLOAD:
        raise BlockError("the block's lengths are impossible")
    if len(data) < length:
        return None
    covered = bytes(data[: length - _CRC.size])
    if zlib.crc32(covered) != _CRC.unpack_from(data, length - _CRC.size)[0]:
        raise BlockError("the block's header does not match its CRC")
    try:
        return _decode_checked(covered, length)
    except (struct.error, ValueError, IndexError) as error:
        raise BlockError(f"the block's header contradicts itself: {error}") from error


def _decode_checked(data: bytes, length: int) -> Header:
    fixed = _FIXED.unpack_from(data)
    payload_length, number, run, committed, earliest, latest, _, largest, _, taken, crc, chain = fixed[2:14]
    span_count, position_count = fixed[14:]
    offset = _FIXED.size
    spans = []
    for _ in range(span_count):
        kind, first, count = _SPAN.unpack_from(data, offset)
        spans.append(Span(EventType(kind), first, count))
        offset += _SPAN.size
    positions = []
    for _ in range(position_count):
        name_length, place_length, count = _POSITION.unpack_from(data, offset)
        name_at = offset + _POSITION.size
        place_at, offset = name_at + name_length, name_at + name_length + place_length
        positions.append(Position(data[name_at:place_at].decode(), count, data[place_at:offset]))
    if offset != len(data):
        raise BlockError("its parts do not add up to its length")
    times, parts = (committed, earliest, latest), (tuple(spans), tuple(positions))
    return Header(number, run, *times, largest, taken, *parts, payload_length, crc, chain, length)


def check_payload(header: Header, payload: bytes) -> None:
    """Raise BlockError unless `payload` is whole and matches its CRC."""
    if len(payload) != header.payload_length:
        raise BlockError(f"block {header.number}: {header.payload_length - len(payload)} octets are missing")
    if zlib.crc32(payload) != header.payload_crc:
        raise BlockError(f"block {header.number}: the payload does not match its CRC")


def continues_chain(header: Header, header_octets: bytes, payload: bytes, previous_chain: bytes) -> bool:
    """Whether this block follows the one whose chain is `previous_chain`."""
    blank = header_octets[:_CHAIN_AT] + CHAIN_START + header_octets[_CHAIN_AT + len(CHAIN_START) : -_CRC.size]
    return chain_hash(previous_chain, blank, payload) == header.chain


def frame(message: bytes) -> bytes:
    """The message in the form of a payload."""
    return b"%d %b" % (len(message), message)


def messages(header: Header, payload: bytes) -> Iterator[tuple[EventType, int, bytes]]:
    """Each message of a checked payload with its type and number."""
    offset = 0
    for span in header.spans:
        for number in range(span.first, span.first + span.messages):
            space = payload.index(b" ", offset)
            end = space + 1 + int(payload[offset:space])
            yield span.type, number, payload[space + 1 : end]
            offset = end


def spans_between(spans: Sequence[Span], first: int, end: int) -> tuple[Span, ...]:
    """The spans of a block's messages from index `first` (counted from 0) to the one before `end`."""
    found = []
    start = 0
    for kind, number, messages in spans:
        skipped = min(max(first - start, 0), messages)
        left = min(end - start, messages) - skipped
        if left > 0:
            found.append(Span(kind, number + skipped, left))
        start += messages
    return tuple(found)


class Block(NamedTuple):
    """A synced block, or some consecutive messages of it."""

    header: Header
    payload: bytes

    def cut(self, first: int, end: int) -> "Block":
        """Its messages from index `first` to the one before `end`, as a block of the same number."""
        if first <= 0 and end >= self.header.messages:
            return self
        payload = self.payload[self._offset(first) : self._offset(end)]
        header = self.header._replace(
            spans=spans_between(self.header.spans, first, end), payload_length=len(payload), payload_crc=0
        )
        return Block(header, payload)

    def singly(self) -> "Iterator[Block]":
        """Each of its messages, as a block of the same number."""
        offset = 0
        for kind, first, messages in self.header.spans:
            for number in range(first, first + messages):
                space = self.payload.index(b" ", offset)
                end = space + 1 + int(self.payload[offset:space])
                header = self.header._replace(
                    spans=(Span(kind, number, 1),), payload_length=end - offset, payload_crc=0
                )
                yield Block(header, self.payload[offset:end])
                offset = end

    def _offset(self, index: int) -> int:
        """Where the message with that index begins in the payload."""
        offset = 0
        for _ in range(min(index, self.header.messages)):
            space = self.payload.index(b" ", offset)
            offset = space + 1 + int(self.payload[offset:space])
        return offset

    def messages(self) -> Iterator[tuple[EventType, int, bytes]]:
        """Each message with its type and number."""
        return messages(self.header, self.payload)
