"""A stored message as audit records, for servers that speak the auditd protocol.

An audit event is its records, each as it came, found in MSG. One that names no node gets `node=NAME ` in front, as
auditd's `name_format` does on the machine itself. NAME is chosen by `node_name`: the event's `router`, its HOSTNAME, or
"none", which sends the record unchanged. Everything else becomes a record of its own:

    node=HOSTNAME type=TRUSTED_APP msg=audit(SECONDS.MILLIS:NUMBER): pid=0 uid=… auid=… ses=… event_type="alarm"
    facility="13" severity="4" app_name="relay" msgid="ALARM" relayRun="…" … info="MSG"

The node is HOSTNAME too unless a message of relay's own has another router and `node_name` asks for that.
NUMBER is the event's within its type, the time is TIMESTAMP's, else that of the commit. The ids are "unset": ausearch
asks for them in such records. The SD-PARAMs follow by their names; those that mean something else in a record (`type`,
`msg`, `node`) are written `event_type` and so on. Values stand as the kernel writes untrusted ones: quoted, or in
upper-case hex where they hold a space, a quote, a control octet or what is not ASCII; `ausearch -i` decodes that,
unless the hex has digits alone.

No record is longer than LARGEST_RECORD, and none holds an LF or NUL, where auditd would end it. What does not fit is
continued, and nothing is lost: a longer audit record is cut, and its rest follows in the `info` of TRUSTED_APP
records with the same time and serial and `part="2/3"`; so does what follows a long MSG. `info` of all parts, joined
behind what the first record holds, is what there was. A line of an audit event that is no record is the `info` of one,
and so is a message whose parameters alone would fill one, or which is no RFC 5424. So is an EOE: an auditd with
`distribute_network = yes` neither keeps nor answers one (seen with 3.0.9).

Pure; work is linear in the message.
"""

import re
from typing import Final, Literal, NamedTuple, TypeAlias

from relay.events.audit.record import Record, parse
from relay.syslog import rfc5424
from relay.syslog.auditd_remote import LARGEST_RECORD
from relay.values.event import EventType

# By the APP-NAME of `mapping`: an SSR event of type audit holds no records.
_OWN_AUDIT_EVENT: Final = re.compile(
    rb'<[0-9]{1,3}>1 [!-~]++ ([!-~]++) auditd [!-~]++ [!-~]++ \[[^"\]]++(?:"(?:[^"\\]++|\\.)*+"[^"\]]*+)*\] (.*)',
    re.DOTALL,
)
_ROUTER: Final = re.compile(rb' type="audit" router="((?:[^"\\]++|\\.)*+)"')
"""Where `mapping` writes it, in front of every field of a record."""
_ESCAPED: Final = re.compile(rb"\\(.)")
_LONGEST_NODE: Final = 255
_IDS: Final = b"pid=0 uid=4294967295 auid=4294967295 ses=4294967295"
_PLAIN: Final = bytes(set(range(0x21, 0x7F)) - set(b'"'))
_LEGAL_IN_NAME: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_AS_NAME: Final = bytes(octet if octet in _LEGAL_IN_NAME else ord("_") for octet in range(256))
_RESERVED: Final = frozenset((b"type", b"msg", b"node"))
_MOST_FIELDS: Final = LARGEST_RECORD // 2
"""Octets of fields that leave room for a good piece of the text beside them."""
_PART_ROOM: Final = len(b' part="999999/999999" info=')


NodeName: TypeAlias = Literal["router", "hostname", "none"]


class AuditRecords(NamedTuple):
    """What is to be sent for one message, in order; at least one record."""

    records: list[bytes]
    continued: bool = False
    """Something was too long for one record."""


def as_records(
    kind: EventType, number: int, message: bytes, committed_us: int, node_name: NodeName = "none"
) -> AuditRecords:
    """Give the records for a stored message; `committed_us` (since the epoch) stands in for a missing TIMESTAMP."""
    own = _OWN_AUDIT_EVENT.fullmatch(message) if kind is EventType.AUDIT else None
    if own is None:
        return _as_trusted_app(kind, number, message, committed_us, node_name)
    node = _node_of(message, own[1], node_name)
    sent: list[bytes] = []
    continued = False
    for line in own[2].split(b"\n"):
        record = parse(line)
        if record is not None and node and not record.node:
            line = b"node=%b %b" % (node, line)  # noqa: PLW2901 -- the record under its full name
            record = parse(line)
        if record is None or b"\0" in line or record.type == b"EOE":
            written = _trusted_app(_stamp(committed_us, number, node), _event_type(b"audit"), line)
        elif len(line) <= LARGEST_RECORD:
            sent.append(line)
            continue
        else:
            written = _cut(record)
        sent += written
        continued |= len(written) > 1
    return AuditRecords(sent, continued)


def _node_of(message: bytes, hostname: bytes, node_name: NodeName) -> bytes:
    """The node for the records of an event of relay's own that name none."""
    if node_name == "none":
        return b""
    router = _ROUTER.search(message) if node_name == "router" else None
    name = _ESCAPED.sub(rb"\1", router[1]) if router else hostname
    return _legal_node(name)


def _legal_node(name: bytes) -> bytes:
    return b"" if name in {b"", rfc5424.NILVALUE} else rfc5424.legal_header(name, _LONGEST_NODE)


def _as_trusted_app(
    kind: EventType, number: int, message: bytes, committed_us: int, node_name: NodeName
) -> AuditRecords:
    label = kind.label.encode()
    event_type = _event_type(label)
    stamp, fields, text = _stamp(committed_us, number), event_type, message
    try:
        parsed = rfc5424.parse(message)
    except rfc5424.NotRfc5424Error:
        pass
    else:
        all_fields = b" ".join((event_type, *_fields(parsed, label)))
        if len(all_fields) <= _MOST_FIELDS:
            time = committed_us if parsed.timestamp is None else max(rfc5424.microseconds(parsed.timestamp), 0)
            node = (_router(parsed, label) if node_name == "router" else b"") or parsed.hostname or b""
            stamp, fields, text = _stamp(time, number, node), all_fields, parsed.msg or b""
    records = _trusted_app(stamp, fields, text)
    return AuditRecords(records, len(records) > 1)


def _router(message: rfc5424.Message, label: bytes) -> bytes:
    """The router that a message of relay's own names; nothing in any other."""
    for element in message.structured_data:
        if (b"type", label) in element.params:
            return _legal_node(dict(element.params).get(b"router", b""))
    return b""


def _event_type(label: bytes) -> bytes:
    return b'event_type="%b"' % label


def _fields(message: rfc5424.Message, label: bytes) -> list[bytes]:
    pairs = [(b"facility", b"%d" % message.facility), (b"severity", b"%d" % message.severity)]
    header = ((b"app_name", message.app_name), (b"procid", message.procid), (b"msgid", message.msgid))
    pairs += [(name, value) for name, value in header if value is not None]
    for element in message.structured_data:
        pairs += [(_name(name), value) for name, value in element.params if (name, value) != (b"type", label)]
    return [b"%b=%b" % (name, _untrusted(value)) for name, value in pairs]


def _name(name: bytes) -> bytes:
    legal = name.translate(_AS_NAME)
    return b"event_" + legal if legal in _RESERVED else legal


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
    size = (LARGEST_RECORD - len(head) - _PART_ROOM) // 2  # hex
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    last = first + len(pieces) - 1
    return [
        b'%b part="%d/%d" info=%b' % (head, part, last, piece.hex().upper().encode())
        for part, piece in enumerate(pieces, first)
    ]


def _cut(record: Record) -> list[bytes]:
    """Send what fits of a record, and the rest behind it."""
    end = _last_whole_place(record.line)
    head = _stamp(record.time * 1000, record.serial, record.node) + _event_type(b"audit")
    return [record.line[:end], *_continued(head, record.line[end:], first=2)]


def _last_whole_place(line: bytes) -> int:
    """Where a line is cut: not in a quoted value, which auparse would then misread, and not between two hex digits."""
    space = line.rfind(b" ", 0, LARGEST_RECORD)
    if line.count(b'"', space, LARGEST_RECORD) % 2:
        return space
    value = line.rfind(b"=", space, LARGEST_RECORD) + 1
    return LARGEST_RECORD - (LARGEST_RECORD - value) % 2
