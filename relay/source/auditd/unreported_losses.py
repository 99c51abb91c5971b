"""What of a log was not read, until an event reports it. Times are monotonic seconds.

A loss waits for the first record that is read after it, at most `patience_s`. If that record follows the last one
before the loss by its serial number, and no event was open, nothing is lost: the loss is then dropped, unless it is
certain. auditd's own records (DAEMON_…) have serial numbers of their own and prove nothing.

A position behind a loss must become durable together with the report of the loss: call `take` first. Later, the loss
could not be reported any more.

At most LOSSES are named; the others are reported as a number.
"""

from collections.abc import Iterable
from typing import Final

from relay.events.audit.record import Record
from relay.events.own_events import UnreadLog
from relay.source.auditd.follower import LogLoss
from relay.source.auditd.log_position import RecordName

PATIENCE_S: Final = 2.0
LOSSES: Final = 8


class UnreportedLosses:
    """The losses of one log that no event has reported yet."""

    def __init__(self) -> None:
        self._losses: list[LogLoss] = []
        self._beyond = 0
        self._nuls = 0
        self._since = 0.0
        self._after: RecordName | None = None
        self._before: RecordName | None = None

    @property
    def deadline(self) -> float | None:
        """The time by which they must be reported; None: there are none."""
        return self._since + PATIENCE_S if self._losses else None

    def note(self, loss: LogLoss, after: RecordName | None, now: float) -> None:
        """Add a loss; `after` names the last numbered record that was read."""
        if not self._losses:
            self._after, self._before, self._since = after, None, now
        self._nuls += loss.nuls
        loss = loss._replace(nuls=0)
        if loss in self._losses:
            return
        if len(self._losses) < LOSSES:
            self._losses.append(loss)
        else:
            self._beyond += 1

    def compare(self, records: Iterable[Record], *, whole: bool) -> None:
        """Compare with the records read next; `whole`: no event was open when data may have been lost."""
        if not self._losses or self._before is not None:
            return
        first = next(filter(is_numbered, records), None)
        if first is None:
            return
        after, before = self._after, RecordName.of(first)
        self._before = before
        if not whole or after is None or any(loss.certain for loss in self._losses):
            return
        if after.node == before.node and after.time <= before.time and before.serial - after.serial in {0, 1}:
            self._clear()

    def take(self, source: str) -> UnreadLog | None:
        """Remove the losses, and return what an event must report; None when there are none."""
        if not self._losses:
            return None
        causes = [*dict.fromkeys(loss.cause for loss in self._losses)]
        if self._beyond:
            causes.append(f"{self._beyond} more")
        after, before = (name and (name.time, name.serial) for name in (self._after, self._before))
        files = tuple(dict.fromkeys(loss.file for loss in self._losses))
        unread = UnreadLog(source, files, ", ".join(causes), after, before, self._nuls)
        self._clear()
        return unread

    def _clear(self) -> None:
        self._losses, self._beyond, self._nuls = [], 0, 0


def is_numbered(record: Record) -> bool:
    """Whether the record's serial number belongs to the same sequence as those around it."""
    return not record.type.startswith(b"DAEMON_")
