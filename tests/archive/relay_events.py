"""Messages that prove something: numbered ones, and gaps, openings and heartbeats as `own_events` writes them."""

from collections.abc import Mapping

from archive.messages import NOON_US, own

from relay.events import own_events
from relay.events.own_events import Author, HeartbeatReport, PreviousRun
from relay.spool.losses.gap import Gap, LostRange
from relay.values.event import Event, EventType

AUTHOR = Author("router1", "r", "n", "128T")
RUN, NEXT, THIRD = (bytes([octet]) * 8 for octet in (0x5F, 0x60, 0x61))
AUDIT = EventType.AUDIT


def stamped(event: Event, number: int, run: bytes = RUN) -> bytes:
    """An event of relay's own with its identity, as the spool's writer gives it."""
    return b'%b relayRun="%b" relaySeq="%d"%b' % (event.head, run.hex().encode(), number, event.tail)


def opening(number: int = 1, run: bytes = RUN, previous: bytes = b"", **last: int) -> bytes:
    before = PreviousRun(previous, {EventType.from_label(kind): count for kind, count in last.items()})
    return stamped(own_events.opening(AUTHOR, NOON_US, before if previous else None), number, run)


def heartbeat(
    number: int, run: bytes = RUN, waiting: Mapping[str, int] | None = None, minute: int = 0, **last: int
) -> bytes:
    counted = {EventType.from_label(kind): count for kind, count in last.items()}
    now = NOON_US + minute * 60_000_000
    report = HeartbeatReport(counted, b"\1" * 32, waiting or {"far": 0})
    return stamped(own_events.heartbeat(AUTHOR, now, report), number, run)


def gap(number: int, *lost: LostRange, server: str = "", told: int = 1, unnamed: int = 0, run: bytes = RUN) -> bytes:
    said = Gap(server=server, number=told, cause="deleted", ranges=lost, unnamed=unnamed)
    return stamped(own_events.gap(AUTHOR, NOON_US, said), number, run)


def lost(first: int, last: int, events: int | None = None, kind: EventType = AUDIT) -> LostRange:
    return LostRange(RUN.hex(), kind, first, last, last - first + 1 if events is None else events)


def numbered(*numbers: int, run: bytes = RUN, kind: str = "audit") -> list[bytes]:
    return [own(number, run=run.hex(), kind=kind) for number in numbers]
