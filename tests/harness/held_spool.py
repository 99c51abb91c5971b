"""A spool whose fsync waits for the test."""

import asyncio

from relay.errors import StorageError
from relay.values.event import Batch, Event

DEADLINE = 20  # seconds


class HeldSpool:
    """Accepts batches, and reports them durable when the test calls `sync`."""

    def __init__(self, *, ceiling: int = 1_000_000) -> None:
        self.batches: list[Batch] = []
        self.held: list[asyncio.Future[None]] = []
        self.ceiling = ceiling
        self.room = asyncio.Event()

    async def submit(self, batch: Batch) -> "asyncio.Future[None]":
        while len(self.held) >= self.ceiling:
            self.room.clear()
            await self.room.wait()
        self.batches.append(batch)
        durable = asyncio.get_running_loop().create_future()
        self.held.append(durable)
        return durable

    def sync(self) -> None:
        for durable in self.held:
            durable.set_result(None)
        self.held.clear()
        self.room.set()

    def fail(self) -> None:
        for durable in self.held:
            durable.set_exception(StorageError("spool", "input/output error", "replace the disk"))
        self.held.clear()

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch.events]

    @property
    def messages(self) -> list[bytes]:
        return [event.head for event in self.events]


class PromptSpool(HeldSpool):
    """A spool that makes everything durable at once, except while it fails."""

    failing = False

    async def submit(self, batch: Batch) -> "asyncio.Future[None]":
        durable = await super().submit(batch)
        if self.failing:
            self.fail()
        else:
            self.sync()
        return durable
