"""Any number of audit records: the seed's events again and again, each with its own serial."""

import re
from itertools import groupby
from pathlib import Path

from relay.events.audit.record import Record, parse

SEED = Path(__file__).parent.parent / "events" / "audit" / "seed.log"
_HEAD = re.compile(rb" msg=audit\(\d+\.\d+:(\d+)\)")
_START = 1_709_742_862_344
"""Milliseconds since the epoch: the seed's first record."""
_STEP = 5
_FIRST = 100_000
_STAMP = re.compile(rb" msg=audit\((\d+)\.\d+:(\d+)\)")
_LATER = 3
"""Seconds after which an event without an end is complete when later stamps follow; auparse's figure is 2."""


def generate(records: int, *, first_serial: int = _FIRST) -> bytes:
    """So many records or a few more (whole events), as auditd writes them.

    Serials rise by one from `first_serial`, and times rise with them: data with a later first serial may follow.
    """
    seed = [line for line in SEED.read_bytes().splitlines() if line]
    events = [list(group) for _, group in groupby(seed, key=_serial)]
    lines: list[bytes] = []
    serial, milliseconds = first_serial, _START + (first_serial - _FIRST) * _STEP
    while len(lines) < records:
        for event in events:
            stamp = b" msg=audit(%d.%03d:%d)" % (*divmod(milliseconds, 1000), serial)
            lines += [_HEAD.sub(stamp, line, count=1) for line in event]
            serial += 1
            milliseconds += _STEP
    return b"\n".join(lines) + b"\n"


def closed(data: bytes) -> bytes:
    """Return the data and one record so much later that it completes every event: no event waits for silence."""
    *_, last = _STAMP.finditer(data)
    seconds, serial = int(last[1]) + _LATER, int(last[2]) + 1
    return data + b"type=USER_LOGIN msg=audit(%d.000:%d): pid=1 uid=0 res=success\n" % (seconds, serial)


def _serial(line: bytes) -> bytes:
    match = _HEAD.search(line)
    assert match is not None, line
    return match[1]


def record_of(line: bytes) -> Record:
    """Parse one line; AssertionError when it is not a record."""
    record = parse(line)
    assert record is not None, line
    return record


def serials(data: bytes) -> set[int]:
    """The serials of all records in the data."""
    return {int(match[1]) for match in _HEAD.finditer(data)}
