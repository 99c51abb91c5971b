"""One line of auditd's log: `[node=HOST ]type=NAME msg=audit(SECONDS.MILLIS:SERIAL): BODY`.

A line comes without its LF and is kept as it came, with trailing spaces, control octets and octets that are no
UTF-8. What does not begin in that form is malformed, which is the value None: it is forwarded as it is, marked
and counted, by whoever asked. Seconds have at most 11 digits, so that every time can be written as a date.
"""

import re
from typing import NamedTuple, TypeAlias

Key: TypeAlias = tuple[int, int, bytes]
"""What the records of one event share: time, serial and node."""


class Record(NamedTuple):
    """A record; its first fields but the type are its key."""

    type: bytes
    time: int
    """Milliseconds since the epoch."""
    serial: int
    node: bytes
    """auditd's `name_format`; empty when the line names none."""
    body: bytes
    """All that follows `): `, the resolved names of the ENRICHED format (after an octet 0x1d) too."""
    line: bytes

    @property
    def key(self) -> Key:
        """What the records of one event share."""
        return (self.time, self.serial, self.node)


_RECORD = re.compile(
    rb"(?:node=([!-~]{1,255}) )?"
    rb"type=([A-Z][A-Z0-9_]{0,47}|UNKNOWN\[[0-9]{1,10}\]) "
    rb"msg=audit\(([0-9]{1,11})\.([0-9]{3}):([0-9]{1,20})\):"
    rb"(?: (.*))?"
)
_fullmatch = _RECORD.fullmatch


def parse(line: bytes) -> Record | None:
    """Read a line; None when it is malformed."""
    match = _fullmatch(line)
    if match is None:
        return None
    node, type_, seconds, millis, serial, body = match.groups(b"")
    return Record(type_, int(seconds + millis), int(serial), node, body, line)
