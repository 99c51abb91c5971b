"""The conditions on events, and what they rule out before a message is parsed.

In an archive, whole days and extents are ruled out by their ledgers (`rules_out_day`, `line_query`); in a spool, blocks
by their headers (`may_be_in_block`). A message without a usable time counts at its time of receipt.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from relay.archive.ledger import Closing, Extent
from relay.archive.reading.day_log import A_DAY, Piece
from relay.archive.reading.line_search import LineQuery
from relay.program.history.past_event import PastEvent
from relay.syslog import outcome, rfc5424
from relay.syslog.lenient.reader import read
from relay.syslog.lenient.reading import Reading
from relay.syslog.priority import priority
from relay.values.event import EventType
from relay.values.glob_matcher import GlobMatcher
from relay.values.text import decoded

_GROUPING: Final = re.compile(rb"[|()\[\]{}\\]")
_LITERAL: Final = re.compile(rb"(?:[^.^$*+?](?![*?]))+\+?")
"""Octets that mean themselves. One that `*` or `?` follows is optional."""

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Selects the events that meet every given condition. Of several values of a condition one must match."""

    types: frozenset[str] = frozenset()
    routers: frozenset[bytes] = frozenset()
    """A HOSTNAME, or an SD-PARAM `router`."""
    earliest: int | None = None
    latest: int | None = None
    texts: tuple[bytes, ...] = ()
    """Octets that the message holds."""
    expressions: tuple[re.Pattern[bytes], ...] = ()
    """Regular expressions, of which one is found in the message."""
    severity: int | None = None
    """This severity (RFC 5424 table 2) and the more severe ones, which have lower numbers."""
    msgids: GlobMatcher | None = None
    programs: GlobMatcher | None = None
    """APP-NAME, or the tag of RFC 3164 without its process id."""
    fields: tuple[tuple[bytes, GlobMatcher], ...] = ()
    """SD-PARAMs by name, each with a matcher for its value; an event must have all of them."""
    failed: bool = False
    """Only events that report a failure (`relay.syslog.outcome`)."""
    originators: GlobMatcher | None = None
    """Of an archive only: the originator's folder, or the one that could not be written."""
    received_from: int | None = None
    received_to: int | None = None
    """Of an archive only: time of receipt, as exact as an extent of the ledger."""
    peers: Networks = ()
    """Of an archive only: the sender's address."""
    identities: GlobMatcher | None = None
    """Of an archive only: what was verified about the sender."""

    def may_be_in_block(self, types: frozenset[EventType], earliest: int, latest: int) -> bool:
        """Whether a block of a spool with these types and times can hold a selected event."""
        if EventType.LOG in types:
            return True
        if self.types and not any(kind.label in self.types for kind in types):
            return False
        return bool(types) and self._in_span(earliest, latest)

    def rules_out_receipt(self, first: int, last: int) -> bool:
        """Whether no event that was received in this span is selected by its time of receipt."""
        return (self.received_from is not None and last < self.received_from) or (
            self.received_to is not None and first > self.received_to
        )

    def rules_out_day(self, begin: int, closing: Closing) -> bool:
        """Whether a closed day, which began at this time, holds no selected event; messages without a time counted."""
        spans = ((begin, begin + A_DAY), closing.time or (begin, begin), *closing.outliers)
        return not any(self._in_span(*span) for span in spans)

    def line_query(self) -> LineQuery:
        """What this filter rules out in an archive before messages are parsed."""
        texts = self.texts
        if not texts:
            texts = tuple(octets for router in self.routers for octets in {router, rfc5424.escape_value(router)})
        if not texts:
            literals = tuple(literal_in(expression.pattern) for expression in self.expressions)
            texts = literals if all(literals) else ()
        limits = (self.earliest, self.latest, self.received_from, self.received_to)
        on_pieces = bool(self.types or self.peers or self.identities or any(limit is not None for limit in limits))
        return LineQuery(self._may_be_in_piece if on_pieces else None, texts)

    def _may_be_in_piece(self, piece: Piece) -> bool:
        extent = piece.extent
        if extent is None:
            return not self.peers and self.identities is None
        if self.rules_out_receipt(*extent.at) or not (
            self._in_span(*extent.at) or (extent.time is not None and self._in_span(*extent.time))
        ):
            return False
        if (
            self.types
            and EventType.LOG.label not in self.types
            and not any(len(identity) > 1 and identity[1] in self.types for identity in extent.id)
        ):
            return False
        return self._is_from(extent)

    def _is_from(self, extent: Extent) -> bool:
        if self.identities is not None and not self.identities(extent.identity or ""):
            return False
        if not self.peers:
            return True
        try:
            address = ipaddress.ip_address(extent.sender)
        except ValueError:  # the name of this machine: a Unix socket
            return False
        return any(address in network for network in self.peers)

    def _in_span(self, earliest: int, latest: int) -> bool:
        return (self.earliest is None or latest >= self.earliest) and (self.latest is None or earliest <= self.latest)

    def takes(self, event: PastEvent) -> bool:
        """Whether the event is selected, by all that its message shows."""
        return (
            (not self.types or event.type in self.types)
            and (not self.texts or any(text in event.message for text in self.texts))
            and ((self.earliest is None and self.latest is None) or self._in_span(event.time, event.time))
            and (self.severity is None or _severity(event.message) <= self.severity)
            and (not self.routers or any(_is_of(router, event.message) for router in self.routers))
            and (not self.expressions or any(each.search(event.message) for each in self.expressions))
            and (not (self.msgids or self.programs or self.fields or self.failed) or self._takes_parsed(event.message))
        )

    def _takes_parsed(self, octets: bytes) -> bool:
        reading = read(octets, 0)
        return (
            (self.msgids is None or self.msgids(decoded(reading.msgid or b"")))
            and (self.programs is None or self.programs(decoded(reading.app or b"")))
            and all(_has(reading, name, matches) for name, matches in self.fields)
            and (not self.failed or ((event := rfc5424.parsed(octets)) is not None and outcome.failed(event)))
        )


def literal_in(pattern: bytes) -> bytes:
    """The longest octets that every match of a regular expression has; empty when that is not obvious."""
    if _GROUPING.search(pattern):
        return b""
    return max((found[0].rstrip(b"+") for found in _LITERAL.finditer(pattern)), key=len, default=b"")


def _severity(message: bytes) -> int:
    """From its PRI; notice without one (RFC 3164 section 4.3.3)."""
    value = priority(message)
    return (value if message.startswith(b"<%d>" % value) else read(message, 0).priority) & 7


def _has(reading: Reading, name: bytes, matches: GlobMatcher) -> bool:
    return any(
        found == name and matches(decoded(value))
        for element in reading.structured_data
        for found, value in element.params
    )


def _is_of(router: bytes, message: bytes) -> bool:
    if router not in message and rfc5424.escape_value(router) not in message:
        return False
    if rfc5424.hostname(message) == router:
        return True
    reading = read(message, 0)
    return reading.host == router or any((b"router", router) in each.params for each in reading.structured_data)


class Names(NamedTuple):
    """The names in a message that a filter can use."""

    routers: frozenset[str] = frozenset()
    msgids: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()


def names_in(octets: bytes) -> Names:
    """The names in a message."""
    reading = read(octets, 0)
    params = [param for element in reading.structured_data for param in element.params]
    routers = [reading.host or b"", *(value for name, value in params if name == b"router")]
    return Names(
        frozenset(decoded(router) for router in routers if router),
        frozenset([decoded(reading.msgid)] if reading.msgid else []),
        frozenset(decoded(name) for name, _ in params),
    )
