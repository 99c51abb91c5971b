"""The block: what one commit writes. Bytes in, values out; `relay/spool/FORMAT.md` describes every octet.

A block is a header and a payload of octet-counted messages (`LEN SP MSG`, RFC 6587 section 3.4.1), so that a block of
selected types can be sent unread. All integers are big-endian, all times microseconds since the epoch. The header has
its own CRC-32 and is found again by its magic; the payload has another CRC-32.

`encode` writes format 2. Blocks of format 1 are read on; their magic distinguishes them, also where the segment's own
header is damaged. The chain of format 2 is the SHA-256 over the previous block's chain, this header (with zeros for its
chain, and without its CRC) and the SHA-256 of each message; in format 1 it covers the payload instead.

`decode_header` returns None for "not enough octets yet"; octets that are not a header raise BlockError with the
reason.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from relay.syslog.priority import LONGEST_PRI, has_pri
from relay.values.event import EventType, Position
from relay.values.provenance import Provenance

FORMAT_VERSION: Final = 2
ANY_MAGIC: Final = b"\x89RLYBL"
"""The octets with which the magic of every format begins."""
MAGICS: Final = {ANY_MAGIC + b"K\n": 1, ANY_MAGIC + b"2\n": FORMAT_VERSION}
"""The formats that are read."""
MAGIC: Final = ANY_MAGIC + b"2\n"
CHAIN_START: Final = bytes(32)
RUN_LENGTH: Final = 8
MAX_HEADER: Final = 16 * 1024 * 1024
MAX_PAYLOAD: Final = 64 * 1024 * 1024
MAX_PROVENANCE_TEXT: Final = 4096
"""Octets of one field of a provenance; a longer one is cut."""

_FIXED: Final = struct.Struct(">8sIIQ8sqqqIIHHI32sII")
_ADDED: Final = struct.Struct(">II")
"""Behind `_FIXED` in format 2: flags, number of provenances."""
_ALL_HAVE_PRI: Final = 1
_SPAN: Final = struct.Struct(">BBIQI")
_FORMER_SPAN: Final = struct.Struct(">BQI")
_TEXT: Final = struct.Struct(">H")
_POSITION: Final = struct.Struct(">HIQ")
_CRC: Final = struct.Struct(">I")
_CHAIN_AT: Final = _FIXED.size - 2 * _CRC.size - len(CHAIN_START)
_LENGTHS: Final = struct.Struct(">8sII")


class BlockError(ValueError):
    """These bytes are not a block; the text says what is wrong with them."""


class Span(NamedTuple):
    """Consecutive messages of one type, one sender and the same marks."""

    type: EventType
    first: int
    """The number of the first one within (run, type)."""
    messages: int
    """How many."""
    provenance: Provenance | None = None
    """Who sent them; None: relay made them, or format 1 did not record it."""
    marks: int = 0
    """`ReceiptMark` of each of them."""


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
    all_have_pri: bool = False
    """Whether every message is known to begin with a PRI; format 1 did not record it."""
    version: int = FORMAT_VERSION

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
    messages: Sequence[bytes]
    """In the order of the spans."""
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
    messages, positions = contents.messages, tuple(contents.positions)
    payload = b"".join([b"%d %b" % (len(message), message) for message in messages])
    all_have_pri = all(map(has_pri, {message[:LONGEST_PRI] for message in messages}))  # few are different
    indexes = {None: 0} | {span.provenance: 0 for span in contents.spans}
    indexes = dict(zip(indexes, range(len(indexes)), strict=True))
    spans = [_SPAN.pack(kind, marks, indexes[who], first, count) for kind, first, count, who, marks in contents.spans]
    texts = [_encode_text(text) for provenance in indexes if provenance is not None for text in provenance]
    variable = b"".join((*spans, *texts, *map(_encode_position, positions)))
    length = _FIXED.size + _ADDED.size + len(variable) + _CRC.size
    header = Header(
        number,
        run,
        committed,
        contents.earliest,
        contents.latest,
        contents.largest,
        contents.types_taken,
        tuple(contents.spans),
        positions,
        len(payload),
        zlib.crc32(payload),
        b"",
        length,
        all_have_pri,
    )
    fixed = MAGIC, length, len(payload), number, run, committed, contents.earliest, contents.latest
    counts = len(messages), contents.largest, header.types_present, contents.types_taken
    octets = bytearray(_FIXED.pack(*fixed, *counts, header.payload_crc, CHAIN_START, len(spans), len(positions)))
    octets += _ADDED.pack(_ALL_HAVE_PRI if all_have_pri else 0, len(indexes) - 1) + variable
    chain = _chain_hash(previous_chain, octets, messages)
    octets[_CHAIN_AT : _CHAIN_AT + len(chain)] = chain
    return header._replace(chain=chain), b"".join((octets, _CRC.pack(zlib.crc32(octets)), payload))


def _encode_text(text: str) -> bytes:
    octets = text.encode("utf-8", "replace")
    if len(octets) > MAX_PROVENANCE_TEXT:  # not within a character
        octets = octets[:MAX_PROVENANCE_TEXT].decode("utf-8", "ignore").encode()
    return _TEXT.pack(len(octets)) + octets


def _encode_position(position: Position) -> bytes:
    source = position.source.encode()
    return _POSITION.pack(len(source), len(position.data), position.count) + source + position.data


def _chain_hash(previous_chain: bytes, blank_header: bytes | bytearray, messages: Iterable[bytes]) -> bytes:
    """The chain after a block; `blank_header` is its header with zeros for the chain and without its CRC."""
    hashed = hashlib.sha256
    return hashed(b"".join((previous_chain, blank_header, *[hashed(each).digest() for each in messages]))).digest()


def decode_header(data: bytes | memoryview) -> Header | None:
    """The header at the beginning of `data`; None when `data` is too short."""
    if len(data) < _LENGTHS.size:
        return None
    magic, length, payload_length = _LENGTHS.unpack_from(data)
    version = MAGICS.get(magic)
    if version is None:
        raise BlockError("no block begins here")
    if not _FIXED.size + _CRC.size <= length <= MAX_HEADER or payload_length > MAX_PAYLOAD:
        raise BlockError("the block's lengths are impossible")
    if len(data) < length:
        return None
    covered = bytes(data[: length - _CRC.size])
    if zlib.crc32(covered) != _CRC.unpack_from(data, length - _CRC.size)[0]:
        raise BlockError("the block's header does not match its CRC")
    try:
        return _decode_checked(covered, length, version)
    except (struct.error, ValueError, IndexError) as error:
        raise BlockError(f"the block's header contradicts itself: {error}") from error


def _decode_checked(data: bytes, length: int, version: int) -> Header:
    fixed = _FIXED.unpack_from(data)
    payload_length, number, run, committed, earliest, latest, _, largest, _, taken, crc, chain = fixed[2:14]
    span_count, position_count = fixed[14:]
    spans: tuple[Span, ...]
    if version == FORMAT_VERSION:
        flags, provenance_count = _ADDED.unpack_from(data, _FIXED.size)
        start = _FIXED.size + _ADDED.size
        offset = start + span_count * _SPAN.size
        packed = list(_SPAN.iter_unpack(data[start:offset]))
        provenances, offset = _decode_provenances(data, offset, provenance_count)
        spans = tuple(
            Span(EventType(kind), first, count, provenances[index], marks)
            for kind, marks, index, first, count in packed
        )
    else:
        flags, offset = 0, _FIXED.size + span_count * _FORMER_SPAN.size
        former = _FORMER_SPAN.iter_unpack(data[_FIXED.size : offset])
        spans = tuple(Span(EventType(kind), first, count) for kind, first, count in former)
    positions = []
    for _ in range(position_count):
        name_length, place_length, count = _POSITION.unpack_from(data, offset)
        name_at = offset + _POSITION.size
        place_at, offset = name_at + name_length, name_at + name_length + place_length
        positions.append(Position(data[name_at:place_at].decode(), count, data[place_at:offset]))
    if offset != len(data):
        raise ValueError("its parts do not add up to its length")
    times, parts = (committed, earliest, latest), (spans, tuple(positions))
    sizes = payload_length, crc, chain, length
    return Header(number, run, *times, largest, taken, *parts, *sizes, bool(flags & _ALL_HAVE_PRI), version)


def _decode_provenances(data: bytes, offset: int, count: int) -> tuple[list[Provenance | None], int]:
    """The provenances by their indexes (0: none), and the offset behind them."""
    provenances: list[Provenance | None] = [None]
    for _ in range(count):
        texts = []
        for _ in Provenance._fields:
            begin = offset + _TEXT.size
            offset = begin + _TEXT.unpack_from(data, offset)[0]
            texts.append(data[begin:offset].decode())
        provenances.append(Provenance(*texts))
    return provenances, offset


def check_payload(header: Header, payload: bytes) -> None:
    """Raise BlockError unless `payload` is whole and matches its CRC."""
    if len(payload) != header.payload_length:
        raise BlockError(f"block {header.number}: {header.payload_length - len(payload)} octets are missing")
    if zlib.crc32(payload) != header.payload_crc:
        raise BlockError(f"block {header.number}: the payload does not match its CRC")


def continues_chain(header: Header, header_octets: bytes, payload: bytes, previous_chain: bytes) -> bool:
    """Whether this block follows the one whose chain is `previous_chain`."""
    blank = header_octets[:_CHAIN_AT] + CHAIN_START + header_octets[_CHAIN_AT + len(CHAIN_START) : -_CRC.size]
    if header.version != FORMAT_VERSION:
        return hashlib.sha256(previous_chain + blank + payload).digest() == header.chain
    try:
        return _chain_hash(previous_chain, blank, (each for _, _, each in messages(header, payload))) == header.chain
    except ValueError:  # the payload is not what the header says
        return False


def frame(message: bytes) -> bytes:
    """The message in the form of a payload."""
    return b"%d %b" % (len(message), message)


def messages(header: Header, payload: bytes) -> Iterator[tuple[EventType, int, bytes]]:
    """Each message of a checked payload with its type and number."""
    for span, found in by_span(header, payload):
        kind = span.type
        for number, message in enumerate(found, span.first):
            yield kind, number, message


def by_span(header: Header, payload: bytes) -> Iterator[tuple[Span, list[bytes]]]:
    """The messages of each span of a checked payload."""
    offset = 0
    for span in header.spans:
        found: list[bytes] = []
        index, add = payload.index, found.append
        for _ in range(span.messages):
            space = index(b" ", offset)
            begin = space + 1
            offset = begin + int(payload[offset:space])
            add(payload[begin:offset])
        yield span, found


def spans_between(spans: Sequence[Span], first: int, end: int) -> tuple[Span, ...]:
    """The spans of a block's messages from index `first` (counted from 0) to the one before `end`."""
    found = []
    start = 0
    for span in spans:
        skipped = min(max(first - start, 0), span.messages)
        left = min(end - start, span.messages) - skipped
        if left > 0:
            found.append(span._replace(first=span.first + skipped, messages=left))
        start += span.messages
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
        for kind, first, messages, provenance, marks in self.header.spans:
            for number in range(first, first + messages):
                space = self.payload.index(b" ", offset)
                end = space + 1 + int(self.payload[offset:space])
                span = Span(kind, number, 1, provenance, marks)
                header = self.header._replace(spans=(span,), payload_length=end - offset, payload_crc=0)
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

    def by_span(self) -> Iterator[tuple[Span, list[bytes]]]:
        """The messages of each span, which says who sent them and what their reception noted."""
        return by_span(self.header, self.payload)
