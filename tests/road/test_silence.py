"""A sender falls silent: its alarm, in the archive, to the alarm-command, in `relay fleet`; and a restart meanwhile."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from harness.process import signal_all
from harness.receiver import Receiver
from harness.relay import RELAY
from harness.waiting import wait_until
from road.test_monitoring import Monitored, MonitoredRouter

CONFIGURATION = """\
[relay]
hostname = "receiver1"
alarm-command = ["{folder}/report-alarm"]
[metrics]
listen = "127.0.0.1:{metrics}"
[[receiver.expect]]
originator = ["fw9"]
within = "2s"
[[receiver.expect]]
originator = "router?"
within = "4s"
"""
REPORT = '#!/bin/sh\necho "$RELAY_STATE $RELAY_ALARM $RELAY_SUBJECT $RELAY_SEVERITY" >> {folder}/reported\n'
"""A program of the administrator's."""


class ExpectingReceiver:
    """`relay receive`, which expects originators and reports alarms."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics = Monitored()
        command = folder / "report-alarm"
        command.write_text(REPORT.format(folder=folder))
        command.chmod(0o755)
        self.configuration = folder / "receiver.toml"
        self.configuration.write_text(CONFIGURATION.format(folder=folder, metrics=self.metrics.port))
        self.receiver = Receiver(folder / "server", "-c", str(self.configuration))

    def wait_for_reports(self, *lines: str) -> None:
        """Return when the alarm-command has got exactly these alarms."""
        file = self.folder / "reported"

        def reported() -> list[str]:
            return sorted(file.read_text().splitlines()) if file.exists() else []

        wait_until(lambda: reported() == sorted(lines), 60, lambda: f"{lines}, not {reported()}")

    def fleet(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [*RELAY, "fleet", *words, str(self.receiver.archive)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=os.environ)

    def originators(self) -> dict[str, dict[str, Any]]:
        done = self.fleet("--json")
        assert done.returncode == 0, done.stderr
        return {each["name"]: each for each in json.loads(done.stdout)["originators"]}

    def archived_alarms(self) -> str:
        logs = (self.receiver.archive / "receiver1").glob("*.log")
        return "".join(line for log in logs for line in log.read_text().splitlines(keepends=True) if " ALARM [" in line)


def test_a_silent_sender_is_reported_once_also_over_a_restart(tmp_path: Path) -> None:
    expecting = ExpectingReceiver(tmp_path)
    router = MonitoredRouter(tmp_path, expecting.receiver.port)
    missing, silent = "originator-missing fw9 major", "originator-silent router1 major"
    with router.start() as process:
        with expecting.receiver.running():
            router.log(1, 20)
            expecting.receiver.wait_for_messages(20)
            wait_until(lambda: "router1" in expecting.originators(), 60, "the router")
            found = expecting.originators()["router1"]
            assert (found["peer"], found["silent"], found["disputed"], found["missing"]) == (
                "127.0.0.1",
                False,
                False,
                0,
            )
            assert (found["version"], found["alarms"], found["lost"]) == ("0.1.0", [], 0)
            assert found["heartbeat"] > 0

            process.suspend()
            expecting.wait_for_reports(f"raised {missing}", f"raised {silent}")
            values = expecting.metrics.metrics()
            assert values["relay_silent_originators"] == 1
            assert values["relay_known_originators"] >= 1
            assert 'alarm="originator-silent"' in " ".join(values)
            wait_until(lambda: "originator-silent" in expecting.archived_alarms(), 60, "the event in the archive")
        with expecting.receiver.running() as again:
            wait_until(lambda: expecting.metrics.get("/healthz")[0] == 200, 60, "the second run")
            signal_all([process.pid], signal.SIGCONT)
            router.log(21, 40)
            expecting.receiver.wait_for_messages(40)
            expecting.wait_for_reports(f"raised {missing}", f"raised {silent}", f"cleared {silent}")
            assert "Traceback" not in again.log
