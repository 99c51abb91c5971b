"""An hour of faults: relay run → sshd → relay receive at a steady rate, with random faults at random moments.

Run by ./scripts/soak. audit.log is rotated as auditd does, and the router's spool is small, so that proven segments are
deleted all the time. The memory of both programs is read each second. In the first half every fault may happen; in the
second neither program is killed, so that its memory is that of one long life. It ends with the judge's verdict on the
archive. The exit code is 1 when a record is lost or duplicated, or when memory grew: in runs of 10 minutes or more,
when either program's memory was larger in the last quarter than in the third by more than 8 MiB.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.openssh import Sshd
from harness.records import generate, serials

from scripts.yardstick.faults import FAULTS, Fault, Heal
from scripts.yardstick.forwarders import RELAY_NAME
from scripts.yardstick.judge import Ledger, Verdict, judge
from scripts.yardstick.machine import machine
from scripts.yardstick.part import Part
from scripts.yardstick.rig import Rig
from scripts.yardstick.trial import QUIET, Arrivals, finish, nothing_waits
from scripts.yardstick.writing import Writing

RATE: Final = 500
"""Records a second."""
KILLS: Final = ("forwarder", "collector", "collector-10")
FAULTS_WANTED: Final = 40
LONGEST_PAUSE: Final = 60.0  # seconds from a fault's end to the next, on average
SHARE_OF_A_FAULT: Final = 5  # none lasts longer than this part of the run
ROTATE_AT: Final = 8 * 1024 * 1024  # auditd's max_log_file on a router
ROTATIONS_WANTED: Final = 4
SPOOL: Final = '[spool]\nmax-size = "64MiB"\nsegment-size = "4MiB"\n'
PORTION: Final = 26_000
JUDGED_FROM: Final = 600.0  # seconds
QUARTER: Final = 4
ROOM: Final = 8 * 1024  # KiB
_A_RECORD: Final = 250  # octets, about
_LOOK: Final = 0.05
_SAMPLING: Final = 1.0
_PATIENCE: Final = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The course of a run."""

    seconds: float
    rate: int
    seed: int

    @property
    def pause(self) -> float:
        """From a fault's end to the next one, on average."""
        return min(LONGEST_PAUSE, max(1.0, self.seconds / FAULTS_WANTED))

    @property
    def rotate_at(self) -> int:
        """How large audit.log becomes."""
        return min(ROTATE_AT, int(self.seconds * self.rate * _A_RECORD / ROTATIONS_WANTED))

    def faults(self, elapsed: float) -> list[Fault]:
        """Return the faults that may happen now."""
        return [
            fault
            for fault in FAULTS.values()
            if fault.seconds <= self.seconds / SHARE_OF_A_FAULT
            and not fault.octets_a_second
            and (fault.name not in KILLS or elapsed < self.seconds / 2)
        ]


@dataclass(slots=True)
class Memory:
    """A program's resident memory over time."""

    part: Part
    samples: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since the beginning, KiB)."""

    def look(self, elapsed: float) -> None:
        """Take a sample if it lives."""
        if self.part.running and (resident := _resident(self.part.pid)):
            self.samples.append((elapsed, resident))

    def most(self, begin: float, end: float) -> int:
        """Return the maximum between two moments, in KiB."""
        return max((resident for at, resident in self.samples if begin <= at <= end), default=0)

    def grew(self, seconds: float) -> bool:
        """Return whether it was larger in the last quarter than in the third."""
        third = self.most(seconds / 2, seconds - seconds / QUARTER)
        return self.most(seconds - seconds / QUARTER, seconds) > third + ROOM

    def __str__(self) -> str:
        if not self.samples:
            return "never seen"
        figures = (self.samples[0][1], self.most(0, self.samples[-1][0]), self.samples[-1][1])
        return "{:.1f} MiB at the start, {:.1f} at most, {:.1f} at the end".format(*(each / 1024 for each in figures))


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def records() -> Iterator[bytes]:
    """Yield lines without end; serials and times rise."""
    first = 100_000
    while True:
        data = generate(PORTION, first_serial=first)
        first = max(serials(data)) + 1
        yield from data.splitlines()


class Soak:
    """One run, under way."""

    def __init__(self, plan: Plan, rig: Rig) -> None:
        self._plan = plan
        self._rig = rig
        self._chance = random.Random(plan.seed)  # noqa: S311  misfortune, no secret
        self._begun = time.monotonic()
        self._looked = 0.0
        self.memory = {"relay run": Memory(rig.forwarder), "relay receive": Memory(rig.far_end)}
        self.struck: list[Fault] = []

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._begun

    def run(self) -> tuple[Verdict, Writing]:
        """Run all of it, and return the verdict."""
        configuration = self._rig.folder / "relay.toml"
        configuration.write_text(configuration.read_text() + SPOOL)
        self._rig.audit_log.touch()
        self._rig.forwarder.start()
        writing = Writing(self._rig.audit_log, records(), rate=self._plan.rate, rotate_at=self._plan.rotate_at)
        with writing:
            while self._elapsed < self._plan.seconds:
                self._one_fault()
        self._settle(writing)
        finish(self._rig)
        return judge(writing.written, Ledger().take_files(self._rig.far_end.kept())), writing

    def _one_fault(self) -> None:
        """Pause, then strike, unless the end comes first. A fault strikes only what works again."""
        before = self._rig.far_end.records
        self._pass(self._plan.pause * self._chance.uniform(0.5, 1.5))
        while self._rig.far_end.records == before and self._elapsed < self._plan.seconds:
            self._pass(_LOOK)
        if self._elapsed < self._plan.seconds:
            fault = self._chance.choice(self._plan.faults(self._elapsed))
            print(f"{self._elapsed:.1f} s: {fault.what}", file=sys.stderr, flush=True)
            heal: Heal = fault.strike(self._rig)
            self.struck.append(fault)
            self._pass(fault.seconds, to_the_end=True)
            heal()

    def _pass(self, seconds: float, *, to_the_end: bool = False) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and (to_the_end or self._elapsed < self._plan.seconds):
            self._look()
            time.sleep(_LOOK)

    def _look(self) -> None:
        if self._elapsed - self._looked >= _SAMPLING:
            self._looked = self._elapsed
            for each in self.memory.values():
                each.look(self._elapsed)

    def _settle(self, writing: Writing) -> None:
        """Wait for the last records; the longest retry takes 60 s."""
        arrivals, ends = Arrivals(self._rig), time.monotonic() + _PATIENCE
        while time.monotonic() < ends:
            self._pass(_SAMPLING, to_the_end=True)
            all_there = arrivals.quiet_for() >= QUIET and arrivals.count >= writing.written.records
            if all_there and nothing_waits(self._rig):
                return


def soak(plan: Plan) -> tuple[str, bool]:
    """Run it; return the report, and whether every promise was kept."""
    with Sshd() as sshd, Rig(RELAY_NAME, sshd, "relay") as rig:
        under_way = Soak(plan, rig)
        verdict, writing = under_way.run()
    judged = plan.seconds >= JUDGED_FROM
    growing = [name for name, memory in under_way.memory.items() if judged and memory.grew(plan.seconds)]
    faults, rotations = len(under_way.struck), writing.rotations
    lines = [
        f"{plan.seconds / 60:g} minutes, {plan.rate} records/s, {faults} faults, {rotations} rotations. {machine()}.",
        *(f"{name}: {memory}{', and growing' * (name in growing)}" for name, memory in under_way.memory.items()),
        str(verdict),
    ]
    return "\n".join(lines), not (verdict.lost or verdict.duplicated or verdict.unknown or growing)


def main(words: Sequence[str]) -> int:
    """Soak; return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--rate", type=int, default=RATE, help=f"records a second (default {RATE})")
    parser.add_argument("--seed", type=int, default=0, help="which faults, and when")
    chosen = parser.parse_args(words)
    told, well = soak(Plan(seconds=chosen.minutes * 60, rate=chosen.rate, seed=chosen.seed))
    print(told)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
