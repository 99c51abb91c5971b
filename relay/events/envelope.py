"""The beginning that all messages of one router share, in the two pieces between which the spool puts the identity.

    <PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID [SD-ID     `head`
     type="…" router="…" node="…"                              `origin`

Names are cut and cleaned as RFC 5424 section 6 demands. A parameter without a value is omitted.
"""

import re
from typing import Final

from relay.syslog.rfc5424 import MAX_HOSTNAME, NILVALUE, escape_value, legal_header, legal_name
from relay.values.event import EventType

OWN_NAMES: Final = frozenset(b"relayRun relaySeq relayPart type router node serial late malformed truncated".split())
"""SD-PARAMs that the message itself uses; fields of these names are written under another one."""
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_UNCLEAN: Final = re.compile(rb'[\x00-\x08\x0b-\x1f\x7f"\\\]]')


class Envelope:
    """Writes the beginning of one router's messages."""

    def __init__(self, *, hostname: str, router: str, node: str, sd_id: str) -> None:
        self._hostname = legal_header(hostname.encode(), MAX_HOSTNAME)
        self._sd_id = legal_name(sd_id.encode())
        self._router = router.encode()
        self._node = node.encode()

    def head(
        self,
        priority: int,
        timestamp: bytes,
        app_name: bytes,
        msgid: bytes,
        *,
        procid: bytes = NILVALUE,
        hostname: bytes = b"",
    ) -> bytes:
        """Write the header and the SD-ID; `hostname` replaces the router's. The arguments must be legal fields."""
        shown = (priority, timestamp, hostname or self._hostname, app_name, procid, msgid, self._sd_id)
        return b"<%d>1 %b %b %b %b %b [%b" % shown

    def origin(self, kind: EventType, *, router: bytes = b"", node: bytes = b"") -> bytes:
        """Write `type`, `router` and `node`; given names replace the router's own."""
        params = (
            (b"type", kind.label.encode()),
            (b"router", router or self._router),
            (b"node", node or self._node),
        )
        return b"".join(sd_param(name, value) for name, value in params if value)


def sd_param(name: bytes, value: bytes) -> bytes:
    """Write any name and any value as an SD-PARAM with the space before it.

    Line feeds and tabs stay, other control octets are written as `#033` (octal).
    """
    if not value.isascii() or _UNCLEAN.search(value):
        value = escape_value(_CONTROL.sub(lambda found: b"#%03o" % found[0][0], value))
    return b' %b="%b"' % (legal_name(name), value)
