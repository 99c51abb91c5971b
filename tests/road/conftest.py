"""A router, sshd and a far end behind it, which most tests here need.

The far end is rsyslog; a module with another far end has a fixture `far_end` of its own.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.auditd import Auditd
from harness.openssh import Sshd
from harness.receiver import Receiver
from harness.relay import Router
from harness.rsyslog import Rsyslog

sys.path.insert(0, str(Path(__file__).parents[2]))  # the judge lies in scripts/, which nothing installs


@pytest.fixture
def rsyslog() -> Iterator[Rsyslog]:
    with Rsyslog("imtcp") as collector:
        yield collector


@pytest.fixture
def auditd() -> Iterator[Auditd]:
    with Auditd() as server:
        yield server


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path / "server")


@pytest.fixture
def far_end(rsyslog: Rsyslog) -> Rsyslog | Auditd | Receiver:
    return rsyslog


@pytest.fixture
def sshd(far_end: Rsyslog | Auditd | Receiver) -> Iterator[Sshd]:
    """It forwards to the far end and to nothing else."""
    with Sshd([f"PermitOpen 127.0.0.1:{far_end.port}"]) as server:
        yield server


@pytest.fixture
def router(tmp_path: Path, sshd: Sshd, far_end: Rsyslog | Auditd | Receiver) -> Router:
    return Router(tmp_path, sshd, far_end.port)
