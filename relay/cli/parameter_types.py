"""What values of arguments and options can be: numbers, times, names that are known, globs.

Pass one of these as `type` of a click parameter. A value that cannot be is a usage error, which quotes it and names the
nearest one that can be.
"""

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple, TypeVar

import click
from typing_extensions import override

from relay.syslog import priority
from relay.system.clock import wall_clock
from relay.values.did_you_mean import did_you_mean
from relay.values.duration import parse_duration
from relay.values.event import EventType
from relay.values.glob_matcher import GlobMatcher, glob_matcher
from relay.values.moment import first_moment, last_moment

TIME_FORMS: Final = "2026-11-30 11:20, 2026-11-30, 11:20, yesterday, today, now, -2h, -7d"
EVENT_TYPES: Final[Mapping[str, EventType]] = {kind.label: kind for kind in EventType}
SEVERITIES: Final[Mapping[str, int]] = {
    **{name: number for number, name in enumerate(priority.SEVERITIES)},
    # Other spellings, and an alarm's severities as `relay.events.ssr.mapping` maps them.
    "emergency": 0,
    "critical": 2,
    "error": 3,
    "major": 3,
    "warn": 4,
    "minor": 4,
    "informational": 6,
}
"""Numbers as in RFC 5424, table 2: a lower one is more severe."""
_Value = TypeVar("_Value")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Number(click.FloatRange):
    """A number within bounds, with or without a fraction; click's own name for it is "float range"."""

    name = "number"


class WholeNumber(click.IntRange):
    """A number within bounds, without a fraction."""

    name = "whole number"


# --- Times, in microseconds since the epoch ---


class _LocalTime(tzinfo):
    """This machine's zone, with the rules of the day in question (TZ, else /etc/localtime)."""

    @override
    def utcoffset(self, at: datetime | None, /) -> timedelta | None:
        return (at or datetime.now(UTC)).replace(tzinfo=None).astimezone().utcoffset()

    @override
    def dst(self, at: datetime | None, /) -> timedelta | None:
        return None

    @override
    def tzname(self, at: datetime | None, /) -> str | None:
        return (at or datetime.now(UTC)).replace(tzinfo=None).astimezone().tzname()

    @override
    def fromutc(self, at: datetime, /) -> datetime:
        return at.replace(tzinfo=UTC).astimezone().replace(tzinfo=self)


LOCAL: Final = _LocalTime()


def beginning(text: str, zone: tzinfo = LOCAL) -> int:
    """The first moment of a time; a text without a zone is local time."""
    try:
        return first_moment(text, wall_clock(), zone)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def beginning_in_utc(text: str) -> int:
    """The first moment of a time; a text without a zone is in UTC."""
    return beginning(text, UTC)


def end(text: str) -> int:
    """The last moment of a time, of a day for example; a text without a zone is local time."""
    try:
        return last_moment(text, wall_clock(), LOCAL)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def duration(text: str) -> float:
    """A duration in seconds."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


# --- Names ---


def event_type(label: str) -> EventType:
    """The type of that name."""
    return _value_of(label, EVENT_TYPES, "type")


def severity(name: str) -> int:
    """The severity of that name, as a number."""
    return _value_of(name, SEVERITIES, "severity")


def _value_of(name: str, values: Mapping[str, _Value], noun: str) -> _Value:
    name = name.lower()
    if name in values:
        return values[name]
    raise click.BadParameter(f'there is no {noun} "{name}"; {name_remedy(name, list(values))}')


def name_remedy(name: str, known: Sequence[str], limit: int = 20) -> str:
    """The remedy for an unknown name: the nearest known name, else the first of them, at most `limit`."""
    more = f" and {len(known) - limit} more" if len(known) > limit else ""
    return did_you_mean(name, known) or f"there are {', '.join(known[:limit])}{more}"


# --- Globs ---


class Glob(NamedTuple):
    """A pattern (`relay.values.glob_matcher`) as it was typed, and as a test."""

    text: str
    matches: GlobMatcher


class FieldGlob(NamedTuple):
    """The name of a parameter, and what its value must be."""

    name: str
    glob: Glob


def glob(text: str) -> Glob:
    """A pattern."""
    try:
        return Glob(text, glob_matcher([text]))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def regular_expression(text: str) -> re.Pattern[bytes]:
    """A regular expression on octets."""
    try:
        return re.compile(os.fsencode(text))
    except (re.error, RecursionError, OverflowError) as error:
        raise click.BadParameter(f'"{text}" is not a regular expression: {error}') from None


def network(text: str) -> Network:
    """An address, or a network."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise click.BadParameter(f'"{text}" is not an address or a network, as 192.0.2.0/24') from None


def field_glob(text: str) -> FieldGlob:
    """NAME=GLOB."""
    name, equals, pattern = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f'"{text}" must be NAME=GLOB, as acct=root')
    return FieldGlob(name, glob(pattern))
