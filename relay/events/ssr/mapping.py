"""SSR events as RFC 5424 messages that lack only their identity, as Telegraf's syslog output maps them.

    <PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID [128T type="alarm" router="…" node="…" NAME="VALUE" …] MSG

- PRI: the fields `severity_code` and `facility_code`. Without them: the severity of an alarm (tag or field `severity`:
  critical, major, minor, info → 2, 3, 4, 6), else that of `SsrDefaults`, 5; its facility, 1. An alarm's clear has the
  severity of its add.
- TIMESTAMP: the field `timestamp` (nanoseconds; or seconds, which Telegraf took first, where its size shows that), else
  the event's own time, else that of reading. UTC, to the microsecond. HOSTNAME: the tag `hostname`, else `host`, else
  ours. APP-NAME: the tag `appname`, else that of `SsrDefaults`, `128T`. PROCID, MSGID and MSG: the fields `procid`,
  `msgid` (else the event's name) and `msg`.
- Tags: those of the event, and of the configured ones (Telegraf's global tags) those whose names the event lacks.
- SD-PARAMs: `type`; `router` and `node`, the event's own or else the configured ones; then, by name, every other tag
  and field. Booleans are 1 and 0. A leading `128T_` (the SD-ID and `_`) is taken off a name; a name that the message
  itself uses is written as `event.NAME`. Line feeds and tabs stay what they are, other control octets are written
  as `#033` (octal), what is no UTF-8 as U+FFFD.

Unlike Telegraf, nothing is lost: what the header cannot show as it is, `severity`, and a second candidate for HOSTNAME
are SD-PARAMs as well; and VERSION is always 1. Nor is the tag `source` a HOSTNAME, which Telegraf prefers to `host`: a
router's alarm has there what it is about ("peer0"), and RFC 5424 section 6.2.4 wants the machine that sent it.

The type comes from the tag `type`: admin, audit, alarm, traffic, provisioning, system or security. An event of any
other is of type `log`, which nothing disables, and keeps its own word as `event.type`. So is what could not be read:
MSG holds its octets as they came, and it is marked `malformed="1"`.
"""

import re
from collections.abc import Mapping, MutableMapping
from decimal import Decimal
from typing import Final, NamedTuple, TypeVar

from relay.events.ssr.collected import Collected, Value, nanoseconds
from relay.syslog.rfc5424 import (
    MAX_APP_NAME,
    MAX_FACILITY,
    MAX_HOSTNAME,
    MAX_MSGID,
    MAX_PROCID,
    MAX_SEVERITY,
    NILVALUE,
    escape_value,
    format_timestamp,
    legal_header,
    legal_name,
)
from relay.values.event import ROUTER_TYPES, Event, EventType

APP_NAME: Final = b"128T"
_TYPES: Final = {kind.label.encode(): kind for kind in ROUTER_TYPES}
_SEVERITIES: Final = {b"critical": 2, b"major": 3, b"minor": 4, b"info": 6}
_OWN_NAMES: Final = frozenset(b"relayRun relaySeq relayPart type router node serial late malformed truncated".split())
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_UNCLEAN: Final = re.compile(rb'[\x00-\x08\x0b-\x1f\x7f"\\\]]')
_TIME: Final = re.compile(rb"-?[0-9]{1,19}")
_NANOSECONDS: Final = 1000
_LONGEST_CODE: Final = 3

_Shown = TypeVar("_Shown", bytes, Value)


class SsrDefaults(NamedTuple):
    """What stands in the header of an event that says nothing of its own."""

    facility: int = 1
    severity: int = 5
    app_name: bytes = APP_NAME


_USUAL: Final = SsrDefaults()
_NO_TAGS: Final[Mapping[str, str]] = {}


class SsrMapping:
    """Writes the events of one router."""

    def __init__(
        self,
        *,
        hostname: str,
        router: str,
        node: str = "",
        sd_id: str = "128T",
        defaults: SsrDefaults = _USUAL,
        tags: Mapping[str, str] = _NO_TAGS,
    ) -> None:
        self._hostname = legal_header(hostname.encode(), MAX_HOSTNAME)
        self._origin = ((b"router", router.encode()), (b"node", node.encode()))
        self._element = legal_name(sd_id.encode())
        self._defaults = defaults
        self._tags = {name.encode(): value.encode() for name, value in tags.items()}

    def event(self, collected: Collected, now_us: int) -> Event:
        """Write an event; `now_us` is when it was read."""
        rest = _UnwrittenFields(collected, self._tags)
        kind = rest.type()
        time = rest.time(now_us if collected.time is None else collected.time // _NANOSECONDS)
        head = b"<%d>1 %b %b %b %b %b [%b" % (
            rest.code(b"facility_code", MAX_FACILITY, self._defaults.facility) * 8
            + rest.code(b"severity_code", MAX_SEVERITY, rest.severity(self._defaults.severity)),
            format_timestamp(time),
            rest.hostname() or self._hostname,
            rest.shown(rest.tags, b"appname", MAX_APP_NAME) or self._defaults.app_name,
            rest.shown(rest.fields, b"procid", MAX_PROCID) or NILVALUE,
            rest.shown(rest.fields, b"msgid", MAX_MSGID) or legal_header(collected.name, MAX_MSGID),
            self._element,
        )
        msg = rest.fields.pop(b"msg", None)
        tail = self._own_params(kind, rest.tags) + self._params(rest) + b"]"
        return Event(kind, time, head, tail if msg is None else b"%b %b" % (tail, _text(msg)))

    def malformed(self, octets: bytes, now_us: int) -> Event:
        """Write what could not be read."""
        facility, severity, app_name = self._defaults
        head = b"<%d>1 - %b %b - - [%b" % (facility * 8 + severity, self._hostname, app_name, self._element)
        tail = b'%b malformed="1"] %b' % (self._own_params(EventType.LOG, {}), octets)
        return Event(EventType.LOG, now_us, head, tail)

    def _own_params(self, kind: EventType, tags: dict[bytes, bytes]) -> bytes:
        """Write type, router and node; the event's own are taken out of `tags`."""
        origin = [(name, tags.pop(name, b"") or configured) for name, configured in self._origin]
        return _param(b"type", kind.label.encode()) + b"".join(_param(*each) for each in origin if each[1])

    def _params(self, rest: "_UnwrittenFields") -> bytes:
        prefix = self._element + b"_"
        named = [
            (name.removeprefix(prefix) or name, value) for name, value in (*rest.tags.items(), *rest.fields.items())
        ]
        named.sort(key=lambda each: each[0])
        return b"".join(_param(b"event." + name if name in _OWN_NAMES else name, _text(value)) for name, value in named)


class _UnwrittenFields:
    """What of an event is not written yet: the header takes what it can show."""

    def __init__(self, collected: Collected, tags: Mapping[bytes, bytes]) -> None:
        self.tags = {**tags, **collected.tags}
        self.fields = dict(collected.fields)

    def type(self) -> EventType:
        """Take the type; a word that is none stays."""
        kind = _TYPES.get(self.tags.get(b"type", b""))
        if kind is None:
            return EventType.LOG
        del self.tags[b"type"]
        return kind

    def time(self, own: int) -> int:
        """Take the time, in microseconds."""
        text = _text(self.fields.get(b"timestamp", b""))
        time = nanoseconds(int(text)) if _TIME.fullmatch(text) else None
        if time is None:
            return own
        del self.fields[b"timestamp"]
        return time // _NANOSECONDS

    def code(self, name: bytes, highest: int, default: int) -> int:
        """Take a number from 0 to `highest`."""
        text = _text(self.fields.get(name, b""))
        if not (text.isdigit() and len(text) <= _LONGEST_CODE and int(text) <= highest):
            return default
        del self.fields[name]
        return int(text)

    def severity(self, default: int) -> int:
        """Look at an alarm's severity, which stays."""
        word = self.tags.get(b"severity") or _text(self.fields.get(b"severity", b""))
        return _SEVERITIES.get(word.lower(), default)

    def hostname(self) -> bytes | None:
        """Take the tag for HOSTNAME."""
        name = b"hostname" if b"hostname" in self.tags else b"host"
        return self.shown(self.tags, name, MAX_HOSTNAME)

    def shown(self, table: MutableMapping[bytes, _Shown], name: bytes, limit: int) -> bytes | None:
        """Take a value for a header field; one that the field cannot show as it is stays as well."""
        if name not in table:
            return None
        value = _text(table[name])
        legal = legal_header(value, limit)
        if legal == value:
            del table[name]
        return legal


def _param(name: bytes, value: bytes) -> bytes:
    if not value.isascii() or _UNCLEAN.search(value):
        control = _CONTROL.sub(lambda found: b"#%03o" % found[0][0], value)
        value = escape_value(control)
    return b' %b="%b"' % (legal_name(name), value)


def _text(value: Value) -> bytes:
    """Write a value as Telegraf does: no exponents, 1 and 0 for true and false."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, float):
        return f"{Decimal(repr(value)):f}".removesuffix(".0").encode()
    return b"%d" % value
