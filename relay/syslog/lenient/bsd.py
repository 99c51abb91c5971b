"""RFC 3164 and its relatives: a time stamp, perhaps a host, perhaps a tag. Pure.

    Oct 11 22:14:15 mymachine su: 'su root' failed      RFC 3164
    Oct 11 22:14:15 su[12]: 'su root' failed            /dev/log, HAProxy: a tag comes first, so there is no host
    2026-11-30T10:38:01.207Z esx01 Hostd: info          RFC 3339 in front, as rsyslog and VMware write it
    Jun 5 12:10:07 node0.Spoke1 SSR 128 SESSION_BLOCK [ssr@2636.1.0.0 …]    RFC 5424's fields behind the host
    Nov 30 09:01:02 Message forwarded from host1: su: … AIX

What follows the time stamp is a host when it is an address, when a tag or RFC 5424's fields follow it, or when it is
written like a name (`fw1`, `web.example`). Another word without a tag behind it is text: `Two Words user logged out`.
"""

import re
from datetime import tzinfo
from typing import Final

from relay.syslog.lenient.hosts import TAG, app_and_pid, can_be_host, is_address, is_severity, looks_like_host
from relay.syslog.lenient.near_5424 import data_at, text_at
from relay.syslog.lenient.reading import FormMark, Glance, Reading
from relay.syslog.lenient.time_stamps import MICROSECONDS_A_DAY, STAMP, nearest_to, plain_times, time_of

_SPACE: Final = re.compile(rb"[ \t]*")
_SIGN: Final = re.compile(rb"(?:[0-9]{1,10} )?([*.]?)")
_WORD: Final = re.compile(rb"[^ \t]++")
_FIELDS: Final = re.compile(rb" +([!-~]{1,255}+) +([!-~]{1,128}+) +([!-~]{1,128}+) +(?=\[[^ \]=\"]+@|-(?: |\Z))")
_AIX: Final = re.compile(rb"Message forwarded from ([0-9A-Za-z_.:-]{1,255}): +")
_CISCO_NUMBER: Final = re.compile(rb"[0-9]{1,12}: +[*.]?")
_OF_SYSLOGD: Final = re.compile(rb"(?:last )?message repeated [0-9]{1,10} times|-- MARK --")
_LEGAL_STAMP: Final = (
    rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) (?: [1-9]|[12][0-9]|3[01]) [0-9]{2}:[0-9]{2}:[0-9]{2}"
)
"""How RFC 3164 writes the time stamp (section 4.1.2)."""
_LEGAL: Final = re.compile(_LEGAL_STAMP + b" ")
_USUAL: Final = re.compile(
    rb"<(?:[0-9]|[1-9][0-9]|1[0-8][0-9]|19[01])>(%b) ([0-9A-Za-z_.:\x80-\xff-]{1,255}+) " % _LEGAL_STAMP
)


def glance(message: bytes, received: int, zone: tzinfo) -> Glance | None:
    """What the archive needs, for the usual form: RFC 3164's with a host and a tag; None for any other."""
    found = read_usual(message, received, zone)
    return None if found is None else Glance(found.host, found.time, None, found.marks)


def read_usual(message: bytes, received: int, zone: tzinfo) -> Reading | None:
    """Read a message in the usual form, but for its PRI and its tag; None for any other."""
    match = _USUAL.match(message)
    if match is None:
        return None
    stamp, host = match.groups()
    if not can_be_host(host) or TAG.match(message, match.start(2)) or not TAG.match(message, match.end()):
        return None
    time = nearest_to(received, plain_times(stamp, received // MICROSECONDS_A_DAY, zone))
    if time is None:
        return None
    return Reading(time=time, host=host, msg_at=match.end(), marks=FormMark.INFERRED)


def read(message: bytes, at: int, received: int, zone: tzinfo) -> Reading:
    """Read the message behind its PRI. The priority is the caller's."""
    usual = read_usual(message, received, zone)
    if usual is not None and usual.msg_at > at:
        return _tagged(message, usual.msg_at, usual)
    sign = _SIGN.match(message, at)
    stamp = STAMP.match(message, sign.end()) if sign else None
    if sign is None or stamp is None or message[stamp.end() : stamp.end() + 1] not in {b"", b" ", b"\t", b":"}:
        return _tagged(message, at, Reading(marks=FormMark.NO_TIME))
    time, inferred = time_of(stamp, received, zone, trusted=sign[1] != b"*")
    is_legal = time is not None and stamp["zone"] is None and stamp["last_year"] is None
    marks = FormMark(0) if is_legal and _LEGAL.match(message, at) else FormMark.REPAIRED
    marks |= FormMark.INFERRED if inferred else FormMark(0)
    marks |= FormMark.NO_TIME if time is None else FormMark(0)
    at = stamp.end() + (message[stamp.end() : stamp.end() + 1] == b":")
    return _host_and_tag(message, _beyond_space(message, at), Reading(time=time, marks=marks))


def _host_and_tag(message: bytes, at: int, reading: Reading) -> Reading:
    """Read what follows the time stamp: a host if it is one, then a tag if there is one."""
    if aix := _AIX.match(message, at):
        return _tagged(message, aix.end(), reading._replace(host=aix[1], marks=reading.marks | FormMark.REPAIRED))
    word = _WORD.match(message, at)
    if word is None or _OF_SYSLOGD.match(message, at):
        return reading._replace(msg_at=at)
    end = word.end()
    host = word[0].removesuffix(b":")
    if host.startswith(b"[") and host.endswith(b"]"):  # an IPv6 address in brackets
        host = host[1:-1]
    if is_address(host):
        return _behind_host(message, end, reading._replace(host=host))
    if TAG.match(message, at) or not can_be_host(word[0]):
        return _tagged(message, at, reading)
    following = _beyond_space(message, end)
    if message.startswith(b": ", following) and message.startswith(b"%", following + 2):  # Cisco: "asa1 : %ASA-…"
        return _tagged(message, following + 2, reading._replace(host=word[0]))
    is_host = (
        looks_like_host(word[0])
        or TAG.match(message, following)
        or _FIELDS.match(message, end)
        or _OF_SYSLOGD.match(message, following)
        or _severity_and_tag(message, following)
        or _cisco_tag(message, following)
    )
    return _behind_host(message, end, reading._replace(host=word[0])) if is_host else reading._replace(msg_at=at)


def _behind_host(message: bytes, end: int, reading: Reading) -> Reading:
    at = _beyond_space(message, end)
    fields = _FIELDS.match(message, end)
    if fields is not None and not TAG.match(message, at):
        data = data_at(message, fields.end())
        app, procid, msgid = (None if field == b"-" else field for field in fields.groups())
        found = reading._replace(app=app, procid=procid, msgid=msgid, structured_data=data.elements)
        return found._replace(msg_at=text_at(message, data.end), marks=reading.marks | FormMark.REPAIRED)
    tag_at = _severity_and_tag(message, at) or _cisco_tag(message, at)
    return _tagged(message, tag_at or at, reading)


def _severity_and_tag(message: bytes, at: int) -> int:
    """Where the tag begins in `notice tmsh[16322]: …`, as F5 writes it behind the host; 0: it is not written so."""
    word = _WORD.match(message, at)
    if word is None or not is_severity(word[0]):
        return 0
    following = _beyond_space(message, word.end())
    return following if TAG.match(message, following) else 0


def _cisco_tag(message: bytes, at: int) -> int:
    """Where the tag begins in `6951: .Jan 1 14:58:57: %LINK-…`, which a relay put behind the host; 0: it does not."""
    number = _CISCO_NUMBER.match(message, at)
    stamp = STAMP.match(message, number.end()) if number else None
    return stamp.end() + 2 if stamp and message.startswith(b": %", stamp.end()) else 0


def _tagged(message: bytes, at: int, reading: Reading) -> Reading:
    """Add the tag that begins there, if one does; then MSG begins behind it."""
    at = _beyond_space(message, at)
    tag = TAG.match(message, at)
    if tag is None:
        return reading._replace(msg_at=at)
    app, procid = app_and_pid(tag)
    return reading._replace(app=app, procid=procid, msg_at=text_at(message, tag.end()))


def _beyond_space(message: bytes, at: int) -> int:
    space = _SPACE.match(message, at)
    return space.end() if space else at
