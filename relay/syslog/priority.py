"""A message's PRI, facility and severity (RFC 5424 section 6.2.1), and sets of them.

PRI is facility * 8 + severity, written `<0>` to `<191>` without leading zeros. A message without PRI has that of
user.notice (RFC 3164 section 4.3.3). A set of priorities is a bitmap of 192 bits: bit PRI is 1 for a priority in it.

The names are those of RFC 5424's tables 1 and 2 in rsyslog's spelling. syslog.h does not name facilities 12 to 15;
syslog-ng calls them "ntp", "security", "console" and "solaris-cron".
"""

import re
from collections.abc import Collection
from typing import Final

FACILITIES: Final = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock"),
    *("local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"),
)
"""By their numbers."""
SEVERITIES: Final = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
"""By their numbers, the most severe first."""
USER_NOTICE: Final = 13
EVERY_PRIORITY: Final = (1 << 8 * len(FACILITIES)) - 1

_VALUES: Final = {b"<%d>" % value: value for value in range(8 * len(FACILITIES))}
_SHORTEST: Final = len(b"<0")
LONGEST_PRI: Final = len(b"<191>")
ASSUMED_PRI: Final = b"<%d>" % USER_NOTICE
has_pri: Final = re.compile(rb"<[0-9]{1,3}>").match
"""Whether a message begins with a PRI, or with what receivers read as one, as `<999>`."""


def with_pri(message: bytes) -> bytes:
    """The message, with the PRI that RFC 3164 section 4.3.3 prescribes in front when it has none."""
    return message if has_pri(message) else ASSUMED_PRI + message


def priority(message: bytes) -> int:
    """Read the PRI that a message begins with."""
    return _VALUES.get(message[: message.find(b">", _SHORTEST, LONGEST_PRI) + 1], USER_NOTICE)


def priorities(facilities: Collection[str], severity: str) -> int:
    """The set of priorities of these facilities (none: of all) that are at least so severe."""
    severe_enough = (2 << SEVERITIES.index(severity)) - 1
    chosen = (number for number, name in enumerate(FACILITIES) if not facilities or name in facilities)
    return sum(severe_enough << 8 * number for number in chosen)
