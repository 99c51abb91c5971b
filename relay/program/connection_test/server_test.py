"""Tests the route to one server by a real delivery session with one message, and puts its steps into a report.

relay.delivery.sessions connects, sends and proves, and reports each step; nothing of that is repeated here. Added are
the local port, the steps that are skipped, and the sentences: collector_faults explains the error of a session.
"""

import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from relay.delivery.message_selection import EVERYTHING
from relay.delivery.sessions.delivery_session import DeliverySession
from relay.delivery.sessions.drained_stream import AcceptedSize, DrainTimeouts
from relay.delivery.sessions.server_connector import ServerConnector, SessionLimits
from relay.delivery.sessions.session_steps import SessionStep, StepFinding
from relay.delivery.sessions.unproven_sessions import UnprovenDatagrams
from relay.errors import (
    NoInputError,
    PermissionRefusedError,
    ProtocolError,
    RelayError,
    UnavailableError,
    UnknownHostError,
)
from relay.events.audit.as_records import as_records
from relay.program.connection_test.collector_faults import CollectorFaults, WrongKindError
from relay.program.connection_test.message import block_of, padded, test_message
from relay.program.connection_test.observed_transport import ObservedTransport
from relay.program.connection_test.report import (
    OF_SERVER,
    OF_TLS_SERVER,
    ServerReport,
    StepLog,
    StepResult,
    TestStep,
    failure_sentence,
)
from relay.program.connection_test.sizes import largest_accepted
from relay.program.connection_test.test_request import TestRequest
from relay.program.connection_test.this_machine import inspect_local_listener
from relay.spool.cursor import Cursor
from relay.syslog.auditd_remote import LARGEST_RECORD
from relay.system.clock import wall_clock
from relay.system.disk import Disk
from relay.transport import Transport
from relay.transport.ssh.handshake import HandshakeLimits
from relay.values.configuration.setting_types import LARGEST_MESSAGE_SIZE
from relay.values.configuration.settings import RemoteLoggingServer, Settings
from relay.values.event import EventType

PROOF_SECONDS: Final = 10.0
UNOBSERVED: Final = "Whether it truncates messages cannot be observed"
UNPROVEN: Final = "unproven"
_PROOF_INTERVAL: Final = 0.025  # seconds between two questions whether a proof has settled
_NO_FORWARDING: Final = "no port-forwarding leads there"
_AUDITD_PORT: Final = 60

ReportResult = Callable[[str, StepResult], None]
"""Called with each result, and the name of its server ("" for the steps that all servers share)."""


class ServerTest:
    """One server's steps."""

    def __init__(
        self,
        request: TestRequest,
        settings: Settings,
        server: RemoteLoggingServer,
        report: ReportResult,
    ) -> None:
        self._request = request
        self._settings = settings
        self._server = server
        self._forwarding = settings.forwarding_of(server)
        steps: tuple[TestStep, ...] = OF_TLS_SERVER if server.transport == "tls" else OF_SERVER
        if request.sizes:
            steps = (*steps, TestStep.SIZES)
        self._log = StepLog(steps, lambda result: report(server.display_name, result), time.monotonic)
        self._proof_seconds = PROOF_SECONDS if request.timeout is None else request.timeout
        self._by_datagrams = self._forwarding is None and server.transport == "udp"
        watch = request.watch.datagram if self._by_datagrams else request.watch.stream
        self._connector = ServerConnector(
            server,
            self._forwarding,
            EVERYTHING,
            self._limits(watch),
            accepted=_watch_every_stream(),
            report=self._note_step,
        )
        self._collector = self._connector.collector
        self._stop = threading.Event()
        self._now = wall_clock()
        hostname = settings.relay.hostname or socket.gethostname()
        self._message = test_message(settings, hostname, os.getpid(), self._now)
        self._transport: ObservedTransport | None = None
        self._kind_of_proof = ""  # that the session could have
        self._proof = ""  # its kind, once there is one
        self._largest: int | None = None

    def _limits(self, watch: float) -> SessionLimits:
        proof, timeout = self._proof_seconds, self._request.timeout
        limits = SessionLimits(
            tls_settling=self._request.watch.tls,
            opening=proof,
            answering=proof,
            drain=DrainTimeouts(drain=proof, empty=0, watch=watch),
            unproven=watch,
        )
        if timeout is None:
            return limits
        ssh = HandshakeLimits(
            connection=timeout, banner=timeout, key_exchange=timeout, authentication=timeout, opening=timeout
        )
        return limits._replace(ssh=ssh, connecting=timeout, tls=timeout)

    def run(self) -> ServerReport:
        """Go as far as the route leads."""
        name = self._server.display_name
        try:
            if self._by_datagrams:
                self._test_datagrams()
            else:
                self._test_stream()
        except RelayError as error:
            sentence = failure_sentence(name, self._fail(error))
            self._log.skip_rest()
        else:
            self._log.skip_rest("--no-send")
            route, proof = self._connector.route, "cannot be proven" if self._proof == UNPROVEN else "is proven"
            success = f"a test message went {route}, and its delivery {proof} ({self._proof})"
            if not self._proof:
                success = "nothing was sent" if self._by_datagrams else f"the way {route} is open; nothing was sent"
            sentence = f"{name}: {success}"
        return ServerReport(name, tuple(self._log.results), sentence, self._proof, self._largest)

    def _fail(self, error: RelayError) -> StepResult:
        """End the step that failed: the one under way, unless the error shows another."""
        step = self._log.under_way
        if isinstance(error, UnknownHostError) and TestStep.NAME_RESOLUTION in self._log.left:
            step = TestStep.NAME_RESOLUTION
            if self._forwarding is None:
                self._log.skip_to(step, _NO_FORWARDING)
        elif isinstance(error, NoInputError):
            # After the keys and certificates, known_hosts is the only file that is read.
            step = TestStep.HOST_KEY if self._log.results else TestStep.PRIVATE_KEY
        elif isinstance(error, PermissionRefusedError) and step is TestStep.TLS:
            step = TestStep.CERTIFICATE
        return self._log.failed(error, step)

    def _test_stream(self) -> None:
        with contextlib.closing(self._connector.connect(self._stop)) as transport:
            self._transport = ObservedTransport(transport)
            if not self._request.send:
                self._transport.open()
                return
            try:
                self._deliver(self._connector.session(self._transport, self._stop), self._message)
            except RelayError as error:
                step = self._log.under_way
                if step not in {TestStep.MESSAGE, TestStep.PROOF} or isinstance(error, WrongKindError):
                    raise
                if not transport.alive and self._forwarding is not None:
                    gateway = f"SSH server {self._forwarding.server_address}"
                    raise ProtocolError(gateway, error.cause, error.remedy) from error
                sent, received = step is TestStep.PROOF, self._transport.received
                faults = CollectorFaults(self._collector, self._proof_seconds, sent, received)
                raise faults.of_session(error, self._server.protocol) from error
            if self._request.sizes:
                self._transport.close()  # a collector may serve one connection at a time
                self._log.passed(TestStep.SIZES, self._find_largest(transport))

    def _test_datagrams(self) -> None:
        """Try one address of the server's name after the other, as `relay run` does."""
        if not self._request.send:
            self._connector(self._stop).close()
            return
        untried = True
        while untried:
            with contextlib.closing(self._connector(self._stop)) as session:
                untried = isinstance(session, UnprovenDatagrams) and session.transport.others
                try:
                    self._deliver(session, self._message)
                    break
                except UnavailableError:
                    if not untried:
                        raise
        if self._request.sizes:
            self._log.passed(TestStep.SIZES, self._find_largest(None))

    def _deliver(self, session: DeliverySession, message: bytes) -> None:
        """Have a session deliver one message."""
        self._kind_of_proof = session.proof
        session.send(block_of(message, self._now))
        while session.prove(Cursor()) is None:
            time.sleep(_PROOF_INTERVAL)
        session.end()
        self._proof = session.proof

    def _find_largest(self, transport: Transport | None) -> StepFinding:
        """Find the largest message that the collector accepts; each message is sent in a session of its own."""
        if self._server.protocol == "auditd":
            return StepFinding(f"nothing to find out: relay sends auditd no record over {LARGEST_RECORD} octets")
        if self._proof == UNPROVEN or transport is None:
            cause = "cannot be found out: nothing that is sent there can be proven"
            return StepFinding(cause, warning=True)
        server = self._server.model_copy(update={"max_message_size": LARGEST_MESSAGE_SIZE})
        limits = self._limits(self._request.watch.size)

        def accepts(octets: int) -> bool:
            # A connector for each size: after streams that the collector has not closed, it would do without a proof.
            connector = ServerConnector(server, self._forwarding, EVERYTHING, limits, accepted=_watch_every_stream())
            with contextlib.closing(ObservedTransport(transport)) as streams:
                try:
                    self._deliver(connector.session(streams, self._stop), padded(self._message, octets))
                except RelayError:
                    if not transport.alive:
                        raise
                    return False
            return True

        self._largest = largest_accepted(accepts, len(self._message), LARGEST_MESSAGE_SIZE)
        configured = self._server.max_message_size
        found = f"{self._largest} octets is the largest message that it accepts"
        if self._largest == LARGEST_MESSAGE_SIZE:
            found = f"it accepts {self._largest} octets, the most that relay sends"
        found += f"; max-message-size is {configured}. {UNOBSERVED}"
        if self._largest < configured:
            return StepFinding(found, f"set `max-message-size = {self._largest}` for this server", warning=True)
        return StepFinding(found)

    # --- Steps ---

    def _note_step(self, step: SessionStep, finding: StepFinding) -> None:
        """Log a step that has passed; add the local port, and skip what this route has not."""
        passed = TestStep[step.name]
        if passed not in self._log.left:
            return
        if self._forwarding is None and passed is TestStep.NAME_RESOLUTION:
            self._log.skip_to(passed, _NO_FORWARDING)
        if passed is TestStep.MESSAGE:
            finding = self._message_finding(finding)
        elif passed is TestStep.PROOF and self._kind_of_proof != UNPROVEN:
            finding = finding._replace(found=f"{self._kind_of_proof}: {self._collector} {finding.found}")
        self._log.passed(passed, finding)
        if self._forwarding is not None and passed is TestStep.AUTHENTICATION:
            directory = self._settings.relay.state_directory
            self._log.passed(TestStep.LOCAL_PORT, inspect_local_listener(Disk(), self._forwarding, directory))
        elif self._by_datagrams and passed is TestStep.NAME_RESOLUTION:
            self._log.skip_to(TestStep.BANNER, "udp knows no connection")
            self._log.skip_to(TestStep.MESSAGE, _NO_FORWARDING)
        elif self._forwarding is None and passed is TestStep.CONNECTION:
            self._log.skip_to(TestStep.TLS if self._server.transport == "tls" else TestStep.MESSAGE, _NO_FORWARDING)

    def _message_finding(self, finding: StepFinding) -> StepFinding:
        server, octets = self._server, len(self._message)
        if server.protocol == "auditd":
            octets = len(as_records(EventType.RELAY, 0, self._message, self._now, server.node_name).records[0])
        if server.protocol != "syslog":
            return StepFinding(f"{octets} octets, {server.protocol}")
        if self._transport is not None and self._transport.received:
            raise WrongKindError(self._collector, self._transport.received)
        found = f"{octets} octets, syslog, {finding.found or server.framing}"
        if self._collector.port == _AUDITD_PORT and not self._by_datagrams:
            found = f"{found}; but {_AUDITD_PORT} is auditd's port, and auditd drops syslog without a word"
            return StepFinding(found, 'if it is auditd: `protocol = "auditd"`', warning=True)
        return StepFinding(found)


def _watch_every_stream() -> AcceptedSize:
    return AcceptedSize(LARGEST_MESSAGE_SIZE, watched_streams=math.inf)
