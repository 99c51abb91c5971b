"""A port forwarding's Unix socket, which only the programs of certain users may use, through OpenSSH's own server."""

import contextlib
import os
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.collector import Collector
from harness.openssh import Sshd
from harness.ports import LOOPBACK, free_port
from harness.waiting import wait_until
from pydantic import ValidationError

from relay.errors import CannotCreateError
from relay.program.connection_test.this_machine import inspect_local_listener
from relay.system.disk import Disk
from relay.transport.retry import Backoff
from relay.transport.ssh.forwarding.local_clients import LocalClients
from relay.transport.ssh.forwarding.local_socket import ids_of, name_of
from relay.transport.ssh.forwarding.port_forward import PortForward
from relay.values.configuration.settings import PortForwarding

_SELF = str(os.geteuid())


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


def _settings(sshd: Sshd, collector: Collector, path: Path, *users: str) -> PortForwarding:
    port = free_port()
    return sshd.forwarding(collector.port, local_port=port, local_socket=str(path), local_users=users)


@contextlib.contextmanager
def _running(settings: PortForwarding) -> Iterator[PortForward]:
    forward = PortForward(settings, backoff=Backoff(longest=0.05))
    forward.start()
    try:
        yield forward
    finally:
        forward.stop()


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(60)
    connection.connect(str(path))
    return connection


def test_a_named_user_reaches_the_collector_by_the_socket_and_no_port_is_open(
    sshd: Sshd, collector: Collector, tmp_path: Path
) -> None:
    path = tmp_path / "forwarding"
    settings = _settings(sshd, collector, path, name_of(os.geteuid()))
    with _running(settings) as forward:
        wait_until(lambda: forward.state == "listening", 60, lambda: f"{forward!r}: {forward.error}")
        assert forward.name == str(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        with _connect(path) as program:
            program.sendall(b"x" * 100_000)
            wait_until(lambda: forward.connections == 1, 60, "it is connected")
        wait_until(lambda: collector.received == b"x" * 100_000, 60, "everything arrives")
        with socket.socket() as probe:
            assert probe.connect_ex((LOOPBACK, settings.local_port)) != 0
        assert "is served" in inspect_local_listener(Disk(), settings, str(tmp_path)).found
        begun = time.monotonic()
        forward.stop()
        assert time.monotonic() - begun < 1
    assert not path.exists()
    assert "is free" in inspect_local_listener(Disk(), settings, str(tmp_path)).found


def test_a_user_who_is_not_named_is_rejected_with_one_line(
    sshd: Sshd, collector: Collector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "forwarding"
    with _running(_settings(sshd, collector, path, "4294967294")) as forward:
        wait_until(lambda: forward.state == "listening", 60, lambda: f"{forward!r}: {forward.error}")
        for _ in range(20):
            with _connect(path) as program, contextlib.suppress(ConnectionError):
                assert program.recv(1) == b""
        assert forward.connections == 0
    assert not collector.received
    lines = [each.getMessage() for each in caplog.records if "rejecting" in each.getMessage()]
    user = name_of(os.geteuid())
    cause = f"rejecting connections (now from user {user}), because local-users does not name the user"
    assert lines == [f"port-forwarding {path}: {cause}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a program as another user")
def test_the_user_of_a_connection_is_the_one_whose_program_connected(sshd: Sshd, collector: Collector) -> None:
    path = Path(tempfile.gettempdir()) / f"relay-test-{os.getpid()}"  # where another user may go
    program = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r}); s.sendall(b'y'); s.recv(1)"
    with _running(_settings(sshd, collector, path, "65534")) as forward:
        wait_until(lambda: forward.state == "listening", 60, lambda: f"{forward!r}: {forward.error}")
        subprocess.run(["/usr/bin/python3", "-c", program], user=65533, check=False, stderr=subprocess.DEVNULL)
        running = subprocess.Popen(["/usr/bin/python3", "-c", program], user=65534)
        try:
            wait_until(lambda: collector.received == b"y", 60, "the named user's octet arrives")
        finally:
            running.kill()
            running.wait()


def test_a_socket_that_cannot_be_made_is_reported_and_repaired(
    sshd: Sshd, collector: Collector, tmp_path: Path
) -> None:
    path = tmp_path / "later" / "forwarding"
    with _running(_settings(sshd, collector, path, _SELF)) as forward:
        wait_until(lambda: forward.error is not None, 60, "it fails")
        assert isinstance(forward.error, CannotCreateError)
        assert "its folder must exist" in forward.error.remedy
        path.parent.mkdir()
        path.write_text("")
        wait_until(lambda: forward.error is not None and "not a socket" in forward.error.cause, 60, "a file is kept")
        path.unlink()
        wait_until(lambda: forward.state == "listening", 60, lambda: f"{forward!r}: {forward.error}")


def test_a_user_that_does_not_exist_is_named() -> None:
    assert ids_of(["root", "7"]) == {0, 7}
    with pytest.raises(CannotCreateError, match='this machine has no user "nobody-of-this-name"'):
        ids_of(["nobody-of-this-name"])


_SERVER = {"server_address": "172.18.4.99"}


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"local_socket": "/run/x"}, "needs `local-users`"),
        ({"local_users": ("root",)}, "needs a `local-socket`"),
        ({"local_socket": "/run/x", "local_users": ("root",), "local_listener": False}, "has no effect with"),
        ({"local_socket": "/" + "x" * 108, "local_users": ("root",)}, "has a path of 109 bytes"),
        ({"local_socket": "run/x", "local_users": ("root",)}, "must be an absolute path"),
    ],
)
def test_keys_that_contradict_each_other_are_rejected(keys: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        PortForwarding.model_validate(_SERVER | keys)


def test_without_a_listener_nothing_listens(tmp_path: Path) -> None:
    settings = PortForwarding.model_validate(_SERVER | {"local_listener": False})
    assert settings.listens_on == ""
    found = inspect_local_listener(Disk(), settings, str(tmp_path))
    assert found.found == "local-listener = false: other programs cannot use this session"
    assert not found.warning


def test_the_user_with_the_most_connections_makes_room_at_a_socket() -> None:
    now = [0.0]
    clients = LocalClients(2, 0, users_of=lambda _: {}, monotonic=lambda: now[0])
    with contextlib.ExitStack() as opened:
        first, second, third, fourth = (opened.enter_context(socket.socket()) for _ in range(4))
        for number, each in enumerate((first, second), 1):
            assert clients.admit(each, number, 1000)
            clients.has_sent(each)
        now[0] = 10.0
        assert clients.admit(third, 3, 1001)
        assert not clients.admit(fourth, 4, 1000)
