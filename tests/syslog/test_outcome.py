"""Which messages report a failure."""

import pytest

from relay.events.audit.assembly import AuditEvent
from relay.events.audit.mapping import AuditMapping
from relay.events.audit.record import parse
from relay.syslog import rfc5424
from relay.syslog.outcome import failed

RECORD = b"type=%b msg=audit(1709726400.000:7): %b"


def audit_event(*records: tuple[bytes, bytes]) -> rfc5424.Message:
    """An audit event as relay sends it."""
    (event,) = AuditMapping(hostname="h", router="r").events(
        AuditEvent(tuple(found for record in records if (found := parse(RECORD % record))), late=False)
    )
    return rfc5424.parse(event.head + event.tail)


@pytest.mark.parametrize(
    ("type_", "fields", "is_failure"),
    [
        (b"USER_LOGIN", b'pid=1 uid=0 msg=\'op=login acct="root" exe="/usr/sbin/sshd" res=failed\'', True),
        (b"USER_LOGIN", b'pid=1 uid=0 msg=\'op=login acct="root" exe="/usr/sbin/sshd" res=success\'', False),
        (b"LOGIN", b"pid=1 uid=0 old-auid=4294967295 auid=0 res=1", False),
        (b"LOGIN", b"pid=1 uid=0 old-auid=4294967295 auid=0 res=0", True),
        (b"SYSCALL", b'arch=c000003e syscall=257 success=no exit=-13 exe="/bin/cat"', True),
        (b"SYSCALL", b'arch=c000003e syscall=257 success=yes exit=0 exe="/bin/cat"', False),
        (b"AVC", b'avc:  denied  { read } for  pid=1 comm="cat" name="shadow"', True),
        (b"AVC", b'apparmor="DENIED" operation="open" profile="x"', True),
        (b"AVC", b'apparmor="ALLOWED" operation="open" profile="x"', False),
    ],
)
def test_an_audit_record_reports_whether_it_failed(type_: bytes, fields: bytes, is_failure: bool) -> None:
    assert failed(audit_event((type_, fields))) is is_failure


def test_any_record_of_an_event_can_report_the_failure() -> None:
    assert failed(audit_event((b"PATH", b"item=0"), (b"SYSCALL", b"syscall=257 success=no")))


@pytest.mark.parametrize(
    ("params", "is_failure"),
    [
        (b'permitted="0"', True),
        (b'permitted="false"', True),
        (b'permitted="1"', False),
        (b'success="0" reasonCode="7"', True),
        (b'success="1"', False),
        (b'result="FAILURE"', True),
        (b'status="ok"', False),
        (b'denied="1"', True),
        (b'failed="0"', False),
        (b'message="failed"', False),
    ],
)
def test_a_routers_event_reports_whether_it_failed(params: bytes, is_failure: bool) -> None:
    assert failed(rfc5424.parse(b"<13>1 - h 128T - events [128T %b]" % params)) is is_failure
