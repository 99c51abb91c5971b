"""A stranger that attacks a receiver: python -m scripts.yardstick.attacker NAME SECONDS ADDRESS PORTS.

ADDRESS is its own, of loopback. PORTS are those of the receiver's SSH end, TLS listener and TCP listener. It prints how
many connections it has begun. Every attack is as many connections as the receiver lets it have; where they end, it
begins new ones.
"""

import contextlib
import itertools
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

_BANNER: Final = b"SSH-2.0-stranger\r\n"
_THREADS: Final = 15
_ANSWER: Final = 0.5
"""Seconds for which an attack waits for an answer."""
_PATIENCE: Final = 10.0
"""Seconds for which an attack waits until its messages are accepted."""
_OVERSIZED: Final = 1024 * 1024
"""Octets of a message that is too long."""
_HOLD: Final = 0.2
"""Seconds between two looks at connections that are held."""


class Ports(NamedTuple):
    """Where the receiver listens."""

    ssh: int
    tls: int
    tcp: int


class Attack(NamedTuple):
    """One way to attack."""

    what: str
    listener: str
    """The field of `Ports`."""
    begin: Callable[[socket.socket], None]
    """What is done with a connection, after which it is left, or held."""
    held: int = 0
    """How many connections are held open; 0: each is left at once."""
    a_second: float = 0.0
    """At most so many connections a second; 0: as many as threads can begin."""
    is_local: bool = False
    """Whether it has the address of the relays, as behind sshd: neither penalty nor ceiling of an address applies."""


def _say_nothing(_: socket.socket) -> None:
    """Only connect."""


def _send(octets: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(octets)


def _packet(payload: bytes) -> bytes:
    """A packet of RFC 4253 section 6 before encryption."""
    padding = 16 - (len(payload) + 5) % 8
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


def _text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _begin_key_exchange(connection: socket.socket) -> None:
    ciphers, macs = b"aes128-gcm@openssh.com,aes256-ctr", b"hmac-sha2-256"
    names = [
        b"curve25519-sha256",
        b"ssh-ed25519,rsa-sha2-512",
        ciphers,
        ciphers,
        macs,
        macs,
        b"none",
        b"none",
        b"",
        b"",
    ]
    opening = b"\x14" + os.urandom(16) + b"".join(map(_text, names)) + bytes(5)
    share = X25519PrivateKey.generate().public_key().public_bytes_raw()
    connection.sendall(_BANNER + _packet(opening) + _packet(b"\x1e" + _text(share)))
    connection.settimeout(_ANSWER)
    with contextlib.suppress(TimeoutError):
        while connection.recv(65536):
            pass


def _client_hello() -> bytes:
    """A whole record of TLS 1.2 with which a handshake begins."""
    ciphers = b"\xc0\x2b\xc0\x2f\xc0\x2c\xc0\x30"
    groups = b"\x00\x0a" + _sized(_sized(b"\x00\x1d\x00\x17"))
    signatures = b"\x00\x0d" + _sized(_sized(b"\x04\x03\x08\x04\x04\x01"))
    points = b"\x00\x0b" + _sized(b"\x01\x00")
    hello = (
        b"\x03\x03" + os.urandom(32) + b"\x00" + _sized(ciphers) + b"\x01\x00" + _sized(groups + signatures + points)
    )
    handshake = b"\x01" + len(hello).to_bytes(3, "big") + hello
    return b"\x16\x03\x01" + _sized(handshake)


def _sized(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


def _begin_tls(connection: socket.socket) -> None:
    connection.sendall(_client_hello())
    connection.settimeout(_ANSWER)
    with contextlib.suppress(TimeoutError):
        connection.recv(65536)


_numbers = itertools.count()
_AT_ONCE: Final = 100
"""Messages that a connection sends."""
_OWN: Final = b'<109>1 2026-12-01T00:00:00Z %b relay - - [128T relayRun="%b" relaySeq="%d" type="audit"] x\n'


def _send_messages(connection: socket.socket, messages: Iterator[bytes]) -> None:
    """Send messages, and wait until they are accepted."""
    connection.sendall(b"".join(messages))
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(_PATIENCE)
    connection.recv(1)


def _send_names(connection: socket.socket) -> None:
    names = (b"<13>1 - host-%b app - - - x\n" % os.urandom(6).hex().encode() for _ in range(_AT_ONCE))
    _send_messages(connection, names)


def _send_runs(connection: socket.socket) -> None:
    _send_messages(connection, (_OWN % (b"runs", os.urandom(8).hex().encode(), 1) for _ in range(_AT_ONCE)))


def _send_numbers(connection: socket.socket) -> None:
    """Every second number of few runs, so that each is an interval of its own."""
    numbers = itertools.islice(_numbers, _AT_ONCE)
    _send_messages(connection, (_OWN % (b"numbers", b"%016x" % (number % 8), number * 2) for number in numbers))


def _send_oversized(connection: socket.socket) -> None:
    begin = b"<13>1 - oversized app - - - "
    _send_messages(connection, itertools.chain((b"%d %b" % (len(begin) + _OVERSIZED, begin),), _pieces()))


def _send_endless(connection: socket.socket) -> None:
    _send_messages(connection, itertools.chain((b"<13>1 - endless app - - - ",), _pieces()))


def _pieces() -> Iterator[bytes]:
    return itertools.repeat(b"x" * 65536, _OVERSIZED // 65536)


def _miscount(connection: socket.socket) -> None:
    """A good frame, and one whose count cannot be."""
    message = b"<13>1 - miscounted app - - - x"
    connection.sendall(b"%d %b0 %b" % (len(message), message, message))


ATTACKS: Final[dict[str, Attack]] = {
    "banner": Attack("SSH: 700/s send a banner and leave", "ssh", _send(_BANNER), a_second=700),
    "key-exchange": Attack("SSH: 15 clients begin a key exchange and leave", "ssh", _begin_key_exchange),
    "idle-ssh": Attack("SSH: 20 connections that send nothing", "ssh", _say_nothing, held=20),
    "idle-ssh-local": Attack("SSH: 100 from 127.0.0.1 that send nothing", "ssh", _say_nothing, held=100, is_local=True),
    "banner-local": Attack("SSH: 100 from 127.0.0.1 send a banner", "ssh", _send(_BANNER), held=100, is_local=True),
    "idle-tcp": Attack("TCP: 1,000 connections that send nothing", "tcp", _say_nothing, held=1000),
    "half-tls": Attack("TLS: 200 handshakes half begun", "tls", _send(_client_hello()[:40]), held=200),
    "tls": Attack("TLS: 15 clients begin a handshake and leave", "tls", _begin_tls),
    "names": Attack("TCP: 5,000 messages a second, each with a new HOSTNAME", "tcp", _send_names, a_second=50),
    "runs": Attack("TCP: 5,000 messages a second, each of a new run of relay's", "tcp", _send_runs, a_second=50),
    "numbers": Attack("TCP: 5,000 numbers a second, each an interval of its own", "tcp", _send_numbers, a_second=50),
    "oversized": Attack("TCP: 20 counted frames of 1 MiB a second", "tcp", _send_oversized, a_second=20),
    "endless": Attack("TCP: 20 lines of 1 MiB a second without an end", "tcp", _send_endless, a_second=20),
    "miscounted": Attack("TCP: 700/s send frames with wrong counts", "tcp", _miscount, a_second=700),
    "http": Attack("TCP: 700/s speak HTTP", "tcp", _send(b"GET / HTTP/1.1\r\nHost: log\r\n\r\n"), a_second=700),
}


class Attacker:
    """Attacks until its time is over."""

    def __init__(self, attack: Attack, seconds: float, address: str, ports: Ports) -> None:
        self.begun = 0
        """Connections."""
        self._attack = attack
        self._address = address
        self._port = int(getattr(ports, attack.listener))
        self._start = time.monotonic()
        self._end = self._start + seconds
        self._lock = threading.Lock()

    def run(self) -> None:
        """Return at the end."""
        body = self._hold if self._attack.held else self._come_and_go
        threads = [threading.Thread(target=body) for _ in range(1 if self._attack.held else _THREADS)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    def _turns(self) -> Iterator[None]:
        """Each turn is one connection."""
        rate = self._attack.a_second
        while (now := time.monotonic()) < self._end:
            with self._lock:
                due = not rate or self.begun < (now - self._start) * rate
                self.begun += due
            if due:
                yield
            else:
                time.sleep(0.005)

    def _come_and_go(self) -> None:
        for _ in self._turns():
            with contextlib.suppress(OSError), self._connection() as connection:
                self._attack.begin(connection)

    def _hold(self) -> None:
        held: list[socket.socket] = []
        while time.monotonic() < self._end:
            held = [each for each in held if not _has_ended(each)]
            while len(held) < self._attack.held and time.monotonic() < self._end:
                with contextlib.suppress(OSError):
                    held.append(self._connection())
                    self._attack.begin(held[-1])
                self.begun += 1
            time.sleep(_HOLD)
        for each in held:
            each.close()

    def _connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=2, source_address=(self._address, 0))


def _has_ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    connection.close()
    return True


def main() -> None:
    """See the head of this file."""
    name, seconds, address, *ports = sys.argv[1:]
    os.nice(19)
    attacker = Attacker(ATTACKS[name], float(seconds), address, Ports(*map(int, ports)))
    attacker.run()
    print(attacker.begun)


if __name__ == "__main__":
    main()
