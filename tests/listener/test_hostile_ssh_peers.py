"""relay's own SSH end against peers that abuse the protocol: what they cost is bounded, and it is logged once.

The peers are paramiko's client, of which one is deaf from a moment on, and bare sockets.
"""

import asyncio
import contextlib
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA1
from harness.debian import OPENSSH, fetch
from harness.openssh import fingerprint, generate_key
from harness.ports import LOOPBACK
from harness.ssh_endpoint import PORT, RunningEndpoint
from harness.ssh_messages import ssh_message
from harness.waiting import wait_until

from relay.errors import RelayError, UnavailableError
from relay.listener.admission.admission import Admission
from relay.listener.admission.source_log import SourceLog
from relay.listener.ssh import ssh_connection
from relay.listener.ssh.channel_stream import ChannelStream
from relay.listener.ssh.server_options import server_options
from relay.listener.ssh.ssh_connection import EndpointLimits, SshConnection
from relay.transport.ssh import private_key
from relay.transport.ssh.liveness import LivenessTimeouts


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[RunningEndpoint]:
    with RunningEndpoint(tmp_path).running() as running:
        yield running


class _Deaf(socket.socket):
    """A socket whose owner hears nothing from `deaf` on."""

    def __init__(self, port: int) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.connect((LOOPBACK, port))
        self.deaf = threading.Event()

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self.deaf.is_set():
            self.settimeout(0.05)
            raise TimeoutError
        return super().recv(size, flags)


@contextlib.contextmanager
def _client(receiver: RunningEndpoint, sock: socket.socket | None = None) -> Iterator[paramiko.Transport]:
    """A client that has agreed on keys and not logged in."""
    transport = paramiko.Transport(sock or socket.create_connection((LOOPBACK, receiver.port)))
    try:
        transport.start_client(timeout=60)
        yield transport
    finally:
        transport.close()
        transport.join(60)


def _log_in(receiver: RunningEndpoint, transport: paramiko.Transport) -> None:
    transport.auth_publickey("relay", paramiko.Ed25519Key(filename=str(receiver.client_key)))


def _send(transport: paramiko.Transport, message: paramiko.Message) -> None:
    transport._send_message(message)  # type: ignore[attr-defined]  # not in the stubs


def _connection(receiver: RunningEndpoint) -> SshConnection:
    (connection,) = receiver.endpoint._connections
    return connection


def _gone(receiver: RunningEndpoint) -> bool:
    return not receiver.endpoint._connections


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


_REQUEST = ssh_message(80, "unknown@example", True)


# --- What is not bounded by asyncssh ---


def test_a_peer_that_does_not_read_the_answers_to_its_requests_is_not_read_either(receiver: RunningEndpoint) -> None:
    with _Deaf(receiver.port) as sock, _client(receiver, sock) as transport:
        _log_in(receiver, transport)
        connection = _connection(receiver)
        server_side = connection._transport.get_extra_info("socket")  # type: ignore[union-attr]
        server_side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.deaf.set()
        sent = 0
        while connection._writable.is_set() and sent < 100_000:
            _send(transport, _REQUEST)
            sent += 1
        assert not connection._writable.is_set()
        for _ in range(1000):
            _send(transport, _REQUEST)
        assert connection._transport.get_write_buffer_size() < 1 << 19  # type: ignore[union-attr]
        assert not connection._transport.is_reading()  # type: ignore[union-attr]


def test_a_peer_that_never_ends_a_key_exchange_and_asks_on_is_disconnected(
    receiver: RunningEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    with _Deaf(receiver.port) as sock, _client(receiver, sock) as transport:
        _log_in(receiver, transport)
        sock.deaf.set()
        transport._send_kex_init()  # type: ignore[attr-defined]  # not in the stubs
        with contextlib.suppress(OSError, EOFError):
            for _ in range(20_000):
                _send(transport, _REQUEST)
        wait_until(lambda: _gone(receiver), 60, "it is broken off")
    assert "does not end the key exchange" in _warnings(caplog)[0]


def test_messages_of_one_octet_take_no_more_memory_than_their_octets(receiver: RunningEndpoint) -> None:
    async def never_read(stream: ChannelStream) -> None:
        del stream
        await asyncio.Event().wait()

    receiver.serve = never_read
    with receiver.session() as session:
        pipe = session.open()
        for _ in range(2000):
            pipe._channel.sendall(b"x")
        wait_until(lambda: receiver.streams and receiver.streams[0].unread == 2000, 60, "all arrive")
        (stream,) = receiver.streams
        assert stream._channel is not None
        assert stream._channel._recv_buf == []


def test_refused_channels_and_channels_that_the_peer_never_closes_are_bounded(tmp_path: Path) -> None:
    receiver = RunningEndpoint(tmp_path)

    async def close_at_once(stream: ChannelStream) -> None:
        await stream.close()

    receiver.serve = close_at_once
    with receiver.running(), _Deaf(receiver.port) as sock, _client(receiver, sock) as transport:
        _log_in(receiver, transport)
        connection = _connection(receiver)
        sock.deaf.set()  # so that paramiko confirms no close
        counters = receiver.endpoint.counters
        most = receiver.limits.channels + ssh_connection.CLOSING_CHANNELS
        for number in range(2 * most):
            for kind in ("session", "tun@openssh.com"):
                _send(transport, ssh_message(90, kind, number, 1 << 20, 1 << 15, 1, 1))
            _send(transport, ssh_message(90, "direct-tcpip", number, 1 << 20, 1 << 15, LOOPBACK, PORT, LOOPBACK, 1))
            handled = 3 * (number + 1)
            wait_until(lambda: counters.channels + counters.refused_channels == handled, 60, "it is handled")  # noqa: B023
            wait_until(lambda: not connection._streams, 60, "it is closed")
        assert counters.channels == most
        assert len(connection._channels) == most
        assert connection.alive


def test_a_write_waits_for_the_peers_window_and_fails_when_the_peer_goes(receiver: RunningEndpoint) -> None:
    states: list[str] = []

    async def answer(stream: ChannelStream) -> None:
        await stream.write(b"x" * 100)
        states.append("within the window")
        try:
            await stream.write(b"x" * (8 << 20))
        except UnavailableError:
            states.append("lost")
            raise

    receiver.serve = answer
    with receiver.session() as session:
        channel = session.open_channel(window=1 << 16)
        wait_until(lambda: states == ["within the window"], 60, "the first answer is sent")
        connection = _connection(receiver)
        assert receiver.streams[0]._channel is not None
        wait_until(lambda: channel.in_buffer and len(channel.in_buffer) > 1 << 15, 60, "the window fills")
        assert connection._transport.get_write_buffer_size() < 1 << 19  # type: ignore[union-attr]
        assert states == ["within the window"]
    wait_until(lambda: states[-1] == "lost", 60, "the writer learns of it")


# --- The login ---

_Signer = Callable[[bytes], bytes]


def _request_login(
    transport: paramiko.Transport, key: paramiko.PKey, name: str, signer: Callable[[bytes], bytes] | None
) -> None:
    """RFC 4252 section 7: ask whether a key may log in, or send its signature."""
    fields = ("relay", "ssh-connection", "publickey", signer is not None, name, key.asbytes())
    message = ssh_message(50, *fields)
    if signer is not None:
        assert transport.session_id is not None
        message.add_string(signer(ssh_message(0, transport.session_id).asbytes()[1:] + message.asbytes()))
    _send(transport, message)


def _signer(key: paramiko.PKey) -> _Signer:
    return lambda data: key.sign_ssh_data(data).asbytes()


def test_the_identity_is_the_key_that_signed_and_not_one_that_the_client_asked_about(
    receiver: RunningEndpoint,
) -> None:
    other_key = generate_key(receiver.folder / "other")
    with receiver.authorized_keys.open("a") as file:
        file.write(f"restrict,port-forwarding {other_key.with_suffix('.pub').read_text()}")
    asked = paramiko.Ed25519Key(filename=str(receiver.client_key))
    signing = paramiko.Ed25519Key(filename=str(other_key))
    with _client(receiver) as transport:
        _send(transport, ssh_message(5, "ssh-userauth"))
        _request_login(transport, asked, "ssh-ed25519", None)
        _request_login(transport, signing, "ssh-ed25519", _signer(signing))
        wait_until(lambda: receiver.endpoint.counters.logins == 1, 60, "it is logged in")
        assert _connection(receiver).identity.key.fingerprint == fingerprint(other_key.with_suffix(".pub"))
        _request_login(transport, asked, "ssh-ed25519", _signer(asked))  # ignored, as RFC 4252 section 5.1 demands
        _send(transport, _REQUEST)
        assert _connection(receiver).identity.key.fingerprint == fingerprint(other_key.with_suffix(".pub"))


def test_a_key_is_not_proven_by_another_keys_signature(
    receiver: RunningEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    authorized = paramiko.Ed25519Key(filename=str(receiver.client_key))
    own = paramiko.Ed25519Key(filename=str(generate_key(receiver.folder / "own")))
    with _client(receiver) as transport:
        _send(transport, ssh_message(5, "ssh-userauth"))
        _request_login(transport, authorized, "ssh-ed25519", None)
        _request_login(transport, authorized, "ssh-ed25519", _signer(own))
        wait_until(lambda: _connection(receiver)._attempts, 60, "it is refused")
    assert receiver.endpoint.counters.logins == 0
    assert "the signature by key" in _warnings(caplog)[0]


def test_a_signature_with_sha_1_proves_nothing_and_one_with_sha_2_does(receiver: RunningEndpoint) -> None:
    path = generate_key(receiver.folder / "rsa", "rsa", "-b", "2048")
    receiver.authorized_keys.write_text(f"restrict,port-forwarding {path.with_suffix('.pub').read_text()}")
    key = paramiko.RSAKey(filename=str(path))
    private = private_key.load(str(path))
    assert isinstance(private, RSAPrivateKey)

    def sign_with_sha_1(data: bytes) -> bytes:
        return ssh_message(0, "ssh-rsa", private.sign(data, PKCS1v15(), SHA1())).asbytes()[1:]

    with _client(receiver) as transport:
        _send(transport, ssh_message(5, "ssh-userauth"))
        for name in ("ssh-rsa", "rsa-sha2-256"):
            _request_login(transport, key, name, sign_with_sha_1)
        wait_until(lambda: _connection(receiver)._attempts == 2, 60, "both are refused")
        _request_login(transport, key, "rsa-sha2-256", lambda data: key.sign_ssh_data(data, "rsa-sha2-256").asbytes())
        wait_until(lambda: receiver.endpoint.counters.logins == 1, 60, "it is logged in")


def test_a_certificate_is_refused_also_for_an_authorized_key_and_for_an_authority(receiver: RunningEndpoint) -> None:
    root, authority = fetch(OPENSSH), generate_key(receiver.folder / "authority")
    public = receiver.client_key.with_suffix(".pub")
    argv = [root.file("usr/bin/ssh-keygen"), "-q", "-s", str(authority), "-I", "x", "-n", "relay", str(public)]
    subprocess.run(argv, env=root.environment(), check=True)
    with receiver.authorized_keys.open("a") as file:
        file.write(f"restrict,port-forwarding {authority.with_suffix('.pub').read_text()}")
        file.write(f"cert-authority {authority.with_suffix('.pub').read_text()}")
    key = paramiko.Ed25519Key(filename=str(receiver.client_key))
    key.load_certificate(str(receiver.folder / "client-cert.pub"))
    with _client(receiver) as transport, pytest.raises(paramiko.AuthenticationException):
        transport.auth_publickey("relay", key)
    receiver.session().close()


def test_a_client_has_ten_attempts_to_log_in(receiver: RunningEndpoint, caplog: pytest.LogCaptureFixture) -> None:
    with _client(receiver) as transport:
        _send(transport, ssh_message(5, "ssh-userauth"))
        for _ in range(ssh_connection.MAX_ATTEMPTS + 1):
            _send(transport, ssh_message(50, "relay", "ssh-connection", "none"))
        wait_until(lambda: _gone(receiver), 60, "it is broken off")
    assert "before it logged in: too many failed attempts to log in" in _warnings(caplog)[0]


def test_a_client_has_one_key_exchange_before_the_login(
    receiver: RunningEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    with _client(receiver) as transport:
        transport._send_kex_init()  # type: ignore[attr-defined]  # not in the stubs
        wait_until(lambda: _gone(receiver), 60, "it is broken off")
    assert "a second key exchange before the login" in _warnings(caplog)[0]


@pytest.mark.parametrize(("kind", "bits"), [("rsa", "2048"), ("ecdsa", "256"), ("ed25519", "256")])
def test_a_host_key_signs_without_sha_1_and_each_connection_by_its_own_choice(
    tmp_path: Path, kind: str, bits: str
) -> None:
    key = private_key.load(str(generate_key(tmp_path / "key", kind, "-b", bits)))
    pairs = server_options(key, 30, 30).server_host_keys
    names = {"rsa": {b"rsa-sha2-256", b"rsa-sha2-512"}, "ecdsa": {b"ecdsa-sha2-nistp256"}, "ed25519": {b"ssh-ed25519"}}
    assert set(pairs) == names[kind]
    assert len({id(pair) for pair in pairs.values()}) == len(pairs)


def test_only_the_named_algorithms_are_offered(receiver: RunningEndpoint) -> None:
    with socket.create_connection((LOOPBACK, receiver.port)) as sock:
        bare = paramiko.Transport(sock)
        bare.get_security_options().kex = ("diffie-hellman-group16-sha512", "diffie-hellman-group14-sha256")
        with pytest.raises(paramiko.SSHException):
            bare.start_client(timeout=60)
        bare.close()
    offered = _offer(receiver)
    assert b"mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256" in offered
    for unwanted in (b"diffie-hellman", b"cbc", b"sha1", b"chacha", b"md5", b"zlib", b"ssh-rsa", b"gss", b"rsa1024"):
        assert unwanted not in offered


def _offer(receiver: RunningEndpoint) -> bytes:
    """The server's KEXINIT."""
    with socket.create_connection((LOOPBACK, receiver.port)) as sock:
        sock.sendall(b"SSH-2.0-x\r\n")
        offered = b""
        while b"none,none" not in offered and b"\0\0\0\4none\0\0\0\4none" not in offered:
            offered += sock.recv(65536)
        return offered


# --- What strangers cost ---


def test_strangers_take_no_threads_and_few_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    receiver = RunningEndpoint(tmp_path)
    receiver.admission = Admission(chance=lambda: 1.0)  # none is dropped at random
    threads = threading.active_count()
    manners = (b"GET / HTTP/1.1\r\n", b"SSH-2.0-x\r\n", b"SSH-2.0-x\r\n\xff\xff\xff\xff", b"")
    with caplog.at_level(logging.DEBUG), receiver.running(), contextlib.ExitStack() as strangers:
        for number in range(40):
            stranger = strangers.enter_context(socket.create_connection((LOOPBACK, receiver.port)))
            assert stranger.recv(4) == b"SSH-"
            stranger.sendall(manners[number % 4])
        assert threading.active_count() <= threads + 2  # the test's loop, and asyncio's, which binds the socket
        strangers.close()
        wait_until(lambda: _gone(receiver), 60, "all have ended")
    assert 1 <= len(caplog.records) <= 3
    assert not any(record.exc_info or record.name.startswith("asyncssh") for record in caplog.records)


def _garbage(random: Random) -> bytes:
    """What a stranger sends: a banner or something like it, and packets whose lengths and contents are wrong."""
    banner = random.choice([b"SSH-2.0-x\r\n", b"SSH-2.0-x\n", b"SSH-1.99-x\r\n", b"SSH-2.0-\xff\xfe\r\n", b"SSH-2.0-"])
    packets = b""
    for _ in range(random.randrange(4)):
        payload = bytes([random.choice([20, 30, 50, 80, 2, 4, 1])]) + random.randbytes(random.randrange(64))
        length = random.choice([0, 1, 4, 8, len(payload) + 5, random.randrange(1 << 18)])
        packets += length.to_bytes(4, "big") + bytes([random.choice([0, 4, 255])]) + payload + bytes(4)
    return banner + packets


def _is_blamed(line: str) -> bool:
    return "a bug" in line or "Traceback" in line


def test_garbage_of_strangers_is_never_taken_for_a_bug(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    receiver = RunningEndpoint(tmp_path)
    receiver.admission = Admission(chance=lambda: 1.0)
    random = Random(14)
    with receiver.running():
        for _ in range(300):
            receiver.endpoint.notices = SourceLog(logging.getLogger("relay.test"))  # so that no line is left out
            with socket.create_connection((LOOPBACK, receiver.port)) as stranger, contextlib.suppress(OSError):
                stranger.sendall(_garbage(random))
                stranger.shutdown(socket.SHUT_WR)
                while stranger.recv(1 << 16):
                    continue
        wait_until(lambda: _gone(receiver), 60, "all have ended")
        assert receiver.endpoint.counters.connections == 300
    assert not [line for line in map(logging.LogRecord.getMessage, caplog.records) if _is_blamed(line)]
    assert len(caplog.records) > 100


@pytest.mark.parametrize("logs_in", [False, True])
def test_garbage_in_messages_is_never_taken_for_a_bug(
    receiver: RunningEndpoint, caplog: pytest.LogCaptureFixture, *, logs_in: bool
) -> None:
    random = Random(14)
    kinds = [1, 2, 3, 4, 5, 7, 20, 21, 30, 50, 60, 80, 81, 90, 91, 93, 94, 95, 96, 97, 98, 99]
    for _ in range(40):
        receiver.endpoint.notices = SourceLog(logging.getLogger("relay.test"))
        with _client(receiver) as transport:
            if logs_in:
                _log_in(receiver, transport)
            else:
                _send(transport, ssh_message(5, "ssh-userauth"))
                key = random.choice([b"", b"\0", b"\0\0\0\x0bssh-ed25519", b"\0\0\0\x02\xff\xfe"])
                _send(transport, ssh_message(50, "relay", "ssh-connection", "publickey", False, "ssh-ed25519", key))
            with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
                for _ in range(6):
                    message = ssh_message(random.choice(kinds))
                    names = [b"direct-tcpip", b"session", b"publickey", b"ssh-connection", b"\xff\xfe"]
                    for _ in range(random.randrange(5)):
                        part = random.choice([*names, random.randbytes(random.randrange(9))])
                        message.add_bytes(random.choice([part, len(part).to_bytes(4, "big") + part]))
                    _send(transport, message)
    wait_until(lambda: _gone(receiver), 60, "all have ended")
    assert not [line for line in map(logging.LogRecord.getMessage, caplog.records) if _is_blamed(line)]


def test_a_stop_ends_strangers_and_senders_in_every_state_at_once(tmp_path: Path) -> None:
    receiver = RunningEndpoint(tmp_path)
    receiver.admission = Admission(chance=lambda: 1.0)
    with contextlib.ExitStack() as peers:
        with receiver.running():
            for _ in range(20):
                stranger = peers.enter_context(socket.create_connection((LOOPBACK, receiver.port)))
                stranger.sendall(b"SSH-2.0-x\r\n")
            peers.enter_context(_client(receiver))
            session = peers.enter_context(receiver.session())
            session.open()
            wait_until(lambda: receiver.streams, 60, "the stream is served")
            begun = time.monotonic()
        assert time.monotonic() - begun < 1


def test_a_bug_ends_its_own_connection_with_one_line(
    receiver: RunningEndpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver.session() as other:
        wait_until(lambda: len(receiver.endpoint._connections) == 1, 60, "it is served")
        with monkeypatch.context() as patch, receiver.session() as session:
            patch.setattr(receiver.endpoint, "_allowed", 0)
            with pytest.raises(RelayError):
                session.open()
            wait_until(lambda: len(receiver.endpoint._connections) == 1, 60, "it is broken off")
        other.open()
    (line,) = _warnings(caplog)
    assert "was closed: a bug at relay/listener/ssh/" in line
    assert "TypeError: 'int' object is not iterable; please report it" in line
    assert not any(record.exc_info for record in caplog.records)


def test_a_peer_that_does_not_read_is_given_up(tmp_path: Path) -> None:
    receiver = RunningEndpoint(tmp_path)
    receiver.limits = EndpointLimits(liveness=LivenessTimeouts(quiet=0.5, answer=0.5))
    with receiver.running(), _Deaf(receiver.port) as sock, _client(receiver, sock) as transport:
        _log_in(receiver, transport)
        sock.deaf.set()
        wait_until(lambda: _gone(receiver), 60, "it is given up")
