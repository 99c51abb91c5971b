"""Forms that one maker's devices write, and no other program. Pure.

189: sw1: 000204: *Jan  1 2006 23:25:10.989 CET: %LINK-3-UPDOWN: …       Cisco IOS: numbers, origin, time; all optional
29: 1d03h: %SYS-5-CONFIG_I: …                                          Cisco IOS: the time since the start, no date
208: [syslog@9 s_sn="127" s_id="sw1:514"]: *Jan  1 23:25:10: %LINK-…   Cisco IOS: the session's identity
: 2026 Nov 30 09:01:02 CET: %ETHPORT-5-IF_UP: …                        Cisco NX-OS
Nov 30 2026 09:01:03 asa1 : %ASA-6-106100: …                           Cisco ASA, whose host is optional
RP/0/RSP0/CPU0:Nov 30 09:01:02.123 CET: ifmgr[123]: %PKT_INFRA-…       Cisco IOS XR; the node is not a host
MiniSwitch 7483c04f9d75,USW-1.8.6.694: NETDEV: …                       UniFi
date=2026-11-30 time=09:01:02 devname="fw1" … tz="+0100"               FortiGate
host<TAB>MSWinEventLog<TAB>…                                           Snare
"""

import re
from datetime import tzinfo
from typing import Final

from relay.syslog.lenient.hosts import TAG, app_and_pid, can_be_host, is_address
from relay.syslog.lenient.reading import FormMark, Reading
from relay.syslog.lenient.time_stamps import STAMP, time_of

_SINCE_START: Final = rb"(?:(?:[0-9]{1,6}[ywdhms]){1,6}|[0-9]{1,6}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?)"
_CISCO_BEGIN: Final = re.compile(
    rb"(?::? *)(?:[0-9]{1,12}: +)?(?:(?!%b:)(?P<origin>[0-9A-Za-z_.:\x80-\xff-]{1,255}?): +)?"
    rb"(?:\[syslog@9(?P<session>[^\]]{0,512})\]: +)?(?:[0-9]{1,12}: +)?"
    rb"(?:(?:(?P<xr_host>[0-9A-Za-z_.\x80-\xff-]{1,255}) )?(?:RP|LC)/[0-9A-Za-z/]{1,64}:)?(?P<clock>[*.])?"
    % _SINCE_START
)
_UPTIME: Final = re.compile(rb"%b(?=:)" % _SINCE_START)
_CISCO_ZONE: Final = re.compile(rb"(?: [A-Z]{1,5})?(?: (?P<host>[0-9A-Za-z_.:\x80-\xff-]{1,255}))? ?: +(?=%|\S+: +%)")
_BARE_TAG: Final = re.compile(rb":? *(%[0-9A-Z_]{1,64}-(?:[0-9A-Za-z_/]{1,64}-){0,4}[0-7]-[0-9A-Z_]{1,64}:? )")
_SESSION_HOST: Final = re.compile(rb' s_id="([0-9A-Za-z_.:-]{1,255}):[0-9]{1,5}"')
_UNIFI: Final = re.compile(rb'\(?"?([0-9A-Za-z_.-]{1,128}) ([0-9a-f]{12},[0-9A-Za-z]{1,32}-[0-9.+]{1,32}): (?=\S+:)')
_SNARE: Final = re.compile(rb"([0-9A-Za-z_.:-]{1,255})[\t ](MSWinEventLog)\t")
_FORTIGATE: Final = re.compile(
    rb"date=([0-9]{4}-[0-9]{2}-[0-9]{2}) time=([0-9]{2}:[0-9]{2}:[0-9]{2}) (?:timestamp=[0-9]{1,20} )?"
    rb'devname="?([!#-~]{1,255})'
)
_FORTIGATE_ZONE: Final = re.compile(rb' tz="([+-][0-9]{2}:?[0-9]{2})"')


def read(message: bytes, at: int, received: int, zone: tzinfo) -> Reading | None:
    """Read the message behind its PRI; None when it has none of these forms. The priority is the caller's."""
    return (
        _cisco(message, at, received, zone)
        or _unifi(message, at)
        or _snare(message, at)
        or _fortigate(message, at, received, zone)
    )


def _cisco(message: bytes, at: int, received: int, zone: tzinfo) -> Reading | None:
    begin = _CISCO_BEGIN.match(message, at)
    if begin is None:  # which cannot be, because every part is optional
        return None
    stamp = STAMP.match(message, begin.end())
    uptime = None if stamp else _UPTIME.match(message, begin.end())
    end = stamp or uptime
    behind = _CISCO_ZONE.match(message, end.end()) if end else None
    if behind is None:
        match = _BARE_TAG.match(message, at)
        if match is None:
            return None
        return _with_tag(message, match.start(1), Reading(marks=FormMark.REPAIRED | FormMark.NO_TIME))
    host = begin["origin"] or begin["xr_host"] or behind["host"]
    if host is None and begin["session"] and (session := _SESSION_HOST.search(begin["session"])):
        host = session[1]
    time, marks = None, FormMark.REPAIRED
    if stamp is not None:
        time, inferred = time_of(stamp, received, zone, trusted=begin["clock"] != b"*")
        marks |= FormMark.INFERRED if inferred else FormMark(0)
    marks |= FormMark.NO_TIME if time is None else FormMark(0)
    usable = host if host is not None and can_be_host(host) else None
    return _with_tag(message, behind.end(), Reading(time=time, host=usable, marks=marks))


def _unifi(message: bytes, at: int) -> Reading | None:
    match = _UNIFI.match(message, at)
    if match is None:
        return None
    return _with_tag(message, match.end(), Reading(host=match[1], marks=FormMark.REPAIRED | FormMark.NO_TIME))


def _snare(message: bytes, at: int) -> Reading | None:
    match = _SNARE.match(message, at)
    if match is None or not can_be_host(match[1]):
        return None
    return Reading(host=match[1], app=match[2], msg_at=match.end(), marks=FormMark.REPAIRED | FormMark.NO_TIME)


def _fortigate(message: bytes, at: int, received: int, zone: tzinfo) -> Reading | None:
    match = _FORTIGATE.match(message, at)
    if match is None:
        return None
    offset = _FORTIGATE_ZONE.search(message, match.end(), match.end() + 2048)
    stamp = STAMP.match(match[1] + b" " + match[2] + (offset[1] if offset else b""))
    time, inferred = time_of(stamp, received, zone) if stamp else (None, False)
    marks = FormMark.REPAIRED | (FormMark.INFERRED if inferred else 0) | (FormMark.NO_TIME if time is None else 0)
    host = match[3].rstrip(b'"')
    return Reading(time=time, host=host if can_be_host(host) else None, msg_at=at, marks=FormMark(marks))


def _with_tag(message: bytes, at: int, reading: Reading) -> Reading:
    """Add the tag that begins there, if one does."""
    tag = TAG.match(message, at)
    if tag is None or is_address(tag[0].rstrip(b":")):
        return reading._replace(msg_at=at)
    app, pid = app_and_pid(tag)
    space = message[tag.end() : tag.end() + 1] == b" "
    return reading._replace(app=app, procid=pid, msg_at=tag.end() + space)
