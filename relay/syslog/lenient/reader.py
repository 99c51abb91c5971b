"""Reading one message of any form. Pure; never raises; the work is linear in the message.

A message without PRI, or with one that cannot be, has priority 13 (RFC 3164 section 4.3.3). A byte order mark, NUL
octets and white space in front of it are passed over.
"""

import re
from datetime import UTC, tzinfo
from typing import Final

from relay.syslog.lenient import bsd, devices, near_5424, strict
from relay.syslog.lenient.reading import FormMark, Glance, Reading
from relay.syslog.priority import EVERY_PRIORITY, USER_NOTICE

_BEFORE: Final = re.compile(rb"(?:\xef\xbb\xbf|[\x00 \t\r\n])*+")
_PRI: Final = re.compile(rb"<( *)([0-9]{0,20})( *)>[ \t]*")
_NANOSECONDS: Final = re.compile(
    rb"<[0-9]{1,3}>1 [0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}([0-9]{1,6})(?=[Z+-])"
)
"""A time stamp that has only more digits than RFC 5424 allows, as programs in Go write it."""
_VALUES: Final = EVERY_PRIORITY.bit_length()


def glance(message: bytes, received: int, zone: tzinfo = UTC) -> Glance:
    """Host, time, identity and marks of a message that was received then (microseconds since the epoch).

    `zone` is that of time stamps without one.
    """
    found = strict.glance(message) or bsd.glance(message, received, zone)
    if found is not None:
        return found
    if (fraction := _NANOSECONDS.match(message)) is not None:
        found = strict.glance(message[: fraction.start(1)] + message[fraction.end() :])
        if found is not None:
            return found._replace(identity=None, marks=found.marks | FormMark.REPAIRED)
    reading = _read_other(message, received, zone)
    return Glance(reading.host, reading.time, None, reading.marks)


def read(message: bytes, received: int, zone: tzinfo = UTC) -> Reading:
    """Everything that the message says about itself; see `glance`."""
    return strict.read(message) or _read_other(message, received, zone)


def _read_other(message: bytes, received: int, zone: tzinfo) -> Reading:
    """Read a message that is not legal RFC 5424."""
    before = _BEFORE.match(message)
    begin = before.end() if before else 0
    if begin and (behind := strict.read(message[begin:])) is not None:
        return behind._replace(msg_at=behind.msg_at + begin, marks=behind.marks | FormMark.REPAIRED)
    priority, at, marks = _priority(message, begin)
    if begin:
        marks |= FormMark.REPAIRED
    found = (
        near_5424.read(message, at, received, zone)
        or devices.read(message, at, received, zone)
        or bsd.read(message, at, received, zone)
    )
    return found._replace(priority=priority, marks=found.marks | marks)


def _priority(message: bytes, at: int) -> tuple[int, int, FormMark]:
    """The PRI, where the rest begins, and what was wrong with it."""
    pri = _PRI.match(message, at)
    if pri is None:
        return USER_NOTICE, at, FormMark.NO_PRI
    digits = pri[2]
    value = int(digits) if digits else _VALUES
    if value >= _VALUES:
        return USER_NOTICE, pri.end(), FormMark.NO_PRI | FormMark.REPAIRED
    is_legal = pri[0] == b"<%d>" % value
    return value, pri.end(), FormMark(0) if is_legal else FormMark.REPAIRED
