"""Audit events as RFC 5424 messages without their identity.

    <PRI>1 TIMESTAMP HOSTNAME auditd - MSGID [128T type="audit" router="…" node="…" serial="…" …] RECORDS

PRI: facility 13 (log audit); severity 4 (warning) when a result is a failure or a record reports a denial or an
anomaly, else 6 (informational). TIMESTAMP: the first record's, milliseconds, UTC. MSGID: the first record's type.
SD-PARAMs: `type`, `router`, `node` (the configured one, else the records' own; omitted when empty), `serial`,
`late="1"` for a record that came after its event had left, then the fields (`params`). MSG: the records
unchanged, one a line.

A malformed line is a message of its own: TIMESTAMP and MSGID are the NILVALUE, `malformed="1"` replaces the serial, and
MSG is the line. Beside a serial, `malformed="1"` means that another record begins in a line of MSG (`record`): the
fields are those before it.

The spool puts the identity between an event's `head` (up to the SD-ID) and its `tail`.
"""

import re
from collections.abc import Iterable
from typing import Final, Literal

from relay.events.audit.assembly import AuditEvent
from relay.events.audit.params import first_params, other_params
from relay.events.audit.record import Record
from relay.events.envelope import Envelope, sd_param
from relay.syslog.rfc5424 import MAX_MSGID, NILVALUE, format_timestamp
from relay.values.event import Event, EventType

AuditFormat = Literal["event", "record"]

APP_NAME: Final = b"auditd"
_FACILITY: Final = 13  # log audit, RFC 5424 table 1
_WARNING: Final = _FACILITY * 8 + 4
_INFORMATIONAL: Final = _FACILITY * 8 + 6

_DENIALS: Final = frozenset(
    b"AVC AVC_PATH USER_AVC SELINUX_ERR USER_SELINUX_ERR"
    b" APPARMOR_DENIED APPARMOR_ERROR APPARMOR_KILL LANDLOCK_ACCESS".split()
)
_FAILURE = re.compile(rb"[ ('\x1d]res=(?:failed|0|no)(?![^ )',\x1d])")
_FAILURE_BEGINS: Final = frozenset((b"f", b"0", b"n"))


class AuditMapping:
    """Writes the events of one router; `format` "record" makes an event of every record."""

    def __init__(
        self,
        *,
        hostname: str,
        router: str,
        node: str = "",
        sd_id: str = "128T",
        format: AuditFormat = "event",  # noqa: A002 -- the configuration's word
    ) -> None:
        self._envelope = Envelope(hostname=hostname, router=router, node=node, sd_id=sd_id)
        self._origin = self._envelope.origin(EventType.AUDIT)
        self._has_node = bool(node)
        self._by_record = format == "record"

    def events(self, audit_event: AuditEvent) -> list[Event]:
        """Write an event: one message, or one for each record."""
        records, late = audit_event
        if self._by_record and len(records) > 1:
            return [self._event((record,), late=late) for record in records]
        return [self._event(records, late=late)]

    def all(self, audit_events: Iterable[AuditEvent]) -> list[Event]:
        """Write several events."""
        return [event for each in audit_events for event in self.events(each)]

    def single(self, record: Record | None, line: bytes, now_us: int) -> Event:
        """Write a record as an event of its own; None: its line is malformed."""
        return self.malformed(line, now_us) if record is None else self._event((record,), late=False)

    def malformed(self, line: bytes, now_us: int) -> Event:
        """Write a malformed line; `now_us` is when it was read."""
        head = self._envelope.head(_INFORMATIONAL, NILVALUE, APP_NAME, NILVALUE)
        return Event(EventType.AUDIT, now_us, head, b'%b malformed="1"] %b' % (self._origin, line))

    def _event(self, records: tuple[Record, ...], *, late: bool) -> Event:
        first = records[0]
        microseconds = first.time * 1000
        alone = len(records) == 1
        is_warning = _is_warning(first) if alone else any(map(_is_warning, records))
        priority = _WARNING if is_warning else _INFORMATIONAL
        head = self._envelope.head(priority, format_timestamp(microseconds), APP_NAME, first.type[:MAX_MSGID])
        node = b"" if self._has_node or not first.node else sd_param(b"node", first.node)
        # Joined, which is quicker than one format with %b: this runs for every event.
        marks = b' late="1"' if late else b""
        for record in records:  # not any() of a generator, because this runs for every event
            if record.joined:
                marks += b' malformed="1"'
                break
        tail = (
            self._origin,
            node,
            b' serial="%d"' % first.serial,
            marks,
            first_params(first),
            b"" if alone else other_params(records),
            b"] ",
            first.line if alone else b"\n".join([record.line for record in records]),
        )
        return Event(EventType.AUDIT, microseconds, head, b"".join(tail))


def _is_warning(record: Record) -> bool:
    if record.type in _DENIALS or record.type.startswith(b"ANOM_"):
        return True
    # The result is last; looking there first is many times faster than searching with the pattern.
    line = record.line.removesuffix(record.joined)
    result = line.rfind(b"res=", 1)
    return line[result + 4 : result + 5] in _FAILURE_BEGINS and _FAILURE.match(line, result - 1) is not None
