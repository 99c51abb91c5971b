"""Penalties of sources whose connections fail, as sshd's PerSourcePenalties. Pure; times are seconds of one clock.

Each fault adds time. From `MINIMUM` on, the source is refused until that time has passed; below it, nothing happens, so
isolated faults are harmless. A source that is refused again within `MAXIMUM` after that is refused for twice the time.
Nothing exceeds `MAXIMUM`. Open connections are never affected.

At most `MOST_SOURCES` are remembered; beyond that the source whose last fault is the oldest is forgotten.
"""

import enum
from typing import Final

MINIMUM: Final = 15.0
MAXIMUM: Final = 600.0
MOST_SOURCES: Final = 16_384


class SenderFault(enum.Enum):
    """Why a connection has failed: the penalty in seconds, and a clause about the sender."""

    NO_LOGIN = (1.0, "left before the login")
    AUTHENTICATION = (5.0, "failed to log in")
    TIMEOUT = (10.0, "did not log in in time")
    GARBAGE = (5.0, "sent another protocol")
    BROKEN_FRAMES = (1.0, "sent a broken frame after a message")
    SILENT = (1.0, "sent nothing")

    def __init__(self, seconds: float, text: str) -> None:
        self.seconds = seconds
        self.text = text


class _Record:
    """What is remembered of a source."""

    __slots__ = ("expires", "fault", "refused_until", "times_refused")

    def __init__(self, fault: SenderFault) -> None:
        self.expires = self.refused_until = float("-inf")
        self.times_refused = 0
        self.fault = fault


class Penalties:
    """The penalties of all sources."""

    def __init__(self, most: int = MOST_SOURCES) -> None:
        self._most = most
        self._records: dict[str, _Record] = {}  # the oldest fault first

    def __len__(self) -> int:
        return len(self._records)

    def add(self, source: str, fault: SenderFault, now: float) -> None:
        """Count a fault of a source."""
        record = self._records.pop(source, None)
        if record is None or record.expires + MAXIMUM < now:
            record = _Record(fault)
        self._records[source] = record
        if len(self._records) > self._most:
            del self._records[next(iter(self._records))]
        record.fault = fault
        record.expires = min(max(record.expires, now) + fault.seconds, now + MAXIMUM)
        if record.refused_until > now:
            record.refused_until = record.expires
        elif record.expires - now >= MINIMUM:
            doubled = min(MINIMUM * 2.0**record.times_refused, MAXIMUM)
            record.expires = record.refused_until = max(record.expires, now + doubled)
            record.times_refused += 1

    def refuses(self, source: str, now: float) -> SenderFault | None:
        """The last fault of a source that is refused now; None if it is not refused."""
        record = self._records.get(source)
        return record.fault if record is not None and record.refused_until > now else None
