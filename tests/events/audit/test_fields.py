"""The fields of a record, decoded."""

import time

import pytest
from harness.auparse import assert_read_as_auparse_reads
from hypothesis import given
from hypothesis import strategies as st

from relay.events.audit.fields import fields
from relay.events.audit.record import Record, parse


def record_of(body: bytes, type_: bytes = b"SYSCALL") -> Record:
    record = parse(b"type=%b msg=audit(1709742940.326:2349): %b" % (type_, body))
    assert record is not None
    return record


def fields_of(body: bytes, type_: bytes = b"SYSCALL") -> list[tuple[bytes, bytes]]:
    return fields(record_of(body, type_))


def test_bare_and_quoted_values_may_be_mixed() -> None:
    assert fields_of(b'uid=0 comm="sshd" exe="/usr/sbin/s shd" tty=pts/0 ') == [
        (b"uid", b"0"),
        (b"comm", b"sshd"),
        (b"exe", b"/usr/sbin/s shd"),
        (b"tty", b"pts/0"),
    ]


def test_the_inner_body_of_a_user_message_is_read_as_if_it_stood_outside() -> None:
    assert fields_of(b"pid=1 msg='op=PAM:authentication grantors=pam_faillock,pam_unix res=failed' ", b"USER_AUTH") == [
        (b"pid", b"1"),
        (b"op", b"PAM:authentication"),
        (b"grantors", b"pam_faillock,pam_unix"),
        (b"res", b"failed"),
    ]


def test_a_single_quote_within_a_value_belongs_to_it() -> None:
    """As auparse has it; the one at the end closes the inner body."""
    assert fields_of(b"pid=1 msg='text=it's here res=success'\x1dUID=\"root\"", b"USER") == [
        (b"pid", b"1"),
        (b"text", b"it's"),
        (b"res", b"success"),
        (b"UID", b"root"),
    ]


def test_the_resolved_name_of_a_unix_socket_is_read_to_its_end() -> None:
    """Whoever names the socket would else write fields of his own."""
    saddr = b"saddr=01002F782F6120736F636B657400"
    body = saddr + b"\x1dSADDR={ saddr_fam=local path=/x laddr=192.0.2.1 lport=22 } }"
    assert fields_of(body, b"SOCKADDR") == [
        (b"saddr", b"01002F782F6120736F636B657400"),
        (b"saddr_fam", b"local"),
        (b"path", b"/x laddr=192.0.2.1 lport=22 }"),
    ]


def test_a_socket_address_that_auditd_did_not_resolve_is_resolved() -> None:
    saddr = b"saddr=020000357F0000350000000000000000"
    resolved = [(b"saddr_fam", b"inet"), (b"laddr", b"127.0.0.53"), (b"lport", b"53")]
    assert fields_of(saddr, b"SOCKADDR") == [(b"saddr", saddr[6:]), *resolved]
    enriched = saddr + b"\x1dSADDR={ saddr_fam=inet laddr=127.0.0.53 lport=53 }"
    assert fields_of(enriched, b"SOCKADDR") == fields_of(saddr, b"SOCKADDR")


@pytest.mark.parametrize("nothing", [b"?", b'"?"', b"(null)", b'"(null)"', b"(none)", b'"(none)"'])
def test_these_values_mean_no_value_and_make_no_field(nothing: bytes) -> None:
    assert fields_of(b"uid=0 key=%b ses=1" % nothing) == [(b"uid", b"0"), (b"ses", b"1")]


def test_a_value_that_only_resembles_a_missing_one_is_kept() -> None:
    assert fields_of(b'acct="(unknown)" a=?? b="" c=') == [
        (b"acct", b"(unknown)"),
        (b"a", b"??"),
        (b"b", b""),
        (b"c", b""),
    ]


@pytest.mark.parametrize(
    ("body", "type_", "expected"),
    [
        (b"proctitle=737368643A2063656E746F73205B707269765D", b"PROCTITLE", b"sshd: centos [priv]"),
        (b"proctitle=6C73002D6C002F746D70", b"PROCTITLE", b"ls -l /tmp"),
        (b"a1=2D6C202D61", b"EXECVE", b"-l -a"),
        (b"a1[0]=2D6C", b"EXECVE", b"-l"),
        (b"cmd=636174202F6574632F736861646F77", b"USER_CMD", b"cat /etc/shadow"),
        (b"name=2F746D702F0A", b"PATH", b"/tmp/\n"),
        (b"comm=FFFE", b"SYSCALL", b"\xff\xfe"),
        (b"name=00", b"PATH", b"\0"),
    ],
)
def test_hex_of_an_untrusted_field_is_decoded(body: bytes, type_: bytes, expected: bytes) -> None:
    assert [value for _, value in fields_of(body, type_)] == [expected]


@pytest.mark.parametrize(
    ("written", "keys"),
    [
        (b"65786563013634626974", [b"exec", b"64bit"]),
        (b'"exec"', [b"exec"]),
        (b"0161010162632064", [b"a", b"bc d"]),
        (b"01", []),
        (b"6120620163", [b"a b", b"c"]),
    ],
)
@pytest.mark.parametrize("type_", [b"SYSCALL", b"CONFIG_CHANGE"])
def test_each_of_several_rule_keys_is_a_field_as_in_auparse(written: bytes, keys: list[bytes], type_: bytes) -> None:
    body = b"a=1 key=%b list=4" % written
    assert fields_of(body, type_) == [(b"a", b"1"), *((b"key", key) for key in keys), (b"list", b"4")]
    assert_read_as_auparse_reads([b"type=%b msg=audit(1264985324.554:4915): %b" % (type_, body)])


@pytest.mark.parametrize(
    ("body", "type_", "expected"),
    [
        (b'comm="6C73"', b"SYSCALL", b"6C73"),  # quoted: the text itself
        (b"comm=6C7", b"SYSCALL", b"6C7"),  # odd
        (b"comm=6c73", b"SYSCALL", b"6c73"),  # the kernel writes upper case
        (b"comm=6C7X", b"SYSCALL", b"6C7X"),
        (b"a1=7FFE4754F5C0", b"SYSCALL", b"7FFE4754F5C0"),  # a register, not an argument
        (b"argc=10", b"EXECVE", b"10"),
        (b"a1_len=1000", b"EXECVE", b"1000"),
        (b"saddr=0200", b"NETFILTER_PKT", b"0200"),
        (b"syscall=42", b"SYSCALL", b"42"),
    ],
)
def test_an_untrusted_field_that_is_not_hex_stays(body: bytes, type_: bytes, expected: bytes) -> None:
    assert [value for _, value in fields_of(body, type_)] == [expected]


def test_text_before_the_first_pair_is_skipped() -> None:
    assert fields_of(b'avc:  denied  { read write } for  pid=77 comm="cat" ino=55', b"AVC") == [
        (b"pid", b"77"),
        (b"comm", b"cat"),
        (b"ino", b"55"),
    ]


def test_commas_and_brackets_of_old_records_are_tolerated() -> None:
    body = (
        b'user pid=2210 uid=0, auid=7, msg=\'PAM: accounting acct="root" : exe="/usr/sbin/crond" '
        b"(hostname=?, addr=10.0.0.1, terminal=cron res=success)'"
    )
    assert fields_of(body, b"USER_ACCT") == [
        (b"pid", b"2210"),
        (b"uid", b"0"),
        (b"auid", b"7"),
        (b"acct", b"root"),
        (b"exe", b"/usr/sbin/crond"),
        (b"addr", b"10.0.0.1"),
        (b"terminal", b"cron"),
        (b"res", b"success"),
    ]


def test_brackets_inside_a_value_belong_to_it() -> None:
    assert fields_of(b"a=pipe(1) b=(deleted) c=x(y d=anon_inode:[eventfd]") == [
        (b"a", b"pipe(1)"),
        (b"b", b"(deleted)"),
        (b"c", b"x(y"),
        (b"d", b"anon_inode:[eventfd]"),
    ]


def test_the_names_that_auditd_resolved_are_kept_as_it_writes_them() -> None:
    assert fields_of(b'uid=0 key=(null)\x1dARCH=x86_64 UID="root" SADDR={ saddr_fam=inet lport=53 }') == [
        (b"uid", b"0"),
        (b"ARCH", b"x86_64"),
        (b"UID", b"root"),
        (b"saddr_fam", b"inet"),
        (b"lport", b"53"),
    ]


def test_a_name_may_come_twice() -> None:
    assert fields_of(b"a=1 a=2") == [(b"a", b"1"), (b"a", b"2")]


def test_a_name_of_more_than_64_octets_is_text() -> None:
    assert fields_of(b"%b=1 %b=2" % (b"n" * 65, b"n" * 64)) == [(b"n" * 64, b"2")]


@pytest.mark.parametrize(
    "body",
    [
        b"a" * 1_000_000,
        b' a="' * 250_000,
        b"(" * 1_000_000,
        b"a=" + b"(" * 1_000_000,
        b"a=" + b"," * 1_000_000,
        b"a=" + b"(x" * 500_000,
        b"a=" + b",x)" * 300_000,
        b" =" * 500_000,
        b"a=b " * 250_000,
    ],
)
def test_a_hostile_megabyte_is_read_in_linear_time(body: bytes) -> None:
    """Quadratic work would take minutes here; linear work takes a fraction of a second."""
    before = time.process_time()
    fields_of(body)
    assert time.process_time() - before < 5


@given(st.binary(max_size=300), st.sampled_from([b"SYSCALL", b"EXECVE", b"PROCTITLE", b"USER_CMD"]))
def test_no_octets_crash_the_reading_of_fields(body: bytes, type_: bytes) -> None:
    for name, value in fields_of(body.replace(b"\n", b" "), type_):
        assert 1 <= len(name) <= 64
        assert len(value) <= len(body)


@given(st.lists(st.binary(min_size=1), max_size=8))
def test_fields_that_the_kernel_encodes_are_decoded(values: list[bytes]) -> None:
    body = b" ".join(b"name=%b" % value.hex().upper().encode() for value in values)
    assert fields_of(body, b"PATH") == [(b"name", value) for value in values]
