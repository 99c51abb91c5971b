"""What relay's own events say of an originator's completeness, read back from their octets. Pure.

`relay.events.own_events` writes them: an opening names the run before and its last numbers, a heartbeat the last
numbers so far and how many blocks wait for each server, a gap what is lost. Whatever cannot be read of one is left out:
an event that was cut for its size (`truncated`) has less. Runs and types are octets, as they stand in an identity.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from relay.syslog.rfc5424 import Message, NotRfc5424Error, microseconds, parse

_LONGEST: Final = 255
"""Of a name or a cause: whoever writes longer ones is not relay."""
_NUMBER: Final = re.compile(rb"[0-9]{1,19}")
_LOST: Final = re.compile(rb"([!-~]{1,64}) ([a-z]{1,32}) ([0-9]{1,19}) ([0-9]{1,19}) ([0-9]{1,19})")

Params = tuple[tuple[bytes, bytes], ...]


class RunAndType(NamedTuple):
    """Within a key, numbers rise by one from 1 on."""

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
    """A run begins; `previous` is empty where there was none before it."""

    previous: bytes
    last: Mapping[bytes, int]


class Heartbeat(NamedTuple):
    """How far a run has come; `backlog`: server → blocks that are not proven."""

    last: Mapping[bytes, int]
    backlog: Mapping[str, int]


class GapTold(NamedTuple):
    """A counted loss; `events` is None where nobody can count them."""

    server: str
    """Empty: nobody gets them."""
    number: int | None
    """Two events of one server with one number tell of one gap. None: it has none."""
    cause: str
    events: int | None
    lost: tuple[ReportedLoss, ...]
    unnamed: int
    """Those of the events that no range names; what never had a number is among them."""


Testimony = Opening | Heartbeat | GapTold


class OwnEvent(NamedTuple):
    """One of relay's own events."""

    time: int | None
    """Microseconds since the epoch."""
    said: Testimony | None
    """None: nothing that matters here (alarms)."""


def read(message: bytes) -> OwnEvent | None:
    """What a message of type relay says; None when it is no RFC 5424."""
    try:
        event = parse(message)
    except NotRfc5424Error:
        return None
    time = None if event.timestamp is None else microseconds(event.timestamp)
    return OwnEvent(time, _said(event))


def _said(event: Message) -> Testimony | None:
    params = event.structured_data[0].params if event.structured_data else ()
    match event.msgid:
        case b"OPENING":
            return Opening(dict(params).get(b"previousRun", b"")[:_LONGEST], _counted(params, b"last"))
        case b"HEARTBEAT":
            backlog = {name.decode(): blocks for name, blocks in _counted(params, b"backlog").items()}
            return Heartbeat(_counted(params, b"last"), backlog)
        case b"GAP":
            return _gap(params)
    return None


def _gap(params: Params) -> GapTold:
    one = dict(params)
    server, cause = (one.get(name, b"").decode()[:_LONGEST] for name in (b"server", b"cause"))
    number, events, unnamed = (_decimal(one.get(name, b"")) for name in (b"gap", b"events", b"unnamed"))
    return GapTold(server, number, cause, events, tuple(_lost(params)), unnamed or 0)


def _counted(params: Params, wanted: bytes) -> dict[bytes, int]:
    """Read every `wanted="NAME NUMBER"`; NAME may hold spaces."""
    found = {}
    for name, value in params:
        word, _, number = value.rpartition(b" ")
        if name == wanted and len(word) <= _LONGEST and (counted := _decimal(number)) is not None:
            found[word] = counted
    return found


def _lost(params: Params) -> Iterator[ReportedLoss]:
    for name, value in params:
        match = _LOST.fullmatch(value) if name == b"lost" else None
        if match is not None:
            run, kind, first, last, events = match.groups()
            yield ReportedLoss(run, kind, int(first), int(last), int(events))


def _decimal(text: bytes) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None
