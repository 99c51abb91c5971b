"""Audit records to write, and a recorder of what a source submits."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from relay.events.audit.mapping import AuditMapping
from relay.events.own_events import Author
from relay.source import EventInput
from relay.source.auditd.audit_log import AuditLog, WatchedLog
from relay.values.event import Batch, Event, EventType, Position

START_MS = 1_709_742_862_000
AUTHOR = Author("router1", "router1", "", "128T")
PATIENCE_S = 0.5
NEVER = 1000.0
"""Seconds; longer than any test waits."""
_SERIAL = re.compile(rb' serial="(\d+)"')


def record(
    serial: int, *, kind: str = "USER_LOGIN", at_ms: int | None = None, body: str = "pid=1 res=success"
) -> bytes:
    """One line; every record a millisecond after the one before, unless its time is given."""
    at_ms = serial if at_ms is None else at_ms
    seconds, millis = divmod(START_MS + at_ms, 1000)
    return f"type={kind} msg=audit({seconds}.{millis:03d}:{serial}): {body}\n".encode()


def records(first: int, last: int) -> bytes:
    """Lines that are an event each."""
    return b"".join(record(serial) for serial in range(first, last + 1))


def serial_of(event: Event) -> int:
    found = _SERIAL.search(event.tail)
    assert found is not None, event.tail
    return int(found[1])


def text_of(event: Event) -> bytes:
    """The message without its identity."""
    return event.head + event.tail


class Taken:
    """An intake that records batches; `hold` keeps them from becoming durable."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.held: list[asyncio.Future[None]] = []
        self.hold = False

    async def submit(self, batch: Batch) -> asyncio.Future[None]:
        self.batches.append(batch)
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.hold:
            self.held.append(durable)
        else:
            durable.set_result(None)
        return durable

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch.events]

    @property
    def serials(self) -> list[int]:
        """Of the audit's events."""
        return [serial_of(event) for event in self.events if event.type is EventType.AUDIT]

    @property
    def gaps(self) -> list[bytes]:
        """Relay's own events, as text."""
        return [text_of(event) for event in self.events if event.type is EventType.RELAY]

    @property
    def position(self) -> Position | None:
        return self.batches[-1].position if self.batches else None


def audit_log(path: Path, *, start: str = "oldest", **watching: Any) -> AuditLog:
    """Return the source; `watching` sets fields of `WatchedLog`."""
    log = WatchedLog(
        path=str(path),
        start="now" if start == "now" else "oldest",
        interval_s=0.02,
        patience_s=PATIENCE_S,
        **watching,
    )
    return AuditLog("audit", log, AuditMapping(hostname="router1", router="router1"), AUTHOR)


def append(path: Path, data: bytes) -> None:
    """Write at the end of a log, as auditd does."""
    with path.open("ab") as file:
        file.write(data)


def drain(source: EventInput, position: Position | None = None) -> Taken:
    """Run the source until it has submitted everything."""
    taken = Taken()
    asyncio.run(asyncio.wait_for(source.run(taken.submit, position, drain=True), 60))
    return taken


def follow(
    source: EventInput,
    play: Callable[[Taken], Awaitable[None]],
    position: Position | None = None,
    taken: Taken | None = None,
) -> Taken:
    """Run the source live while `play` acts, and stop it then; a source that fails fails the test."""
    taken = Taken() if taken is None else taken

    async def both() -> None:
        running = asyncio.create_task(source.run(taken.submit, position, drain=False))
        playing = asyncio.ensure_future(play(taken))
        await asyncio.wait({running, playing}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            playing.cancel()
            await running
        running.cancel()
        await asyncio.wait({running})
        await playing

    asyncio.run(both())
    return taken


def rotate(path: Path, keep: int = 5, then: Path | None = None) -> None:
    """Rotate as auditd does: the oldest is overwritten, PATH becomes PATH.1, and a new PATH, or `then`, comes."""
    for number in range(keep - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.rename(path.with_name(f"{path.name}.{number + 1}"))
    path.rename(path.with_name(f"{path.name}.1"))
    if then is None:
        path.touch()
    else:
        then.rename(path)
