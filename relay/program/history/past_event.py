"""What a history gives: events with their time and type, and what could not be read in between."""

from collections.abc import Iterator
from datetime import UTC, tzinfo
from typing import Final, NamedTuple, Protocol

from relay.archive.ledger import Extent
from relay.syslog.lenient.reader import glance, read
from relay.syslog.lenient.reading import Glance, Reading
from relay.syslog.rfc5424 import Identity
from relay.values.event import EventType

FORWARDED: Final = "forwarded"
"""The mark of a message that came through a router's relay from another program: its identity is not that relay's."""
INFERRED: Final = "inferred"
"""The mark of a message whose year or time zone was not in it."""
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


class PastEvent:
    """One event of the history. Its message is looked at when something is asked of it."""

    __slots__ = ("_glance", "_kind", "_received", "_zone", "facts", "message")

    def __init__(
        self,
        message: bytes,
        kind: EventType,
        received: int,
        zone: tzinfo = UTC,
        facts: ArchiveFacts | None = None,
    ) -> None:
        """`kind` and `received` count where the message has no type or time. `zone`: of time stamps without one."""
        self.message = message
        self.facts = facts
        self._kind = kind
        self._received = received
        self._zone = zone
        self._glance: Glance | None = None

    def __repr__(self) -> str:
        return f"<PastEvent {self.message!r}>"

    @property
    def time(self) -> int:
        """Microseconds since the epoch.

        A time whose year or zone the archive's writer inferred lies in its extent's span, whatever zone is set here.
        """
        time = self._glanced().time
        return self._received if time is None else self._as_filed(time)

    def _as_filed(self, time: int) -> int:
        facts = self.facts
        if facts is None or INFERRED not in facts.marks or facts.extent is None or facts.extent.time is None:
            return time
        earliest, latest = facts.extent.time
        return min(max(time, earliest), latest)

    @property
    def type(self) -> str:
        """The type's label."""
        return self.type_by(self._glanced().identity)

    def type_by(self, identity: Identity | None) -> str:
        """The type's label, when the caller knows the message's identity already."""
        if identity is None or self._kind is not EventType.LOG or (self.facts and FORWARDED in self.facts.marks):
            return self._kind.label
        return _LABELS.get(identity.type, self._kind).label

    def reading(self) -> Reading:
        """Everything that the message says."""
        reading = read(self.message, self._received, self._zone)
        return reading if reading.time is None else reading._replace(time=self._as_filed(reading.time))

    def _glanced(self) -> Glance:
        if self._glance is None:
            self._glance = glance(self.message, self._received, self._zone)
        return self._glance


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
