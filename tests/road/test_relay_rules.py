"""deploy/relay.rules in the real kernel: the service is not audited, a login session of its user is.

Without the rules, a relay that is audited raises an alarm.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness.kernel_auditd import KernelAuditd, may_audit
from harness.process import Process
from harness.relay import RELAY
from harness.waiting import wait_until

from relay.program.status.control_socket import ask

# Whoever has the machine's audit for himself (`kernel_auditd.LOCK`) is waited for, which may be a minute.
pytestmark = pytest.mark.timeout(300)

SETTINGS = """
[relay]
hostname = "combo1"
state-directory = "{state}"

[audit]
watch-auditd = "always"

[[source]]
name = "audit"
type = "audit-log"
path = "{log}"

[[remote-logging-server]]
address = "127.0.0.1"
port = 9
"""
RULES = Path(__file__).parents[2] / "deploy" / "relay.rules"
USER = 61_234
"""The number of relay's user here; no user of the machine has it."""
EVERY_DELETION = ("-a", "always,exit", "-F", "arch=b64", "-S", "unlink", "-S", "unlinkat", "-k", "all")
SERVICE, SESSION = "/nonexistent/of-the-service", "/nonexistent/of-a-session"
PROGRAM = """
import os, sys
if sys.argv[2] != "unset":
    with open("/proc/self/loginuid", "w") as file:
        file.write(sys.argv[2])
os.setuid(int(sys.argv[1]))
try:
    os.unlink(sys.argv[3])
except FileNotFoundError:
    pass
"""


def rules() -> list[list[str]]:
    """The rules, with a number in place of relay's user, as auditctl's arguments."""
    lines = [line for line in RULES.read_text().splitlines() if line and not line.startswith("#")]
    return [re.sub(r"\buid=relay\b", f"uid={USER}", line).split() for line in lines]


def unlink(path: str, login: str) -> None:
    """Delete a file that is not there, as relay's user; in a session of the user `login`, or in none."""
    argv = [sys.executable, "-c", PROGRAM, str(USER), login, path]
    subprocess.run(argv, check=True, timeout=60)


def test_the_two_rules_concern_only_the_service() -> None:
    assert [rule[:2] for rule in rules()] == [["-a", "never,exit"]] * 2
    assert all(f"uid={USER}" in rule and "auid=unset" in rule for rule in rules())


@pytest.fixture
def machine_audits() -> bool:
    return may_audit()


def test_the_service_is_not_audited_and_its_users_sessions_are(machine_audits: bool) -> None:
    if not machine_audits:
        return  # no right to load rules here: the rules' text is tested above
    with KernelAuditd() as auditd:
        try:
            for rule in rules():
                auditd.control(*rule)
            auditd.control(*EVERY_DELETION)
            unlink(SERVICE, "unset")
            unlink(SESSION, str(USER))
            wait_until(lambda: SESSION in auditd.log_file.read_text(), 60, "the session's record")
            assert SERVICE not in auditd.log_file.read_text()
            auditd.control("-D")
            auditd.control(*EVERY_DELETION)
            unlink(SERVICE, "unset")
            wait_until(lambda: SERVICE in auditd.log_file.read_text(), 60, "the service's record without the rules")
        finally:
            auditd.control("-D")


def test_a_relay_that_is_audited_raises_an_alarm_within_seconds(machine_audits: bool, tmp_path: Path) -> None:
    """Each event that it stores causes new ones, until the rule is deleted."""
    if not machine_audits:
        return  # what it would tell is tested with records that are made up (tests/program/watch)
    with KernelAuditd() as auditd:
        settings = tmp_path / "relay.toml"
        settings.write_text(SETTINGS.format(state=tmp_path / "state", log=auditd.log_file))
        # A /run of its own: no user of this machine gets a message.
        argv = ["unshare", "--mount", "sh", "-ec", 'mount -t tmpfs none /run; exec "$@"', "sh", *relay(settings, "run")]
        with Process(argv, tmp_path / "relay.log") as process:
            try:
                wait_until(lambda: alarms(tmp_path / "state") is not None, 60, lambda: process.log)
                auditd.control("-a", "always,exit", "-F", "arch=b64", "-S", "all", "-F", f"pid={process.pid}")
                wait_until(lambda: "audit-loop" in (alarms(tmp_path / "state") or ()), 60, lambda: process.log)
            finally:
                auditd.control("-D")
        assert "load deploy/relay.rules" in process.log


def relay(settings: Path, *arguments: str) -> list[str]:
    return [*RELAY, "-c", str(settings), *arguments]


def alarms(state: Path) -> set[str] | None:
    """The alarms of the running relay; None while none runs."""
    live = ask(str(state))
    return {each.name for each in live.alarms} if live is not None else None
