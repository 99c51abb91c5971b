"""Points in time as people write them: a day, a time of day, how long ago, or RFC 3339.

    now    today    yesterday    11:20    11:20:05    2026-11-30    2026-11-30 11:20    -2h    -7d
    2026-11-30T11:20:05.347Z    2026-11-30T12:20:05+01:00    2026-11-30 11:20Z

Values are microseconds since the epoch; a finer fraction is cut. What has no zone of its own is in the caller's zone.
A time of day is today's. A day begins at its midnight; as the end of a span it means its last microsecond. Any other
time is that moment, at the end of a span too. What cannot be read raises ValueError with one plain sentence that
quotes it.
"""

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final

from relay.values.quantity import seconds
from relay.values.text import quoted

_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS_AGO: Final = {"today": 0, "yesterday": 1}
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
# RFC 3339 section 5.6, whose note allows a space for the T; but seconds, zone and day may be left out.
_TIME: Final = re.compile(
    r"(?:(?P<day>\d{4}-\d{2}-\d{2})[Tt ])?(?P<time>\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)(?P<zone>[Zz]|[+-]\d{2}:\d{2})?",
    re.ASCII,
)


def beginning(text: str, now: int, zone: tzinfo) -> int:
    """The first microsecond that `text` means; `now` is what "ago" and "today" count from."""
    return _span(text, now, zone)[0]


def end(text: str, now: int, zone: tzinfo) -> int:
    """The last microsecond that `text` means."""
    return _span(text, now, zone)[1]


def _span(text: str, now: int, zone: tzinfo) -> tuple[int, int]:
    word = text.lower()
    if word == "now":
        return now, now
    if text.startswith("-"):
        ago = now - round(_seconds(text) * 1_000_000)
        return ago, ago
    match = _TIME.fullmatch(text)
    if match is None and word not in _DAYS_AGO and not _DAY.fullmatch(text):
        raise _unreadable(text)
    today = (_EPOCH + timedelta(microseconds=now)).astimezone(zone).date()
    try:
        if match is not None:
            at = datetime.fromisoformat(f"{match['day'] or today}T{match['time']}{(match['zone'] or '').upper()}")
            moment = _microseconds(at if at.tzinfo else at.replace(tzinfo=zone))
            return moment, moment
        day = today - timedelta(days=_DAYS_AGO[word]) if word in _DAYS_AGO else date.fromisoformat(text)
        return _midnight(day, zone), _midnight(day + timedelta(days=1), zone) - 1
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{quoted(text)} is not a time: {error}") from None


def _midnight(day: date, zone: tzinfo) -> int:
    return _microseconds(datetime(day.year, day.month, day.day, tzinfo=zone))


def _seconds(text: str) -> float:
    try:
        return seconds(text.removeprefix("-"))
    except ValueError:
        raise _unreadable(text) from None


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _unreadable(text: str) -> ValueError:
    return ValueError(
        f'{quoted(text)} is not a time; write it as "11:20", "2026-11-30", "2026-11-30 11:20", "yesterday", "-2h" or '
        '"2026-11-30T11:20:05Z"'
    )
