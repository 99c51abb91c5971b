"""Stored messages as audit records: what auditd keeps whole and ausearch reads, and nothing of it lost."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.auditd import search
from harness.records import record_of
from hypothesis import given
from hypothesis import strategies as st

from relay.events.audit.as_records import AuditRecords, NodeName, as_records
from relay.events.audit.assembly import AuditEvent
from relay.events.audit.fields import fields
from relay.events.audit.mapping import AuditMapping
from relay.events.own_events import Author, alarm
from relay.syslog.auditd_remote import LARGEST_RECORD, AuditdClient
from relay.values.alarm import Alarm, AlarmChange
from relay.values.event import Event, EventType

Stored = Callable[[Event, int], bytes]

COMMITTED = 1_700_000_000_123_456
IDS = b"pid=0 uid=4294967295 auid=4294967295 ses=4294967295"
ALARM_MESSAGE = (
    b"<108>1 2024-03-06T16:35:29.678Z combo1 128T - ALARM "
    b'[128T relayRun="00112233aabbccdd" relaySeq="4" type="alarm" node="test1" why="the \\"disk\\" is full" a.b="x"] '
    b"disk full \xc3\xa4"
)


def values(line: bytes) -> dict[bytes, bytes]:
    return dict(fields(record_of(line)))


def stored_event(stored: Stored, mapping: AuditMapping, *lines: bytes) -> bytes:
    (event,) = mapping.events(AuditEvent(tuple(map(record_of, lines))))
    return stored(event, 7)


def put_together(records: list[bytes]) -> bytes:
    """Put a long record together again from its parts."""
    return records[0] + b"".join(values(record)[b"info"] for record in records[1:])


class TestAuditEvents:
    def test_every_record_of_the_seed_goes_out_as_auditd_wrote_it(
        self, golden: Callable[[str], bytes], seed_lines: list[bytes]
    ) -> None:
        serials = sorted({record_of(line).serial for line in seed_lines})
        sent = [
            record
            for serial in serials
            for record in as_records(EventType.AUDIT, 1, golden(f"event-{serial}.syslog"), COMMITTED).records
        ]
        assert sorted(sent) == sorted(seed_lines)

    def test_values_with_brackets_and_quotes_do_not_lead_astray(self, stored: Stored, mapping: AuditMapping) -> None:
        line = b'node=n type=USER_CMD msg=audit(1.123:7): cmd=5D20225D \\ ] "]" key="a]b" x=\'[128T y="]"]\' \xff'
        assert as_records(EventType.AUDIT, 7, stored_event(stored, mapping, line), 0) == AuditRecords([line])

    @pytest.mark.parametrize(
        "lines",
        [
            [b"type=SYSCALL msg=audit(1.123:7): key=65786563013634626974"],
            [b"type=SYSCALL msg=audit(1.123:7): a=1", b"type=EXECVE msg=audit(1.123:7): argc=1 a0_len=9000 a0[0]=6C73"],
            [b"type=UNKNOWN[1420] msg=audit(1.123:7): a=1", b"type=UNKNOWN[1327] msg=audit(1.123:7): proctitle=6C73"],
            [b"type=1400 msg=audit(1.123:7): avc:  denied  { read } for  pid=1"],
            [b"type=DAEMON_CONFIG msg=audit(1.123:7) op=reconfigure state=changed res=success"],
        ],
    )
    def test_records_whose_parameters_have_other_names_go_out_as_they_came(
        self, stored: Stored, mapping: AuditMapping, lines: list[bytes]
    ) -> None:
        assert as_records(EventType.AUDIT, 7, stored_event(stored, mapping, *lines), 0) == AuditRecords(lines)

    def test_a_record_of_the_largest_size_goes_whole(self, stored: Stored, mapping: AuditMapping) -> None:
        head = b"type=PROCTITLE msg=audit(1.123:7): proctitle="
        line = head + b"A" * (LARGEST_RECORD - len(head))
        assert as_records(EventType.AUDIT, 7, stored_event(stored, mapping, line), 0) == AuditRecords([line])

    def test_a_longer_record_is_cut_between_hex_digits_and_its_rest_follows(
        self, stored: Stored, mapping: AuditMapping
    ) -> None:
        line = b'node=n type=PROCTITLE msg=audit(1.123:7): a="b" proctitle=' + b"0A" * 12_000 + b" ARCH=x"
        records, continued = as_records(EventType.AUDIT, 7, stored_event(stored, mapping, line), 0)
        assert continued
        assert put_together(records) == line
        assert {record_of(record).key for record in records} == {(1123, 7, b"n")}
        assert [values(record).get(b"part") for record in records] == [None, b"2/5", b"3/5", b"4/5", b"5/5"]
        assert values(records[0])[b"proctitle"].startswith(b"\n\n")
        assert all(LARGEST_RECORD - 20 < len(record) <= LARGEST_RECORD for record in records[:-1])

    def test_a_quoted_value_is_not_cut_in_two(self, stored: Stored, mapping: AuditMapping) -> None:
        line = b'type=USER_CMD msg=audit(1.123:7): pid=1 exe="/' + b"x" * 9000 + b'" res=success'
        records, _ = as_records(EventType.AUDIT, 7, stored_event(stored, mapping, line), 0)
        assert records[0] == b"type=USER_CMD msg=audit(1.123:7): pid=1"
        assert put_together(records) == line

    @pytest.mark.parametrize(
        "line",
        [
            b"this is no \xff record",
            b"type=CWD msg=audit(1.123:7): cwd=\0",
            b"type=EOE msg=audit(1.123:7): ",  # auditd would never answer it
        ],
    )
    def test_a_malformed_line_is_kept_as_the_text_of_a_record(
        self, stored: Stored, mapping: AuditMapping, line: bytes
    ) -> None:
        message = stored(mapping.malformed(line, 0), 9)
        (record,) = as_records(EventType.AUDIT, 9, message, COMMITTED).records
        assert record.startswith(b'type=TRUSTED_APP msg=audit(1700000000.123:9): %b event_type="audit" info=' % IDS)
        assert values(record)[b"info"] == line


class TestNodes:
    LINE = b'type=CWD msg=audit(1.123:7): cwd="/"'

    @pytest.mark.parametrize(
        ("node_name", "node"), [("router", b"node=edge-7 "), ("hostname", b"node=host1 "), ("none", b"")]
    )
    def test_a_record_without_a_node_gets_the_configured_node(
        self, stored: Stored, node_name: NodeName, node: bytes
    ) -> None:
        mapping = AuditMapping(hostname="host1", router="edge-7", node="n2")
        lines = [self.LINE, b"type=SYSCALL msg=audit(1.123:7): a=1"]
        sent = as_records(EventType.AUDIT, 7, stored_event(stored, mapping, *lines), 0, node_name)
        assert sent == AuditRecords([node + line for line in lines])

    def test_a_record_that_names_its_node_keeps_it(self, stored: Stored, mapping: AuditMapping) -> None:
        line = b"node=other.example " + self.LINE
        assert as_records(EventType.AUDIT, 7, stored_event(stored, mapping, line), 0, "router") == AuditRecords([line])

    @pytest.mark.parametrize(
        ("router", "node"),
        [
            ('a "b\\c] d', b'a_"b\\c]_d'),
            ("\u00e4", b"__"),
            ("x" * 300, b"x" * 255),
            ('x" router="y', b'x"_router="y'),
        ],
    )
    def test_a_routers_name_becomes_a_legal_node_name(self, stored: Stored, router: str, node: bytes) -> None:
        mapping = AuditMapping(hostname="host1", router=router)
        (record,) = as_records(EventType.AUDIT, 7, stored_event(stored, mapping, self.LINE), 0, "router").records
        assert (record, record_of(record).node) == (b"node=%b %b" % (node, self.LINE), node)

    def test_a_record_cannot_choose_its_node(self, stored: Stored, mapping: AuditMapping) -> None:
        line = b'type=USER msg=audit(1.123:7): a=1 type="audit" router="evil" x= type="audit" router="evil"'
        (record,) = as_records(EventType.AUDIT, 7, stored_event(stored, mapping, line), 0, "router").records
        assert record == b"node=combo1 " + line

    def test_a_record_that_the_node_makes_too_long_is_cut_and_its_rest_follows(
        self, stored: Stored, mapping: AuditMapping
    ) -> None:
        head = b"type=PROCTITLE msg=audit(1.123:7): proctitle="
        line = head + b"A" * (LARGEST_RECORD - len(head))
        records, continued = as_records(EventType.AUDIT, 7, stored_event(stored, mapping, line), 0, "router")
        assert continued
        assert put_together(records) == b"node=combo1 " + line
        assert {record_of(record).node for record in records} == {b"combo1"}
        assert all(len(record) <= LARGEST_RECORD for record in records)

    def test_a_malformed_line_is_the_text_of_a_record_of_the_same_node(
        self, stored: Stored, mapping: AuditMapping
    ) -> None:
        message = stored(mapping.malformed(b"no record", 0), 9)
        (record,) = as_records(EventType.AUDIT, 9, message, COMMITTED, "router").records
        assert record.startswith(b"node=combo1 type=TRUSTED_APP ")

    @pytest.mark.parametrize(("node_name", "node"), [("router", b"edge-7"), ("hostname", b"host1"), ("none", b"host1")])
    def test_relays_own_events_have_the_same_node_or_at_least_their_host(
        self, stored: Stored, node_name: NodeName, node: bytes
    ) -> None:
        event = Author("host1", "edge-7", "", "128T").event(COMMITTED, 6, "HEARTBEAT", (), "relay is running")
        (record,) = as_records(EventType.RELAY, 3, stored(event, 3), 0, node_name).records
        assert record_of(record).node == node

    def test_a_message_of_another_host_keeps_that_ones_name(self) -> None:
        message = b'<13>1 - other app - - [x router="evil"] text'
        (record,) = as_records(EventType.LOG, 3, message, COMMITTED, "router").records
        assert record_of(record).node == b"other"


class TestOthers:
    def test_an_alarm_becomes_one_trusted_app_record(self) -> None:
        (record,) = as_records(EventType.ALARM, 4, ALARM_MESSAGE, COMMITTED).records
        assert record == (
            b"node=combo1 type=TRUSTED_APP msg=audit(1709742929.678:4): " + IDS + b' event_type="alarm"'
            b' facility="13" severity="4" app_name="128T" msgid="ALARM" relayRun="00112233aabbccdd" relaySeq="4"'
            b' event_node="test1" why=74686520226469736B222069732066756C6C a_b="x"'
            b" info=6469736B2066756C6C20C3A4"
        )

    def test_relays_own_events_can_be_sent(self, stored: Stored) -> None:
        raised = AlarmChange(
            Alarm(name="disk", severity="major", text="little room"), raised=True, since=COMMITTED, at=COMMITTED
        )
        message = stored(alarm(Author("combo1", "combo1", "", "128T"), COMMITTED, raised), 3)
        found = values(as_records(EventType.RELAY, 3, message, 0).records[0])
        assert (found[b"event_type"], found[b"alarm"], found[b"info"]) == (b"relay", b"disk", b"little room (add)")

    @pytest.mark.parametrize("message", [b"<13>Oct 11 22:14:15 host su: 'su root' failed", b"\0\n\xff", b"x"])
    def test_a_message_that_is_not_rfc_5424_is_kept_as_the_text_of_a_record(self, message: bytes) -> None:
        (record,) = as_records(EventType.LOG, 5, message, COMMITTED).records
        assert record.startswith(b"type=TRUSTED_APP msg=audit(1700000000.123:5): ")
        assert (values(record)[b"event_type"], values(record)[b"info"]) == (b"log", message)

    def test_a_message_without_time_has_that_of_its_commit(self) -> None:
        (record,) = as_records(EventType.LOG, 5, b"<13>1 - - - - - -", COMMITTED).records
        assert (
            record
            == b'type=TRUSTED_APP msg=audit(1700000000.123:5): %b event_type="log" facility="1" severity="5"' % (IDS)
        )

    def test_a_long_text_goes_in_parts_that_each_have_the_fields(self) -> None:
        records, continued = as_records(EventType.ALARM, 4, ALARM_MESSAGE + b" x" * 9000, COMMITTED)
        assert continued
        assert b"".join(values(record)[b"info"] for record in records) == b"disk full \xc3\xa4" + b" x" * 9000
        assert [values(record)[b"part"] for record in records] == [b"%d/5" % nth for nth in range(1, 6)]
        assert {values(record)[b"msgid"] for record in records} == {b"ALARM"}

    def test_a_message_whose_parameters_would_fill_a_record_is_the_text_as_a_whole(self) -> None:
        message = b'<13>1 - h - - - [a b="' + b"x" * 5000 + b'"] text'
        records, _ = as_records(EventType.LOG, 4, message, COMMITTED)
        assert b"".join(values(record)[b"info"] for record in records) == message

    def test_ausearch_reads_every_field(self, tmp_path: Path, stored: Stored, mapping: AuditMapping) -> None:
        long = stored_event(stored, mapping, b"type=USER_CMD msg=audit(1709742929.678:9): cmd=" + b"l" * 9500)
        log = tmp_path / "audit.log"
        lines = (
            as_records(EventType.ALARM, 4, ALARM_MESSAGE, 0).records + as_records(EventType.AUDIT, 7, long, 0).records
        )
        log.write_bytes(b"".join(line + b"\n" for line in lines))
        found = search(log)
        # From version 4 on it has a word for the user that is none.
        assert found.stdout.replace("=unset ", "=4294967295 ").startswith(
            "----\nnode=combo1 type=TRUSTED_APP msg=audit(03/06/24 16:35:29.678:4) : pid=0 uid=4294967295 "
            "auid=4294967295 ses=4294967295 event_type=alarm facility=13 severity=4 app_name=128T msgid=ALARM "
            'relayRun=00112233aabbccdd relaySeq=4 event_node=test1 why=the "disk" is full a_b=x info=disk full ä \n'
        )
        assert "info=" + "l" * 100 in found.stdout
        assert "Malformed" not in found.stderr
        assert search(log, "--node", "combo1", "--message", "TRUSTED_APP").stdout.count("----") == 1


@given(
    kind=st.sampled_from(EventType),
    message=st.binary(max_size=200)
    | st.binary(min_size=8000, max_size=9100)
    | st.builds(lambda msg: ALARM_MESSAGE.replace(b"alarm", b"audit") + b"\n" + msg, st.binary(max_size=300)),
)
def test_whatever_is_stored_becomes_records_that_can_be_sent(kind: EventType, message: bytes) -> None:
    client = AuditdClient()
    records, _ = as_records(kind, 1, message, COMMITTED)
    assert records
    for record in records:
        client.message(record)
        assert re.match(rb"(node=[!-~]+ )?type=[A-Z_]+ msg=audit\(\d+\.\d{3}:\d+\): ?", record)
