r"""Events on standard output: a line for people, or an object for programs.

For people: time (UTC), in an archive also the originator, type, MSGID, and the first record without what the columns
before contain. An event without text is summarised from its parameters (`relay.cli.event_summary`). A time that begins
with `~` is that of receipt, because the message has none. A line is cut to the terminal's width.

With --json one object a line, in the same order:
    {"schema": "relay.events/2", "time" (RFC 3339, UTC; null: the message has none), "hostname", "app_name", "procid",
     "msgid" (null: the message has none), "facility", "severity" (of its PRI; 1 and 5 without one), "type", "router",
     "node" (null: the message has none), "run", "number", "part", "parts" (null: not a message of relay's),
     "structured_data": {SD-ID: {NAME: VALUE}}, "message", "message_base64", ARCHIVED}
VALUE is a text, or a list of texts where a name occurs several times. "message" is MSG. Octets that are not UTF-8 are
escaped in it (`\xNN`); only then "message_base64" has them exactly, else it is null. From an archive, ARCHIVED is
     "originator" (its folder), "received": [FIRST, LAST] (of the messages that were received together), "peer",
     "identity" (null: nothing was verified), "via" (listener and protocol), "marks": [MARK…]
where the first four but the originator are null when no readable ledger describes the message, which then has the mark
"unrecorded". Version 2 added ARCHIVED and "procid", and reads messages that are not RFC 5424.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from datetime import tzinfo
from typing import Any, Final, NamedTuple

import msgspec

from relay.cli.event_summary import NOTHING, parameters, summary
from relay.cli.output import message_as_json, report
from relay.program.history.past_event import ArchiveFacts, Item, PastEvent, UnreadableStretch
from relay.syslog import rfc5424
from relay.syslog.lenient.reader import read
from relay.syslog.lenient.reading import Reading
from relay.syslog.rfc5424 import Message
from relay.values.text import counted, decoded, escaped, fitted

SCHEMA: Final = "relay.events/2"
MAX_REPORTED: Final = 20
"""How many stretches that cannot be read are named."""

_AUDIT_HEAD: Final = re.compile(r"(?:node=\S+ )?type=\S+ msg=audit\([^)]*\):? ?")
_AUDITD: Final = b"auditd"
_BOM: Final = b"\xef\xbb\xbf"
_NO_FACTS: Final[dict[str, Any]] = {}


class EventDisplay(NamedTuple):
    """How events are shown to people."""

    columns: int | None
    """None: whole lines."""
    full: bool
    """Every record, each on a line of its own."""
    originators: bool


class EventOutput:
    """Events on standard output; `display` is None for JSON."""

    def __init__(self, display: EventDisplay | None, zone: tzinfo) -> None:
        """`zone`: that of time stamps without one."""
        self._display = display
        self._zone = zone
        self._encoding = "utf-8" if display is None else sys.stdout.encoding
        self.shown = 0
        """Events."""
        self.unreadable = 0
        """Stretches."""
        self._reported = 0

    def show(self, items: Iterable[Item]) -> Iterator[None]:
        """Print them, and return before each one; stretches that cannot be read are reported on stderr."""
        write, is_terminal = sys.stdout.buffer.write, sys.stdout.isatty()
        for item in items:
            yield
            if isinstance(item, UnreadableStretch):
                self._report(item)
                continue
            self.shown += 1
            if self._display is None:
                write(json_line(item, self._zone))
            else:
                write(_lines(item, self._display, self._zone).encode(self._encoding, "backslashreplace"))
            if is_terminal:
                sys.stdout.buffer.flush()

    def _report(self, item: UnreadableStretch) -> None:
        self.unreadable += not item.is_expected
        self._reported += 1
        if self._reported <= MAX_REPORTED:
            where = f"{item.path}: offset {item.offset}" if item.offset else item.path
            report(f"{where}: {item.cause}")
        elif self._reported == MAX_REPORTED + 1:
            report(f"… and more than {counted(MAX_REPORTED, 'place')} like these")


# --- For people ---


def _lines(event: PastEvent, display: EventDisplay, zone: tzinfo) -> str:
    message = _parsed(event.message)
    reading = None if message is not None else read(event.message, event.time, zone)
    # The BOM (RFC 5424 section 6.4) says that MSG is UTF-8; it is not part of the text.
    octets = (message.msg or b"") if message is not None else _text(event.message, reading)
    text = decoded(octets.removeprefix(_BOM)).removesuffix("\n")
    records = [record for record in text.split("\n") if record.strip()]
    msgid = message.msgid if message is not None else reading and reading.msgid
    head = [_shown_time(event, message, reading), event.type, decoded(msgid) if msgid else "-"]
    if display.originators:
        host = message.hostname if message is not None else reading and reading.host
        head.insert(1, decoded(host) if host else event.facts.originator if event.facts else "-")
    if display.full:
        if message is not None and not (message.app_name == _AUDITD and message.msg):  # whose records have them all
            records += [f"{name}={value}" for name, value in parameters(message)]
        lines = ("  ".join(head), *(f"    {record}" for record in records or [NOTHING]))
        return "".join(f"{escaped(line)}\n" for line in lines)
    first = _AUDIT_HEAD.sub("", records[0], count=1) if records else ""
    if not first.strip():
        first = summary(event.type, message) if message else NOTHING
    more = f"  (+{len(records) - 1})" if len(records) > 1 else ""
    line = f"{head[0]:<24}  {'  '.join(f'{escaped(field):<10}' for field in head[1:])}  {escaped(first)}"
    return f"{fitted(line, display.columns and display.columns - len(more))}{more}\n"


def _parsed(message: bytes) -> Message | None:
    try:
        return rfc5424.parse(message)
    except rfc5424.NotRfc5424Error:
        return None


def _text(message: bytes, reading: Reading | None) -> bytes:
    """A message that is not RFC 5424, from its program's name on."""
    if reading is None or reading.app is None:
        return message[reading.msg_at if reading else 0 :] or message
    procid = b"[%b]" % reading.procid if reading.procid else b""
    return b"%b%b: %b" % (reading.app, procid, message[reading.msg_at :])


def _shown_time(event: PastEvent, message: Message | None, reading: Reading | None) -> str:
    if message is not None and message.timestamp is not None:
        return _timestamp(rfc5424.microseconds(message.timestamp)) or decoded(message.timestamp)
    if reading is not None and reading.time is not None:
        return _timestamp(reading.time) or "-"
    received = event.facts.extent.at[0] if event.facts and event.facts.extent else None
    return f"~{_timestamp(received)}" if received is not None else "-"


def _timestamp(microseconds: int | None) -> str | None:
    """A time in UTC; None outside the years 1 to 9999."""
    try:
        return None if microseconds is None else rfc5424.format_timestamp(microseconds).decode()
    except OverflowError:
        return None


# --- For programs ---


def json_line(event: PastEvent, zone: tzinfo) -> bytes:
    """The event as one line of JSON."""
    octets = event.message
    reading = read(octets, event.time, zone)
    identity = rfc5424.identity(octets)
    data: dict[str, dict[str, str | list[str]]] = {}
    for element in reading.structured_data:
        values: dict[str, str | list[str]] = {}
        for name, value in element.params:
            text = value.decode("utf-8", "backslashreplace")
            known = values.setdefault(name.decode("utf-8", "backslashreplace"), text)
            if known is not text:
                _repeat(values, decoded(name), text)
        data[decoded(element.id)] = values
    own = next(iter(data.values()), _NO_FACTS)
    host, app, procid, msgid = reading.host, reading.app, reading.procid, reading.msgid
    fields = {
        "schema": SCHEMA,
        "time": _timestamp(reading.time),
        "hostname": host and decoded(host),
        "app_name": app and decoded(app),
        "procid": procid and decoded(procid),
        "msgid": msgid and decoded(msgid),
        "facility": reading.priority >> 3,
        "severity": reading.priority & 7,
        "type": event.type,
        "router": own.get("router"),
        "node": own.get("node"),
        "run": identity and decoded(identity.run),
        "number": identity and identity.sequence,
        "part": identity and identity.part,
        "parts": identity and identity.parts,
        "structured_data": data,
        **message_as_json(octets[reading.msg_at :]),
    }
    if event.facts is not None:
        _add_facts(fields, event.facts)
    return msgspec.json.encode(fields) + b"\n"


def _repeat(values: dict[str, str | list[str]], name: str, text: str) -> None:
    known = values[name]
    values[name] = [*known, text] if isinstance(known, list) else [known, text]


def _add_facts(fields: dict[str, Any], facts: ArchiveFacts) -> None:
    extent = facts.extent
    fields["originator"] = facts.originator
    fields["received"] = [_timestamp(extent.at[0]), _timestamp(extent.at[1])] if extent else None
    fields["peer"] = extent and extent.sender
    fields["identity"] = extent and extent.identity
    fields["via"] = extent and extent.via
    fields["marks"] = facts.marks
