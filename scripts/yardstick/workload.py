"""The input of every forwarder: generated audit records, and how to find them at the far end."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

from harness.records import generate

from relay.events.audit.record_types import completes_event

_CLOSING: Final = (
    b"type=USER_LOGOUT msg=audit(4102444800.000:%d): pid=1 uid=0 auid=0 ses=1 msg='op=logout res=success'\n"
)
"""A record so late that it completes every event before it: the last ones would wait for 2 s of silence otherwise."""
_STAMP: Final = re.compile(rb" msg=audit\(\d+\.\d+:(\d+)\)")
_TYPE: Final = re.compile(rb"type=(\S+) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """An audit.log."""

    data: bytes
    records: int
    serials: int
    """The sum of the records' serials, as the sink computes it."""

    @classmethod
    def of(cls, records: int) -> "Workload":
        """Make that many records or a few more, and a closing one."""
        data = generate(records)
        serials = [int(serial) for serial in _STAMP.findall(data)]
        serials.append(serials[-1] + 1)
        data += _CLOSING % serials[-1]
        return cls(data=data, records=len(serials), serials=sum(serials))


class LiveEvent(NamedTuple):
    """An event whose time is that of its write."""

    serial: int
    lines: tuple[tuple[bytes, bytes], ...]
    """Each record's bytes before and after its stamp."""
    ends_itself: bool
    """Whether its last record shows that the event is complete; else a reader has to wait for silence."""

    def written_at(self, seconds: float) -> bytes:
        """Return its records, with that time since the epoch."""
        stamp = b" msg=audit(%d.%03d:%d)" % (*divmod(int(seconds * 1000), 1000), self.serial)
        return b"".join(before + stamp + after + b"\n" for before, after in self.lines)


def live_events(records: int) -> list[LiveEvent]:
    """Return the events of that many records or a few more."""
    return [
        LiveEvent(serial, tuple(_halves(line) for line in lines), _ends_itself(lines))
        for serial, lines in _by_serial(generate(records))
    ]


def _by_serial(data: bytes) -> Iterator[tuple[int, list[bytes]]]:
    for serial, lines in groupby(data.splitlines(), key=lambda line: int(_matched(_STAMP, line)[1])):
        yield serial, list(lines)


def _halves(line: bytes) -> tuple[bytes, bytes]:
    stamp = _matched(_STAMP, line)
    return line[: stamp.start()], line[stamp.end() :]


def _ends_itself(lines: list[bytes]) -> bool:
    return completes_event(_matched(_TYPE, lines[-1])[1])


def _matched(pattern: re.Pattern[bytes], line: bytes) -> re.Match[bytes]:
    match = pattern.search(line)
    if match is None:
        raise ValueError(f"no audit record: {line!r}")
    return match


class Pace:
    """Return how many are due now, at that many a second from its making on."""

    def __init__(self, a_second: float) -> None:
        self._a_second = a_second
        self._begun = time.monotonic()

    @property
    def due(self) -> int:
        """Return how many are due in all."""
        return int((time.monotonic() - self._begun) * self._a_second)
