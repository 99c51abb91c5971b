"""Names of an archive's files. Pure.

    ARCHIVE/ORIGINATOR/2026-11-30.log           open or closed, text
    ARCHIVE/ORIGINATOR/2026-11-30.jsonl         the same in format "json"
    ARCHIVE/ORIGINATOR/2026-11-30.log.zst       closed and compressed; an administrator's .gz and .xz are read as well
    ARCHIVE/ORIGINATOR/2026-11-30.ledger        its ledger
    ARCHIVE/ORIGINATOR/2026-11-30.2.log         what came for this day after it was closed; with a ledger of its own
    ARCHIVE/~disputed/ORIGINATOR/…              messages under a name that is bound to another sender
    ARCHIVE/~others/2026-11-30.log              messages beyond every ceiling of originators
    ARCHIVE/.relay/…                            what only the writer needs

Days are those of receipt, in UTC. `DayFiles.stem` is "2026-11-30" or "2026-11-30.2".
"""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

OWN: Final = ".relay"
"""The folder that only the writer needs."""
DISPUTED: Final = "~disputed"
ASIDE: Final = "~aside"
"""The folder of folders of originators whose own folder could not be written."""
OTHERS: Final = "~others"
"""The originator of what is beyond every ceiling of originators."""
LOG_SUFFIXES: Final = {"text": ".log", "json": ".jsonl"}
"""By the setting `archive-format`."""
COMPRESSIONS: Final = (".zst", ".gz", ".xz")
LEDGER_SUFFIX: Final = ".ledger"

_FILE: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:\.([2-9]|[1-9][0-9]{1,5}))?(\.log|\.jsonl|\.ledger)(\.zst|\.gz|\.xz)?"
)
_MICROSECONDS_A_DAY: Final = 86_400_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class DayFiles(NamedTuple):
    """The files of one originator and day, or of a later part of that day; names within the originator's folder."""

    day: str
    """The UTC day of receipt, as 2026-11-30."""
    part: int
    """1, or the number in the files' names."""
    logs: tuple[str, ...]
    """Usually one; none when it was removed; two while a compressed one replaces it, or after someone copied one."""
    ledger: str
    """Empty when it is not there."""

    @property
    def stem(self) -> str:
        """The files' common beginning."""
        return stem_of(self.day, self.part)


def plain_name(log: str) -> str:
    """The name of a log while it is not compressed."""
    return next((log.removesuffix(each) for each in COMPRESSIONS if log.endswith(each)), log)


def possible_names(logs: Iterable[str]) -> list[str]:
    """Every name that a day's log may have by now, the plain one first: it may be compressed after it was listed."""
    plain = list(dict.fromkeys(map(plain_name, logs)))
    return [*plain, *(f"{name}{compression}" for name in plain for compression in COMPRESSIONS)]


def stem_of(day: str, part: int) -> str:
    """The common beginning of a day's files."""
    return day if part == 1 else f"{day}.{part}"


def days_in(names: Iterable[str]) -> list[DayFiles]:
    """The days of one originator's folder, oldest first, from the names in it. Other names are passed over."""
    logs: dict[tuple[str, int], list[str]] = {}
    ledgers: dict[tuple[str, int], str] = {}
    for name in names:
        match = _FILE.fullmatch(name)
        if match is None or not _is_day(match[1]):
            continue
        key = (match[1], int(match[2] or 1))
        found = logs.setdefault(key, [])
        if match[3] != LEDGER_SUFFIX:
            found.append(name)
        elif not match[4]:
            ledgers[key] = name
    return [DayFiles(*key, tuple(sorted(found)), ledgers.get(key, "")) for key, found in sorted(logs.items())]


def unknown_in(names: Iterable[str]) -> list[str]:
    """The names that relay does not make: an unfinished copy of a log, `2026-11-30.log.zst.new`, is relay's."""
    known = (
        (name, _FILE.fullmatch(name.removesuffix(".new") if name.endswith(".zst.new") else name)) for name in names
    )
    return sorted(name for name, match in known if match is None or not _is_day(match[1]))


def day_of(microseconds: int) -> str:
    """The UTC day of a time since the epoch; the calendar's first or last day beyond its ends."""
    try:
        return (_EPOCH + timedelta(microseconds=microseconds)).date().isoformat()
    except OverflowError:
        return (date.min if microseconds < 0 else date.max).isoformat()


def begin_of(day: str) -> int:
    """The day's first microsecond since the epoch."""
    return (date.fromisoformat(day).toordinal() - _EPOCH.toordinal()) * _MICROSECONDS_A_DAY


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
