"""RFC 5424 messages: octets in, values out, and back.

`parse` is as strict as the grammar of section 6. It raises NotRfc5424Error, which names the octet (counted from 0) and
the broken rule. `encode` is its inverse: only a legal Message can be made (otherwise ValueError, a bug of relay's), so
encoding cannot fail. All text is octets. A parameter's value is kept unescaped. MSG is kept octet for octet, with its
BOM. The size of a message is limited by the framing, not here; all work is linear in it.

relay's own messages carry their identity (run, number, part, type) as the first SD-PARAMs of the first SD-ELEMENT, in
this order and nowhere else:

    <109>1 … [128T relayRun="R" relaySeq="7" relayPart="2/5" type="audit" …]

`identity` and `hostname` read these without a full parse, for the archive. Their patterns begin at the first octet, so
MSG or another value cannot imitate them; both return None when there is nothing to find.
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
    """Octets that are not an RFC 5424 message: at `offset`, `rule` is broken."""

    def __init__(self, offset: int, rule: str) -> None:
        super().__init__("RFC 5424 message", f"octet {offset}: {rule}")
        self.offset = offset
        self.rule = rule


class Element(NamedTuple):
    """One SD-ELEMENT; a name may occur several times among the parameters (section 6.3.3)."""

    id: bytes
    params: tuple[tuple[bytes, bytes], ...] = ()
    """(PARAM-NAME, PARAM-VALUE unescaped); the value is UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One legal message. None is the NILVALUE, or an absent MSG (b"" is an empty one)."""

    facility: int
    severity: int
    timestamp: bytes | None = None
    """As written: see `microseconds`."""
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
            is_field = value is None or (len(value) <= limit and _FIELD.fullmatch(value) is not None)
            _check(is_field and value != NILVALUE, name, value)
        for element in self.structured_data:
            for sd_name in (element.id, *(param[0] for param in element.params)):
                _check(len(sd_name) <= MAX_SD_NAME and _SD_NAME.fullmatch(sd_name) is not None, "SD-NAME", sd_name)
            for _, param_value in element.params:
                if not param_value.isascii():
                    param_value.decode()
        ids = [element.id for element in self.structured_data]
        _check(len(set(ids)) == len(ids), "structured_data, an SD-ID twice", ids)

    @property
    def declares_utf8(self) -> bool:
        """Whether MSG begins with the BOM, and so claims to be UTF-8 (section 6.4)."""
        return self.msg is not None and self.msg.startswith(BOM)


class Identity(NamedTuple):
    """The identity of one of relay's own messages; `part` is 1 of 1 when the message was not split."""

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


def parsed(message: bytes) -> Message | None:
    """Read one whole message as `parse` does; None when these octets are not one."""
    try:
        return parse(message)
    except NotRfc5424Error:
        return None


def parse(message: bytes) -> Message:
    """Read one whole message; NotRfc5424Error when these octets are not one."""
    pri = _PRI.match(message)
    if pri is None or (priority := int(pri[1])) > MAX_FACILITY * 8 + MAX_SEVERITY:
        raise NotRfc5424Error(0, "PRI is <0> to <191> without a leading zero (section 6.2.1)")
    if message[pri.end() : pri.end() + 2] != b"1 ":
        raise NotRfc5424Error(pri.end(), "VERSION is 1, followed by one space (section 6.2.2)")
    timestamp, offset = _read_timestamp(message, pri.end() + 2)
    fields: list[bytes | None] = []
    for name, section, limit in _HEADER_FIELDS:
        field, offset = _read_field(message, offset, name, section, limit)
        fields.append(field)
    structured_data, offset = _read_structured_data(message, offset)
    if message[offset : offset + 1] not in {b"", b" "}:
        raise NotRfc5424Error(offset, "one space separates STRUCTURED-DATA from MSG (section 6)")
    return Message(
        facility=priority >> 3,
        severity=priority & 7,
        timestamp=timestamp,
        hostname=fields[0],
        app_name=fields[1],
        procid=fields[2],
        msgid=fields[3],
        structured_data=structured_data,
        msg=message[offset + 1 :] if offset < len(message) else None,
    )


def microseconds(timestamp: bytes) -> int:
    """Convert a TIMESTAMP to microseconds since the epoch; ValueError when it breaks section 6.2.3."""
    match = _TIMESTAMP.fullmatch(timestamp)
    if match is None:
        raise ValueError(f"{quoted(decoded(timestamp))} is not written as RFC 5424 section 6.2.3 demands")
    year, month, day, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
    fraction, sign, zone_hour, zone_minute = match.group(7, 8, 9, 10)
    zone = (int(zone_hour), int(zone_minute)) if sign else (0, 0)
    # RFC 3339 allows the year 0000, and Python's date does not.
    era, within = divmod(year, _ERA_YEARS)
    days = date(2000 + within, month, day).toordinal() - _EPOCH_DAY + (era - 5) * _ERA_DAYS
    minutes = days * 1440 + hour * 60 + minute
    minutes -= (zone[0] * 60 + zone[1]) * (-1 if sign == b"-" else 1)
    return (minutes * 60 + second) * 1_000_000 + (int(fraction.ljust(6, b"0")) if fraction else 0)


def identity(message: bytes) -> Identity | None:
    """Find the identity of one of relay's own messages; None for all others."""
    return identity_of(_IDENTITY.match(message))


def identity_of(match: re.Match[bytes] | None) -> Identity | None:
    """The identity in a match whose groups are relayRun, relaySeq, two of relayPart, and type."""
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
            raise NotRfc5424Error(offset, "an SD-ID occurs only once in a message (section 6.3.2)")
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
        try:
            value.decode()
        except UnicodeDecodeError as error:
            raise NotRfc5424Error(match.start(2) + error.start, "PARAM-VALUE is UTF-8 (section 6.3.3)") from None
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
        raise NotRfc5424Error(
            offset, f"{name} is 1 to 32 octets of PRINTUSASCII except = ] and quote (section {section})"
        )
    return match[0], match.end()


def _refuse_param(message: bytes, offset: int) -> NoReturn:
    """Raise for the rule that a parameter breaks which did not match."""
    if message[offset : offset + 1] != b" ":
        raise NotRfc5424Error(offset, 'an SD-ELEMENT ends with "]" or continues with one space (section 6.3.1)')
    _, offset = _read_sd_name(message, offset + 1, "PARAM-NAME", "6.3.3")
    if message[offset : offset + 2] != b'="':
        raise NotRfc5424Error(offset, 'PARAM-NAME is followed by =" (section 6.3.3)')
    value = _VALUE.match(message, offset + 2)
    end = value.end() if value else offset + 2
    if message[end : end + 1] == b"]":
        raise NotRfc5424Error(end, 'a "]" in a PARAM-VALUE is escaped (section 6.3.3)')
    raise NotRfc5424Error(end, "PARAM-VALUE is ended by a quote (section 6.3.3)")


_ERA_YEARS, _ERA_DAYS = 400, 146_097  # after which the Gregorian calendar repeats
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()


# --- Writing ---


def encode(message: Message) -> bytes:
    """Write the message's octets."""
    elements = (
        b"[%b%b]" % (element.id, b"".join(b' %b="%b"' % (name, escape_value(value)) for name, value in element.params))
        for element in message.structured_data
    )
    header = b"<%d>%d %b %b %b %b %b %b" % (
        message.facility * 8 + message.severity,
        VERSION,
        message.timestamp or NILVALUE,
        message.hostname or NILVALUE,
        message.app_name or NILVALUE,
        message.procid or NILVALUE,
        message.msgid or NILVALUE,
        b"".join(elements) or NILVALUE,
    )
    return header if message.msg is None else header + b" " + message.msg


def escape_value(value: bytes) -> bytes:
    """Escape quote, backslash and bracket; octets that are not UTF-8 become U+FFFD (section 6.3.3)."""
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
    """Make a PARAM-NAME or SD-ID: illegal octets become "_", truncated to 32; an empty name becomes "_"."""
    return name.translate(_AS_SD_NAME)[:MAX_SD_NAME] or b"_"


def legal_header(value: bytes, limit: int) -> bytes:
    """Make a header field: octets outside PRINTUSASCII become "_", truncated to `limit`; empty becomes "-"."""
    return value.translate(_AS_PRINTUSASCII)[:limit] or NILVALUE


def format_timestamp(since_epoch: int) -> bytes:
    """Write a TIMESTAMP in UTC with three fraction digits, or six when three are not enough.

    OverflowError before the year 0001 and after 9999.
    """
    second, fraction = divmod(since_epoch, 1_000_000)
    if fraction % 1000:
        return b"%b.%06dZ" % (_format_second(second), fraction)
    return b"%b.%03dZ" % (_format_second(second), fraction // 1000)


@lru_cache(maxsize=64)  # many events share a second, and they come nearly in order
def _format_second(second: int) -> bytes:
    return (_EPOCH + timedelta(seconds=second)).isoformat()[:19].encode()


# --- Every Message is legal ---


def _check(legal: bool, name: str, value: object) -> None:  # noqa: FBT001 -- the verdict is the argument
    if not legal:
        raise ValueError(f"{name}: {value!r} is not legal in RFC 5424")
