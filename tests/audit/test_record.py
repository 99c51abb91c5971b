"""Lines of the audit log: what is a record, and what is malformed."""

import time

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


# --- Two records in a line ---

NEXT = b"type=DAEMON_CLOSE msg=audit(1795369962.564:3147): addr=192.0.2.1 port=38320 res=success"
HEAD = b"type=USER msg=audit(1709742863.758:1758): "


@pytest.mark.parametrize(
    "cut",
    [
        b"xxxxxxxx",
        b"",
        b"pid=1 ui",
        b"pid=1 res=success",
        b'pid=1 comm="ca',
        b'pid=1 comm="cat" exe="/usr',
        b"pid=1 msg='op=logi",
        b"pid=1 msg='op=login res=success'",
        b"pid=1 msg='op=login exe=\"/usr/sb",
        b'pid=1 res=success\x1dUID="ro',
        b"pid=1 msg='it's a",
        b"saddr=01002F78\x1dSADDR={ saddr_fam=local path=/x",
    ],
)
@pytest.mark.parametrize(
    "following",
    [
        NEXT,
        b"node=combo1 " + NEXT,
        b"type=USER_AUTH msg=audit(1.000:2): pid=2 msg='op=x exe=\"/bin/su\" res=failed'",
        b'type=SYSCALL msg=audit(1.000:2): arch=c000003e comm="a" exe="/bin/a" key=(null)\x1dARCH=x86_64 UID="root"',
        b"type=UNKNOWN[1334] msg=audit(1.000:2):",
    ],
)
def test_a_record_ends_where_another_begins_in_its_line(cut: bytes, following: bytes) -> None:
    record = parse(HEAD + cut + following)
    assert record is not None
    assert (record.body, record.joined, record.line) == (cut, following, HEAD + cut + following)
    assert record.key == (1709742863758, 1758, b"")


@pytest.mark.parametrize(
    "body",
    [
        b"pid=1 msg='text=%b exe=\"/usr/sbin/auditctl\" hostname=? res=success'" % NEXT,
        b"pid=1 msg='text=type=USER msg=audit(1.000:2): pid=2 msg='op=x res=failed' exe=\"/x\" res=success'",
        b'pid=1 msg=\'text=%b\'\x1dUID="root" AUID="unset"' % NEXT,
        b'pid=1 info="%b" res=success' % NEXT,
        b"saddr=0100\x1dSADDR={ saddr_fam=local path=/x %b }" % NEXT,
        b"saddr=0100\x1dSADDR={ saddr_fam=local path=/x' \" } %b' }" % NEXT,
        b"pid=1 msg=audit(1.000:2): x",
        b"pid=1 type=x msg=audit(1.000:2): x",
        b"pid=1 type=USER msg=audit(1.000): x",
    ],
)
def test_a_record_may_quote_another(body: bytes) -> None:
    record = parse(HEAD + body)
    assert record is not None
    assert (record.body, record.joined) == (body, b"")


@pytest.mark.parametrize("piece", [NEXT + b" ", b" msg='" + NEXT, b'"' + NEXT, b" msg=audit(", b"' type=USER "])
def test_a_hostile_megabyte_is_parsed_in_linear_time(piece: bytes) -> None:
    line = HEAD + b"a='" + piece * (1_000_000 // len(piece)) + b"'"
    before = time.process_time()
    record = parse(line)
    assert time.process_time() - before < 2
    assert record is not None
    assert line == HEAD + record.body + record.joined
