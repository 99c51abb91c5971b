"""The octets of auditd's dispatcher, as auditd 3.0.9 was seen to write them."""

import struct
from random import Random

import pytest
from harness.fuzz import cut, fuzzed

from relay.events.audit.dispatcher import MAX_LINE, DispatcherDecoder
from relay.events.audit.record import parse

PADDED = 8970

# Headers and texts as captured (x86-64); log_format = RAW gives version 0 for auditd's own records.
CAPTURED_0 = (
    bytes.fromhex("0000000010000000b704000048000000"),
    b"audit(1795355743.199:1668): addr=::ffff:127.0.0.1 port=41328 res=success",
)
CAPTURED_1 = (
    bytes.fromhex("01000000100000005804000069000000"),
    b"type=USER_LOGIN msg=audit(1709742862.001:101): pid=1 uid=0 auid=0 msg='op=login acct=\"root\" res=success' ",
)
CAPTURED_NODE = (
    bytes.fromhex("01000000100000005804000043000000"),
    b"node=far type=USER_LOGIN msg=audit(1709742862.003:103): res=success",
)
STALE = b't=3 a0=1 comm="x" exe="/bin/x" key=(null)'
"""What stood behind that last record: the memory of one before it."""
RECORDS = [
    b"type=DAEMON_ACCEPT msg=audit(1795355743.199:1668): addr=::ffff:127.0.0.1 port=41328 res=success",
    CAPTURED_1[1],
    CAPTURED_NODE[1],
]


def padded(head: bytes, text: bytes) -> bytes:
    return head + (text + STALE).ljust(PADDED, b"\0")


def stream(form: str) -> bytes:
    captured = (CAPTURED_0, CAPTURED_1, CAPTURED_NODE)
    if form == "string":
        return b"".join(record + b"\n" for record in RECORDS)
    return b"".join(padded(*each) if form == "padded" else b"".join(each) for each in captured)


forms = pytest.mark.parametrize("form", ["string", "padded", "unpadded"])


def received(pieces: list[bytes]) -> list[bytes]:
    decoder = DispatcherDecoder()
    return [record for piece in pieces for record in decoder.receive(piece)] + decoder.finish()


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_nuls_around_a_record_of_a_stream_are_padding(size: int) -> None:
    written = b"".join(b"\0" * 5000 + record + b"\0\n" for record in RECORDS) + b"\0 not a record\n\0\n"
    pieces = [written[at : at + size] for at in range(0, len(written), size)]
    assert received(pieces) == [*RECORDS, b"\0 not a record", b"\0"]


@forms
def test_every_form_gives_the_same_records(form: str) -> None:
    assert received([stream(form)]) == RECORDS
    assert all(parse(record) for record in RECORDS)


@forms
def test_every_cut_gives_the_same_records(form: str) -> None:
    data = stream(form)
    assert received([data[at : at + 1] for at in range(len(data))]) == RECORDS
    for at in range(0, len(data), 1 if form != "padded" else 97):
        assert received([data[:at], data[at:]]) == RECORDS


@forms
def test_a_record_comes_with_its_last_octet(form: str) -> None:
    """It does not wait for the padding or for the record after it."""
    decoder = DispatcherDecoder()
    whole = stream(form)
    end = len(RECORDS[0]) + 1 if form == "string" else sum(map(len, CAPTURED_0))
    assert decoder.receive(whole[: end - 1]) == []
    assert decoder.receive(whole[end - 1 : end]) == RECORDS[:1]


def test_a_type_without_a_name_is_written_as_auditd_writes_it() -> None:
    text = b"audit(1709742862.004:105): prog-id=9"
    assert received([struct.pack("=IIII", 0, 16, 1334, len(text)) + text]) == [b"type=BPF msg=" + text]
    assert received([struct.pack("=IIII", 0, 16, 1399, len(text)) + text]) == [b"type=UNKNOWN[1399] msg=" + text]


def test_a_last_line_without_lf_comes_with_the_end() -> None:
    assert received([RECORDS[0] + b"\n" + RECORDS[1]]) == RECORDS[:2]


def test_a_stream_that_breaks_off_gives_its_whole_records() -> None:
    decoder = DispatcherDecoder()
    broken = padded(*CAPTURED_1) + padded(*CAPTURED_NODE) + b"no header at all"
    assert decoder.receive(broken) == RECORDS[1:]
    assert decoder.error is not None
    assert decoder.receive(padded(*CAPTURED_1)) == []


def test_a_line_over_the_ceiling_comes_in_pieces() -> None:
    line = b"x" * (3 * MAX_LINE + 5)
    decoder = DispatcherDecoder()
    pieces = [piece for at in range(0, len(line), 65_536) for piece in decoder.receive(line[at : at + 65_536])]
    assert max(map(len, pieces)) == MAX_LINE
    assert b"".join(pieces + decoder.receive(b"\n")) == line


def test_any_octets_in_any_pieces_give_the_same() -> None:
    def make(random: Random) -> bytes:
        form = random.choice(("string", "padded", "unpadded"))
        return stream(form) * random.choice((1, 2))

    for random, octets in fuzzed(7, make):
        whole, pieces = DispatcherDecoder(), DispatcherDecoder()
        records = whole.receive(octets)
        assert [record for piece in cut(random, octets) for record in pieces.receive(piece)] == records
        assert (whole.error is None) == (pieces.error is None)
        assert sum(map(len, records)) <= len(octets) + 32 * len(records)
