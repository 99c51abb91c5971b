"""`relay receive` as a child process, and what stands in its archive."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.ports import free_port
from harness.process import Process
from harness.relay import RELAY, archived, audit_events
from harness.waiting import wait_until

_IDENTITY = re.compile(rb'\[128T relayRun="(?P<run>[0-9a-f]{16})" relaySeq="(?P<number>\d+)" ')


class Receiver:
    """`relay receive` in a folder of its own; `running` starts it, as often as one likes."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.archive = folder / "archive"
        self._flags = flags
        folder.mkdir(exist_ok=True)

    def start(self, **environment: str) -> Process:
        """Start it; it may die before it listens."""
        argv = [
            *(*RELAY, "receive", "--listen", f"tcp://127.0.0.1:{self.port}"),
            *("--state", str(self.folder / "state"), "--archive", str(self.archive), *self._flags),
        ]
        return Process(argv, self.folder / "receive.log", {**os.environ, **environment})

    @contextmanager
    def running(self, **environment: str) -> Iterator[Process]:
        """It, from when it listens on."""
        with self.start(**environment) as process:
            # A connection to look would be a sender too: the kernel's table tells who listens.
            wait_until(lambda: _listens(self.port) or not process.running, 20, lambda: process.log)
            assert process.running, process.log
            yield process

    def status(self) -> str:
        """What `relay status` tells of it, and its log."""
        argv = [*RELAY, "status", "--state", str(self.folder / "state")]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        return f"{done.stdout}{done.stderr}{(self.folder / 'receive.log').read_text()}"

    def messages(self) -> list[bytes]:
        """Every archived audit event."""
        return audit_events(archived(self.archive))


def _listens(port: int) -> bool:
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def identities(messages: list[bytes]) -> list[tuple[bytes, int]]:
    """Run and number of each message that has them."""
    found = [_IDENTITY.search(message) for message in messages]
    return [(match["run"], int(match["number"])) for match in found if match is not None]
