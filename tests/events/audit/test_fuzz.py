"""Harmed records through parser, assembler, mapping and parts: no crash, nothing lost, linear work, bounded memory.

`RELAY_FUZZ_OCTETS=2000000000` goes on for some five minutes.
"""

import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from harness.fuzz import fuzzed

from relay.events.audit.assembly import MAX_OPEN_BYTES, MAX_OPEN_EVENTS, Assembler, AuditEvent
from relay.events.audit.fields import fields
from relay.events.audit.mapping import AuditMapping
from relay.events.audit.parts import parts
from relay.events.audit.record import Record, parse
from relay.syslog.rfc5424 import parse as parse_message

_HERE = Path(__file__).parent
LINES = [
    line for name in ("seed.log", "other.log") for line in (_HERE / name).read_bytes().removesuffix(b"\n").split(b"\n")
]
UGLY = (
    b" a=" + b"41" * 20_000 + b"4",
    b' comm="',
    b" msg='op=",
    b" proctitle=00FF0A22",
    b"\x1dSADDR={ saddr_fam=local path=x lport=1 }",
    b" name=(null",
    b" =" * 200,
    b"\0\x1d\xff",
)
HEAD = b"type=SYSCALL msg=audit(1709742940.326:2349): "


def some_lines(random: Random) -> bytes:
    lines = random.choices(LINES, k=random.randrange(1, 12))
    lines[0] += random.choice((b"", *UGLY))
    return b"\n".join(lines)


def test_harmed_records_leave_whole_and_once() -> None:
    mapping = AuditMapping(hostname="combo1", router="combo1", node="test1")
    assembler: Assembler[None] = Assembler()
    now = 0.0
    for random, octets in fuzzed(11, some_lines):
        fed: list[bytes] = []
        left: list[AuditEvent] = []
        for line in octets.split(b"\n"):
            now += random.choice((0.0, 0.0, 0.5))
            record = parse(line)
            if record is None:
                check_message(mapping.malformed(line, 0).head + mapping.malformed(line, 0).tail)
                continue
            fed.append(line)
            left += assembler.feed(record, None, now)
            assert len(assembler.open) <= MAX_OPEN_EVENTS
            assert assembler._open_bytes <= MAX_OPEN_BYTES
        left += assembler.flush()
        assert sorted(record.line for event in left for record in event.records) == sorted(fed)
        for event in left:
            (message,) = (made.head + b' relayRun="0f" relaySeq="1"' + made.tail for made in mapping.events(event))
            check_message(message)
            for part in parts(message, random.choice((480, 1000, 8192))):
                check_message(part)


def check_message(message: bytes) -> None:
    """It is RFC 5424, and says no more than its records do."""
    parsed = parse_message(message)
    assert parsed.structured_data[0].id == b"128T"
    assert parsed.msg is not None or b"truncated" in message or message.endswith(b"] ")


def record_of(body: bytes) -> Record:
    record = parse(HEAD + body)
    assert record is not None
    return record


def mapped(body: bytes) -> None:
    AuditMapping(hostname="h", router="r").events(AuditEvent((record_of(body),)))


def read(body: bytes) -> None:
    fields(record_of(body))


REPEATED = (
    *(b"(", b")", b",", b"'", b'"', b"=", b"a=", b" a=", b" a=(", b" a=,", b" a='", b' a="', b" a=x'y", b"a='b"),
    *(b"msg='", b" a=b)", b" a=b,", b" {", b"} ", b"\x1d", b"\x1dA=", b"41", b" a0=41", b" res=", b"res=failed"),
    *(b"node=x ", b" a=b(c"),
)


@pytest.mark.parametrize("work", [read, mapped])
@pytest.mark.parametrize("piece", REPEATED)
def test_work_is_linear_in_the_record(piece: bytes, work: Callable[[bytes], None]) -> None:
    """Ten times the octets take some ten times the processor's time; were it quadratic, a hundred times."""
    small = quickest(work, piece * (20_000 // len(piece)))
    large = quickest(work, piece * (200_000 // len(piece)))
    assert large < 40 * small + 0.01


def quickest(work: Callable[[bytes], None], body: bytes) -> float:
    """The processor's time of the best of some tries: other programs' share is not in it."""
    tries = []
    for _ in range(3):
        began = time.thread_time()
        work(body)
        tries.append(time.thread_time() - began)
    return min(tries)


@pytest.mark.parametrize("piece", [b"x", b"41", b" a=b", b"\0", b"\xff"])
def test_a_record_of_100_kb_is_kept_whole(piece: bytes) -> None:
    body = piece * (100_000 // len(piece))
    (event,) = AuditMapping(hostname="h", router="r").events(AuditEvent((record_of(body),)))
    assert event.tail.endswith(b"] " + HEAD + body)


@pytest.mark.parametrize("line", LINES)
def test_a_record_that_is_cut_anywhere_is_kept(line: bytes) -> None:
    mapping = AuditMapping(hostname="h", router="r")
    for length in range(len(line)):
        record = parse(line[:length])
        events = [mapping.malformed(line[:length], 0)] if record is None else mapping.events(AuditEvent((record,)))
        assert [event.tail.partition(b"] ")[2] for event in events] == [line[:length]]
