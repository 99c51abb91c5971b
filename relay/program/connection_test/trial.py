"""A connection test gone: configuration and state directory once, then the way to each server, one after the other.

A failure ends the way to its server only; one in a shared step ends everything. Waiting: each step of the network for
what relay.transport.ssh.handshake's Limits allow, the proof for PROOF_SECONDS, or all of them for `TestRequest.timeout`
(seconds). UsageError when no server has the name that is asked for; everything else is told in the report.

A server is gone to as `relay run` goes: through its port-forwarding's SSH session, or straight there by TCP or UDP when
it has none; then the steps of SSH are skipped. What is sent, and what counts as its proof: see the exchanges.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from cryptography.x509 import Certificate

from relay.config import intended_program
from relay.config.check import check
from relay.config.configuration import Configuration, read_configuration
from relay.config.mistake import MistakesError, mistake_lines
from relay.config.router.router_choice import ANY, RouterChoice
from relay.errors import (
    ConfigurationError,
    NoInputError,
    PermissionRefusedError,
    ProtocolError,
    RelayError,
    StorageError,
    UnavailableError,
    UsageError,
)
from relay.program.connection_test.answered_exchange import AuditdExchange, RelpExchange
from relay.program.connection_test.exchange import CollectorConnection, Exchange
from relay.program.connection_test.message import padded, test_message
from relay.program.connection_test.report import (
    OF_SERVER,
    OF_TLS_SERVER,
    SHARED,
    Report,
    Result,
    ServerReport,
    StepFinding,
    StepLog,
    TestStep,
    failure_sentence,
    summary,
)
from relay.program.connection_test.sizes import largest_accepted
from relay.program.connection_test.syslog_exchange import UNPROVEN, DatagramExchange, SyslogStreamExchange
from relay.program.connection_test.this_machine import look_at_local_port, look_at_state_directory
from relay.syslog.auditd_remote import LARGEST_RECORD
from relay.system.clock import wall_clock
from relay.system.disk import Disk
from relay.transport import Pipe, Transport, dial, tcp
from relay.transport.ssh import handshake
from relay.transport.ssh.handshake import DEFAULT_LIMITS, HandshakeLimits
from relay.transport.ssh.session import SshSession
from relay.transport.tls.certificate import SOON, certificate_summary, days_left
from relay.transport.tls.client import TlsClient, tls_client
from relay.transport.tls.transport import TlsPeer, TlsTransport
from relay.transport.udp import Failures, UdpTransport
from relay.values.address import Address
from relay.values.did_you_mean import did_you_mean
from relay.values.settings import LARGEST_MESSAGE_SIZE, PortForwarding, RemoteLoggingServer, Settings
from relay.values.text import quoted

PROOF_SECONDS: Final = 10.0
SIZE_WATCHED_SECONDS: Final = 0.3
"""How long a stream is watched for a close after a message that may be too large."""
UNOBSERVED: Final = "Whether it truncates messages cannot be observed"
_STRAIGHT: Final = "no port-forwarding leads there"
"""Why the steps of SSH are skipped."""
_LOOKED_AT_LATER: Final = frozenset({"state-directory", "private-key", "known-hosts", "ca", "certificate"})
"""Keys whose mistakes are told by the step that needs them."""

TellServer = Callable[[str, Result], None]
"""Called with each result, and the name of its server ("" for the shared steps)."""


class TestRequest(NamedTuple):
    """What is to be tested."""

    paths: Sequence[str]
    """The configuration's files."""
    server: str = ""
    """Its name; empty: every server."""
    send: bool = True
    sizes: bool = False
    """Whether the largest message is to be found that each server accepts."""
    timeout: float | None = None
    choice: RouterChoice = ANY
    """Which router and node of a router's own configuration."""

    @property
    def limits(self) -> HandshakeLimits:
        """How long each step until the forward may take."""
        wait = self.timeout
        if wait is None:
            return DEFAULT_LIMITS
        return HandshakeLimits(connection=wait, banner=wait, key_exchange=wait, authentication=wait, opening=wait)

    @property
    def patience(self) -> float:
        """How long the proof may take."""
        return PROOF_SECONDS if self.timeout is None else self.timeout


Way = tuple[RemoteLoggingServer, PortForwarding | None]
"""Without a port-forwarding it leads straight to the server."""


def go(wishes: TestRequest, tell: TellServer) -> Report:
    """Test the connection, telling each result as it comes."""
    course = StepLog((*SHARED, *OF_SERVER), lambda result: tell("", result), time.monotonic)
    try:
        settings, ways = _prepare(wishes, course)
    except (ConfigurationError, NoInputError, PermissionRefusedError, StorageError) as error:
        failure = course.failed(error)
        course.skip_rest()
        return Report(tuple(course.results), (), failure_sentence("no server was tried", failure))
    shared = tuple(course.results)
    servers = tuple(_ConnectionTest(wishes, settings, way, tell).go() for way in ways)
    return Report(shared, servers, summary(shared, servers))


# --- What is shared ---


def _prepare(wishes: TestRequest, course: StepLog) -> tuple[Settings, list[Way]]:
    try:
        configuration = read_configuration(wishes.paths, wishes.choice)
    except MistakesError as error:
        cause = "\n".join(error.mistakes)
        raise ConfigurationError(
            "configuration", (cause,), "correct them; `relay config check` checks them again"
        ) from None
    intended_program.require_program(configuration, "run")
    settings = configuration.settings
    ways = [(server, settings.forwarding_of(server)) for server in _chosen(settings, wishes.server)]
    course.passed(TestStep.CONFIGURATION, _oddities(configuration))
    course.passed(TestStep.STATE_DIRECTORY, look_at_state_directory(Disk(), settings.relay.state_directory))
    return settings, ways


def _chosen(settings: Settings, name: str) -> list[RemoteLoggingServer]:
    servers = settings.remote_logging_server
    if not servers:
        cause = "there is no [[remote-logging-server]], so there is nothing to connect to"
        raise ConfigurationError("configuration", (cause,), "see deploy/relay.toml")
    chosen = [server for server in servers if name in {"", server.display_name}]
    if not chosen:
        names = [server.display_name for server in servers]
        remedy = did_you_mean(name, names) or f"the names are {', '.join(names)}"
        raise UsageError(f"--server {quoted(name)}", "no remote-logging-server has this name", remedy)
    return chosen


def _oddities(configuration: Configuration) -> StepFinding:
    """What is worth a look, but in nobody's way here: a source's file that is missing, a server without encryption."""
    mistakes, warnings = check.check(configuration)
    odd = [mistake for mistake in mistakes if mistake.location.path[-1] not in _LOOKED_AT_LATER]
    lines = mistake_lines((*odd, *warnings))
    if lines:
        return StepFinding("\n".join(lines), "`relay config check` reports them too", warning=True)
    return StepFinding(", ".join(configuration.files))


# --- The way to one server ---


class _ConnectionTest:
    """One server's steps."""

    def __init__(self, wishes: TestRequest, settings: Settings, way: Way, tell: TellServer) -> None:
        self._wishes = wishes
        self._settings = settings
        self._server, self._forwarding = way
        self._name = self._server.display_name
        steps: tuple[TestStep, ...] = OF_TLS_SERVER if self._server.transport == "tls" else OF_SERVER
        if wishes.sizes:
            steps = (*steps, TestStep.SIZES)
        self._course = StepLog(steps, lambda result: tell(self._name, result), time.monotonic)
        self._client: TlsClient | None = None
        self._failure: Result | None = None
        self._proof = ""
        self._largest: int | None = None

    def go(self) -> ServerReport:
        """Go as far as the way leads."""
        try:
            self._go()
        except RelayError as error:
            self._failure = self._course.failed(error, self._step_of(error))
        self._course.skip_rest("--no-send" if self._failure is None else "")
        return ServerReport(self._name, tuple(self._course.results), self._sentence(), self._proof, self._largest)

    def _step_of(self, error: RelayError) -> TestStep | None:
        """The step that failed, where it is not the one under way."""
        if isinstance(error, NoInputError):
            # Behind the keys and certificates, the only file that is read is known_hosts.
            return TestStep.HOST_KEY if self._course.results else TestStep.PRIVATE_KEY
        if isinstance(error, PermissionRefusedError) and self._course.under_way is TestStep.TLS:
            return TestStep.CERTIFICATE
        return None

    def _go(self) -> None:
        if self._server.transport == "tls":
            self._client = tls_client(self._server)
        if self._forwarding is not None:
            self._by_ssh(self._forwarding)
            return
        self._resolve()
        match self._server.transport:
            case "tcp" | "tls":
                self._by_tcp()
            case "udp":
                self._by_udp()

    # --- The ways ---

    def _by_ssh(self, forwarding: PortForwarding) -> None:
        limits = self._wishes.limits
        with SshSession.connect(forwarding, threading.Event(), limits=limits, passed=self._passed) as session:
            state_directory = self._settings.relay.state_directory
            self._course.passed(TestStep.LOCAL_PORT, look_at_local_port(Disk(), forwarding.local, state_directory))
            pipe = session.open()
            self._course.passed(TestStep.FORWARD, StepFinding(f"{self._collector} answers"))
            self._on_stream(session, pipe, f"SSH server {forwarding.server_address}")

    def _passed(self, step: handshake.HandshakeStep, found: str) -> None:
        self._course.passed(TestStep(step.value), StepFinding(found))

    def _resolve(self) -> None:
        self._course.skip_to(TestStep.NAME_RESOLUTION, _STRAIGHT)
        addresses = dial.resolve(tcp.collector_target(self._server.address, self._server.port))
        found = ", ".join(address[0] for _, _, address in addresses)
        self._course.passed(TestStep.NAME_RESOLUTION, StepFinding(found))

    def _by_tcp(self) -> None:
        server, limits = self._server, self._wishes.limits
        transport = tcp.TcpTransport(server.address, server.port, threading.Event(), limits.connection)
        with contextlib.closing(transport):
            pipe = transport.open()
            self._course.passed(TestStep.CONNECTION, StepFinding(f"{self._collector} answers"))
            self._course.skip_to(TestStep.MESSAGE if self._client is None else TestStep.TLS, _STRAIGHT)
            self._on_stream(transport, pipe)

    def _by_tls(self, transport: Transport, pipe: Pipe, client: TlsClient) -> tuple[Transport, Pipe]:
        peer, patience = TlsPeer(f"collector {self._collector}"), self._wishes.limits.key_exchange
        inside = TlsTransport(transport, client, peer, threading.Event(), patience)
        stream = inside.wrap(pipe)
        stream.settle()
        agreed = stream.negotiated
        self._course.passed(TestStep.TLS, StepFinding(f"{agreed.version}, {agreed.cipher}"))
        self._course.passed(TestStep.CERTIFICATE, _told_of(agreed.certificate))
        return inside, stream

    def _by_udp(self) -> None:
        self._course.skip_to(TestStep.BANNER, "udp knows no connection")
        self._course.skip_to(TestStep.MESSAGE, _STRAIGHT)
        failures: Failures = {}
        while True:
            with contextlib.closing(UdpTransport(self._server.address, self._server.port, failures)) as way:
                try:
                    self._exchange(DatagramExchange(way, self._message(_now())))
                except UnavailableError:
                    if way.others:
                        continue
                    raise
                break
        if self._wishes.sizes and self._proof:
            self._course.passed(TestStep.SIZES, _sizes_unproven())

    # --- The message ---

    def _on_stream(self, transport: Transport, pipe: Pipe, gateway: str = "") -> None:
        if self._client is not None:
            transport, pipe = self._by_tls(transport, pipe, self._client)
        line = CollectorConnection(transport, pipe, self._collector, gateway, self._wishes.patience)
        now = _now()
        message = self._message(now)
        match self._server.protocol:
            case "syslog":
                self._exchange(SyslogStreamExchange(line, self._server, message))
            case "relp":
                self._exchange(RelpExchange(line, message))
            case "auditd":
                self._exchange(AuditdExchange(line, message, now, self._server.node_name))
        if self._wishes.sizes and self._proof:
            self._course.passed(TestStep.SIZES, self._sizes(line, message))

    def _sizes(self, line: CollectorConnection, message: bytes) -> StepFinding:
        """Find the largest message that is accepted; each goes on a stream of its own."""
        if self._server.protocol == "auditd":
            return StepFinding(f"nothing to find out: relay sends auditd no record over {LARGEST_RECORD} octets")
        if self._proof == UNPROVEN:
            return _sizes_unproven()

        def accepts(octets: int) -> bool:
            with contextlib.closing(line.transport.open()) as pipe:
                own, sent = line._replace(pipe=pipe), padded(message, octets)
                exchange: Exchange = RelpExchange(own, sent)
                if self._server.protocol == "syslog":
                    exchange = SyslogStreamExchange(own, self._server, sent, SIZE_WATCHED_SECONDS)
                try:
                    exchange.send()
                    exchange.prove()
                except ProtocolError:
                    if not line.transport.alive:
                        raise
                    return False
            return True

        self._largest = largest_accepted(accepts, len(message), LARGEST_MESSAGE_SIZE)
        configured = self._server.max_message_size
        found = f"{self._largest} octets is the largest message that it accepts"
        if self._largest == LARGEST_MESSAGE_SIZE:
            found = f"it accepts {self._largest} octets, the most that relay sends"
        found += f"; max-message-size is {configured}. {UNOBSERVED}"
        if self._largest < configured:
            return StepFinding(found, f"set `max-message-size = {self._largest}` for this server", warning=True)
        return StepFinding(found)

    def _message(self, now: int) -> bytes:
        hostname = self._settings.relay.hostname or socket.gethostname()
        return test_message(self._settings, hostname, os.getpid(), now)

    def _exchange(self, exchange: Exchange) -> None:
        if not self._wishes.send:
            return
        self._course.passed(TestStep.MESSAGE, exchange.send())
        proven = exchange.prove()
        self._proof = proven.kind
        self._course.passed(TestStep.PROOF, proven.finding)

    # --- What is said ---

    @property
    def _collector(self) -> Address:
        if self._forwarding is None:
            return Address(self._server.address, self._server.port)
        return Address(self._forwarding.remote_host, self._forwarding.remote_port)

    def _sentence(self) -> str:
        if self._failure is not None:
            return failure_sentence(self._name, self._failure)
        way = self._way()
        if not self._proof:
            open_way = "" if self._by_datagrams else f"the way {way} is open; "
            return f"{self._name}: {open_way}nothing was sent"
        proof = "cannot be proven" if self._proof == UNPROVEN else "is proven"
        return f"{self._name}: a test message went {way}, and its delivery {proof} ({self._proof})"

    @property
    def _by_datagrams(self) -> bool:
        return self._forwarding is None and self._server.transport == "udp"

    def _way(self) -> str:
        if self._forwarding is None:
            return f"straight to {self._collector} by {self._server.transport}"
        server = Address(self._forwarding.server_address, self._forwarding.server_port)
        return f"through {self._forwarding.username}@{server} to {self._collector}"


def _sizes_unproven() -> StepFinding:
    return StepFinding("cannot be found out: nothing that is sent there can be proven", warning=True)


def _told_of(certificate: Certificate) -> StepFinding:
    left = days_left(certificate)
    if left < SOON:
        return StepFinding(
            f"{certificate_summary(certificate)}; it ends in {left} days", "have it renewed there", warning=True
        )
    return StepFinding(certificate_summary(certificate))


def _now() -> int:
    """In microseconds since the epoch."""
    return wall_clock()
