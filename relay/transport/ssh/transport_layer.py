"""The client's SSH transport layer (RFC 4253) on paramiko, with the features that paramiko lacks.

- It offers the algorithms of `relay.transport.ssh.algorithms` and no others.
- The socket sets TCP_NODELAY, and TCP_QUICKACK after every read (44 ms an exchange saved), and counts its octets.
- A server that somebody has taken over costs little: the ceilings of `bounded_packets`; the window that a channel
  granted, for data and extended data together (no forwarding has the latter, so it is discarded); MAX_EXTENSIONS; and
  MAX_SEEN closed channels remembered. paramiko by itself has none of them. What exceeds one ends the session.
- New keys are agreed on in limited time, because nothing can be sent meanwhile.
- When the peer stays silent (`liveness`), the connection is closed, which frees every thread that is blocked in it.
- paramiko's own log is silent unless its level is set: its failures arrive as exceptions.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

import paramiko
from paramiko.kex_curve25519 import KexCurve25519

from relay.transport.ssh.algorithms import CURVE25519, Algorithms, signature_algorithms
from relay.transport.ssh.bounds import channel_window
from relay.transport.ssh.bounds.bounded_packets import MAX_UNAUTHENTICATED, BoundedPacketizer, WatchedSocket
from relay.transport.ssh.liveness import Liveness, LivenessAction, LivenessSample, LivenessTimeouts
from relay.values.text import decoded, error_text, excerpt

MAX_SEEN: Final = 1024
MAX_EXTENSIONS: Final = 64
"""Of RFC 8308; paramiko would read as many as a message of six octets announces."""
_LONGEST_VERSION: Final = 255  # RFC 4253 section 4.2

_REFUSALS: Final = (paramiko.ChannelException, paramiko.AuthenticationException)
"""Errors after which the connection goes on."""
# RFC 4254 section 9
_MSG_GLOBAL_REQUEST: Final = b"\x50"
_CHANNEL_WINDOW_ADJUST: Final = 93
_CHANNEL_DATA: Final = 94
_CHANNEL_EXTENDED_DATA: Final = 95

_paramiko_log = logging.getLogger("paramiko")
if _paramiko_log.level == logging.NOTSET:
    _paramiko_log.setLevel(logging.CRITICAL + 1)


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
        self._saved_exception: Exception | None = None
        self._broken_by: Exception | None = None
        super().__init__(sock, default_window_size=window, packetizer_class=BoundedPacketizer)
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

    @property
    def saved_exception(self) -> Exception | None:
        """Paramiko's own: what happened last, until somebody has asked for it."""
        return self._saved_exception

    @saved_exception.setter
    def saved_exception(self, error: Exception | None) -> None:
        if error is not None and not isinstance(error, paramiko.SSHException | EOFError | OSError):
            # Callers would not expect it: paramiko raises it where they wait for an answer.
            error = paramiko.SSHException(error_text(error))
        if error is not None and not isinstance(error, _REFUSALS):
            self._broken_by = error
        self._saved_exception = error

    @property
    def fault(self) -> str:
        """What ended the connection, if it was a message of the server's; "" else."""
        violation, error = self.watched.violation, self._broken_by
        if violation or error is None or isinstance(error, EOFError | OSError):
            return violation
        return f"it sent a message that relay cannot use ({excerpt(str(error))})"

    # --- What a server may send ---

    _channel_handler_table = paramiko.Transport._channel_handler_table | {  # type: ignore[attr-defined]  # noqa: SLF001
        _CHANNEL_DATA: channel_window.take_data,
        _CHANNEL_EXTENDED_DATA: channel_window.discard_extended_data,
        _CHANNEL_WINDOW_ADJUST: channel_window.widen,
    }

    def _check_banner(self) -> None:
        super()._check_banner()  # type: ignore[misc]  # not in the stubs
        if len(self.remote_version) > _LONGEST_VERSION:
            self.watched.refuse(f"its version has {len(self.remote_version)} characters")
        self.watched.allowance = MAX_UNAUTHENTICATED

    def _parse_ext_info(self, msg: paramiko.Message) -> None:
        count = paramiko.Message(msg.get_remainder()).get_int()
        if count > MAX_EXTENSIONS:
            self.watched.refuse(f"it announced {count} extensions")
        super()._parse_ext_info(msg)  # type: ignore[misc]  # not in the stubs

    def _parse_debug(self, m: paramiko.Message) -> None:
        """Ignore it; paramiko would format it octet by octet."""

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

    def watch(self, timeouts: LivenessTimeouts, new_keys: float) -> None:
        """Close the connection when the peer stops answering, or takes longer than that for new keys.

        Call it once the peer is authenticated.
        """
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
            agreed = time.monotonic()
            while self.is_active():
                if not self.in_kex:
                    agreed = time.monotonic()
                elif time.monotonic() - agreed > new_keys:
                    self.watched.violation = f"it did not agree on new keys within {new_keys:g} s"
                    self.close()
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
