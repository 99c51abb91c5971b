"""The dialects and limits of a listener's streams."""

import asyncio
import logging
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from relay.listener.conversation import SYSLOG, Dialect
from relay.listener.reception.aside import Aside
from relay.syslog.framing import DEFAULT_MAX_MESSAGE_SIZE
from relay.system.rare_log import RareLog

_log = logging.getLogger("relay.listener.stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTerms:
    """The dialects and limits of one stream; times in seconds."""

    dialects: tuple[Dialect, ...] = (SYSLOG,)
    """The last one is the dialect of streams whose first octets match none of the others."""
    max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE
    idle_timeout: float = 86_400.0  # how long a stream may be silent between two frames before it is closed
    silent_timeout: float = 60.0
    """How long a sender that nobody verified may send nothing at all."""
    first_message_timeout: float = 600.0
    """How long a connection may last without a message."""
    frame_timeout: float = 60.0
    """How long the rest of a frame, or the reading of relay's answers, may take before the stream is aborted."""
    undurable_batches: int = 2
    answer_within: float | None = None
    """How long a message may be unanswered before a stream is ended whose dialect `parts`. None: without limit."""
    writable: asyncio.Event | None = None
    """Set while the spool can be written."""
    listener: str = ""
    """The listener's URL, for the messages' provenance. Empty: they have none; a source of relay's reads them."""
    aside: Aside | None = None
    """Keeps the first octets of streams that are not syslog."""
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """The peers whose streams begin with a PROXY header; see `relay.listener.proxied_stream`."""
    notices: RareLog = field(default_factory=lambda: RareLog(_log))
