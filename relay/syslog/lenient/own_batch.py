"""Many of relay's own messages at once, because a receiver gets mostly these: one regular expression reads all lines.

`read` finds in them what `strict.glance` finds in each (a test compares them), or leaves them to it: messages of any
other form, of several hosts or days, in parts, or with numbers that are not consecutive. The expression is liberal in
what the messages of a sender have in common. That is checked once for each different text. Pure.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from relay.syslog.lenient.strict import NAMES, PRI_AND_VERSION, SD_NAME, ZONE, since_epoch
from relay.syslog.rfc5424 import NILVALUE

_LINE: Final = re.compile(
    rb"(?:(<[^T]{12,16}T)([0-2][0-9]:[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6}+)?)"
    rb'([^"]{1,600}+"[^"]{1,64}+)" relaySeq="(0|[1-9][0-9]{0,18}+)" type="([a-z]{1,32})"'
    rb'((?: %b="[^"]*+(?:(?<=\\)"[^"]*+)*+")*+)\](?: [^\n]*+)?+|[^\n]*+)\n' % SD_NAME
)
"""Its groups: PRI and date, time of day, what follows it up to relayRun, relaySeq, type, the other parameters."""
_TO_DATE: Final = re.compile(PRI_AND_VERSION + b"([0-9]{4}-[0-9]{2}-[0-9]{2}T)")
_TO_RUN: Final = re.compile(ZONE + b" " + NAMES + rb'\[%b relayRun="([!#-\[^-~]{1,64})' % SD_NAME)
_PARAMS: Final = re.compile(rb'(?: %b="(?:[^"\\\]]++|\\.)*+")*+' % SD_NAME)
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


def is_own(message: bytes) -> bool:
    """Whether `read` is worth a try for messages of which this is the first."""
    found = _LINE.match(message + b"\n")
    return found is not None and found[1] is not None


def read(lines: bytes) -> OwnBatch | None:
    """The content of these messages, at least one, each a line with its LF and without other control characters."""
    heads, clocks, middles, sequences, kinds, others = zip(*_LINE.findall(lines), strict=True)
    senders = {middle: _sender(middle) for middle in set(middles)}
    hosts = {sender and (sender.host, sender.zone) for sender in senders.values()}
    days = {_day(head) for head in set(heads)}
    host, day = hosts.pop(), days.pop()
    if hosts or days or host is None or day is None or not _are_legal(others) or max(clocks) > _LAST_CLOCK:
        return None
    # As text, times of one day are in their order, whatever their fractions.
    earliest, latest = (_time(day + clock, host[1]) for clock in (min(clocks), max(clocks)))
    runs = {middle: sender.run for middle, sender in senders.items() if sender is not None}
    ranges = _ranges(runs, middles, kinds, list(map(int, sequences)))
    if earliest is None or latest is None or not ranges:
        return None
    return OwnBatch(host[0], earliest, latest, ranges)


def _ranges(
    runs: dict[bytes, bytes], middles: Sequence[bytes], kinds: Sequence[bytes], numbers: list[int]
) -> tuple[NumberRange, ...]:
    """The numbers of each run and type; none when they are not consecutive."""
    by_key: dict[tuple[bytes, bytes], list[int]] = {}
    if len(set(runs.values())) == len(set(kinds)) == 1:
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
    if not octets.isascii() or b"\n" in octets:
        return False
    if b"]" not in octets and b"\\" not in octets:
        return True
    return all(_PARAMS.fullmatch(each) for each in params if b"\\" in each or b"]" in each)


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
