"""Audit events as messages: the seed's 26 events octet for octet, and every rule by itself."""

from collections.abc import Callable

import pytest
from harness.records import record_of
from hypothesis import given
from hypothesis import strategies as st

from relay.events.audit.assembly import Assembler, AuditEvent
from relay.events.audit.mapping import AuditMapping
from relay.events.audit.record_types import NUMBERS
from relay.syslog.rfc5424 import Message, identity
from relay.syslog.rfc5424 import parse as parse_message
from relay.values.event import Event, EventType

SEED_SERIALS = [2320, 2321, *range(2335, 2359)]


def event_of(*lines: bytes, late: bool = False) -> AuditEvent:
    return AuditEvent(tuple(record_of(line) for line in lines), late=late)


def seed_events(seed_lines: list[bytes]) -> list[AuditEvent]:
    assembler = Assembler[int]()
    events = [event for place, line in enumerate(seed_lines) for event in assembler.feed(record_of(line), place, 0.0)]
    return events + assembler.flush()


def read(event: Event) -> Message:
    """Read a message back with the strict parser, with an identity in its place."""
    message = event.head + b' relayRun="0f1e" relaySeq="7"' + event.tail
    found = identity(message)
    assert found is not None
    assert (found.run, found.sequence, found.type) == (b"0f1e", 7, b"audit")
    return parse_message(message)


def params(event: Event) -> list[tuple[bytes, bytes]]:
    """All SD-PARAMs after the identity."""
    (element,) = read(event).structured_data
    return list(element.params[2:])


def test_the_seed_holds_28_records_of_which_26_end_with_a_space(seed_lines: list[bytes]) -> None:
    assert len(seed_lines) == 28
    assert sum(line.endswith(b" ") for line in seed_lines) == 26


def test_the_28_records_of_the_seed_are_26_events_in_the_order_of_the_log(seed_lines: list[bytes]) -> None:
    """Event 2349, a SYSCALL alone, leaves when the next record comes 79 s later."""
    events = seed_events(seed_lines)
    assert [event.records[0].serial for event in events] == SEED_SERIALS
    assert [len(event.records) for event in events if event.records[0].serial == 2340] == [3]
    assert not any(event.late for event in events)


@pytest.mark.parametrize("serial", SEED_SERIALS)
def test_an_event_of_the_seed_becomes_exactly_this_message(
    serial: int,
    seed_lines: list[bytes],
    mapping: AuditMapping,
    stored: Callable[[Event, int], bytes],
    golden: Callable[[str], bytes],
) -> None:
    (audit_event,) = (event for event in seed_events(seed_lines) if event.records[0].serial == serial)
    (event,) = mapping.events(audit_event)
    assert stored(event, SEED_SERIALS.index(serial) + 1) == golden(f"event-{serial}.syslog")
    assert event.type is EventType.AUDIT
    assert event.time == audit_event.records[0].time * 1000


def test_the_records_of_the_seed_reach_the_other_side_octet_for_octet(
    seed_lines: list[bytes], mapping: AuditMapping
) -> None:
    events = [event for audit_event in seed_events(seed_lines) for event in mapping.events(audit_event)]
    assert b"\n".join(read(event).msg or b"" for event in events) == b"\n".join(seed_lines)


def test_in_record_format_every_record_is_a_message_with_its_own_type(
    seed_lines: list[bytes], stored: Callable[[Event, int], bytes], golden: Callable[[str], bytes]
) -> None:
    by_record = AuditMapping(hostname="combo1", router="combo1", node="test1", format="record")
    (login,) = (event for event in seed_events(seed_lines) if event.records[0].serial == 2340)
    events = by_record.events(login)
    assert [read(event).msgid for event in events] == [b"LOGIN", b"SYSCALL", b"PROCTITLE"]
    for sequence, event in enumerate(events, 1):
        assert stored(event, sequence) == golden(f"record-2340-{sequence}.syslog")


@pytest.mark.parametrize(
    ("line", "severity"),
    [
        (b"type=USER_AUTH msg=audit(1.000:1): msg='op=x res=failed'", 4),
        (b"type=USER_AUTH msg=audit(1.000:1): msg='op=x res=success'", 6),
        (b"type=LOGIN msg=audit(1.000:1): ses=1 res=0", 4),
        (b"type=LOGIN msg=audit(1.000:1): ses=1 res=1", 6),
        (b"type=DAEMON_END msg=audit(1.000:1): res=no", 4),
        (b"type=DAEMON_END msg=audit(1.000:1): res=none", 6),
        (b"type=LOGIN msg=audit(1.000:1): ses=1 ares=0", 6),
        (b"type=USER_ACCT msg=audit(1.000:1): (hostname=?, terminal=cron res=failed)'", 4),
        (b"type=USER_AUTH msg=audit(1.000:1): msg='res=failed'\x1dUID=\"root\"", 4),
        (b"type=AVC msg=audit(1.000:1): avc:  granted  { read } for  pid=1", 4),
        (b"type=USER_AVC msg=audit(1.000:1): pid=1", 4),
        (b"type=APPARMOR_DENIED msg=audit(1.000:1): pid=1", 4),
        (b"type=ANOM_PROMISCUOUS msg=audit(1.000:1): dev=eth0 prom=256", 4),
        (b"type=SYSCALL msg=audit(1.000:1): success=no", 6),
    ],
)
def test_failures_denials_and_anomalies_are_warnings(line: bytes, severity: int, mapping: AuditMapping) -> None:
    (event,) = mapping.events(event_of(line))
    message = read(event)
    assert (message.facility, message.severity) == (13, severity)


def test_one_warning_among_the_records_makes_the_event_a_warning(mapping: AuditMapping) -> None:
    (event,) = mapping.events(event_of(b"type=SYSCALL msg=audit(1.000:1): a=1", b"type=AVC msg=audit(1.000:1): pid=1"))
    assert read(event).severity == 4


def test_other_records_fields_are_named_by_type_and_a_repeated_type_is_numbered(mapping: AuditMapping) -> None:
    (event,) = mapping.events(
        event_of(
            b"type=SYSCALL msg=audit(1.000:1): exit=0",
            b"type=CWD msg=audit(1.000:1): cwd=2F612062",
            b"type=PATH msg=audit(1.000:1): item=0",
            b"type=PATH msg=audit(1.000:1): item=1",
            b"type=SYSCALL msg=audit(1.000:1): exit=1",
            b"type=UNKNOWN[1334] msg=audit(1.000:1): prog-id=2",
        )
    )
    assert params(event)[4:] == [
        (b"exit", b"0"),
        (b"CWD.cwd", b"/a b"),
        (b"PATH.item", b"0"),
        (b"PATH2.item", b"1"),
        (b"SYSCALL2.exit", b"1"),
        (b"UNKNOWN1334.prog-id", b"2"),
    ]


def test_names_with_brackets_become_names_that_can_be_guessed(mapping: AuditMapping) -> None:
    (event,) = mapping.events(
        event_of(
            b"type=UNKNOWN[1420] msg=audit(1.000:1): serial=3",
            b'type=EXECVE msg=audit(1.000:1): argc=2 a0="sh" a1_len=7501 a1[0]=6C73 a1[1]=2D6C',
            b"type=UNKNOWN[1327] msg=audit(1.000:1): proctitle=6C73",
            b"type=UNKNOWN[1327] msg=audit(1.000:1): proctitle=6C73",
            b"type=EXECVE msg=audit(1.000:1): a1[0]=6C73 x[y=1",
        )
    )
    assert params(event)[4:] == [
        (b"UNKNOWN1420.serial", b"3"),
        (b"EXECVE.argc", b"2"),
        (b"EXECVE.a0", b"sh"),
        (b"EXECVE.a1_len", b"7501"),
        (b"EXECVE.a1.0", b"ls"),
        (b"EXECVE.a1.1", b"-l"),
        (b"UNKNOWN1327.proctitle", b"ls"),
        (b"UNKNOWN1327_2.proctitle", b"ls"),
        (b"EXECVE2.a1.0", b"ls"),
        (b"EXECVE2.x[y", b"1"),
    ]
    assert read(event).msgid == b"UNKNOWN[1420]"


def test_no_type_name_is_another_type_name_with_a_number() -> None:
    """Else OPENAT2 would be a type, and the second record of OPENAT."""
    assert [name for name in NUMBERS if name.rstrip(b"0123456789") != name] == [b"OPENAT2"]
    assert b"OPENAT" not in NUMBERS


def test_the_second_record_of_a_type_that_ends_in_a_digit_has_its_number_apart(mapping: AuditMapping) -> None:
    line = b"type=OPENAT2 msg=audit(1.000:1): mode=0"
    (event,) = mapping.events(event_of(b"type=SYSCALL msg=audit(1.000:1): a=1", line, line))
    assert params(event)[5:] == [(b"OPENAT2.mode", b"0"), (b"OPENAT2_2.mode", b"0")]


def test_each_of_two_rule_keys_is_a_parameter(mapping: AuditMapping) -> None:
    (event,) = mapping.events(
        event_of(
            b"type=CONFIG_CHANGE msg=audit(1.000:1): op=add_rule key=65786563013634626974 list=4",
            b"type=SYSCALL msg=audit(1.000:1): key=65786563013634626974",
        )
    )
    assert params(event)[4:] == [
        (b"op", b"add_rule"),
        (b"key", b"exec"),
        (b"key", b"64bit"),
        (b"list", b"4"),
        (b"SYSCALL.key", b"exec"),
        (b"SYSCALL.key", b"64bit"),
    ]


def test_a_field_with_a_name_of_relays_own_gets_the_record_type_as_prefix(mapping: AuditMapping) -> None:
    """A record cannot pretend to be late, nor have another serial or identity."""
    (event,) = mapping.events(
        event_of(b"type=USER msg=audit(1.000:1): serial=9 late=1 relaySeq=9 relayPart=1/2 type=x")
    )
    assert params(event)[3:] == [
        (b"serial", b"1"),
        (b"USER.serial", b"9"),
        (b"USER.late", b"1"),
        (b"USER.relaySeq", b"9"),
        (b"USER.relayPart", b"1/2"),
        (b"USER.type", b"x"),
    ]


def test_names_are_made_legal_and_cut_to_32_octets(mapping: AuditMapping) -> None:
    (event,) = mapping.events(event_of(b"type=EXECVE msg=audit(1.000:1): a1[0]=6C73 %b=1 n\xc3\xa4=2" % (b"n" * 40)))
    assert params(event)[4:] == [(b"a1.0", b"ls"), (b"n" * 32, b"1"), (b"n__", b"2")]


@pytest.mark.parametrize(
    ("hexadecimal", "expected"),
    [
        (b'a"b\\c]d', b'a"b\\c]d'),
        ("ä€😀".encode(), "ä€😀".encode()),
        (b"\xff\xc3", "\N{REPLACEMENT CHARACTER}".encode() * 2),
        (b"a\nb\0c\x1b[31m\x7f", b"a#012b#000c#033[31m#177"),
    ],
)
def test_a_decoded_value_is_legal_utf8_without_control_octets(
    hexadecimal: bytes, expected: bytes, mapping: AuditMapping
) -> None:
    (event,) = mapping.events(event_of(b"type=PATH msg=audit(1.000:1): name=" + hexadecimal.hex().upper().encode()))
    assert params(event)[4:] == [(b"name", expected)]


def test_a_message_of_one_record_does_not_hold_an_lf(mapping: AuditMapping) -> None:
    """So that it can be sent where an LF ends a message."""
    (event,) = mapping.events(event_of(b"type=USER_CMD msg=audit(1.000:1): cmd=6C730A6C73"))
    assert b"\n" not in event.head + event.tail


def test_a_late_record_says_so(mapping: AuditMapping) -> None:
    (event,) = mapping.events(event_of(b"type=PATH msg=audit(1.000:7): item=0", late=True))
    assert params(event)[3:] == [(b"serial", b"7"), (b"late", b"1"), (b"item", b"0")]


def test_node_is_the_configured_one_else_the_records_own_else_absent() -> None:
    line = b"node=n2 type=PATH msg=audit(1.000:7): item=0"
    named = AuditMapping(hostname="h", router="r", node="n1")
    unnamed = AuditMapping(hostname="h", router="r")
    assert params(named.events(event_of(line))[0])[2] == (b"node", b"n1")
    assert params(unnamed.events(event_of(line))[0])[2] == (b"node", b"n2")
    assert params(unnamed.events(event_of(line.removeprefix(b"node=n2 ")))[0])[2] == (b"serial", b"7")


def test_hostname_router_and_sd_id_are_made_legal() -> None:
    odd = AuditMapping(hostname="käse kuchen", router='r"1]', sd_id="128T@2636")
    message = read(odd.events(event_of(b"type=PATH msg=audit(1.000:7): item=0"))[0])
    assert message.hostname == b"k__se_kuchen"
    assert message.structured_data[0].id == b"128T@2636"
    assert message.structured_data[0].params[3] == (b"router", b'r"1]')


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (b"0.000", b"1970-01-01T00:00:00.000Z"),
        (b"1709742929.678", b"2024-03-06T16:35:29.678Z"),
        (b"1709251199.999", b"2024-02-29T23:59:59.999Z"),
        (b"99999999999.999", b"5138-11-16T09:46:39.999Z"),
    ],
)
def test_the_time_stamp_is_the_records(stamp: bytes, expected: bytes, mapping: AuditMapping) -> None:
    (event,) = mapping.events(event_of(b"type=PATH msg=audit(%b:7): item=0" % stamp))
    assert read(event).timestamp == expected
    assert event.time == int(stamp.replace(b".", b"")) * 1000


@pytest.mark.parametrize(
    "line", [b"", b"rch=c000003e syscall=1", b'\0\xff]"', b"type=SYSCALL msg=audit(17", b"x" * 100_000]
)
def test_a_malformed_line_goes_as_it_is_and_is_marked(line: bytes, mapping: AuditMapping) -> None:
    event = mapping.malformed(line, 1_709_742_929_678_901)
    message = read(event)
    assert event.time == 1_709_742_929_678_901
    assert (message.timestamp, message.hostname, message.app_name) == (None, b"combo1", b"auditd")
    assert (message.procid, message.msgid, message.facility) == (None, None, 13)
    assert params(event) == [(b"type", b"audit"), (b"router", b"combo1"), (b"node", b"test1"), (b"malformed", b"1")]
    assert message.msg == line


@given(st.lists(st.binary(max_size=120), min_size=1, max_size=4), st.sampled_from([b"EXECVE", b"PROCTITLE", b"PATH"]))
def test_any_record_becomes_a_legal_message_that_holds_it_as_it_came(bodies: list[bytes], type_: bytes) -> None:
    lines = [b"type=%b msg=audit(1.000:1): %b" % (type_, body.replace(b"\n", b"")) for body in bodies]
    (event,) = AuditMapping(hostname="h", router="r").events(event_of(*lines))
    message = read(event)
    assert message.msg == b"\n".join(lines)
    assert message.msgid == type_


def test_two_records_in_a_line_give_the_fields_of_the_first_and_a_mark(mapping: AuditMapping) -> None:
    line = b"type=USER msg=audit(1.000:7): pid=1 uitype=DAEMON_CLOSE msg=audit(2.000:8): addr=192.0.2.1 res=failed"
    (event,) = mapping.events(event_of(line))
    assert params(event)[3:] == [(b"serial", b"7"), (b"malformed", b"1"), (b"pid", b"1")]
    message = read(event)
    assert (message.severity, message.msgid, message.msg) == (6, b"USER", line)


def test_only_the_record_that_is_harmed_is_marked(mapping: AuditMapping) -> None:
    whole = b"type=SYSCALL msg=audit(1.000:7): syscall=1"
    joined = b"type=PATH msg=audit(1.000:7): item=0 natype=DAEMON_CLOSE msg=audit(2.000:8): res=success"
    (event,) = mapping.events(event_of(whole, joined, late=True))
    assert (b"malformed", b"1") in params(event)
    assert (b"late", b"1") in params(event)
    by_record = AuditMapping(hostname="combo1", router="combo1", format="record").events(event_of(whole, joined))
    assert [(b"malformed", b"1") in params(each) for each in by_record] == [False, True]


def test_both_log_formats_give_the_same_parameters_for_a_socket_address(mapping: AuditMapping) -> None:
    call = b"type=SYSCALL msg=audit(1.000:7): syscall=42"
    raw = b"type=SOCKADDR msg=audit(1.000:7): saddr=020000097F0000010000000000000000"
    enriched = raw + b"\x1dSADDR={ saddr_fam=inet laddr=127.0.0.1 lport=9 }"
    ours, auditds = (params(mapping.events(event_of(call, line))[0]) for line in (raw, enriched))
    assert ours == auditds
    assert ours[-4:] == [
        (b"SOCKADDR.saddr", b"020000097F0000010000000000000000"),
        (b"SOCKADDR.saddr_fam", b"inet"),
        (b"SOCKADDR.laddr", b"127.0.0.1"),
        (b"SOCKADDR.lport", b"9"),
    ]
