"""Connecting to an SSH server: the steps, their time limits, and their errors.

The steps run in the order of HandshakeStep, and each success is reported. Each step has its errors:

    NAME_RESOLUTION   UnknownHostError
    CONNECTION        UnavailableError: refused, unreachable or no answer in time, for every address of the host
    BANNER            ProtocolError: closed, silent, or not SSH
    KEY_EXCHANGE      ProtocolError: no common algorithm (with both lists), aborted, too slow
    HOST_KEY          PermissionRefusedError, from relay.transport.ssh.known_hosts
    AUTHENTICATION    PermissionRefusedError when our key is rejected, UnavailableError when the server does not answer

Each of them raises TemporaryError when `stop` is set. Only the key exchange happens before the host key is verified.
Only the configured private key is offered: no agent, no password, no file in ~/.ssh. Times are seconds.
"""

import contextlib
import enum
import io
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import paramiko
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from paramiko.ssh_exception import PartialAuthentication

from relay.errors import PermissionRefusedError, ProtocolError, TemporaryError, UnavailableError
from relay.transport.dial import POLL_INTERVAL, DialTarget, connect, resolve
from relay.transport.ssh import private_key
from relay.transport.ssh.algorithms import ALGORITHMS
from relay.transport.ssh.bounds.bounded_packets import WatchedSocket
from relay.transport.ssh.liveness import LivenessTimeouts
from relay.transport.ssh.private_key import PrivateKey
from relay.transport.ssh.public_key import ECDSA, ED25519, RSA, PublicKey
from relay.transport.ssh.transport_layer import TransportLayer
from relay.values.address import Address
from relay.values.text import excerpt

CHECK_SERVER: Final = "the program that listens there is faulty, or somebody has taken the server over: check it"
"""The remedy when a server breaks the protocol."""
_BANNER_POLL_INTERVAL: Final = 0.002  # short, because paramiko does not report the banner
_KEY_KINDS: Final = ((ED25519,), ECDSA, (RSA,))  # a server has at most one key of each


class HandshakeStep(enum.StrEnum):
    """The steps of connecting, in order."""

    PRIVATE_KEY = "private key"
    NAME_RESOLUTION = "name resolution"
    CONNECTION = "TCP connection"
    BANNER = "SSH banner"
    KEY_EXCHANGE = "key exchange"
    HOST_KEY = "host key"
    AUTHENTICATION = "authentication"


class HandshakeLimits(NamedTuple):
    """How long each step may take, in seconds."""

    connection: float = 10.0  # for each address of the server
    banner: float = 10.0
    key_exchange: float = 15.0
    authentication: float = 20.0
    opening: float = 15.0  # for each channel of the session
    new_keys: float = 60.0  # to agree on new ones during the session, behind data that are still on the way
    liveness: LivenessTimeouts = LivenessTimeouts()


DEFAULT_LIMITS: Final = HandshakeLimits()
Passed = Callable[[HandshakeStep, str], None]
"""Called after each successful step with its result, for people."""


def pass_quietly(step: HandshakeStep, found: str) -> None:
    """Ignore successful steps."""
    del step, found


class Handshake:
    """Connects to one server, once."""

    def __init__(self, host: str, port: int, stop: threading.Event, limits: HandshakeLimits, passed: Passed) -> None:
        self._what = f"SSH server {Address(host, port)}"
        self._target = DialTarget(self._what, host, port, "server-address", "server-port", "SSH server")
        self._stop = stop
        self._limits = limits
        self._passed = passed

    def exchange_keys(self, algorithms: str, pinned: Sequence[str] = ()) -> TransportLayer:
        """Connect and agree on keys, preferring host keys of the pinned types; the host key is not verified yet.

        The caller closes the result; after an error everything is closed.
        """
        addresses = resolve(self._target)
        self._passed(HandshakeStep.NAME_RESOLUTION, ", ".join(address[0] for _, _, address in addresses))
        sock = connect(self._target, addresses, WatchedSocket, self._stop, self._limits.connection)
        with contextlib.ExitStack() as undo:
            undo.callback(sock.close)
            try:
                sock.set_nodelay()
                host, port, *_ = sock.getpeername()
            except OSError as error:  # reset already
                raise self._closed_before_banner() from error
            self._passed(HandshakeStep.CONNECTION, f"{host} port {port}")
            offer = ALGORITHMS[algorithms]
            ordered = sorted(offer.key_types, key=lambda key_type: key_type not in pinned)  # stable: pinned types first
            layer = TransportLayer(sock, offer, key_types=ordered)
            undo.callback(layer.close)
            self._negotiate(layer)
            undo.pop_all()
        return layer

    def authenticate(self, layer: TransportLayer, user: str, key: PrivateKey, destination: tuple[str, int]) -> None:
        """Log in with the key. `destination` completes the authorized_keys line that a refusing server may lack."""
        answered = threading.Event()
        try:
            layer.auth_publickey(user, _for_paramiko(key), answered)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._closed_during_authentication() from error
        if not self._wait(answered, self._limits.authentication):
            cause = f"no answer to authentication within {self._limits.authentication:g} s"
            raise UnavailableError(self._what, cause, "check whether the server is overloaded")
        if violation := layer.watched.violation:
            raise ProtocolError(self._what, violation, CHECK_SERVER)
        if not layer.is_authenticated():
            self._refuse(layer, user, private_key.public_key(key), destination)
        self._passed(HandshakeStep.AUTHENTICATION, f"as {user}")

    def _negotiate(self, layer: TransportLayer) -> None:
        agreed = threading.Event()
        # relay's limits apply; paramiko's own limit must only be longer.
        layer.banner_timeout = layer.handshake_timeout = 2 * (self._limits.banner + self._limits.key_exchange)
        layer.start_client(event=agreed)
        if not self._wait(agreed, self._limits.banner, unless=lambda: bool(layer.remote_version)):
            cause = f"no SSH banner within {self._limits.banner:g} s"
            raise ProtocolError(self._what, cause, "check that an SSH server listens on that port")
        if layer.remote_version:
            self._passed(HandshakeStep.BANNER, excerpt(layer.remote_version))
        if not self._wait(agreed, self._limits.key_exchange):
            cause = f"no key exchange within {self._limits.key_exchange:g} s"
            raise ProtocolError(self._what, cause, "check whether the server is overloaded")
        if not layer.is_active():
            raise self._negotiation_failed(layer, layer.get_exception())
        self._passed(HandshakeStep.KEY_EXCHANGE, f"{layer.local_cipher}, {layer.host_key_type}")

    def _negotiation_failed(self, layer: TransportLayer, error: Exception | None) -> ProtocolError:
        if violation := layer.watched.violation:
            return ProtocolError(self._what, violation, CHECK_SERVER)
        if not layer.remote_version:
            # paramiko wraps an error in reading the banner; after a line that is not a banner there is no context.
            cause = error.__context__ if error is not None else None
            if isinstance(cause, EOFError | ConnectionError):
                return self._closed_before_banner()
            return ProtocolError(self._what, "the program that answers is not an SSH server", "correct server-port")
        if disagreement := layer.disagreement():
            return ProtocolError(self._what, disagreement, "allow one of relay's algorithms on the server")
        if error is None or isinstance(error, EOFError | OSError):
            return ProtocolError(self._what, "it aborted the key exchange", "the SSH server's log names the reason")
        return ProtocolError(self._what, f"the key exchange failed ({excerpt(str(error))})")

    def _closed_before_banner(self) -> ProtocolError:
        # PerSourcePenalties: OpenSSH 9.8 and newer, for an address from which logins failed before.
        remedy = "check its limits for connections (MaxStartups, PerSourcePenalties) and for client addresses"
        return ProtocolError(self._what, "it closed the connection before its SSH banner", remedy)

    def _refuse(self, layer: TransportLayer, user: str, key: PublicKey, destination: tuple[str, int]) -> None:
        """Raise the reason why the server rejected the login.

        A server answers every rejected key in the same way, whatever its reason (RFC 4252 section 7).
        """
        error = layer.get_exception()
        if isinstance(error, paramiko.BadAuthenticationType):
            cause = f"it accepts no public keys from {user}, only {excerpt(', '.join(error.allowed_types))}"
            raise PermissionRefusedError(self._what, cause, "allow PubkeyAuthentication in its sshd_config")
        if isinstance(error, PartialAuthentication):
            cause = f"it accepted {user}'s key, but also requires {excerpt(', '.join(error.allowed_types))}"
            remedy = "set AuthenticationMethods publickey in its sshd_config, so that the key suffices"
            raise PermissionRefusedError(self._what, cause, remedy)
        if error is not None and not isinstance(error, paramiko.AuthenticationException):
            raise self._closed_during_authentication() from error
        line = key.authorized_line(destination)
        if layer.is_relay:
            remedy = f"its log names the reason; if its authorized-keys file lacks the key, add this line: {line}"
        else:
            remedy = (
                "its log (`journalctl -u ssh -u sshd`) names the reason. A key that is in authorized_keys already is "
                "rejected when the account is locked, when AllowUsers or DenyUsers excludes it, when others may write "
                "to its home, .ssh or authorized_keys, when `from=` names another address, and when "
                f"PubkeyAcceptedAlgorithms lacks {key.type}. If the key is not there yet, add this line to {user}'s "
                f"authorized_keys there: {line}"
            )
        raise PermissionRefusedError(self._what, f"it refuses {user}'s key {key.fingerprint}", remedy)

    def _closed_during_authentication(self) -> UnavailableError:
        remedy = "the SSH server's log names the reason"
        return UnavailableError(self._what, "it closed the connection during authentication", remedy)

    def _wait(self, event: threading.Event, seconds: float, unless: Callable[[], bool] | None = None) -> bool:
        """Whether the event was set, or `unless` became true, in time; TemporaryError when stopped."""
        deadline = time.monotonic() + seconds
        while not event.wait(POLL_INTERVAL if unless is None else _BANNER_POLL_INTERVAL):
            if self._stop.is_set():
                raise TemporaryError(self._what, "stopped while connecting")
            if unless is not None and unless():
                return True
            if time.monotonic() > deadline:
                return False
        return True


def _for_paramiko(key: PrivateKey) -> paramiko.PKey:
    match key:
        case EllipticCurvePrivateKey():
            return paramiko.ECDSAKey(vals=(key, key.public_key()))
        case RSAPrivateKey():
            return paramiko.RSAKey(key=key)
        case _:
            return paramiko.Ed25519Key(file_obj=io.StringIO(private_key.openssh(key).decode("ascii")))


def shown_host_key(layer: TransportLayer) -> PublicKey:
    """The key with which the server proved itself in the key exchange."""
    key = layer.get_remote_server_key()
    return PublicKey(key.get_name(), key.asbytes())


def fetch_host_keys(
    host: str, port: int, stop: threading.Event, limits: HandshakeLimits = DEFAULT_LIMITS
) -> tuple[PublicKey, ...]:
    """Every host key that a server has, for people to compare; nothing is verified, and nothing is sent.

    The errors are those of connecting, up to the key exchange.
    """
    keys: dict[PublicKey, None] = {}
    for kind in _KEY_KINDS:
        handshake = Handshake(host, port, stop, limits, pass_quietly)
        with contextlib.closing(handshake.exchange_keys("default", kind)) as layer:
            keys[shown_host_key(layer)] = None  # a server without a key of this kind shows another
    return tuple(keys)
