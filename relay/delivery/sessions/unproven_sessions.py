"""Syslog to collectors that cannot prove delivery: over UDP, to this machine, or to one that never closes its side.

Messages count as delivered when a time without a failure has passed since they were sent
(relay.delivery.resend_window); after a loss, later ones are sent again. `relay status` says `unproven`.
"""

import time
from typing import Final

from typing_extensions import override

from relay.delivery.resend_window import ResendWindow
from relay.delivery.sessions.delivery_session import DeliverySession, FaultSearch
from relay.delivery.sessions.session_steps import ReportStep, SessionStep, StepFinding, report_nothing
from relay.delivery.sessions.syslog_encoder import SyslogEncoder
from relay.delivery.sessions.write_buffer import WriteBuffer
from relay.errors import UnavailableError
from relay.spool.block import Block
from relay.spool.cursor import Cursor
from relay.transport import Pipe, Transport
from relay.transport.udp import UdpTransport

UNPROVABLE: Final = StepFinding("no proof can be had", warning=True)


class _UnprovenSession(DeliverySession):
    """Settles messages when the window has passed since they were sent; `check` raises when one of them has failed."""

    proof = "unproven"
    search = FaultSearch.NEVER
    heard = 0.0
    _sent = StepFinding("")

    def __init__(
        self, encoder: SyslogEncoder, window: ResendWindow, report: ReportStep, unprovable: StepFinding
    ) -> None:
        self._encoder = encoder
        self._window = window
        self._report = report
        self._unprovable = unprovable
        self.heard = time.monotonic()

    @override
    def prove(self, cursor: Cursor) -> Cursor | None:
        self.check()
        settled = self._window.settled(time.monotonic(), cursor)
        if settled is not None:
            self._report(SessionStep.MESSAGE, self._sent)
            self._report(SessionStep.PROOF, self._unprovable)
        return settled


class UnprovenStream(_UnprovenSession):
    """A session on one stream of a transport, which it never half-closes; owns and closes the transport."""

    search = FaultSearch.BY_HALVES

    def __init__(
        self,
        transport: Transport,
        pipe: Pipe,
        encoder: SyslogEncoder,
        window: ResendWindow,
        report: ReportStep = report_nothing,
        unprovable: StepFinding = UNPROVABLE,
    ) -> None:
        super().__init__(encoder, window, report, unprovable)
        self._transport = transport
        self._pipe = pipe
        self._buffer = WriteBuffer(self._write)

    @property
    @override
    def alive(self) -> bool:
        return self._transport.alive

    @override
    def send(self, block: Block) -> None:
        for data in self._encoder.framed(block):
            self._buffer.append(data)

    @override
    def prove(self, cursor: Cursor) -> Cursor | None:
        self._buffer.flush()
        return super().prove(cursor)

    @override
    def check(self) -> None:
        """Raise when the collector has ended the stream; octets that it sends are discarded."""
        while self._pipe.receive(0):
            pass
        if self._pipe.ended or not self._transport.alive:
            raise UnavailableError("collector", "it closed the connection", "it is opened again")

    @override
    def close(self) -> None:
        self._transport.close()

    def _write(self, data: bytes) -> None:
        self._pipe.send(data)
        self.heard = time.monotonic()


class UnprovenDatagrams(_UnprovenSession):
    """A session that sends each message as a datagram (RFC 5426)."""

    alive = True

    def __init__(
        self,
        transport: UdpTransport,
        encoder: SyslogEncoder,
        window: ResendWindow,
        report: ReportStep = report_nothing,
        unprovable: StepFinding = UNPROVABLE,
    ) -> None:
        super().__init__(encoder, window, report, unprovable)
        self.transport = transport
        self._sent = StepFinding(f"one datagram to {transport.address}")

    @override
    def send(self, block: Block) -> None:
        """Send the messages as fast as the kernel accepts them."""
        for message in self._encoder.datagrams(block):
            self.transport.send(message)
        self.heard = time.monotonic()

    @override
    def check(self) -> None:
        self.transport.check()

    @override
    def close(self) -> None:
        self.transport.close()
