"""Records of a machine with SELinux, in the forms that Fedora's and RHEL's documentation shows."""

from pathlib import Path

import pytest
from harness.auparse import assert_read_as_auparse_reads

from relay.events.audit.assembly import Assembler, AuditEvent
from relay.events.audit.mapping import AuditMapping
from relay.events.audit.record import parse
from relay.syslog.rfc5424 import Message
from relay.syslog.rfc5424 import parse as parse_message

LINES = (Path(__file__).parent / "selinux.log").read_bytes().removesuffix(b"\n").split(b"\n")
MLS = b"s0-s0:c0.c1023"


@pytest.fixture
def messages() -> dict[int, Message]:
    """The message for each event, by its serial."""
    assembler: Assembler[None] = Assembler()
    events: list[AuditEvent] = []
    for line in LINES:
        record = parse(line)
        assert record is not None
        events += assembler.feed(record, None, 0.0)
    mapping = AuditMapping(hostname="h", router="r")
    made = ((each.records[0].serial, mapping.events(each)[0]) for each in [*events, *assembler.flush()])
    return {serial: parse_message(event.head + event.tail) for serial, event in made}


def params(message: Message) -> dict[bytes, bytes]:
    (element,) = message.structured_data
    return dict(element.params)


def test_they_are_read_as_auparse_reads_them() -> None:
    assert_read_as_auparse_reads(LINES)


def test_names_that_auditd_resolved_are_fields_beside_the_contexts() -> None:
    enriched = [
        LINES[5] + b'\x1dUID="root" AUID="unset" SAUID="root"',
        LINES[6] + b'\x1dUID="root" AUID="sam" ID="sam"',
    ]
    assert_read_as_auparse_reads(enriched)


def test_the_contexts_of_a_denial_are_parameters(messages: dict[int, Message]) -> None:
    denied = params(messages[3001])
    assert denied[b"scontext"] == b"unconfined_u:system_r:httpd_t:s0"
    assert denied[b"tcontext"] == b"unconfined_u:object_r:samba_share_t:s0"
    assert denied[b"tclass"] == b"file"
    assert denied[b"SYSCALL.subj"] == b"system_u:system_r:httpd_t:" + MLS
    assert params(messages[3003])[b"tcontext"] == b"system_u:object_r:shadow_t:s0:c1,c5"


def test_the_contexts_of_programs_that_decide_themselves_are_too(messages: dict[int, Message]) -> None:
    denied = params(messages[3005])
    assert denied[b"subj"] == b"system_u:system_r:init_t:s0"
    assert denied[b"scontext"] == b"system_u:system_r:rpm_script_t:s0"
    changed = params(messages[3007])
    assert changed[b"new-context"] == b"staff_u:sysadm_r:sysadm_t:" + MLS
    assert params(messages[3006])[b"subj"] == b"system_u:system_r:sshd_t:" + MLS
    assert params(messages[3002])[b"obj"] == b"system_u:object_r:etc_t:s0"


@pytest.mark.parametrize("serial", [3001, 3003, 3004, 3005, 3008])
def test_a_denial_is_a_warning(messages: dict[int, Message], serial: int) -> None:
    assert messages[serial].severity == 4
    assert messages[3006].severity == 6
