"""Times on the command line: where no zone is given, they are local times."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

import click

from relay.system.clock import wall_clock


class _LocalTime(tzinfo):
    """This machine's zone, with the rules of the day that is asked about (TZ, else /etc/localtime)."""

    def utcoffset(self, at: datetime | None) -> timedelta | None:
        return (at or datetime.now(UTC)).replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, at: datetime | None) -> timedelta | None:
        del at
        return None

    def tzname(self, at: datetime | None) -> str | None:
        return (at or datetime.now(UTC)).replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, at: datetime) -> datetime:
        return at.replace(tzinfo=UTC).astimezone().replace(tzinfo=self)


LOCAL: Final = _LocalTime()
FORMS: Final = "2026-11-30 11:20, 2026-11-30, 11:20, yesterday, today, now, -2h, -7d"


def now() -> int:
    """In microseconds since the epoch."""
    return wall_clock()


def read_time(
    text: str | None, option: str, read: Callable[[str, int, tzinfo], int], zone: tzinfo = LOCAL
) -> int | None:
    """The time that an option names, in microseconds since the epoch; None when it is not given."""
    try:
        return None if text is None else read(text, now(), zone)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None
