"""Connecting to OpenSSH's own server, step by step, and the error of each failure."""

import contextlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.collector import Collector
from harness.openssh import Sshd, fingerprint, generate_key
from harness.ports import LOOPBACK, free_port
from harness.waiting import wait_until

from relay.errors import (
    NoInputError,
    PermissionRefusedError,
    ProtocolError,
    TemporaryError,
    UnavailableError,
    UnknownHostError,
)
from relay.transport.ssh.handshake import HandshakeLimits, HandshakeStep, fetch_host_keys
from relay.transport.ssh.session import SshSession
from relay.values.configuration.settings import PortForwarding

_HASTY = 0.5  # seconds, for the one step that is to be given up: what is to come before it may take its time


def _forwarding(folder: Path, port: int, host: str = LOOPBACK) -> PortForwarding:
    """Settings for something that is not a server: its key file is real, its known_hosts missing."""
    if not (folder / "key").exists():
        generate_key(folder / "key")
    return PortForwarding(
        server_address=host,
        server_port=port,
        private_key=str(folder / "key"),
        known_hosts=str(folder / "known_hosts"),
    )


@contextlib.contextmanager
def _server_that_says(*lines: bytes, then_close: bool) -> Iterator[int]:
    def serve(_: Collector, connection: socket.socket) -> None:
        for line in lines:
            connection.sendall(line)
        if not then_close:
            done.wait(300)

    done = threading.Event()
    with Collector(serve) as server:
        yield server.port
    done.set()


def test_every_step_is_reported_in_order_with_its_result(sshd: Sshd, stop: threading.Event) -> None:
    passed: dict[HandshakeStep, str] = {}
    with SshSession.connect(sshd.forwarding(1), stop, passed=passed.__setitem__) as session:
        assert session.alive
    assert list(passed) == list(HandshakeStep)
    assert passed[HandshakeStep.PRIVATE_KEY].endswith(fingerprint(sshd.client_key.with_suffix(".pub")))
    assert "OpenSSH" in passed[HandshakeStep.BANNER]
    assert "gcm" in passed[HandshakeStep.KEY_EXCHANGE]
    assert passed[HandshakeStep.HOST_KEY].endswith(fingerprint(sshd.host_keys[0].with_suffix(".pub")))
    assert not session.alive


def test_the_representation_shows_the_state_and_no_secret(sshd: Sshd, stop: threading.Event) -> None:
    with SshSession.connect(sshd.forwarding(1), stop) as session:
        assert repr(session) == f"<SshSession {sshd.user}@{LOOPBACK}:{sshd.port} to {LOOPBACK}:1, alive>"
    assert repr(session).endswith("dead>")


def test_an_unknown_host_key_is_rejected_before_authentication(sshd: Sshd, stop: threading.Event) -> None:
    sshd.known_hosts.write_text("")
    with pytest.raises(PermissionRefusedError, match="is unknown") as refused:
        SshSession.connect(sshd.forwarding(1), stop)
    assert fingerprint(sshd.host_keys[0].with_suffix(".pub")) in refused.value.cause
    assert f"relay key trust {LOOPBACK}:{sshd.port}" in refused.value.remedy
    wait_until(lambda: "[preauth]" in sshd.log, 60, lambda: sshd.log)
    assert "publickey" not in sshd.log


def test_with_a_missing_known_hosts_file_no_server_is_trusted(sshd: Sshd, stop: threading.Event) -> None:
    sshd.known_hosts.unlink()
    with pytest.raises(PermissionRefusedError, match="is unknown"):
        SshSession.connect(sshd.forwarding(1), stop)


def test_the_error_for_a_changed_host_key_has_both_fingerprints(sshd: Sshd, stop: threading.Event) -> None:
    sshd.known_hosts.write_text(sshd.known_hosts_line(sshd.other_key))
    with pytest.raises(PermissionRefusedError, match="changed") as refused:
        SshSession.connect(sshd.forwarding(1), stop)
    assert fingerprint(sshd.host_keys[0].with_suffix(".pub")) in refused.value.cause
    assert fingerprint(sshd.other_key.with_suffix(".pub")) in refused.value.cause


def test_a_key_of_another_type_than_the_pinned_one_is_a_changed_key(sshd: Sshd, stop: threading.Event) -> None:
    pinned = generate_key(sshd.folder / "pinned", "ecdsa")
    sshd.known_hosts.write_text(sshd.known_hosts_line(pinned))
    with pytest.raises(PermissionRefusedError, match="changed"):
        SshSession.connect(sshd.forwarding(1), stop)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_server_with_several_keys_is_verified_by_the_pinned_one(stop: threading.Event, kind: str) -> None:
    with Sshd(host_key_types=("ed25519", "ecdsa", "rsa")) as sshd:
        sshd.known_hosts.write_text(sshd.known_hosts_line(sshd.folder / f"host_{kind}"))
        SshSession.connect(sshd.forwarding(1), stop).close()


def test_all_host_keys_of_a_server_can_be_fetched_for_comparison(stop: threading.Event) -> None:
    with Sshd(host_key_types=("ed25519", "rsa")) as sshd:
        keys = fetch_host_keys(sshd.host, sshd.port, stop)
        assert [key.fingerprint for key in keys] == [fingerprint(key.with_suffix(".pub")) for key in sshd.host_keys]


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_a_client_key_of_every_type_logs_in(sshd: Sshd, stop: threading.Event, kind: str) -> None:
    key = generate_key(sshd.folder / "another", kind)
    sshd.authorized_keys.write_text(key.with_suffix(".pub").read_text())
    SshSession.connect(sshd.forwarding(1, private_key=str(key)), stop).close()


def test_the_error_for_a_rejected_key_has_the_line_to_add_and_adding_it_helps(
    sshd: Sshd, stop: threading.Event
) -> None:
    forwarding = sshd.forwarding(9999, private_key=str(sshd.other_key))
    with pytest.raises(PermissionRefusedError, match="refuses") as refused:
        SshSession.connect(forwarding, stop)
    line = refused.value.remedy.partition("there: ")[2]
    assert line.startswith('restrict,port-forwarding,permitopen="127.0.0.1:9999" ssh-ed25519 ')
    sshd.authorized_keys.write_text(line + "\n")
    SshSession.connect(forwarding, stop).close()


@pytest.fixture(scope="module")
def passwd_with_locked_account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("etc") / "passwd"
    entries = Path("/etc/passwd").read_text().splitlines()
    file.write_text("".join(f"{re.sub(':[^:]*', ':!', entry, count=1)}\n" for entry in entries))
    return file


class _LockedOut(Sshd):
    """A server on a machine on which every account is locked."""

    def __init__(self, passwd: Path) -> None:
        super().__init__()
        self._passwd = passwd

    def _command(self) -> list[str]:
        mounted = ["sh", "-ec", 'mount --bind "$0" /etc/passwd; exec "$@"', str(self._passwd)]
        if os.geteuid() == 0:
            return ["unshare", "--mount", *mounted, *super()._command()]
        itself = ["unshare", "--user", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]
        return ["unshare", "--user", "--map-root-user", "--mount", *mounted, *itself, *super()._command()]


@pytest.mark.parametrize(
    ("options", "restriction", "mode", "reason", "expected"),
    [
        (("AllowUsers somebody-else",), "", 0o600, "not listed in AllowUsers", "AllowUsers"),
        (("StrictModes yes",), "", 0o666, "bad ownership or modes", "others may write"),
        ((), 'from="192.0.2.1" ', 0o600, "not from a permitted host", "`from=`"),
        (("PubkeyAcceptedAlgorithms rsa-sha2-512",), "", 0o600, "not in PubkeyAcceptedAlgorithms", "PubkeyAccepted"),
    ],
)
def test_the_remedy_for_a_key_that_is_rejected_although_authorized_keys_has_it_names_the_possible_reasons(
    stop: threading.Event, options: tuple[str, ...], restriction: str, mode: int, reason: str, expected: str
) -> None:
    with Sshd(options) as sshd:
        sshd.authorized_keys.write_text(restriction + sshd.authorized_keys.read_text())
        sshd.authorized_keys.chmod(mode)
        with pytest.raises(PermissionRefusedError, match=f"it refuses {sshd.user}'s key") as refused:
            SshSession.connect(sshd.forwarding(1), stop)
        wait_until(lambda: reason in sshd.log, 60, lambda: sshd.log)
    remedy = refused.value.remedy
    assert remedy.startswith("its log (`journalctl -u ssh -u sshd`) names the reason")
    assert expected in remedy
    assert "If the key is not there yet" in remedy


def test_the_remedy_for_a_locked_account_points_to_the_servers_log(
    stop: threading.Event, passwd_with_locked_account: Path
) -> None:
    with _LockedOut(passwd_with_locked_account) as sshd:
        with pytest.raises(PermissionRefusedError, match="it refuses") as refused:
            SshSession.connect(sshd.forwarding(1), stop)
        wait_until(lambda: "because account is locked" in sshd.log, 60, lambda: sshd.log)
    assert "names the reason" in refused.value.remedy
    assert "the account is locked" in refused.value.remedy


def test_a_server_without_public_key_login_is_reported(stop: threading.Event) -> None:
    with (
        Sshd(["PubkeyAuthentication no", "AuthenticationMethods any"]) as sshd,
        pytest.raises(PermissionRefusedError, match="accepts no public keys"),
    ):
        SshSession.connect(sshd.forwarding(1), stop)


def test_relay_does_not_connect_with_a_private_key_that_others_can_read(sshd: Sshd, stop: threading.Event) -> None:
    sshd.client_key.chmod(0o644)
    with pytest.raises(PermissionRefusedError, match="0644"):
        SshSession.connect(sshd.forwarding(1), stop)
    assert "Connection from" not in sshd.log


def test_a_missing_private_key_is_reported(sshd: Sshd, stop: threading.Event) -> None:
    with pytest.raises(NoInputError):
        SshSession.connect(sshd.forwarding(1, private_key=str(sshd.folder / "missing")), stop)


@pytest.mark.parametrize("name", ["curve25519-sha256", "curve25519-sha256@libssh.org"])
def test_a_server_may_support_either_name_of_a_key_exchange(stop: threading.Event, name: str) -> None:
    with Sshd([f"KexAlgorithms {name}", "LogLevel DEBUG1"]) as sshd:
        SshSession.connect(sshd.forwarding(1), stop).close()
        assert f"kex: algorithm: {name} " in sshd.log


def test_fips_negotiates_only_permitted_algorithms(stop: threading.Event) -> None:
    with Sshd(host_key_types=("ed25519", "ecdsa")) as sshd:
        key = generate_key(sshd.folder / "nist", "ecdsa", "-b", "384")
        sshd.authorized_keys.write_text(key.with_suffix(".pub").read_text())
        passed: dict[HandshakeStep, str] = {}
        forwarding = sshd.forwarding(1, private_key=str(key), algorithms="fips")
        SshSession.connect(forwarding, stop, passed=passed.__setitem__).close()
        assert passed[HandshakeStep.KEY_EXCHANGE] == "aes256-gcm@openssh.com, ecdsa-sha2-nistp256"


def test_fips_cannot_agree_with_a_server_that_has_only_forbidden_algorithms(stop: threading.Event) -> None:
    with Sshd() as sshd:
        key = generate_key(sshd.folder / "nist", "ecdsa")
        with pytest.raises(ProtocolError, match="no common host key type: it offers ssh-ed25519; relay offers ecdsa"):
            SshSession.connect(sshd.forwarding(1, private_key=str(key), algorithms="fips"), stop)


def test_the_error_for_no_common_cipher_has_both_lists(stop: threading.Event) -> None:
    with (
        Sshd(["Ciphers chacha20-poly1305@openssh.com"]) as sshd,
        pytest.raises(ProtocolError, match=r"no common cipher: it offers chacha20.*; relay offers aes128-gcm"),
    ):
        SshSession.connect(sshd.forwarding(1), stop)


def test_a_name_that_does_not_resolve_is_an_error(tmp_path: Path, stop: threading.Event) -> None:
    with pytest.raises(UnknownHostError, match="does not resolve"):
        SshSession.connect(_forwarding(tmp_path, 22, "no-such-host.invalid"), stop)


def test_a_refused_and_a_timed_out_connection_have_different_errors(tmp_path: Path, stop: threading.Event) -> None:
    with pytest.raises(UnavailableError, match="connection refused"):
        SshSession.connect(_forwarding(tmp_path, free_port()), stop)
    with (
        _full_backlog() as port,
        pytest.raises(UnavailableError, match=r"no answer within 0\.5 s"),
    ):
        SshSession.connect(_forwarding(tmp_path, port), stop, limits=HandshakeLimits(connection=_HASTY))


@contextlib.contextmanager
def _full_backlog() -> Iterator[int]:
    """A port whose kernel drops every further SYN, as a firewall does."""
    with socket.create_server((LOOPBACK, 0), backlog=0) as full, contextlib.ExitStack() as waiting:
        port = full.getsockname()[1]
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((LOOPBACK, port))
        yield port


def test_a_silent_server_is_an_error(tmp_path: Path, stop: threading.Event) -> None:
    with _server_that_says(then_close=False) as port, pytest.raises(ProtocolError, match="no SSH banner within"):
        SshSession.connect(_forwarding(tmp_path, port), stop, limits=HandshakeLimits(banner=_HASTY))


def test_a_server_that_closes_at_once_is_an_error(tmp_path: Path, stop: threading.Event) -> None:
    with _server_that_says(then_close=True) as port, pytest.raises(ProtocolError, match="before its SSH banner"):
        SshSession.connect(_forwarding(tmp_path, port), stop)


@pytest.mark.parametrize("line", [b"220 mail.example ESMTP\r\n" * 200, b"\xff\xfe\n", b"HTTP/1.0 400\r\n" * 101])
def test_a_program_that_is_not_an_ssh_server_is_an_error(tmp_path: Path, stop: threading.Event, line: bytes) -> None:
    with _server_that_says(line, then_close=False) as port, pytest.raises(ProtocolError, match="not an SSH server"):
        SshSession.connect(_forwarding(tmp_path, port), stop)


def test_a_server_that_is_silent_after_its_banner_is_an_error(tmp_path: Path, stop: threading.Event) -> None:
    with (
        _server_that_says(b"SSH-2.0-x\r\n", then_close=False) as port,
        pytest.raises(ProtocolError, match="no key exchange within"),
    ):
        SshSession.connect(_forwarding(tmp_path, port), stop, limits=HandshakeLimits(key_exchange=_HASTY))


def test_garbage_in_the_key_exchange_is_an_error_and_prints_nothing(
    tmp_path: Path, stop: threading.Event, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        _server_that_says(b"SSH-2.0-x\r\n", b"\x7f\xff\xff\xff garbage" * 100, then_close=False) as port,
        pytest.raises(ProtocolError, match="key exchange"),
    ):
        SshSession.connect(_forwarding(tmp_path, port), stop)
    assert capfd.readouterr() == ("", "")


def test_a_stop_ends_connecting_at_once(tmp_path: Path, stop: threading.Event) -> None:
    patient = HandshakeLimits(banner=60)
    with _server_that_says(then_close=False) as port:
        forwarding = _forwarding(tmp_path, port)
        threading.Timer(0.2, stop.set).start()
        with pytest.raises(TemporaryError, match="stopped"):
            SshSession.connect(forwarding, stop, limits=patient)


def test_a_forbidden_forward_and_a_refused_connection_have_different_errors(stop: threading.Event) -> None:
    allowed, forbidden = free_port(), free_port()
    with Sshd([f"PermitOpen {LOOPBACK}:{allowed}"]) as sshd:
        with (
            SshSession.connect(sshd.forwarding(forbidden), stop) as session,
            pytest.raises(UnavailableError, match="administratively prohibited") as refused,
        ):
            session.open()
        assert "PermitOpen" in refused.value.remedy
        with (
            SshSession.connect(sshd.forwarding(allowed), stop) as session,
            pytest.raises(UnavailableError, match="connection refused") as refused,
        ):
            session.open()
        assert "nothing listens" in refused.value.remedy


@pytest.mark.parametrize(
    ("option", "restriction"),
    [
        ("", 'permitopen="127.0.0.1:2" '),
        ("", 'permitopen="localhost:1" '),
        ("", "restrict "),
        ("", "no-port-forwarding "),
        ("PermitOpen 127.0.0.1:2", ""),
        ("PermitOpen localhost:1", ""),
        ("AllowTcpForwarding no", ""),
        ("AllowTcpForwarding remote", ""),
        ("DisableForwarding yes", ""),
    ],
)
def test_each_reason_for_a_prohibited_forward_is_listed(stop: threading.Event, option: str, restriction: str) -> None:
    with Sshd([option]) as sshd:
        sshd.authorized_keys.write_text(restriction + sshd.authorized_keys.read_text())
        with (
            SshSession.connect(sshd.forwarding(1), stop) as session,
            pytest.raises(UnavailableError, match="administratively prohibited") as refused,
        ):
            session.open()
    remedy = refused.value.remedy
    assert (
        f"In {sshd.user}'s authorized_keys there: (1) permitopen names another address; (2) permitopen names" in remedy
    )
    assert "(3) restrict without port-forwarding, or no-port-forwarding. In its sshd_config: (4) PermitOpen" in remedy
    assert "(5) AllowTcpForwarding is no or remote, or DisableForwarding is yes" in remedy


def test_a_session_survives_a_refused_forward(sshd: Sshd, stop: threading.Event) -> None:
    with Collector() as collector, SshSession.connect(sshd.forwarding(collector.port), stop) as session:
        session.open().close()
        collector.stop_listening()
        with pytest.raises(UnavailableError, match="connection refused"):
            session.open()
        assert session.alive


def test_an_ended_session_opens_no_channel(sshd: Sshd, stop: threading.Event) -> None:
    with SshSession.connect(sshd.forwarding(1), stop) as session:
        sshd.kill_sessions()
        wait_until(lambda: not session.alive, 60, "the session notices the server's end")
        with pytest.raises(UnavailableError, match="broke off"):
            session.open()
