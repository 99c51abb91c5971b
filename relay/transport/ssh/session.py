"""The SSH session to a server, and the pipes through it: `direct-tcpip` channels (RFC 4254 section 7.2).

`SshSession.connect` raises what relay.transport.ssh.handshake lists, and what is wrong with the private key's file. A
session that is not alive stays dead: connect anew. A server that stops answering is noticed within 15 s (with the
default limits), however full its channels are, and a slow collector is never taken for a dead server.

A pipe keeps what relay.transport promises. The end of file counts as proof only when the channel received it, after our
half-close, on a living session, and a channel is half-closed no sooner than SETTLING after it opened, or twice the time
that opening it took: a collector that accepts and closes at once would otherwise look like one that has read all. Open
a pipe ahead of its use, and this costs nothing.
"""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

import paramiko

from relay.errors import InternalError, UnavailableError
from relay.transport import LARGEST_READ, SETTLING, drain
from relay.transport.ssh import private_key
from relay.transport.ssh.handshake import (
    DEFAULT_LIMITS,
    Handshake,
    HandshakeLimits,
    HandshakeStep,
    Passed,
    pass_quietly,
    shown_host_key,
)
from relay.transport.ssh.known_hosts import KnownHosts
from relay.transport.ssh.transport_layer import TransportLayer
from relay.values.settings import PortForwarding

_PIECE: Final = 1 << 15  # octets handed to paramiko at once; OpenSSH takes no larger packet
_SEND_GLANCE: Final = 1.0  # seconds between two looks at a pipe that takes nothing
_NOWHERE: Final = ("127.0.0.1", 0)  # the originator of a channel, of which RFC 4254 wants an address
# RFC 4254 section 5.1
_PROHIBITED: Final = 1
_SHORTAGE: Final = 4


class SshSession:
    """A verified, authenticated session; a relay.transport.Transport to the forwarding's remote host and port."""

    def __init__(self, layer: TransportLayer, forwarding: PortForwarding, limits: HandshakeLimits) -> None:
        self._layer = layer
        self._forwarding = forwarding
        self._limits = limits
        self._opening = threading.Lock()
        self._closed = False

    @classmethod
    def connect(
        cls,
        forwarding: PortForwarding,
        stop: threading.Event,
        *,
        limits: HandshakeLimits = DEFAULT_LIMITS,
        passed: Passed = pass_quietly,
    ) -> Self:
        """Connect, verify the server, log in. A `stop` that is set ends it with TemporaryError."""
        key = private_key.load(forwarding.private_key, forwarding.algorithms)
        passed(HandshakeStep.PRIVATE_KEY, f"{key.get_name()} {private_key.public_key(key).fingerprint}")
        known_hosts = KnownHosts.read(forwarding.known_hosts)
        host, port = forwarding.server_address, forwarding.server_port
        pinned = [known.key.type for known in known_hosts.pinned(host, port)]
        handshake = Handshake(host, port, stop, limits, passed)
        with contextlib.ExitStack() as undo:
            layer = handshake.exchange_keys(forwarding.algorithms, pinned)
            undo.callback(layer.close)
            shown = shown_host_key(layer)
            known_hosts.verify(host, port, shown)
            passed(HandshakeStep.HOST_KEY, f"{shown.type} {shown.fingerprint}")
            handshake.authenticate(layer, forwarding.username, key, (forwarding.remote_host, forwarding.remote_port))
            layer.watch(limits.liveness)
            undo.pop_all()
        return cls(layer, forwarding, limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        way = f"{self._server} to {self._remote[0]}:{self._remote[1]}"
        return f"<SshSession {way}, {'alive' if self.alive else 'dead'}>"

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"SSH session to {self._server}"

    @property
    def alive(self) -> bool:
        """Whether pipes may be opened and trusted."""
        return not self._closed and self._layer.is_active()

    @property
    def _server(self) -> str:
        return f"{self._forwarding.username}@{self._forwarding.server_address}:{self._forwarding.server_port}"

    @property
    def _remote(self) -> tuple[str, int]:
        return self._forwarding.remote_host, self._forwarding.remote_port

    @property
    def layer(self) -> TransportLayer:
        """The transport layer, for a library that asks for it; a channel is opened with `open_channel` all the same."""
        return self._layer

    def open(self) -> "SshPipe":
        """A new stream to the collector; UnavailableError when the server will not, or nothing listens there."""
        begun = time.monotonic()
        channel = self.open_channel()
        opened = time.monotonic()
        return SshPipe(self, channel, opened + max(SETTLING, 2 * (opened - begun)))

    def open_channel(self, originator: tuple[str, int] = _NOWHERE, window: int | None = None) -> paramiko.Channel:
        """The same as a bare channel, on behalf of another program; it may send us `window` octets unread."""
        what = f"forward to {self._remote[0]}:{self._remote[1]} through {self._server}"
        with self._opening:  # paramiko keeps one reason for all refused channels
            if not self.alive:
                raise self.loss(what)
            try:
                return self._layer.open_channel(
                    "direct-tcpip", self._remote, originator, window, timeout=self._limits.opening
                )
            except paramiko.ChannelException as error:
                raise self._refusal(what, error.code) from error
            except (paramiko.SSHException, EOFError, OSError) as error:
                if self.alive:
                    # An answer that comes later would leave a stream that belongs to nobody.
                    self.close()
                    cause = f"the SSH server did not answer within {self._limits.opening:g} s"
                    raise UnavailableError(what, cause, "is it overloaded?") from error
                raise self.loss(what) from error

    def wait(self) -> None:
        """Return once the session has ended."""
        self._layer.join()

    def close(self) -> None:
        """End the session and every pipe; whoever is blocked in one is freed at once."""
        self._closed = True
        self._layer.close()

    def loss(self, what: str) -> UnavailableError:
        """The error for something that failed because the session has ended."""
        if self._layer.silent:
            timeouts = self._limits.liveness
            cause = f"the SSH server has not answered for {timeouts.quiet + timeouts.answer:g} s"
            return UnavailableError(what, cause, "is it, or the network between, down?")
        if self._closed:
            return UnavailableError(what, "the SSH session is closed")
        return UnavailableError(what, "the SSH session broke off", "the SSH server's log tells why")

    def _refusal(self, what: str, reason: int) -> UnavailableError:
        host, port = self._remote
        words = self._layer.refusal
        if reason == _PROHIBITED:
            return UnavailableError(
                what, "administratively prohibited by the SSH server", self._why_prohibited(f"{host}:{port}")
            )
        if reason == _SHORTAGE:
            return UnavailableError(what, "the SSH server has no room for another channel", "raise its limit")
        if words == os.strerror(errno.ECONNREFUSED):
            remedy = f"nothing listens on {host}:{port} at the SSH server; start the collector or mend remote-port"
            return UnavailableError(what, "connection refused", remedy)
        cause = f"the SSH server cannot connect ({words or 'no reason given'})"
        return UnavailableError(what, cause, "are remote-host and remote-port right, as seen from the SSH server?")

    def _why_prohibited(self, place: str) -> str:
        """What may forbid a forward; a server does not say which of them does."""
        if self._layer.is_relay:
            return (
                f"`relay receive` forwards to its own listeners only, and to those of them that the key's permitopen "
                f"names: is {place} one of them? its log names what was refused"
            )
        user = self._forwarding.username
        return (
            f"one of five settings forbids {place}. In {user}'s authorized_keys there: (1) permitopen names another "
            "place; (2) permitopen names localhost and remote-host is 127.0.0.1, or the reverse, which are two places "
            "for sshd; (3) restrict without port-forwarding, or no-port-forwarding. In its sshd_config: (4) PermitOpen "
            "names another place; (5) AllowTcpForwarding is no or remote, or DisableForwarding is yes"
        )


class SshPipe:
    """One stream through a session; a relay.transport.Pipe."""

    local = False

    def __init__(self, session: SshSession, channel: paramiko.Channel, settled: float) -> None:
        self._session = session
        self._channel = channel
        self._settled = settled
        self._half_closed = False
        self._readable = threading.Event()  # also set by the end of file and by the channel's end
        channel.in_buffer.set_event(self._readable)
        # Only sends wait in paramiko: receives are made when there is something, so this time-out is not theirs.
        channel.settimeout(_SEND_GLANCE)

    def __repr__(self) -> str:
        state = "ended" if self.ended else "half-closed" if self._half_closed else "open"
        return f"<SshPipe {state} through {self._session!r}>"

    @property
    def ended(self) -> bool:
        """Whether the collector has ended its half, or the pipe is dead."""
        return bool(self._channel.eof_received) or self._channel.closed or not self._session.alive

    def send(self, data: bytes) -> None:
        """Send everything; see relay.transport.Pipe."""
        if self._half_closed:
            raise InternalError("pipe", "nothing can be sent after the half-close")
        place = 0
        while place < len(data):
            if self.ended:
                raise self._broken("the collector closed the connection")
            with self._mapped(), contextlib.suppress(TimeoutError):
                place += self._channel.send(data[place : place + _PIECE])
        if not self._session.alive:
            raise self._broken("")  # paramiko drops the last piece silently when the session has just died

    def receive(self, timeout: float) -> bytes | None:
        """What the collector says; see relay.transport.Pipe."""
        if not self._readable.wait(timeout):
            return None
        with self._mapped():
            data = self._channel.recv(LARGEST_READ)
        if not data and not (self._channel.eof_received and self._session.alive):
            raise self._broken("the channel was closed without an end of file")
        return data

    def half_close(self) -> None:
        """Say that no more comes; see relay.transport.Pipe."""
        time.sleep(max(0.0, self._settled - time.monotonic()))
        if self.ended:
            raise self._broken("the collector closed the connection before relay did")
        self._half_closed = True
        with self._mapped():
            self._channel.shutdown_write()

    def drained(self, timeout: float) -> None:
        """Return once the collector has ended its half after ours; see relay.transport.Pipe."""
        if not self._half_closed:
            raise InternalError("pipe", "only a half-closed stream can be drained")
        drain(self, timeout, f"proof through the {self._session.name}")

    def close(self) -> None:
        """Give the stream up; never raises."""
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            self._channel.close()

    def _broken(self, cause: str) -> UnavailableError:
        what = f"stream through the {self._session.name}"
        return UnavailableError(what, cause) if self._session.alive and cause else self._session.loss(what)

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._broken("the channel is closed") from error
