"""Catching up: the log is complete before the forwarder starts, and everything must reach the far end.

The clock runs from the forwarder's start to the last record's arrival, so it includes the program's own start and its
connecting. CPU is counted to the same moment; for relay, to its last proof.
"""

import operator
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.openssh import Sshd

from scripts.yardstick import proofs
from scripts.yardstick.far_end import Sink
from scripts.yardstick.forwarders import FORWARDERS, RELAY_NAME
from scripts.yardstick.rig import PARTS, Rig
from scripts.yardstick.table import NONE, markdown, median, median_and_spread
from scripts.yardstick.usage import Usage
from scripts.yardstick.workload import Workload

HEADER: Final = (
    *("forwarder", "set up as", "records", "records/s", "relay = 1"),
    *("µs CPU a record", "its ssh", "sshd", "far end", "in all"),
    *("peak MB", "octets written a record", "left on disk", "proven after s"),
)
_LOOK: Final = 0.01
_MICRO: Final = 1e6
_MEGA: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One forwarder's one run."""

    written: int
    came: int
    whole: bool
    """Whether exactly the written records arrived."""
    seconds: float
    """From the forwarder's start to the last arrival."""
    proven: float | None
    """From its start to the last proof, in seconds."""
    used: Mapping[str, Usage]
    left: int
    """Octets that it still has on the disk at the end."""

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.came / self.seconds

    def cpu(self, part: str) -> float:
        """Microseconds of CPU a record."""
        return self.used[part].cpu * _MICRO / max(self.came, 1)


def measure(name: str, sshd: Sshd, workload: Workload, limit: float) -> Run:
    """One run; cut off after `limit` seconds."""
    with Rig(name, sshd) as rig:
        sink = rig.far_end
        assert isinstance(sink, Sink)  # noqa: S101  narrows the type: no other was asked for
        rig.audit_log.write_bytes(workload.data)
        os.sync()  # else the log is still being written to the disk
        before, began = rig.usage(), time.monotonic()
        rig.forwarder.start()
        _wait(lambda: sink.records >= workload.records, began + limit)
        proven = _proven(rig, sink, began, limit) if name == RELAY_NAME else None
        used, counted = rig.usage(), sink.statistics()
        return Run(
            written=workload.records,
            came=counted.records,
            whole=(counted.records, counted.serials) == (workload.records, workload.serials),
            seconds=(counted.last or time.monotonic()) - began,
            proven=proven,
            used={part: used[part] - before[part] for part in PARTS},
            left=_left(rig),
        )


def _proven(rig: Rig, sink: Sink, began: float, limit: float) -> float | None:
    state = rig.folder / "state"
    arrived = sink.statistics().messages
    if _wait(lambda: proofs.delivered(state) >= arrived, began + limit):
        return time.monotonic() - began
    return None


def _wait(condition: Callable[[], bool], deadline: float) -> bool:
    """Return whether the condition became true before the deadline."""
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(_LOOK)
    return holds


def _left(rig: Rig) -> int:
    """Return the forwarder's octets on the disk, without the log that it reads and the files of the far end and ssh."""
    others = {rig.audit_log.name, "kept", "trace", "statistics", "sink.log", "ssh.log"}
    found = (path for path in rig.folder.rglob("*") if path.is_file() and path.name not in others)
    return sum(_octets(path) for path in found)


def _octets(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def report(runs: Mapping[str, Sequence[Run]]) -> str:
    """The table of all runs."""
    ours = runs.get(RELAY_NAME)
    return markdown(HEADER, [_row(name, each, ours) for name, each in runs.items()])


def _row(name: str, runs: Sequence[Run], ours: Sequence[Run] | None) -> list[str]:
    def forwarder(run: Run) -> Usage:
        return run.used["forwarder"]

    return [
        name,
        FORWARDERS[name].what,
        f"{runs[0].written:,}" if all(run.whole for run in runs) else f"{min(run.came for run in runs):,} came",
        median_and_spread(runs, lambda run: run.rate),
        _ratio(runs, ours),
        *(median(runs, operator.methodcaller("cpu", part), 1) for part in PARTS),
        median(runs, lambda run: sum(run.cpu(part) for part in PARTS), 1),
        median(runs, lambda run: forwarder(run).memory / _MEGA),
        median(runs, lambda run: forwarder(run).written / max(run.came, 1)),
        median(runs, lambda run: run.left / max(run.came, 1)),
        NONE if runs[0].proven is None else median(runs, lambda run: run.proven or 0, 1),
    ]


def _ratio(runs: Sequence[Run], ours: Sequence[Run] | None) -> str:
    """Return the rate as a multiple of relay's in the same round."""
    if not ours:
        return NONE
    return f"{statistics.median(run.rate / our.rate for run, our in zip(runs, ours, strict=True)):.2f}"
