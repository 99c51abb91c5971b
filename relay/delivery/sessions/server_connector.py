"""A session with a configured server: its transport, its protocol on it, and what counts as its proof."""

import logging
import threading
from typing import Final

from relay.delivery.cursor_trail import WINDOW, CursorTrail
from relay.delivery.message_selection import MessageSelection
from relay.delivery.sessions.acknowledged_stream import AcknowledgedStream
from relay.delivery.sessions.auditd_speaker import AuditdSpeaker
from relay.delivery.sessions.delivery_session import DeliverySession
from relay.delivery.sessions.drained_stream import AcceptedSize, DrainedStream, DrainTimeouts
from relay.delivery.sessions.relp_speaker import RelpSpeaker
from relay.delivery.sessions.syslog_encoder import SyslogEncoder
from relay.delivery.sessions.unproven_sessions import UnprovenDatagrams, UnprovenStream
from relay.syslog.framing import TRAILERS
from relay.transport import Pipe, Transport
from relay.transport.ssh.session import SshSession
from relay.transport.tcp import TcpTransport
from relay.transport.tls.client import tls_client
from relay.transport.tls.transport import TlsPeer, TlsTransport
from relay.transport.udp import LARGEST_DATAGRAM, Failures, UdpTransport
from relay.values.setting_rules import is_pem
from relay.values.settings import PortForwarding, RemoteLoggingServer

SUSPICIONS: Final = 2
"""How often in a row a collector must have closed nothing before it is taken for one that never closes."""

_log = logging.getLogger("relay.delivery")


class ServerConnector:
    """Makes the sessions with one server; remembers from one to the next what the server has shown."""

    def __init__(
        self,
        server: RemoteLoggingServer,
        forwarding: PortForwarding | None,
        selection: MessageSelection,
        patience: DrainTimeouts | None = None,
        known: AcceptedSize | None = None,
    ) -> None:
        self._server = server
        self._forwarding = forwarding
        self._selection = selection
        self._patience = patience
        self._peer = TlsPeer(f"collector {server.display_name}", _log.warning)
        self._failed_addresses: Failures = {}
        self._known = known or AcceptedSize()
        self._suspicions = 0
        self._told = False

    @property
    def files(self) -> tuple[str, ...]:
        """The keys and certificates that connecting reads."""
        named = [self._server.ca, self._server.certificate, self._server.private_key]
        if self._forwarding is not None:
            named += [self._forwarding.private_key, self._forwarding.known_hosts]
        return tuple(name for name in named if name and not is_pem(name))

    def __call__(self, stopped: threading.Event) -> DeliverySession:
        """Connect; a RelayError says why it cannot be."""
        if self._server.transport == "udp" and self._forwarding is None:
            return self._datagrams()
        client = tls_client(self._server) if self._server.transport == "tls" else None
        transport: Transport = (
            TcpTransport(self._server.address, self._server.port, stopped)
            if self._forwarding is None
            else SshSession.connect(self._forwarding, stopped)
        )
        if client is not None:
            transport = TlsTransport(transport, client, self._peer, stopped)
        try:
            return self._session(transport, stopped)
        except BaseException:
            transport.close()
            raise

    def _session(self, transport: Transport, stopped: threading.Event) -> DeliverySession:
        match self._server.protocol:
            case "relp":
                speaker = RelpSpeaker(self._server.max_message_size)
                return AcknowledgedStream(transport, stopped, speaker, selection=self._selection)
            case "auditd":
                auditd = AuditdSpeaker(node_name=self._server.node_name)
                return AcknowledgedStream(transport, stopped, auditd, selection=self._selection)
            case "syslog":
                return self._syslog(transport)

    def _syslog(self, transport: Transport) -> DeliverySession:
        messages = self._messages(self._server.max_message_size)
        pipe = transport.open()
        if cause := self._why_unproven(pipe):
            self._tell(cause)
            return UnprovenStream(transport, pipe, messages, self._trail())
        self._known.forget()
        return DrainedStream(transport, pipe, messages, self._note_closing, self._patience, self._known)

    def _why_unproven(self, pipe: Pipe) -> str:
        if self._suspicions >= SUSPICIONS:
            return "it never closes a connection after relay's end of file"
        if pipe.local:
            return "it is on this machine, and may be a forwarder that takes what it cannot deliver"
        return ""

    def _datagrams(self) -> DeliverySession:
        self._tell("udp has no acknowledgement")
        messages = self._messages(min(self._server.max_message_size, LARGEST_DATAGRAM))
        way = UdpTransport(self._server.address, self._server.port, self._failed_addresses)
        return UnprovenDatagrams(way, messages, self._trail())

    def _messages(self, max_size: int) -> SyslogEncoder:
        counted = self._server.framing == "octet-counting"
        return SyslogEncoder(self._selection, max_size, counted, TRAILERS[self._server.trailer])

    def _trail(self) -> CursorTrail:
        return CursorTrail(WINDOW if self._server.unproven == "resend-window" else 0.0)

    def _note_closing(self, closes: bool) -> None:  # noqa: FBT001  the one thing that it is told
        self._suspicions = 0 if closes else self._suspicions + 1

    def _tell(self, cause: str) -> None:
        if not self._told:
            self._told = True
            name, unproven = self._server.display_name, self._server.unproven
            _log.warning("%s can prove nothing (%s): unproven = %r decides", name, cause, unproven)
