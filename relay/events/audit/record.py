"""One line of auditd's log: `[node=HOST ]type=NAME msg=audit(SECONDS.MILLIS:SERIAL): BODY`.

A line comes without its LF and is kept unchanged, with trailing spaces, control octets and octets that are not UTF-8.
A line that does not begin in that form is malformed, which is the value None: the caller forwards it unchanged, marks
and counts it. Seconds have at most 11 digits, so that every time can be written as a date.

Two more beginnings occur in audit-userspace from 1.0 to 4.1, and make records like others:

- auditd up to 2.8.5 writes the DAEMON_CONFIG record of a reload without the colon: `msg=audit(…) op=reconfigure …`.
- A type can be its number, `type=1400`. libaudit reads it as the name, and `type` here holds that name, or
  `UNKNOWN[1420]` where the number has no name.

A record of auditd without a time is malformed, because it cannot be part of an event: `type=DAEMON_ERR op=format-raw
msg=NULL res=failed`, and `msg=lost` where the message was missing. So is the form in which the kernel writes to syslog
(`type=1400 audit(…): `).

A full disk may have cut a record, so that the next record is in the same line (seen with auditd 3.0.9). The record's
body ends there, and the rest is `joined`. It may begin anywhere except in a quoted value, because a user's record may
quote another record. The quotes on both sides show which text is quoted: `msg='` opens, a quote before a space or at
an end closes, and double quotes come in pairs. So do the braces of a resolved socket address, in which the name of a
socket is whatever its owner chose. Reading takes time linear in the line.
"""

import re
from typing import Final, NamedTuple, Self, TypeAlias

from relay.events.audit.record_types import name_of

Key: TypeAlias = tuple[int, int, bytes]
"""Time, serial and node, which the records of one event share."""


END_OF_EVENT: Final = b"EOE"


class Record(NamedTuple):
    """A record; its first fields except the type are its key."""

    type: bytes
    time: int
    """Milliseconds since the epoch."""
    serial: int
    node: bytes
    """From auditd's `name_format`; empty when the line has none."""
    body: bytes
    """All octets behind `): ` (or `) `), with the resolved names of the ENRICHED format (behind an octet 0x1d)."""
    line: bytes
    joined: bytes = b""
    """The end of the line, from where another record begins in it; nearly always empty."""

    @property
    def key(self) -> Key:
        """The value that the records of one event share."""
        return (self.time, self.serial, self.node)

    @property
    def is_mere_end(self) -> bool:
        """Whether it is an EOE that holds nothing except the end of its event."""
        return self.type == END_OF_EVENT and not self.joined and not self.body.strip()


_TYPE: Final = rb"[A-Z][A-Z0-9_]{0,47}|UNKNOWN\[[0-9]{1,10}\]|[0-9]{1,10}"
_RECORD = re.compile(
    rb"(?:node=([!-~]{1,255}) )?"
    rb"type=(" + _TYPE + rb") "
    rb"msg=audit\(([0-9]{1,11})\.([0-9]{3}):([0-9]{1,20})\)"
    rb"(?::|:?+ (.*))"
)
_fullmatch = _RECORD.fullmatch
_STAMP: Final = b" msg=audit("
_ANOTHER = re.compile(rb"type=(?:" + _TYPE + rb") msg=audit\([0-9]{1,11}\.[0-9]{3}:[0-9]{1,20}\)[: ]")
_DIGITS: Final = b"0123456789"
_NODE_BEFORE = re.compile(rb"node=[!-~]{1,255} \Z")
_ADDRESS_BEGINS: Final = b"\x1dSADDR={ "
_ADDRESS_ENDS: Final = b" }"
_LONGEST_NODE: Final = len(b"node= ") + 255
_OPENING = re.compile(rb" msg='")
_CLOSING = re.compile(rb"(?<!=)'(?=[ \x1d]|\Z)")


def says_nothing(line: bytes) -> bool:
    """Whether a line holds nothing to keep: it is empty, or an EOE."""
    if not line:
        return True
    return END_OF_EVENT in line and (record := parse(line)) is not None and record.is_mere_end


def parse(line: bytes) -> Record | None:
    """Parse a line; None when it is malformed."""
    match = _fullmatch(line)
    if match is None:
        return None
    node, type_, seconds, millis, serial, body = match.groups(b"")
    if type_[0] in _DIGITS:
        type_ = name_of(int(type_))
    time = int(seconds + millis)
    if body.find(_STAMP) >= 0:  # a third faster than `in`, and this runs for every record
        joint = _joint(body)
        return Record(type_, time, int(serial), node, body[:joint], line, body[joint:])
    return Record(type_, time, int(serial), node, body, line)


def without_padding(line: bytes) -> bytes:
    """Remove NULs, which pad C strings, from either end of a line, if that makes it a record."""
    if b"\0" not in line:
        return line
    bare = line.strip(b"\0").removesuffix(b"\n")
    return line if parse(bare) is None else bare


class _Quotes(NamedTuple):
    """The number of quotes in a text."""

    opening: int
    closing: int
    double: int

    @classmethod
    def of(cls, text: bytes) -> Self:
        return cls(len(_OPENING.findall(text)), len(_CLOSING.findall(text)), text.count(b'"'))

    @property
    def open(self) -> bool:
        return self.opening > self.closing

    @property
    def half(self) -> bool:
        return self.double % 2 == 1


def _joint(body: bytes) -> int:
    """Find where another record begins in a body; the length of the body when none does."""
    whole, before, at = _Quotes.of(body), _Quotes(0, 0, 0), 0
    end = body.find(_ADDRESS_BEGINS) if body.endswith(_ADDRESS_ENDS) else -1
    for match in _ANOTHER.finditer(body, 0, end if end >= 0 else len(body)):
        passed = _Quotes.of(body[at : match.start()])
        before = _Quotes(*(sum(both) for both in zip(before, passed, strict=True)))
        at = match.start()
        quoted = (before.open and not whole.open) or (before.half and not whole.half)
        if not quoted:
            node = _NODE_BEFORE.search(body, max(at - _LONGEST_NODE, 0), at)
            return node.start() if node else at
    return len(body)
