"""The local listener through OpenSSH's own server, with rsyslog and plain sockets as the local programs."""

import contextlib
import logging
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.collector import Collector
from harness.openssh import Sshd, generate_key
from harness.ports import LOOPBACK, free_port
from harness.rsyslog import Rsyslog, RsyslogForwarder
from harness.waiting import wait_until

from relay.errors import CannotCreateError, PermissionRefusedError, RelayError, TemporaryError, UnavailableError
from relay.transport.retry import Backoff
from relay.transport.ssh.forwarding import local_clients, local_port
from relay.transport.ssh.forwarding.local_listener import LocalListener
from relay.transport.ssh.forwarding.port_forward import PortForward, PortForwardLimits
from relay.transport.ssh.session import ChannelShortageError, SshSession

_MEGABYTE = bytes(range(256)) * 4096
_FAST = Backoff(longest=0.05)
_SLOW = Backoff(first=60, least=1)
_GIVEN_UP = 9.0  # seconds; `stop` waits 10 for a thread that nothing has freed


@contextlib.contextmanager
def _forwarded(
    sshd: Sshd,
    remote_port: int,
    backoff: Backoff = _FAST,
    limits: PortForwardLimits | None = None,
    **changes: Any,
) -> Iterator[PortForward]:
    """A started port forward on a free local port; `changes` are other settings of [[port-forwarding]]."""
    settings = sshd.forwarding(remote_port, **({"local_port": free_port()} | changes))
    forward = PortForward(settings, limits=limits, backoff=backoff)
    forward.start()
    try:
        yield forward
    finally:
        forward.stop()


def _wait_until_listening(forward: PortForward) -> None:
    wait_until(lambda: forward.state == "listening", 60, lambda: f"{forward!r} listens: {forward.error}")


def _port(forward: PortForward) -> int:
    return int(forward.name.rpartition(":")[2])


def _connect(forward: PortForward) -> socket.socket:
    return socket.create_connection((LOOPBACK, _port(forward)), timeout=60)


def _refuses(forward: PortForward) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, _port(forward))) != 0


def _wait_until_ended(connection: socket.socket) -> None:
    """Return once the connection of a local program has ended."""
    with contextlib.suppress(ConnectionError):
        assert connection.recv(1) == b""


def _holding(released: threading.Event) -> Callable[[Collector, socket.socket], None]:
    """A collector that reads nothing until it is released."""

    def hold(_: Collector, connection: socket.socket) -> None:
        released.wait(300)
        del connection

    return hold


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as well_behaved:
        yield well_behaved


# --- Arrival ---


def test_ten_thousand_messages_of_rsyslogs_omfwd_arrive_byte_for_byte(sshd: Sshd) -> None:
    messages = [b"<110>1 - h a - - - %d of many\nwith a \xff and a line" % number for number in range(10_000)]
    with Rsyslog("imtcp") as far_end, _forwarded(sshd, far_end.port) as forward:
        _wait_until_listening(forward)
        with RsyslogForwarder(_port(forward)) as program:
            with socket.create_connection((program.host, program.port)) as sender:
                sender.sendall(b"".join(b"%d %s" % (len(message), message) for message in messages))
            wait_until(
                lambda: len(far_end.messages()) >= 10_000,
                60,
                lambda: f"{len(far_end.messages())} messages; {forward.state} {forward.connections}; {program.log}",
            )
            assert far_end.messages() == messages
            assert forward.connections == 1
        wait_until(lambda: forward.connections == 0, 60, "the program's connection is closed")
        assert far_end.messages() == messages


def test_everything_arrives_from_a_program_that_closes_after_its_last_octet(sshd: Sshd, collector: Collector) -> None:
    with _forwarded(sshd, collector.port) as forward:
        _wait_until_listening(forward)
        with _connect(forward) as program:
            program.sendall(_MEGABYTE * 8)
        wait_until(lambda: len(collector.received) >= 8 << 20, 60, lambda: f"8 MiB, not {len(collector.received)}")
        assert collector.received == _MEGABYTE * 8


def test_the_collectors_answers_reach_the_program(sshd: Sshd) -> None:
    def echo(_: Collector, connection: socket.socket) -> None:
        while data := connection.recv(1 << 16):
            connection.sendall(data)

    with Collector(echo) as collector, _forwarded(sshd, collector.port) as forward:
        _wait_until_listening(forward)
        with _connect(forward) as program:
            sending = threading.Thread(target=program.sendall, args=(_MEGABYTE,), daemon=True)
            sending.start()
            answer = b""
            while len(answer) < len(_MEGABYTE):
                answer += program.recv(1 << 16)
        assert answer == _MEGABYTE


def test_a_half_close_delivers_everything_but_ends_the_answers_at_once(sshd: Sshd) -> None:
    """There is no half-close in sshtunnel: a program must read every answer before it ends its half."""
    received = threading.Event()

    def answer_late(collector: Collector, connection: socket.socket) -> None:
        collector.read_to_the_end(connection)
        received.set()
        connection.sendall(b"too late")

    with Collector(answer_late) as collector, _forwarded(sshd, collector.port) as forward:
        _wait_until_listening(forward)
        with _connect(forward) as program:
            program.sendall(_MEGABYTE)
            program.shutdown(socket.SHUT_WR)
            assert program.recv(100) == b""
        assert received.wait(60)
        assert collector.received == _MEGABYTE


def test_it_also_listens_on_an_ipv6_address(sshd: Sshd, collector: Collector) -> None:
    with _forwarded(sshd, collector.port, local_address="::1") as forward:
        _wait_until_listening(forward)
        assert forward.name.startswith("[::1]:")
        with socket.create_connection(("::1", _port(forward))) as program:
            program.sendall(b"message")
        wait_until(lambda: collector.received == b"message", 60, "the message")


# --- The port follows the session ---


def test_a_killed_server_closes_port_and_connections_and_its_return_opens_the_port(
    sshd: Sshd, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    with _forwarded(sshd, collector.port) as forward:
        _wait_until_listening(forward)
        with _connect(forward) as program:
            program.sendall(b"before")
            wait_until(lambda: collector.received == b"before", 60, "the first message")
            sshd.kill()
            _wait_until_ended(program)
        wait_until(lambda: _refuses(forward), 60, "the port is closed")
        wait_until(lambda: forward.error is not None, 60, "the loss is reported")
        sshd.start()
        _wait_until_listening(forward)
        with _connect(forward) as program:
            program.sendall(b" and after")
        wait_until(lambda: collector.received == b"before and after", 60, "the second message")
        assert forward.error is None
        warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(warnings) == 2
        assert "broke off" in warnings[0]
        assert warnings[1] == f"port-forwarding {forward.name} works again"


def test_a_server_that_ends_every_session_at_once_is_not_retried_at_once(sshd: Sshd, collector: Collector) -> None:
    with _forwarded(sshd, collector.port, _SLOW, PortForwardLimits(settled=60)) as forward:
        _wait_until_listening(forward)
        sshd.kill_sessions()
        wait_until(lambda: forward.state == "waiting 60 s to try again", 60, lambda: f"a wait, not {forward.state}")
        assert "broke off" in str(forward.error)


@pytest.mark.parametrize("fault", ["changed host key", "unknown host key", "refused key"])
def test_with_a_wrong_key_on_either_side_the_port_never_opens(sshd: Sshd, collector: Collector, fault: str) -> None:
    """By itself sshtunnel opens the port, unverified, at its second attempt."""
    changes: dict[str, Any] = {}
    if fault == "changed host key":
        sshd.known_hosts.write_text(sshd.known_hosts_line(sshd.other_key))
    elif fault == "unknown host key":
        sshd.known_hosts.write_text("")
    else:
        changes["private_key"] = str(sshd.other_key)
    with _forwarded(sshd, collector.port, **changes) as forward:
        for attempt in range(2, 6):
            wait_until(lambda attempt=attempt: _connections_to(sshd) >= attempt, 60, "one more attempt")  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            assert _refuses(forward)
            assert forward.state != "listening"
        assert isinstance(forward.error, PermissionRefusedError)
        assert "Accepted publickey" not in sshd.log
        assert ("Failed publickey" in sshd.log) is (fault == "refused key")
    assert collector.connections == 0


def _connections_to(sshd: Sshd) -> int:
    return sshd.log.count("Connection from")


def test_an_error_that_no_retry_repairs_is_retried_at_the_longest_interval(sshd: Sshd, collector: Collector) -> None:
    sshd.known_hosts.write_text("")
    with _forwarded(sshd, collector.port, Backoff()) as forward:
        wait_until(lambda: forward.state == "waiting 60 s to try again", 60, lambda: forward.state)


def test_only_the_local_address_is_bound(sshd: Sshd, collector: Collector) -> None:
    with _forwarded(sshd, collector.port) as forward:
        _wait_until_listening(forward)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.2", _port(forward))) != 0


def test_neither_the_users_ssh_folder_nor_an_agent_is_used(
    sshd: Sshd, collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If relay used them, it would connect to another port, and to the agent."""
    folder = tmp_path / ".ssh"
    folder.mkdir()
    (folder / "config").write_text("Host *\nHostName 192.0.2.1\nPort 1\nProxyCommand false\n")
    generate_key(folder / "id_ed25519")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        agent.setblocking(False)
        with _forwarded(sshd, collector.port) as forward:
            _wait_until_listening(forward)
            with _connect(forward) as program:
                program.sendall(b"message")
            wait_until(lambda: collector.received == b"message", 60, "the message")
        with pytest.raises(BlockingIOError):
            agent.accept()


# --- Obstacles ---


def test_a_taken_port_is_reported_with_its_owner_and_opens_once_it_is_free(sshd: Sshd, collector: Collector) -> None:
    with socket.create_server((LOOPBACK, 0)) as owner:
        port = owner.getsockname()[1]
        with _forwarded(sshd, collector.port, local_port=port) as forward:
            wait_until(lambda: forward.error, 60, "the error")
            assert isinstance(forward.error, TemporaryError)
            assert f"{LOOPBACK}:{port}: taken by " in str(forward.error)
            assert f"(process {os.getpid()})" in str(forward.error)
            wait_until(lambda: forward.state.startswith("waiting"), 60, "a wait")
            assert "Connection from" not in sshd.log
            owner.close()
            _wait_until_listening(forward)
            assert forward.error is None


def test_a_listening_port_forward_has_no_error(
    sshd: Sshd, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[tuple[RelayError | None, str]] = []
    monkeypatch.setattr(PortForward, "_report", lambda forward, error: reports.append((error, forward.state)))
    with _forwarded(sshd, collector.port) as forward:
        _wait_until_listening(forward)
        assert reports == [(None, "connecting")]


def test_a_port_that_is_taken_while_relay_connects_is_reported_too(
    sshd: Sshd, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_port, "require_free", lambda *_: None)
    with (
        socket.create_server((LOOPBACK, 0)) as owner,
        _forwarded(sshd, collector.port, local_port=owner.getsockname()[1]) as forward,
    ):
        wait_until(lambda: forward.error, 60, "the error")
        assert "taken by" in str(forward.error)


def test_an_address_that_the_machine_does_not_have_is_reported(sshd: Sshd, collector: Collector) -> None:
    with _forwarded(sshd, collector.port, local_address="192.0.2.1") as forward:
        wait_until(lambda: forward.error, 60, "the error")
        assert isinstance(forward.error, CannotCreateError)


def test_a_refusing_collector_ends_the_programs_connection_and_is_reported_until_one_succeeds(
    sshd: Sshd, caplog: pytest.LogCaptureFixture
) -> None:
    with Collector() as collector, _forwarded(sshd, collector.port) as forward:
        _wait_until_listening(forward)
        collector.stop_listening()
        for _ in range(3):
            with _connect(forward) as program:
                _wait_until_ended(program)
        assert "connection refused; nothing listens" in str(forward.error)
        assert forward.state == "listening"
        assert len(caplog.records) == 1
        with socket.create_server((LOOPBACK, collector.port)), _connect(forward):
            wait_until(lambda: forward.error is None, 60, "a program is connected")


def test_a_session_that_dies_before_the_listener_starts_leaves_no_port_open(
    sshd: Sshd, collector: Collector, stop: threading.Event
) -> None:
    """By itself sshtunnel would leave the port bound, and its stop would wait for ever."""
    settings = sshd.forwarding(collector.port, local_port=free_port())
    clients = local_clients.LocalClients(1, settings.local_port)

    def report(error: RelayError | None) -> None:
        del error

    with SshSession.connect(settings, stop) as session:
        session.close()
        listener = LocalListener(session, settings, clients, report)
        with contextlib.closing(listener), pytest.raises(UnavailableError):
            listener.listen()
    local_port.require_free(settings.local_address, settings.local_port)


# --- Ceilings ---


def test_connections_over_the_ceiling_are_closed_and_later_ones_succeed(
    sshd: Sshd, caplog: pytest.LogCaptureFixture
) -> None:
    released = threading.Event()
    limits = PortForwardLimits(connections=2)
    with Collector(_holding(released)) as collector, _forwarded(sshd, collector.port, limits=limits) as forward:
        _wait_until_listening(forward)
        with contextlib.ExitStack() as programs:
            for count in (1, 2):
                programs.enter_context(_connect(forward)).sendall(b"x")
                wait_until(lambda count=count: collector.connections == count, 60, "it is connected")  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            for _ in range(3):
                _wait_until_ended(programs.enter_context(_connect(forward)))
            assert forward.connections == 2
            assert collector.connections == 2
            assert "2 are open" in caplog.text
            assert len(caplog.records) == 1
        wait_until(lambda: forward.connections == 0, 60, "both are closed")
        with _connect(forward):
            wait_until(lambda: collector.connections == 3, 60, "there is room again")
        released.set()


def test_programs_that_send_nothing_make_room_also_when_the_server_has_no_more_channels(
    sshd: Sshd, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels: list[Any] = []
    open_channel = SshSession.open_channel

    def open_two(session: SshSession, *given: Any) -> Any:
        if sum(not channel.closed for channel in channels) >= 2:
            raise ChannelShortageError("forward", "the SSH server refuses another channel (resource shortage)")
        channels.append(open_channel(session, *given))
        return channels[-1]

    monkeypatch.setattr(SshSession, "open_channel", open_two)
    monkeypatch.setattr(local_clients, "SILENT_FOR", 0.0)
    with _forwarded(sshd, collector.port) as forward, contextlib.ExitStack() as programs:
        _wait_until_listening(forward)
        idle: list[socket.socket] = []
        for number in range(1, 6):
            idle.append(programs.enter_context(_connect(forward)))
            wait_until(lambda number=number: len(channels) == number, 20, "it has a channel")  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            if number > 2:
                _wait_until_ended(idle[number - 3])
        with _connect(forward) as program:
            program.sendall(b"<1>needed\n")
            wait_until(lambda: collector.received == b"<1>needed\n", 60, "it arrives")
            _wait_until_ended(idle[3])


def test_a_program_that_floods_a_blocked_collector_has_to_wait_and_costs_little_memory(sshd: Sshd) -> None:
    """The data that it could send until then is lost when the far end dies: it proves nothing."""
    released = threading.Event()
    with Collector(_holding(released)) as collector, _forwarded(sshd, collector.port) as forward:
        _wait_until_listening(forward)
        tracemalloc.start()
        try:
            swallowed = _flood(forward)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            released.set()
        assert 1 << 20 < swallowed < 64 << 20
        assert peak < 1 << 20


def _flood(forward: PortForward) -> int:
    """How many octets were accepted until none were for a second; on a busy machine the first ones may take longer."""
    taken = 0
    with _connect(forward) as program, contextlib.suppress(TimeoutError):
        while True:
            program.settimeout(60 if taken <= 1 << 20 else 1)
            taken += program.send(_MEGABYTE[: 1 << 16])
    return taken


# --- Stopping ---


def test_stopping_is_prompt_while_programs_are_blocked_and_frees_them(sshd: Sshd) -> None:
    released = threading.Event()
    with Collector(_holding(released)) as collector, _forwarded(sshd, collector.port) as forward:
        _wait_until_listening(forward)
        with _connect(forward) as idle, _connect(forward) as sender:
            sender.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                while True:
                    sender.send(_MEGABYTE)
            begun = time.monotonic()
            forward.stop()
            assert time.monotonic() - begun < _GIVEN_UP
            assert forward.state == "stopped"
            assert forward.error is None
            _wait_until_ended(idle)
            assert _refuses(forward)
        wait_until(lambda: forward.connections == 0, 60, "no connection is left")
        released.set()


def test_stopping_frees_a_thread_that_waits_for_a_program_that_does_not_read(sshd: Sshd) -> None:
    def talk(_: Collector, connection: socket.socket) -> None:
        while True:
            talked.append(connection.send(_MEGABYTE))

    talked: list[int] = []
    looks = [-1]

    def is_held_up() -> bool:
        looks.append(len(talked))
        threading.Event().wait(0.2)
        return looks[-1] == looks[-2] > 0

    with Collector(talk) as collector, _forwarded(sshd, collector.port) as forward:
        _wait_until_listening(forward)
        with _connect(forward):
            wait_until(is_held_up, 60, "the collector is held up")
            forward.stop()
            wait_until(lambda: forward.connections == 0, 60, "the connection has ended")


def test_stopping_is_prompt_while_relay_waits_for_a_silent_server(sshd: Sshd, collector: Collector) -> None:
    with (
        socket.create_server((LOOPBACK, 0)) as silent,
        _forwarded(sshd, collector.port, server_port=silent.getsockname()[1]) as forward,
    ):
        connection, _ = silent.accept()
        with connection:
            begun = time.monotonic()
            forward.stop()
            assert time.monotonic() - begun < _GIVEN_UP
        assert forward.state == "stopped"


def test_stopping_is_prompt_between_two_attempts(sshd: Sshd, collector: Collector) -> None:
    sshd.known_hosts.write_text("")
    with _forwarded(sshd, collector.port, _SLOW) as forward:
        wait_until(lambda: forward.state.startswith("waiting"), 60, "a wait")
        begun = time.monotonic()
        forward.stop()
        assert time.monotonic() - begun < _GIVEN_UP


# --- Logs ---


def test_neither_log_nor_representation_contains_data_or_keys(
    sshd: Sshd, collector: Collector, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """By itself sshtunnel logs all data as hexadecimal digits at its lowest level."""
    caplog.set_level(1)
    with _forwarded(sshd, collector.port) as forward:
        _wait_until_listening(forward)
        with _connect(forward) as program:
            program.sendall(b"something secret")
        wait_until(lambda: collector.received, 60, "the message")
        shown = repr(forward)
    assert shown == f"<PortForward {forward.name} listening, 0 connections>" or "1 connections" in shown
    output = caplog.text + shown + "".join(capfd.readouterr())
    assert "secret" not in output
    assert b"something secret".hex() not in output
    assert sshd.client_key.read_text().splitlines()[1] not in output
    assert "sshtunnel" not in output
