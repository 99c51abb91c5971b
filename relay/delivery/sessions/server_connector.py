"""Connects to a configured server: its transport, the protocol's session on it, and what counts as its proof."""

import logging
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from typing_extensions import override

from relay.delivery.message_selection import MessageSelection
from relay.delivery.resend_window import WINDOW_SECONDS, ResendWindow
from relay.delivery.sessions.acknowledged_stream import AcknowledgedStream
from relay.delivery.sessions.auditd_speaker import AuditdSettings, AuditdSpeaker
from relay.delivery.sessions.delivery_session import DeliverySession
from relay.delivery.sessions.drained_stream import AcceptedSize, DrainedStream, DrainTimeouts
from relay.delivery.sessions.relp_speaker import RelpSettings, RelpSpeaker
from relay.delivery.sessions.session_steps import ReportStep, SessionStep, StepFinding, report_nothing
from relay.delivery.sessions.syslog_encoder import SyslogEncoder
from relay.delivery.sessions.unproven_sessions import UnprovenDatagrams, UnprovenSettlement, UnprovenStream
from relay.syslog.framing import TRAILERS
from relay.transport import Pipe, Transport, dial, tcp
from relay.transport.ssh.handshake import HandshakeLimits
from relay.transport.ssh.session import SshSession
from relay.transport.tls.certificate import SOON, certificate_summary, days_left
from relay.transport.tls.client import tls_client
from relay.transport.tls.transport import HANDSHAKE_TIMEOUT, TlsPeer, TlsPipe, TlsTransport
from relay.transport.udp import LARGEST_DATAGRAM, Failures, UdpTransport
from relay.values.address import Address
from relay.values.configuration.setting_rules import is_pem
from relay.values.configuration.settings import PortForwarding, RemoteLoggingServer

NEVER_CLOSES: Final = 2
"""A collector that has closed nothing so often in a row counts as one that never closes."""
_PROVABLE: Final = '`protocol = "relp"` or a port-forwarding gives proof; without either, the key `unproven` decides'

_log = logging.getLogger("relay.delivery")


class SessionLimits(NamedTuple):
    """How long a session's parts wait, in seconds."""

    ssh: HandshakeLimits = HandshakeLimits()
    connecting: float = tcp.CONNECT_TIMEOUT
    """To each address of the server."""
    tls: float = HANDSHAKE_TIMEOUT
    """For the handshake."""
    tls_settling: float = 0.0
    """The least time after it for a collector to reject relay's certificate."""
    opening: float = 10.0
    """For the answer to the opening of an acknowledged stream."""
    answering: float = 60.0
    """For the answer to its oldest unanswered message."""
    drain: DrainTimeouts = DrainTimeouts()
    unproven: float | None = None
    """The resend window, in place of the configured one."""


DEFAULT_LIMITS: Final = SessionLimits()


class ServerConnector:
    """Makes the sessions with one server; remembers from one to the next what the server has shown."""

    def __init__(
        self,
        server: RemoteLoggingServer,
        forwarding: PortForwarding | None,
        selection: MessageSelection,
        limits: SessionLimits = DEFAULT_LIMITS,
        *,
        accepted: AcceptedSize | None = None,
        report: ReportStep | None = None,
    ) -> None:
        self._server = server
        self._forwarding = forwarding
        self._selection = selection
        self._limits = limits
        self._accepted = accepted or AcceptedSize()
        self._is_watched = report is not None
        self._report = report or report_nothing
        self._peer = TlsPeer(f"collector {server.display_name}", _log.warning)
        self._failed_addresses: Failures = {}
        self._never_closed = 0
        self._has_warned = False

    @property
    def files(self) -> tuple[str, ...]:
        """The keys and certificates that connecting reads."""
        named_files = [self._server.ca, self._server.certificate, self._server.private_key]
        if self._forwarding is not None:
            named_files += [self._forwarding.private_key, self._forwarding.known_hosts]
        return tuple(name for name in named_files if name and not is_pem(name))

    @property
    def collector(self) -> Address:
        """The final address."""
        if self._forwarding is None:
            return Address(self._server.address, self._server.port)
        return Address(self._forwarding.remote_host, self._forwarding.remote_port)

    @property
    def route(self) -> str:
        """How messages get there, for people."""
        if self._forwarding is None:
            return f"straight to {self.collector} by {self._server.transport}"
        gateway = Address(self._forwarding.server_address, self._forwarding.server_port)
        return f"through {self._forwarding.username}@{gateway} to {self.collector}"

    def __call__(self, stopped: threading.Event) -> DeliverySession:
        """Connect and open a session; a RelayError says why that fails."""
        if self._server.transport == "udp" and self._forwarding is None:
            settlement = self._settlement("udp has no acknowledgement")
            self._report_addresses()
            encoder = self._encoder(min(self._server.max_message_size, LARGEST_DATAGRAM))
            datagrams = UdpTransport(self._server.address, self._server.port, self._failed_addresses)
            return UnprovenDatagrams(datagrams, encoder, settlement)
        transport = self.connect(stopped)
        try:
            return self.session(transport, stopped)
        except BaseException:
            transport.close()
            raise

    def connect(self, stopped: threading.Event) -> Transport:
        """The transport for sessions, which the caller closes. A stream to the collector is opened later."""
        client = tls_client(self._server) if self._server.transport == "tls" else None
        if self._forwarding is None:
            step = SessionStep.CONNECTION
            self._report_addresses()
            transport: Transport = tcp.TcpTransport(
                self._server.address, self._server.port, stopped, self._limits.connecting
            )
        else:
            step = SessionStep.FORWARD
            transport = SshSession.connect(
                self._forwarding,
                stopped,
                limits=self._limits.ssh,
                passed=lambda step, found: self._report(SessionStep[step.name], StepFinding(found)),
            )
        answers = StepFinding(f"{self.collector} answers")
        transport = self._reported(transport, lambda _: self._report(step, answers))
        if client is not None:
            transport = TlsTransport(
                transport, client, self._peer, stopped, self._limits.tls, self._limits.tls_settling
            )
            transport = self._reported(transport, self._report_tls)
        return transport

    def session(self, transport: Transport, stopped: threading.Event) -> DeliverySession:
        """A session on a transport, which it closes when it is closed itself."""
        match self._server.protocol:
            case "relp":
                relp = RelpSettings(opening=self._limits.opening, answering=self._limits.answering)
                speaker: RelpSpeaker | AuditdSpeaker = RelpSpeaker(self._server.max_message_size, relp)
            case "auditd":
                auditd = AuditdSettings(opening=self._limits.opening, answering=self._limits.answering)
                speaker = AuditdSpeaker(auditd, node_name=self._server.node_name)
            case "syslog":
                return self._syslog_session(transport)
        return AcknowledgedStream(transport, stopped, speaker, selection=self._selection, report=self._report)

    def _syslog_session(self, transport: Transport) -> DeliverySession:
        pipe = transport.open()
        encoder = self._encoder(self._server.max_message_size)
        cause = ""
        if self._never_closed >= NEVER_CLOSES:
            cause = "it never closes a connection after relay's end of file"
        elif pipe.local:
            cause = "it is on this machine, and may be a forwarder that accepts what it cannot deliver"
        if cause:
            return UnprovenStream(transport, pipe, encoder, self._settlement(cause))
        self._accepted.forget()

        def note_closing(closes: bool) -> None:  # noqa: FBT001  a callback with one argument
            self._never_closed = 0 if closes else self._never_closed + 1

        return DrainedStream(
            transport,
            pipe,
            encoder,
            note_closing=note_closing,
            timeouts=self._limits.drain,
            accepted=self._accepted,
            report=self._report,
        )

    def _encoder(self, max_size: int) -> SyslogEncoder:
        counted = self._server.framing == "octet-counting"
        return SyslogEncoder(self._selection, max_size, counted, TRAILERS[self._server.trailer])

    def _settlement(self, cause: str) -> UnprovenSettlement:
        """For a session that cannot prove delivery, for this cause; logged once."""
        if not self._has_warned:
            self._has_warned = True
            name, unproven = self._server.display_name, self._server.unproven
            _log.warning('%s cannot prove delivery (%s): `unproven = "%s"` decides', name, cause, unproven)
        seconds = WINDOW_SECONDS if self._server.unproven == "resend-window" else 0.0
        if self._limits.unproven is not None:
            seconds = self._limits.unproven
        unprovable = StepFinding(f"no proof can be had: {cause}", _PROVABLE, warning=True)
        return UnprovenSettlement(ResendWindow(seconds), self._report, unprovable)

    # --- Reports ---

    def _report_addresses(self) -> None:
        if not self._is_watched:
            return
        addresses = dial.resolve(tcp.collector_target(self._server.address, self._server.port))
        found = ", ".join(address[0] for _, _, address in addresses)
        self._report(SessionStep.NAME_RESOLUTION, StepFinding(found))

    def _reported(self, transport: Transport, opened: Callable[[Pipe], None]) -> Transport:
        return _ReportedTransport(transport, opened) if self._is_watched else transport

    def _report_tls(self, pipe: Pipe) -> None:
        if not isinstance(pipe, TlsPipe):
            raise TypeError(pipe)
        pipe.settle()  # a collector that rejects relay's certificate says so only now
        version, cipher, certificate = pipe.negotiated
        self._report(SessionStep.TLS, StepFinding(f"{version}, {cipher}"))
        left = days_left(certificate)
        found = StepFinding(certificate_summary(certificate))
        if left < SOON:
            found = StepFinding(f"{found.found}; it expires in {left} days", "renew it there", warning=True)
        self._report(SessionStep.CERTIFICATE, found)


class _ReportedTransport(Transport):
    """Another transport, whose first stream is reported when it is open."""

    def __init__(self, inner: Transport, opened: Callable[[Pipe], None]) -> None:
        self._inner = inner
        self._opened: Callable[[Pipe], None] | None = opened

    @property
    @override
    def alive(self) -> bool:
        return self._inner.alive

    @override
    def open(self) -> Pipe:
        pipe = self._inner.open()
        if self._opened is not None:
            opened, self._opened = self._opened, None
            opened(pipe)
        return pipe

    @override
    def close(self) -> None:
        self._inner.close()
