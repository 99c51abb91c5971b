"""What a history gives: events with their time and type, and what could not be read in between."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

from relay.archive.ledger import Extent
from relay.syslog import rfc5424
from relay.values.event import EventType

_LABELS: Final = {kind.label.encode(): kind for kind in EventType}
_TIME: Final = re.compile(rb"<[0-9]{1,3}>1 ([0-9][!-~]{1,39}) ")


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
    by_retention: bool = False
    """Retention removed it, so nothing is wrong."""


Item = PastEvent | UnreadableStretch


class History(Protocol):
    """A history that is read forward."""

    def events(self) -> Iterator[Item]:
        """The selected events from where the last call ended to the present end."""

    def newest(self, limit: int) -> Iterator[Item]:
        """The newest `limit` selected events, oldest first; `events` then continues at the present end."""


def past_event(message: bytes, kind: EventType, time: int) -> PastEvent:
    """The event with the time and type that the message has, or else these."""
    match = _TIME.match(message)
    if match is not None:
        with suppress(ValueError):
            time = rfc5424.microseconds(match[1])
    if kind is EventType.LOG and (identity := rfc5424.identity(message)) is not None:
        kind = _LABELS.get(identity.type, kind)
    return PastEvent(time, kind.label, message)
