"""Whether auditd audits relay itself: then each event that relay handles causes the next, until the disk is full.

deploy/relay.rules prevents that. Without it, events arrive of which a SYSCALL record (the first or a later one) names
relay's process, or a child of it. Isolated events caused by relay itself are harmless; `LIMIT` of them within a minute
are a loop. relay forwards these events like all others.

`count` runs in the event loop's thread and `per_minute` in a worker thread; only numbers pass between the two.
"""

import re
from collections.abc import Sequence
from typing import Final

from relay.values.event import Event

LIMIT: Final = 60
WINDOW: Final = 60_000_000
"""Microseconds."""
_SYSCALL: Final = b" SYSCALL ["
"""The MSGID of an event whose first record is one."""


class OwnRecords:
    """Counts the events that relay's own process causes; `now` is the boot clock in microseconds."""

    def __init__(self, pid: int, now: int) -> None:
        self.events = 0
        """Caused by this process, so far."""
        self._mark = b'pid="%d"' % pid  # ppid ends so, too, and opid, which is another process's doing
        self._of_first = re.compile(rb' p?pid="%d"' % pid)
        self._of_later = re.compile(rb' SYSCALL\.p?pid="%d"' % pid)
        self._began = now
        self._before = 0
        self._in_last_window = 0

    def count(self, events: Sequence[Event]) -> None:
        """Count those of `events` that this process caused."""
        for event in events:
            if self._mark in event.tail:
                pattern = self._of_first if _SYSCALL in event.head else self._of_later
                self.events += pattern.search(event.tail) is not None

    def per_minute(self, now: int) -> int:
        """How many there were in this minute or in the one before, whichever had more."""
        events = self.events
        if now - self._began >= WINDOW:
            self._in_last_window = events - self._before
            self._began, self._before = now, events
        return max(self._in_last_window, events - self._before)
