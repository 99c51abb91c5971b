"""A real Prometheus and a real Nagios watch relay's programs; the alert rules fire when their time comes."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from harness.debian import PROMETHEUS, fetch
from harness.nagios import Nagios
from harness.prometheus import PROMTOOL, RULES, Prometheus
from harness.receiver import Receiver
from harness.relay import RELAY
from harness.waiting import wait_until
from road.test_monitoring import Monitored, MonitoredRouter
from source.log_writing import record

RECEIVER = """\
[metrics]
listen = "127.0.0.1:{port}"
[receiver]
archive = "{folder}/server/archive"
[[receiver.expect]]
originator = "router1"
within = "2s"
"""
SMALL_SPOOL = '[spool]\nmax-size = "4MiB"\nsegment-size = "1MiB"\n'
PERFORMANCE = re.compile(r"depth=\d+;;;0 depth_size=\d+B;;;0 oldest=[\d.]+s;900;3600;0 alarms=\d;;;0")
OK, WARNING, CRITICAL = range(3)


class Watched:
    """A router and a receiver, and the two programs that watch them."""

    def __init__(self, folder: Path) -> None:
        self.far = Monitored()
        of_receiver = folder / "receiver.toml"
        of_receiver.write_text(RECEIVER.format(port=self.far.port, folder=folder))
        self.receiver = Receiver(folder / "server", "-c", str(of_receiver))
        self.router = MonitoredRouter(folder, self.receiver.port)
        configuration = folder / "relay.toml"
        configuration.write_text(
            configuration.read_text().replace("[audit]\n", f'{SMALL_SPOOL}[audit]\ndisk-full-action = "rotate"\n')
        )
        self.prometheus = Prometheus({"router": self.router.port, "server": self.far.port})
        status = [*RELAY, "-c", str(configuration), "status", "--check"]
        self.nagios = Nagios({"status": status, "fleet": [*RELAY, "-c", str(of_receiver), "fleet", "--check"]})

    def wait_for_alerts(self, *alerts: tuple[str, str, str]) -> None:
        wait_until(lambda: set(alerts) <= set(self.prometheus.alerts()), 60, lambda: f"{self.prometheus.alerts()}")

    def wait_for_service(self, name: str, state: int, text: str) -> None:
        def is_so() -> bool:
            found = self.nagios.service(name)
            return found[0] == state and text in found[1]

        wait_until(is_so, 60, lambda: f"{self.nagios.service(name)}")


def test_prometheus_and_nagios_see_a_good_state_silence_and_a_loss(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    prometheus, router = watched.prometheus, watched.router
    with watched.receiver.running() as far, router.start() as process, prometheus, watched.nagios:
        router.log(1, 100)
        wait_until(lambda: prometheus.targets() == {"router": "", "server": ""}, 60, lambda: process.log)
        query = 'relay_accepted_events_total{type="audit",instance="router",job="relay"}'
        wait_until(lambda: prometheus.value(query) == 100, 60, lambda: f"{prometheus.value(query)}")
        wait_until(lambda: set(prometheus.rules().values()) == {"ok"}, 60, lambda: f"{prometheus.rules()}")
        watched.wait_for_service("status", OK, "OK - 1 destination, 0 events wait")
        assert PERFORMANCE.fullmatch(watched.nagios.service("status")[2])
        # The router has nothing to send until its next heartbeat.
        watched.wait_for_alerts(("RelayAlarm", "server", "originator-silent"))
        watched.wait_for_service("fleet", WARNING, "router1")
        far.stop()
        with (router.folder / "audit.log").open("ab") as log:
            log.write(b"".join(record(serial, body="x" * 1500) for serial in range(101, 4000)))
        watched.wait_for_alerts(
            ("RelayAlarm", "router", "spool-rotating"),
            ("RelayDown", "server", ""),
            ("RelayEventsLost", "router", ""),
        )
        watched.wait_for_service("status", CRITICAL, "CRITICAL - alarm spool-rotating: ")


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [fetch(PROMETHEUS).file(PROMTOOL), *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_promtool_accepts_the_alert_rules_and_the_manual_has_their_metrics() -> None:
    done = promtool("check", "rules", "--lint-fatal", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr
    known = set(
        re.findall(r"^\| `(relay_\w+)` ", (RULES.parents[1] / "docs" / "monitoring.md").read_text(), re.MULTILINE)
    )
    used = {
        name.removesuffix("_bucket")
        for name in re.findall(r"\brelay_\w+", re.sub(r"annotations:(?:\n {10}.*)*", "", RULES.read_text()))
    }
    assert used <= known


SERIES = {
    'relay_alarm_raised_timestamp_seconds{alarm="spool-full",subject="",severity="critical"}': "5x90",
    'relay_alarm_raised_timestamp_seconds{alarm="server-lost",subject="a",severity="major"}': "_x30 5x60",
    'relay_alarm_raised_timestamp_seconds{alarm="originator-silent",subject="fw1",severity="major"}': "_x60 5x30",
    "relay_spool_writable": "1x20 0x70",
    'relay_lost_events_total{destination="log1"}': "0x20 8x70",
    'relay_lost_events_total{destination="log2"}': "_x70 3x20",
    'relay_part_events_total{part="kernel audit",event="lost"}': "0x35 4x55",
    'relay_source_faults_total{source="audit",cause="lost_position"}': "0x75 1x15",
    'relay_source_faults_total{source="audit",cause="malformed"}': "0x20 5x70",
    'relay_oldest_unproven_seconds{destination="log1"}': "900x90",
    'relay_oldest_unproven_seconds{destination="log2"}': "901x90",
    'relay_certificate_expiry_timestamp_seconds{subject="",certificate="/a"}': "90000x90",
    'relay_fsync_seconds_bucket{spool="retained",le="1"}': "0x90",
    'relay_fsync_seconds_bucket{spool="retained",le="2.5"}': "0+10x90",
    'relay_fsync_seconds_bucket{spool="retained",le="+Inf"}': "0+10x90",
    'up{job="relay"}': "1x70 0x20",
}
"""Of one machine, a value a minute, in promtool's notation."""
FULL_DISK = "RelayAlarm critical spool-full"
BACKLOG = "RelayBacklogOld warning"
LOST = "RelayEventsLost critical"
MISSED = "RelayRecordsMissed critical"
NOT_WRITABLE = "RelaySpoolNotWritable critical"
SLOW = "RelayDiskSlow warning"
SERVER_LOST = "RelayAlarm warning server-lost"


@pytest.mark.parametrize(
    ("minutes", "firing"),
    [
        (10, [FULL_DISK, BACKLOG]),
        (25, [FULL_DISK, BACKLOG, LOST, NOT_WRITABLE, SLOW]),
        (40, [FULL_DISK, BACKLOG, MISSED, NOT_WRITABLE, SERVER_LOST, SLOW]),
        (
            80,
            [
                *(FULL_DISK, BACKLOG, LOST, MISSED, NOT_WRITABLE, SERVER_LOST, SLOW),
                "RelayAlarm warning originator-silent",
                "RelayCertificateExpires warning",
                "RelayDown critical",
            ],
        ),
    ],
)
def test_prometheus_raises_the_alerts_when_their_time_comes(tmp_path: Path, minutes: int, firing: list[str]) -> None:
    """RelayEventsLost has ended 15 minutes after the loss; a loss before the first scrape counts too."""
    expected = [{"labels": labels(*words.split()), "value": 1} for words in firing]
    query = 'count by (alertname, severity, alarm) (ALERTS{alertstate="firing"})'
    document = {  # JSON is YAML
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in SERIES.items()],
                "promql_expr_test": [{"expr": query, "eval_time": f"{minutes}m", "exp_samples": expected}],
            }
        ],
    }
    file = tmp_path / "rules-test.json"
    file.write_text(json.dumps(document))
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def labels(alert: str, severity: str, alarm: str = "") -> str:
    of_alarm = f'alarm="{alarm}",' if alarm else ""
    return f'{{{of_alarm}alertname="{alert}",severity="{severity}"}}'
