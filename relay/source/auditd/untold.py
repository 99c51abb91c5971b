"""What of a log was not read, from when that is noticed until an event tells it. Times are monotonic seconds.

A loss waits for the first record that is read after it, for PATIENCE_S at most. Where that record follows on from the
last one before, by the audit's serial numbers, and no event was open, nothing is lost, and nothing is told, unless the
loss is certain. auditd's own records (DAEMON_…) have numbers of their own and decide nothing. Whoever makes a place
durable that lies behind a loss must `take` first, and make durable with it what that gives: it could not be told any
more afterwards.

Ceiling: LOSSES of them are named; those beyond are told as a number.
"""

from collections.abc import Iterable
from typing import Final

from relay.events.audit.record import Record
from relay.events.own_events import UnreadLog
from relay.source.auditd.follower import LogLoss
from relay.source.auditd.log_position import RecordName

PATIENCE_S: Final = 2.0
LOSSES: Final = 8
_OF_AUDITD: Final = b"DAEMON_"


class Untold:
    """The losses of one log that are not told."""

    def __init__(self) -> None:
        self._losses: list[LogLoss] = []
        self._beyond = 0
        self._nuls = 0
        self._since = 0.0
        self._after: RecordName | None = None
        self._before: RecordName | None = None

    @property
    def deadline(self) -> float | None:
        """When it is to be told at the latest; None: there is nothing to tell."""
        return self._since + PATIENCE_S if self._losses else None

    def note(self, loss: LogLoss, after: RecordName | None, now: float) -> None:
        """Take in a loss; `after` names the last numbered record that was read."""
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

    def meet(self, records: Iterable[Record], *, whole: bool) -> None:
        """See what was read next; `whole`: no event was open when something may have been lost."""
        if not self._losses or self._before is not None:
            return
        first = next(filter(is_numbered, records), None)
        if first is None:
            return
        self._before = RecordName.of(first)
        certain = any(loss.certain for loss in self._losses)
        if whole and not certain and self._after is not None and _follows_on(self._after, self._before):
            self._forget()

    def take(self, source: str) -> UnreadLog | None:
        """What is to be told of it; None when there is nothing. It counts as told then."""
        if not self._losses:
            return None
        causes = [
            *dict.fromkeys(loss.cause for loss in self._losses),
            *([f"{self._beyond} more"] if self._beyond else []),
        ]
        files = tuple(dict.fromkeys(loss.file for loss in self._losses))
        told = UnreadLog(source, files, ", ".join(causes), _moment(self._after), _moment(self._before), self._nuls)
        self._forget()
        return told

    def _forget(self) -> None:
        self._losses, self._beyond, self._nuls = [], 0, 0


def is_numbered(record: Record) -> bool:
    """Whether the audit's serial numbers tell what stands before and behind a record."""
    return not record.type.startswith(_OF_AUDITD)


def _follows_on(after: RecordName, before: RecordName) -> bool:
    return after.node == before.node and after.time <= before.time and before.serial - after.serial in {0, 1}


def _moment(name: RecordName | None) -> tuple[int, int] | None:
    return (name.time, name.serial) if name else None
