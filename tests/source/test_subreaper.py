"""The process between relay and a child: it ends as the program did, and leaves nobody behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.waiting import wait_until

from relay.source.collector import subreaper

PATIENT = """
import sys
sys.path.append(sys.argv.pop(1))
import subreaper
subreaper._GRACE_SECONDS = 20
subreaper.main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
"""
"""The subreaper, for programs that leave somebody who takes his time, as on a machine that stalls."""


@contextmanager
def start(script: str, seconds: float = 20, *, patient: bool = False) -> Iterator[subprocess.Popen[str]]:
    program = ["-c", PATIENT, os.path.dirname(subreaper.__file__)] if patient else [subreaper.__file__]
    command = [sys.executable, "-I", "-S", *program, str(os.getpid()), str(seconds), "/bin/sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def status_of(script: str) -> tuple[int, str]:
    with start(script, patient=True) as process:
        _, said = process.communicate(timeout=30)
    return process.returncode, said


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 0", 0),
        ("exit 3", 3),
        ("kill -9 $$", -signal.SIGKILL),
        ("kill -15 $$", -signal.SIGTERM),
        ("ulimit -c 0; kill -11 $$", -signal.SIGSEGV),
        ("(exit 4) & wait; exit 0", 0),
        ("sh -c 'while kill -0 $1 2>&-; do :; done; exit 5' sh $$ & exit 0", 5),
        ("setsid sh -c 'while kill -0 $1 2>&-; do :; done; kill -9 $$' sh $$ & exit 0", -signal.SIGKILL),
        ("setsid sleep 1000 & exit 6", 6),
    ],
)
def test_its_status_is_the_programs_or_that_of_a_process_it_left(script: str, status: int) -> None:
    assert status_of(script) == (status, "")


def test_a_process_that_is_left_for_a_moment_is_not_reported() -> None:
    assert status_of("sleep 0.05 & exit 0") == (0, "")


def test_a_program_that_cannot_be_run_is_reported() -> None:
    command = [sys.executable, "-I", "-S", subreaper.__file__, str(os.getpid()), "1", "/no/such/program"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (127, "/no/such/program cannot be run: No such file or directory\n")


def test_without_its_parent_nothing_is_run() -> None:
    command = [sys.executable, "-I", "-S", subreaper.__file__, "1", "1", "/bin/echo", "x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (127, "")


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGTERM, 0.1), (signal.SIGHUP, 1000)])
def test_those_that_ignore_sigterm_are_killed_in_whatever_session(
    tmp_path: Path, number: signal.Signals, seconds: float
) -> None:
    told = tmp_path / "pids"
    stubborn = f"trap '' TERM; echo $$ >> {told}; while :; do sleep 1000; done"
    with start(f'setsid sh -c "{stubborn.replace("$", chr(92) + "$")}" & {stubborn}', seconds) as process:
        wait_until(lambda: told.exists() and len(told.read_text().split()) == 2, 60, "both run")
        process.send_signal(number)
        assert process.wait(20) == -signal.SIGKILL
    for pid in map(int, told.read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_full_stderr_does_not_make_it_deaf(tmp_path: Path) -> None:
    """No process reads its report: it tries again and again, and never waits in a write."""
    told = tmp_path / "pid"
    full = "dd if=/dev/zero bs=4096 count=16 >&2 2>/dev/null"
    with start(f"setsid sh -c 'echo $$ > {told}; exec sleep 1000' & {full}; exit 0") as process:
        wait_until(lambda: told.exists() and told.read_text(), 60, "the daemon runs")
        looks = _times_it_waited(process.pid) + 10
        wait_until(lambda: _times_it_waited(process.pid) >= looks, 60, "it has looked ten times")
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == -signal.SIGKILL


def _times_it_waited(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
