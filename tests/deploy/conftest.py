"""relay on a machine with the real systemd, installed as deploy/README.md says.

Only root can make such a machine: for another user there is nothing here to collect (CONTRIBUTING says so). Where root
may not, in a container without the rights, these tests fail and name what they need.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from harness.openssh import generate_key
from harness.relay import archived, audit_events
from harness.systemd import SystemdMachine
from harness.waiting import wait_until

collect_ignore_glob = [] if os.geteuid() == 0 else ["test_*.py"]

RELAY: Final = "relay.service"
HALT_STUB: Final = "[Service]\nExecStart=\nExecStart=/usr/bin/systemctl start would-halt.service\n"
"""Replaces the halt before anything of relay is installed; like the halt, it asks process 1 for a unit."""
WOULD_HALT: Final = "[Service]\nType=oneshot\nExecStart=/usr/bin/touch /run/would-halt\n"
DEPLOY: Final = Path(__file__).parents[2] / "deploy"
_WALL: Final = """#!/bin/sh
echo "$*" >>/run/relay/wall
for terminal in /dev/pts/[0-9]*; do test ! -c "$terminal" || echo "$*" >"$terminal"; done
"""
"""Replaces wall, which finds terminals in ways that differ between Debian's releases; it writes to all of them."""
_CONFIGURATION: Final = """
[[source]]
name = "audit"
type = "audit-log"

[[source]]
name = "live"
type = "audit-dispatcher"

[[source]]
name = "events"
type = "event-collector"
command = ["/bin/sh", "-c", "echo 1 >$INDEX && echo $EVENT; exec sleep infinity"]
environment = ["INDEX=/var/lib/128t-monitoring/events.index", 'EVENT=events,type=system text="from the child"']
index-file = "/var/lib/128t-monitoring/events.index"

[[port-forwarding]]
server-address = "127.0.0.1"
server-port = 2222
username = "relay"

[[remote-logging-server]]
port = 7777
"""
_LOG_SERVER: Final = (
    "[Service]\nExecStart=/usr/local/bin/relay receive --ssh-listen 127.0.0.1:2222 --host-key /etc/log-server/host_key "
    "--authorized-keys /etc/log-server/authorized_keys --state /var/lib/log-server --archive /var/log/relay\n"
)
AUDITD_UNIT: Final = "[Service]\nExecStart=/usr/bin/sleep infinity\n"


def documented() -> list[str]:
    """The blocks of commands under "On the router side", each as one text."""
    section = (DEPLOY / "README.md").read_text().partition("\n## On the router side\n")[2]
    return re.findall(r"^```sh\n(.*?)^```$", section.partition("\n## ")[0], re.MULTILINE | re.DOTALL)


def documented_lines(*beginnings: str) -> list[str]:
    """The documented commands with this beginning."""
    return [line for block in documented() for line in block.splitlines() if line.startswith(beginnings)]


def documented_paths() -> str:
    """The line that lets an event collector write to the folder of its index file."""
    (line,) = re.findall(r"`(ReadWritePaths=\S+)`", (DEPLOY / "README.md").read_text())
    return str(line)


def enabling(unit: str) -> tuple[str, ...]:
    """The command under it that enables a unit."""
    page = (DEPLOY / "README.md").read_text()
    (line,) = re.findall(rf"systemctl enable --now [^`\n]*?{re.escape(unit)}[^`\n]*", page)
    return ("sh", "-ec", line)


class Router(SystemdMachine):
    """The machine, with relay's user and units, and a log server beside it."""

    def install(self) -> None:
        """Run the page's commands up to those that enable units."""
        self.add("relay-halt.service.d/stub.conf", HALT_STUB)
        self.add("would-halt.service", WOULD_HALT)
        shutil.copytree(DEPLOY, self.root / "srv/deploy")
        for line in documented_lines("useradd", "cp deploy/", "systemctl daemon-reload"):
            self.run("sh", "-ec", f"cd /srv; {line}")
        self.run("sh", "-c", "cat >/usr/local/bin/wall; chmod 755 /usr/local/bin/wall", stdin=_WALL)

    def enable(self, unit: str) -> None:
        """Run the page's command that enables a unit."""
        self.run(*enabling(unit))

    def set_up(self) -> None:
        """Give relay a log, configuration and keys; start the log server, and a stub as auditd.service."""
        self.run("install", "-d", "-o", "relay", "/etc/relay", "/var/lib/128t-monitoring")
        self.add("relay.service.d/collector.conf", f"[Service]\n{documented_paths()}\n")
        self.run("install", "-d", "-m", "750", "-g", "relay", "/var/log/audit")
        self.run("install", "-m", "640", "-g", "relay", "/dev/null", "/var/log/audit/audit.log")
        self.write_configuration(_CONFIGURATION)
        self._make_keys()
        self.add("log-server.service", _LOG_SERVER)
        self.add("auditd.service", AUDITD_UNIT)
        self.run("systemctl", "start", "log-server.service", "auditd.service")

    def start_relay(self) -> None:
        """Do all of the above: relay then works as on a router."""
        self.set_up()
        self.enable(RELAY)
        assert self.property_of(RELAY, "ActiveState") == "active", "what is started is ready"

    def configuration(self) -> str:
        """The text of relay.toml."""
        return (self.root / "etc/relay/relay.toml").read_text()

    def write_configuration(self, text: str) -> None:
        """Write relay.toml."""
        (self.root / "etc/relay/relay.toml").write_text(text)

    def _make_keys(self) -> None:
        (self.root / "etc/log-server").mkdir()
        public = generate_key(self.root / "etc/log-server/host_key").with_suffix(".pub").read_text()
        (self.root / "etc/relay/known_hosts").write_text(f"[127.0.0.1]:2222 {public}")
        line = self.run("relay", "key", "generate", user="relay")
        (self.root / "etc/log-server/authorized_keys").write_text(line)

    def write_records(self, records: bytes) -> None:
        """Append to the log as auditd does."""
        with (self.root / "var/log/audit/audit.log").open("ab") as log:
            log.write(records)

    def archived(self) -> list[bytes]:
        """All messages that the log server has."""
        return archived(self.root / "var/log/relay")

    def wait_for_audit_events(self, count: int) -> list[bytes]:
        """The messages of the log server, once there are this many."""
        wait_until(
            lambda: len(audit_events(self.archived())) >= count, 60, lambda: f"{count} events:\n{self.journal()}"
        )
        return audit_events(self.archived())

    def request(self, path: str) -> None:
        """Send a request to root with relay's own code, as relay's user."""
        program = (
            "from relay.system.disk import Disk; from relay.program.watch.root_request import leave_root_request; "
            f"leave_root_request(Disk(), {path!r})"
        )
        self.run("python-of-relay", "-c", program, user="relay")

    def said_to_all(self) -> list[str]:
        """Every message that went to all users."""
        return self.ask("cat", "/run/relay/wall").stdout.splitlines()


@pytest.fixture
def router() -> Iterator[Router]:
    with Router() as machine:
        machine.install()
        yield machine
