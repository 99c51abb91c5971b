"""A connection test gone: configuration and state directory once, then the way to each server, one after the other.

A failure ends the way to its server only; one in a shared step ends everything. Waiting: each step of the network for
what relay.transport.handshake's Limits allow, the proof for PROOF_SECONDS, or all of them for `Wishes.timeout`
(seconds). UsageError when no server has the name that is asked for; everything else is told in the report.

A server is gone to through its port-forwarding's SSH session; the proof is that of relay.delivery.syslog_stream.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from relay.config import check, toml
from relay.config.mistake import MistakesError, told
from relay.config.toml import Configuration
from relay.connection_test.message import framed, test_message
from relay.connection_test.report import (
    OF_SERVER,
    SHARED,
    Course,
    Finding,
    Report,
    Result,
    ServerReport,
    Step,
    failure_sentence,
    summary,
)
from relay.connection_test.this_machine import look_at_local_port, look_at_state_directory
from relay.disk import Disk
from relay.errors import (
    ConfigurationError,
    NoInputError,
    ProtocolError,
    RelayError,
    StorageError,
    TemporaryError,
    UnavailableError,
    UsageError,
)
from relay.quantity import Address, quoted
from relay.settings import PortForwarding, RemoteLoggingServer, Settings
from relay.transport import Pipe, handshake
from relay.transport.handshake import DEFAULT_LIMITS, Limits
from relay.transport.ssh import SshSession

PROOF_SECONDS: Final = 10.0
WATCHED_SECONDS: Final = 0.1
"""How long a collector is watched after the message: one that closes unasked, however late, is to be found out."""
DRAINED: Final = "drained"
_LOOKED_AT_LATER: Final = frozenset({"state-directory", "private-key", "known-hosts"})
"""Keys whose mistakes are told by the step that needs them."""

TellServer = Callable[[str, Result], None]
"""Called with each result, and the name of its server ("" for the shared steps)."""


class Wishes(NamedTuple):
    """What is to be tested."""

    paths: Sequence[str]
    """The configuration's files."""
    server: str = ""
    """Its name; empty: every server."""
    send: bool = True
    timeout: float | None = None

    @property
    def limits(self) -> Limits:
        """How long each step until the forward may take."""
        wait = self.timeout
        if wait is None:
            return DEFAULT_LIMITS
        return Limits(connection=wait, banner=wait, key_exchange=wait, authentication=wait, opening=wait)

    @property
    def patience(self) -> float:
        """How long the proof may take."""
        return PROOF_SECONDS if self.timeout is None else self.timeout


Way = tuple[RemoteLoggingServer, PortForwarding]


def go(wishes: Wishes, tell: TellServer) -> Report:
    """Test the connection, telling each result as it comes."""
    course = Course((*SHARED, *OF_SERVER), lambda result: tell("", result), time.monotonic)
    try:
        settings, ways = _prepare(wishes, course)
    except (ConfigurationError, NoInputError, StorageError) as error:
        failure = course.failed(error)
        course.skip_rest()
        return Report(tuple(course.results), (), failure_sentence("no server was tried", failure))
    shared = tuple(course.results)
    servers = tuple(_Trial(wishes, settings, way, tell).go() for way in ways)
    return Report(shared, servers, summary(shared, servers))


# --- What is shared ---


def _prepare(wishes: Wishes, course: Course) -> tuple[Settings, list[Way]]:
    try:
        configuration = toml.read(wishes.paths)
    except MistakesError as error:
        cause = "\n".join(error.mistakes)
        raise ConfigurationError("configuration", (cause,), f"mend them; `{_check(wishes)}` looks again") from None
    settings = configuration.settings
    ways = [_way(settings, server) for server in _chosen(settings, wishes.server)]
    course.passed(Step.CONFIGURATION, _oddities(configuration, wishes))
    course.passed(Step.STATE_DIRECTORY, look_at_state_directory(Disk(), settings.relay.state_directory))
    return settings, ways


def _chosen(settings: Settings, name: str) -> list[RemoteLoggingServer]:
    servers = settings.remote_logging_server
    if not servers:
        cause = "there is no [[remote-logging-server]], so there is nothing to connect to"
        raise ConfigurationError("configuration", (cause,), "see deploy/relay.toml")
    chosen = [server for server in servers if name in {"", server.display_name}]
    if not chosen:
        names = ", ".join(server.display_name for server in servers)
        raise UsageError(f"--server {quoted(name)}", "no remote-logging-server has this name", f"there is {names}")
    return chosen


def _way(settings: Settings, server: RemoteLoggingServer) -> Way:
    forwarding = settings.forwarding_of(server)
    if forwarding is None:
        cause = (
            f"no port-forwarding has the local end {Address(server.address, server.port)}, and there is no other way"
        )
        remedy = "add a [[port-forwarding]] with this local-address and local-port"
        raise ConfigurationError(f"remote-logging-server {server.display_name}", (cause,), remedy)
    return server, forwarding


def _oddities(configuration: Configuration, wishes: Wishes) -> Finding:
    """What is worth a look, but in nobody's way here: a source's file that is missing, a server without encryption."""
    mistakes, warnings = check.check(configuration)
    odd = [mistake for mistake in mistakes if mistake.place.path[-1] not in _LOOKED_AT_LATER]
    lines = told((*odd, *warnings))
    if lines:
        return Finding("\n".join(lines), f"`{_check(wishes)}` tells them too", warning=True)
    return Finding(", ".join(configuration.files))


def _check(wishes: Wishes) -> str:
    return " ".join(("relay", *(f"-c {path}" for path in wishes.paths), "config check"))


# --- The way to one server ---


class _Trial:
    """One server's steps."""

    def __init__(self, wishes: Wishes, settings: Settings, way: Way, tell: TellServer) -> None:
        self._wishes = wishes
        self._settings = settings
        self._server, self._forwarding = way
        self._name = self._server.display_name
        self._course = Course(OF_SERVER, lambda result: tell(self._name, result), time.monotonic)
        self._failure: Result | None = None
        self._proof = ""

    def go(self) -> ServerReport:
        """Go as far as the way leads."""
        try:
            with SshSession.connect(
                self._forwarding, threading.Event(), limits=self._wishes.limits, passed=self._passed
            ) as session:
                self._through(session)
        except NoInputError as error:
            # Behind the private key, the only file that is read is known_hosts.
            self._failure = self._course.failed(error, Step.HOST_KEY if self._course.results else Step.PRIVATE_KEY)
        except RelayError as error:
            self._failure = self._course.failed(error)
        self._course.skip_rest()
        return ServerReport(self._name, tuple(self._course.results), self._sentence(), self._proof)

    def _passed(self, step: handshake.Step, found: str) -> None:
        self._course.passed(Step(step.value), Finding(found))

    def _through(self, session: SshSession) -> None:
        state_directory = self._settings.relay.state_directory
        self._course.passed(Step.LOCAL_PORT, look_at_local_port(Disk(), self._forwarding.local, state_directory))
        pipe = session.open()
        self._course.passed(Step.FORWARD, Finding(f"{self._remote} answers"))
        if not self._wishes.send:
            self._course.skip_rest("--no-send")
            return
        self._send(session, pipe)
        self._prove(session, pipe)

    def _send(self, session: SshSession, pipe: Pipe) -> None:
        hostname = self._settings.relay.hostname or socket.gethostname()
        message = test_message(self._settings, hostname, os.getpid(), time.time_ns() // 1000)
        try:
            pipe.send(framed(message, self._server))
            pipe.receive(WATCHED_SECONDS)
            pipe.half_close()
        except UnavailableError as error:
            remedy = "does it limit who may connect, or how many? its log tells why"
            raise self._lost(session, error, ("it closes the connection at once", remedy)) from error
        self._course.passed(Step.MESSAGE, Finding(f"{len(message)} octets, {self._framing}"))

    def _prove(self, session: SshSession, pipe: Pipe) -> None:
        """Drain the stream, then open the next one: sshd turns a reset into an end of file as well."""
        try:
            pipe.drained(self._wishes.patience)
            pipe.close()
            session.open().close()
        except TemporaryError as error:
            raise self._never_closes() from error
        except UnavailableError as error:
            cause = f"it was gone before the proof was whole ({error.cause})"
            raise self._lost(session, error, (cause, "does it run still? its log tells why")) from error
        self._proof = DRAINED
        self._course.passed(Step.PROOF, Finding(f"{DRAINED}: {self._remote} has read to the end, and answers again"))

    # --- What is said ---

    @property
    def _remote(self) -> str:
        return str(Address(self._forwarding.remote_host, self._forwarding.remote_port))

    @property
    def _framing(self) -> str:
        return f"{self._server.protocol}, {self._server.framing}"

    def _lost(self, session: SshSession, error: UnavailableError, of_collector: tuple[str, str]) -> ProtocolError:
        """The collector's cause and remedy while the session lives, else the session's own."""
        if session.alive:
            return ProtocolError(f"collector {self._remote}", *of_collector)
        return ProtocolError(f"SSH server {self._forwarding.server_address}", error.cause, error.remedy)

    def _never_closes(self) -> ProtocolError:
        return ProtocolError(
            f"collector {self._remote}",
            f"it did not close within {self._wishes.patience:g} s of relay's end of file, so nothing can be proven",
            "use a collector that closes then (rsyslog's imtcp, `relay receive`); if it is only slow, wait longer: "
            "`--timeout 60`",
        )

    def _sentence(self) -> str:
        if self._failure is not None:
            return failure_sentence(self._name, self._failure)
        if not self._proof:
            return f"{self._name}: the way is open as far as {self._remote}; nothing was sent"
        server = Address(self._forwarding.server_address, self._forwarding.server_port)
        way = f"{self._forwarding.username}@{server} to {self._remote}"
        return f"{self._name}: a test message went through {way}, and its delivery is proven ({self._proof})"
