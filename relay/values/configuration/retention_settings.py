"""The settings of [receiver.retention]: how long the archive keeps its days. Pure."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Final

from pydantic import PlainSerializer, PlainValidator

from relay.values.configuration import setting_rules as rules
from relay.values.configuration.setting_types import Table
from relay.values.duration import duration_text
from relay.values.size import size_text

SHORTEST_AGE: Final = 86_400.0
LONGEST_AGE: Final = 36_500 * 86_400.0
SMALLEST_ARCHIVE: Final = 1024**2
LARGEST_ARCHIVE: Final = 1024**5
COMPRESS_AFTER: Final = 2 * 86_400.0
NEVER: Final = math.inf


def _or_never(rule: Callable[[object], Any], least: float, most: float, show: Callable[[Any], str]) -> PlainValidator:
    """The rule for a value that may be the empty text, which is read as infinity."""

    def read(value: object) -> float:
        if value in ("", NEVER):
            return NEVER
        amount = rule(value)
        if not least <= amount <= most:
            raise ValueError(f"must be from {show(least)} to {show(most)}, or empty, not {show(amount)}")
        return float(amount)

    return PlainValidator(read)


def _shown(show: Callable[[Any], str]) -> PlainSerializer:
    return PlainSerializer(lambda value: "" if value == NEVER else show(value), when_used="json")


AgeOrEmpty = Annotated[
    float, _or_never(rules.duration, SHORTEST_AGE, LONGEST_AGE, duration_text), _shown(duration_text)
]
DelayOrEmpty = Annotated[float, _or_never(rules.duration, 0, LONGEST_AGE, duration_text), _shown(duration_text)]
SizeOrEmpty = Annotated[
    float,
    _or_never(rules.size, SMALLEST_ARCHIVE, LARGEST_ARCHIVE, size_text),
    _shown(lambda value: size_text(int(value))),
]


class RetentionSettings(Table):
    """[receiver.retention]; durations in seconds, and infinity for the empty text."""

    age: AgeOrEmpty = NEVER
    """From the end of a day on."""
    size: SizeOrEmpty = NEVER
    """Of all logs in the archive, in bytes; the oldest closed days are removed beyond it."""
    ledgers: AgeOrEmpty = NEVER
    """Of days whose log is removed."""
    compress_after: DelayOrEmpty = COMPRESS_AFTER
    """After the closing of a day."""
