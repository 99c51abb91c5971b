"""Gaps: losses that are counted. Pure values; a gap waits in a slot until an event in the spool reports it.

A gap belongs to one destination, or to all (`server` empty) when the events were never accepted. Ranges of the same run
and type grow together. A gap with more than `MAX_RANGES` of them names the ranges that grew last and counts the rest: a
run that continues is partly delivered, so its numbers are needed to check it; of a run that is gone whole they are not.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from relay.spool.block import Block, Header, Span, spans_between
from relay.spool.both_spools import BothSpools
from relay.syslog.rfc5424 import NotRfc5424Error, parse
from relay.values.event import EventType

MAX_RANGES: Final = 24
_HEADER_OCTETS: Final = 512
"""RFC 5424's header fields, with the longest HOSTNAME that there may be."""


class LostRange(msgspec.Struct, frozen=True, array_like=True):
    """So many events of one run and type are lost, the first and the last of them by number."""

    run: str
    type: int
    first: int
    last: int
    events: int

    @property
    def label(self) -> str:
        """The type's name."""
        return EventType(self.type).label

    def grew_to(self, now: "LostRange") -> bool:
        """Whether `now` is this range with more events, not a later one of the same run and type."""
        return (now.run, now.type) == (self.run, self.type) and now.first <= self.first and now.events >= self.events


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A counted loss that no event reports yet. The fields are those of its slot."""

    server: str = ""
    number: int = 1
    """Counts the gaps of this server: two events with one number report one gap."""
    cause: str = ""
    ranges: tuple[LostRange, ...] = ()
    unnamed: int = 0
    """Events of ranges that made way for MAX_RANGES others."""
    retained: int = 0
    """Blocks of the retained spool before this number are counted, and are not delivered any more."""
    transient: int = 0
    retained_part: int = 0
    """So many messages at the beginning of block `retained` are counted as well."""
    transient_part: int = 0
    damaged_retained: int = 0
    """What damage took before this block of the retained spool is counted."""
    damaged_transient: int = 0
    in_doubt: tuple[LostRange, ...] = ()
    """Deleted while under way to the server: they are not lost if the proof still comes."""
    positions: dict[str, tuple[int, bytes]] = {}
    """The positions that sources reached with refused events, by source: (events, data). Older relays wrote it."""

    @property
    def events(self) -> int:
        """How many events are lost."""
        return sum(each.events for each in self.ranges) + self.unnamed

    @property
    def reached(self) -> BothSpools[tuple[int, int]]:
        """Block and part of each spool before which all is counted: comparable."""
        return BothSpools((self.retained, self.retained_part), (self.transient, self.transient_part))

    @property
    def damaged(self) -> BothSpools[int]:
        """The block of each spool before which damage is counted."""
        return BothSpools(self.damaged_retained, self.damaged_transient)

    def at(self, reached: BothSpools[tuple[int, int]]) -> "Gap":
        """The gap with all counted that is before these points."""
        (retained, retained_part), (transient, transient_part) = reached
        return msgspec.structs.replace(
            self,
            retained=retained,
            transient=transient,
            retained_part=retained_part,
            transient_part=transient_part,
        )

    def with_damage(self, damaged: BothSpools[int]) -> "Gap":
        """The gap with the damage counted that is before these blocks."""
        return msgspec.structs.replace(self, damaged_retained=damaged.retained, damaged_transient=damaged.transient)

    def within(self, ends: BothSpools[int]) -> "Gap":
        """The gap of spools that end before these blocks: later numbers come again when blocks were lost with files."""
        reached = [min(reached, (end, 0)) for reached, end in zip(self.reached, ends, strict=True)]
        return self.at(BothSpools(*reached)).with_damage(BothSpools(*map(min, self.damaged, ends)))

    def add(self, cause: str, lost: Iterable[LostRange]) -> "Gap":
        """The gap with more losses."""
        ranges, unnamed = merged((*self.ranges, *lost))
        causes = self.cause if cause in self.cause.split(", ") else ", ".join(filter(None, (self.cause, cause)))
        return msgspec.structs.replace(self, cause=causes, ranges=ranges, unnamed=self.unnamed + unnamed)

    def doubt(self, under_way: Iterable[LostRange]) -> "Gap":
        """The gap with more events in doubt."""
        in_doubt, unnamed = merged((*self.in_doubt, *under_way))
        return msgspec.structs.replace(self, in_doubt=in_doubt, unnamed=self.unnamed + unnamed)

    def after_report(self, reported: "Gap") -> "Gap":
        """The rest, after an event has reported this much of the gap."""
        grown = {(each.run, each.type): each for each in reported.ranges if any(map(each.grew_to, self.ranges))}
        rest = tuple(_rest(each, grown.get((each.run, each.type))) for each in self.ranges)
        displaced = sum(each.events for each in reported.ranges) - sum(each.events for each in grown.values())
        return msgspec.structs.replace(
            self,
            number=self.number + 1,
            cause=self.cause if any(each.events for each in rest) else "",
            ranges=tuple(each for each in rest if each.events),
            unnamed=self.unnamed - reported.unnamed - displaced,
            positions={} if self.positions == reported.positions else self.positions,
        )

    def params(self) -> list[tuple[str, str]]:
        """The gap as an event's SD-PARAMs; an empty value is left out. `reported_gap` reads them back."""
        return [
            ("server", self.server),
            ("gap", str(self.number)),
            ("cause", self.cause),
            ("events", str(self.events)),
            *(("lost", f"{each.run} {each.label} {each.first} {each.last} {each.events}") for each in self.ranges),
            ("unnamed", str(self.unnamed) if self.unnamed else ""),
        ]

    def encode(self) -> bytes:
        """The value of its slot."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes, server: str) -> "Gap":
        """From a slot's value; an unreadable value counts as an empty gap."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError:
            return cls(server=server)


def reported_gap(message: bytes) -> Gap | None:
    """The gap that an event of relay's own reports, from the message's octets; None when it is not a gap event.

    The inverse of `Gap.params`: needed when a gap event is itself deleted undelivered.
    """
    if b" GAP [" not in message[:_HEADER_OCTETS]:
        return None
    try:
        elements = parse(message).structured_data
        params = [(name.decode(), value.decode()) for element in elements for name, value in element.params]
        values = dict(params)
        ranges = tuple(_range_from(value) for name, value in params if name == "lost")
        number, unnamed = int(values.get("gap", 1)), int(values.get("unnamed", 0))
        return Gap(
            server=values.get("server", ""), number=number, cause=values["cause"], ranges=ranges, unnamed=unnamed
        )
    except (NotRfc5424Error, KeyError, ValueError):
        return None


def _range_from(text: str) -> LostRange:
    run, label, first, last, events = text.split()
    return LostRange(run, int(EventType.from_label(label)), int(first), int(last), int(events))


def merged(ranges: Iterable[LostRange]) -> tuple[tuple[LostRange, ...], int]:
    """One range for each run and type: the MAX_RANGES that grew last, and how many events the others have."""
    whole: dict[tuple[str, int], LostRange] = {}
    unnamed = 0
    for each in ranges:
        known = whole.pop((each.run, each.type), each)
        first, last = min(known.first, each.first), max(known.last, each.last)
        events = each.events + (known.events if known is not each else 0)
        whole[each.run, each.type] = LostRange(each.run, each.type, first, last, events)
        if len(whole) > MAX_RANGES:
            unnamed += whole.pop(next(iter(whole))).events
    return tuple(whole.values()), unnamed


def _rest(now: LostRange, reported: LostRange | None) -> LostRange:
    if reported is None:
        return now
    return LostRange(now.run, now.type, min(reported.last + 1, now.last), now.last, now.events - reported.events)


def ranges_of(header: Header, types: int, part: int = 0) -> list[LostRange]:
    """What a block holds of these types (a bitmap), without its first `part` messages."""
    run = header.run.hex()
    spans = spans_between(header.spans, part, header.messages) if part else header.spans
    return [range_of(run, span) for span in spans if types >> span.type & 1]


def range_of(run: str, span: Span) -> LostRange:
    """A span as a loss."""
    return LostRange(run, int(span.type), span.first, span.first + span.messages - 1, span.messages)


def reported_gaps(found: Block) -> list[tuple[int, Gap]]:
    """The gaps that the events of one block report, each with the event's index in the block."""
    if not found.header.types_present >> EventType.RELAY & 1:
        return []
    reported = (
        (index, reported_gap(message))
        for index, (kind, _, message) in enumerate(found.messages())
        if kind is EventType.RELAY
    )
    return [(index, gap) for index, gap in reported if gap is not None]
