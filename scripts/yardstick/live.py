"""Live: auditd writes at a steady rate, and each event is timed, from the write of its last record on.

The time ends at its arrival in the sink, or at its line in `relay receive`'s archive (checked every 2 ms); and, for
relay, at its proof: the moment at which its cursor has moved (likewise). If the last record of an event does not show
that the event is complete, relay's rule makes it wait for 2 s of silence; the last column has these events.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.openssh import Sshd
from harness.waiting import wait_until

from scripts.yardstick.far_end import Arrival, RelayReceive, Sink
from scripts.yardstick.forwarders import RELAY_NAME
from scripts.yardstick.proofs import RESOLUTION, Proofs
from scripts.yardstick.rig import PARTS, FarEnd, Rig
from scripts.yardstick.table import NONE, markdown, median
from scripts.yardstick.workload import LiveEvent, Pace, live_events

PERCENTILES: Final = (50, 90, 99, 100)
HEADER: Final = (
    *("forwarder", "far end", "records", "records/s"),
    *("arrived p50 ms", "p90", "p99", "max", "proven p50 ms", "p90", "p99", "max"),
    *("µs CPU a record", "peak MB", "without an end: arrived p50 ms"),
)
ROUTER: Final = "combo1"
"""The originator, as harness.relay's configuration names it."""
_TICK: Final = 0.005
_PATIENCE: Final = 60.0
_WARM: Final = 26
"""Events written ahead, to wait for the connection: the seed's, once."""
_RECORD: Final = re.compile(rb" msg=audit\(\d+\.\d+:(\d+)\)")

Times = Mapping[int, float]
"""Serial → CLOCK_MONOTONIC, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """The events to be written."""

    rate: int
    """Records a second."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One forwarder's one run; latencies in milliseconds, one for each event."""

    records: int
    rate: float
    """As it was really written."""
    arrived: Sequence[float]
    proven: Sequence[float]
    without_end: Sequence[float]
    cpu: float
    """Of the forwarder and its ssh, seconds."""
    memory: int


class ArchiveWatch:
    """Records each message's arrival in an archive, in order, as the sink traces it by itself."""

    def __init__(self, receiver: RelayReceive) -> None:
        self.arrivals: list[Arrival] = []
        self._receiver = receiver
        self._read: dict[Path, int] = {}

    def look(self) -> None:
        """Record what is new."""
        for path in self._receiver.kept():
            if path.parent.name != ROUTER:
                continue  # the receiver's own events
            begun = self._read.get(path, 0)
            if path.stat().st_size > begun:
                self._read[path] = begun + self._take(path, begun)

    def _take(self, path: Path, begun: int) -> int:
        with path.open("rb") as file:
            file.seek(begun)
            data = file.read()
        now = time.monotonic()
        end = data.rfind(b"\n") + 1  # behind it a line is being written
        for line in data[:end].splitlines():
            found = _RECORD.search(line)
            self.arrivals.append(Arrival(int(found[1]) if found else 0, 1, now))
        return end


def measure(name: str, far_end: FarEnd, sshd: Sshd, pattern: Pattern) -> Run:
    """One run of the pattern."""
    events = live_events(int(pattern.rate * pattern.seconds) + _WARM)
    warm, events = events[:_WARM], events[_WARM:]
    records = sum(len(event.lines) for event in events)
    with Rig(name, sshd, far_end, trace=True) as rig, Proofs(rig.folder / "state") as proofs:
        watch = _watch(rig)
        rig.audit_log.touch()
        rig.forwarder.start()
        _write(rig.audit_log, warm, pattern.rate, watch)
        came = sum(len(event.lines) for event in warm)
        _await(rig, came, watch)
        before, began = rig.usage(), time.monotonic()
        written = _write(rig.audit_log, events, pattern.rate, watch)
        seconds = time.monotonic() - began
        _await(rig, came + records, watch)
        used = rig.usage()
        arrivals = _arrivals(rig, watch)
        proven = _proof_times(arrivals, proofs) if name == RELAY_NAME else {}
    arrived = {arrival.serial: arrival.at for arrival in arrivals}
    ended = [event.serial for event in events if event.ends_itself]
    return Run(
        records=records,
        rate=records / seconds,
        arrived=_latencies(ended, written, arrived),
        proven=_latencies(ended, written, proven),
        without_end=_latencies([each.serial for each in events if not each.ends_itself], written, arrived),
        cpu=sum(used[part].cpu - before[part].cpu for part in ("forwarder", "ssh")),
        memory=used[PARTS[0]].memory,
    )


def _watch(rig: Rig) -> ArchiveWatch | None:
    return ArchiveWatch(rig.far_end) if isinstance(rig.far_end, RelayReceive) else None


def _write(log: Path, events: Sequence[LiveEvent], rate: int, watch: ArchiveWatch | None) -> dict[int, float]:
    """Write the events at the rate; return when each was written."""
    written: dict[int, float] = {}
    pace = Pace(rate * len(events) / sum(len(event.lines) for event in events))
    done = threading.Event()
    with log.open("ab", buffering=0) as file:
        while len(written) < len(events):
            due = events[len(written) : pace.due]
            now = time.time()
            data = b"".join(event.written_at(now) for event in due)
            written |= dict.fromkeys((event.serial for event in due), time.monotonic())
            file.write(data)
            if watch is not None:
                watch.look()
            done.wait(_TICK if watch is None else RESOLUTION)
    return written


def _await(rig: Rig, records: int, watch: ArchiveWatch | None) -> None:
    def all_came() -> bool:
        if watch is None:
            return rig.far_end.records >= records
        watch.look()
        return rig.far_end.records >= records

    wait_until(all_came, _PATIENCE, lambda: f"{records} records; there are {rig.far_end.records}\n{rig.forwarder.log}")


def _arrivals(rig: Rig, watch: ArchiveWatch | None) -> list[Arrival]:
    if watch is not None:
        return watch.arrivals
    assert isinstance(rig.far_end, Sink)  # noqa: S101  narrows the type: the only other far end has a watch
    return rig.far_end.arrivals()


def _proof_times(arrivals: Sequence[Arrival], proofs: Proofs) -> Times:
    """Return when each event was proven: the cursor counts messages in the order of their arrival."""
    wait_until(lambda: proofs.count >= len(arrivals), _PATIENCE, lambda: f"{len(arrivals)} proven, not {proofs.count}")
    times: dict[int, float] = {}
    place = 0
    for proof in proofs.seen:
        times |= dict.fromkeys((arrival.serial for arrival in arrivals[place : proof.delivered]), proof.at)
        place = proof.delivered
    return times


def _latencies(serials: Sequence[int], written: Times, reached: Times) -> list[float]:
    return [(reached[serial] - written[serial]) * 1000 for serial in serials if serial in reached]


def report(runs: Mapping[tuple[str, FarEnd], Sequence[Run]]) -> str:
    """The table of all runs."""
    return markdown(HEADER, [_row(name, far_end, each) for (name, far_end), each in runs.items()])


def _row(name: str, far_end: FarEnd, runs: Sequence[Run]) -> list[str]:
    return [
        name,
        "relay receive" if far_end == "relay" else far_end,
        f"{runs[0].records:,}",
        median(runs, lambda run: run.rate),
        *_percentiles(runs, lambda run: run.arrived),
        *_percentiles(runs, lambda run: run.proven),
        median(runs, lambda run: run.cpu * 1e6 / run.records, 1),
        median(runs, lambda run: run.memory / 1e6),
        median(runs, lambda run: _percentile(run.without_end, PERCENTILES[0])) if runs[0].without_end else NONE,
    ]


def _percentiles(runs: Sequence[Run], latencies: Callable[[Run], Sequence[float]]) -> list[str]:
    found = [latencies(run) for run in runs]
    if not all(found):
        return [NONE for _ in PERCENTILES]
    return [median([_percentile(each, percent) for each in found], float, 1) for percent in PERCENTILES]


def _percentile(figures: Sequence[float], percent: int) -> float:
    ordered = sorted(figures)
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]
