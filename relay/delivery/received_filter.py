"""Which of the messages that a receiver accepted a server gets (handing on). Pure, but it remembers names.

The originator is the one by which the archive files a message (`relay.archive.filing.claimed_name`): the HOSTNAME, else
the name that is bound to the sender, else the sender's address. A message under a name that is bound to another sender
is nobody's: the server could not see that it is disputed. Upper and lower case are the same.

The type of a message is the one that relay's identity in it names; every other message is of type log. What a sender's
relay reports about itself (openings, heartbeats, gaps) is filtered by originator alone: without its gaps, nobody could
know what is missing.
"""

from collections.abc import Collection
from typing import Final, Self

from relay.archive.filing.bound_names import BoundNames
from relay.archive.filing.claimed_name import claimed_name
from relay.spool.block import Span
from relay.syslog.lenient.reader import glance
from relay.syslog.priority import EVERY_PRIORITY, priority
from relay.syslog.rfc5424 import identity
from relay.values.event import SERVER_TYPES, EventType
from relay.values.glob_matcher import GlobMatcher, glob_matcher
from relay.values.provenance import Provenance, ReceiptMark

_REMEMBERED: Final = 20_000
_BY_LABEL: Final = {kind.label.encode(): kind for kind in EventType}


class ReceivedFilter:
    """Filters by event types, by priorities (a bitmap), and by originators, where `originators` is not None."""

    def __init__(
        self, types: Collection[EventType], priorities: int, originators: GlobMatcher | None, names: BoundNames
    ) -> None:
        self._types = frozenset(types)
        self._takes_every_type = self._types >= set(SERVER_TYPES)
        self._priorities = priorities
        self._originators = originators
        self._names = names
        self._decided: dict[tuple[bytes | None, Provenance | None], bool] = {}
        """By HOSTNAME and sender."""

    @classmethod
    def of(
        cls, types: Collection[EventType], priorities: int, originators: Collection[str], names: BoundNames
    ) -> Self | None:
        """The filter that these settings mean; None when it lets everything through."""
        if not originators and priorities == EVERY_PRIORITY and set(SERVER_TYPES) <= set(types):
            return None
        matcher = glob_matcher([each.lower() for each in originators]) if originators else None
        return cls(types, priorities, matcher, names)

    def accepts(self, message: bytes, span: Span, received: int) -> bool:
        """Whether the server gets a message of this span, received then (microseconds since the epoch)."""
        if self._originators is not None:
            host = glance(message, received).host
            decided = self._decided.get((host, span.provenance))
            if decided is None:
                name = claimed_name(self._names, host, span.provenance)
                decided = not name.disputed and self._originators(name.text.lower())
                if len(self._decided) >= _REMEMBERED:
                    self._decided.clear()
                self._decided[host, span.provenance] = decided
            if not decided:
                return False
        is_chosen = self._priorities >> priority(message) & 1
        if is_chosen and self._takes_every_type:
            return True
        own = None if span.marks & ReceiptMark.FORWARDED else identity(message)
        kind = EventType.LOG if own is None else _BY_LABEL.get(own.type, EventType.LOG)
        return kind is EventType.RELAY or bool(is_chosen and kind in self._types)
