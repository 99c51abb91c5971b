"""relay on a full disk: every event is delivered or counted, with each policy and each kind of end.

Run by ./scripts/full-disk. The state directory is on a tmpfs of 20 MB, audit.log has far more than fits, and the
collector does not run. When the disk is full while relay accepts events, relay is not disturbed, or stopped with
SIGTERM, or killed, and then started again on the full disk. Then the collector starts, and nothing else is done: the
gaps must count exactly what was not delivered. The last line is the verdict. The exit code is 0 when every promise was
kept, 1 when one was broken (the folder is kept then), and 130 when interrupted.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from harness.full_router import Account, FullRouter
from harness.openssh import Sshd
from harness.process import Process
from harness.small_disk import SmallDisk
from harness.waiting import wait_until

from scripts.yardstick.table import markdown

POLICIES: Final = ("halt", "ignore", "rotate")
SIZE: Final = "20m"
RECORDS: Final = 325_000
"""Of a bit more than 300,000 events."""
QUICK: Final = 60_000
INTERRUPTED: Final = 130
_PATIENCE: Final = 300
_MOVING: Final = 0.5
"""Seconds between looks at what has arrived."""

Ends: Final[dict[str, Callable[[Process], None] | None]] = {
    "left alone": None,
    "SIGTERM": Process.stop,
    "SIGKILL": Process.kill,
}


def one(folder: Path, sshd: Sshd, policy: str, end: Callable[[Process], None] | None, records: int) -> Account:
    """One disk, from full to space again."""
    folder.mkdir()
    with SmallDisk(folder / "disk", SIZE) as disk:
        full = FullRouter(folder, sshd, disk, policy, records=records)
        with full.start() as relay:
            wait_until(lambda: full.is_full(relay), _PATIENCE, lambda: relay.log)
            if end is None:
                return _recovered(full, relay, policy)
            end(relay)
        with full.start() as relay:
            return _recovered(full, relay, policy)


def _recovered(full: FullRouter, relay: Process, policy: str) -> Account:
    """The fate of the events, once relay has done everything that it does by itself."""
    if policy == "rotate":  # else the source waits until there is space
        wait_until(lambda: full.lag() == 0, _PATIENCE, lambda: relay.log)
    with full.receiver.running():
        wait_until(lambda: full.lag() == 0 and _is_quiet(full), _PATIENCE, lambda: relay.log)
        if not relay.running:
            raise AssertionError(relay.log)
        relay.stop()
        full.drain(_PATIENCE)  # reports a gap that ended just now
        if full.stub.exists():
            raise AssertionError("a halt was asked for within minutes of its start")
        return full.account()


def _is_quiet(full: FullRouter) -> bool:
    """Return whether nothing waits any more, and nothing arrived for a moment."""
    before = full.waiting()
    time.sleep(_MOVING)
    return before == full.waiting() == 0


def rows(
    folder: Path, records: int, policies: Sequence[str], ends: Sequence[str]
) -> tuple[list[tuple[str, ...]], bool]:
    """Return the table, and whether every promise was kept."""
    table, kept = [], True
    with Sshd() as sshd:
        for policy in policies:
            for name in ends:
                begun = time.monotonic()
                account = one(folder / f"{policy} {name}".replace(" ", "-"), sshd, policy, Ends[name], records)
                right = account.exact and (policy == "rotate" or not account.missing)
                kept = kept and right
                cells = (account.written, account.arrived, account.missing, account.counted, account.duplicated)
                table.append((policy, name, *(f"{cell:,}" for cell in cells), "yes" if right else "NO"))
                print(f"{policy}, {name}: {account} ({time.monotonic() - begun:.0f} s)", flush=True)
    return table, kept


def _chosen(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/full-disk", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} records, killed only: under 2 minutes")
    parser.add_argument("--policy", choices=POLICIES, help="this one alone")
    parser.add_argument("--end", choices=list(Ends), help="this one alone")
    parser.add_argument("--records", type=int, metavar="N", help=f"in audit.log ({RECORDS:,})")
    return parser.parse_args(words)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def main(words: Sequence[str]) -> int:
    """Fill disks in a folder of its own, and give the verdict."""
    chosen = _chosen(words)
    signal.signal(signal.SIGTERM, _interrupted)
    chosen.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(dir=chosen.folder.resolve()))
    ends = [chosen.end] if chosen.end else ["SIGKILL"] if chosen.quick else list(Ends)
    policies = [chosen.policy] if chosen.policy else POLICIES
    try:
        table, kept = rows(folder, chosen.records or (QUICK if chosen.quick else RECORDS), policies, ends)
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        print("full-disk: interrupted")
        return INTERRUPTED
    except AssertionError as error:
        print(f"full-disk: BROKEN: {error}; see {folder}")
        return 1
    print()
    print(markdown(("policy", "while full", "written", "arrived", "missing", "counted", "duplicated", "kept"), table))
    if not kept:
        print(f"full-disk: BROKEN; see {folder}")
        return 1
    shutil.rmtree(folder)
    print("full-disk: every event was delivered or counted")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
