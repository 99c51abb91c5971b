"""RFC 5424 messages: octets in, values out, and back.

`parse` is as strict as the grammar of section 6 and raises NotRfc5424Error, which says at which octet
(counted from 0) which rule was broken. `encode` is its inverse; a Message cannot be made unless it is legal
(ValueError: that fault is ours), so encoding cannot fail. All text is octets. A parameter's value is kept
unescaped. MSG is kept octet for octet, with its BOM. A message's size has no ceiling here, that is the
framing's matter; all work is linear in it.

relay's own messages carry their identity (run, number, part, type) as the first SD-PARAMs of the first
SD-ELEMENT, in this order and nowhere else:

    <109>1 … [128T relayRun="R" relaySeq="7" relayPart="2/5" type="audit" …]

`identity` and `hostname` read it without a full parse, for the archive. They are anchored at the first octet,
are not led astray by what stands in MSG or in another value, and answer None where there is nothing to find.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, NoReturn

from relay.errors import DataError
from relay.values.text import decoded, quoted

VERSION = 1
NILVALUE = b"-"
BOM = b"\xef\xbb\xbf"
MAX_HOSTNAME = 255
MAX_APP_NAME = 48
MAX_PROCID = 128
MAX_MSGID = 32
MAX_SD_NAME = 32
MAX_FACILITY = 23
MAX_SEVERITY = 7


class NotRfc5424Error(DataError):
    """Octets that are no RFC 5424 message: `offset` says where, `rule` what should have stood there."""

    def __init__(self, offset: int, rule: str) -> None:
        super().__init__("RFC 5424 message", f"octet {offset}: {rule}")
        self.offset = offset
        self.rule = rule


class Element(NamedTuple):
    """One SD-ELEMENT; a name may stand several times among the parameters (section 6.3.3)."""

    id: bytes
    params: tuple[tuple[bytes, bytes], ...] = ()
    """(PARAM-NAME, PARAM-VALUE unescaped); the value is UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One legal message. None is the NILVALUE, and an MSG that is absent (b"" is an empty one)."""

    facility: int
    severity: int
    timestamp: bytes | None = None
    """As it was written: see `microseconds`."""
    hostname: bytes | None = None
    app_name: bytes | None = None
    procid: bytes | None = None
    msgid: bytes | None = None
    structured_data: tuple[Element, ...] = ()
    msg: bytes | None = None

    def __post_init__(self) -> None:
        _check(0 <= self.facility <= MAX_FACILITY, "facility", self.facility)
        _check(0 <= self.severity <= MAX_SEVERITY, "severity", self.severity)
        if self.timestamp is not None:
            microseconds(self.timestamp)
        for name, value, limit in (
            ("hostname", self.hostname, MAX_HOSTNAME),
            ("app_name", self.app_name, MAX_APP_NAME),
            ("procid", self.procid, MAX_PROCID),
            ("msgid", self.msgid, MAX_MSGID),
        ):
            _check(value is None or _legal_field(value, limit), name, value)
        for element in self.structured_data:
            _check_element(element)
        ids = [element.id for element in self.structured_data]
        _check(len(set(ids)) == len(ids), "structured_data, an SD-ID twice", ids)

    @property
    def declares_utf8(self) -> bool:
        """Whether MSG begins with the BOM, and so claims to be UTF-8 (section 6.4)."""
        return self.msg is not None and self.msg.startswith(BOM)


class Identity(NamedTuple):
    """What makes one of relay's own messages unlike every other; `part` is 1 of 1 when it was not split."""

    run: bytes
    type: bytes
    sequence: int
    part: int
    parts: int


# --- Grammar (section 6) ---

_PRINTUSASCII = bytes(range(33, 127))
_SD_NAME_OCTETS = bytes(set(_PRINTUSASCII) - set(b'= ]"'))
_AS_PRINTUSASCII = bytes(octet if octet in _PRINTUSASCII else ord("_") for octet in range(256))
_AS_SD_NAME = bytes(octet if octet in _SD_NAME_OCTETS else ord("_") for octet in range(256))

_PRI = re.compile(rb"<(0|[1-9][0-9]{0,2})>")
_HOUR, _SIXTY = rb"([01][0-9]|2[0-3])", rb"([0-5][0-9])"  # section 6.2.3: no leap seconds
_TIMESTAMP = re.compile(
    rb"([0-9]{4})-([0-9]{2})-([0-9]{2})T%b:%b:%b(?:\.([0-9]{1,6}))?(?:Z|([+-])%b:%b)"
    % (_HOUR, _SIXTY, _SIXTY, _HOUR, _SIXTY)
)
_FIELD = re.compile(rb"[!-~]+")
_SD_NAME = re.compile(rb"[!#-<>-\\^-~]+")
_PARAM = re.compile(rb' ([!#-<>-\\^-~]{1,32})="((?:[^"\\\]]++|\\.)*+)"', re.DOTALL)
_VALUE = re.compile(rb'(?:[^"\\\]]++|\\.)*+', re.DOTALL)
_ESCAPED = re.compile(rb'\\(["\\\]])')
_HEADER_FIELDS = (
    ("HOSTNAME", "6.2.4", MAX_HOSTNAME),
    ("APP-NAME", "6.2.5", MAX_APP_NAME),
    ("PROCID", "6.2.6", MAX_PROCID),
    ("MSGID", "6.2.7", MAX_MSGID),
)

_IDENTITY = re.compile(
    rb"<[0-9]{1,3}>1 [!-~]+ [!-~]+ [!-~]+ [!-~]+ [!-~]+ "
    rb"\[[!#-<>-\\^-~]{1,32}"
    rb' relayRun="([!#-\[^-~]{1,64})"'
    rb' relaySeq="(0|[1-9][0-9]{0,18})"'
    rb'(?: relayPart="([1-9][0-9]{0,8})/([1-9][0-9]{0,8})")?'
    rb' type="([a-z]{1,32})"'
)
_HOSTNAME = re.compile(rb"<[0-9]{1,3}>1 [!-~]+ ([!-~]{1,255}) ")


# --- Reading ---


def parse(message: bytes) -> Message:
    """Read one whole message; NotRfc5424Error when it is none."""
    priority, offset = _read_priority(message)
    offset = _read_version(message, offset)
    timestamp, offset = _read_timestamp(message, offset)
    fields: list[bytes | None] = []
    for name, section, limit in _HEADER_FIELDS:
        field, offset = _read_field(message, offset, name, section, limit)
        fields.append(field)
    structured_data, offset = _read_structured_data(message, offset)
    return Message(
        facility=priority >> 3,
        severity=priority & 7,
        timestamp=timestamp,
        hostname=fields[0],
        app_name=fields[1],
        procid=fields[2],
        msgid=fields[3],
        structured_data=structured_data,
        msg=_read_msg(message, offset),
    )


def microseconds(timestamp: bytes) -> int:
    """Convert a TIMESTAMP to microseconds since the epoch; ValueError when it breaks section 6.2.3."""
    match = _TIMESTAMP.fullmatch(timestamp)
    if match is None:
        raise ValueError(f"{quoted(decoded(timestamp))} is not written as RFC 5424 section 6.2.3 demands")
    year, month, day, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
    fraction, sign, zone_hour, zone_minute = match.group(7, 8, 9, 10)
    zone = (int(zone_hour), int(zone_minute)) if sign else (0, 0)
    minutes = _days_since_epoch(year, month, day) * 1440 + hour * 60 + minute
    minutes -= (zone[0] * 60 + zone[1]) * (-1 if sign == b"-" else 1)
    return (minutes * 60 + second) * 1_000_000 + (int(fraction.ljust(6, b"0")) if fraction else 0)


def identity(message: bytes) -> Identity | None:
    """Find the identity of one of relay's own messages; None for all others."""
    match = _IDENTITY.match(message)
    if match is None:
        return None
    run, sequence, part, parts, type_ = match.groups()
    if part is None:
        return Identity(run, type_, int(sequence), 1, 1)
    found = Identity(run, type_, int(sequence), int(part), int(parts))
    return found if found.part <= found.parts else None


def hostname(message: bytes) -> bytes | None:
    """Find HOSTNAME; None when it is the NILVALUE, or the message does not begin as RFC 5424."""
    match = _HOSTNAME.match(message)
    return None if match is None or match[1] == NILVALUE else match[1]


def _read_priority(message: bytes) -> tuple[int, int]:
    match = _PRI.match(message)
    if match is None or (priority := int(match[1])) > MAX_FACILITY * 8 + MAX_SEVERITY:
        raise NotRfc5424Error(0, "PRI is <0> to <191> without a leading zero (section 6.2.1)")
    return priority, match.end()


def _read_version(message: bytes, offset: int) -> int:
    if message[offset : offset + 2] != b"1 ":
        raise NotRfc5424Error(offset, "VERSION is 1, followed by one space (section 6.2.2)")
    return offset + 2


def _read_timestamp(message: bytes, offset: int) -> tuple[bytes | None, int]:
    field, end = _read_field(message, offset, "TIMESTAMP", "6.2.3", len("2003-08-24T05:14:15.000003-07:00"))
    if field is not None:
        try:
            microseconds(field)
        except ValueError as error:
            raise NotRfc5424Error(offset, f"TIMESTAMP: {error} (section 6.2.3)") from None
    return field, end


def _read_field(message: bytes, offset: int, name: str, section: str, limit: int) -> tuple[bytes | None, int]:
    """Read a header field and the space that ends it."""
    match = _FIELD.match(message, offset)
    if match is None or match.end() - offset > limit:
        raise NotRfc5424Error(offset, f"{name} is 1 to {limit} octets of PRINTUSASCII (section {section})")
    end = match.end()
    if message[end : end + 1] != b" ":
        raise NotRfc5424Error(end, f"one space follows {name} (section 6)")
    field = match[0]
    return (None if field == NILVALUE else field), end + 1


def _read_structured_data(message: bytes, offset: int) -> tuple[tuple[Element, ...], int]:
    if message[offset : offset + 1] == NILVALUE:
        return (), offset + 1
    elements: list[Element] = []
    seen: set[bytes] = set()
    while message[offset : offset + 1] == b"[":
        element, end = _read_element(message, offset)
        if element.id in seen:
            raise NotRfc5424Error(offset, "an SD-ID stands only once in a message (section 6.3.2)")
        seen.add(element.id)
        elements.append(element)
        offset = end
    if not elements:
        raise NotRfc5424Error(offset, 'STRUCTURED-DATA is "-" or begins with "[" (section 6.3)')
    return tuple(elements), offset


def _read_element(message: bytes, offset: int) -> tuple[Element, int]:
    name, offset = _read_sd_name(message, offset + 1, "SD-ID", "6.3.2")
    params: list[tuple[bytes, bytes]] = []
    while match := _PARAM.match(message, offset):
        value = match[2]
        if not value.isascii():
            _require_utf8(value, match.start(2))
        if b"\\" in value:
            value = _ESCAPED.sub(rb"\1", value)
        params.append((match[1], value))
        offset = match.end()
    if message[offset : offset + 1] != b"]":
        _refuse_param(message, offset)
    return Element(name, tuple(params)), offset + 1


def _read_sd_name(message: bytes, offset: int, name: str, section: str) -> tuple[bytes, int]:
    match = _SD_NAME.match(message, offset)
    if match is None or match.end() - offset > MAX_SD_NAME:
        raise NotRfc5424Error(offset, f"{name} is 1 to 32 octets of PRINTUSASCII but = ] and quote (section {section})")
    return match[0], match.end()


def _require_utf8(value: bytes, offset: int) -> None:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise NotRfc5424Error(offset + error.start, "PARAM-VALUE is UTF-8 (section 6.3.3)") from None


def _refuse_param(message: bytes, offset: int) -> NoReturn:
    """Say what is wrong with a parameter that did not match."""
    if message[offset : offset + 1] != b" ":
        raise NotRfc5424Error(offset, 'an SD-ELEMENT ends with "]" or goes on with one space (section 6.3.1)')
    _, offset = _read_sd_name(message, offset + 1, "PARAM-NAME", "6.3.3")
    if message[offset : offset + 2] != b'="':
        raise NotRfc5424Error(offset, 'PARAM-NAME is followed by =" (section 6.3.3)')
    value = _VALUE.match(message, offset + 2)
    end = value.end() if value else offset + 2
    if message[end : end + 1] == b"]":
        raise NotRfc5424Error(end, 'a "]" in a PARAM-VALUE is escaped (section 6.3.3)')
    raise NotRfc5424Error(end, "PARAM-VALUE is ended by a quote (section 6.3.3)")


def _read_msg(message: bytes, offset: int) -> bytes | None:
    if offset == len(message):
        return None
    if message[offset : offset + 1] != b" ":
        raise NotRfc5424Error(offset, "one space stands between STRUCTURED-DATA and MSG (section 6)")
    return message[offset + 1 :]


_ERA_YEARS, _ERA_DAYS = 400, 146_097  # the Gregorian calendar repeats itself
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()


def _days_since_epoch(year: int, month: int, day: int) -> int:
    """Also for the year 0000, which RFC 3339 can write and Python's date cannot."""
    era, within = divmod(year, _ERA_YEARS)
    return date(2000 + within, month, day).toordinal() - _EPOCH_DAY + (era - 5) * _ERA_DAYS


# --- Writing ---


def encode(message: Message) -> bytes:
    """Write the message's octets."""
    header = b"<%d>%d %b %b %b %b %b %b" % (
        message.facility * 8 + message.severity,
        VERSION,
        message.timestamp or NILVALUE,
        message.hostname or NILVALUE,
        message.app_name or NILVALUE,
        message.procid or NILVALUE,
        message.msgid or NILVALUE,
        b"".join(map(_encode_element, message.structured_data)) or NILVALUE,
    )
    return header if message.msg is None else header + b" " + message.msg


def escape_value(value: bytes) -> bytes:
    """Escape quote, backslash and bracket; what is no UTF-8 becomes U+FFFD (section 6.3.3)."""
    if not value.isascii():
        value = value.decode(errors="replace").encode()
    if b"\\" in value:
        value = value.replace(b"\\", b"\\\\")
    if b'"' in value:
        value = value.replace(b'"', b'\\"')
    if b"]" in value:
        value = value.replace(b"]", b"\\]")
    return value


def legal_name(name: bytes) -> bytes:
    """Make a PARAM-NAME or SD-ID: illegal octets become "_", cut to 32; nothing becomes "_"."""
    return name.translate(_AS_SD_NAME)[:MAX_SD_NAME] or b"_"


def legal_header(value: bytes, limit: int) -> bytes:
    """Make a header field: octets outside PRINTUSASCII become "_", cut to `limit`; nothing becomes "-"."""
    return value.translate(_AS_PRINTUSASCII)[:limit] or NILVALUE


def format_timestamp(since_epoch: int) -> bytes:
    """Write a TIMESTAMP in UTC with three fraction digits, or six when three would not tell all.

    OverflowError before the year 0001 and after 9999.
    """
    second, fraction = divmod(since_epoch, 1_000_000)
    if fraction % 1000:
        return b"%b.%06dZ" % (_format_second(second), fraction)
    return b"%b.%03dZ" % (_format_second(second), fraction // 1000)


@lru_cache(maxsize=64)  # events come many to a second, and nearly in order
def _format_second(second: int) -> bytes:
    return (_EPOCH + timedelta(seconds=second)).isoformat()[:19].encode()


def _encode_element(element: Element) -> bytes:
    params = (b' %b="%b"' % (name, escape_value(value)) for name, value in element.params)
    return b"[%b%b]" % (element.id, b"".join(params))


# --- What exists is legal ---


def _check(legal: bool, name: str, value: object) -> None:  # noqa: FBT001 -- the verdict is the argument
    if not legal:
        raise ValueError(f"{name}: {value!r} is not legal in RFC 5424")


def _legal_field(value: bytes, limit: int) -> bool:
    return len(value) <= limit and value != NILVALUE and _FIELD.fullmatch(value) is not None


def _legal_sd_name(name: bytes) -> bool:
    return len(name) <= MAX_SD_NAME and _SD_NAME.fullmatch(name) is not None


def _check_element(element: Element) -> None:
    _check(_legal_sd_name(element.id), "SD-ID", element.id)
    for name, value in element.params:
        _check(_legal_sd_name(name), "PARAM-NAME", name)
        if not value.isascii():
            value.decode()
