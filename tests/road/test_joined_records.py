"""A real auditd whose log's disk was full: the first record after that is joined to the last one before."""

import socket

from harness.auditd import Auditd
from harness.waiting import wait_until
from source.log_writing import record

from relay.events.audit.assembly import AuditEvent
from relay.events.audit.mapping import AuditMapping
from relay.events.audit.record import parse
from relay.syslog.auditd_remote import AuditdClient, Reply

ROOM, MORE = "16k", "64k"
FAILED = 0x20000000
"""libaudit's private.h: the answers AUDIT_RMW_TYPE_DISKFULL and its like have this bit."""


def send(auditd: Auditd, first: int) -> int:
    """Send records from that serial on until one does not fit, or ten are written; returns the next serial."""
    client = AuditdClient()
    with auditd.connect() as stream:
        stream.settimeout(60)
        for serial in range(first, first + 1000):
            stream.sendall(client.message(record(serial, body="x" * 50 + " pid=1 res=success")[:-1]))
            reply = answer(client, stream)
            if reply.type & FAILED or (first > 0 and serial == first + 10):
                return serial + 1
    raise AssertionError("auditd has room for everything")


def answer(client: AuditdClient, stream: socket.socket) -> Reply:
    """The next one, in however many pieces it comes."""
    while True:
        octets = stream.recv(65536)
        assert octets, "auditd has closed"
        for reply in client.receive(octets):
            return reply


def test_a_truncated_record_does_not_get_the_fields_of_the_next() -> None:
    with Auditd(room=ROOM, settings="flush = NONE\n") as auditd:
        following = send(auditd, 0)
        cut = following - 1
        auditd.make_room(MORE)
        last = send(auditd, following) - 1
        wait_until(lambda: b":%d): xxx" % last in auditd.log_file.read_bytes(), 60, "the last record")
        lines = auditd.log_file.read_bytes().splitlines()
    records = [parsed for line in lines if (parsed := parse(line))]
    assert len(records) == len(lines)
    (harmed,) = [each for each in records if each.joined]
    assert harmed.serial in {cut, cut - 1}
    assert harmed.joined.startswith(b"type=DAEMON_")
    (event,) = AuditMapping(hostname="h", router="h").events(AuditEvent((harmed,)))
    params, _, message = event.tail.partition(b"] ")
    assert b'malformed="1"' in params
    assert b"addr=" not in params
    assert message == harmed.line
