"""SSH servers that somebody has taken over: what they cost relay is bounded, and each ends with its cause.

The server is paramiko's, which sends what the test wants; before its version a bare socket.
"""

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import paramiko
import pytest
from harness.openssh import generate_key
from harness.ports import LOOPBACK
from harness.ssh_messages import ssh_message
from harness.waiting import wait_until
from paramiko.common import AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from relay.errors import ProtocolError, RelayError, TemporaryError, UnavailableError
from relay.transport.ssh.bounds.message_budget import BURST, TRAFFIC_BURST, MessageBudget
from relay.transport.ssh.handshake import CHECK_SERVER, HandshakeLimits
from relay.transport.ssh.liveness import LivenessTimeouts
from relay.transport.ssh.session import SshPipe, SshSession
from relay.values.configuration.settings import PortForwarding

_WINDOW: Final = 1 << 21
_CHANNEL: Final = 0  # the client's number of its first one


class _Server(paramiko.ServerInterface):
    def __init__(self, at_login: Callable[[], None]) -> None:
        self.has_channel = threading.Event()
        self._at_login = at_login

    def get_allowed_auths(self, username: str) -> str:
        del username
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        del username, key
        self._at_login()
        return AUTH_SUCCESSFUL

    def check_channel_direct_tcpip_request(self, chanid: int, origin: object, destination: object) -> int:
        del chanid, origin, destination
        self.has_channel.set()
        return OPEN_SUCCEEDED


class _HostileServer:
    """Lets everybody in; `attack` runs once there is a channel, `at_login` in place of its answer to the login."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.attack: Callable[[], None] = lambda: None
        self.at_login: Callable[[], None] = lambda: None
        self.before_version: Callable[[socket.socket], None] = lambda _: None
        self.made = paramiko.Transport
        self.transport: paramiko.Transport
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self._host_key = paramiko.Ed25519Key(filename=str(generate_key(folder / "host")))
        generate_key(folder / "client")
        name = f"[{LOOPBACK}]:{self.port}"
        (folder / "known_hosts").write_text(f"{name} {self._host_key.get_name()} {self._host_key.get_base64()}\n")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._serve)
        thread.start()
        try:
            yield
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            if hasattr(self, "transport"):
                self.transport.close()
            thread.join(60)

    def _serve(self) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            connection, _ = self._listener.accept()
            with connection:
                self.before_version(connection)
                self.transport = self.made(connection)
                self.transport.add_server_key(self._host_key)
                server = _Server(self.at_login)
                self.transport.start_server(server=server)
                while not server.has_channel.wait(0.05) and self.transport.is_active():
                    continue
                if server.has_channel.is_set():
                    wait_until(self.transport._channels.values, 60, "the channel is confirmed")  # type: ignore[attr-defined]
                    self.attack()
                self.transport.join(60)

    def send(self, message: paramiko.Message) -> None:
        """Send a message, or EOFError."""
        if not self.transport.is_active():
            raise EOFError
        self.transport._send_message(message)  # type: ignore[attr-defined]

    def flood(self, *messages: paramiko.Message) -> None:
        """Send them in turn until the client has gone."""
        for message in itertools.cycle(messages):
            self.send(message)

    def connect(self, stop: threading.Event | None = None, *, new_keys: float = 20) -> SshSession:
        forwarding = PortForwarding(
            server_address=LOOPBACK,
            server_port=self.port,
            private_key=str(self.folder / "client"),
            known_hosts=str(self.folder / "known_hosts"),
        )
        limits = HandshakeLimits(liveness=LivenessTimeouts(quiet=0.8, answer=20), new_keys=new_keys)
        return SshSession.connect(forwarding, stop or threading.Event(), limits=limits)


@pytest.fixture
def server(tmp_path: Path) -> _HostileServer:
    return _HostileServer(tmp_path)


def _kept(pipe: SshPipe) -> int:
    """The octets that the session keeps for the pipe."""
    return len(pipe._channel.in_buffer) + len(pipe._channel.in_stderr_buffer)


_HOST_KEYS: Final = b"".join(ssh_message(0, bytes(51)).asbytes()[1:] for _ in range(3000))
_LISTS: Final = bytes(16) + ssh_message(0, ",".join(["ext-info-s"] * 2000)).asbytes()[1:] * 10 + bytes(5)
_NO_USE: Final = "it floods the session with messages of no use"
_FLOODS: Final[dict[str, tuple[paramiko.Message, str]]] = {
    "data beyond the window": (ssh_message(94, _CHANNEL, bytes(1 << 15)), "it sent more data than the window"),
    "extended data": (ssh_message(95, _CHANNEL, 1, bytes(1 << 15)), "it sent more data than the window"),
    "extended data of an unknown kind": (
        ssh_message(95, _CHANNEL, 7, bytes(1 << 15)),
        "it sent more data than the window",
    ),
    "data without an octet": (ssh_message(94, _CHANNEL, b""), _NO_USE),
    "data of one octet": (ssh_message(94, _CHANNEL, b"x"), _NO_USE),
    "a window beyond 2^32": (ssh_message(93, _CHANNEL, (1 << 32) - 1), "beyond 2^32 octets"),
    "a window that grows by nothing": (ssh_message(93, _CHANNEL, 0), _NO_USE),
    "global requests": (ssh_message(80, "unknown@example", True), _NO_USE),
    "requests for a port": (ssh_message(80, "tcpip-forward", True, LOOPBACK, 1), _NO_USE),
    "host keys": (ssh_message(80, "hostkeys-00@openssh.com", False, _HOST_KEYS), _NO_USE),
    "answers to no request": (ssh_message(81), _NO_USE),
    "channel requests": (ssh_message(98, _CHANNEL, "exec", True, "true"), _NO_USE),
    "x11 channels": (ssh_message(90, "x11", 1, 1 << 20, 1 << 15, LOOPBACK, 1), _NO_USE),
    "agent channels": (ssh_message(90, "auth-agent@openssh.com", 1, 1 << 20, 1 << 15), _NO_USE),
    "forwarded channels": (ssh_message(90, "forwarded-tcpip", 1, 1 << 20, 1 << 15, LOOPBACK, 1, LOOPBACK, 1), _NO_USE),
    "sessions": (ssh_message(90, "session", 1, 1 << 20, 1 << 15), _NO_USE),
    "confirmations of no channel": (ssh_message(91, 77, 1, 1 << 20, 1 << 15), _NO_USE),
    "ignored messages": (ssh_message(2, b""), _NO_USE),
    "long ignored messages": (ssh_message(2, bytes(1 << 17)), _NO_USE),
    "debug messages": (ssh_message(4, True, bytes(1 << 15), ""), _NO_USE),
    "unimplemented": (ssh_message(3, 1), _NO_USE),
    "an endless list of extensions": (ssh_message(7, (1 << 32) - 1), "it announced 4294967295 extensions"),
    "a packet too long": (ssh_message(2, bytes(1 << 19)), "it announced a packet of 5"),
    "a string that is cut short": (ssh_message(98, _CHANNEL, 1 << 20), "is shorter than its string of 1048576 octets"),
    "a message of no known type": (ssh_message(200), "it sent a message of the unknown type 200"),
    "a second login": (ssh_message(52), "it continues the login after its end"),
    "a refused login": (ssh_message(51, "publickey", False), "it continues the login after its end"),
    "banners after the login": (ssh_message(53, "x", ""), "it continues the login after its end"),
    "another service": (ssh_message(6, "ssh-userauth"), "it asks for another signature"),
    "long lists of algorithms": (paramiko.Message(b"\x14" + _LISTS), "in a message of the key exchange"),
}


@pytest.mark.parametrize("flood", _FLOODS)
def test_a_flood_ends_the_session_with_its_cause_and_costs_bounded_memory(server: _HostileServer, flood: str) -> None:
    message, cause = _FLOODS[flood]
    server.attack = lambda: server.flood(message)
    most = 0
    with server.running(), server.connect() as session:
        with pytest.raises(UnavailableError, match="the SSH server broke the protocol") as lost:  # noqa: PT012 - either
            pipe = session.open()
            while session.alive:
                most = max(most, _kept(pipe))
                time.sleep(0.001)
            pipe.send(b"x")
        begun = time.monotonic()
        session.close()
        assert time.monotonic() - begun < 1
    assert cause in lost.value.cause
    assert lost.value.remedy == CHECK_SERVER
    assert most <= _WINDOW


def test_extended_data_within_the_window_is_discarded(server: _HostileServer) -> None:
    def answer() -> None:
        for _ in range(4 * _WINDOW >> 15):
            server.send(ssh_message(94, _CHANNEL, b"y" * (1 << 14)))
            server.send(ssh_message(95, _CHANNEL, 1, b"z" * (1 << 12)))
            time.sleep(0)

    server.attack = answer
    with server.running(), server.connect() as session:
        pipe = session.open()
        expected = (4 * _WINDOW >> 15) * (1 << 14)
        received = 0
        while received < expected:
            data = pipe.receive(60)
            assert data, session.loss("test")
            assert not data.strip(b"y")
            received += len(data)
        assert session.alive


class _Rekeying(paramiko.Transport):
    """From the client's first keepalive on it begins a key exchange at the end of each."""

    def _parse_global_request(self, m: paramiko.Message) -> None:
        super()._parse_global_request(m)  # type: ignore[misc]
        self._send_kex_init()  # type: ignore[attr-defined]

    def _parse_newkeys(self, m: paramiko.Message) -> None:
        super()._parse_newkeys(m)  # type: ignore[misc]
        if self.is_authenticated():
            self._send_kex_init()  # type: ignore[attr-defined]


def test_a_server_that_begins_key_exchanges_without_end_is_disconnected(server: _HostileServer) -> None:
    server.made = _Rekeying
    with server.running(), server.connect() as session:
        session.open()
        wait_until(lambda: not session.alive, 60, "the session ends")
        assert _NO_USE in session.loss("test").cause


def test_a_server_that_never_ends_a_key_exchange_is_disconnected_and_a_stop_is_quick(
    server: _HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attack() -> None:
        opened.wait(60)
        server.transport._send_kex_init()  # type: ignore[attr-defined]
        monkeypatch.setattr(server.transport.packetizer, "send_message", lambda _: None)

    opened = threading.Event()
    server.attack = attack
    with server.running(), server.connect(new_keys=0.3) as session:
        pipe = session.open()
        opened.set()
        wait_until(lambda: not session.alive, 60, "the session ends")
        begun = time.monotonic()
        with pytest.raises(UnavailableError, match="it did not agree on new keys"):
            pipe.send(b"x")
        session.close()
        assert time.monotonic() - begun < 1


def _error(server: _HostileServer) -> RelayError:
    with server.running(), pytest.raises(RelayError) as refused:
        server.connect()
    return refused.value


_Bare = Callable[[socket.socket], None]


def _endless(octets: bytes) -> _Bare:
    def send(connection: socket.socket) -> None:
        while True:
            connection.sendall(octets)

    return send


_PACKET: Final = b"\0\0\0\x0c\x0a\x02" + bytes(10)  # SSH_MSG_IGNORE before any key is agreed on
_BEGINNINGS: Final[dict[str, tuple[_Bare, str]]] = {
    "lines without end": (_endless(b"x\r\n" * 1000), "is not an SSH server"),
    "long lines without end": (_endless(b"x" * 1000 + b"\r\n"), "it sent more than 32768 octets before its version"),
    "a line without end": (_endless(b"x" * 4096), "it sent more than 32768 octets before its version"),
    "a version without end": (_endless(b"SSH-2.0-" + b"x" * 4096), "it sent more than 32768 octets before its version"),
    "a long version": (lambda each: each.sendall(b"SSH-2.0-" + b"x" * 300 + b"\r\n"), "its version has 308 characters"),
    "a packet too long": (lambda each: each.sendall(b"SSH-2.0-x\r\n\x7f\xff\xff\xf4aaaa"), "it announced a packet of"),
    "packets without end": (lambda each: (each.sendall(b"SSH-2.0-x\r\n"), _endless(_PACKET * 99)(each))[1], _NO_USE),  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("beginning", _BEGINNINGS)
def test_a_server_that_abuses_the_beginning_is_refused_with_its_cause(server: _HostileServer, beginning: str) -> None:
    def attack(connection: socket.socket) -> None:
        begin(connection)
        while connection.recv(4096):
            continue
        raise EOFError

    begin, cause = _BEGINNINGS[beginning]
    server.before_version = attack
    error = _error(server)
    assert isinstance(error, ProtocolError)
    assert cause in error.cause


def test_a_flood_of_banners_in_place_of_an_answer_to_the_login_is_refused(server: _HostileServer) -> None:
    server.at_login = lambda: server.flood(ssh_message(53, bytes(200), ""))
    assert _NO_USE in _error(server).cause


def test_long_banners_are_limited_by_their_octets(server: _HostileServer) -> None:
    server.at_login = lambda: server.flood(ssh_message(53, bytes(1 << 15), ""))
    assert "it sent more than 1048576 octets before the login" in _error(server).cause


def test_a_server_gets_one_signature_for_each_login(server: _HostileServer) -> None:
    server.at_login = lambda: server.flood(ssh_message(6, "ssh-userauth"))
    assert "it asks for another signature" in _error(server).cause


def _wait(event: threading.Event) -> None:
    event.wait(60)


def test_a_login_without_end_is_given_up_and_can_be_stopped(server: _HostileServer) -> None:
    forever = threading.Event()
    server.at_login = lambda: _wait(forever)
    stop = threading.Event()
    failures: list[RelayError] = []

    def connect() -> None:
        try:
            server.connect(stop)
        except RelayError as error:
            failures.append(error)

    with server.running():
        connecting = threading.Thread(target=connect)
        connecting.start()
        wait_until(lambda: hasattr(server, "transport") and server.transport.auth_handler, 60, "the login begins")
        begun = time.monotonic()
        stop.set()
        connecting.join(60)
        assert time.monotonic() - begun < 1
        forever.set()
    assert isinstance(failures[0], TemporaryError)


# --- The budget ---


def test_what_a_session_needs_is_earned_by_its_traffic() -> None:
    """RELP: 100 messages of 150 octets in one packet, each answered by a packet of its own, and the window widened."""
    budget = MessageBudget(0.0)
    for number in range(1, 100_000):
        assert budget.spend(20, 0.0, number * 150)
        budget.earn_data(20)
        if number % 100 == 0:
            assert budget.spend(9, 0.0, number * 150)


def test_answers_may_come_after_everything_that_was_sent_ahead() -> None:
    budget = MessageBudget(0.0)
    for _ in range((10 << 20) // 100):
        assert budget.spend(20, 0.0, 10 << 20)


def test_a_long_silence_and_much_traffic_earn_no_more_than_a_burst_of_each() -> None:
    budget = MessageBudget(0.0)
    spent = 0
    while budget.spend(0, 1e6, 1 << 40):
        spent += 1
    assert spent == BURST + TRAFFIC_BURST


def test_a_download_of_a_local_program_is_earned_by_its_data() -> None:
    budget = MessageBudget(0.0)
    for _ in range(100_000):
        assert budget.spend(1 << 15, 0.0, 0)
        budget.earn_data(1 << 15)
