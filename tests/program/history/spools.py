"""Spools with a past: made by the real intake and store."""

import asyncio
import functools
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

from relay.events import own_events
from relay.program.history.past_event import Item, PastEvent
from relay.program.intake import Intake
from relay.spool.commit import Routing
from relay.spool.spool import RunSeed
from relay.spool.store import Store
from relay.syslog.rfc5424 import format_timestamp
from relay.system.disk import Disk, File
from relay.values.event import Batch, Event, EventType

NOON_US = 1_709_726_400_000_000  # 2024-03-06 12:00 UTC
SECOND_US = 1_000_000
RUN = RunSeed(b"\x5f" * 8, b"s" * 16)
SEGMENT = 64 * 1024
ROUTING = Routing(
    retained=frozenset({EventType.AUDIT, EventType.ADMIN, EventType.ALARM, EventType.RELAY, EventType.LOG}),
    transient=frozenset({EventType.TRAFFIC}),
)
gap_event = functools.partial(own_events.gap, own_events.Author("h", "h", "", "128T"))


def event(
    text: str,
    kind: EventType = EventType.AUDIT,
    *,
    second: int = 0,
    router: str = "r1",
    host: str = "combo1",
    msgid: str = "LOGIN",
) -> Event:
    """One of relay's own events, so many seconds after noon."""
    time = NOON_US + second * SECOND_US
    head = b"<109>1 %b %b auditd - %b [128T" % (format_timestamp(time), host.encode(), msgid.encode())
    tail = f' type="{kind.label}" router="{router}" node="n1"] {text}'.encode("utf-8", "surrogateescape")
    return Event(kind, time, head, tail)


def foreign(message: bytes, *, received_second: int = 0) -> Event:
    """A message that another program made, as a listener submits it."""
    return Event(EventType.LOG, NOON_US + received_second * SECOND_US, message)


def opened(folder: Path, *, segment_size: int = SEGMENT, disk: Disk | None = None) -> Store:
    return Store(disk or Disk(), str(folder), segment_size=segment_size, max_size=1 << 40, run=RUN)


def fill(store: Store, commits: Iterable[Sequence[Event] | Batch], *, committed_second: int = 0) -> None:
    """One commit for each batch or group of events, a second apart."""
    clock = count(NOON_US + committed_second * SECOND_US, SECOND_US)

    async def main() -> None:
        intake = Intake(store, ROUTING, gap_event, interval=0, clock=lambda: next(clock))
        committing = asyncio.create_task(intake.run())
        for each in commits:
            await (await intake.submit(each if isinstance(each, Batch) else Batch(each)))
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)

    asyncio.run(main())


def filled(folder: Path, *commits: Sequence[Event], segment_size: int = SEGMENT) -> None:
    """A state directory that holds these commits, and nobody writing."""
    with opened(folder, segment_size=segment_size) as store:
        fill(store, commits)


def segments(folder: Path, spool: str = "retained") -> list[Path]:
    return sorted((folder / "spool" / spool).glob("*.segment"))


def texts(items: Iterable[Item]) -> list[str]:
    """The last word of each event's message; an unreadable stretch fails."""
    found = list(items)
    assert all(isinstance(item, PastEvent) for item in found), found
    return [item.message.rpartition(b" ")[2].decode() for item in found if isinstance(item, PastEvent)]


class CountingFile(File):
    """A real file that counts the octets read, without the zeros of allocated space."""

    def __init__(self, path: str, descriptor: int, disk: "CountingDisk") -> None:
        super().__init__(path, descriptor)
        self._disk = disk

    def read(self, length: int, offset: int) -> bytes:
        data = super().read(length, offset)
        self._disk.octets_read += len(data) - data.count(0)
        return data


class CountingDisk(Disk):
    """A real disk that counts what is read."""

    octets_read = 0

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> File:
        return CountingFile(path, super().open(path, create=create, writable=writable).descriptor, self)
