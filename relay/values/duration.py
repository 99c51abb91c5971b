"""Durations in seconds, read and written as people write them: "10ms", "90s", "15m", "24h", "180d". Pure."""

from typing import Final

from relay.values.amount import parse_amount
from relay.values.text import quoted

_MILLISECONDS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def parse_duration(text: str) -> float:
    """Read a whole number of milliseconds, as seconds; ValueError quotes a text that is not a duration."""
    milliseconds = parse_amount(text, _MILLISECONDS)
    if milliseconds is None:
        raise ValueError(
            f'{quoted(text)} is not a duration; write a number and a unit, as in "10ms", "90s", "24h", "180d"'
        )
    return milliseconds / 1000


def duration_text(value: float) -> str:
    """The shortest text that `parse_duration` reads as these seconds, rounded to milliseconds."""
    milliseconds = round(value * 1000)
    if not milliseconds:
        return "0s"
    unit = next(unit for unit, size in _MILLISECONDS.items() if milliseconds % size == 0)
    return f"{milliseconds // _MILLISECONDS[unit]}{unit}"
