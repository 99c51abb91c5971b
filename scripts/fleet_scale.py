"""How long `relay fleet` takes on an archive of many originators, and how much memory.

Half of them are relays with a heartbeat a minute, the others are not. Each has two days; the newest ledger has a few
hours of commits, so its end is read and not all of it. The archive is made in a temporary folder.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.made_archive import MadeDay

from relay.events import own_events
from relay.events.own_events import Author, HeartbeatReport
from relay.values.event import EventType

SECOND = 1_000_000
BEGIN = 1_796_000_000 * SECOND
MINUTES = 120
AUTHOR = Author("router", "router", "", "128T")


def made_day(name: str, stem: str, *, is_relay: bool, minutes: int) -> MadeDay:
    """A day with a commit a minute."""
    day = MadeDay(name, stem)
    for minute in range(minutes):
        at = BEGIN + minute * 60 * SECOND
        message = b"<38>1 2026-11-30T12:00:00Z host app - - - a message of an ordinary length, as they come"
        if is_relay:
            report = HeartbeatReport({EventType.AUDIT: minute}, bytes(32), {"log1": 0}, "0.1.0")
            event = own_events.heartbeat(AUTHOR, at, report)
            message = b'%b relayRun="%b" relaySeq="%d"%b' % (event.head, b"0f" * 8, minute + 1, event.tail)
        day.extent(at, [message])
    return day


def make(archive: Path, originators: int) -> None:
    """The originators' folders; only the names differ, so the files are linked."""
    (archive / ".relay").mkdir(parents=True)
    models = []
    for is_relay in (False, True):
        for stem, minutes in (("2026-11-29", 10), ("2026-11-30", MINUTES)):
            models.append((is_relay, made_day("model", stem, is_relay=is_relay, minutes=minutes)))
    for number in range(originators):
        folder = archive / f"host{number:05}"
        folder.mkdir()
        for is_relay, day in models:
            if is_relay == bool(number % 2):
                (folder / f"{day.stem}.log").write_bytes(day.log)
                (folder / f"{day.stem}.ledger").write_bytes(b"".join(day.lines))


def main() -> int:
    """Make the archive, and measure."""
    originators = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    folder = Path(tempfile.mkdtemp(prefix="relay-fleet-"))
    try:
        make(folder / "archive", originators)
        for words in (["--check"], ["--json"], []):
            argv = [sys.executable, "-m", "relay", "fleet", *words, str(folder / "archive")]
            begun = time.monotonic()
            done = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ)  # noqa: S603
            took = time.monotonic() - begun
            lines = done.stdout.splitlines()
            memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            what = " ".join(["relay fleet", *words])
            print(f"{what}: {took:.2f} s, at most {memory:.0f} MiB, exit code {done.returncode}, {len(lines)} lines")
            if done.returncode > 1:
                print(done.stdout[:500], done.stderr[:500])
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
