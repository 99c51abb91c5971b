import threading
from collections.abc import Iterator

import pytest
from harness.openssh import Sshd


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()
