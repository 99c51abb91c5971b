"""The usage of processes, from proc(5): CPU seconds, peak memory, octets written to the disk.

CPU is that of a process and all its descendants, including ended ones that were waited for. Peak memory is the largest
of any one of them. Written octets are what the kernel charges for dirtied page cache. On file systems with large folios
that is more than the device writes when small pieces of a big file are overwritten (4 KiB into relay's slots: charged
512 KiB on ext4 and Linux 6.18); appending is charged as it is. A process that has ended has used nothing: ask before
it ends.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from harness.process import descendants

_TICK: Final = os.sysconf("SC_CLK_TCK")
_TIMES: Final = slice(11, 15)  # proc(5): utime, stime, cutime, cstime, counted after the name in brackets


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was used so far."""

    cpu: float = 0.0
    """Seconds."""
    memory: int = 0
    """Octets at the peak."""
    written: int = 0
    """Octets."""

    def __add__(self, other: Self) -> "Usage":
        """Return the usage of both, one after the other."""
        return Usage(
            cpu=self.cpu + other.cpu,
            memory=max(self.memory, other.memory),
            written=self.written + other.written,
        )

    def __sub__(self, before: Self) -> "Usage":
        """Return the usage since then."""
        return Usage(cpu=self.cpu - before.cpu, memory=self.memory, written=self.written - before.written)


def of_tree(pid: int) -> Usage:
    """Return the usage of a process and its descendants."""
    return sum((_of_process(each) for each in (pid, *descendants(pid))), Usage())


def _of_process(pid: int) -> Usage:
    folder = Path(f"/proc/{pid}")
    try:
        times = (folder / "stat").read_text().rpartition(")")[2].split()[_TIMES]
        return Usage(
            cpu=sum(map(int, times)) / _TICK,
            memory=_number(folder / "status", "VmHWM:") * 1024,
            written=_number(folder / "io", "write_bytes:"),
        )
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return Usage()


def _number(file: Path, name: str) -> int:
    lines = (line.split() for line in file.read_text().splitlines())
    return next((int(words[1]) for words in lines if words and words[0] == name), 0)
