"""The message that a connection test sends: RFC 5424, visibly a test, and without an identity. Pure.

    <46>1 TIME HOSTNAME relay PROCID TEST [128T type="relay" router="…" node="…"] test message of …

PRI 46 is facility 5 (messages that the syslog system makes itself) and severity informational. Without relayRun and
relaySeq no receiver treats it as an event or counts it in a sequence. It has fewer than 480 octets (RFC 5424 section
6.1: every receiver accepts so many) and no line feed, so that it fits both framings.
"""

from typing import Final

from relay.spool.block import CHAIN_START, RUN_LENGTH, Block, Contents, Span, frame
from relay.spool.block import encode as encode_block
from relay.syslog.rfc5424 import MAX_HOSTNAME, Element, Message, encode, format_timestamp, legal_header
from relay.values.event import EventType
from relay.values.settings import Settings

FACILITY: Final = 5
SEVERITY: Final = 6
MSGID: Final = b"TEST"
TEXT: Final = b"test message of `relay test-connection`; it stands for no event"


def test_message(settings: Settings, hostname: str, procid: int, now: int) -> bytes:
    """The message's octets; `now` in microseconds since the epoch."""
    params = (("type", "relay"), ("router", settings.relay.router or hostname), ("node", settings.relay.node))
    filled = tuple((name.encode(), value.encode()) for name, value in params if value)
    return encode(
        Message(
            facility=FACILITY,
            severity=SEVERITY,
            timestamp=format_timestamp(now),
            hostname=legal_header(hostname.encode(), MAX_HOSTNAME),
            app_name=b"relay",
            procid=b"%d" % procid,
            msgid=MSGID,
            structured_data=(Element(settings.audit.sd_id.encode(), filled),),
            msg=TEXT,
        )
    )


def padded(message: bytes, octets: int) -> bytes:
    """The message, with letters added to its text up to this size; unchanged when it has that size already."""
    return message if octets <= len(message) else (message + b" ").ljust(octets, b"x")


def block_of(message: bytes, committed: int) -> Block:
    """A block that holds only this message, as a delivery session sends it; `committed` in microseconds."""
    contents = Contents([Span(EventType.RELAY, 0, 1)], [frame(message)], [], 0, committed, committed, len(message))
    header, octets = encode_block(contents, 1, bytes(RUN_LENGTH), committed, CHAIN_START)
    return Block(header, octets[header.length :])
