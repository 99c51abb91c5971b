"""deploy/relay.rules in the real kernel: the service is not audited, a login session of its user is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness.kernel_auditd import KernelAuditd, may_audit
from harness.waiting import wait_until

RULES = Path(__file__).parents[2] / "deploy" / "relay.rules"
USER = 61_234
"""No user has this number: it stands for relay's."""
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
    subprocess.run(argv, check=True, timeout=30)


def test_the_rules_are_two_and_only_for_the_service() -> None:
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
            wait_until(lambda: SESSION in auditd.log_file.read_text(), 10, "the session's record")
            assert SERVICE not in auditd.log_file.read_text()
            auditd.control("-D")
            auditd.control(*EVERY_DELETION)
            unlink(SERVICE, "unset")
            wait_until(lambda: SERVICE in auditd.log_file.read_text(), 10, "the service's record without the rules")
        finally:
            auditd.control("-D")
