"""Submitting batches one behind the other, so that a source holds a bounded number of events in memory.

A source that reads by itself submits its batches through `BatchInFlight`: it may read the next batch while one becomes
durable. Behind a slow disk it therefore stops reading. A source with several senders submits through `BatchesInTurn`.
"""

import asyncio
from collections.abc import Callable

from relay.values.event import Batch, Submit


class BatchInFlight:
    """At most one batch is on its way to the disk while the next is read."""

    def __init__(self, submit: Submit) -> None:
        self._submit = submit
        self._pending: tuple[asyncio.Future[None], Callable[[], None] | None] | None = None

    def __bool__(self) -> bool:
        """Whether a batch is on its way; `settle` waits for it."""
        return self._pending is not None

    async def submit(self, batch: Batch, then: Callable[[], None] | None = None) -> None:
        """Submit a batch, and return when the batch before it is durable; raises what kept that one from it.

        `then` is called once this batch is durable, within the next `submit` or `settle`.
        """
        durable = await self._submit(batch)
        # A source that was cancelled waits no more, and the intake reports the error: mark it as seen.
        durable.add_done_callback(lambda done: done.cancelled() or done.exception())
        before, self._pending = self._pending, (durable, then)
        if before is not None:
            await _wait(*before)

    async def settle(self) -> None:
        """Return when every batch is durable."""
        if self._pending is not None:
            await _wait(*self._pending)
            self._pending = None


class BatchesInTurn:
    """Each batch is submitted when the one before it is durable, whichever sender it comes from.

    A sender that repeats itself while the disk stalls causes at most one duplicate.
    """

    def __init__(self, submit: Submit) -> None:
        self._submit = submit
        self._turn = asyncio.Lock()
        self._last: asyncio.Future[None] | None = None

    async def submit(self, batch: Batch) -> "asyncio.Future[None]":
        """Wait for the batch's turn, and submit it. When cancelled before its turn, it is not submitted."""
        async with self._turn:
            if self._last is not None:
                await asyncio.wait([self._last])  # unlike `await`, a cancellation leaves the future as it is
            self._last = await self._submit(batch)
            return self._last

    async def close(self) -> None:
        """Accept no further batch, and return when the last is durable."""
        await self._turn.acquire()
        if self._last is not None:
            await asyncio.wait([self._last])


async def _wait(durable: "asyncio.Future[None]", then: Callable[[], None] | None) -> None:
    await asyncio.shield(durable)
    if then is not None:
        then()
