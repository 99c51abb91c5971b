"""The message in a datagram (RFC 5426: one in each). Pure.

The rules for its end are rsyslog's: one NUL at the end is removed, then one LF. Python's SysLogHandler adds a NUL, many
programs an LF. A CR stays, because rsyslog keeps it too.

Telegraf's outputs.syslog puts RFC 6587's octet count in front of a datagram too, by default. A count that is followed
by `<` and right to the octet is therefore framing, not part of the message.
"""

import re
from typing import Final

_COUNT: Final = re.compile(rb"([1-9][0-9]{0,5}) (?=<)")


def datagram_message(datagram: bytes, length: int) -> bytes:
    """The message of a datagram that had `length` octets, of which these were received; b"" when it is empty."""
    counted = _COUNT.match(datagram)
    if counted and int(counted[1]) == length - counted.end():
        datagram = datagram[counted.end() :]
    if length > len(datagram) + (counted.end() if counted else 0):
        return datagram  # its end is missing
    return datagram.removesuffix(b"\0").removesuffix(b"\n")
