"""Audit events as RFC 5424 messages that lack only their identity.

    <PRI>1 TIMESTAMP HOSTNAME auditd - MSGID [128T type="audit" router="…" node="…" serial="…" …] RECORDS

PRI: facility 13 (log audit); severity 4 (warning) when a result is a failure or a record tells of a denial or an
anomaly, else 6 (informational). TIMESTAMP: the first record's, milliseconds, UTC. MSGID: the first record's type.
SD-PARAMs: `type`, `router`, `node` (the configured one, else the records' own; omitted when empty), `serial`,
`late="1"` for a record that came after its event had left, then the fields (`params`). MSG: the records exactly as
they came, one a line.

A malformed line is a message of its own: TIMESTAMP and MSGID are the NILVALUE, there is no serial but
`malformed="1"`, and MSG is the line. Beside a serial `malformed="1"` says that another record begins in a line of MSG
(`record`): only what stands before it is in the fields.

The identity belongs between an event's `head` (up to the SD-ID) and its `tail`.
"""

import re
from typing import Final, Literal

from relay.events.audit.assembly import AuditEvent
from relay.events.audit.params import first_params, other_params, param_value
from relay.events.audit.record import Record
from relay.syslog.rfc5424 import MAX_HOSTNAME, MAX_MSGID, format_timestamp, legal_header, legal_name
from relay.values.event import Event, EventType

AuditFormat = Literal["event", "record"]

APP_NAME: Final = b"auditd"
_FACILITY: Final = 13  # log audit, RFC 5424 table 1
_WARNING: Final = 4
_INFORMATIONAL: Final = 6
_BEFORE_TIME: Final = {
    is_warning: b"<%d>1 " % (_FACILITY * 8 + (_WARNING if is_warning else _INFORMATIONAL))
    for is_warning in (False, True)
}

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
        origin = legal_header(hostname.encode(), MAX_HOSTNAME)
        element = legal_name(sd_id.encode())
        self._after_time = b" %b %b - " % (origin, APP_NAME)
        self._before_identity = b" [%b" % element
        self._router = b' type="audit" router="%b"' % param_value(router.encode())
        self._node = _node(node.encode())
        self._by_record = format == "record"

    def events(self, audit_event: AuditEvent) -> list[Event]:
        """Write an event: one message, or one for each record."""
        records, late = audit_event
        if self._by_record and len(records) > 1:
            return [self._event((record,), late=late) for record in records]
        return [self._event(records, late=late)]

    def malformed(self, line: bytes, now_us: int) -> Event:
        """Write a line that is no record; `now_us` is when it was read."""
        head = b"%b-%b-%b" % (_BEFORE_TIME[False], self._after_time, self._before_identity)
        tail = b'%b%b malformed="1"] %b' % (self._router, self._node, line)
        return Event(EventType.AUDIT, now_us, head, tail)

    def _event(self, records: tuple[Record, ...], *, late: bool) -> Event:
        first = records[0]
        microseconds = first.time * 1000
        alone = len(records) == 1
        is_warning = _is_warning(first) if alone else any(map(_is_warning, records))
        # Joined, which is quicker than one format with %b: this runs for every event.
        head = (
            _BEFORE_TIME[is_warning],
            format_timestamp(microseconds),
            self._after_time,
            first.type[:MAX_MSGID],
            self._before_identity,
        )
        tail = (
            self._router,
            self._node or _node(first.node),
            b' serial="%d"' % first.serial,
            b"" if alone and not late and not first.joined else _marks(records, late=late),
            first_params(first),
            b"" if alone else other_params(records),
            b"] ",
            first.line if alone else b"\n".join([record.line for record in records]),
        )
        return Event(EventType.AUDIT, microseconds, b"".join(head), b"".join(tail))


def _node(name: bytes) -> bytes:
    return b' node="%b"' % param_value(name) if name else b""


def _marks(records: tuple[Record, ...], *, late: bool) -> bytes:
    mark = b' late="1"' if late else b""
    # Not any() of a generator: this runs for every event.
    for record in records:
        if record.joined:
            return mark + b' malformed="1"'
    return mark


def _is_warning(record: Record) -> bool:
    if record.type in _DENIALS or record.type.startswith(b"ANOM_"):
        return True
    # The result stands last; looking there first is many times faster than searching with the pattern.
    line = record.line.removesuffix(record.joined)
    result = line.rfind(b"res=", 1)
    return line[result + 4 : result + 5] in _FAILURE_BEGINS and _FAILURE.match(line, result - 1) is not None
