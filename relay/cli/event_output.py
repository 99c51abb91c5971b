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
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from relay.archive.layout import DISPUTED
from relay.archive.ledger import Extent
from relay.cli.event_summary import NOTHING, parameters, summary
from relay.cli.output import message_as_json, report
from relay.program.history.past_event import Item, PastEvent, UnreadableStretch
from relay.syslog import rfc5424
from relay.syslog.lenient import strict
from relay.syslog.lenient.reading import Reading
from relay.syslog.rfc5424 import Message
from relay.values.event import EventType
from relay.values.text import counted, decoded, escaped, fitted, printable_json

SCHEMA: Final = "relay.events/2"
MAX_REPORTED: Final = 20
"""How many stretches that cannot be read are named."""

# Bounded, because it is searched for: unbounded, a text of many "type=" takes quadratic time.
_AUDIT_HEAD: Final = re.compile(r"(?:node=\S{1,255} )?type=\S{1,64} msg=audit\([^)]{0,64}\):? ?")
_AUDITD: Final = b"auditd"
_DISPUTED: Final = f"{DISPUTED}/"
"""Before a name that is not shown as that of the originator, because it is bound to another sender."""
_BOM: Final = b"\xef\xbb\xbf"
_RUN: Final = ' relayRun="'
_NAME: Final = r"[!#-<>-\\^-~]+"
# Repeated groups are not possessive: Python 3.11 up to 3.11.4 continues in the wrong place after the last one.
_VALUE: Final = r'"([^"\\\]]*+(?:\\.[^"\\\]]*+)*)"'
_ELEMENT: Final = re.compile(rf"\[({_NAME})((?: {_NAME}={_VALUE})*)\]", re.DOTALL)
_PARAM: Final = re.compile(rf" ({_NAME})={_VALUE}", re.DOTALL)
_ESCAPED_OCTET: Final = "\\x"
"""How an octet that is not UTF-8 begins, when it is decoded."""
_ESCAPED: Final = re.compile(r'\\(["\\\]])')
_REMEMBERED_SECONDS: Final = 8192
_NO_FIELDS: Final[dict[str, str | list[str]]] = {}
_NOT_NUMBERED: Final[dict[str, Any]] = {"run": None, "number": None, "part": None, "parts": None}

StructuredData = dict[str, dict[str, str | list[str]]]


class EventDisplay(NamedTuple):
    """How events are shown to people."""

    columns: int | None
    """None: whole lines."""
    full: bool
    """Every record, each on a line of its own."""
    originators: bool


class EventOutput:
    """Events on standard output; `display` is None for JSON."""

    def __init__(self, display: EventDisplay | None) -> None:
        self._display = display
        self._json = JsonLines()
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
                self.unreadable += not item.is_expected
                self._reported += 1
                if self._reported <= MAX_REPORTED:
                    where = f"{item.path}: offset {item.offset}" if item.offset else item.path
                    report(f"{where}: {item.cause}")
                elif self._reported == MAX_REPORTED + 1:
                    report(f"… and more than {counted(MAX_REPORTED, 'place')} like these")
                continue
            self.shown += 1
            if self._display is None:
                write(self._json.line(item))
            else:
                write(_lines(item, self._display).encode(self._encoding, "backslashreplace"))
            if is_terminal:
                sys.stdout.buffer.flush()


# --- For people ---


def _lines(event: PastEvent, display: EventDisplay) -> str:
    message = rfc5424.parsed(event.message)
    reading = None if message is not None else event.reading()
    # The BOM (RFC 5424 section 6.4) says that MSG is UTF-8; it is not part of the text.
    octets = (message.msg or b"") if message is not None else _text(event.message, reading)
    text = decoded(octets.removeprefix(_BOM)).removesuffix("\n")
    records = [record for record in text.split("\n") if record.strip()]
    if message is not None and message.app_name and event.type == EventType.LOG.label and records:
        records[0] = f"{decoded(_program(message.app_name, message.procid))}{records[0].lstrip()}"
    msgid = message.msgid if message is not None else reading and reading.msgid
    head = [_shown_time(event, message, reading), event.type, decoded(msgid) if msgid else "-"]
    if display.originators:
        host = message.hostname if message is not None else reading and reading.host
        folder = event.facts.originator if event.facts else "-"
        head.insert(1, decoded(host) if host and not folder.startswith(_DISPUTED) else folder)
    if display.full:
        if message is not None and not (message.app_name == _AUDITD and message.msg):  # whose records have them all
            records += [f"{name}={value}" for name, value in parameters(message)]
        lines = ("  ".join(head), *(f"    {record}" for record in [*(records or [NOTHING]), *_provenance(event)]))
        return "".join(f"{escaped(line)}\n" for line in lines)
    first = _AUDIT_HEAD.sub("", records[0], count=1) if records else ""
    if not first.strip():
        first = summary(event.type, message) if message else NOTHING
    extent = event.facts.extent if event.facts is not None else None
    if extent is not None and extent.via and not extent.identity and event.type == EventType.RELAY.label:
        first = f"{first} (unverified)"
    more = f"  (+{len(records) - 1})" if len(records) > 1 else ""
    line = f"{head[0]:<24}  {'  '.join(f'{escaped(field):<10}' for field in head[1:])}  {escaped(first)}"
    return f"{fitted(line, display.columns and display.columns - len(more))}{more}\n"


def _provenance(event: PastEvent) -> list[str]:
    """Who sent a message of an archive, and when it came: a line, if the ledger knows."""
    if event.facts is None or event.facts.extent is None:
        return []
    extent = event.facts.extent
    marks = f"; {', '.join(event.facts.marks)}" if event.facts.marks else ""
    if not extent.via:
        return [f"received {_timestamp(extent.at[0]) or '-'}, without a recorded sender{marks}"]
    identity = extent.identity or ("unverified" if event.type == EventType.RELAY.label else "")
    sender = f"{extent.sender} ({identity})" if identity else extent.sender
    return [f"received {_timestamp(extent.at[0]) or '-'} from {sender} via {extent.via}{marks}"]


def _text(message: bytes, reading: Reading | None) -> bytes:
    """A message that is not RFC 5424, from its program's name on."""
    if reading is None or reading.app is None:
        return message[reading.msg_at if reading else 0 :] or message
    return _program(reading.app, reading.procid) + message[reading.msg_at :]


def _program(app: bytes, procid: bytes | None) -> bytes:
    """Who wrote a message, in the form of RFC 3164."""
    return b"%b[%b]: " % (app, procid) if procid else b"%b: " % app


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


class JsonLines:
    """Writes events as lines of JSON. It remembers the last extent, because messages of one follow each other."""

    def __init__(self) -> None:
        self._extent: Extent | None = None
        self._received = _received(None)
        self._encode = msgspec.json.Encoder().encode

    def line(self, event: PastEvent) -> bytes:
        """The event as one line."""
        text = decoded(event.message)
        match = strict.MESSAGE_AS_TEXT.match(text)
        if match is not None and _ESCAPED_OCTET in text and strict.MESSAGE.match(event.message) is None:
            match = None  # only the escapes make it legal
        fields = _fields_of_other(event) if match is None else _fields_of_rfc5424(event, text, match)
        if event.facts is not None:
            if event.facts.extent is not self._extent:
                self._extent = event.facts.extent
                self._received = _received(self._extent)
            fields["originator"] = event.facts.originator
            fields.update(self._received)
            fields["marks"] = event.facts.marks
        return printable_json(self._encode(fields)) + b"\n"


def _fields_of_rfc5424(event: PastEvent, text: str, match: re.Match[str]) -> dict[str, Any]:
    """Those of a legal message, which most are: it is decoded once, and nothing is read that is not printed."""
    priority, second, fraction, zone, host, app, procid, msgid, written = match.groups()
    # Before STRUCTURED-DATA all is ASCII, so that it begins at the same place in text and octets.
    identity = strict.identity_in(event.message, match.start(9)) if _RUN in written else None
    data = _structured_data(written)
    own = next(iter(data.values()), _NO_FIELDS)
    return {
        "schema": SCHEMA,
        "time": _time_of(second, fraction, zone),
        "hostname": _field(host),
        "app_name": _field(app),
        "procid": _field(procid),
        "msgid": _field(msgid),
        "facility": int(priority) >> 3,
        "severity": int(priority) & 7,
        "type": event.type_by(identity),
        "router": own.get("router"),
        "node": own.get("node"),
        **(_NOT_NUMBERED if identity is None else _numbers(identity)),
        "structured_data": data,
        **_message_of(event.message, text, match.end()),
    }


def _message_of(message: bytes, text: str, begin: int) -> dict[str, str | None]:
    """MSG, which begins there in the text."""
    if _ESCAPED_OCTET not in text:
        return {"message": text[begin:], "message_base64": None}
    match = strict.MESSAGE.match(message)
    return message_as_json(message[match.end() :] if match is not None else message)


def _fields_of_other(event: PastEvent) -> dict[str, Any]:
    reading = event.reading()
    data = _merged(
        (decoded(element.id), ((decoded(name), decoded(value)) for name, value in element.params))
        for element in reading.structured_data
    )
    own = next(iter(data.values()), _NO_FIELDS)
    return {
        "schema": SCHEMA,
        "time": _timestamp(reading.time),
        "hostname": _decoded_field(reading.host),
        "app_name": _decoded_field(reading.app),
        "procid": _decoded_field(reading.procid),
        "msgid": _decoded_field(reading.msgid),
        "facility": reading.facility,
        "severity": reading.severity,
        "type": event.type_by(None),
        "router": own.get("router"),
        "node": own.get("node"),
        **_NOT_NUMBERED,
        "structured_data": data,
        **message_as_json(event.message[reading.msg_at :]),
    }


def _structured_data(written: str) -> StructuredData:
    """Legal STRUCTURED-DATA."""
    if written == "-":
        return {}
    # One element without escapes, which most are: each quotation mark begins or ends a value.
    if "\\" not in written and '"][' not in written and '"' in written:
        begin = written.index(" ")
        pieces = written[begin:].split('"')
        names, texts = [piece[1:-1] for piece in pieces[:-1:2]], pieces[1::2]
        values: dict[str, str | list[str]] = dict(zip(names, texts, strict=True))
        if len(values) == len(names):
            return {written[1:begin]: values}
    params = ((match[1], _PARAM.findall(match[2])) for match in _ELEMENT.finditer(written))
    return _merged((name, [(key, _ESCAPED.sub(r"\1", value)) for key, value in found]) for name, found in params)


def _merged(elements: Iterable[tuple[str, Iterable[tuple[str, str]]]]) -> StructuredData:
    """A parameter that occurs several times in one element has a list of its values."""
    data: StructuredData = {}
    for name, params in elements:
        found = list(params)
        values: dict[str, str | list[str]] = dict(found)
        if len(values) != len(found):
            lists: dict[str, list[str]] = {}
            for key, text in found:
                lists.setdefault(key, []).append(text)
            values = {key: texts[0] if len(texts) == 1 else texts for key, texts in lists.items()}
        data[name] = values
    return data


def _numbers(identity: rfc5424.Identity) -> dict[str, Any]:
    return {
        "run": decoded(identity.run),
        "number": identity.sequence,
        "part": identity.part,
        "parts": identity.parts,
    }


def _received(extent: Extent | None) -> dict[str, Any]:
    if extent is None:
        return {"received": None, "peer": None, "identity": None, "via": None}
    return {
        "received": [_timestamp(extent.at[0]), _timestamp(extent.at[1])],
        "peer": extent.sender,
        "identity": extent.identity,
        "via": extent.via,
    }


def _time_of(second: str | None, fraction: str | None, zone: str | None) -> str | None:
    """A legal TIMESTAMP in UTC, with three or six fraction digits; None when there is none or its date is not one."""
    if second is None or zone is None or (begun := _second_of(second, zone)) is None:
        return None
    digits = (fraction or "").ljust(3, "0")
    if len(digits) > len("123"):
        digits = digits.ljust(6, "0").removesuffix("000")
    return f"{begun}.{digits}Z"


@lru_cache(_REMEMBERED_SECONDS)
def _second_of(second: str, zone: str) -> str | None:
    """In UTC, without a fraction; a zone does not change that."""
    written = _timestamp(strict.since_epoch(second.encode("ascii"), zone.encode("ascii")))
    return written and written.partition(".")[0]


def _field(written: str) -> str | None:
    return None if written == "-" else written


def _decoded_field(octets: bytes | None) -> str | None:
    return None if octets is None or octets == rfc5424.NILVALUE else decoded(octets)
