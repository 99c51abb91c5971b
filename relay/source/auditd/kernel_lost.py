"""The kernel's count of audit records that it dropped, as gap events: what no audit daemon ever saw is told as well.

The count begins at 0 with the machine's boot, and `auditctl --reset-lost` sets it back. Its position is the boot and
the count that is told so far, made durable together with the event that tells it: nothing is told twice or forgotten.
What was dropped in this boot before relay looked for the first time is told as well.

Reading it needs a right that relay need not have (`relay.program.watch.audit_trail.kernel_audit`): without it that is
said once, as the source's error too, and it is tried again with every look.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from relay.errors import RelayError
from relay.events import own_events
from relay.events.own_events import Author
from relay.system.clock import wall_clock
from relay.values.event import Batch, Event, Position, Submit

NAME: Final = "kernel audit"
"""A space stands in no configured name: this one is nobody else's."""
LOOK_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


class ReportedKernelLoss(msgspec.Struct, frozen=True):
    """The position: what was told, and of which boot."""

    boot: str
    lost: int


class KernelLost:
    """Watches the count that `read_lost` answers; a RelayError means that it cannot be told just now."""

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

    def finish(self) -> float:
        """The position says everything."""
        return 0

    async def run(self, submit: Submit, position: Position | None, *, drain: bool) -> None:
        """Tell what was lost since the position, and then whatever more is; with `drain` only the first."""
        self.events = position.count if position else 0
        told = _decode(position)
        while True:
            told = await self._look(submit, told)
            if drain:
                return
            await asyncio.sleep(self._interval_s)

    async def _look(self, submit: Submit, told: ReportedKernelLoss | None) -> ReportedKernelLoss | None:
        try:
            count = await asyncio.to_thread(self._read_lost)
        except RelayError as error:
            if not self.last_error:
                logger.warning("records that the kernel drops are not counted: %s", error)
            self.last_error = str(error)
            return told
        self.last_error = ""
        now = ReportedKernelLoss(self._boot, count)
        if lost := _lost_since(told, now):
            await self._tell(submit, now, lost)
        elif told is not None and told.boot == now.boot and told.lost > now.lost:
            await self._submit(submit, now, [])  # set to zero: what comes counts from there
        return now if lost or told is not None else None

    async def _tell(self, submit: Submit, now: ReportedKernelLoss, lost: int) -> None:
        logger.warning("the kernel dropped %d audit records before any audit daemon could read them", lost)
        self.lost += lost
        await self._submit(submit, now, [own_events.kernel_gap(self._author, wall_clock(), lost)])

    async def _submit(self, submit: Submit, now: ReportedKernelLoss, events: list[Event]) -> None:
        self.events += len(events)
        await (await submit(Batch(events, Position(NAME, self.events, msgspec.json.encode(now)))))


def _decode(position: Position | None) -> ReportedKernelLoss | None:
    try:
        return msgspec.json.decode(position.data, type=ReportedKernelLoss) if position else None
    except msgspec.MsgspecError:
        return None


def _lost_since(told: ReportedKernelLoss | None, now: ReportedKernelLoss) -> int:
    begins_anew = told is None or told.boot != now.boot or now.lost < told.lost
    return now.lost if told is None or begins_anew else now.lost - told.lost
