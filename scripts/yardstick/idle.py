"""Idle: what a forwarder uses while nothing happens: it is connected, all is delivered, and the log is silent."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from harness.openssh import Sshd
from harness.waiting import wait_until

from scripts.yardstick.forwarders import FORWARDERS
from scripts.yardstick.rig import Rig
from scripts.yardstick.table import markdown, median
from scripts.yardstick.workload import Workload

HEADER: Final = ("forwarder", "set up as", "ms CPU a minute", "its ssh", "sshd", "peak MB")
_PARTS: Final = ("forwarder", "ssh", "sshd")
_RECORDS: Final = 1000
_SETTLING: Final = 4.0
"""Seconds: longer than the silence that completes an event, and than any forwarder waits before its last sync."""
_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One forwarder's one run."""

    cpu: Mapping[str, float]
    """Of each part, in seconds a minute."""
    memory: int


def measure(name: str, sshd: Sshd, seconds: float) -> Run:
    """Deliver a few records, wait, and take two readings that many seconds apart."""
    workload = Workload.of(_RECORDS)
    with Rig(name, sshd) as rig:
        rig.audit_log.write_bytes(workload.data)
        rig.forwarder.start()
        wait_until(lambda: rig.far_end.records >= workload.records, _PATIENCE, lambda: rig.forwarder.log)
        _be_quiet(_SETTLING)
        before = rig.usage()
        _be_quiet(seconds)
        after = rig.usage()
    return Run(
        cpu={part: (after[part].cpu - before[part].cpu) * 60 / seconds for part in _PARTS},
        memory=after["forwarder"].memory,
    )


def _be_quiet(seconds: float) -> None:
    """Let time pass, because that is what is measured here."""
    threading.Event().wait(seconds)


def report(runs: Mapping[str, Sequence[Run]]) -> str:
    """The table of all runs."""
    return markdown(HEADER, [_row(name, each) for name, each in runs.items()])


def _row(name: str, runs: Sequence[Run]) -> list[str]:
    return [
        name,
        FORWARDERS[name].what,
        *(median([run.cpu[part] for run in runs], _milliseconds) for part in _PARTS),
        median(runs, lambda run: run.memory / 1e6),
    ]


def _milliseconds(seconds: float) -> float:
    return seconds * 1000
