"""The local end of a port-forwarding, for other programs of the router: what `ssh -L` and the router's own make.

An SSR's audisp-remote, an rsyslog or a Telegraf connects to local-address:local-port, and its stream comes out at
remote-host:remote-port behind the SSH server. relay's own delivery does not go this way, and nothing that is accepted
here is ever counted as delivered: a program learns no more than that a local socket has taken its octets. One that
needs proof has to ask its collector (RELP, auditd's protocol), and one that only sends is better a source of relay's.

sshtunnel runs the listener and copies the octets. It is given a session that relay has verified and logged in, and
no key or password to make one of its own: by itself it verifies no host key, or none at its second start, binds every
address, and reads ~/.ssh and the agent. So each attempt has a session and a listener of its own:

- The session is not the one that delivers, so that no flood from a local program slows relay's delivery or breaks it.
- The port is open only while the session stands. When that is lost, the port closes with every connection, so that the
  programs notice, and opens again with the next session. Behind a wrong host key or a refused key it never opens.
- There is no half-close: when a program ends its half, what it has sent still arrives whole, but the connection ends
  at once both ways, and what the collector had yet to say is lost. A program must read before it says that it is done.
- One thread carries both directions of a connection: a side that sends without ever reading can stop the other.
- When the far end dies, what was on its way is lost: 4 to 10 MB, in the kernels' buffers and the channel's window.

Ceilings: MAX_CONNECTIONS at once, further ones are closed at once; 64 KiB a connection in each direction, besides the
kernel's. Errors are those of connecting (relay.transport.ssh.handshake) and of relay.transport.ssh.local_port; none
ends it.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import paramiko
from sshtunnel import BaseSSHTunnelForwarderError, SSHTunnelForwarder, _ForwardHandler, _ThreadingForwardServer

from relay.errors import InternalError, RelayError
from relay.transport import retry
from relay.transport.ssh import local_port
from relay.transport.ssh.handshake import DEFAULT_LIMITS, HandshakeLimits
from relay.transport.ssh.session import SshSession
from relay.values.settings import PortForwarding
from relay.values.text import error_text

MAX_CONNECTIONS: Final = 64  # three descriptors each: sshtunnel's select(2) knows none above 1023
SETTLED: Final = 10.0  # seconds that a session must have stood for its loss to be no failed attempt
_BACKLOG: Final = 64
_WINDOW: Final = 1 << 16  # octets of the collector's words, and of the program's in our socket
_LONG: Final = 3600.0  # seconds; sshtunnel looks about ten times a second, which ends here without

_log = logging.getLogger("relay.port_forward")
# sshtunnel's own words stay unsaid, as paramiko's do: what it has to say arrives as exceptions.
_unsaid = logging.getLogger("relay.port_forward.sshtunnel")
_unsaid.setLevel(logging.CRITICAL + 1)

Told = Callable[[RelayError | None], None]
"""Called with why a local program was not connected, or None when one was."""


class PortForward:
    """One port-forwarding's local end. `start` it once; `stop` closes it whatever it waits for."""

    def __init__(
        self, forwarding: PortForwarding, *, limits: HandshakeLimits = DEFAULT_LIMITS, longest: float = retry.LONGEST
    ) -> None:
        self.name = str(forwarding.local)
        self.state = "starting"
        self.error: RelayError | None = None
        """Why programs are not connected at the moment; None while they are."""
        self._forwarding = forwarding
        self._limits = limits
        self._longest = longest
        self._clients = _Clients()
        self._session: SshSession | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self.run, name=f"port-forwarding {self.name}", daemon=True)

    def __repr__(self) -> str:
        return f"<PortForward {self.name} {self.state}, {self.connections} connections>"

    @property
    def connections(self) -> int:
        """How many local programs' connections are open now."""
        return len(self._clients)

    def start(self) -> None:
        """Begin to connect, and listen as soon as the session stands."""
        self._thread.start()

    def stop(self, seconds: float = 10.0) -> None:
        """Close the port and every connection."""
        self._stopped.set()
        session = self._session
        if session is not None:
            session.close()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def run(self) -> None:
        """Keep the port open until stopped; the thread's body."""
        files = (self._forwarding.private_key, self._forwarding.known_hosts)
        retry.keep_trying(self._attempt, self._stopped, self._wait, longest=self._longest, files=files)
        self.state = "stopped"

    def _wait(self, error: RelayError, seconds: float) -> None:
        self._tell(error)
        self.state = f"waiting {seconds:.0f} s to try again"

    def _tell(self, error: RelayError | None) -> None:
        """Keep what is wrong for `relay status`, and log when it begins and when it is over."""
        if self._stopped.is_set():
            return
        former, self.error = self.error, error
        if error is not None and former is None:
            _log.warning("port-forwarding %s: %s", self.name, error)
        elif error is None and former is not None:
            _log.warning("port-forwarding %s works again", self.name)

    def _attempt(self) -> None:
        """One session; returns when it is lost after it had settled, raises when it is lost before."""
        if self._stopped.is_set():
            return
        self.state = "connecting"
        try:
            self._serve()
        except RelayError:
            if not self._stopped.is_set():
                raise
        except Exception as error:
            # A bug of ours must not close the port for good: it is told like any other failure, and tried again.
            _log.exception("port-forwarding %s failed", self.name)
            raise InternalError(self.name, f"a bug: {error_text(error)}", "please report it with the log") from error
        finally:
            self._session = None

    def _serve(self) -> None:
        # A port that is taken costs the server no login.
        local_port.require_free(self._forwarding.local_address, self._forwarding.local_port)
        with SshSession.connect(self._forwarding, self._stopped, limits=self._limits) as session:
            self._session = session
            with _listening(session, self._forwarding, self._clients, self._tell):
                begun = time.monotonic()
                self._tell(None)
                _log.info("port-forwarding %s: session opened", self.name)
                self.state = "listening"  # last: whoever sees it sees a port without an error
                if not self._stopped.is_set():  # else `stop` may have come too early to see the session
                    session.wait()
            _log.info("port-forwarding %s: session ended", self.name)
            lost = session.loss(f"forward to {self._forwarding.remote_host}:{self._forwarding.remote_port}")
        if self._stopped.is_set():
            return
        self._tell(lost)
        if time.monotonic() - begun < SETTLED:
            raise lost


class _Clients:
    """The connections of local programs that are open now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: socket.socket) -> bool:
        """Whether there is room for one more; if so it is counted."""
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                return False
            self._open.add(connection)
            return True

    def leave(self, connection: socket.socket) -> None:
        """It is closed, or about to be."""
        with self._lock:
            self._open.discard(connection)

    def cut(self) -> None:
        """End every connection, which frees the threads that wait in them."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _listening(session: SshSession, forwarding: PortForwarding, clients: _Clients, told: Told) -> Iterator[None]:
    """Listen while the block runs; afterwards port, connections and session are closed."""
    listener = _Listener(session, forwarding, clients, told)
    try:
        try:
            listener.start()
        except BaseSSHTunnelForwarderError as error:
            raise session.loss(f"port-forwarding {forwarding.local}") from error
        yield
    finally:
        listener.close()


class _Listener(SSHTunnelForwarder):
    """sshtunnel on a session of ours. For one start only."""

    skip_tunnel_checkup = True  # it would connect to the collector "to check"

    def __init__(self, session: SshSession, forwarding: PortForwarding, clients: _Clients, told: Told) -> None:
        self._session = session
        self._clients = clients
        self._told = told
        super().__init__(
            (forwarding.server_address, forwarding.server_port),
            ssh_config_file=None,
            ssh_username=forwarding.username,
            allow_agent=False,
            local_bind_address=(forwarding.local_address, forwarding.local_port),
            remote_bind_address=(forwarding.remote_host, forwarding.remote_port),
            logger=_unsaid,
        )

    def __repr__(self) -> str:
        return f"<_Listener on {self._session!r}>"

    __str__ = __repr__  # sshtunnel's tells passwords

    @staticmethod
    def _consolidate_auth(**given: object) -> tuple[None, list[paramiko.PKey]]:
        """No password and no key, from wherever: it has nothing to log in to."""
        del given
        return None, []

    def _connect_to_gateway(self) -> None:
        self._transport = self._session.layer

    def _make_ssh_forward_handler_class(self, remote_address_: tuple[str, int]) -> type[_ForwardHandler]:
        way = _ParamikoTransport(self._session, self._told)

        class Handler(_ForwardHandler):
            remote_address = remote_address_
            ssh_transport = way
            logger = _unsaid

        return Handler

    def _make_ssh_forward_server_class(self, remote_address_: tuple[str, int]) -> "Callable[..., _Server]":
        del remote_address_
        return lambda *given, **named: _Server(self._clients, *given, **named)

    def _serve_forever_wrapper(self, _srv: Any, poll_interval: float = _LONG) -> None:  # noqa: ANN401 - theirs
        _srv.serve_forever(poll_interval)

    def close(self) -> None:
        """Close port, connections and session; whether or not it has been started."""
        if self.is_alive:
            self.stop(force=True)
        for server in self._server_list:  # bound, but never started: `stop` would wait for ever
            server.server_close()
        self._clients.cut()


class _ParamikoTransport:
    """What sshtunnel takes for paramiko's transport: it opens channels as the session does, and tells why not."""

    def __init__(self, session: SshSession, told: Told) -> None:
        self._session = session
        self._told = told

    def open_channel(
        self, kind: str, dest_addr: tuple[str, int], src_addr: tuple[Any, ...], timeout: float
    ) -> paramiko.Channel:
        """A channel for a local program's connection."""
        del kind, dest_addr, timeout  # the session has its own
        try:
            channel = self._session.open_channel(src_addr[:2], _WINDOW)
        except RelayError as error:
            if self._session.alive:  # its loss is told by whoever waits for that
                self._told(error)
            raise
        self._told(None)
        return channel


class _Server(_ThreadingForwardServer):
    """The listening socket, with a ceiling on its connections, and closed the moment it is told to."""

    request_queue_size = _BACKLOG

    def __init__(self, clients: _Clients, address: tuple[str, int], handler: Any, *, logger: logging.Logger) -> None:  # noqa: ANN401 - theirs
        self._clients = clients
        self._full = False
        self._local = address
        self.address_family = local_port.family(address[0])
        super().__init__(address, handler, logger=logger)

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)  # each connection's
        try:
            super().server_bind()
        except OSError as error:
            raise local_port.refusal(error, *self._local) from error

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ANN401 - theirs
        """Whether there is room for one more connection; socketserver closes it otherwise."""
        admitted = self._clients.admit(request)
        if not admitted and not self._full:
            words = "port-forwarding %s:%d: connections are turned away (now from %s): %d are open"
            _log.warning(words, *self._local, client_address[0], MAX_CONNECTIONS)
        self._full = not admitted
        return admitted

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - theirs
        """Close a connection."""
        self._clients.leave(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing here: why there was no channel has been told, and a program that goes away is no error."""
        del request
        _log.debug("port-forwarding: the connection of %s ended", client_address, exc_info=True)

    def shutdown(self) -> None:
        """Refuse connections from now on, and return when `serve_forever` has."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes its thread
        super().shutdown()
