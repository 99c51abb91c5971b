"""A bug in any long-lived part of a program: it begins anew, or the program ends; and a stop ends in time."""

import contextlib
import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.openssh import generate_key
from harness.ports import LOOPBACK, free_port, listens
from harness.process import Process
from harness.receiver import Receiver
from harness.relay import RELAY
from harness.waiting import wait_until

from relay.program.status.control_socket import ask

_SITE = """
import relay.archive.days.day_keeper
import relay.listener.tcp
import relay.transport.ssh.forwarding.port_forward
import relay.delivery.destination
import relay.program.housekeeping
import relay.program.intake
import relay.program.metrics.metrics_server
import relay.program.road
import relay.program.watch.alarm_command
import relay.source.auditd.audit_log
import relay.system.signals
import relay.system.background.supervision

relay.system.background.supervision.keep_running.__kwdefaults__["pause"] = 0.1


def fail(owner, name, times=1):
    former = getattr(owner, name)

    def failing(*arguments, **named):
        nonlocal times
        times -= 1
        if times >= 0:
            raise ArithmeticError("injected")
        return former(*arguments, **named)

    setattr(owner, name, failing)


"""


def _with_bugs(folder: Path, *lines: str) -> dict[str, str]:
    """The environment of a program that executes these lines when it starts."""
    (folder / "sitecustomize.py").write_text(_SITE + "\n".join(lines))
    return {"PYTHONPATH": f"{folder}:{os.getcwd()}"}


@pytest.mark.parametrize(
    ("owner", "what"),
    [
        ("relay.program.intake.Intake, '_until_due'", "the intake"),
        ("relay.program.housekeeping.Housekeeping, 'look'", "the housekeeping"),
    ],
)
def test_a_receiver_without_a_part_that_it_needs_ends_with_a_line_and_a_code(
    tmp_path: Path, owner: str, what: str
) -> None:
    with Receiver(tmp_path / "receiver").start(**_with_bugs(tmp_path, f"fail({owner})")) as process:
        wait_until(lambda: process.exit_code is not None, 60, lambda: process.log)
        assert process.exit_code == 70
        assert f"relay cannot go on and ends: {what}: a bug at relay/" in process.log
        assert "ArithmeticError: injected" in process.log
        assert "Traceback" not in process.log


def test_the_threads_of_a_receiver_begin_anew_after_a_bug(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "relay.toml").write_text(
        f'[metrics]\nlisten = "{LOOPBACK}:{port}"\n[relay]\nalarm-command = ["/bin/false"]\n'
    )
    receiver = Receiver(tmp_path / "receiver", "-c", str(tmp_path / "relay.toml"))
    bugs = _with_bugs(
        tmp_path,
        "fail(relay.archive.days.day_keeper.DayKeeper, 'run')",
        "fail(relay.delivery.destination.Destination, 'run')",
        "fail(relay.program.metrics.metrics_server.MetricsServer, '_serve')",
        "fail(relay.program.road.Road, 'log_status')",
        "fail(relay.program.road.Road, 'live', 3)",
        "fail(relay.listener.tcp.StreamListener, '_accept')",
    )
    with receiver.running(**bugs) as process:
        for part in ("the keeper of closed days", "the delivery to archive", "the metrics end"):
            process.wait_for_log(f"{part} failed and begins anew in 0.1 s: a bug")
        os.kill(process.pid, signal.SIGUSR1)
        process.wait_for_log("the status cannot be logged: a bug")
        wait_until(lambda: ask(str(tmp_path / "receiver" / "state")), 60, lambda: process.log)
        with socket.create_connection((LOOPBACK, receiver.port)) as first, contextlib.suppress(ConnectionError):
            assert first.recv(1) == b""
        process.wait_for_log("a connection was refused: a bug")
        with socket.create_connection((LOOPBACK, receiver.port)) as sender:
            sender.sendall(b"<13>1 2026-01-01T00:00:00Z router - - - - message\n")
        wait_until(lambda: list(receiver.archive.glob("router/*.log")), 60, lambda: process.log)
        wait_until(lambda: listens(port), 60, lambda: process.log)
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=60) as answer:
            assert answer.status == 200
        os.kill(process.pid, signal.SIGUSR1)
        process.wait_for_log("status: destination archive")
        os.kill(process.pid, signal.SIGTERM)
        wait_until(lambda: process.exit_code is not None, 60, lambda: process.log)
        assert process.exit_code == 0
        assert "Traceback" not in process.log


_FORWARDER = """
[relay]
state-directory = "{folder}/state"
alarm-command = ["/bin/false"]
[audit]
watch-auditd = "never"
[[source]]
name = "audit"
path = "{folder}/audit.log"
[[port-forwarding]]
server-address = "127.0.0.1"
server-port = {port}
local-port = {local}
private-key = "{folder}/client"
known-hosts = "{folder}/known_hosts"
[[remote-logging-server]]
port = {local}
"""


@contextlib.contextmanager
def _forwarder(folder: Path, *bugs: str) -> Iterator[Process]:
    (folder / "audit.log").touch()
    (folder / "known_hosts").touch()
    generate_key(folder / "client")
    configuration = folder / "relay.toml"
    configuration.write_text(_FORWARDER.format(folder=folder, port=free_port(), local=free_port()))
    environment = {**os.environ, **_with_bugs(folder, *bugs)}
    with Process([*RELAY, "-c", str(configuration), "run"], folder / "run.log", environment) as process:
        yield process


def test_the_threads_of_a_forwarder_begin_anew_after_a_bug(tmp_path: Path) -> None:
    bugs = (
        "fail(relay.transport.ssh.forwarding.port_forward.PortForward, 'run')",
        "fail(relay.delivery.destination.Destination, 'run')",
        "fail(relay.program.watch.alarm_command.AlarmCommand, '_work')",
    )
    with _forwarder(tmp_path, *bugs) as process:
        for part in ("port-forwarding", "the delivery to", "alarm-command"):
            wait_until(
                lambda: re.search(f"{part}.* failed and begins anew in 0.1 s: a bug", process.log),  # noqa: B023
                60,
                lambda: process.log,
            )
        process.wait_for_log("lost ")
        process.wait_for_log("the alarm-command failed: ")
        os.kill(process.pid, signal.SIGTERM)
        wait_until(lambda: process.exit_code is not None, 60, lambda: process.log)
        assert process.exit_code == 0
        assert "Traceback" not in process.log


def test_a_source_with_a_bug_ends_the_forwarder(tmp_path: Path) -> None:
    with _forwarder(tmp_path, "fail(relay.source.auditd.audit_log.AuditLog, 'run')") as process:
        wait_until(lambda: process.exit_code is not None, 60, lambda: process.log)
        assert process.exit_code == 70
        assert "ArithmeticError: injected" in process.log
        assert "Traceback" not in process.log


def test_a_stop_that_hangs_ends_in_time_with_a_line_and_a_code(tmp_path: Path) -> None:
    bugs = _with_bugs(
        tmp_path,
        "import threading",
        "relay.system.signals.STOP_SECONDS = 0.5",
        "relay.delivery.destination.Destination.stop = lambda self: threading.Event().wait()",
    )
    host_key = str(generate_key(tmp_path / "host"))
    flags = ("--ssh-listen", f"{LOOPBACK}:{free_port()}", "--host-key", host_key)
    receiver = Receiver(tmp_path / "receiver", *flags, "--authorized-keys", str(tmp_path / "keys"))
    with receiver.running(**bugs) as process:
        process.wait_for_log("ready: ")
        begun = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        wait_until(lambda: process.exit_code is not None, 60, lambda: process.log)
        assert time.monotonic() - begun < 5
        assert process.exit_code == 70
        assert "stopping took longer than 0.5 s, so relay ends at once" in process.log
