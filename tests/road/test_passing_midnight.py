"""`relay receive` and a reader pass midnight, the end of summer time, and days, by a clock that the test sets."""

import datetime as dt
import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from harness.ports import LOOPBACK, free_port
from harness.process import Process
from harness.relay import RELAY
from harness.shifted_clock import ShiftedClock
from harness.waiting import wait_until

ZONE = ZoneInfo("Europe/Berlin")
MIDNIGHT = dt.datetime(2027, 10, 31, tzinfo=dt.UTC)
AN_HOUR = dt.timedelta(hours=1)
SUMMER_TIME_ENDS = MIDNIGHT + AN_HOUR
AROUND = dt.timedelta(seconds=0.3)
DAY = dt.timedelta(days=1)
CONFIGURATION = """\
[relay]
hostname = "logs"
state-directory = "{folder}/state"
[receiver]
archive = "{folder}/archive"
listen = ["tcp://127.0.0.1:{port}"]
zone = "Europe/Berlin"
[receiver.retention]
compress-after = "1d"
age = "3d"
"""


class LogServer:
    """A receiver, a device that sends RFC 3164 with its local time, and a reader that follows with a bookmark."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.clock = ShiftedClock(folder)
        self.clock.environment["TZ"] = ZONE.key
        self.sent: list[dt.datetime] = []
        self.relay = [*RELAY, "-c", str(folder / "relay.toml")]
        (folder / "relay.toml").write_text(CONFIGURATION.format(folder=folder, port=self.port))
        (folder / "read").touch()

    @contextmanager
    def receiving(self) -> Iterator[Process]:
        argv = [*self.relay, "receive"]
        with Process(argv, self.folder / "receive.log", self.clock.environment) as process:
            process.wait_for_log("ready: ")
            with socket.create_connection((LOOPBACK, self.port)) as self.device:
                yield process

    def send(self) -> dt.datetime:
        """Send a message with its number, whose time is the clock's second; returns the clock's time."""
        now = self.clock.now()
        stamp = f"{now.astimezone(ZONE):%b %d %H:%M:%S}"
        self.device.sendall(f"<13>{stamp} fw1 app: {len(self.sent)}\n".encode())
        self.sent.append(now.replace(microsecond=0))
        return now

    def send_over(self, moment: dt.datetime) -> None:
        """Send from before a moment until after it.

        What was sent before is archived first. Else one extent would cover the clock's leap, and a reader knows only
        the extent's time of receipt.
        """
        self.wait_for_reader()
        self.clock.set(moment - AROUND)
        wait_until(lambda: self.send() > moment + AROUND, 30, "the moment")

    @contextmanager
    def following(self) -> Iterator[Process]:
        options = ["--archive", str(self.folder / "archive"), "--originator", "fw1", "--json"]
        argv = [*self.relay, "events", *options, "--follow", "--bookmark", str(self.folder / "bookmark")]
        with Process(argv, self.folder / "read", self.clock.environment) as process:
            yield process
            self.wait_for_reader()
            process.stop()
            assert process.exit_code == 0

    def wait_for_reader(self) -> None:
        wait_until(
            lambda: len(self.read()) >= len(self.sent), 30, lambda: f"{len(self.read())} of {len(self.sent)} are read"
        )

    def read(self) -> list[dict[str, Any]]:
        """Everything that readers have printed."""
        return [json.loads(line) for line in (self.folder / "read").read_text().splitlines()]

    def files(self) -> list[str]:
        return sorted(os.listdir(self.folder / "archive" / "fw1"))

    def wait_for_files(self, *names: str) -> None:
        wait_until(lambda: self.files() == sorted(names), 30, lambda: f"{names}, not {self.files()}")


def test_days_are_closed_compressed_and_removed_while_a_reader_follows(tmp_path: Path) -> None:
    server = LogServer(tmp_path)
    server.clock.set(MIDNIGHT - AN_HOUR)
    with server.receiving() as process:
        server.send()
        wait_until((tmp_path / "archive" / "fw1").exists, 30, lambda: process.log)
        with server.following():
            server.send_over(MIDNIGHT)
            server.send_over(SUMMER_TIME_ENDS)
        assert server.files() == ["2027-10-30.ledger", "2027-10-30.log", "2027-10-31.ledger", "2027-10-31.log"]

        server.clock.set(MIDNIGHT + DAY + AN_HOUR)  # the first day was closed some time after midnight
        server.send()
        with server.following():
            server.wait_for_files(
                *("2027-10-30.ledger", "2027-10-30.log.zst", "2027-10-31.ledger", "2027-10-31.log"),
                *("2027-11-01.ledger", "2027-11-01.log"),
            )
            server.clock.set(MIDNIGHT + 3 * DAY)
            server.send()
            server.wait_for_files(
                *("2027-10-30.ledger", "2027-10-31.ledger", "2027-10-31.log.zst"),
                *("2027-11-01.ledger", "2027-11-01.log"),  # closed by the next message, a moment ago
                *("2027-11-03.ledger", "2027-11-03.log"),
            )
        process.stop()
    assert [line.partition(", ")[0] for line in process.complaints] == [
        "relay: retention removed 2 days of 2 originators"
    ]
    read = server.read()
    assert [int(event["message"]) for event in read] == list(range(len(server.sent)))
    assert [dt.datetime.fromisoformat(event["time"]) for event in read] == server.sent
    verified = subprocess.run(
        [*server.relay, "archive", "verify"], capture_output=True, text=True, timeout=60, check=False
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert re.search("2027-10-30.*removed by retention", verified.stdout)
