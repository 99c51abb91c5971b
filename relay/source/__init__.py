"""Sources: where events come from, each with a position that survives a restart.

How to add a source:

1. `relay/values/configuration/source_settings.py`: a class for its [[source]] table, derived from `SourceSettings`, and
   named in `SOURCES` and `SourceTable`. It declares the keys, the types and facilities of its events, whether they are
   the audit trail, and whether they can be delivered again. The rest of relay follows from that:
   what `relay config check` expects, what a reload compares, whether the auditd watch listens.
2. `relay/source/…`: a class that implements `Source`, with a class method `from_settings(table, terms)`.
3. `relay/source/registry.py`: the line that leads from the one to the other.
"""

import asyncio
from typing import NamedTuple, Protocol

from relay.events.audit.mapping import AuditFormat, AuditMapping
from relay.events.own_events import Author
from relay.values.event import Position, Submit


class SourceTerms(NamedTuple):
    """What a source gets besides its table."""

    author: Author
    audit_format: AuditFormat
    writable: asyncio.Event | None = None
    """Set while the spool can be written; see `relay.listener.stream`."""

    def audit_mapping(self) -> AuditMapping:
        """Return the mapping for a source of audit records."""
        return AuditMapping(**self.author._asdict(), format=self.audit_format)


class EventInput(Protocol):
    """Submits events, with a position that is stored under its name."""

    name: str
    """The configured name of a source."""

    async def run(self, submit: Submit, position: Position | None, *, drain: bool) -> None:
        """Submit the events behind the position; with `drain`, return once all present events are durable.

        It runs until it is cancelled, or until `submit` raises. Events that were not durable then are submitted again
        by the next run. `run` may be called again after it ended.
        """

    def finish(self) -> float:
        """Ask `run` to return where it loses and repeats the least; it is cancelled after the returned seconds.

        0 where the position holds everything, so that a cancelled `run` loses and repeats nothing.
        """


class Source(EventInput, Protocol):
    """A configured source, as `relay run` sees it."""

    malformed: int
    """How often data could not be parsed, and was forwarded as it is, marked."""
    last_error: str
    """Why it cannot be read at present; empty while it can."""

    def adopt(self, other: "Source") -> bool:
        """Continue with the settings of `other` and keep all connections; False when that is not possible."""

    @property
    def lag(self) -> int:
        """Octets that wait to be read; -1 when that is not known."""
        return -1

    @property
    def open_events(self) -> int:
        """Events that have begun and are not complete."""
        return 0

    @property
    def loss_count(self) -> int:
        """How often in this run the file of the position was gone, or data could not be read."""
        return 0
