"""Lines of the audit log: what is a record, and what is malformed."""

import time

import pytest
from harness.auparse import assert_read_as_auparse_reads
from hypothesis import given
from hypothesis import strategies as st

from relay.events.audit.record import Record, parse


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
def test_a_line_that_does_not_begin_as_a_record_is_malformed(line: bytes) -> None:
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


# --- The forms of every audit version ---

STAMP_OF_FORMS = (1_264_985_324_554, 4915)
FORMS = [
    # auditd's own records, of 1.x and 2.x before 2.6: free text before the first pair
    (b"DAEMON_START", b"): ", b"auditd start, ver=1.7.18 format=raw kernel=3.2.0 auid=0 pid=1 subj=u  res=success"),
    (b"DAEMON_END", b"): ", b"auditd normal halt, sending auid=0 pid=1 subj= res=success"),
    (b"DAEMON_CONFIG", b"): ", b"auditd error getting hup info - no change, sending auid=? pid=? subj=? res=failed"),
    (b"DAEMON_CONFIG", b") ", b"config changed, auid=0 pid=1 subj=system_u:system_r:init_t:s0 res=success"),
    (b"DAEMON_ROTATE", b"): ", b"auditd rotating logs, sending auid=0 pid=1 subj=u res=success"),
    (b"DAEMON_RESUME", b"): ", b"auditd resuming logging, sending auid=? pid=? subj=? res=success"),
    (b"DAEMON_ACCEPT", b"): ", b"addr=192.0.2.1 port=60 res=success"),
    (b"DAEMON_CLOSE", b"): ", b"addr=192.0.2.1 port=60 res=success"),
    # of 2.6 to 4.x
    (b"DAEMON_CONFIG", b") ", b"op=reconfigure state=changed auid=0 pid=1 subj=u:r:init_t:s0 res=success"),
    (b"DAEMON_CONFIG", b"): ", b"op=reconfigure state=no-change auid=-1 pid=-1 subj=? res=failed"),
    (b"DAEMON_START", b"): ", b'op=start ver=4.0.2 format=enriched kernel=6.1 auid=0 ses=2 res=success\x1dAUID="root"'),
    (b"DAEMON_END", b"): ", b"op=terminate auid=-1 uid=-1 ses=-1 pid=-1 subj=? res=success"),
    (b"DAEMON_ROTATE", b"): ", b"op=rotate-logs auid=-1 pid=-1 subj=? res=failed"),
    (b"DAEMON_RESUME", b"): ", b"op=resume-logging auid=-1 pid=-1 subj=? res=success"),
    (b"DAEMON_ABORT", b"): ", b"op=error-halt auid=4294967295 pid=1 res=failed"),
    (b"DAEMON_ERR", b"): ", b"op=dispatch-err auid=0 pid=1 res=failed"),
    # the kernel's, old and new
    (b"AVC", b"): ", b"avc:  denied  { getattr } for  pid=2199 exe=/usr/bin/vmware name=vm dev=dm-0 ino=5 tclass=file"),
    (b"USER", b"): ", b"user pid=2210 uid=0 auid=7 msg='PAM: exe=\"/usr/sbin/crond\" (hostname=?, res=success)'"),
    (b"CONFIG_CHANGE", b"): ", b"audit_enabled=1 old=0 by auid=4294967295"),
    (b"KERNEL", b"): ", b"initialized"),
    (b"CWD", b"): ", b' cwd="/root"'),
    (b"MAC_POLICY_LOAD", b"): ", b"policy loaded auid=4294967295 ses=4294967295"),
    (b"UNKNOWN[1420]", b"): ", b"subj_apparmor=unconfined"),
    (b"EOE", b"): ", b""),
    (b"SYSCALL", b"): ", b"arch=c000003e syscall=2 key=(null)  "),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "joint", "body"), FORMS)
@pytest.mark.parametrize("node", [b"", b"r1.example.net", b"fe80::1%eth0", b"192.0.2.1"])
def test_every_form_of_a_record_is_one(type_: bytes, joint: bytes, body: bytes, node: bytes) -> None:
    prefix = b"node=%b " % node if node else b""
    line = prefix + b"type=" + type_ + b" msg=audit(1264985324.554:4915" + joint + body
    assert parse(line) == Record(type_, *STAMP_OF_FORMS, node, body, line)


def test_auparse_reads_every_form_as_we_do() -> None:
    lines = [b"type=" + type_ + b" msg=audit(1264985324.554:4915" + joint + body for type_, joint, body in FORMS]
    # auparse makes no event of an EOE alone, and no field of an empty value.
    assert_read_as_auparse_reads([line for line in lines if b"EOE" not in line and b"subj= " not in line])


@pytest.mark.parametrize(
    ("written", "type_"),
    [(b"1400", b"AVC"), (b"1327", b"PROCTITLE"), (b"1420", b"UNKNOWN[1420]"), (b"0001107", b"USER_AVC")],
)
def test_a_type_written_as_its_number_is_read_as_its_name(written: bytes, type_: bytes) -> None:
    line = b"type=" + written + b" msg=audit(1264985324.554:4915): avc:  denied  { ioctl } for  pid=5"
    record = parse(line)
    assert record is not None
    assert (record.type, record.line) == (type_, line)


def test_a_serial_of_64_bits_is_read() -> None:
    record = parse(b"type=EOE msg=audit(1709742929.678:18446744073709551615): ")
    assert record is not None
    assert record.serial == 2**64 - 1


@pytest.mark.parametrize("following", [b") op=reconfigure state=changed res=success", b"): op=x"])
def test_a_record_without_a_colon_ends_the_one_before_it_in_its_line(following: bytes) -> None:
    joined = b"type=DAEMON_CONFIG msg=audit(1709742929.678:4915" + following
    record = parse(HEAD + b"pid=1 ui" + joined)
    assert record is not None
    assert (record.body, record.joined) == (b"pid=1 ui", joined)


@pytest.mark.parametrize(
    "line",
    [
        b"type=DAEMON_ERR op=format-raw msg=NULL res=failed",
        b"type=SYSCALL msg=lost",
        b"type=1400 audit(1709742929.678:2340): avc:  denied",
        b"type=USER_CMD msg=audit(1796000000.021:5021):pid=1 msg='res=success'",
        b"type=USER_CMD msg=audit(1796000000.22:5022): pid=1 msg='res=success'",
        b"type=user_cmd msg=audit(1796000000.023:5023): pid=1 msg='res=success'",
        b"Nov 30 10:00:00 h audispd: type=USER_CMD msg=audit(1796000000.025:5025): pid=1",
    ],
)
def test_forms_that_no_audit_version_writes_with_a_time_stay_malformed(line: bytes) -> None:
    assert parse(line) is None
