"""relay's own events in an extent of a log, found by their octets.

What came through a router's relay from another program (`forwarded`) is not that relay's, whatever it says, and what is
cut or unterminated has no number. Both are passed over.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.archive.ledger import Extent
from relay.archive.log_line import unescape
from relay.archive.reading.day_log import marks_at
from relay.archive.reading.line_search import message_of_json
from relay.syslog import rfc5424
from relay.values.provenance import ReceiptMark

_RELAY: Final = b"relay"
_OWN: Final = b' type="relay"'
_OWN_IN_JSON: Final = b'type=\\"relay\\"'
_WITHOUT_IDENTITY: Final = frozenset(ReceiptMark(7).labels)


class OwnEvent(NamedTuple):
    """One of relay's own events."""

    run: bytes
    message: bytes


def own_events_in(extent: Extent, octets: bytes, *, is_json: bool) -> Iterator[OwnEvent]:
    """The events of type relay among an extent's lines; `octets` are the lines, from their beginning."""
    wanted, read = (_OWN_IN_JSON, message_of_json) if is_json else (_OWN, unescape)
    counted = line = 0
    at = octets.find(wanted)
    while at >= 0:
        begin, end = octets.rfind(b"\n", 0, at) + 1, octets.find(b"\n", at)
        if end < 0:
            end = len(octets)
        line += octets.count(b"\n", counted, begin)
        counted = begin
        if not extent.marks or _WITHOUT_IDENTITY.isdisjoint(marks_at(extent, line)):
            message = read(octets[begin:end])
            identity = rfc5424.identity(message)
            if identity is not None and identity.type == _RELAY:
                yield OwnEvent(identity.run, message)
        at = octets.find(wanted, end)
