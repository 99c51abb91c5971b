"""Does auditd audit relay itself? Then what relay does with an event makes the next: a loop that ends with the disk.

deploy/relay.rules keeps that from happening. Where it is missing, events come of which a SYSCALL record, be it the
first or a later one, names relay's process, or it as the parent: `LIMIT` of them within a minute call for the alarm
`audit-loop`, and a minute with fewer ends it. Events about single deeds of relay's are as good as any others. Nothing
is ever left out of what is forwarded.

`hear` stands in the event loop's thread and `alarm_wanted` in a worker's; only numbers pass between the two.
"""

import asyncio
import re
from typing import Final

from relay.values.alarm import AUDIT_LOOP, Alarm
from relay.values.event import Batch, Event, Submit

LIMIT: Final = 60
WINDOW: Final = 60_000_000
"""Microseconds."""
_SYSCALL: Final = b" SYSCALL ["
"""The MSGID of an event whose first record is one."""
_TEXT: Final = "auditd audits relay itself, so that each event makes new ones; load deploy/relay.rules"


class OwnRecords:
    """Counts the events that relay's own process causes; `now` is the boot clock in microseconds."""

    def __init__(self, pid: int, now: int) -> None:
        self.events = 0
        """Caused by this process, so far."""
        self._mark = b'pid="%d"' % pid  # ppid ends so, too, and opid, which is somebody else's deed
        self._of_first = re.compile(rb' p?pid="%d"' % pid)
        self._of_later = re.compile(rb' SYSCALL\.p?pid="%d"' % pid)
        self._began = now
        self._before = 0
        self._in_last_window = 0

    def hear(self, submit: Submit) -> Submit:
        """Put before what a source submits to."""

        async def listening(batch: Batch) -> asyncio.Future[None]:
            self.events += sum(self._mark in event.tail and self._is_own(event) for event in batch.events)
            return await submit(batch)

        return listening

    def _is_own(self, event: Event) -> bool:
        pattern = self._of_first if _SYSCALL in event.head else self._of_later
        return pattern.search(event.tail) is not None

    def alarm_wanted(self, now: int) -> Alarm | None:
        """The alarm that the last minute calls for."""
        events = self.events
        if now - self._began >= WINDOW:
            self._in_last_window = events - self._before
            self._began, self._before = now, events
        often = max(self._in_last_window, events - self._before) >= LIMIT
        return Alarm(AUDIT_LOOP, "major", _TEXT) if often else None
