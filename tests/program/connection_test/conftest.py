from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.collector import Collector
from harness.openssh import Sshd
from harness.relay import Router


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as well_behaved:
        yield well_behaved


@pytest.fixture
def router(tmp_path: Path, sshd: Sshd, collector: Collector) -> Router:
    """A router for which every step passes."""
    router = Router(tmp_path, sshd, collector.port)
    router.audit_log.touch()
    return router
