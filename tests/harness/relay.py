"""relay itself as a child process, with the test's configuration: what a user runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.openssh import Sshd
from harness.ports import free_port
from harness.process import Process
from harness.waiting import wait_until
from relay.errors import RelayError
from relay.program.status.control_socket import ask
from relay.program.status.status import Status, status
from relay.system.disk import Disk

SEED = Path(__file__).parent.parent / "events" / "audit" / "seed.log"
_ESCAPE = re.compile(rb"#([0-3][0-7]{2})")
RELAY = [sys.executable, "-m", "relay"]
PROGRAM = " ".join(RELAY)
"""The same, as relay prints it."""


def look(state: Path) -> Status | None:
    """Return what `relay status` reports of a state directory; None before there is one.

    It is for conditions that a test looks at again and again: each `relay status` takes a third of a second of a core.
    `relay.program.status.control_socket.ask` is cheaper still, and suffices for what only the running program knows.
    """
    try:
        return status(Disk(), str(state))
    except RelayError:
        return None


def nothing_waits(state: Path, name: str = "") -> bool:
    """Return whether each destination, or this one, has proven all that the spool holds; False before a first proof."""
    found = look(state)
    destinations = [each for each in found.destinations if name in {"", each.name}] if found is not None else []
    return bool(destinations) and not any(each.waiting_events for each in destinations)


class Router:
    """A router's folder: audit.log, relay.toml, state; and the commands that run on it."""

    def __init__(
        self, folder: Path, sshd: Sshd, remote_port: int, *, local_port: int | None = None, **keys: str | int
    ) -> None:
        self.folder = folder
        self.sshd = sshd
        self.local_port = local_port or free_port()  # not 7777, because tests run in parallel
        self.audit_log = folder / "audit.log"
        self.state = folder / "state"
        self.configuration = folder / "relay.toml"
        self.prefix: list[str] = []
        """The beginning of relay's command: it may move it to another host."""
        self.forwarding: dict[str, str | int] = {
            "local-port": self.local_port,
            "remote-port": remote_port,
            "server-address": sshd.host,
            "server-port": sshd.port,
            "username": sshd.user,
            "private-key": str(sshd.client_key),
            "known-hosts": str(sshd.known_hosts),
        }
        self.audit: dict[str, object] = {"watch-auditd": "never"}  # not this machine's auditd
        self.server: dict[str, object] = {"port": self.local_port, "max-message-size": "64KiB", **keys}
        self.write_configuration()

    def write_configuration(self, **forwarding: str | int) -> None:
        """Write relay.toml, with these keys of [[port-forwarding]] changed (`_` for `-`)."""
        self.forwarding |= {key.replace("_", "-"): value for key, value in forwarding.items()}
        self.configuration.write_text(
            "\n".join(
                (
                    "[relay]",
                    'hostname = "combo1"',
                    'node = "test1"',
                    f'state-directory = "{self.state}"',
                    "[audit]",
                    *(f"{key} = {json.dumps(value)}" for key, value in self.audit.items()),
                    "[[source]]",
                    'name = "audit"',
                    'type = "audit-log"',
                    f'path = "{self.audit_log}"',
                    "[[port-forwarding]]",
                    *(f"{key} = {json.dumps(value)}" for key, value in self.forwarding.items()),
                    "[[remote-logging-server]]",
                    *(f"{key} = {json.dumps(value)}" for key, value in self.server.items()),
                    "",
                )
            )
        )

    def run(self, *arguments: str, seconds: float = 90) -> subprocess.CompletedProcess[str]:
        """Run `relay ARGUMENTS` to its end."""
        argv = [*self.prefix, *RELAY, "-c", str(self.configuration), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False)

    def drain(self, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run `relay run --drain`."""
        return self.run("run", "--drain", "--timeout", str(seconds), seconds=seconds + 30)

    def start(self, **environment: str) -> Process:
        """Run `relay run` in the background."""
        argv = [*self.prefix, *RELAY, "-c", str(self.configuration), "run"]
        return Process(argv, self.folder / "relay.log", {**os.environ, **environment})

    def status(self) -> dict[str, Any]:
        """Return `relay status --json`."""
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert isinstance(answer, dict)
        return answer

    def live(self) -> dict[str, Any]:
        """Return what the running relay adds to its status; it is asked again when it is too busy to answer in time."""
        answers: list[dict[str, Any]] = []

        def answered() -> bool:
            if ask(str(self.state)) is not None:
                answers.extend(filter(None, [self.status()["live"]]))
            return bool(answers)

        wait_until(answered, 60, "an answer of the relay that runs")
        return answers[0]


def octet_counted(data: bytes) -> list[bytes]:
    """Return the messages of `LEN SP MSG` or `LEN SP MSG LF`, without one that is being written."""
    messages = []
    place = 0
    while place < len(data):
        space = data.find(b" ", place)
        if space < 0:
            break
        end = space + 1 + int(data[place:space])
        if end > len(data):
            break
        messages.append(data[space + 1 : end])
        place = end + data.startswith(b"\n", end)
    return messages


def lines_of_log(data: bytes) -> tuple[list[bytes], int]:
    """Return the messages of an archive's log, and the offset of a line that is being written."""
    end = data.rfind(b"\n") + 1
    return [_ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), line) for line in data[:end].split(b"\n")[:-1]], end


def audit_events(messages: list[bytes]) -> list[bytes]:
    """Return the audit events; relay's own (openings, heartbeats, alarms, gaps) are not what most tests count."""
    return [message for message in messages if b' type="audit"' in message.partition(b"] ")[0]]


def archived(folder: Path) -> list[bytes]:
    """Return every message of an archive."""
    return [m for path in sorted(folder.rglob("*.log")) for m in lines_of_log(path.read_bytes())[0]]
