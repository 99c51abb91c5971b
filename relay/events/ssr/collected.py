"""One event as the collector writes it: a name, tags, fields, and a time."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from relay.errors import DataError

Value = bytes | bool | int | float
"""A field's value. Numbers that do not fit a machine word stay text."""

LARGEST_TIME: Final = 10**19
"""Nanoseconds, exclusive, before and after the epoch: the range of nineteen digits (the years 1653 to 2286)."""
_UNITS: Final = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3))
"""Below the first number, a time is in units of the second number, in nanoseconds."""


def nanoseconds(timestamp: float) -> int | None:
    """Convert a time in seconds, milli-, micro- or nanoseconds, by its size; None when it is out of range."""
    if not abs(timestamp) < LARGEST_TIME:
        return None
    unit = next((unit for below, unit in _UNITS if abs(timestamp) < below), 1)
    # From its decimal text, because a float of seconds is not exact to the nanosecond.
    time = timestamp * unit if isinstance(timestamp, int) else int(Decimal(repr(timestamp)) * unit)
    return time if abs(time) < LARGEST_TIME else None


class Collected(NamedTuple):
    """An event of the router. Names and values are octets, unescaped; they need not be UTF-8."""

    name: bytes
    tags: Mapping[bytes, bytes]
    fields: Mapping[bytes, Value]
    time: int | None
    """Nanoseconds since the epoch, less than `LARGEST_TIME` from it; None when the collector gave none."""


class NotCollectedError(DataError):
    """Octets that are not an event: `offset` is counted from 0, and `rule` says what is required there."""

    def __init__(self, offset: int, rule: str) -> None:
        super().__init__("event", f"octet {offset}: {rule}")
        self.offset = offset
        self.rule = rule
