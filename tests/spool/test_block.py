"""The format of a block, pinned: octets written down by hand, not by the encoder."""

import hashlib
import struct
import zlib

import pytest

from relay.spool import block
from relay.spool.block import BlockError, Contents, Span
from relay.values.event import EventType, Position
from relay.values.provenance import Provenance, ReceiptMark

RUN = bytes.fromhex("0102030405060708")


SENDER = Provenance("10.0.0.7", "SHA256:abc", "tcp://0.0.0.0:514", "syslog")


def contents(*messages: bytes, kind: EventType = EventType.AUDIT, first: int = 1) -> Contents:
    return Contents(
        spans=[Span(kind, first, len(messages))] if messages else [],
        messages=messages,
        positions=[Position("audit", 7, b"{}")],
        types_taken=0b1_0000_0010,
        earliest=1_000_000,
        latest=2_000_000,
        largest=max(map(len, messages), default=0),
    )


def number(value: int, octets: int) -> bytes:
    return value.to_bytes(octets, "big")


POSITIONS = number(5, 2) + number(2, 4) + number(7, 8) + b"audit" + b"{}"


def common(magic: bytes, length: int, payload: bytes, chain: bytes, spans: int) -> bytes:
    """The first 112 octets, which both formats have."""
    return b"".join(
        (
            *(magic, number(length, 4), number(len(payload), 4), number(5, 8), RUN),
            *(number(3_000_000, 8), number(1_000_000, 8), number(2_000_000, 8)),
            *(number(2, 4), number(8, 4), number(0b10, 2), number(0b1_0000_0010, 2)),
            *(number(zlib.crc32(payload), 4), chain, number(spans, 4), number(1, 4)),
        )
    )


def sealed(header: bytes) -> bytes:
    return header + number(zlib.crc32(header), 4)


def test_a_block_has_exactly_the_octets_of_the_format_page() -> None:
    received = contents(b"<13>1 a", b"%ASA-bc:")._replace(
        spans=[Span(EventType.AUDIT, 1, 1), Span(EventType.AUDIT, 2, 1, SENDER, ReceiptMark.CUT)]
    )
    _, data = block.encode(received, 5, RUN, 3_000_000, bytes(range(32)))

    payload = b"7 <13>1 a8 %ASA-bc:"
    spans = bytes([1, 0]) + number(0, 4) + number(1, 8) + number(1, 4)
    spans += bytes([1, 1]) + number(1, 4) + number(2, 8) + number(1, 4)
    texts = b"\x00\x0810.0.0.7" + b"\x00\x0aSHA256:abc" + b"\x00\x11tcp://0.0.0.0:514" + b"\x00\x06syslog"
    behind = number(0, 4) + number(1, 4) + spans + texts + POSITIONS
    length = 112 + len(behind) + 4
    blank = common(b"\x89RLYBL2\n", length, payload, bytes(32), spans=2) + behind
    hashes = hashlib.sha256(b"<13>1 a").digest() + hashlib.sha256(b"%ASA-bc:").digest()
    chain = hashlib.sha256(bytes(range(32)) + blank + hashes).digest()
    assert data == sealed(common(b"\x89RLYBL2\n", length, payload, chain, spans=2) + behind) + payload


def test_a_block_of_format_1_is_read() -> None:
    payload = b"7 <13>1 a8 <13>1 bc"
    behind = bytes([1]) + number(1, 8) + number(2, 4) + POSITIONS
    length = 112 + len(behind) + 4
    blank = common(b"\x89RLYBLK\n", length, payload, bytes(32), spans=1) + behind
    chain = hashlib.sha256(bytes(range(32)) + blank + payload).digest()
    octets = sealed(common(b"\x89RLYBLK\n", length, payload, chain, spans=1) + behind)

    header = block.decode_header(octets + payload)
    expected, _ = block.encode(contents(b"<13>1 a", b"<13>1 bc"), 5, RUN, 3_000_000, block.CHAIN_START)
    assert header == expected._replace(length=length, chain=chain, all_have_pri=False, version=1)
    assert [each for _, _, each in block.messages(header, payload)] == [b"<13>1 a", b"<13>1 bc"]
    assert block.continues_chain(header, octets, payload, bytes(range(32)))
    assert not block.continues_chain(header, octets, payload, bytes(32))
    assert not block.continues_chain(header, octets, payload[:-1] + b"d", bytes(range(32)))


def test_decoding_returns_what_was_encoded() -> None:
    header, data = block.encode(contents(b"one", b"two\nlines"), 9, RUN, 3, bytes(range(32)))
    assert block.decode_header(data) == header
    payload = data[header.length :]
    block.check_payload(header, payload)
    assert list(block.messages(header, payload)) == [(EventType.AUDIT, 1, b"one"), (EventType.AUDIT, 2, b"two\nlines")]
    assert block.continues_chain(header, data[: header.length], payload, bytes(range(32)))


def test_a_header_cut_short_is_not_enough_yet() -> None:
    header, data = block.encode(contents(b"one"), 1, RUN, 3, block.CHAIN_START)
    assert [cut for cut in range(header.length) if block.decode_header(data[:cut]) is not None] == []


def test_every_flipped_bit_of_a_block_is_noticed() -> None:
    header, data = block.encode(contents(b"one"), 1, RUN, 3, block.CHAIN_START)
    unnoticed = []
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = block.decode_header(bytes(damaged))
            if found is None:
                continue
            block.check_payload(found, bytes(damaged[found.length :]))
        except BlockError:
            continue
        unnoticed.append(bit)
    assert unnoticed == []
    assert header.size == len(data)


def test_a_block_in_another_place_breaks_the_chain() -> None:
    header, data = block.encode(contents(b"one"), 1, RUN, 3, block.CHAIN_START)
    octets, payload = data[: header.length], data[header.length :]
    assert block.continues_chain(header, octets, payload, block.CHAIN_START)
    assert not block.continues_chain(header, octets, payload, bytes([1] * 32))


def test_impossible_lengths_are_refused_before_anything_is_read() -> None:
    _, data = block.encode(contents(b"one"), 1, RUN, 3, block.CHAIN_START)
    huge = data[:8] + struct.pack(">II", 0xFFFFFFFF, 0) + data[16:]
    with pytest.raises(BlockError, match="impossible"):
        block.decode_header(huge)


def test_a_payload_that_contradicts_its_header_does_not_continue_the_chain() -> None:
    header, data = block.encode(contents(b"one"), 1, RUN, 3, block.CHAIN_START)
    assert not block.continues_chain(header, data[: header.length], b"three", block.CHAIN_START)


# --- Senders and marks ---


def received(*spans: Span) -> Contents:
    messages = [b"<13>%d" % each for each in range(sum(span.messages for span in spans))]
    return contents()._replace(spans=spans, messages=messages)


def test_a_sender_is_stored_once_and_named_by_each_of_its_spans() -> None:
    other = Provenance("fe80::1", "sha-256:E1:2D ü", "udp://[::]:514", "syslog")
    spans = (
        Span(EventType.LOG, 1, 2, SENDER),
        Span(EventType.LOG, 3, 1, SENDER, int(ReceiptMark.CUT | ReceiptMark.FORWARDED)),
        Span(EventType.LOG, 4, 3, other, int(ReceiptMark.UNTERMINATED)),
        Span(EventType.RELAY, 1, 1),
    )
    header, data = block.encode(received(*spans), 1, RUN, 3, block.CHAIN_START)
    assert block.decode_header(data) == header
    assert header.spans == spans
    assert data.count(SENDER.listener.encode()) == 1
    found = block.Block(header, data[header.length :])
    assert list(found.by_span()) == [
        (spans[0], [b"<13>0", b"<13>1"]),
        (spans[1], [b"<13>2"]),
        (spans[2], [b"<13>3", b"<13>4", b"<13>5"]),
        (spans[3], [b"<13>6"]),
    ]


def test_a_text_that_is_too_long_is_cut_between_characters() -> None:
    sender = Provenance("10.0.0.7", "x" + "ü" * block.MAX_PROVENANCE_TEXT, "tcp://\udcff:1")
    _, data = block.encode(received(Span(EventType.LOG, 1, 1, sender)), 1, RUN, 3, block.CHAIN_START)
    decoded = block.decode_header(data)
    assert decoded is not None
    found = decoded.spans[0].provenance
    assert found == Provenance("10.0.0.7", "x" + "ü" * (block.MAX_PROVENANCE_TEXT // 2 - 1), "tcp://?:1")


@pytest.mark.parametrize("message", [b"13>a", b"<a>", b"<>a", b"<1234>a", b"<13", b"", b" <13>a", b"\xef\xbb\xbf<13>a"])
def test_a_block_knows_whether_every_message_begins_with_a_pri(message: bytes) -> None:
    whole, _ = block.encode(contents(b"<13>1 a", b"<0>", b"<191>x"), 1, RUN, 3, block.CHAIN_START)
    partly, data = block.encode(contents(b"<13>1 a", message), 1, RUN, 3, block.CHAIN_START)
    assert (whole.all_have_pri, partly.all_have_pri) == (True, False)
    assert block.decode_header(data) == partly


# --- A part of a block ---


def several() -> block.Block:
    spans = [
        Span(EventType.AUDIT, 5, 2),
        Span(EventType.LOG, 1, 3, SENDER, int(ReceiptMark.CUT)),
        Span(EventType.AUDIT, 7, 1),
    ]
    messages = [b"<13>1 %d" % number for number in range(6)]
    whole = contents()._replace(spans=spans, messages=messages)
    header, data = block.encode(whole, 5, RUN, 3, block.CHAIN_START)
    return block.Block(header, data[header.length :])


@pytest.mark.parametrize("first", range(7))
@pytest.mark.parametrize("end", range(7))
def test_a_part_of_a_block_holds_the_messages_between_two_indexes(first: int, end: int) -> None:
    part = several().cut(first, end)
    assert list(part.messages()) == list(several().messages())[first:end]
    assert part.header.messages == max(end - first, 0)
    assert part.header.number == 5
    assert origins(part) == origins(several())[first:end]


def origins(found: block.Block) -> list[tuple[bytes, Provenance | None, int]]:
    return [(each, span.provenance, span.marks) for span, messages in found.by_span() for each in messages]


def test_a_part_of_a_part_is_one_of_the_block() -> None:
    assert several().cut(1, 6).cut(2, 4).payload == several().cut(3, 5).payload


def test_each_message_of_a_block_can_be_had_as_a_block() -> None:
    singly = list(several().singly())
    assert [message for one in singly for message in one.messages()] == list(several().messages())
    assert {one.header.messages for one in singly} == {1}
    assert [each for one in singly for each in origins(one)] == origins(several())
