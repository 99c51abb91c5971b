"""Time stamps in every spelling that senders use; the year and the zone are inferred where they are missing. Pure.

    2026-11-30T09:01:02.123456789+01:00     RFC 3339, also with a space or lower-case letters, with any fraction
    2026-11-30 09:01:02,123                 without a zone
    2026/11/30 09:01:02                     nginx
    2026:11:30-09:01:02                     Sophos
    Nov 30 09:01:02                         RFC 3164
    Mon Nov 30 09:01:02.123 2026            with a weekday, a fraction and the year, which may also precede the time
    2026 Nov 30 09:01:02 CET                Cisco NX-OS

A missing year is the one that brings the time nearest to its receipt, if possible not over a month behind it. 29
February without a leap year nearby is not a time. A missing zone is the configured one, and so is an abbreviation that
has several meanings (CST, IST, EST), unless the configured zone has it at that time. In the hour that a clock repeats,
the reading nearest to the receipt counts.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple

_MONTHS: Final = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
_MONTH: Final = rb"jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_CLOCK: Final = rb"(?P<%b>[0-9]{1,2}):(?P<%b>[0-9]{2}):(?P<%b>[0-9]{2})(?:[.,](?P<%b>[0-9]{1,64}+)|\.(?= ))?"
_HOURS: Final[dict[bytes, float]] = {
    b"UTC": 0.0, b"GMT": 0.0, b"UT": 0.0, b"Z": 0.0, b"WET": 0.0, b"WEST": 1.0, b"CET": 1.0, b"CEST": 2.0, b"MET": 1.0,
    b"MEST": 2.0, b"EET": 2.0, b"EEST": 3.0, b"MSK": 3.0, b"JST": 9.0, b"KST": 9.0, b"HKT": 8.0, b"SGT": 8.0,
    b"SAST": 2.0, b"AEST": 10.0, b"AEDT": 11.0, b"ACDT": 10.5, b"ACST": 9.5, b"AWST": 8.0, b"NZST": 12.0, b"NZDT": 13.0,
    b"HST": -10.0, b"AKST": -9.0, b"AKDT": -8.0, b"PDT": -7.0, b"MDT": -6.0,
}  # fmt: skip
"""Abbreviations that have one meaning, with their hours east of Greenwich."""
_AMBIGUOUS: Final = (b"EST", b"EDT", b"CST", b"CDT", b"MST", b"PST", b"IST", b"BST", b"AST", b"ADT", b"BRT", b"CLT")
_LONGEST_FIRST: list[bytes] = sorted((*_HOURS, *_AMBIGUOUS), key=len, reverse=True)
_NAMED_ZONE: Final = b"|".join(_LONGEST_FIRST)

STAMP: Final = re.compile(
    rb"(?:(?P<iso_year>[0-9]{4})([-/:])(?P<iso_month>[0-9]{2})\2(?P<iso_day>[0-9]{2})(?:t| {1,2}|-(?<=:..-))"
    + _CLOCK % (b"iso_hour", b"iso_minute", b"iso_second", b"iso_fraction")
    + rb"|(?:(?:mon|tue|wed|thu|fri|sat|sun),? +)?(?:(?P<first_year>(?:19|20)[0-9]{2}) +)?"
    rb"(?P<month>"
    + _MONTH
    + rb") +(?P<day>[0-9]{1,2}) +(?:(?P<year>(?:19|20)[0-9]{2}) +)?"
    + _CLOCK % (b"hour", b"minute", b"second", b"fraction")
    + rb"(?: (?P<last_year>(?:19|20)[0-9]{2})(?= |: |\Z))?)"
    rb"(?P<zone>(?:z|(?-i: ?(?:(?:UTC|GMT)?[+-][0-9]{2}:?[0-9]{2}|(?:UTC|GMT)[+-][0-9]{1,2}|" + _NAMED_ZONE + rb"))"
    rb"|[+-][0-9]{2})(?![0-9A-Za-z.[-]))?",
    re.IGNORECASE,
)
"""A time stamp, to be matched where it begins."""

_ZONE: Final = re.compile(rb"(?:UTC|GMT)?([+-])([0-9]{1,2}):?([0-9]{2})?", re.IGNORECASE)
MICROSECONDS_A_DAY: Final = 86_400_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_REMEMBERED_STAMPS: Final = 8192
_LEAP_SECOND: Final = 60
_MONTH_AHEAD: Final = 31 * MICROSECONDS_A_DAY
_DAY: Final = MICROSECONDS_A_DAY


class StampTime(NamedTuple):
    """The time of a stamp."""

    time: int | None
    """Microseconds since the epoch; None: there is no such time."""
    inferred: bool
    """Whether the year or the zone was inferred."""


class _Meaning(NamedTuple):
    """What a stamp can mean."""

    times: tuple[int, ...]
    """Microseconds since the epoch, without the fraction."""
    inferred: bool
    has_year: bool


_NO_MEANING: Final = _Meaning((), inferred=False, has_year=False)


def time_of(stamp: re.Match[bytes], received: int, zone: tzinfo, *, trusted: bool = True) -> StampTime:
    """The time of a match of STAMP in a message that was received then.

    A clock that is not `trusted`, because its device says so, cannot do without a year unless it is right to a day.
    """
    fraction = stamp["fraction"] or stamp["iso_fraction"]
    second = stamp[0]
    if fraction is not None:  # without it the stamps of a second are the same
        second = second.replace(b"." + fraction, b"").replace(b"," + fraction, b"")
    meaning = _meaning(second.rstrip(b"."), received // _DAY, zone)
    nearest = nearest_to(received, meaning.times)
    if nearest is None or (not trusted and not meaning.has_year and abs(nearest - received) > _DAY):
        return StampTime(None, inferred=False)
    if fraction is not None:
        nearest += int(fraction[:6].ljust(6, b"0"))
    return StampTime(nearest, meaning.inferred)


def nearest_to(received: int, times: Iterable[int]) -> int | None:
    """The time that lies nearest to the receipt, if possible not over a month behind it; None when there is none.

    Messages come late by months, after a long outage. A clock that is ahead by months has its year wrong as well.
    """
    latest = received + _MONTH_AHEAD
    return min(times, key=lambda time: (time > latest, abs(time - received)), default=None)


def plain_times(stamp: bytes, day: int, zone: tzinfo) -> tuple[int, ...]:
    """What a stamp without a fraction can mean that is received on that day, counted from the epoch."""
    return _meaning(stamp, day, zone).times


def epoch_time(seconds: bytes, fraction: bytes | None) -> int:
    """Microseconds, from seconds since the epoch as digits."""
    return int(seconds) * 1_000_000 + (int(fraction[:6].ljust(6, b"0")) if fraction else 0)


@lru_cache(_REMEMBERED_STAMPS)
def _meaning(text: bytes, day: int, zone: tzinfo) -> _Meaning:
    """What a stamp without its fraction can mean that is received on that day, counted from the epoch."""
    stamp = STAMP.fullmatch(text)
    if stamp is None:
        return _NO_MEANING
    iso = stamp["iso_year"] is not None
    year = stamp["iso_year"] or stamp["first_year"] or stamp["year"] or stamp["last_year"]
    month = int(stamp["iso_month"]) if iso else _MONTHS.index(stamp["month"].lower()) + 1
    names = ("iso_day", "iso_hour", "iso_minute", "iso_second") if iso else ("day", "hour", "minute", "second")
    day_of_month, hour, minute, second = (int(stamp[name]) for name in names)
    if second > _LEAP_SECOND:
        return _NO_MEANING
    years = (int(year),) if year else _years_near(day * _DAY)
    times: list[int] = []
    inferred = not year
    for candidate in years:
        try:
            wall = datetime(candidate, month, day_of_month, hour, minute)  # noqa: DTZ001  its zone follows
            moments, certain = _moments(wall, stamp["zone"], zone)
        except (ValueError, OverflowError):
            continue
        inferred = inferred or not certain
        times.extend((moment - _EPOCH) // _MICROSECOND + second * 1_000_000 for moment in moments)
    return _Meaning(tuple(times), inferred, has_year=bool(year))


def _years_near(received: int) -> tuple[int, ...]:
    try:
        year = (_EPOCH + timedelta(microseconds=received)).year
    except OverflowError:
        return ()
    return (year, year - 1, year + 1)


def _moments(wall: datetime, written: bytes | None, zone: tzinfo) -> tuple[tuple[datetime, ...], bool]:
    """What a clock that showed `wall` can mean, and whether the zone is certain."""
    name = written.strip().upper() if written else b""
    if name in _HOURS:
        return (wall.replace(tzinfo=timezone(timedelta(hours=_HOURS[name]))),), True
    offset = _ZONE.fullmatch(name)
    if offset is not None:
        east = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
        return (wall.replace(tzinfo=timezone(east if offset[1] == b"+" else -east)),), True
    readings = tuple(wall.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if not name:
        return readings, False
    named = tuple(each for each in readings if (each.tzname() or "").encode().upper() == name)
    return named or readings, bool(named)
