"""Points in time as people write them: a day, a time of day, how long ago, or RFC 3339.

    now    today    yesterday    11:20    11:20:05    2026-11-30    2026-11-30 11:20    -2h    -7d
    2026-11-30T11:20:05.347Z    2026-11-30T12:20:05+01:00    2026-11-30 11:20Z

Moments are microseconds since the epoch; a finer fraction is cut off. A time without a zone is in the caller's zone. A
time of day is today's. A day lasts from its midnight to its last microsecond; any other time is one moment. A text that
cannot be read raises ValueError with one plain sentence that quotes it. Pure.
"""

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final

from relay.values.duration import parse_duration
from relay.values.text import quoted

_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS_AGO: Final = {"today": 0, "yesterday": 1}
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
# RFC 3339 section 5.6, whose note allows a space for the T. Here seconds, zone and day can be left out too.
_TIME: Final = re.compile(
    r"(?:(?P<day>\d{4}-\d{2}-\d{2})[Tt ])?(?P<time>\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)(?P<zone>[Zz]|[+-]\d{2}:\d{2})?",
    re.ASCII,
)


def first_moment(text: str, now: int, zone: tzinfo) -> int:
    """The first moment that `text` means; "ago" and "today" count from `now`."""
    return _span(text, now, zone)[0]


def last_moment(text: str, now: int, zone: tzinfo) -> int:
    """The last moment that `text` means."""
    return _span(text, now, zone)[1]


def _span(text: str, now: int, zone: tzinfo) -> tuple[int, int]:
    word = text.lower()
    if word == "now":
        return now, now
    if text.startswith("-"):
        try:
            moment = now - round(parse_duration(text[1:]) * 1_000_000)
        except ValueError:
            raise _not_a_time(text) from None
        return moment, moment
    match = _TIME.fullmatch(text)
    if match is None and word not in _DAYS_AGO and not _DAY.fullmatch(text):
        raise _not_a_time(text)
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


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _not_a_time(text: str) -> ValueError:
    return ValueError(
        f'{quoted(text)} is not a time; write it as "11:20", "2026-11-30", "2026-11-30 11:20", "yesterday", "-2h" or '
        '"2026-11-30T11:20:05Z"'
    )
