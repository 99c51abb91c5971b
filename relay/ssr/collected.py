"""One event as the collector tells it: a name, tags, fields, and when it happened."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from relay.errors import DataError

Value = bytes | bool | int | float
"""A field's value. Numbers that no machine word holds stay the text that they came as."""

LARGEST_TIME: Final = 10**19
"""Nanoseconds, exclusive, before and after the epoch: what nineteen digits can say (the years 1653 to 2286)."""


class Collected(NamedTuple):
    """An event of the router. Names and values are octets, unescaped; they need not be UTF-8."""

    name: bytes
    tags: Mapping[bytes, bytes]
    fields: Mapping[bytes, Value]
    time: int | None
    """Nanoseconds since the epoch, less than `LARGEST_TIME` from it; None when the collector did not say."""


class NotCollectedError(DataError):
    """Octets that are no event: `offset` says where, counted from 0, and `rule` what should have stood there."""

    def __init__(self, offset: int, rule: str) -> None:
        super().__init__("event", f"octet {offset}: {rule}")
        self.offset = offset
        self.rule = rule
