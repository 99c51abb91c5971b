"""The message that a connection test sends: RFC 5424, visibly a test, and without an identity. Pure.

    <46>1 TIME HOSTNAME relay PROCID TEST [128T type="relay" router="…" node="…"] test message of …

PRI 46 is facility 5 (messages that the syslog system makes itself) and severity informational. Without relayRun and
relaySeq no receiver treats it as an event or counts it in a sequence. It has fewer than 480 octets (RFC 5424 section
6.1: every receiver accepts so many) and no line feed, so that it fits both framings.
"""

from typing import Final

from relay.events.envelope import Envelope
from relay.spool.block import CHAIN_START, RUN_LENGTH, Block, Contents, Span
from relay.spool.block import encode as encode_block
from relay.syslog.rfc5424 import format_timestamp
from relay.values.configuration.settings import Settings
from relay.values.event import EventType

PRIORITY: Final = 46
MSGID: Final = b"TEST"
TEXT: Final = b"test message of `relay test-connection`; it stands for no event"


def test_message(settings: Settings, hostname: str, procid: int, now: int) -> bytes:
    """The message's octets; `now` in microseconds since the epoch."""
    router = settings.relay.router or hostname
    envelope = Envelope(hostname=hostname, router=router, node=settings.relay.node, sd_id=settings.audit.sd_id)
    head = envelope.head(PRIORITY, format_timestamp(now), b"relay", MSGID, procid=b"%d" % procid)
    return head + envelope.origin(EventType.RELAY) + b"] " + TEXT


def padded(message: bytes, octets: int) -> bytes:
    """The message, with letters added to its text up to this size; unchanged when it has that size already."""
    return message if octets <= len(message) else (message + b" ").ljust(octets, b"x")


def block_of(message: bytes, committed: int) -> Block:
    """A block that holds only this message, as a delivery session sends it; `committed` in microseconds."""
    contents = Contents([Span(EventType.RELAY, 0, 1)], [message], [], 0, committed, committed, len(message))
    header, octets = encode_block(contents, 1, bytes(RUN_LENGTH), committed, CHAIN_START)
    return Block(header, octets[header.length :])
