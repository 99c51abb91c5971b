"""The router's own audisp-remote sends here, on loopback, what its auditd dispatches.

A record is acknowledged once it is durable, so relay's spool carries what audisp-remote's queue cannot, and a lost link
to the log server no longer reaches the router. Events go record by record: audisp-remote waits for each answer before
it sends the next record, so none can be held back until its event is whole. An EOE is acknowledged and not kept.

While the disk stalls or refuses, a stream whose record is not answered within `ANSWER_WITHIN` is closed: an end of file
has audisp-remote 3.0.9 connect again, at once or with its next record; once its own patience has run out, it does so
only when no record has come for `heartbeat_timeout`. Records are taken in one by one, whatever the stream, so one that
is sent again and again until the disk is back is stored at most twice.

There is no position. The sender keeps what is not acknowledged and sends it again, then under another number: at least
once. A line that is no record is forwarded as it is, marked, and counted in `malformed`. Memory, and what a sender may
ask of us: as `relay.listener.stream` says.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, Self

from relay.events.audit.assembly import AuditEvent
from relay.events.audit.mapping import AuditMapping
from relay.events.audit.record import parse, without_padding
from relay.listener.conversation import AUDITD
from relay.listener.stream import ListenerCounters, StreamTerms
from relay.listener.tcp import TcpListener
from relay.source import Source, SourceTerms
from relay.values.address import Address
from relay.values.event import Batch, Event, Position, Submit
from relay.values.settings import AuditdRemoteSource

ANSWER_WITHIN: Final = 3.0
"""Seconds; less than the 5 that audisp-remote has for a record unless it is told otherwise."""
FINISH_SECONDS: Final = 5.0
LAST_ANSWER_SECONDS: Final = 0.1


class AuditdRemote:
    """The source `auditd-remote`. Draining it takes nothing in: what its senders keep is not there "now"."""

    lag = -1
    """What a sender still has nobody can tell."""
    open_events = 0
    lost_places = 0
    last_error = ""

    def __init__(
        self,
        name: str,
        listen: Sequence[Address],
        mapping: AuditMapping,
        *,
        answer_within: float = ANSWER_WITHIN,
    ) -> None:
        self.name = name
        self.listen = listen
        self.malformed = 0
        self.counters = ListenerCounters()
        self.mapping = mapping
        self._answer_within = answer_within
        self._finishing = asyncio.Event()

    @classmethod
    def from_settings(cls, table: AuditdRemoteSource, terms: SourceTerms) -> Self:
        """See `relay.source.registry`."""
        return cls(table.name, table.listen, terms.audit_mapping())

    def __repr__(self) -> str:
        where = ", ".join(map(str, self.listen))
        return f"<AuditdRemote {self.name!r} {where} messages={self.counters.messages}>"

    async def run(self, submit: Submit, position: Position | None, *, drain: bool) -> None:
        """Listen until cancelled; a RelayError says why that cannot be."""
        del position
        if drain:
            return
        terms = StreamTerms(dialects=(AUDITD._replace(event=self._event),), answer_within=self._answer_within)
        taking_in = _OneByOne(submit)
        async with contextlib.AsyncExitStack() as stack:
            for address in self.listen:
                listener = TcpListener(
                    address.host, address.port, taking_in.submit, counters=self.counters, terms=terms
                )
                await stack.enter_async_context(listener)
            await self._finishing.wait()
            await taking_in.close()
            # The sender answers with its next record. Unread, it would make a reset of our close, after which
            # audisp-remote comes back only when it has been silent for `heartbeat_timeout`.
            await asyncio.sleep(LAST_ANSWER_SECONDS)

    def finish(self) -> float:
        """End once what was taken in is durable and answered: senders send the rest again, and nothing twice."""
        self._finishing.set()
        return FINISH_SECONDS

    def adopt(self, other: Source) -> bool:
        """Write events as `other` would, and keep the connections."""
        if not isinstance(other, AuditdRemote) or other.listen != self.listen:
            return False
        self.mapping = other.mapping
        return True

    def _event(self, record: bytes, now_us: int, peer: str) -> Event:
        del peer
        record = without_padding(record)
        parsed = parse(record)
        if parsed is None:
            self.malformed += 1
            return self.mapping.malformed(record, now_us)
        self.malformed += bool(parsed.joined)
        return self.mapping.events(AuditEvent((parsed,)))[0]


class _OneByOne:
    """Submits each batch when the one before it is durable: a sender that repeats itself meanwhile gives no doubles."""

    def __init__(self, submit: Submit) -> None:
        self._submit = submit
        self._turn = asyncio.Lock()
        self._last: asyncio.Future[None] | None = None

    async def submit(self, batch: Batch) -> "asyncio.Future[None]":
        """Wait for its turn, and submit it; cancelled before, it is not taken in."""
        async with self._turn:
            if self._last is not None:
                await asyncio.wait([self._last])  # which leaves it as it is when we are cancelled
            self._last = await self._submit(batch)
            return self._last

    async def close(self) -> None:
        """Take in nothing more, and return when the last batch is durable."""
        await self._turn.acquire()
        if self._last is not None:
            await asyncio.wait([self._last])
