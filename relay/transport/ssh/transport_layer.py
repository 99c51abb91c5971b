"""The client's SSH transport layer (RFC 4253) on paramiko, with the features that paramiko lacks.

- It offers the algorithms of `relay.transport.ssh.algorithms` and no others.
- The socket sets TCP_NODELAY, and TCP_QUICKACK after every read (44 ms an exchange saved), and counts its octets.
- Ceilings: MAX_UNAUTHENTICATED octets before authentication, and always MAX_PACKET octets a packet and MAX_SEEN closed
  channels remembered. paramiko by itself accepts a packet of any length and remembers every channel.
- When the peer stays silent (`liveness`), the connection is closed, which frees every thread that is blocked in it.
- paramiko's own log is silent unless its level is set: its failures arrive as exceptions.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import paramiko
from paramiko.kex_curve25519 import KexCurve25519
from paramiko.packet import Packetizer

from relay.transport.ssh.algorithms import CURVE25519, Algorithms, signature_algorithms
from relay.transport.ssh.liveness import Liveness, LivenessAction, LivenessSample, LivenessTimeouts
from relay.transport.tcp import unacknowledged
from relay.values.text import decoded, excerpt

MAX_UNAUTHENTICATED: Final = 1 << 20  # octets; a key exchange takes some 10 KB, a long banner little more
MAX_PACKET: Final = 1 << 18  # octets; RFC 4253 section 6.1 asks for 35000
MAX_SEEN: Final = 1024

_READ: Final = 1 << 16
_MSG_GLOBAL_REQUEST: Final = b"\x50"  # RFC 4254 section 4

_paramiko_log = logging.getLogger("paramiko")
if _paramiko_log.level == logging.NOTSET:
    _paramiko_log.setLevel(logging.CRITICAL + 1)


class WatchedSocket(socket.socket):
    """A TCP socket that acknowledges at once, counts its octets, and wakes every waiting thread when it is closed."""

    def __init__(self, family: int = -1, kind: int = -1, protocol: int = -1, descriptor: int | None = None) -> None:
        super().__init__(family, kind, protocol, descriptor)
        self.received = 0
        self.sent = 0
        self.allowance: int | None = MAX_UNAUTHENTICATED
        """How many octets may arrive in all; None once the peer is authenticated."""

    def set_nodelay(self) -> None:
        """Send small packets at once. Call it when connected."""
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read at most _READ octets at once, whatever length the peer has announced."""
        data = super().recv(min(size, _READ), flags)
        self.received += len(data)
        if self.allowance is not None and self.received > self.allowance:
            raise ConnectionAbortedError("the peer sends too many octets before authentication")
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data

    def send(self, data: Any, flags: int = 0) -> int:  # noqa: ANN401 - a buffer; Python 3.11 has no type for it
        """Send as much as the kernel accepts, and count it."""
        count = super().send(data, flags)
        self.sent += count
        return count

    def acknowledged(self) -> int:
        """How many of our octets the peer's kernel has acknowledged; all that were sent, once the socket is closed."""
        try:
            return self.sent - unacknowledged(self)
        except (OSError, ValueError):
            return self.sent

    def close(self) -> None:
        """Close; a plain close would leave another thread blocked in recv for ever."""
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)
        super().close()


class _BoundedPacketizer(Packetizer):
    """paramiko's packetizer with a ceiling on the length of a packet."""

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:  # noqa: FBT001, FBT002 - paramiko's signature
        if n > MAX_PACKET:
            raise paramiko.SSHException(f"the peer announces a packet of {n} octets")
        return super().read_all(n, check_rekey)


class _RecentChannels(dict[int, bool]):
    """The channels of the past, for messages that may still arrive for one that was just closed."""

    def __setitem__(self, channel: int, seen: bool) -> None:
        super().__setitem__(channel, seen)
        if len(self) > MAX_SEEN:
            del self[next(iter(self))]


class TransportLayer(paramiko.Transport):
    """One SSH connection over a connected socket."""

    # paramiko reads these two from the class. The time-out is the interval at which its thread wakes up while nothing
    # arrives. One second is enough, because closing the socket wakes it; paramiko's 0.1 s only costs processor time.
    _CLIENT_ID = "relay"
    _active_check_timeout = 1.0
    # paramiko has the method under its older name only.
    _kex_info = paramiko.Transport._kex_info | {  # type: ignore[attr-defined]  # noqa: SLF001 - not in the stubs
        name: KexCurve25519 for name in CURVE25519 if KexCurve25519.is_available()
    }

    def __init__(
        self,
        sock: WatchedSocket,
        algorithms: Algorithms,
        *,
        key_types: Sequence[str] | None = None,
        window: int = 1 << 21,
    ) -> None:
        super().__init__(sock, default_window_size=window, packetizer_class=_BoundedPacketizer)
        self.watched = sock
        self.channels_seen = _RecentChannels()
        self.refusal = ""
        """The server's own reason for refusing the last channel."""
        self.silent = False
        """Whether the connection was closed because the peer stopped answering."""
        self._offered: dict[str, list[str]] = {}
        self._host_key_algorithms = signature_algorithms(key_types or algorithms.key_types)
        options = self.get_security_options()
        options.kex = tuple(name for name in algorithms.key_exchange if name in self._kex_info)
        options.ciphers = algorithms.ciphers
        options.digests = algorithms.macs
        options.key_types = self._host_key_algorithms
        self._preferred_pubkeys = signature_algorithms(algorithms.key_types)

    @property
    def preferred_keys(self) -> Sequence[str]:
        """Host key algorithms in our order; paramiko would add certificates, which relay cannot verify."""
        return self._host_key_algorithms

    # --- Messages that paramiko reads and discards ---

    def _parse_kex_init(self, m: paramiko.Message) -> None:
        copy = paramiko.Message(m.get_remainder())
        self._offered = self._really_parse_kex_init(copy)  # type: ignore[attr-defined]  # not in the stubs
        super()._parse_kex_init(m)  # type: ignore[misc]  # not in the stubs

    def _parse_channel_open_failure(self, m: paramiko.Message) -> None:
        copy = paramiko.Message(m.get_remainder())
        copy.get_int()  # our channel
        copy.get_int()  # reason
        self.refusal = excerpt(decoded(copy.get_string()))
        super()._parse_channel_open_failure(m)  # type: ignore[misc]  # not in the stubs

    def disagreement(self) -> str:
        """The algorithm that the two sides could not agree on, with both lists; "" if they agreed."""
        for what, ours, key in (
            ("key exchange", self.preferred_kex, "kex_algo_list"),
            ("host key type", self.preferred_keys, "server_key_algo_list"),
            ("cipher", self.preferred_ciphers, "client_encrypt_algo_list"),
            ("MAC", self.preferred_macs, "client_mac_algo_list"),
        ):
            theirs = self._offered.get(key, [])
            if theirs and not set(theirs) & set(ours):
                return f"no common {what}: it offers {excerpt(', '.join(theirs))}; relay offers {', '.join(ours)}"
        return ""

    @property
    def is_relay(self) -> bool:
        """Whether the server is relay's own SSH end."""
        return self.remote_version == f"SSH-2.0-{self._CLIENT_ID}"

    # --- Silence ---

    def watch(self, timeouts: LivenessTimeouts) -> None:
        """Close the connection when the peer stops answering; call it once the peer is authenticated."""
        self.watched.allowance = None
        liveness = Liveness(timeouts, self._sample())

        def ask() -> None:
            request = paramiko.Message()
            request.add_byte(_MSG_GLOBAL_REQUEST)
            request.add_string("keepalive@openssh.com")
            request.add_boolean(True)  # want-reply
            # If the connection breaks meanwhile, its users notice.
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                self._send_user_message(request)  # type: ignore[attr-defined]  # not in the stubs
                liveness.asked(self.watched.sent)

        def watch() -> None:
            while self.is_active():
                action = liveness.check(self._sample())
                if action is LivenessAction.DEAD:
                    self.silent = True
                    self.close()
                elif action is LivenessAction.ASK:
                    # In a thread of its own, because behind a full socket the request itself blocks.
                    threading.Thread(target=ask, name="ssh keepalive", daemon=True).start()
                self.join(timeouts.interval)  # returns at once when the connection ends

        threading.Thread(target=watch, name="ssh watchdog", daemon=True).start()

    def _sample(self) -> LivenessSample:
        return LivenessSample(
            now=time.monotonic(), received=self.watched.received, acknowledged=self.watched.acknowledged()
        )
