"""SSR events as messages: Telegraf's own expectations, and what goes beyond them."""

import re

import pytest

from relay.events.audit.as_records import as_records
from relay.events.ssr.collected import Collected, Value
from relay.events.ssr.line_protocol import parse as collected
from relay.events.ssr.mapping import SsrDefaults, SsrMapping
from relay.syslog import rfc5424
from relay.values.event import Event, EventType

NOVEMBER = 1_289_430_000_000_000_000  # 2010-11-10T23:00:00Z
NOW = 1_700_000_000_000_000


def written(event: Event) -> bytes:
    """The message without its identity; every one must be legal."""
    message = event.head + event.tail
    rfc5424.parse(message)
    return message


def as_telegraf(event: Event) -> bytes:
    """The message as Telegraf writes it: without our own SD-PARAMs and fractions of a second."""
    message = written(event).replace(b' type="log" router="r1"', b"").replace(b".000Z ", b"Z ")
    return re.sub(rb" \[\S+\]", b" -", message)


def mapping(sd_id: str = "128T") -> SsrMapping:
    return SsrMapping(hostname="combo1", router="r1", sd_id=sd_id)


def event(record: bytes) -> Event:
    return mapping().event(collected(record), NOW)


def params(event: Event) -> dict[bytes, bytes]:
    (element,) = rfc5424.parse(event.head + event.tail).structured_data
    return dict(element.params)


# --- What Telegraf's own tests expect of its mapping (plugins/outputs/syslog) ---


@pytest.mark.parametrize(
    ("tags", "hostname"),
    [
        ({}, b"combo1"),
        ({b"hostname": b"testhost", b"source": b"sourcevalue", b"host": b"hostvalue"}, b"testhost"),
        ({b"source": b"sourcevalue", b"host": b"hostvalue"}, b"hostvalue"),
        ({b"source": b"sourcevalue"}, b"combo1"),
        ({b"host": b"hostvalue"}, b"hostvalue"),
    ],
)
def test_the_hostname_is_the_tag_hostname_or_host(tags: dict[bytes, bytes], hostname: bytes) -> None:
    """Not `source`, as Telegraf has it: in a router's alarm that is what it is about, and kept as such."""
    mapped = mapping().event(Collected(b"testmetric", tags, {}, NOVEMBER), NOW)
    assert written(mapped).startswith(b"<13>1 2010-11-10T23:00:00.000Z %b 128T - testmetric [128T " % hostname)
    assert params(mapped).get(b"source") == tags.get(b"source")


def test_values_that_an_event_lacks_are_the_configured_ones() -> None:
    """Telegraf's default_facility_code, default_severity_code and default_appname."""
    configured = SsrMapping(hostname="combo1", router="r1", defaults=SsrDefaults(16, 3, b"edge"))
    silent = written(configured.event(Collected(b"m", {}, {}, NOVEMBER), NOW))
    assert silent.startswith(b"<131>1 2010-11-10T23:00:00.000Z combo1 edge - m [")
    alarm = written(configured.event(Collected(b"m", {b"type": b"alarm", b"severity": b"major"}, {}, NOVEMBER), NOW))
    assert alarm.startswith(b"<131>1 ")
    own = {b"facility_code": 4, b"severity_code": 7}
    assert written(configured.event(Collected(b"m", {b"appname": b"a"}, own, NOVEMBER), NOW)).startswith(b"<39>1 ")
    assert written(configured.malformed(b"?", NOW)).startswith(b"<131>1 - combo1 edge - - [")


def test_configured_tags_are_added_where_an_event_has_none_of_the_name() -> None:
    """Telegraf's global tags (models/makemetric.go)."""
    tags = {"site": "berlin", "type": "system", "rack no": 'r"7', "128T_floor": "3"}
    configured = SsrMapping(hostname="combo1", router="r1", tags=tags)
    bare = params(configured.event(Collected(b"m", {}, {b"n": 1}, NOVEMBER), NOW))
    assert bare == {
        b"type": b"system",
        b"router": b"r1",
        b"floor": b"3",
        b"n": b"1",
        b"rack_no": b'r"7',
        b"site": b"berlin",
    }
    own = {b"site": b"oslo", b"type": b"alarm", b"128T_floor": b""}
    found = params(configured.event(Collected(b"m", own, {}, NOVEMBER), NOW))
    assert (found[b"site"], found[b"type"], found[b"floor"]) == (b"oslo", b"alarm", b"")


@pytest.mark.parametrize(
    ("tags", "header"),
    [
        ({"hostname": "edge"}, b"edge 128T - m ["),
        ({"host": "edge"}, b"edge 128T - m ["),
        ({"appname": "agent"}, b"combo1 agent - m ["),
        ({"router": "edge"}, b'combo1 128T - m [128T type="log" router="edge"]'),
    ],
)
def test_configured_tags_that_the_header_or_relay_itself_uses_are_used_there(
    tags: dict[str, str], header: bytes
) -> None:
    configured = SsrMapping(hostname="combo1", router="r1", tags=tags)
    assert header in written(configured.event(Collected(b"m", {}, {}, NOVEMBER), NOW))


def test_an_event_without_tags_and_fields_is_as_telegraf_writes_it() -> None:
    event = mapping().event(Collected(b"testmetric", {}, {}, NOVEMBER), NOW)
    assert as_telegraf(event) == b"<13>1 2010-11-10T23:00:00Z combo1 128T - testmetric -"


def test_header_fields_and_the_default_sd_id_are_as_telegraf_writes_them() -> None:
    """But for VERSION, which is 1 whatever a field says (RFC 5424 section 6.2.2); the field is kept."""
    tags = {
        b"appname": b"testapp",
        b"hostname": b"testhost",
        b"tag1": b"bar",
        b"default@32473_tag2": b"foobar",
    }
    fields: dict[bytes, Value] = {
        b"severity_code": 3,
        b"facility_code": 3,
        b"msg": b"Test message",
        b"procid": 25,
        b"version": 2,
        b"msgid": 555,
        b"timestamp": NOVEMBER + 1800 * 10**9,
        b"value1": 2,
        b"default@32473_value2": b"foo",
        b"value3": 1.2,
    }
    event = mapping("default@32473").event(Collected(b"testmetric", tags, fields, NOVEMBER), NOW)
    assert as_telegraf(event) == (
        b"<27>1 2010-11-10T23:30:00Z testhost testapp 25 555 "
        b'[default@32473 tag1="bar" tag2="foobar" value1="2" value2="foo" value3="1.2" version="2"] Test message'
    )
    assert event.time == (NOVEMBER + 1800 * 10**9) // 1000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"t", b"1"),
        (b"f", b"0"),
        (b"5i", b"5"),
        (b"5u", b"5"),
        (b"1.0", b"1"),
        (b"1.25", b"1.25"),
        (b"1e21", b"1000000000000000000000"),
        (b"1.5e-7", b"0.00000015"),
        (b"-0.0", b"-0"),
        (b'"text"', b"text"),
    ],
)
def test_values_are_written_as_telegraf_writes_them(text: bytes, shown: bytes) -> None:
    assert params(event(b"events a=%b" % text))[b"a"] == shown


# --- Events of a router ---


def test_an_alarm_of_a_router_is_mapped_whole() -> None:
    alarm = event(
        b"events,host=t127,node=node1,router=east,severity=critical,source=peer0\\ |\\ eth0,type=alarm "
        b'category="interface",message="link \\"eth0\\" is down",process="highway",shelved=false 1587687966123456789'
    )
    assert alarm.type is EventType.ALARM
    assert alarm.time == 1_587_687_966_123_456
    assert (alarm.head, alarm.tail) == (
        b"<10>1 2020-04-24T00:26:06.123456Z t127 128T - events [128T",
        (
            b' type="alarm" router="east" node="node1" category="interface" '
            b'message="link \\"eth0\\" is down" process="highway" severity="critical" shelved="0" '
            b'source="peer0 | eth0"]'
        ),
    )


@pytest.mark.parametrize(
    ("word", "severity"), [("critical", 2), ("major", 3), ("minor", 4), ("info", 6), ("MAJOR", 3), ("unheard", 5)]
)
def test_an_alarms_severity_is_the_messages(word: str, severity: int) -> None:
    for record in (f"events,type=alarm,severity={word} a=1i 1", f'events,type=alarm severity="{word}" 1'):
        alarm = event(record.encode())
        assert alarm.head.startswith(b"<%d>1 " % (8 + severity))
        assert params(alarm)[b"severity"] == word.encode()


def test_the_add_and_the_clear_of_an_alarm_differ_only_in_their_message() -> None:
    add, clear = (event(b'events,type=alarm,severity=major operation="%b" 1' % word) for word in (b"add", b"clear"))
    assert add.head == clear.head
    assert [params(each)[b"operation"] for each in (add, clear)] == [b"add", b"clear"]


@pytest.mark.parametrize("type_", ["admin", "audit", "alarm", "traffic", "provisioning", "system", "security"])
def test_every_type_is_known_by_its_tag(type_: str) -> None:
    mapped = event(f"events,type={type_} a=1 1".encode())
    assert mapped.type.label == type_
    assert mapped.tail.startswith(f' type="{type_}" router="r1" a='.encode())


@pytest.mark.parametrize("type_", ["relay", "log", "Admin", "novel"])
def test_an_unknown_type_is_log_and_keeps_its_word(type_: str) -> None:
    mapped = event(f"events,type={type_} a=1 1".encode())
    assert mapped.type is EventType.LOG
    assert mapped.tail.startswith(f' type="log" router="r1" a="1" event.type="{type_}"'.encode())


def test_a_multi_line_diff_keeps_its_lines_in_a_param_and_in_msg() -> None:
    diff = b"router r1\n-  a\n+\tb"
    mapped = event(b'events,type=provisioning diff="%b",msg="%b" 1' % (diff, diff))
    assert params(mapped)[b"diff"] == diff
    assert mapped.tail.endswith(b"] " + diff)


def test_other_control_octets_and_broken_utf_8_are_legal_in_a_param_and_as_they_came_in_msg() -> None:
    mapped = event(b'events a="\x1b[0m\x00\xff",msg="\x1b\x00\xff" 1')
    assert params(mapped)[b"a"] == "#033[0m#000\ufffd".encode()
    assert mapped.tail.endswith(b"] \x1b\x00\xff")


def test_an_event_cannot_give_itself_an_identity_or_marks() -> None:
    mapped = event(b'events,type=admin,relayRun=x relaySeq=1i,malformed=t,type="relay",router="x" 1')
    assert mapped.tail == (
        b' type="admin" router="r1" event.malformed="1" event.relayRun="x" event.relaySeq="1"'
        b' event.router="x" event.type="relay"]'
    )


def test_a_value_that_a_header_field_cannot_show_is_a_param_as_well() -> None:
    mapped = event(rb'events,appname=my\ app,hostname=h,host=g severity_code=99i,timestamp="soon",procid="" 1')
    assert mapped.head.startswith(b"<13>1 1970-01-01T00:00:00.000Z h my_app - events ")
    expected = {b"appname": b"my app", b"host": b"g", b"severity_code": b"99", b"timestamp": b"soon", b"procid": b""}
    assert params(mapped).items() >= expected.items()
    assert b"hostname" not in params(mapped)


def test_an_event_without_a_time_has_that_of_reading() -> None:
    assert event(b"events a=1").time == NOW


@pytest.mark.parametrize(
    ("value", "time"),
    [
        (b"1587687966123456789i", 1_587_687_966_123_456),
        (b"1587687966i", 1_587_687_966_000_000),
        (b'"1587687966"', 1_587_687_966_000_000),
        (b"1587687966", 1_587_687_966_000_000),
        (b"1587687966123", 1_587_687_966_123_000),
        (b"-1i", -1_000_000),
    ],
)
def test_the_field_timestamp_is_the_time_in_whatever_form(value: bytes, time: int) -> None:
    """Telegraf's mapping had it in seconds first and has it in nanoseconds now, from texts and floats as well."""
    mapped = event(b"events timestamp=%b 1" % value)
    assert mapped.time == time
    assert b"timestamp" not in params(mapped)


def test_a_field_timestamp_that_no_time_stamp_can_show_stays() -> None:
    mapped = event(b"events timestamp=99999999999i 1000")
    assert mapped.time == 1
    assert params(mapped)[b"timestamp"] == b"99999999999"


@pytest.mark.parametrize("time", [9_999_999_999_999_999_999, -9_999_999_999_999_999_999])
def test_the_outermost_times_can_be_written(time: int) -> None:
    written(event(b"events a=1 %d" % time))


def test_to_auditd_an_event_of_type_audit_goes_with_all_its_fields() -> None:
    """It holds no audit records, as the audit events of auditd do."""
    mapped = event(b'events,type=audit user="x",msg="logged in" 1700000000000000000')
    identified = b'%b relayRun="00" relaySeq="3"%b' % (mapped.head, mapped.tail)
    (record,) = as_records(EventType.AUDIT, 3, identified, NOW).records
    assert record.startswith(b"node=combo1 type=TRUSTED_APP msg=audit(1700000000.000:3): ")
    assert b' event_type="audit" ' in record
    assert b' user="x" ' in record
    assert b" info=" in record


def test_malformed_data_is_kept_octet_for_octet() -> None:
    mapped = mapping().malformed(b"\x00\xff events\n]", NOW)
    assert mapped.type is EventType.LOG
    assert written(mapped) == (
        b'<13>1 - combo1 128T - - [128T type="log" router="r1" malformed="1"] \x00\xff events\n]'
    )
