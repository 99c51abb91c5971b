"""What a server with a largest message gets: the whole, the parts, or what is left of it."""

from collections.abc import Callable

import pytest
from harness.records import record_of
from hypothesis import given
from hypothesis import strategies as st

from relay.events.audit.assembly import AuditEvent
from relay.events.audit.mapping import AuditMapping
from relay.events.audit.parts import parts
from relay.syslog.rfc5424 import BOM, identity
from relay.syslog.rfc5424 import parse as parse_message
from relay.values.event import Event

Stored = Callable[[Event, int], bytes]


def message_of(stored: Stored, mapping: AuditMapping, *lines: bytes, late: bool = False) -> bytes:
    (event,) = mapping.events(AuditEvent(tuple(map(record_of, lines)), late=late))
    return stored(event, 7)


def params(message: bytes) -> dict[bytes, bytes]:
    return dict(parse_message(message).structured_data[0].params)


def msg(message: bytes) -> bytes:
    return parse_message(message).msg or b""


LINES = [
    b'type=SYSCALL msg=audit(1709742929.678:2340): exit=4 comm="sshd" res=failed ',
    b"type=PATH msg=audit(1709742929.678:2340): item=0 name=2F612062",
    b"type=PATH msg=audit(1709742929.678:2340): item=1",
]


def test_a_message_within_the_limit_comes_back_as_it_is(stored: Stored, mapping: AuditMapping) -> None:
    message = message_of(stored, mapping, *LINES)
    assert parts(message, len(message)) == [message]


def test_an_event_over_the_limit_goes_record_by_record(golden: Callable[[str], bytes]) -> None:
    event = golden("event-2340.syslog")
    assert parts(event, len(event) - 1) == [golden(f"part-2340-{nth}.syslog") for nth in (1, 2, 3)]


def test_the_parts_share_the_events_identity_and_hold_all_its_records(stored: Stored, mapping: AuditMapping) -> None:
    message = message_of(stored, mapping, *LINES)
    sent = parts(message, len(message) - 1)
    assert [msg(part) for part in sent] == LINES
    assert [parse_message(part).msgid for part in sent] == [b"SYSCALL", b"PATH", b"PATH"]
    assert {parse_message(part).severity for part in sent} == {4}
    whole = identity(message)
    assert whole is not None
    assert [identity(part) for part in sent] == [whole._replace(part=nth, parts=3) for nth in (1, 2, 3)]
    assert params(sent[1])[b"name"] == b"/a b"
    assert params(sent[2])[b"item"] == b"1"


def test_without_a_limit_every_event_goes_record_by_record(stored: Stored, mapping: AuditMapping) -> None:
    assert len(parts(message_of(stored, mapping, *LINES), None)) == 3
    single = message_of(stored, mapping, LINES[0])
    assert parts(single, None) == [single]
    assert parts(b"<13>1 - h a - - - no audit event", None) == [b"<13>1 - h a - - - no audit event"]
    malformed = stored(mapping.malformed(b"type=SYSC", 0), 9)
    assert parts(malformed, None) == [malformed]


def test_a_part_may_be_cut_to_a_limit_afterwards(stored: Stored, mapping: AuditMapping) -> None:
    """A server with trailed framing and a limit: first None, then the limit."""
    long = LINES[1] + b" " + b"x" * 2000
    message = message_of(stored, mapping, LINES[0], long)
    (cut,) = parts(parts(message, None)[1], 600)
    assert len(cut) == 600
    assert params(cut)[b"relayPart"] == b"2/2"
    assert params(cut)[b"truncated"] == b"1"
    assert cut == parts(message, 600)[1]


def test_a_single_record_over_the_limit_loses_its_params_first(stored: Stored, mapping: AuditMapping) -> None:
    message = message_of(stored, mapping, b"type=USER msg=audit(1.000:1): " + b"a=1 " * 100)
    (cut,) = parts(message, len(message) - 1)
    assert msg(cut) == msg(message)
    assert list(params(cut)) == [b"relayRun", b"relaySeq", b"type", b"router", b"node", b"serial", b"truncated"]


def test_then_it_loses_its_end(stored: Stored, mapping: AuditMapping) -> None:
    message = message_of(stored, mapping, b"type=USER msg=audit(1.000:1): " + b"a=1 " * 1000, late=True)
    (cut,) = parts(message, 1000)
    assert len(cut) == 1000
    assert msg(message).startswith(msg(cut))
    assert (params(cut)[b"truncated"], params(cut)[b"late"]) == (b"1", b"1")
    assert identity(cut) == identity(message)


def test_a_message_that_was_cut_before_says_so_once(stored: Stored, mapping: AuditMapping) -> None:
    message = message_of(stored, mapping, b"type=USER msg=audit(1.000:1): " + b"a=1 " * 1000)
    (cut,) = parts(message, 1000)
    (again,) = parts(cut, 800)
    assert again == parts(message, 800)[0]


def test_a_malformed_line_over_the_limit_keeps_its_mark(stored: Stored, mapping: AuditMapping) -> None:
    (cut,) = parts(stored(mapping.malformed(b"x" * 100_000, 0), 9), 8192)
    assert len(cut) == 8192
    assert (params(cut)[b"malformed"], params(cut)[b"truncated"]) == (b"1", b"1")


def test_another_event_of_relays_own_is_cut_and_not_split() -> None:
    message = (
        b'<109>1 - h 128T - - [128T relayRun="r" relaySeq="1" type="alarm" router="a" source="x\\]\\"y"][o x="1"] '
        + b"m" * 500
    )
    (cut,) = parts(message, 300)
    assert cut == (
        b'<109>1 - h 128T - - [128T relayRun="r" relaySeq="1" type="alarm" router="a" truncated="1"] '.ljust(300, b"m")
    )


def test_an_identity_is_never_cut(stored: Stored, mapping: AuditMapping) -> None:
    message = message_of(stored, mapping, LINES[0])
    (cut,) = parts(message, 10)
    assert identity(cut) == identity(message)
    assert parse_message(cut).msg is None


@pytest.mark.parametrize("room", range(1, 12))
def test_a_cut_does_not_fall_inside_a_character(room: int, stored: Stored, mapping: AuditMapping) -> None:
    text = "aä€😀z".encode()
    message = message_of(stored, mapping, b"type=USER msg=audit(1.000:1): " + text * 1000)
    shortest = len(parts(message, 1)[0]) + len(b" type=USER msg=audit(1.000:1): ")
    (cut,) = parts(message, shortest + room)
    assert shortest + room - 3 <= len(cut) <= shortest + room
    msg(cut).decode()


def test_octets_that_are_not_utf8_are_cut_at_the_limit(stored: Stored, mapping: AuditMapping) -> None:
    message = message_of(stored, mapping, b"type=USER msg=audit(1.000:1): " + b"\x80" * 5000)
    assert len(parts(message, 1000)[0]) == 1000


@pytest.mark.parametrize(
    ("message", "limit", "expected"),
    [
        (b"<13>1 - h a - - - 0123456789", 20, b"<13>1 - h a - - - 01"),
        (b'<13>1 - h a - - [x a="\\]"] 0123456789', 30, b'<13>1 - h a - - [x a="\\]"] 012'),
        (b"<13>1 - h a - - - " + BOM + b"\xc3\xa4\xc3\xa4", 24, b"<13>1 - h a - - - " + BOM + b"\xc3\xa4"),
        (b"<13>1 - h a - - - " + BOM + b"text", 20, b"<13>1 - h a - - - "),
        (b'<13>1 - h a - - [x a="0123456789"] msg', 25, b'<13>1 - h a - - [x a="012'),
        (b"<13>Oct 11 22:14:15 h su: \xc3\xa4", 27, b"<13>Oct 11 22:14:15 h su: "),
        (b"no syslog at all", 9, b"no syslog"),
    ],
)
def test_a_foreign_message_is_cut_at_the_end_of_its_msg_or_as_plain_octets(
    message: bytes, limit: int, expected: bytes
) -> None:
    assert parts(message, limit) == [expected]


def test_text_that_looks_like_an_identity_does_not_make_a_message_ours() -> None:
    message = b'<13>1 - h a - - - [128T relayRun="r" relaySeq="1" type="audit" ] ' + b"x" * 100
    assert parts(message, 80) == [message[:80]]


_fields = st.binary(max_size=200).map(lambda octets: octets.replace(b"\n", b""))


@given(st.lists(_fields, min_size=1, max_size=5), st.integers(250, 1200))
def test_whatever_the_limit_the_parts_are_legal_within_it_and_begin_with_their_records(
    bodies: list[bytes], limit: int
) -> None:
    lines = [b"type=PATH msg=audit(1.000:1): " + body for body in bodies]
    (event,) = AuditMapping(hostname="h", router="r").events(AuditEvent(tuple(map(record_of, lines))))
    message = event.head + b' relayRun="r" relaySeq="7"' + event.tail
    sent = parts(message, limit)
    assert all(len(part) <= limit for part in sent)
    if len(sent) == 1:
        assert b"\n".join(lines).startswith(msg(sent[0]))
    else:
        assert all(line.startswith(msg(part)) for line, part in zip(lines, sent, strict=True))
    found = [identity(part) for part in sent]
    assert [each and (each.part, each.parts) for each in found] == [(nth, len(sent)) for nth in range(1, len(sent) + 1)]
    for part in sent:
        assert len(msg(part)) > 0 or limit < 400
        assert b"truncated" in params(part) or msg(part) in (*lines, b"\n".join(lines))


@given(st.binary(max_size=300), st.one_of(st.none(), st.integers(1, 300)))
def test_no_octets_crash_the_decoder(message: bytes, limit: int | None) -> None:
    sent = parts(message, limit)
    assert len(sent) == 1
    assert message.startswith(sent[0])
