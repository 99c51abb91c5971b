"""Points in time as people write them: RFC 3339, a day, or how long ago.

    2024-03-06T16:34:22.347Z    2024-03-06T17:34:22+01:00    2024-03-06 16:34:22Z    2024-03-06    -2h    -7d    now

Values are microseconds since the epoch; a finer fraction is cut. A day is a day of UTC: as the beginning of a span it
means its first microsecond, as the end its last. A time without its zone is refused, since nobody could say later
which one was meant. What cannot be read raises ValueError with one plain sentence that quotes it.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from relay.quantity import quoted, seconds

_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
# RFC 3339 section 5.6, whose note allows a space for the T.
_DATE_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})?", re.ASCII)
A_DAY: Final = 86_400_000_000


def beginning(text: str, now: int) -> int:
    """The first microsecond that `text` means; `now` is what "ago" counts from."""
    if _DAY.fullmatch(text):
        return _microseconds(f"{text}T00:00:00Z", text)
    if text == "now":
        return now
    if text.startswith("-"):
        return now - round(_seconds(text) * 1_000_000)
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise _unreadable(text)
    if match[2] is None:
        raise ValueError(f"{quoted(text)} lacks its zone; end it with Z, or with an offset as +01:00")
    return _microseconds(text, text)


def end(text: str, now: int) -> int:
    """The last microsecond that `text` means."""
    first = beginning(text, now)
    return first + A_DAY - 1 if _DAY.fullmatch(text) else first


def _seconds(text: str) -> float:
    try:
        return seconds(text.removeprefix("-"))
    except ValueError:
        raise _unreadable(text) from None


def _microseconds(text: str, written: str) -> int:
    try:
        return (datetime.fromisoformat(text.upper()) - _EPOCH) // _MICROSECOND
    except ValueError as error:
        raise ValueError(f"{quoted(written)} is no time: {error}") from None


def _unreadable(text: str) -> ValueError:
    return ValueError(f'{quoted(text)} is no time; write it as "2024-03-06T16:34:22Z", "2024-03-06", "-2h" or "-7d"')
