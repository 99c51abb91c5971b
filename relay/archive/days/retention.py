"""What retention removes and when a day is compressed. Pure.

Days are removed from the oldest on, over all originators: those beyond the age, then as many as it takes to bring all
logs below the size. The age counts from the end of the UTC day of receipt.
"""

from bisect import insort
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, Self

from relay.archive.layout import begin_of
from relay.values.configuration.retention_settings import NEVER, RetentionSettings
from relay.values.duration import duration_text
from relay.values.size import size_text

Cause = Literal["age", "size"]

MAX_DAYS: Final = 10_000
_SECOND: Final = 1_000_000
_DAY: Final = 86_400 * _SECOND


class RetentionTerms(NamedTuple):
    """The settings of [receiver.retention], in seconds and bytes; infinity: never."""

    age: float = NEVER
    size: float = NEVER
    ledgers: float = NEVER
    compress_after: float = NEVER

    @classmethod
    def of(cls, settings: RetentionSettings) -> Self:
        """The terms that are configured."""
        return cls(settings.age, settings.size, settings.ledgers, settings.compress_after)

    def __str__(self) -> str:
        kept = [f"for {duration_text(self.age)}"] if self.age != NEVER else []
        kept += [f"up to {size_text(int(self.size))} in all"] if self.size != NEVER else []
        when = f"compressed after {duration_text(self.compress_after)}" if self.compress_after != NEVER else ""
        return f"kept {' and '.join(kept) or 'for ever'}, {when or 'not compressed'}"


class StoredDay(NamedTuple):
    """A day, or a part of one, that has a ledger and at least one log. They sort by age."""

    day: str
    part: int
    folder: str
    """The originator's, as a path."""
    ledger: str
    logs: tuple[str, ...]
    octets: int
    """Of all its logs, as they lie on the disk."""


class OldestDays:
    """The oldest of all the days that are added."""

    def __init__(self, limit: int = MAX_DAYS) -> None:
        self._limit = limit
        self._days: list[StoredDay] = []

    def add(self, stored: StoredDay) -> None:
        """Add a day; the youngest beyond the limit is forgotten."""
        if len(self._days) < self._limit or stored < self._days[-1]:
            insort(self._days, stored)
            del self._days[self._limit :]

    @property
    def full(self) -> bool:
        """Whether days may have been forgotten."""
        return len(self._days) >= self._limit

    def __iter__(self) -> Iterator[StoredDay]:
        return iter(self._days)


def is_past(day: str, seconds: float, now: int) -> bool:
    """Whether the day ended at least so many seconds ago."""
    return begin_of(day) + _DAY + seconds * _SECOND <= now


def removal_cause(stored: StoredDay, total: int, terms: RetentionTerms, now: int, *, by_age: bool) -> Cause | None:
    """Why a closed day is to be removed; None: it is not. `total` are the octets of all logs now."""
    if by_age and is_past(stored.day, terms.age, now):
        return "age"
    return "size" if total > terms.size else None


def may_be_compressed(day: str, closed: int, terms: RetentionTerms, now: int) -> bool:
    """Whether a day that was closed then is to be compressed.

    A closing in the future was written by a clock that has been set back since; then the day's end counts.
    """
    if closed > now:
        return is_past(day, terms.compress_after, now)
    return closed + terms.compress_after * _SECOND <= now
