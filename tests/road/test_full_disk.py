"""A real disk of 12 MB, too many events, a collector that is down, a kill while full: every policy keeps its promise.

`scripts/full-disk` does the same with 300,000 events, and with other ends than a kill.
"""

import subprocess
from pathlib import Path

import pytest
from harness.full_router import FullRouter
from harness.openssh import Sshd
from harness.relay import RELAY
from harness.small_disk import SmallDisk
from harness.waiting import wait_until

RECORDS = 25_000
SCRIPT = Path(__file__).parents[2] / "scripts" / "full-disk"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("policy", ["halt", "ignore", "rotate"])
def test_every_policy_keeps_its_promise_when_relay_is_killed_on_a_full_disk(tmp_path: Path, policy: str) -> None:
    with SmallDisk(tmp_path / "disk", "12m") as disk, Sshd() as sshd:
        full = FullRouter(tmp_path, sshd, disk, policy, records=RECORDS)
        with full.start() as relay:
            wait_until(lambda: full.is_full(relay), 60, lambda: relay.log)
            if policy == "rotate":
                wait_until(lambda: full.lag() == 0, 60, lambda: relay.log)
            relay.kill()
        with full.receiver.running():
            full.drain(100)
            full.drain(60)  # the last losses are reported by now
            account = full.account()
        assert account.exact, account
        assert (account.missing == 0) == (policy != "rotate"), account
        assert not full.stub.exists(), "never within a minute of its start"


@pytest.mark.timeout(300)
def test_the_script_accounts_for_every_event() -> None:
    argv = [str(SCRIPT), "--policy", "rotate", "--end", "SIGTERM", "--records", "40000"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, row, verdict = done.stdout.splitlines()
    cells = [cell.strip().replace(",", "") for cell in row.strip("|").split("|")]
    assert cells[:2] == ["rotate", "SIGTERM"]
    written, arrived, missing, counted, doubled = map(int, cells[2:7])
    assert written == arrived + missing > 37_000
    assert missing == counted > 0
    assert doubled == 0
    assert verdict == "full-disk: every event was delivered or counted"


def test_a_first_start_on_a_completely_full_disk_exits_with_74_and_names_the_file(tmp_path: Path) -> None:
    """There is no space even for the process id in the lock file; the error says as much all the same."""
    with SmallDisk(tmp_path / "disk", "64k") as disk:
        disk.run("sh", "-c", f"cat /dev/zero >{disk.folder}/fill 2>/dev/null || true")
        argv = [*RELAY, "receive", "--state", f"{disk.folder}/state", "--archive", str(tmp_path / "archive"), "--drain"]
        done = subprocess.run([*disk.prefix, *argv], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 74, done.stderr
    assert done.stderr.startswith(f"relay: {disk.folder}/state/")
    assert done.stderr.endswith("No space left on device; free space on this file system\n")
