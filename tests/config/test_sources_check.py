"""The findings of `config check` about sources that would send records twice, and about unreadable log files."""

import subprocess
import sys
from pathlib import Path

import pytest
from harness.rights import WITHOUT_ROOTS_RIGHTS

from relay.config.check.check import CheckFindings, check
from relay.config.configuration import read_configuration
from relay.values.configuration.source_settings import AuditLogSource

AUDIT_LOG = '[[source]]\nname = "audit"\n'
REST = """\
[relay]
state-directory = "{folder}/state"
[[remote-logging-server]]
address = "192.0.2.1"
transport = "tcp"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "audit.log").touch()
    return tmp_path


def configuration(folder: Path, sources: str) -> str:
    file = folder / "relay.toml"
    file.write_text((sources + REST).replace("{folder}", str(folder)))
    return str(file)


def findings(folder: Path, sources: str) -> CheckFindings:
    return check(read_configuration([configuration(folder, sources)]))


def sentences(found: object) -> list[str]:
    assert isinstance(found, tuple)
    return [str(each) for each in found if "twice" in str(each)]


@pytest.mark.parametrize("other", ["audit.log", "./audit.log", "link"])
def test_two_sources_on_one_file_are_a_mistake(folder: Path, other: str) -> None:
    (folder / "link").symlink_to("audit.log")
    log = '[[source]]\nname = "one"\npath = "{folder}/audit.log"\n'
    (mistake,) = sentences(findings(folder, log + log.replace("one", "two").replace("audit.log", other)).mistakes)
    assert 'source[2].path: source "one" follows the same file' in mistake


def test_two_sources_on_two_files_are_not_a_mistake(folder: Path) -> None:
    (folder / "other.log").touch()
    log = '[[source]]\nname = "one"\npath = "{folder}/audit.log"\n'
    assert sentences(findings(folder, log + log.replace("one", "two").replace("audit.log", "other.log")).mistakes) == []


@pytest.mark.parametrize("kind", ["audit-dispatcher", "auditd-remote"])
def test_an_audit_log_beside_a_source_that_auditd_feeds_is_a_warning(folder: Path, kind: str) -> None:
    other = f'[[source]]\nname = "other"\ntype = "{kind}"\n'
    (warning,) = sentences(findings(folder, AUDIT_LOG + other).warnings)
    assert 'source[2].type: source "audit" follows this machine\'s audit log' in warning
    elsewhere = AUDIT_LOG + 'path = "{folder}/audit.log"\n'
    assert sentences(findings(folder, elsewhere + other).warnings) == []
    assert AuditLogSource(name="a").path == "/var/log/audit/audit.log"


def test_older_files_that_cannot_be_read_are_a_warning(folder: Path) -> None:
    """Root can read everything, so the check runs in a child without root's rights."""
    for number in (1, 2, 3):
        older = folder / f"audit.log.{number}"
        older.write_text("x")
        older.chmod(0o600 if number == 2 else 0)
    run = "from relay.cli.commands import config_group; config_group()"
    file = configuration(folder, '[[source]]\nname = "audit"\npath = "{folder}/audit.log"\n')
    child = subprocess.run(
        [*WITHOUT_ROOTS_RIGHTS, sys.executable, "-c", run, "check", "-c", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert (
        f"this user is not allowed to read {folder}/audit.log.1 and 1 more; relay would skip their records"
        in child.stderr
    )
