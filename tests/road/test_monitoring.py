"""Metrics and the health check of both programs at work, with Prometheus' own parser and real faults."""

import json
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.debian import PROMETHEUS, fetch
from harness.ports import free_port, listens
from harness.process import Process, signal_all
from harness.receiver import Receiver
from harness.relay import RELAY
from harness.small_disk import SmallDisk
from harness.waiting import wait_until
from source.log_writing import records

CONFIGURATION = """\
[relay]
hostname = "router1"
state-directory = "{folder}/state"
[audit]
watch-auditd = "never"
space-left = "0B"
[metrics]
listen = "127.0.0.1:{metrics}"
[[source]]
name = "audit"
path = "{folder}/audit.log"
[[remote-logging-server]]
name = "log1"
port = {port}
protocol = "relp"
"""


class Monitored:
    """A program's metrics and health."""

    def __init__(self) -> None:
        self.port = free_port()

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except urllib.error.URLError as error:  # nothing listens
            return 0, str(error)

    def metrics(self) -> dict[str, float]:
        """Every sample by its name with its labels, after Prometheus' own parser has accepted all of it."""
        status, text = self.get("/metrics")
        assert status == 200, text
        promtool = fetch(PROMETHEUS).file("usr/bin/promtool")
        argv = [promtool, "check", "metrics"]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), text
        return {name: float(value) for name, value in re.findall(r"^(relay_\S+) (\S+)$", text, re.MULTILINE)}

    def wait_for_health(self, status: int, text: str) -> None:
        wait_until(lambda: self.is_health(status, text), 60, lambda: f"{status} {text!r}, not {self.get('/healthz')}")

    def is_health(self, status: int, text: str) -> bool:
        found = self.get("/healthz")
        return found[0] == status and text in found[1] and found[1].count("\n") == 1


class MonitoredRouter(Monitored):
    """`relay run` with one log, which sends by TCP to a receiver on this machine."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__()
        self.folder = folder
        self.far_port = port
        self.configure()

    def configure(self) -> None:
        text = CONFIGURATION.format(folder=self.folder, metrics=self.port, port=self.far_port)
        (self.folder / "relay.toml").write_text(text)

    def log(self, first: int, last: int) -> None:
        with (self.folder / "audit.log").open("ab") as log:
            log.write(records(first, last))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [*RELAY, "-c", str(self.folder / "relay.toml"), *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    def check(self, *words: str) -> str:
        """Exit code and output of `relay status --check`."""
        done = self.run("status", "--check", *words)
        assert done.stderr == ""
        assert done.stdout.count("\n") == 1
        return f"{done.returncode} {done.stdout}"

    def start(self) -> Process:
        return Process([*RELAY, "-c", str(self.folder / "relay.toml"), "run"], self.folder / "relay.log")


@pytest.fixture
def far() -> Monitored:
    return Monitored()


@pytest.fixture
def far_receiver(tmp_path: Path, far: Monitored) -> Iterator[tuple[Receiver, Process]]:
    more = tmp_path / "metrics.toml"
    more.write_text(f'[metrics]\nlisten = "127.0.0.1:{far.port}"\n')
    receiver = Receiver(tmp_path / "server", "-c", str(more))
    with receiver.running() as process:
        yield receiver, process


def test_metrics_and_health_of_an_idle_a_busy_and_a_stuck_program(
    tmp_path: Path, far: Monitored, far_receiver: tuple[Receiver, Process]
) -> None:
    receiver, far_process = far_receiver
    router = MonitoredRouter(tmp_path, receiver.port)
    with router.start() as process:
        wait_until(lambda: listens(router.port), 60, lambda: process.log)
        router.wait_for_health(200, "ok: nothing waits")
        far.wait_for_health(200, "ok: nothing waits")
        assert re.fullmatch(
            r"0 OK - 1 destination, \d events? waits? \| depth=\d;;;0 depth_size=\d+B;;;0 oldest=[\d.]+s;900;3600;0 "
            r"alarms=0;;;0\n",
            router.check(),
        )

        router.log(1, 500)
        receiver.wait_for_messages(500)
        wait_until(lambda: router.metrics()['relay_backlog_events{destination="log1"}'] == 0, 60, "proofs")
        here, there = router.metrics(), far.metrics()
        assert here['relay_accepted_events_total{type="audit"}'] == 500
        assert here['relay_proven_messages_total{destination="log1"}'] >= 501
        assert here['relay_proof_latency_seconds_count{destination="log1"}'] >= 501
        assert here['relay_fsync_seconds_count{spool="retained"}'] >= 1
        assert here["relay_disk_free_bytes"] > 0
        assert there['relay_accepted_events_total{type="log"}'] >= 501
        assert there['relay_oldest_unproven_seconds{destination="archive"}'] == 0

        far_process.suspend()
        router.log(501, 700)
        router.wait_for_health(503, "log1: nothing proven for ")
        stuck = router.metrics()
        assert stuck['relay_backlog_events{destination="log1"}'] >= 200
        assert stuck['relay_backlog_bytes{destination="log1"}'] > 200 * 100
        assert stuck['relay_oldest_unproven_seconds{destination="log1"}'] >= 9
        assert stuck['relay_destination_up{destination="log1"}'] == 0
        wait_until(lambda: router.metrics()['relay_alarms{severity="major"}'] == 1, 60, "the alarm server-lost")
        assert router.check().startswith("1 WARNING - alarm server-lost: nothing can be delivered to log1: ")
        assert router.check("--critical", "5s").startswith("2 CRITICAL - log1: the oldest event without proof is ")
        signal_all([far_process.pid], signal.SIGCONT)
        router.wait_for_health(200, "ok: nothing waits")
        receiver.wait_for_messages(700)

        former, router.port = router.port, free_port()
        router.configure()
        reloaded = router.run("reload")
        assert "metrics.listen changed" in reloaded.stdout, reloaded
        router.wait_for_health(200, "ok: nothing waits")
        assert not listens(former)
        process.suspend()
        assert router.check() == f"3 UNKNOWN - relay (pid {process.pid}) does not answer\n"
        process.stop()
        assert process.exit_code == 0, process.log
    assert router.check().startswith("2 CRITICAL - relay does not run ")
    assert router.check("--state", "/no/such/folder").startswith("3 UNKNOWN - ")
    assert json.loads(router.check("--json")[2:])["schema"] == "relay.check/1"


def test_a_full_disk_is_unhealthy_until_there_is_space(tmp_path: Path) -> None:
    far = Monitored()
    with SmallDisk(tmp_path / "disk", "48m") as disk:
        configuration = tmp_path / "receiver.toml"
        configuration.write_text(
            f'[relay]\nstate-directory = "{disk.folder}/state"\n[spool]\nsegment-size = "4MiB"\nmax-size = "16MiB"\n'
            f'[metrics]\nlisten = "127.0.0.1:{far.port}"\n'
        )
        receiver = Receiver(tmp_path / "server", "-c", str(configuration), "--state", f"{disk.folder}/state")
        receiver.prefix = disk.prefix
        router = MonitoredRouter(tmp_path, receiver.port)
        with receiver.running() as process, router.start():
            wait_until(lambda: listens(far.port), 60, lambda: process.log)
            far.wait_for_health(200, "ok: nothing waits")
            subprocess.run([*disk.prefix, "sh", "-c", f"cat /dev/zero > {disk.folder}/other 2> /dev/null"], check=False)
            router.log(1, 20_000)
            far.wait_for_health(503, "the spool cannot be written: ")
            assert far.metrics()["relay_spool_writable"] == 0
            disk.run("rm", f"{disk.folder}/other")
            far.wait_for_health(200, "ok")
            receiver.wait_for_messages(20_000)
