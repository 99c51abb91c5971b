"""SSR events as RFC 5424 messages without their identity, as Telegraf's syslog output maps them.

    <PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID [128T type="alarm" router="…" node="…" NAME="VALUE" …] MSG

- PRI: the fields `severity_code` and `facility_code`. Without them: the severity of an alarm (tag or field `severity`:
  critical, major, minor, info → 2, 3, 4, 6), else that of `SsrDefaults`, 5; its facility, 1. The clearing of an alarm
  has the severity of the alarm.
- TIMESTAMP: the field `timestamp` (nanoseconds, or seconds, as its size shows), else the event's own time, else the
  time of reading. UTC, to the microsecond. HOSTNAME: the tag `hostname`, else `host`, else ours. APP-NAME: the tag
  `appname`, else that of `SsrDefaults`, `128T`. PROCID, MSGID and MSG: the fields `procid`, `msgid` (else the event's
  name) and `msg`.
- Tags: those of the event, and the configured ones (Telegraf's global tags) whose names the event lacks.
- SD-PARAMs: `type`; `router` and `node`, the event's own or else the configured ones; then, by name, every other tag
  and field. Booleans are 1 and 0. A leading `128T_` (the SD-ID and `_`) is removed from a name; a name that the message
  itself uses is written as `event.NAME`. Line feeds and tabs stay, other control octets are written as `#033` (octal),
  octets that are not UTF-8 as U+FFFD.

Unlike Telegraf, nothing is lost: values that the header cannot show unchanged, `severity`, and a second candidate for
HOSTNAME are SD-PARAMs as well; and VERSION is always 1. The tag `source`, which Telegraf prefers to `host`, is not a
HOSTNAME here: a router's alarm names its subject there ("peer0"), and RFC 5424 section 6.2.4 demands the machine that
sent the message.

The type comes from the tag `type`. An event of a type that relay does not know is of type `log`, which no configuration
disables, and keeps its own word as `event.type`. Malformed data is of type `log` too: MSG holds its octets unchanged,
and it is marked `malformed="1"`.
"""

import re
from collections.abc import Mapping, MutableMapping
from decimal import Decimal
from operator import itemgetter
from typing import Final, NamedTuple, TypeVar

from relay.events.envelope import OWN_NAMES, Envelope, sd_param
from relay.events.ssr.collected import Collected, Value, nanoseconds
from relay.syslog.rfc5424 import (
    MAX_APP_NAME,
    MAX_FACILITY,
    MAX_HOSTNAME,
    MAX_MSGID,
    MAX_PROCID,
    MAX_SEVERITY,
    NILVALUE,
    format_timestamp,
    legal_header,
)
from relay.values.event import ROUTER_TYPES, Event, EventType

APP_NAME: Final = b"128T"
_TYPES: Final = {kind.label.encode(): kind for kind in ROUTER_TYPES}
_SEVERITIES: Final = {b"critical": 2, b"major": 3, b"minor": 4, b"info": 6}
_TIME: Final = re.compile(rb"-?[0-9]{1,19}")
_NANOSECONDS: Final = 1000
_LONGEST_CODE: Final = 3

_Shown = TypeVar("_Shown", bytes, Value)


class SsrDefaults(NamedTuple):
    """The header fields of an event that has none of its own."""

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
        self._envelope = Envelope(hostname=hostname, router=router, node=node, sd_id=sd_id)
        self._own_prefix = sd_id.encode() + b"_"
        self._defaults = defaults
        self._tags = {name.encode(): value.encode() for name, value in tags.items()}

    def event(self, collected: Collected, now_us: int) -> Event:
        """Write an event; `now_us` is when it was read."""
        rest = _RemainingFields(collected, self._tags)
        kind = rest.pop_type()
        time = rest.pop_time(now_us if collected.time is None else collected.time // _NANOSECONDS)
        alarm_severity = rest.tags.get(b"severity") or _text(rest.fields.get(b"severity", b""))
        default_severity = _SEVERITIES.get(alarm_severity.lower(), self._defaults.severity)
        facility = rest.pop_code(b"facility_code", MAX_FACILITY, self._defaults.facility)
        severity = rest.pop_code(b"severity_code", MAX_SEVERITY, default_severity)
        hostname = b"hostname" if b"hostname" in rest.tags else b"host"
        head = self._envelope.head(
            facility * 8 + severity,
            format_timestamp(time),
            rest.pop_shown(rest.tags, b"appname", MAX_APP_NAME) or self._defaults.app_name,
            rest.pop_shown(rest.fields, b"msgid", MAX_MSGID) or legal_header(collected.name, MAX_MSGID),
            procid=rest.pop_shown(rest.fields, b"procid", MAX_PROCID) or NILVALUE,
            hostname=rest.pop_shown(rest.tags, hostname, MAX_HOSTNAME) or b"",
        )
        msg = rest.fields.pop(b"msg", None)
        origin = self._envelope.origin(kind, router=rest.tags.pop(b"router", b""), node=rest.tags.pop(b"node", b""))
        tail = origin + rest.params(self._own_prefix) + b"]"
        return Event(kind, time, head, tail if msg is None else b"%b %b" % (tail, _text(msg)))

    def malformed(self, octets: bytes, now_us: int) -> Event:
        """Write data that could not be parsed."""
        facility, severity, app_name = self._defaults
        head = self._envelope.head(facility * 8 + severity, NILVALUE, app_name, NILVALUE)
        tail = b'%b malformed="1"] %b' % (self._envelope.origin(EventType.LOG), octets)
        return Event(EventType.LOG, now_us, head, tail)


class _RemainingFields:
    """The tags and fields of an event that are not written yet. The header removes those that it shows unchanged."""

    def __init__(self, collected: Collected, tags: Mapping[bytes, bytes]) -> None:
        self.tags = {**tags, **collected.tags}
        self.fields = dict(collected.fields)

    def params(self, own_prefix: bytes) -> bytes:
        """Write all that remains as SD-PARAMs, sorted by name, without the prefix."""
        named = [
            (name.removeprefix(own_prefix) or name, value) for name, value in (*self.tags.items(), *self.fields.items())
        ]
        named.sort(key=itemgetter(0))
        return b"".join(
            sd_param(b"event." + name if name in OWN_NAMES else name, _text(value)) for name, value in named
        )

    def pop_type(self) -> EventType:
        """Return the type; a word that relay does not know stays."""
        kind = _TYPES.get(self.tags.get(b"type", b""))
        if kind is None:
            return EventType.LOG
        del self.tags[b"type"]
        return kind

    def pop_time(self, default: int) -> int:
        """Return the time, in microseconds."""
        text = _text(self.fields.get(b"timestamp", b""))
        time = nanoseconds(int(text)) if _TIME.fullmatch(text) else None
        if time is None:
            return default
        del self.fields[b"timestamp"]
        return time // _NANOSECONDS

    def pop_code(self, name: bytes, highest: int, default: int) -> int:
        """Return a field that is a number from 0 to `highest`; any other stays."""
        text = _text(self.fields.get(name, b""))
        if not (text.isdigit() and len(text) <= _LONGEST_CODE and int(text) <= highest):
            return default
        del self.fields[name]
        return int(text)

    def pop_shown(self, table: MutableMapping[bytes, _Shown], name: bytes, limit: int) -> bytes | None:
        """Return a value for a header field, cleaned and cut; if that changed it, the whole value stays as well."""
        if name not in table:
            return None
        value = _text(table[name])
        legal = legal_header(value, limit)
        if legal == value:
            del table[name]
        return legal


def _text(value: Value) -> bytes:
    """Write a value as Telegraf does: no exponents, 1 and 0 for true and false."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, float):
        return f"{Decimal(repr(value)):f}".removesuffix(".0").encode()
    return b"%d" % value
