"""Syslog to collectors that cannot prove delivery: over UDP, to this machine, or to one that never closes its side.

Messages count as delivered when a time without a failure has passed since they were sent
(relay.delivery.resend_window); after a loss, later ones are sent again. `relay status` says `unproven`.
"""

import time

from typing_extensions import override

from relay.delivery.resend_window import ResendWindow
from relay.delivery.sessions.delivery_session import DeliverySession, FaultSearch
from relay.delivery.sessions.session_steps import ReportStep, SessionStep, StepFinding
from relay.delivery.sessions.syslog_encoder import SyslogEncoder
from relay.delivery.sessions.write_buffer import WriteBuffer
from relay.errors import UnavailableError
from relay.spool.block import Block
from relay.spool.cursor import Cursor
from relay.transport import Pipe, Transport
from relay.transport.udp import UdpTransport


class UnprovenSettlement:
    """Settles messages when the window has passed since they were sent; reports `unprovable` in place of a proof."""

    def __init__(self, window: ResendWindow, report: ReportStep, unprovable: StepFinding) -> None:
        self._window = window
        self._report = report
        self._unprovable = unprovable

    def settle(self, cursor: Cursor, how: str = "") -> Cursor | None:
        """The cursor that is settled now, if any; `how` the messages were sent, for people."""
        settled = self._window.settled(time.monotonic(), cursor)
        if settled is not None:
            self._report(SessionStep.MESSAGE, StepFinding(how))
            self._report(SessionStep.PROOF, self._unprovable)
        return settled


class UnprovenStream(DeliverySession):
    """A session on one stream of a transport, which it never half-closes; owns and closes the transport."""

    proof = "unproven"
    search = FaultSearch.BY_HALVES
    heard = 0.0

    def __init__(
        self, transport: Transport, pipe: Pipe, encoder: SyslogEncoder, settlement: UnprovenSettlement
    ) -> None:
        self._transport = transport
        self._pipe = pipe
        self._encoder = encoder
        self._settlement = settlement
        self._buffer = WriteBuffer(self._write)
        self.heard = time.monotonic()

    @property
    @override
    def alive(self) -> bool:
        return self._transport.alive

    @override
    def send(self, block: Block) -> None:
        for data in self._encoder.framed(block):
            self._buffer.append(data)

    def _write(self, data: bytes) -> None:
        self._pipe.send(data)
        self.heard = time.monotonic()

    @override
    def prove(self, cursor: Cursor) -> Cursor | None:
        self._buffer.flush()
        self.check()
        return self._settlement.settle(cursor)

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


class UnprovenDatagrams(DeliverySession):
    """A session that sends each message as a datagram (RFC 5426)."""

    proof = "unproven"
    search = FaultSearch.NEVER
    alive = True
    heard = 0.0

    def __init__(self, transport: UdpTransport, encoder: SyslogEncoder, settlement: UnprovenSettlement) -> None:
        self.transport = transport
        self._encoder = encoder
        self._settlement = settlement
        self.heard = time.monotonic()

    @override
    def send(self, block: Block) -> None:
        """Send the messages as fast as the kernel accepts them."""
        for message in self._encoder.datagrams(block):
            self.transport.send(message)
        self.heard = time.monotonic()

    @override
    def prove(self, cursor: Cursor) -> Cursor | None:
        self.check()
        return self._settlement.settle(cursor, f"one datagram to {self.transport.address}")

    @override
    def check(self) -> None:
        self.transport.check()

    @override
    def close(self) -> None:
        self.transport.close()
