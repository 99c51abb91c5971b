"""Many of relay's own messages at once, because a receiver gets mostly these.

`read` finds in them what `strict.glance` finds in each (a test compares them). It ends at a message of another form,
and leaves messages of several days, or without consecutive numbers, to `glance`. The regular expression is liberal in
what the messages of a sender have in common. That is checked once for each different text. Pure.

Repeated groups are not possessive here: Python 3.11 up to 3.11.4 continues in the wrong place after the last one. They
match in one way only, so they need no backtracking.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from relay.syslog.lenient.strict import NAMES, PRI_AND_VERSION, SD_NAME, ZONE, since_epoch
from relay.syslog.rfc5424 import NILVALUE

_MESSAGE: Final = re.compile(
    rb"(<[^T]{12,16}T)([0-2][0-9]:[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6}+)?)"
    rb'([^"]{1,600}+"[^"]{1,64}+)" relaySeq="(0|[1-9][0-9]{0,18}+)" type="([a-z]{1,32})"'
    rb'(?:((?: %b="[^"]*+")*)\]|((?: %b="[^"\\]*+(?:\\.[^"\\]*+)*")*)\])(?: |\Z)' % (SD_NAME, SD_NAME)
)
"""Its groups: PRI and date, time of day, what follows it up to relayRun, relaySeq, type; the other parameters, without
or with escaped quotes."""
_TO_DATE: Final = re.compile(PRI_AND_VERSION + b"([0-9]{4}-[0-9]{2}-[0-9]{2}T)")
_TO_RUN: Final = re.compile(ZONE + b" " + NAMES + rb'\[%b relayRun="([!#-\[^-~]{1,64})' % SD_NAME)
_PARAMS: Final = re.compile(rb'(?: %b="[^"\\\]]*+(?:\\.[^"\\\]]*+)*")*' % SD_NAME)
_LAST_CLOCK: Final = b"23:59:59.999999"
_REMEMBERED: Final = 4096


class NumberRange(NamedTuple):
    """Consecutive numbers of one run and type."""

    run: bytes
    type: bytes
    first: int
    last: int


class OwnBatch(NamedTuple):
    """What the archive needs to know of messages of one host."""

    messages: int
    """How many, at least one."""
    host: bytes
    earliest: int
    """Microseconds since the epoch."""
    latest: int
    ranges: tuple[NumberRange, ...]
    """One of each run and type, in the order in which they begin."""


class _Sender(NamedTuple):
    """What messages of one sender have in common."""

    zone: bytes
    host: bytes
    run: bytes


_Row = tuple[bytes, ...]
"""The groups of `_MESSAGE`."""


def is_own(message: bytes) -> bool:
    """Whether `read` is worth a try for messages of which this is the first."""
    return _MESSAGE.match(message) is not None


def read(messages: Sequence[bytes]) -> Iterator[OwnBatch]:
    """The content of these messages, in turn for each host and zone, up to the first that must be read by itself."""
    rows: list[_Row] = []
    for match in map(_MESSAGE.match, messages):
        if match is None:
            break
        rows.append(match.groups(b""))
    senders = {middle: _sender(middle) for middle in {row[2] for row in rows}}
    origins = {middle: sender and (sender.host, sender.zone) for middle, sender in senders.items()}
    groups: Iterable[list[_Row]] = [rows]
    if len(set(origins.values())) != 1:
        groups = (list(group) for _, group in itertools.groupby(rows, lambda row: origins[row[2]]))
    for group in groups:
        batch = _batch(group, senders)
        if batch is None:
            return
        yield batch


def _batch(rows: Sequence[_Row], senders: dict[bytes, _Sender | None]) -> OwnBatch | None:
    """The content of messages of one host and zone; None when they must be read singly."""
    heads, clocks, middles, sequences, kinds, *params = zip(*rows, strict=True)
    sender, days = senders[middles[0]], {_day(head) for head in set(heads)}
    day = days.pop()
    if sender is None or day is None or days or not all(map(_are_legal, params)) or max(clocks) > _LAST_CLOCK:
        return None
    # As text, times of one day are in their order, whatever their fractions.
    earliest, latest = (_time(day + clock, sender.zone) for clock in (min(clocks), max(clocks)))
    runs = {middle: other.run for middle, other in senders.items() if other is not None}
    ranges = _ranges(runs, middles, kinds, list(map(int, sequences)))
    if earliest is None or latest is None or not ranges:
        return None
    return OwnBatch(len(rows), sender.host, earliest, latest, ranges)


def _ranges(
    runs: dict[bytes, bytes], middles: Sequence[bytes], kinds: Sequence[bytes], numbers: list[int]
) -> tuple[NumberRange, ...]:
    """The numbers of each run and type; none when they are not consecutive."""
    by_key: dict[tuple[bytes, bytes], list[int]] = {}
    if len({runs[middle] for middle in set(middles)}) == len(set(kinds)) == 1:
        by_key[runs[middles[0]], kinds[0]] = numbers
    else:
        for middle, kind, number in zip(middles, kinds, numbers, strict=True):
            by_key.setdefault((runs[middle], kind), []).append(number)
    if any(each != list(range(each[0], each[0] + len(each))) for each in by_key.values()):
        return ()
    return tuple(NumberRange(run, kind, each[0], each[-1]) for (run, kind), each in by_key.items())


def _are_legal(params: Sequence[bytes]) -> bool:
    """Whether parameters that have roughly the right form have it exactly."""
    octets = b"".join(params)
    special = octets.replace(b"\\]", b"")
    if b"]" in special or b"\\" in special:
        return octets.isascii() and all(_PARAMS.fullmatch(each) for each in params if b"\\" in each or b"]" in each)
    return octets.isascii()


@lru_cache(_REMEMBERED)
def _day(head: bytes) -> bytes | None:
    """The date behind PRI and VERSION, with its T; None when they are not legal."""
    found = _TO_DATE.fullmatch(head)
    return None if found is None else found[2]


@lru_cache(_REMEMBERED)
def _sender(middle: bytes) -> _Sender | None:
    """What is between time of day and relayRun's end; None when it is not legal."""
    found = _TO_RUN.fullmatch(middle)
    return None if found is None or found[2] == NILVALUE else _Sender(*found.group(1, 2, 6))


def _time(stamp: bytes, zone: bytes) -> int | None:
    """Microseconds since the epoch; None when there is no such date."""
    second, _, fraction = stamp.partition(b".")
    time = since_epoch(second, zone)
    return None if time is None else time + int(fraction.ljust(6, b"0"))
