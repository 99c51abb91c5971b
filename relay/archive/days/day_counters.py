"""What was done with closed days: counters, and the report of one run of retention."""

from dataclasses import dataclass, field
from typing import Final

from relay.archive.days.retention import Cause, StoredDay
from relay.values.size import rounded_size
from relay.values.text import counted

MAX_NAMES: Final = 100
"""In one report."""


@dataclass(slots=True)
class DayCounters:
    """What was done since the start."""

    days_removed: int = 0
    octets_removed: int = 0
    ledgers_removed: int = 0
    days_compressed: int = 0
    octets_before: int = 0
    octets_after: int = 0
    failed: int = 0
    """Attempts to compress or remove a day."""
    vanished: int = 0


@dataclass(slots=True)
class RemovedDays:
    """What one run of retention removed."""

    days: int = 0
    octets: int = 0
    causes: dict[Cause, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    """The first of them, as ORIGINATOR/DAY."""
    originators: set[str] = field(default_factory=set)

    def add(self, stored: StoredDay, name: str, cause: Cause) -> None:
        """Count a day."""
        self.days += 1
        self.octets += stored.octets
        self.causes[cause] = self.causes.get(cause, 0) + 1
        self.originators.add(stored.folder)
        if len(self.names) < MAX_NAMES:
            self.names.append(name)

    def __str__(self) -> str:
        why = ", ".join(f"{number} by {cause}" for cause, number in sorted(self.causes.items()))
        whose = counted(len(self.originators), "originator")
        return f"retention removed {counted(self.days, 'day')} of {whose}, {rounded_size(self.octets)} ({why})"
