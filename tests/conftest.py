"""For every test: programs that could halt this machine, or write to its users, cannot be found."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from relay.program.watch.all_users import LOGIN_MESSAGE

if TYPE_CHECKING:
    from harness.certificates import Authority
    from harness.openssh import Sshd

DANGEROUS = ("shutdown", "poweroff", "halt", "reboot", "telinit", "wall")
LEFT_OPEN = (".segment", "/slots", "/lock", "/journal", ".log")
ALLOWED = "wall"
"""A full spool sends a message to all users; the stub gets it instead."""

# The time of an example depends on other programs. A run judges the change, so it has the examples of the previous run;
# `--hypothesis-profile new` looks for others, and `few` is for the second interpreter.
settings.register_profile("new", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("new"), derandomize=True)
settings.register_profile("few", settings.get_profile("same"), max_examples=10)
settings.load_profile("same")

# Tests start relay several hundred times. Where the environment forbids bytecode files (as container images often do),
# each start would compile all of relay again, which takes as long as the rest of the start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell's background job ignores SIGINT, and so would every program that the tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def one_interpreter() -> None:
    """The scripts that a test starts run under the interpreter of the test (see scripts/bootstrap)."""
    os.environ["PYTHON"] = sys.executable


@pytest.fixture(scope="session", autouse=True)
def no_real_halt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Stubs come first on PATH; at the end of the session none of those that halt may have run."""
    folder = tmp_path_factory.mktemp("stubs")
    calls = folder / "calls"
    for name in DANGEROUS:
        stub = folder / name
        stub.write_text(f'#!/bin/sh\necho {name} "$@" >> {calls}\n')
        stub.chmod(0o755)
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}:{path}"
    yield
    os.environ["PATH"] = path
    ran = _lines(calls)
    assert [line for line in ran if line.split()[0] != ALLOWED] == []


def _lines(calls: Path) -> list[str]:
    return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture(autouse=True)
def no_real_login_message() -> Iterator[None]:
    """As root, relay may write the message that everybody reads at login; no test may do that on this machine."""
    path = Path(LOGIN_MESSAGE)
    before = path.exists()
    yield
    assert before or not path.exists(), "the test's relay watches this machine's own auditd"


@pytest.fixture(autouse=True)
def close_what_a_dead_relay_left_open(tmp_path: Path) -> Iterator[None]:
    """Tests abandon stores as a killed process does; their descriptors are closed here, or select(2) would run out."""
    yield
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}").removesuffix(" (deleted)")
            if target.startswith(f"{tmp_path}/") and target.endswith(LEFT_OPEN):
                os.close(int(name))
        except OSError:
            continue  # the descriptor of this listing itself


@pytest.fixture(scope="module")
def sshd() -> Iterator["Sshd"]:
    """An SSH server that the tests of one module share; they leave it as it is."""
    from harness.openssh import Sshd

    with Sshd() as server:
        yield server


@pytest.fixture
def authority(tmp_path: Path) -> "Authority":
    """A certificate authority of the test's own."""
    from harness.certificates import Authority

    return Authority(tmp_path / "certificates")
