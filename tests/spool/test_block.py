"""The format of a block, pinned: octets written down by hand, not by the encoder."""

import hashlib
import struct
import zlib

import pytest

from relay.spool import block
from relay.spool.block import BlockError, Contents, Span
from relay.values.event import EventType, Position

RUN = bytes.fromhex("0102030405060708")


def contents(*messages: bytes, kind: EventType = EventType.AUDIT, first: int = 1) -> Contents:
    return Contents(
        spans=[Span(kind, first, len(messages))] if messages else [],
        frames=[block.frame(message) for message in messages],
        positions=[Position("audit", 7, b"{}")],
        types_taken=0b1_0000_0010,
        earliest=1_000_000,
        latest=2_000_000,
        largest=max(map(len, messages), default=0),
    )


def test_a_block_has_exactly_the_octets_of_the_format_page() -> None:
    _, data = block.encode(contents(b"<13>1 a", b"<13>1 bc"), 5, RUN, 3_000_000, block.CHAIN_START)

    payload = b"7 <13>1 a8 <13>1 bc"
    spans = bytes([1]) + (1).to_bytes(8, "big") + (2).to_bytes(4, "big")
    positions = (5).to_bytes(2, "big") + (2).to_bytes(4, "big") + (7).to_bytes(8, "big") + b"audit" + b"{}"
    length = 112 + len(spans) + len(positions) + 4

    def fixed(chain: bytes) -> bytes:
        return b"".join(
            (
                b"\x89RLYBLK\n",
                length.to_bytes(4, "big"),
                len(payload).to_bytes(4, "big"),
                (5).to_bytes(8, "big"),
                RUN,
                (3_000_000).to_bytes(8, "big"),
                (1_000_000).to_bytes(8, "big"),
                (2_000_000).to_bytes(8, "big"),
                (2).to_bytes(4, "big"),
                (8).to_bytes(4, "big"),
                (0b10).to_bytes(2, "big"),
                (0b1_0000_0010).to_bytes(2, "big"),
                zlib.crc32(payload).to_bytes(4, "big"),
                chain,
                (1).to_bytes(4, "big"),
                (1).to_bytes(4, "big"),
            )
        )

    chain = hashlib.sha256(bytes(32) + fixed(bytes(32)) + spans + positions + payload).digest()
    header = fixed(chain) + spans + positions
    assert len(fixed(chain)) == 112
    assert data == header + zlib.crc32(header).to_bytes(4, "big") + payload


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


# --- A part of a block ---


def several() -> block.Block:
    spans = [Span(EventType.AUDIT, 5, 2), Span(EventType.LOG, 1, 3), Span(EventType.AUDIT, 7, 1)]
    frames = [block.frame(b"<13>1 %d" % number) for number in range(6)]
    whole = contents()._replace(spans=spans, frames=frames)
    header, data = block.encode(whole, 5, RUN, 3, block.CHAIN_START)
    return block.Block(header, data[header.length :])


@pytest.mark.parametrize("first", range(7))
@pytest.mark.parametrize("end", range(7))
def test_a_part_of_a_block_holds_the_messages_between_two_indexes(first: int, end: int) -> None:
    part = several().cut(first, end)
    assert list(part.messages()) == list(several().messages())[first:end]
    assert part.header.messages == max(end - first, 0)
    assert part.header.number == 5


def test_a_part_of_a_part_is_one_of_the_block() -> None:
    assert several().cut(1, 6).cut(2, 4).payload == several().cut(3, 5).payload


def test_each_message_of_a_block_can_be_had_as_a_block() -> None:
    singly = list(several().singly())
    assert [message for one in singly for message in one.messages()] == list(several().messages())
    assert {one.header.messages for one in singly} == {1}
