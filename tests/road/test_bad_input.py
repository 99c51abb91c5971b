"""Faults of `relay run`: one line with object, cause and remedy, the exit code, and no traceback.

A fault that a retry may repair is retried; a drain that runs out of time then exits with 75 and the last cause. Nothing
is lost: after the repair everything arrives.
"""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.openssh import generate_key
from harness.ports import free_port
from harness.relay import PROGRAM, RELAY, SEED, Router, audit_events, look
from harness.rights import WITHOUT_ROOTS_RIGHTS
from harness.rsyslog import Rsyslog
from harness.waiting import wait_until

EVENTS = 26  # in SEED


@pytest.fixture
def router(router: Router) -> Router:
    router.audit_log.write_bytes(SEED.read_bytes())
    return router


def unknown_host_key(router: Router) -> None:
    router.sshd.known_hosts.write_text("")


def changed_host_key(router: Router) -> None:
    router.sshd.known_hosts.write_text(router.sshd.known_hosts_line(router.sshd.other_key))


def refused_key(router: Router) -> None:
    router.write_configuration(private_key=str(router.sshd.other_key))


def prohibited_forward(router: Router) -> None:
    router.write_configuration(remote_port=1)


CAUSES = [
    (unknown_host_key, "has no key for it", "relay key trust", 77),
    (changed_host_key, "changed", "SHA256:", 77),
    (refused_key, "it refuses", "authorized_keys", 77),
    (prohibited_forward, "administratively prohibited", "PermitOpen", 75),  # what a server opens later
]


@pytest.mark.parametrize(
    ("spoil", "cause", "remedy", "exit_code"), CAUSES, ids=[spoil.__name__ for spoil, *_ in CAUSES]
)
def test_a_refusal_is_reported_and_nothing_is_lost(
    router: Router, rsyslog: Rsyslog, spoil: Callable[[Router], None], cause: str, remedy: str, exit_code: int
) -> None:
    known_hosts = router.sshd.known_hosts.read_text()
    good = dict(router.forwarding)
    spoil(router)

    failed = router.drain(seconds=10)

    assert failed.returncode == exit_code
    assert cause in failed.stderr.lower()
    assert remedy in failed.stderr
    assert "Traceback" not in failed.stderr
    assert rsyslog.messages() == []

    router.sshd.known_hosts.write_text(known_hosts)
    router.write_configuration(**{key.replace("-", "_"): value for key, value in good.items()})
    assert router.drain().returncode == 0
    assert len(audit_events(rsyslog.wait_for_messages(27))) == 26


def test_a_far_end_that_does_not_listen_is_reported_and_retried(router: Router, rsyslog: Rsyslog) -> None:
    rsyslog.stop()
    failed = router.drain(seconds=10)
    assert failed.returncode == 75
    assert "connection refused" in failed.stderr
    assert f"nothing listens on 127.0.0.1:{rsyslog.port}" in failed.stderr
    rsyslog.start()
    assert router.drain().returncode == 0
    assert len(audit_events(rsyslog.wait_for_messages(27))) == 26


def test_a_drain_with_a_private_key_that_others_may_read_keeps_the_events_and_fails(router: Router) -> None:
    router.sshd.client_key.chmod(0o644)
    failed = router.drain()
    assert failed.returncode == 77
    assert f"chmod 600 {router.sshd.client_key}" in failed.stderr
    assert router.status()["retained"]["events"] >= EVENTS


def test_known_hosts_that_every_user_can_change_keeps_the_events_and_fails(router: Router) -> None:
    router.sshd.known_hosts.chmod(0o646)
    failed = router.drain()
    assert failed.returncode == 77
    cause = f"known hosts {router.sshd.known_hosts}: every user can write to {router.sshd.known_hosts} (mode 0646)"
    assert f"{cause}; `chmod o-w {router.sshd.known_hosts}`" in failed.stderr
    assert router.status()["retained"]["events"] >= EVENTS


@pytest.mark.parametrize(("name", "mode"), [("configuration", 0o646), ("state", 0o702)])
def test_nothing_starts_with_a_configuration_or_a_state_directory_that_every_user_can_change(
    router: Router, name: str, mode: int
) -> None:
    router.state.mkdir(mode=0o700)
    path = router.configuration if name == "configuration" else router.state
    path.chmod(mode)
    failed = router.drain()
    assert failed.returncode == 78
    assert f"{path} (mode {mode:04o}); `chmod o-w {path}`" in failed.stderr
    path.chmod(mode & ~0o002)
    assert router.drain().returncode == 0


def test_a_drain_with_a_missing_private_key_keeps_the_events_and_fails(router: Router, tmp_path: Path) -> None:
    router.write_configuration(private_key=str(tmp_path / "missing"))
    failed = router.drain()
    assert failed.returncode == 66
    assert f"{tmp_path}/missing" in failed.stderr
    assert router.status()["retained"]["events"] >= EVENTS


def test_an_audit_log_that_relay_is_not_allowed_to_read_is_reported_at_once(router: Router) -> None:
    router.audit_log.chmod(0)
    argv = [*RELAY, "-c", str(router.configuration), "run", "--drain", "--timeout", "20"]
    argv = [*WITHOUT_ROOTS_RIGHTS, *argv]
    failed = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert failed.returncode == 77
    assert str(router.audit_log) in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_a_drain_that_is_stopped_exits_differently_from_a_complete_one(router: Router) -> None:
    router.sshd.kill()
    argv = [*RELAY, "-c", str(router.configuration), "run", "--drain"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as draining:
        assert draining.stderr is not None
        assert "lost" in draining.stderr.readline()
        draining.send_signal(signal.SIGINT)
        last = draining.stderr.read().splitlines()[-1]
    assert draining.returncode == 75
    expected = f"`{PROGRAM} status -c {router.configuration}` shows what waits"
    assert last == f"relay: drain: stopped before everything was proven; {expected}"


def test_three_mistakes_are_all_reported_with_their_keys_and_lines(router: Router) -> None:
    text = router.configuration.read_text()
    wrong = text.replace("[relay]", '[relay]\nhostnam = "x"').replace('type = "audit-log"', 'type = "audit-logs"')
    wrong += '\n[spool]\nsegment-size = "16 parsecs"\n'
    router.configuration.write_text(wrong)
    lines = wrong.splitlines()
    failed = router.run("config", "check")
    assert failed.returncode == 78
    for key, fragment in (
        ("relay.hostnam", "hostnam ="),
        ("source[1].type", "audit-logs"),
        ("segment-size", "parsecs"),
    ):
        line = next(number for number, text in enumerate(lines, 1) if fragment in text)
        assert f"relay.toml:{line}: " in failed.stderr
        assert key in failed.stderr
    assert failed.stderr.count("\n") == 3
    assert router.drain().returncode == 78


def test_a_server_without_a_forwarding_is_delivered_to_directly_with_a_warning(router: Router) -> None:
    router.write_configuration(local_port=free_port())
    failed = router.drain(seconds=10)
    assert failed.returncode == 75
    assert f"collector 127.0.0.1:{router.server['port']}: 127.0.0.1: connection refused" in failed.stderr
    checked = router.run("config", "check")
    assert "no [[port-forwarding]] has this address and port" in checked.stdout + checked.stderr


def test_a_second_relay_on_the_same_state_names_the_first(router: Router) -> None:
    with router.start() as first:
        wait_until(lambda: (found := look(router.state)) is not None and found.pid == first.pid, 60, "its lock")
        second = router.drain()
        assert second.returncode == 75
        assert f"pid {first.pid}" in second.stderr


def test_a_key_with_a_passphrase_is_refused_with_its_remedy(router: Router, tmp_path: Path) -> None:
    key = generate_key(tmp_path / "locked", passphrase="secret words")
    router.write_configuration(private_key=str(key))
    failed = router.drain()
    assert failed.returncode == 77
    assert "passphrase" in failed.stderr
    assert "secret words" not in failed.stderr
