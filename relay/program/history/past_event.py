"""What a history gives: events with their time and type, and what could not be read in between."""

from collections.abc import Iterator
from datetime import UTC, tzinfo
from typing import Final, NamedTuple, Protocol

from relay.archive.ledger import Extent
from relay.syslog.lenient.reader import glance
from relay.values.event import EventType

_LABELS: Final = {kind.label.encode(): kind for kind in EventType}


class ArchiveFacts(NamedTuple):
    """What an archive knows about a message beside its octets."""

    originator: str
    """The folder within the archive."""
    path: str
    """The log."""
    offset: int
    extent: Extent | None
    """When it was received and from whom; None: no readable ledger says it."""
    marks: tuple[str, ...]


class PastEvent(NamedTuple):
    """One event of the history."""

    time: int
    """Microseconds since the epoch."""
    type: str
    message: bytes
    facts: ArchiveFacts | None = None


class UnreadableStretch(NamedTuple):
    """A part of the history that cannot be read."""

    path: str
    offset: int
    cause: str
    is_expected: bool = False
    """Nothing is wrong: retention removed it, or it will come again."""


Item = PastEvent | UnreadableStretch


class History(Protocol):
    """A history that is read forward."""

    def events(self) -> Iterator[Item]:
        """The selected events from where the last call ended to the present end."""

    def newest(self, limit: int) -> Iterator[Item]:
        """The newest `limit` selected events, oldest first; `events` then continues at the present end."""


def past_event(message: bytes, kind: EventType, time: int, zone: tzinfo = UTC) -> PastEvent:
    """The event with the time and type that the message has, or else these. `zone`: of time stamps without one."""
    seen = glance(message, time, zone)
    if kind is EventType.LOG and seen.identity is not None:
        kind = _LABELS.get(seen.identity.type, kind)
    return PastEvent(time if seen.time is None else seen.time, kind.label, message)
