"""relay's own events that concern completeness, read back from their octets. Pure.

`relay.events.own_events` writes them. An opening names the run before and its last numbers. A heartbeat has the last
numbers so far, and how many blocks wait for each server. A gap counts a loss. What cannot be read is left out, because
an event that was cut for its size (`truncated`) has less. Runs and types are octets, as in an identity.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from relay.syslog.rfc5424 import microseconds, parsed

_LONGEST: Final = 255
"""Of a name or a cause; relay does not write longer ones."""
_NUMBER: Final = re.compile(rb"[0-9]{1,19}")
_LOST: Final = re.compile(rb"([!-~]{1,64}) ([a-z]{1,32}) ([0-9]{1,19}) ([0-9]{1,19}) ([0-9]{1,19})")

Params = tuple[tuple[bytes, bytes], ...]


class RunAndType(NamedTuple):
    """The events of one type in one run are numbered from 1."""

    run: bytes
    type: bytes


class ReportedLoss(NamedTuple):
    """So many numbers of one run and type are lost, all of them between `first` and `last`."""

    run: bytes
    type: bytes
    first: int
    last: int
    events: int


class Opening(NamedTuple):
    """A run begins."""

    previous: bytes
    """The run before; empty where there was none."""
    last: Mapping[bytes, int]
    """Its last number of each type."""


class Heartbeat(NamedTuple):
    """How far a run has come."""

    last: Mapping[bytes, int]
    """The last number of each type."""
    backlog: Mapping[str, int]
    """Server → blocks that are not proven."""


class GapReport(NamedTuple):
    """A counted loss."""

    server: str
    """The server that does not get these events; empty: no server does."""
    number: int | None
    """Two events of one server with one number report the same gap. None: it has no number."""
    cause: str
    events: int | None
    """None: they could not be counted."""
    lost: tuple[ReportedLoss, ...]
    unnamed: int
    """Those of the events that no range names, for example because they never had a number."""


RelayReport = Opening | Heartbeat | GapReport


class DatedReport(NamedTuple):
    """One of relay's own events."""

    time: int | None
    """Microseconds since the epoch."""
    report: RelayReport | None
    """None: it does not concern completeness (an alarm)."""


def read_report(message: bytes) -> DatedReport | None:
    """Read a message of type relay; None when it is not RFC 5424."""
    event = parsed(message)
    if event is None:
        return None
    report: RelayReport | None = None
    params = event.structured_data[0].params if event.structured_data else ()
    match event.msgid:
        case b"OPENING":
            report = Opening(dict(params).get(b"previousRun", b"")[:_LONGEST], _counts(params, b"last"))
        case b"HEARTBEAT":
            backlog = {name.decode(): blocks for name, blocks in _counts(params, b"backlog").items()}
            report = Heartbeat(_counts(params, b"last"), backlog)
        case b"GAP":
            one = dict(params)
            server, cause = (one.get(name, b"").decode()[:_LONGEST] for name in (b"server", b"cause"))
            number, events, unnamed = (_decimal(one.get(name, b"")) for name in (b"gap", b"events", b"unnamed"))
            lost = (_LOST.fullmatch(value) for name, value in params if name == b"lost")
            losses = (ReportedLoss(m[1], m[2], int(m[3]), int(m[4]), int(m[5])) for m in lost if m is not None)
            report = GapReport(server, number, cause, events, tuple(losses), unnamed or 0)
    return DatedReport(None if event.timestamp is None else microseconds(event.timestamp), report)


def _counts(params: Params, wanted: bytes) -> dict[bytes, int]:
    """Read every `wanted="NAME NUMBER"`; NAME may contain spaces."""
    found = {}
    for name, value in params:
        word, _, number = value.rpartition(b" ")
        if name == wanted and len(word) <= _LONGEST and (count := _decimal(number)) is not None:
            found[word] = count
    return found


def _decimal(text: bytes) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None
