"""scripts/faults: short forms of the real thing, its verdict, and that it leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness.process import Process, descendants
from harness.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
SCRIPT = CHECKOUT / "scripts" / "faults"
PYTHON = sys.executable
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT}/tests"}
KEPT = "faults: every promise was kept"


def faults(*arguments: str) -> list[str]:
    """The lines that a run prints; it must keep every promise."""
    done = subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_both_programs_killed_at_random_lose_nothing() -> None:
    lines = faults("--rounds", "2", "--seed", "3")
    assert lines[0] == "seed 3"
    (summary,) = (line for line in lines if line.startswith("rounds: "))
    assert "2 rounds of seed 3" in summary
    assert " 0 lost, 0 duplicated" in summary
    assert lines[-1] == KEPT


def test_both_programs_killed_at_a_named_moment_lose_nothing() -> None:
    lines = faults("--points", "cursor-moved", "--quick")
    assert "  forwarder at cursor-moved:1" in lines
    assert "  receiver at cursor-moved:1" in lines
    assert lines[-1] == KEPT


def test_the_parts_in_memory_say_what_they_did() -> None:
    lines = faults("--seeds", "20", "--machine", "5", "--every-bit", "--quick")
    assert [line.partition(":")[0] for line in lines if ": " in line] == ["seeds", "every-bit", "machine", "faults"]
    assert lines[-1] == KEPT


def test_a_broken_promise_is_reported_and_fails(tmp_path: Path) -> None:
    """The test of the test: on a disk that only says that it synced."""
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import sys\n"
        "from relay.system.disk import Disk\n"
        "from harness.fake_disk import FakeDisk\n"
        "FakeDisk.syncs = lambda *_: False\n"
        "from scripts.faults import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    argv = [PYTHON, str(broken), str(tmp_path / "work"), "--seeds", "20", "--seed", "1"]
    done = subprocess.run(argv, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "seeds: BROKEN: seed 1: " in done.stdout
    assert done.stdout.splitlines()[-1].startswith("faults: BROKEN: seeds; see ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_every_process_and_removes_its_folder(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "work"
    argv = [PYTHON, str(CHECKOUT / "scripts" / "faults.py"), str(folder), "--rounds", "1000", "--seed", "1"]
    with Process(argv, tmp_path / "log", ENVIRONMENT) as script:
        script.wait_for_log("  round 1: ", 60)
        family = descendants(script.pid)
        assert len(family) >= 2
        os.kill(script.pid, number)
        wait_until(lambda: not script.running, 60, lambda: script.log)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), 60, f"the end of {family}")
        assert script.log.splitlines()[-1] == "faults: interrupted"
    assert list(folder.iterdir()) == []


INTERRUPTED_START = """\
import os, signal, subprocess, sys

class Popen(subprocess.Popen):
    def __init__(self, argv, *arguments, **options):
        super().__init__(argv, *arguments, **options)
        if "receive" in argv:
            print("receiver", self.pid, flush=True)
            os.kill(os.getpid(), signal.SIGINT)

subprocess.Popen = Popen
from scripts.faults import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_program_that_is_just_starting_is_ended_too(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    argv = [PYTHON, "-c", INTERRUPTED_START, str(folder), "--rounds", "1", "--seed", "1"]
    done = subprocess.run(argv, capture_output=True, text=True, env=ENVIRONMENT, timeout=100, check=False)
    assert done.returncode == 130, done.stdout + done.stderr
    (pid,) = (line.split()[1] for line in done.stdout.splitlines() if line.startswith("receiver "))
    assert not Path(f"/proc/{pid}").exists()
    assert list(folder.iterdir()) == []
