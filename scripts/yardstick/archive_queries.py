"""How long an administrator waits for an answer from a large archive: whole commands, medians, beside `grep -F`.

    scripts/archive-queries                       # 1,000,000 messages, 20 originators, 3 days
    scripts/archive-queries --extent 1            # each message was a commit of its own
    scripts/archive-queries --compressed          # the closed days as .zst

The archive is made in a temporary folder, and read once before, so that it is in the kernel's page cache.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from pyzstd import SeekableZstdFile

from relay.archive.days.compressed_log import FRAME, OPTIONS
from relay.archive.writer.archive_writer import ArchiveWriter
from scripts.yardstick.large_archive import DAYS, RARE, Size, make

RELAY: Final = (sys.executable, "-m", "relay")
MEBIBYTE: Final = 1 << 20


class Measured(NamedTuple):
    """The median of some runs."""

    seconds: float
    cpu: float
    """Seconds of CPU time, which other programs on the machine change less."""
    memory: int
    """The largest resident size, in bytes."""
    lines: int


def measured(argv: list[str], runs: int) -> Measured:
    """Run a command some times; its output is read and counted."""
    seconds: list[float] = []
    cpu: list[float] = []
    memory = lines = 0
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    for _ in range(runs):
        begun = time.monotonic()
        with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment) as child:  # noqa: S603  relay, grep
            stdout = child.stdout
            lines = 0
            while stdout is not None and (data := os.read(stdout.fileno(), MEBIBYTE)):
                lines += data.count(b"\n")
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        seconds.append(time.monotonic() - begun)
        cpu.append(usage.ru_utime + usage.ru_stime)
        memory = max(memory, usage.ru_maxrss * 1024)
        if child.returncode:
            print(f"exit code {child.returncode}: {' '.join(argv[:4])} …", file=sys.stderr)
    return Measured(statistics.median(seconds), statistics.median(cpu), memory, lines)


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=Size().messages)
    parser.add_argument("--originators", type=int, default=Size().originators)
    parser.add_argument("--extent", type=int, default=Size().extent, help="messages of one extent")
    parser.add_argument("--compressed", action="store_true", help="compress the closed days")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--archive", type=Path, help="use this folder, and make the archive there unless it exists")
    given = parser.parse_args()
    size = Size(given.messages, given.originators, given.extent)
    with tempfile.TemporaryDirectory(prefix="relay-queries-") as temporary:
        archive = given.archive or Path(temporary) / "archive"
        if not archive.exists():
            make(archive, size)
            ArchiveWriter(str(archive), "measured").close()  # without a journal an archive is not verifiable
        logs = sorted(map(str, archive.glob("*/*.log")))
        grep = measured(["grep", "-F", "-h", RARE.decode(), *logs], given.runs)
        if given.compressed:
            _compress(archive)
        _report(archive, size, given.runs, grep, times=2 if given.compressed else 1)


def _compress(archive: Path) -> None:
    for log in archive.glob("*/*.log"):
        if not log.name.startswith(DAYS[-1]):
            with (
                log.open("rb") as original,
                SeekableZstdFile(
                    f"{log}.zst", "wb", level_or_option=dict(OPTIONS), max_frame_content_size=FRAME
                ) as copy,
            ):
                shutil.copyfileobj(original, copy)
            log.unlink()


def _report(archive: Path, size: Size, runs: int, grep: Measured, *, times: int) -> None:
    """Measure. `grep`: on the plain logs. `times`: how much longer than on plain logs it may take."""
    logs = sorted(map(str, archive.glob("*/*.log*")))
    octets = sum(map(os.path.getsize, logs))
    for log in logs:
        with open(log, "rb") as file:
            while file.read(MEBIBYTE):
                pass
    events = [*RELAY, "events", "--archive", str(archive)]
    start = measured([*RELAY, "events", "--help"], runs).seconds
    window = ["--originator", "edge07", "--from", f"{DAYS[1]}T11:00:00Z", "--to", f"{DAYS[1]}T11:59:59Z"]
    print(
        f"{size.messages} messages of {size.originators} originators and {len(DAYS)} days, {size.extent} an extent: ",
        end="",
    )
    print(f"{octets / MEBIBYTE:.0f} MiB of logs; medians of {runs}, Python's start included\n")
    print("| query | s | CPU s | limit | MiB | lines |\n|---|---|---|---|---|---|")
    for name, argv, limit in (
        ("newest 20", [*events, "--limit", "20"], 0.3),
        ("an hour of one originator", [*events, *window], 0.5),
        ("a text that occurs ten times", [*events, "--grep", RARE.decode()], 3 * grep.seconds + start),
        ("a regular expression", [*events, "--regex", "acct=mal+ory"], 0.0),
        ("all as JSON", [*events, "--json"], size.messages * 25e-6),
        ("archive verify", [*RELAY, "archive", "verify", str(archive)], 4.0),
    ):
        found = measured(argv, runs)
        cells = (
            name,
            f"{found.seconds:.2f}",
            f"{found.cpu:.2f}",
            f"{limit * times:.2f}" if limit else "-",
            f"{found.memory / MEBIBYTE:.0f}",
            found.lines,
        )
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    of_grep = (f"{grep.seconds:.2f}", f"{grep.cpu:.2f}", "-", f"{grep.memory / MEBIBYTE:.0f}", grep.lines)
    print("| `grep -F` of the text, on plain logs | " + " | ".join(map(str, of_grep)) + " |")
    print(f"| the start alone (`--help`) | {start:.2f} | - | - | - | - |")


if __name__ == "__main__":
    main()
