"""A stored message as audit records, for servers that speak the auditd protocol.

An audit event becomes its records, each as it came, found in MSG. A record without a node gets `node=NAME ` in front,
as auditd's `name_format` does on the machine itself. `node_name` chooses NAME: the event's `router`, its HOSTNAME, or
"none", which sends the record unchanged. Every other message becomes a record of its own:

    node=HOSTNAME type=TRUSTED_APP msg=audit(SECONDS.MILLIS:NUMBER): pid=0 uid=… auid=… ses=… event_type="alarm"
    facility="13" severity="4" app_name="relay" msgid="ALARM" relayRun="…" … info="MSG"

The node is HOSTNAME too, unless a message of relay's own has another router and `node_name` selects the router. NUMBER
is the event's sequence number within its type. The time is TIMESTAMP's, else that of the commit. The ids are "unset",
because ausearch needs them in such records. The SD-PARAMs follow with their names; names that mean something else in a
record (`type`, `msg`, `node`) become `event_type` and so on. Values are written as the kernel writes untrusted ones:
quoted, or in upper-case hex where they hold a space, a quote, a control octet or a non-ASCII octet; `ausearch -i`
decodes that, unless the hex has digits only.

No record is longer than LARGEST_RECORD, and none holds an LF or NUL, which would end it for auditd. What does not fit
is continued, and nothing is lost. A longer audit record is cut, and its rest follows in the `info` of TRUSTED_APP
records with the same time and serial and `part="2/3"`. The rest of a long MSG follows in the same way. The `info` of
all parts, joined behind the first record, is the original text. A malformed line of an audit event is the `info` of a
record, and so is a message that is not RFC 5424 or whose parameters alone would fill a record. So is an EOE: an auditd
with `distribute_network = yes` neither keeps nor answers one (seen with 3.0.9).

Pure; work is linear in the message.
"""

import contextlib
import re
from typing import Final, Literal, NamedTuple, TypeAlias

from relay.events.audit.record import parse
from relay.syslog import rfc5424
from relay.syslog.auditd_remote import LARGEST_RECORD
from relay.values.event import EventType

# By the APP-NAME of `mapping`: an SSR event of type audit holds no records.
_OWN_AUDIT_EVENT: Final = re.compile(
    rb'<[0-9]{1,3}>1 [!-~]++ ([!-~]++) auditd [!-~]++ [!-~]++ \[[^"\]]++(?:"(?:[^"\\]++|\\.)*+"[^"\]]*+)*\] (.*)',
    re.DOTALL,
)
_ROUTER: Final = re.compile(rb' type="audit" router="((?:[^"\\]++|\\.)*+)"')
"""As `mapping` writes it, before every field of a record."""
_ESCAPED: Final = re.compile(rb"\\(.)")
_LONGEST_NODE: Final = 255
_IDS: Final = b"pid=0 uid=4294967295 auid=4294967295 ses=4294967295"
_PLAIN: Final = bytes(set(range(0x21, 0x7F)) - set(b'"'))
_LEGAL_IN_NAME: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_AS_NAME: Final = bytes(octet if octet in _LEGAL_IN_NAME else ord("_") for octet in range(256))
_RESERVED: Final = frozenset((b"type", b"msg", b"node"))
_MOST_FIELDS: Final = LARGEST_RECORD // 2
"""Octets of fields beside which a useful piece of the text still fits."""
_PART_LENGTH: Final = len(b' part="999999/999999" info=')


NodeName: TypeAlias = Literal["router", "hostname", "none"]


class AuditRecords(NamedTuple):
    """The records to send for one message, in order; at least one."""

    records: list[bytes]
    continued: bool = False
    """Whether a text was too long for one record."""


def as_records(
    kind: EventType, number: int, message: bytes, committed_us: int, node_name: NodeName = "none"
) -> AuditRecords:
    """Return the records of a stored message; `committed_us` (since the epoch) replaces a missing TIMESTAMP."""
    own = _OWN_AUDIT_EVENT.fullmatch(message) if kind is EventType.AUDIT else None
    if own is None:
        return _as_trusted_app(kind, number, message, committed_us, node_name)
    node = b""
    if node_name != "none":
        router = _ROUTER.search(message) if node_name == "router" else None
        node = _legal_node(_ESCAPED.sub(rb"\1", router[1]) if router else own[1])
    sent: list[bytes] = []
    continued = False
    for line in own[2].split(b"\n"):
        record = parse(line)
        if record is not None and node and not record.node:
            line = b"node=%b %b" % (node, line)  # noqa: PLW2901 -- the record with its full name
            record = parse(line)
        if record is None or b"\0" in line or record.type == b"EOE":
            written = _trusted_app(_stamp(committed_us, number, node), _event_type(b"audit"), line)
        elif len(line) <= LARGEST_RECORD:
            sent.append(line)
            continue
        else:
            end = _cut(line)
            head = _stamp(record.time * 1000, record.serial, record.node) + _event_type(b"audit")
            written = [line[:end], *_continued(head, line[end:], first=2)]
        sent += written
        continued |= len(written) > 1
    return AuditRecords(sent, continued)


def _as_trusted_app(
    kind: EventType, number: int, message: bytes, committed_us: int, node_name: NodeName
) -> AuditRecords:
    label = kind.label.encode()
    event_type = _event_type(label)
    stamp, fields, text = _stamp(committed_us, number), event_type, message
    with contextlib.suppress(rfc5424.NotRfc5424Error):
        parsed = rfc5424.parse(message)
        all_fields = b" ".join((event_type, *_fields(parsed, label)))
        if len(all_fields) <= _MOST_FIELDS:
            time = committed_us if parsed.timestamp is None else max(rfc5424.microseconds(parsed.timestamp), 0)
            node = parsed.hostname or b""
            own = (dict(each.params) for each in parsed.structured_data if (b"type", label) in each.params)
            if node_name == "router":
                node = _legal_node(next(own, {}).get(b"router", b"")) or node
            stamp, fields, text = _stamp(time, number, node), all_fields, parsed.msg or b""
    records = _trusted_app(stamp, fields, text)
    return AuditRecords(records, len(records) > 1)


def _fields(message: rfc5424.Message, label: bytes) -> list[bytes]:
    header = (
        (b"facility", b"%d" % message.facility),
        (b"severity", b"%d" % message.severity),
        (b"app_name", message.app_name),
        (b"procid", message.procid),
        (b"msgid", message.msgid),
    )
    pairs = [(name, value) for name, value in header if value is not None]
    for element in message.structured_data:
        for name, value in element.params:
            legal = name.translate(_AS_NAME)
            if (name, value) != (b"type", label):
                pairs.append((b"event_" + legal if legal in _RESERVED else legal, value))
    return [b"%b=%b" % (name, _untrusted(value)) for name, value in pairs]


def _legal_node(name: bytes) -> bytes:
    return b"" if name in {b"", rfc5424.NILVALUE} else rfc5424.legal_header(name, _LONGEST_NODE)


def _event_type(label: bytes) -> bytes:
    return b'event_type="%b"' % label


def _untrusted(value: bytes) -> bytes:
    """Write a value as the kernel's audit_log_untrustedstring does."""
    if value.translate(None, _PLAIN):
        return value.hex().upper().encode()
    return b'"%b"' % value


def _stamp(time_us: int, serial: int, node: bytes = b"") -> bytes:
    seconds, millis = divmod(time_us // 1000, 1000)
    prefix = b"node=%b " % node if node else b""
    return b"%btype=TRUSTED_APP msg=audit(%d.%03d:%d): %b " % (prefix, seconds, millis, serial, _IDS)


def _trusted_app(stamp: bytes, fields: bytes, text: bytes) -> list[bytes]:
    """Write one record, or as many as the text needs."""
    head = stamp + fields
    whole = b"%b info=%b" % (head, _untrusted(text)) if text else head
    return [whole] if len(whole) <= LARGEST_RECORD else _continued(head, text, first=1)


def _continued(head: bytes, text: bytes, *, first: int) -> list[bytes]:
    size = (LARGEST_RECORD - len(head) - _PART_LENGTH) // 2  # hex
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    last = first + len(pieces) - 1
    return [
        b'%b part="%d/%d" info=%b' % (head, part, last, piece.hex().upper().encode())
        for part, piece in enumerate(pieces, first)
    ]


def _cut(line: bytes) -> int:
    """Find where to cut: not in a quoted value, which auparse would misread, and not between two hex digits."""
    space = line.rfind(b" ", 0, LARGEST_RECORD)
    if line.count(b'"', space, LARGEST_RECORD) % 2:
        return space
    value = line.rfind(b"=", space, LARGEST_RECORD) + 1
    return LARGEST_RECORD - (LARGEST_RECORD - value) % 2
