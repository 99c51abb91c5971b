"""Alarms: conditions that a person must know of, and when they began and ended. Pure.

An alarm is identified by its name, one of the texts below, and by its subject, `about` (a server's name; empty for the
machine itself). Its `text` is for people; it can contain text of others (an error, a server's name), and is escaped
before a terminal shows it. Times are microseconds since the epoch. `Alarms` has one alarm for each name and subject, so
its size is limited by the number of names times the number of servers. It is for one thread at a time.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, Self

import msgspec

from relay.values.text import quoted

Severity = Literal["critical", "major", "minor", "info"]

DISK_SPACE_LEFT: Final = "disk-space-left"
SPOOL_FULL: Final = "spool-full"
SPOOL_IGNORING: Final = "spool-ignoring"
SPOOL_ROTATING: Final = "spool-rotating"
DISK_FAILING: Final = "disk-failing"
RETENTION_CUT_SHORT: Final = "retention-cut-short"
SERVER_LOST: Final = "server-lost"
HALT_ASKED: Final = "halt-asked"
HALT_FAILED: Final = "halt-failed"
NETWORK_FAILURE: Final = "network-failure"
AUDITD_DOWN: Final = "auditd-down"
AUDIT_LOOP: Final = "audit-loop"
CERTIFICATE_ENDS: Final = "certificate-ends"
ARCHIVE_NOT_KEPT: Final = "archive-not-kept"
"""A closed day of the receiver's archive cannot be compressed or removed; relay tries again."""
REPAIR_NEEDED: Final = "repair-needed"
"""A listener or a port-forwarding for other programs waits for a key or certificate; everything else goes on."""

NAME_DISPUTED: Final = "name-disputed"
"""Messages came under a name that is bound to another sender."""
TOO_MANY_ORIGINATORS: Final = "too-many-originators"
"""Messages with new names were filed by their sender's address, because of a ceiling."""

ORIGINATOR_SILENT: Final = "originator-silent"
"""A relay misses its heartbeats, or nothing comes from an originator that is expected."""
ORIGINATOR_MISSING: Final = "originator-missing"
"""No originator matches what is expected."""
DATAGRAMS_DROPPED: Final = "datagrams-dropped"
CONNECTIONS_REFUSED: Final = "connections-refused"
MESSAGES_DIFFER: Final = "messages-differ"
ARCHIVE_CHANGED: Final = "archive-changed"
"""Somebody else changed or removed an open log or ledger of the archive."""
ARCHIVE_ASIDE: Final = "archive-aside"
"""An originator's folder cannot be written, so its messages are in ~aside."""
INTERNAL_ERROR: Final = "internal-error"
"""A bug in relay, which continues."""

_NAME: Final = re.compile(r"[a-z]+(?:-[a-z]+)*")


@dataclass(frozen=True, slots=True)
class Alarm:
    """A condition that a person must know of."""

    name: str
    """Lowercase letters and hyphens; files and parameters have the same name."""
    severity: Severity
    text: str
    about: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"an alarm's name has lowercase letters and hyphens only, not {quoted(self.name)}")


@dataclass(frozen=True, slots=True)
class AlarmChange:
    """An alarm was raised, was changed in severity or text, or was cleared."""

    alarm: Alarm
    raised: bool
    since: int
    """When it was first raised."""
    at: int

    @property
    def begins(self) -> bool:
        """Whether it was not raised before."""
        return self.raised and self.since == self.at


class Alarms:
    """The alarms that are raised now."""

    def __init__(self, active: Iterable[AlarmChange] = ()) -> None:
        self._active = {(change.alarm.name, change.alarm.about): change for change in active if change.raised}

    @property
    def active(self) -> tuple[AlarmChange, ...]:
        """The last change of every raised alarm, ordered by the time when it was first raised."""
        return tuple(sorted(self._active.values(), key=lambda change: change.since))

    def get(self, name: str, about: str = "") -> Alarm | None:
        """The raised alarm; None when it is not raised."""
        change = self._active.get((name, about))
        return change.alarm if change else None

    def raise_(self, alarm: Alarm, now: int) -> AlarmChange | None:
        """Raise an alarm; None when the same alarm is raised already."""
        key = (alarm.name, alarm.about)
        former = self._active.get(key)
        if former and former.alarm == alarm:
            return None
        self._active[key] = AlarmChange(alarm, raised=True, since=former.since if former else now, at=now)
        return self._active[key]

    def clear(self, name: str, now: int, about: str = "") -> AlarmChange | None:
        """Clear an alarm; None when it is not raised."""
        former = self._active.pop((name, about), None)
        return AlarmChange(former.alarm, raised=False, since=former.since, at=now) if former else None

    def encode(self, limit: int) -> bytes:
        """The alarms for a slot of `limit` octets, without the youngest ones when not all fit."""
        kept = list(self.active)
        while len(data := msgspec.json.encode(kept)) > limit and kept:
            kept.pop()
        return data

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The alarms of a slot; none when it cannot be read."""
        try:
            return cls(msgspec.json.decode(data, type=tuple[AlarmChange, ...]))
        except msgspec.MsgspecError:
            return cls()
