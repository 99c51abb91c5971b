"""The SSH session to a server, and the pipes through it: `direct-tcpip` channels (RFC 4254 section 7.2).

`SshSession.connect` raises the errors of relay.transport.ssh.handshake and of the private key's file. A dead session
stays dead: connect again. A server that stops answering is noticed within 15 s (with the default limits), however full
its channels are, and a slow collector never looks like a dead server.

A pipe keeps the promises of relay.transport. The end of file counts as proof only if the channel received it after our
half-close and the session is alive. A half-close waits until SETTLING seconds after the channel opened, or twice the
time that opening it took: otherwise a collector that accepts and closes at once would look like one that has read
everything. A pipe that is opened ahead of its use never waits.
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
from typing_extensions import override

from relay.errors import InternalError, UnavailableError
from relay.transport import LARGEST_READ, SETTLING, Pipe, Transport, drain
from relay.transport.ssh import channel_mark, private_key
from relay.transport.ssh.handshake import (
    CHECK_SERVER,
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
from relay.values.address import Address
from relay.values.configuration.settings import PortForwarding

_PIECE: Final = 1 << 15  # octets handed to paramiko at once; OpenSSH accepts no larger packet
_SEND_TIMEOUT: Final = 1.0  # seconds after which a blocked send checks whether the pipe is dead
# RFC 4254 section 5.1
_PROHIBITED: Final = 1
_SHORTAGE: Final = 4


class SshSession(Transport):
    """A verified, authenticated session: the transport to the forwarding's remote host and port."""

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
        """Connect, verify the server, log in; TemporaryError once `stop` is set."""
        key = private_key.load(forwarding.private_key, forwarding.algorithms)
        public = private_key.public_key(key)
        passed(HandshakeStep.PRIVATE_KEY, f"{public.type} {public.fingerprint}")
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
            layer.watch(limits.liveness, limits.new_keys)
            undo.pop_all()
        return cls(layer, forwarding, limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SshSession {self._server} to {self._remote}, {'alive' if self.alive else 'dead'}>"

    @property
    def name(self) -> str:
        """The session's name in errors."""
        return f"SSH session to {self._server}"

    @property
    @override
    def alive(self) -> bool:
        return not self._closed and self._layer.is_active()

    @property
    def _server(self) -> str:
        return f"{self._forwarding.username}@{Address(self._forwarding.server_address, self._forwarding.server_port)}"

    @property
    def _remote(self) -> Address:
        return Address(self._forwarding.remote_host, self._forwarding.remote_port)

    @property
    def layer(self) -> TransportLayer:
        """The transport layer, for a library that needs it; it must open channels with `open_channel`."""
        return self._layer

    @override
    def open(self) -> "SshPipe":
        begun = time.monotonic()
        channel = self.open_channel()
        opened = time.monotonic()
        return SshPipe(self, channel, opened + max(SETTLING, 2 * (opened - begun)))

    def open_channel(
        self, originator: tuple[str, int] = channel_mark.OWN, window: int | None = None
    ) -> paramiko.Channel:
        """A bare channel, for another program; the server may send `window` octets before they are read."""
        what = f"forward to {self._remote} through {self._server}"
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
                    # A late answer would leave a stream without an owner.
                    self.close()
                    cause = f"the SSH server did not answer within {self._limits.opening:g} s"
                    raise UnavailableError(what, cause, "check whether the server is overloaded") from error
                raise self.loss(what) from error

    def wait(self) -> None:
        """Return once the session has ended."""
        self._layer.join()

    @override
    def close(self) -> None:
        self._closed = True
        self._layer.close()

    def loss(self, what: str) -> UnavailableError:
        """The error for `what`, which failed because the session has ended."""
        if self._layer.silent:
            timeouts = self._limits.liveness
            cause = f"the SSH server has not answered for {timeouts.quiet + timeouts.answer:g} s"
            return UnavailableError(what, cause, "check the server and the network")
        if fault := self._layer.fault:
            cause = f"relay ended the session, because the SSH server broke the protocol: {fault}"
            return UnavailableError(what, cause, CHECK_SERVER)
        if self._closed:
            return UnavailableError(what, "the SSH session is closed")
        return UnavailableError(what, "the SSH session broke off", "the SSH server's log names the reason")

    def _refusal(self, what: str, reason: int) -> UnavailableError:
        reported = self._layer.refusal
        if reason == _PROHIBITED:
            remedy = self._prohibition_remedy(self._remote)
            return UnavailableError(what, "administratively prohibited by the SSH server", remedy)
        if reason == _SHORTAGE:
            cause = "the SSH server refuses another channel (resource shortage)"
            return ChannelShortageError(what, cause, "raise its limit")
        if reported == os.strerror(errno.ECONNREFUSED):
            remedy = f"nothing listens on {self._remote} at the SSH server; start the collector or correct remote-port"
            return UnavailableError(what, "connection refused", remedy)
        cause = f"the SSH server cannot connect ({reported or 'no reason given'})"
        return UnavailableError(
            what, cause, "check remote-host and remote-port: the SSH server must be able to connect to them"
        )

    def _prohibition_remedy(self, address: Address) -> str:
        """The settings that may forbid a forward; a server does not name the one that does."""
        if self._layer.is_relay:
            return (
                "`relay receive` forwards to its own listeners only, and only to those that the key's permitopen "
                f"names: check that {address} is one of them; its log names the refused address"
            )
        user = self._forwarding.username
        return (
            f"one of five settings forbids {address}. In {user}'s authorized_keys there: (1) permitopen names another "
            "address; (2) permitopen names localhost and remote-host is 127.0.0.1, or the reverse, which are different "
            "addresses for sshd; (3) restrict without port-forwarding, or no-port-forwarding. In its sshd_config: (4) "
            "PermitOpen names another address; (5) AllowTcpForwarding is no or remote, or DisableForwarding is yes"
        )


class ChannelShortageError(UnavailableError):
    """The SSH server opens no further channel in this session."""


class SshPipe(Pipe):
    """One stream through a session."""

    local = False

    def __init__(self, session: SshSession, channel: paramiko.Channel, settled: float) -> None:
        self._session = session
        self._channel = channel
        self._settled = settled
        self._half_closed = False
        self._readable = threading.Event()  # also set by the end of file and by the channel's end
        channel.in_buffer.set_event(self._readable)
        # Only sends block in paramiko, because `receive` waits for `_readable` first.
        channel.settimeout(_SEND_TIMEOUT)

    def __repr__(self) -> str:
        state = "ended" if self.ended else "half-closed" if self._half_closed else "open"
        return f"<SshPipe {state} through {self._session!r}>"

    @property
    @override
    def ended(self) -> bool:
        return bool(self._channel.eof_received) or self._channel.closed or not self._session.alive

    @override
    def send(self, data: bytes) -> None:
        if self._half_closed:
            raise InternalError("pipe", "nothing can be sent after the half-close")
        sent = 0
        while sent < len(data):
            if self.ended:
                raise self._broken("the collector closed the connection")
            with self._mapped(), contextlib.suppress(TimeoutError):
                sent += self._channel.send(data[sent : sent + _PIECE])
        if not self._session.alive:
            raise self._broken("")  # paramiko drops the last piece silently when the session has just died

    @override
    def receive(self, timeout: float) -> bytes | None:
        if not self._readable.wait(timeout):
            return None
        with self._mapped():
            data = self._channel.recv(LARGEST_READ)
        if not data and not (self._channel.eof_received and self._session.alive):
            raise self._broken("the channel was closed without an end of file")
        return data

    @override
    def half_close(self) -> None:
        time.sleep(max(0.0, self._settled - time.monotonic()))
        if self.ended:
            raise self._broken("the collector closed the connection before relay did")
        self._half_closed = True
        with self._mapped():
            self._channel.shutdown_write()

    @override
    def drained(self, timeout: float) -> None:
        if not self._half_closed:
            raise InternalError("pipe", "only a half-closed stream can be drained")
        drain(self, timeout, f"proof through the {self._session.name}")

    @override
    def close(self) -> None:
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
