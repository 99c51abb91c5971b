"""A record that another machine's auditd sent, as an RFC 5424 message without identity.

It is the message that relay writes for a single record (`mapping`), with the record's `node` as HOSTNAME, else the
peer's address. The sender numbers nothing and keeps no position, so the message has no `relayRun`, and a record that
comes twice is kept twice. A malformed record is marked `malformed`, and kept.
"""

import re
from functools import lru_cache
from typing import Final

from relay.events.audit.mapping import AuditMapping
from relay.events.audit.record import parse, without_padding
from relay.values.address import canonical_host
from relay.values.event import Event, EventType

_REMEMBERED_HOSTS: Final = 256
_HOST: Final = re.compile(r"[a-z]+://(?:\[([^\]]*)\]|([^:/ ]*))")


def received_record(record: bytes, now_us: int, peer: str) -> Event:
    """Map a record that came at `now_us` (since the epoch) from `peer`, a URL."""
    record = without_padding(record)
    parsed = parse(record)
    if parsed is not None and parsed.node:
        hostname = parsed.node.decode("ascii")
    else:
        match = _HOST.match(peer)
        hostname = canonical_host(match[1] or match[2] or "") if match else ""
    mapping = _mapping(hostname)
    event = mapping.single(parsed, record, now_us)
    return Event(EventType.LOG, event.time, event.head + event.tail)


@lru_cache(_REMEMBERED_HOSTS)
def _mapping(hostname: str) -> AuditMapping:
    return AuditMapping(hostname=hostname, router=hostname)
