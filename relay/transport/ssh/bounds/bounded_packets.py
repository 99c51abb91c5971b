"""The packets of an SSH server: read by paramiko, with the ceilings that it lacks.

- No packet is longer than MAX_PACKET octets, and none of a key exchange than MAX_KEY_EXCHANGE: paramiko reads long
  numbers and long lists of algorithms in quadratic time.
- A message is read strictly: paramiko would fill up a string that is cut short with up to a mebibyte of zeros.
- The server accepts a service once, so that it gets one signature, and the login ends once.
- Messages cost something (`relay.transport.ssh.bounds.message_budget`).

Whatever exceeds a ceiling ends the session: `WatchedSocket.refuse` keeps the cause, because paramiko keeps an exception
only until somebody has asked for it.
"""

import contextlib
import socket
import threading
import time
from typing import Any, Final, NoReturn

import paramiko
from paramiko.common import MSG_NAMES
from paramiko.packet import Packetizer
from typing_extensions import override

from relay.transport.ssh.bounds.message_budget import CHANNEL_WORTH, MessageBudget
from relay.transport.tcp import unacknowledged

MAX_BEFORE_VERSION: Final = 1 << 15
"""Octets before the end of the version line, which has 255 at most (RFC 4253 section 4.2)."""
MAX_UNAUTHENTICATED: Final = 1 << 20  # octets; a key exchange takes some 10 KB, a long banner little more
MAX_PACKET: Final = 1 << 18  # octets; RFC 4253 section 6.1 asks for 35000
MAX_KEY_EXCHANGE: Final = 1 << 14  # octets; a key and a signature of RSA with 16384 bits take 4,200

_READ: Final = 1 << 16
_SERVICE_ACCEPT: Final = 6  # RFC 4253 section 12, RFC 4252 section 6
_KEXINIT: Final = 20
_KEY_EXCHANGE: Final = range(_KEXINIT, 50)
_LOGIN: Final = range(50, 80)
_CHANNEL_OPEN: Final = 90
_CHANNEL_DATA: Final = 94
_LARGEST_NUMBER: Final = 4
"""Octets; what is missing at the end of a message counts as zero, because some servers leave out the last fields."""


class WatchedSocket(socket.socket):
    """A TCP socket that acknowledges at once, counts its octets, and wakes every waiting thread when it is closed."""

    def __init__(self, family: int = -1, kind: int = -1, protocol: int = -1, descriptor: int | None = None) -> None:
        super().__init__(family, kind, protocol, descriptor)
        self.received = 0
        self.sent = 0
        self.allowance: int | None = MAX_BEFORE_VERSION
        """How many octets may arrive in all; None once the peer is authenticated."""
        self.violation = ""
        """What the peer did that ended the session."""

    def refuse(self, violation: str) -> NoReturn:
        """End the session for what the peer did."""
        self.violation = self.violation or violation
        raise paramiko.SSHException(violation)

    def set_nodelay(self) -> None:
        """Send small packets at once. Call it when connected."""
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read at most _READ octets at once, whatever length the peer has announced."""
        data = super().recv(min(size, _READ), flags)
        self.received += len(data)
        if self.allowance is not None and self.received > self.allowance:
            version = self.allowance == MAX_BEFORE_VERSION
            self.refuse(f"it sent more than {self.allowance} octets before {'its version' if version else 'the login'}")
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


class _StrictMessage(paramiko.Message):
    """A message whose strings are as long as they claim."""

    @override
    def get_bytes(self, n: int) -> bytes:
        octets = self.packet.read(n)
        if len(octets) < n:
            if n > _LARGEST_NUMBER:
                raise paramiko.SSHException(f"a message is shorter than its string of {n} octets")
            return octets.ljust(n, b"\0")
        return octets


class BoundedPacketizer(Packetizer):
    """paramiko's packetizer with ceilings."""

    def __init__(self, sock: WatchedSocket) -> None:
        super().__init__(sock)
        self.budget = MessageBudget(time.monotonic())
        self._watched = sock
        self._has_accepted = False
        self._sent = 0
        """Octets of data; what relay answers to the server's requests earns the server nothing."""
        self._counting = threading.Lock()

    @override
    def send_message(self, data: paramiko.Message) -> None:
        content = data.asbytes()
        if content[0] in {_CHANNEL_DATA, _CHANNEL_OPEN}:
            with self._counting:
                self._sent += len(content) if content[0] == _CHANNEL_DATA else CHANNEL_WORTH
        super().send_message(data)

    @override
    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        if n > MAX_PACKET:
            self._watched.refuse(f"it announced a packet of {n} octets")
        return super().read_all(n, check_rekey)

    @override
    def start_handshake(self, timeout: float) -> None:
        """Start no timer: relay has limits of its own, and paramiko's thread would outlive the connection."""

    @override
    def read_message(self) -> tuple[int, paramiko.Message]:
        kind, message = super().read_message()
        content = message.asbytes()
        strict = _StrictMessage(content)
        strict.seqno = message.seqno
        self._judge(kind, len(content))
        return kind, strict

    def _judge(self, kind: int, octets: int) -> None:
        refuse = self._watched.refuse
        if kind not in MSG_NAMES:
            refuse(f"it sent a message of the unknown type {kind}")
        if kind in _KEY_EXCHANGE and octets > MAX_KEY_EXCHANGE:
            refuse(f"it sent {octets} octets in a message of the key exchange")
        if kind in _LOGIN and self._watched.allowance is None:
            refuse(f"it continues the login after its end (by a message of type {kind})")
        if kind == _SERVICE_ACCEPT:
            if self._has_accepted:
                refuse("it asks for another signature")
            self._has_accepted = True
        if not self.budget.spend(octets, time.monotonic(), self._sent, is_key_exchange=kind == _KEXINIT):
            refuse(f"it floods the session with messages of no use (the last has type {kind})")
