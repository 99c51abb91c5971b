"""RFC 5424 as the standard has it, in one regular expression, because this runs for every received message. Pure.

`match` accepts what `rfc5424.parse` accepts (a test compares them), except that it leaves to the caller whether the
date exists. Its groups: PRI, date and time to the second, fraction, zone, HOSTNAME, APP-NAME, PROCID, MSGID, SD.
"""

import re
from functools import lru_cache
from typing import Final

from relay.syslog.lenient.reading import NOTHING_MARKED, FormMark, Glance, Reading
from relay.syslog.rfc5424 import NILVALUE, Element, Identity, identity_of, microseconds

SD_NAME: Final = rb"[!#-<>-\\^-~]{1,32}+"
PRI_AND_VERSION: Final = rb"<([0-9]|[1-9][0-9]|1[0-8][0-9]|19[01])>1 "
ZONE: Final = rb"(Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
NAMES: Final = rb"([!-~]{1,255}+) ([!-~]{1,48}+) ([!-~]{1,128}+) ([!-~]{1,32}+) "
# Repeated groups are not possessive here: Python 3.11 up to 3.11.4 continues in the wrong place after the last one.
# They match in one way only, so they need no backtracking.
_HEADER: Final = (
    PRI_AND_VERSION
    + rb"(?:([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(?:\.([0-9]{1,6}))?"
    + ZONE
    + rb"|-) "
    + NAMES
)
MESSAGE: Final = re.compile(
    _HEADER + rb'(-|(?:\[%b(?: %b="[^"\\\]]*+(?:\\.[^"\\\]]*+)*")*\])+)(?: |\Z)' % (SD_NAME, SD_NAME),
    re.DOTALL,
)
MESSAGE_AS_TEXT: Final = re.compile(MESSAGE.pattern.decode("ascii"), re.DOTALL | re.ASCII)
"""`MESSAGE` for a message that is decoded already, with the same groups."""
_OWN: Final = (
    rb"\[%b"
    rb' relayRun="([!#-\[^-~]{1,64})"'
    rb' relaySeq="(0|[1-9][0-9]{0,18})"'
    rb'(?: relayPart="([1-9][0-9]{0,8})/([1-9][0-9]{0,8})")?'
    rb' type="([a-z]{1,32})"' % SD_NAME
)
_IDENTITY: Final = re.compile(_OWN)
_OWN_MESSAGE: Final = re.compile(_HEADER + _OWN)
"""The usual form of relay's messages is read in two steps, because that takes half the time."""
_REST_OF_ELEMENT: Final = re.compile(rb'(?: %b="[^"\\\]]*+")*\](?: |\Z)' % SD_NAME)
_ELEMENT: Final = re.compile(rb'\[(%b)((?: %b="[^"\\\]]*+(?:\\.[^"\\\]]*+)*")*)\]' % (SD_NAME, SD_NAME), re.DOTALL)
_PARAM: Final = re.compile(rb' (%b)="([^"\\\]]*+(?:\\.[^"\\\]]*+)*)"' % SD_NAME, re.DOTALL)
_ESCAPED: Final = re.compile(rb'\\(["\\\]])')
_REMEMBERED_SECONDS: Final = 8192
_FRACTIONS: Final = (0, 100_000, 10_000, 1_000, 100, 10, 1)
_NO_TIME: Final = FormMark.NO_TIME
_REPAIRED: Final = FormMark.REPAIRED


def glance(message: bytes) -> Glance | None:
    """What the archive needs; None when the message is not legal RFC 5424."""
    own = _OWN_MESSAGE.match(message)
    if own is not None and (found := _glance_at_own(message, own)) is not None:
        return found
    match = MESSAGE.match(message)
    if match is None:
        return None
    second, fraction, zone, host, data = match.group(2, 3, 4, 5, 9)
    marks = NOTHING_MARKED
    time: int | None = None
    if second is None:
        marks = _NO_TIME
    else:
        time = since_epoch(second, zone)
        if time is None:
            marks = _NO_TIME | _REPAIRED
        elif fraction is not None:
            time += int(fraction) * _FRACTIONS[len(fraction)]
    if host == NILVALUE:
        host = None
    if data == NILVALUE:
        return Glance(host, time, None, marks)
    if (b"][" in data or not data.isascii()) and not _is_legal(data):
        marks |= _REPAIRED
    return Glance(host, time, identity_in(message, match.start(9)), marks)


def _glance_at_own(message: bytes, own: re.Match[bytes]) -> Glance | None:
    """What the archive needs of one of relay's own messages with one element; None when it needs a closer look."""
    second, fraction, zone, host, run, sequence, part, kind = own.group(2, 3, 4, 5, 9, 10, 11, 13)
    rest = _REST_OF_ELEMENT.match(message, own.end())
    if rest is None or second is None or part is not None or host == NILVALUE:
        return None
    time = since_epoch(second, zone)
    if time is None or not message[own.end() : rest.end()].isascii():
        return None
    if fraction is not None:
        time += int(fraction) * _FRACTIONS[len(fraction)]
    return Glance(host, time, Identity(run, kind, int(sequence), 1, 1), NOTHING_MARKED)


def read(message: bytes) -> Reading | None:
    """Everything; None when the message is not legal RFC 5424."""
    match = MESSAGE.match(message)
    glanced = glance(message) if match else None
    if match is None or glanced is None:
        return None
    app, procid, msgid, data = match.group(6, 7, 8, 9)
    return Reading(
        priority=int(match[1]),
        time=glanced.time,
        host=glanced.host,
        app=_field(app),
        procid=_field(procid),
        msgid=_field(msgid),
        structured_data=elements_of(data),
        msg_at=match.end(),
        marks=glanced.marks,
    )


def identity_in(message: bytes, data_at: int) -> Identity | None:
    """The identity of one of relay's own messages, whose STRUCTURED-DATA begins there."""
    return identity_of(_IDENTITY.match(message, data_at))


def elements_of(data: bytes) -> tuple[Element, ...]:
    """The elements of legal STRUCTURED-DATA. A value that is not UTF-8 keeps its octets."""
    if data == NILVALUE:
        return ()
    return tuple(
        Element(match[1], tuple((name, unescaped(value)) for name, value in _PARAM.findall(match[2])))
        for match in _ELEMENT.finditer(data)
    )


def unescaped(value: bytes) -> bytes:
    """A PARAM-VALUE without its escapes (RFC 5424 section 6.3.3)."""
    return _ESCAPED.sub(rb"\1", value) if b"\\" in value else value


def _field(octets: bytes) -> bytes | None:
    return None if octets == NILVALUE else octets


def _is_legal(data: bytes) -> bool:
    """Whether an SD-ID occurs only once and every value is UTF-8, which the regular expression cannot say."""
    ids = [match[1] for match in _ELEMENT.finditer(data)]
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return len(set(ids)) == len(ids)


@lru_cache(_REMEMBERED_SECONDS)
def since_epoch(second: bytes, zone: bytes) -> int | None:
    """Microseconds since the epoch; None when there is no such date."""
    try:
        return microseconds(second + zone)
    except ValueError:
        return None
