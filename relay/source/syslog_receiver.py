"""Programs and devices send their syslog here: the router's own rsyslog, SSR's syslog, Telegraf's outputs.syslog.

Each message is one event of type log, kept octet for octet. Streams are answered, or closed, once their messages are
durable, and can be RELP. Datagrams cannot be sent again, so they may use the spool's reserve. `relay.listener` states
the limits and the counters.

The source has no position. A drain returns at once, because only the senders know what they still have.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Self

from typing_extensions import override

from relay.errors import RelayError
from relay.events.own_events import Author
from relay.listener.conversation import RELP, SYSLOG
from relay.listener.listeners import Listeners
from relay.listener.reception.stream_terms import StreamTerms
from relay.listener.tls import ServerIdentity
from relay.source import Source, SourceTerms
from relay.system.descriptors import descriptors_for_connections, raise_descriptor_limit
from relay.values.configuration.setting_types import LARGEST_MESSAGE_SIZE
from relay.values.configuration.source_settings import SyslogSource
from relay.values.event import Position, Submit

FINISH_SECONDS: Final = 8.0
"""Longer than a listener for datagrams may take to store what the kernel still holds."""


class SyslogReceiver(Source):
    """The source `syslog`."""

    def __init__(self, table: SyslogSource, author: Author, writable: asyncio.Event | None = None) -> None:
        self.name = table.name
        self.malformed = 0
        self.last_error = ""
        self.table = table
        self.author = author
        self._writable = writable
        self._listeners: Listeners | None = None
        self._identity: ServerIdentity | None = None
        self._finishing = asyncio.Event()

    @classmethod
    def from_settings(cls, table: SyslogSource, terms: SourceTerms) -> Self:
        """See `relay.source.registry`."""
        return cls(table, terms.author, terms.writable)

    def __repr__(self) -> str:
        return f"<SyslogReceiver {self.name!r} {self.table.origin}>"

    @override
    async def run(self, submit: Submit, position: Position | None, *, drain: bool) -> None:
        """Listen until cancelled; a RelayError explains why that is not possible."""
        if drain:
            return
        descriptors = descriptors_for_connections(raise_descriptor_limit())
        listeners = Listeners(submit, self.table, lambda: self.author, descriptors)
        try:
            for url in self.table.listen:
                await listeners.begin(url, self._terms_of(str(url)))
            if (tls := self.table.tls) is not None:
                self._identity = ServerIdentity(tls)
                await listeners.begin_tls(tls.listen, self._identity, self._terms_of(f"tls://{tls.listen}"))
            self._listeners = listeners
            await self._finishing.wait()
        finally:
            self._listeners = None
            await listeners.end_all()

    @override
    def finish(self) -> float:
        """End once what the kernel holds of datagrams is durable; streams are broken off, and their senders repeat."""
        self._finishing.set()
        return FINISH_SECONDS

    @override
    def adopt(self, other: Source) -> bool:
        if not isinstance(other, SyslogReceiver) or other.table.origin != self.table.origin:
            return False
        if other.table.tls is not None and self._identity is not None:
            try:
                self._identity.exchange(other.table.tls)
            except RelayError:  # begun anew it shows why, and refuses its senders until the files can be used
                return False
        self.table, self.author = other.table, other.author
        if self._listeners is not None:
            self._listeners.exchange(self.table, self._terms_of)
        return True

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """The counters of each listener, and of all together."""
        if self._listeners is None:
            return {}
        return {"listeners": self._listeners.totals(), **self._listeners.by_url()}

    def _terms_of(self, url: str) -> StreamTerms:
        return StreamTerms(
            dialects=(RELP, SYSLOG),
            max_message_size=LARGEST_MESSAGE_SIZE,
            first_message_timeout=self.table.first_message_timeout,
            listener=url,
            writable=self._writable,
        )
