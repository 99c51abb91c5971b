"""Which of the messages that a receiver accepted a server gets (handing on). Pure.

The type of a received message is the one that relay's identity in it names; every other message is of type log. The
originator is the HOSTNAME, or the sender's address where none can be read. Upper and lower case are the same in it.
What a sender's relay reports about itself (openings, heartbeats, gaps) is filtered by originator alone: without its
gaps, the server could not know what is missing.
"""

from collections.abc import Collection
from typing import NamedTuple, Self

from relay.syslog.lenient.reader import glance
from relay.syslog.priority import EVERY_PRIORITY, priority
from relay.values.event import SERVER_TYPES, EventType
from relay.values.glob_matcher import GlobMatcher, glob_matcher
from relay.values.provenance import Provenance

_BY_LABEL = {kind.label.encode(): kind for kind in EventType}


class ReceivedFilter(NamedTuple):
    """Event types, priorities (a bitmap), and originators; None: all originators."""

    types: frozenset[EventType]
    priorities: int
    originators: GlobMatcher | None

    @classmethod
    def of(cls, types: Collection[EventType], priorities: int, originators: Collection[str]) -> Self | None:
        """The filter that these settings mean; None when it lets everything through."""
        if not originators and priorities == EVERY_PRIORITY and set(SERVER_TYPES) <= set(types):
            return None
        names = glob_matcher([each.lower() for each in originators]) if originators else None
        return cls(frozenset(types), priorities, names)

    def accepts(self, message: bytes, provenance: Provenance | None, received: int) -> bool:
        """Whether the server gets a message that was received then (microseconds since the epoch)."""
        found = glance(message, received)
        if self.originators is not None:
            peer = provenance.peer if provenance is not None else ""
            name = peer if found.host is None else found.host.decode("utf-8", "replace")
            if not self.originators(name.lower()):
                return False
        kind = EventType.LOG if found.identity is None else _BY_LABEL.get(found.identity.type, EventType.LOG)
        if kind is EventType.RELAY:
            return True
        return kind in self.types and bool(self.priorities >> priority(message) & 1)
