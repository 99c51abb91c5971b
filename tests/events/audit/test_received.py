"""Records that other machines' auditd sent: RFC 5424 messages without identity, under their sender's name."""

import pytest

from relay.events.audit.received import received_record
from relay.syslog.rfc5424 import identity, parse
from relay.values.event import EventType

NOW = 1_700_000_000_000_000
RECORD = b'type=USER_LOGIN msg=audit(1709742929.678:2341): pid=1 acct="root" res=failed '


def test_a_record_is_a_message_of_its_sender_without_identity() -> None:
    event = received_record(b"node=combo1 " + RECORD, NOW, "tcp://127.0.0.1:60")
    assert event.type is EventType.LOG
    assert event.time == 1_709_742_929_678_000
    assert event.tail == b""
    assert event.head == (
        b'<108>1 2024-03-06T16:35:29.678Z combo1 auditd - USER_LOGIN [128T type="audit" router="combo1" node="combo1" '
        b'serial="2341" pid="1" acct="root" res="failed"] node=combo1 ' + RECORD
    )
    assert identity(event.head) is None


@pytest.mark.parametrize(
    ("peer", "hostname"),
    [
        ("tcp://192.0.2.1:1023", b"192.0.2.1"),
        ("tcp://[2001:db8::1]:1023", b"2001:db8::1"),
        ("ssh://192.0.2.1:22 (router 7)", b"192.0.2.1"),
        ("unknown", None),
    ],
)
def test_the_hostname_of_a_record_without_a_node_is_the_peers_address(peer: str, hostname: bytes | None) -> None:
    assert parse(received_record(RECORD, NOW, peer).head).hostname == hostname


@pytest.mark.parametrize("line", [b"no record", b"a\nb\0\xff", b'"] [x'])
def test_a_malformed_record_is_kept_unchanged_and_marked(line: bytes) -> None:
    event = received_record(line, NOW, "tcp://192.0.2.1:1")
    message = parse(event.head)
    assert (message.msg, message.hostname, message.timestamp) == (line, b"192.0.2.1", None)
    assert (b"malformed", b"1") in message.structured_data[0].params
    assert event.time == NOW
