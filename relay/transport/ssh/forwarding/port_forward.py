"""The local end of a port forwarding, for other programs of the router: as `ssh -L` and the router's own forwarding.

An SSR's audisp-remote, an rsyslog or a Telegraf connects to local-address:local-port, and its stream leaves the SSH
server for remote-host:remote-port. relay's own delivery does not use it, and nothing that is accepted here ever counts
as delivered: the program only learns that a local socket has accepted its octets. A program that needs proof must get
it from its collector (RELP, auditd's protocol). A program that only sends should be a source of relay's instead.

sshtunnel runs the listener and copies the octets. relay gives it a verified session that is logged in, and no key or
password, because sshtunnel by itself verifies no host key (or none at its second start), binds every address, and reads
~/.ssh and the agent. Each attempt has a session and a listener of its own:

- The session is not the one that delivers, so a flood from a local program neither slows nor breaks relay's delivery.
- The port is open only while the session lives. When it is lost, the port closes with every connection, so that the
  programs notice; the next session opens it again. With a wrong host key or a rejected key it never opens.
- There is no half-close. When a program ends its half, everything it has sent still arrives, but the connection ends
  in both directions at once, and the collector's remaining answer is lost. A program must read before it ends.
- One thread serves both directions of a connection: a side that sends without reading can stop the other.
- When the far end dies, the data in transit is lost: 4 to 10 MB, in the kernels' buffers and the channel's window.

Ceilings: PortForwardLimits.connections, or as many as the server has channels for; a further one is closed at once, or
another one makes room (`local_clients`). relay's delivery has a session of its own, so no program can take its channel.
64 KiB a connection in each direction, besides the kernel's buffers. Errors are those of connecting
(relay.transport.ssh.handshake) and of `local_port`; each is reported, and connecting is retried.
"""

import contextlib
import functools
import logging
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import paramiko
from sshtunnel import BaseSSHTunnelForwarderError, SSHTunnelForwarder, _ForwardHandler, _ThreadingForwardServer
from typing_extensions import override

from relay.errors import InternalError, RelayError
from relay.system.background.supervision import keep_running
from relay.transport.retry import Backoff, keep_trying
from relay.transport.ssh import channel_mark
from relay.transport.ssh.forwarding import local_port
from relay.transport.ssh.forwarding.local_clients import LocalClients
from relay.transport.ssh.handshake import HandshakeLimits
from relay.transport.ssh.session import ChannelShortageError, SshSession
from relay.values.address import Address
from relay.values.configuration.settings import PortForwarding
from relay.values.text import bug_text, error_text

_BACKLOG: Final = 64
_WINDOW: Final = 1 << 16  # octets of the collector's answers, and of the program's data in our socket
_COPIED: Final = 16_384
_LOOK_INTERVAL: Final = 5000  # milliseconds
_ATTEMPTS: Final = 3
"""To open a channel while other connections make room; programs that connect at the same time compete for it."""
_CLOSING: Final = 2.0
"""Seconds until a connection that makes room has closed its channel."""
_POLL_INTERVAL: Final = 3600.0  # seconds; sshtunnel polls ten times a second, although closing the socket wakes it

_log = logging.getLogger("relay.port_forward")
# sshtunnel's own log is silenced, as paramiko's is: its failures arrive as exceptions.
_silent = logging.getLogger("relay.port_forward.sshtunnel")
_silent.setLevel(logging.CRITICAL + 1)

ReportOutcome = Callable[[RelayError | None], None]
"""Called with the reason why a local program was not connected, or None when one was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortForwardLimits:
    """What a port forwarding allows."""

    connections: int = 64  # at once. Each takes three descriptors and a thread
    settled: float = 10.0  # seconds after which the loss of a session is no longer a failed attempt
    handshake: HandshakeLimits = HandshakeLimits()  # noqa: RUF009 - immutable


class PortForward:
    """One port forwarding's local end. Call `start` once; `stop` closes it, even while it is connecting."""

    def __init__(
        self,
        forwarding: PortForwarding,
        *,
        limits: PortForwardLimits | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self.name = str(forwarding.local)
        self.state = "starting"
        self.error: RelayError | None = None
        """Why programs are not connected at the moment; None while they are."""
        self._forwarding = forwarding
        self._limits = limits or PortForwardLimits()
        self._backoff = backoff
        self._clients = LocalClients(self._limits.connections, forwarding.local_port)
        self._session: SshSession | None = None
        self._stopped = threading.Event()
        work = functools.partial(keep_running, f"port-forwarding {self.name}", self.run, self._stopped)
        self._thread = threading.Thread(target=work, name=f"port-forwarding {self.name}", daemon=True)

    def __repr__(self) -> str:
        return f"<PortForward {self.name} {self.state}, {self.connections} connections>"

    @property
    def connections(self) -> int:
        """How many connections of local programs are open now."""
        return len(self._clients)

    def start(self) -> None:
        """Begin to connect; the port opens with the session."""
        self._thread.start()

    def stop(self, seconds: float = 10.0) -> None:
        """Close the port and every connection; wait so many seconds at most."""
        self._stopped.set()
        session = self._session
        if session is not None:
            session.close()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def run(self) -> None:
        """Keep the port open until stopped; the thread's body."""

        def report_wait(error: RelayError, seconds: float) -> None:
            self._report(error)
            self.state = f"waiting {seconds:.0f} s to try again"

        files = (self._forwarding.private_key, self._forwarding.known_hosts)
        keep_trying(self._attempt, self._stopped, report_wait, backoff=self._backoff, files=files)
        self.state = "stopped"

    def _report(self, error: RelayError | None) -> None:
        """Keep the error for `relay status`; log when it begins and when it ends."""
        if self._stopped.is_set():
            return
        former, self.error = self.error, error
        if error is not None and former is None:
            _log.warning("port-forwarding %s: %s", self.name, error)
        elif error is None and former is not None:
            _log.warning("port-forwarding %s works again", self.name)

    def _attempt(self) -> None:
        """One session; returns if it is lost after it had settled, raises if it is lost before."""
        if self._stopped.is_set():
            return
        self.state = "connecting"
        try:
            self._serve()
        except RelayError:
            if not self._stopped.is_set():
                raise
        except Exception as error:
            # A bug must not close the port for good: it is reported like any other failure, and retried.
            raise InternalError(self.name, bug_text(error), "please report it with the log") from error
        finally:
            self._session = None

    def _serve(self) -> None:
        forwarding = self._forwarding
        # First, so that a port that is taken costs the server no login.
        local_port.require_free(forwarding.local_address, forwarding.local_port)
        with SshSession.connect(forwarding, self._stopped, limits=self._limits.handshake) as session:
            self._session = session
            self._clients.ceiling = self._limits.connections
            with contextlib.closing(_LocalListener(session, forwarding, self._clients, self._report)) as listener:
                listener.listen()
                begun = time.monotonic()
                self._report(None)
                _log.info("port-forwarding %s: session opened", self.name)
                self.state = "listening"  # last: a port in this state has no error
                if not self._stopped.is_set():  # else `stop` may have come too early to see the session
                    session.wait()
            _log.info("port-forwarding %s: session ended", self.name)
            lost = session.loss(f"forward to {Address(forwarding.remote_host, forwarding.remote_port)}")
        if self._stopped.is_set():
            return
        self._report(lost)
        if time.monotonic() - begun < self._limits.settled:
            raise lost


class _LocalListener(SSHTunnelForwarder):
    """sshtunnel on a session of relay's. For one start only."""

    skip_tunnel_checkup = True  # the check would connect to the collector

    def __init__(
        self, session: SshSession, forwarding: PortForwarding, clients: LocalClients, report: ReportOutcome
    ) -> None:
        self._session = session
        self._forwarding = forwarding
        self._clients = clients
        self._report = report
        super().__init__(
            (forwarding.server_address, forwarding.server_port),
            ssh_config_file=None,
            ssh_username=forwarding.username,
            allow_agent=False,
            local_bind_address=(forwarding.local_address, forwarding.local_port),
            remote_bind_address=(forwarding.remote_host, forwarding.remote_port),
            logger=_silent,
        )

    def __repr__(self) -> str:
        return f"<_LocalListener on {self._session!r}>"

    __str__ = __repr__  # sshtunnel's shows passwords

    def listen(self) -> None:
        """Open the port; the session's error if that is lost, else `local_port.refusal`."""
        try:
            self.start()
        except BaseSSHTunnelForwarderError as error:
            raise self._session.loss(f"port-forwarding {self._forwarding.local}") from error

    def close(self) -> None:
        """Close port, connections and session; whether or not it has been started."""
        if self.is_alive:
            self.stop(force=True)
        for server in self._server_list:  # bound, but never started: `stop` would wait for ever
            server.server_close()
        self._clients.cut()

    def open_channel(
        self, kind: str, dest_addr: tuple[str, int], src_addr: tuple[Any, ...], timeout: float
    ) -> paramiko.Channel:
        """A channel for a local program's connection; sshtunnel calls this in place of paramiko's method."""
        del kind, dest_addr, timeout  # the session has its own
        try:
            channel = self._open(src_addr)
        except RelayError as error:
            if self._session.alive:  # the thread that waits for the session reports its loss
                self._report(error)
            raise
        self._report(None)
        return channel

    def _open(self, program: tuple[Any, ...]) -> paramiko.Channel:
        originator = channel_mark.of_program(program[:2])
        for _ in range(_ATTEMPTS):
            try:
                return self._session.open_channel(originator, _WINDOW)
            except ChannelShortageError:
                if not self._clients.replace_one(program[1], _CLOSING):
                    raise
        return self._session.open_channel(originator, _WINDOW)

    # --- What sshtunnel would do by itself ---

    @staticmethod
    @override
    def _consolidate_auth(**given: object) -> tuple[None, list[paramiko.PKey]]:
        del given
        return None, []  # no password and no key: there is nothing to log in to

    @override
    def _connect_to_gateway(self) -> None:
        self._transport = self._session.layer

    @override
    def _make_ssh_forward_handler_class(self, remote_address_: tuple[str, int]) -> type[_ForwardHandler]:
        opener, clients = self, self._clients

        class Handler(_ForwardHandler):
            remote_address = remote_address_
            ssh_transport = opener
            logger = _silent

            @override
            def _redirect(self, chan: paramiko.Channel) -> None:
                _copy(self.request, chan, clients)

        return Handler

    @override
    def _make_ssh_forward_server_class(self, remote_address_: tuple[str, int]) -> "Callable[..., _Server]":
        del remote_address_
        return lambda *given, **named: _Server(self._clients, *given, **named)

    @override
    def _serve_forever_wrapper(self, _srv: Any, poll_interval: float = _POLL_INTERVAL) -> None:
        _srv.serve_forever(poll_interval)


def _copy(program: socket.socket, channel: paramiko.Channel, clients: LocalClients) -> None:
    """Copy both directions until one ends; in place of sshtunnel's, whose select(2) fails above descriptor 1023."""
    clients.connected(program)
    poll = select.poll()
    poll.register(program, select.POLLIN)
    poll.register(channel, select.POLLIN)
    while channel.active:
        ready = {descriptor for descriptor, _ in poll.poll(_LOOK_INTERVAL)}
        if program.fileno() in ready:
            if not (data := program.recv(_COPIED)):
                return
            clients.has_sent(program)
            channel.sendall(data)
        if channel.fileno() in ready:
            if not channel.recv_ready():
                return
            program.sendall(channel.recv(_COPIED))


class _Server(_ThreadingForwardServer):
    """The listening socket, with a ceiling on its connections; `shutdown` closes it at once."""

    request_queue_size = _BACKLOG

    def __init__(
        self,
        clients: LocalClients,
        address: tuple[str, int],
        handler: Any,  # noqa: ANN401 - theirs
        *,
        logger: logging.Logger,
    ) -> None:
        self._clients = clients
        self._full = False
        self._local = address
        self.address_family = local_port.family(address[0])
        super().__init__(address, handler, logger=logger)

    @override
    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)  # each connection's
        try:
            super().server_bind()
        except OSError as error:
            raise local_port.refusal(error, *self._local) from error

    @override
    def verify_request(self, request: Any, client_address: Any) -> bool:
        admitted = self._clients.admit(request, client_address[1])
        if not admitted and not self._full:
            message = "port-forwarding %s:%d: rejecting connections (now from %s), because %d are open"
            _log.warning(message, *self._local, client_address[0], self._clients.ceiling)
        self._full = not admitted
        return admitted  # socketserver closes what is not admitted

    @override
    def shutdown_request(self, request: Any) -> None:
        self._clients.leave(request)
        super().shutdown_request(request)

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        # A missing channel was reported already, and a program that goes away is not an error.
        error = sys.exception()
        cause = error_text(error) if error is not None else "unknown"
        _log.debug("port-forwarding: the connection of %s ended: %s", client_address, cause)

    @override
    def shutdown(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread in `serve_forever`
        super().shutdown()
