"""The local end of a port forwarding, for other programs of the router: as `ssh -L` and the router's own forwarding.

An SSR's audisp-remote, an rsyslog or a Telegraf connects to local-address:local-port, or to a Unix socket that is open
to certain users, and its stream leaves the SSH server for remote-host:remote-port. relay's own delivery does not use
it, and nothing that is accepted here ever counts as delivered: the program only learns that a local socket has accepted
its octets. A program that needs proof must get it from its collector (RELP, auditd's protocol). A program that only
sends should be a source of relay's instead.

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
import threading
import time
from dataclasses import dataclass

from relay.errors import InternalError, RelayError
from relay.system.background.supervision import keep_running
from relay.transport.retry import Backoff, keep_trying
from relay.transport.ssh.forwarding import local_port
from relay.transport.ssh.forwarding.local_clients import LocalClients
from relay.transport.ssh.forwarding.local_listener import LocalListener
from relay.transport.ssh.handshake import HandshakeLimits
from relay.transport.ssh.session import SshSession
from relay.values.address import Address
from relay.values.configuration.settings import PortForwarding
from relay.values.text import bug_text

_log = logging.getLogger("relay.port_forward")


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
        self.name = forwarding.listens_on
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
        if not forwarding.local_socket:
            local_port.require_free(forwarding.local_address, forwarding.local_port)
        with SshSession.connect(forwarding, self._stopped, limits=self._limits.handshake) as session:
            self._session = session
            self._clients.ceiling = self._limits.connections
            with contextlib.closing(LocalListener(session, forwarding, self._clients, self._report)) as listener:
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
