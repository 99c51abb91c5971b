"""`relay receive` as a child process, and its archive."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from harness.ports import LOOPBACK, free_port, listens
from harness.process import Process
from harness.relay import RELAY, archived, audit_events, lines_of_log
from harness.waiting import wait_until

_IDENTITY = re.compile(rb'\[128T relayRun="(?P<run>[0-9a-f]{16})" relaySeq="(?P<number>\d+)" ')


class Receiver:
    """`relay receive` in a folder of its own; `running` starts it, any number of times."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.archive = folder / "archive"
        self.prefix: list[str] = []
        """Return the beginning of its command."""
        self._flags = flags
        self._counted: dict[Path, _Counted] = {}
        folder.mkdir(exist_ok=True)

    def start(self, **environment: str) -> Process:
        """Start it; it may die before it listens."""
        argv = [
            *(*self.prefix, *RELAY, "receive", "--listen", f"tcp://127.0.0.1:{self.port}"),
            *("--state", str(self.folder / "state"), "--archive", str(self.archive), *self._flags),
        ]
        return Process(argv, self.folder / "receive.log", {**os.environ, **environment})

    @contextmanager
    def running(self, **environment: str) -> Iterator[Process]:
        """Start it and yield it once it listens."""
        with self.start(**environment) as process:
            ports = [self.port, *self._ssh_ports()]
            wait_until(lambda: all(map(listens, ports)) or not process.running, 60, lambda: process.log)
            assert process.running, process.log
            yield process

    def _ssh_ports(self) -> list[int]:
        """The port of its SSH end, which listens after the others, if it is on loopback."""
        ends = [after for flag, after in pairwise(self._flags) if flag == "--ssh-listen"]
        return [int(port) for host, _, port in (end.rpartition(":") for end in ends) if host == LOOPBACK]

    def status(self) -> str:
        """Return its `relay status` and its log."""
        argv = [*RELAY, "status", "--state", str(self.folder / "state")]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        return f"{done.stdout}{done.stderr}{(self.folder / 'receive.log').read_text()}"

    def messages(self) -> list[bytes]:
        """Return every archived audit event."""
        return audit_events(archived(self.archive))

    def wait_for_messages(self, count: int, seconds: float = 60) -> list[bytes]:
        """Return the archived audit events when there are that many."""
        found: list[bytes] = []

        def are_there() -> bool:
            if self._count() >= count:
                found[:] = self.messages()
            return len(found) >= count

        wait_until(are_there, seconds, lambda: f"{count} messages; there are {self._count()}:\n{self.status()}")
        return found

    def _count(self) -> int:
        """Count them from the last look on: reading everything each time would slow the receiver down."""
        for path in self.archive.glob("[!.]*/*.log"):
            self._counted[path] = _count_on(path, self._counted.get(path, _Counted()))
        return sum(counted.messages for counted in self._counted.values())


class _Counted(NamedTuple):
    octets: int = 0
    messages: int = 0
    last: bytes = b""
    """The line before that offset."""


def _count_on(path: Path, counted: _Counted) -> _Counted:
    with path.open("rb") as file:
        file.seek(max(0, counted.octets - len(counted.last) - 1))
        if counted.last not in file.read(len(counted.last) + 1):  # a torn tail was cut off, and may have grown again
            counted = _Counted()
        file.seek(counted.octets)
        data = file.read()
    messages, octets = lines_of_log(data)
    last = data[: octets - 1].rpartition(b"\n")[2] if octets else counted.last
    return _Counted(counted.octets + octets, counted.messages + len(audit_events(messages)), last)


def ledgered(archive: Path, originator: str) -> list[dict[str, Any]]:
    """Return the extents of an originator's ledgers: who sent what, how, and the marks."""
    lines = [
        line for path in sorted((archive / originator).glob("*.ledger")) for line in path.read_bytes().splitlines()
    ]
    return [fields for fields in map(json.loads, lines) if "via" in fields]


def identities(messages: list[bytes]) -> list[tuple[bytes, int]]:
    """Return run and sequence number of each message that has them."""
    found = [_IDENTITY.search(message) for message in messages]
    return [(match["run"], int(match["number"])) for match in found if match is not None]
