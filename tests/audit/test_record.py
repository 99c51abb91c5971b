"""Lines of the audit log: what is a record, and what is malformed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.audit.record import Record, parse


def test_a_record_is_taken_apart_and_kept_as_it_came() -> None:
    line = b"type=LOGIN msg=audit(1709742929.678:2340): pid=13700 uid=0 res=1 "
    assert parse(line) == Record(b"LOGIN", 1709742929678, 2340, b"", b"pid=13700 uid=0 res=1 ", line)


def test_the_node_that_auditd_may_put_in_front_is_part_of_the_key() -> None:
    record = parse(b"node=r1.example.net type=EOE msg=audit(1709742929.678:2340): ")
    assert record is not None
    assert record.node == b"r1.example.net"
    assert record.key == (1709742929678, 2340, b"r1.example.net")


@pytest.mark.parametrize("body", [b"a=\0b", b"a=\xff\xfe", b"comm=6A6", b"x" * 100_000, b"", b"no pairs at all"])
def test_any_body_makes_a_record(body: bytes) -> None:
    record = parse(b"type=SYSCALL msg=audit(1.000:1): " + body)
    assert record is not None
    assert record.body == body


def test_an_unnamed_type_makes_a_record() -> None:
    record = parse(b"type=UNKNOWN[1334] msg=audit(1709742940.326:2354): prog-id=22 op=LOAD")
    assert record is not None
    assert record.type == b"UNKNOWN[1334]"


def test_a_line_that_ends_with_its_stamp_is_a_record_without_a_body() -> None:
    record = parse(b"type=EOE msg=audit(1709742940.326:2354):")
    assert record is not None
    assert record.body == b""


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"\0",
        b"type=",
        b"type=SYSCALL msg=audit(1709742940.326:23",
        b"type=SYSCALL msg=audit(1709742940.326:2349)",
        b"type=SYSCALL msg=audit(1709742940.326:2349):arch",
        b"type=SYSCALL msg=audit(1709742940.326:-1): a=1",
        b"type=SYSCALL msg=audit(1709742940:2349): a=1",
        b"type=SYSCALL msg=audit(17097429401234567890.326:2349): a=1",
        b"type=SYSCALL  msg=audit(1709742940.326:2349): a=1",
        b"type=sys\xffcall msg=audit(1709742940.326:2349): a=1",
        b"type=SYS\0CALL msg=audit(1709742940.326:2349): a=1",
        b"type=UNKNOWN[x] msg=audit(1709742940.326:2349): a=1",
        b"node= type=SYSCALL msg=audit(1709742940.326:2349): a=1",
        b" type=SYSCALL msg=audit(1709742940.326:2349): a=1",
        b"rch=c000003e syscall=1 success=yes",
        b"type=SYSCALL msg=audit(1.000:1): a=1\ntype=SYSCALL msg=audit(1.000:1): a=1",
        b"x" * 100_000,
    ],
)
def test_what_does_not_begin_as_a_record_is_malformed(line: bytes) -> None:
    assert parse(line) is None


@given(st.binary(max_size=300))
def test_no_octets_crash_the_parser(octets: bytes) -> None:
    parse(octets)
    record = parse(b"type=PATH msg=audit(1.000:1): " + octets.replace(b"\n", b""))
    assert record is not None
    assert record.line.endswith(record.body)
