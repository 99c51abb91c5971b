"""The number of audit records that the kernel dropped, as gap events: no audit daemon ever saw these records.

The kernel counts from the machine's boot, and `auditctl --reset-lost` sets the count to zero. The position is the boot
and the count that is already reported, made durable together with the event that reports it. So nothing is reported
twice or forgotten, and the first look reports what was dropped in this boot before.

Reading the count needs a capability that relay need not have (`relay.program.watch.audit_trail.kernel_audit`). Without
it relay logs that once, shows it as the source's error, and retries with every look.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

import msgspec
from typing_extensions import override

from relay.errors import RelayError
from relay.events import own_events
from relay.events.own_events import Author
from relay.source import EventInput
from relay.system.clock import wall_clock
from relay.values.event import Batch, Event, Position, Submit

NAME: Final = "kernel audit"
"""No configured name holds a space, so no other source has this name."""
LOOK_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


class ReportedKernelLoss(msgspec.Struct, frozen=True):
    """The position: the records that were reported, and in which boot they were lost."""

    boot: str
    lost: int


class KernelLost(EventInput):
    """Watches the count that `read_lost` returns; a RelayError means that it cannot be read at present."""

    def __init__(
        self, author: Author, boot: str, read_lost: Callable[[], int], interval_s: float = LOOK_SECONDS
    ) -> None:
        self.name = NAME
        self.events = 0
        self.lost = 0
        """Records, in this run."""
        self.last_error = ""
        self._author = author
        self._boot = boot
        self._read_lost = read_lost
        self._interval_s = interval_s

    @override
    def finish(self) -> float:
        return 0

    @override
    async def run(self, submit: Submit, position: Position | None, *, drain: bool) -> None:
        """Report what was lost since the position, and then what is lost further; with `drain` only the first."""
        self.events = position.count if position else 0
        reported: ReportedKernelLoss | None = None
        if position is not None:
            with contextlib.suppress(msgspec.MsgspecError):
                reported = msgspec.json.decode(position.data, type=ReportedKernelLoss)
        while True:
            reported = await self._look(submit, reported)
            if drain:
                return
            await asyncio.sleep(self._interval_s)

    async def _look(self, submit: Submit, reported: ReportedKernelLoss | None) -> ReportedKernelLoss | None:
        try:
            now = ReportedKernelLoss(self._boot, await asyncio.to_thread(self._read_lost))
        except RelayError as error:
            if not self.last_error:
                logger.warning("records that the kernel drops are not counted: %s", error)
            self.last_error = str(error)
            return reported
        self.last_error = ""
        before = reported.lost if reported is not None and reported.boot == now.boot else 0
        lost = now.lost if now.lost < before else now.lost - before
        events: list[Event] = []
        if lost:
            logger.warning("the kernel dropped %d audit records before any audit daemon could read them", lost)
            self.lost += lost
            events = [own_events.kernel_gap(self._author, wall_clock(), lost)]
        if lost or before > now.lost:  # a count that was reset to zero is stored, because counting goes on from there
            self.events += len(events)
            await (await submit(Batch(events, Position(NAME, self.events, msgspec.json.encode(now)))))
        return now if lost or reported is not None else None
