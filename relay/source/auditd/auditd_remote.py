"""The router's own audisp-remote sends here, on loopback, the records that its auditd dispatches.

A record is acknowledged once it is durable. So relay's spool holds the backlog that does not fit in audisp-remote's
queue, and a lost connection to the log server has no effect on the router. Each record is an event of its own:
audisp-remote waits for each answer before it sends the next record, so none can be held back until its event is
complete. An EOE is acknowledged and not kept.

While the disk stalls or refuses, a stream whose record has no answer within `answer_within` is closed. audisp-remote
3.0.9 then connects again, at once or with its next record. After its own timeout it does so only when no record has
come for `heartbeat_timeout`. Records of all streams are submitted one by one, so a record that is sent again and again
until the disk is back is stored at most twice.

The source has no position: the sender keeps unacknowledged records and sends them again with another number, at least
once. A malformed line is forwarded unchanged, marked, and counted in `malformed`. `relay.listener.stream` states the
limits for memory and for senders.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, Self

from typing_extensions import override

from relay.events.audit.mapping import AuditMapping
from relay.events.audit.record import parse, without_padding
from relay.listener.admission.admission import Admission
from relay.listener.conversation import AUDITD, one_by_one
from relay.listener.reception.listener_counters import ListenerCounters
from relay.listener.reception.stream_terms import StreamTerms
from relay.listener.stream import ANSWER_WITHIN
from relay.listener.tcp import TcpListener
from relay.source import Source, SourceTerms
from relay.source.batch_in_flight import BatchesInTurn
from relay.system.descriptors import descriptors_for_connections, raise_descriptor_limit
from relay.values.configuration.listener_url import ListenerUrl
from relay.values.configuration.source_settings import AuditdRemoteSource
from relay.values.event import Event, Position, Submit

FINISH_SECONDS: Final = 5.0
LAST_ANSWER_SECONDS: Final = 0.1


class AuditdRemote(Source):
    """The source `auditd-remote`. A drain returns at once, because only the senders know what they still have."""

    def __init__(
        self,
        name: str,
        listen: Sequence[ListenerUrl],
        mapping: AuditMapping,
        *,
        answer_within: float = ANSWER_WITHIN,
    ) -> None:
        self.name = name
        self.listen = listen
        self.malformed = 0
        self.last_error = ""
        self.counters = ListenerCounters()
        self.mapping = mapping
        self._answer_within = answer_within
        self._finishing = asyncio.Event()

    @classmethod
    def from_settings(cls, table: AuditdRemoteSource, terms: SourceTerms) -> Self:
        """See `relay.source.registry`."""
        return cls(table.name, table.listen, terms.audit_mapping())

    def __repr__(self) -> str:
        addresses = ", ".join(map(str, self.listen))
        return f"<AuditdRemote {self.name!r} {addresses} messages={self.counters.messages}>"

    @override
    async def run(self, submit: Submit, position: Position | None, *, drain: bool) -> None:
        """Listen until cancelled; a RelayError explains why that is not possible."""
        if drain:
            return
        terms = StreamTerms(
            dialects=(AUDITD._replace(events=one_by_one(self._event)),), answer_within=self._answer_within
        )
        batches = BatchesInTurn(submit)
        admission = Admission(descriptors=descriptors_for_connections(raise_descriptor_limit()))
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(admission.close)
            for url in self.listen:
                listener = TcpListener(
                    *url.address, batches.submit, counters=self.counters, terms=terms, admission=admission
                )
                await stack.enter_async_context(listener)
            await self._finishing.wait()
            await batches.close()
            # The sender answers with its next record. If that stays unread, our close becomes a reset, after which
            # audisp-remote connects again only when no record has come for `heartbeat_timeout`.
            await asyncio.sleep(LAST_ANSWER_SECONDS)

    @override
    def finish(self) -> float:
        """End once the submitted records are durable and answered: senders then send the rest again, and no more."""
        self._finishing.set()
        return FINISH_SECONDS

    @override
    def adopt(self, other: Source) -> bool:
        if not isinstance(other, AuditdRemote) or other.listen != self.listen:
            return False
        self.mapping = other.mapping
        return True

    def _event(self, record: bytes, now_us: int, _peer: str) -> Event:
        record = without_padding(record)
        parsed = parse(record)
        self.malformed += parsed is None or bool(parsed.joined)
        return self.mapping.single(parsed, record, now_us)
