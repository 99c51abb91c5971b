"""One trial: a forwarder at work, a fault, and the judge's verdict on what the far end kept.

Live: records are written at a steady rate when the fault strikes. Backlog: all records exist before the forwarder
starts, and the fault strikes when a share of them has arrived; the seed determines the share. Afterwards the forwarder
may continue until nothing more arrives. Then it is stopped as its service would be, and only the far end's files count.
"""

import contextlib
import functools
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from harness.openssh import Sshd
from harness.records import generate
from harness.waiting import wait_until

from relay.errors import RelayError
from relay.program.status.status import status
from relay.system.disk import Disk
from scripts.yardstick.far_end import RelayReceive
from scripts.yardstick.faults import Fault
from scripts.yardstick.forwarders import is_relay
from scripts.yardstick.judge import Ledger, Verdict, judge
from scripts.yardstick.rig import FarEnd, Rig
from scripts.yardstick.writing import Writing

RATE: Final = 10_000
"""Records a second, live."""
_EARLIEST, _LATEST = 0.15, 0.6  # of all records, when it strikes
_LOOK: Final = 0.02  # seconds between two looks
QUIET: Final = 3.0
"""Seconds without a record, after all written records arrived; relay completes an event after 2 s of silence."""
_GIVEN_UP: Final = 20.0  # seconds without a record, when fewer arrived
_LAST_WORDS: Final = 1.5  # seconds without a record, after the forwarder was stopped
_PATIENCE: Final = 600.0

Mode = Literal["live", "backlog"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried."""

    forwarder: str
    far_end: FarEnd
    fault: Fault
    mode: Mode
    records: int
    seed: int = 0

    def share(self) -> float:
        """Return the share of the records that exist when it strikes."""
        return random.Random(self.seed).uniform(_EARLIEST, _LATEST)  # noqa: S311  a moment, no secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a trial."""

    verdict: Verdict
    at: int
    """Records that had arrived when it struck."""
    seconds: float
    """From the forwarder's start to the last record."""


def run(trial: Trial) -> Outcome:
    """Try it: 20 to 120 s."""
    with (
        Sshd() as sshd,
        Rig(trial.forwarder, sshd, trial.far_end, keep=True, octets_a_second=trial.fault.octets_a_second) as rig,
    ):
        return _Run(trial, rig).run()


@functools.lru_cache(maxsize=2)
def _lines(count: int) -> tuple[bytes, Ledger]:
    data = generate(count)
    written = Ledger()
    written.take(data)
    return data, written


class _Run:
    """One trial, under way."""

    def __init__(self, trial: Trial, rig: Rig) -> None:
        self._trial = trial
        self._rig = rig
        self._begun = time.monotonic()

    def run(self) -> Outcome:
        data, written = _lines(self._trial.records)
        due = round(self._trial.share() * written.records)
        with contextlib.ExitStack() as stack:
            if self._trial.mode == "live":
                self._rig.audit_log.touch()
                self._rig.forwarder.start()
                writing = stack.enter_context(Writing(self._rig.audit_log, data.splitlines(), rate=RATE))
                self._pass_until(lambda: writing.written.records >= due)
                at = self._strike()
                self._pass_until(lambda: writing.ended)
            else:
                self._rig.audit_log.write_bytes(data)
                self._rig.forwarder.start()
                self._pass_until(lambda: self._rig.far_end.records >= due)
                at = self._strike()
            seconds = self._settle(written.records)
        finish(self._rig)
        verdict = judge(written, Ledger().take_files(self._rig.far_end.kept()))
        if verdict.lost and is_relay(self._rig.name):  # relay's logs name the cause; the folder is deleted
            print(self._rig.forwarder.log, self._rig.far_end.log, sep="\n", file=sys.stderr, flush=True)
        return Outcome(verdict=verdict, at=at, seconds=seconds)

    def _strike(self) -> int:
        at = self._rig.far_end.records
        heal = self._trial.fault.strike(self._rig)
        ends = time.monotonic() + self._trial.fault.seconds
        restart = self._rig.tunnel is not None and self._rig.tunnel.running
        self._pass_until(lambda: time.monotonic() >= ends, restart_tunnel=restart)
        heal()
        return at

    def _pass_until(self, condition: Callable[[], bool], *, restart_tunnel: bool = True) -> None:
        """Wait, and start `ssh -L` again when it has ended, as a supervisor does."""
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"{self._trial} took too long; the forwarder says:\n{self._rig.forwarder.log}")
            if restart_tunnel:
                supervise(self._rig)
            time.sleep(_LOOK)

    def _settle(self, written: int) -> float:
        """Wait until nothing more arrives; return when the last record did, in seconds since the beginning."""
        arrivals = Arrivals(self._rig)

        def settled() -> bool:
            quiet = arrivals.quiet_for()
            return quiet >= (QUIET if arrivals.count >= written else _GIVEN_UP) and nothing_waits(self._rig)

        self._pass_until(settled)
        return arrivals.last - self._begun


class Arrivals:
    """Return when the last record arrived."""

    def __init__(self, rig: Rig) -> None:
        self.count = 0
        self.last = time.monotonic()
        self._rig = rig

    def quiet_for(self) -> float:
        """Look, and return for how many seconds nothing has arrived."""
        now, found = time.monotonic(), self._rig.far_end.records
        if found != self.count:
            self.count, self.last = found, now
        return now - self.last


def supervise(rig: Rig) -> None:
    """Start the tunnel again when it has ended, as a service manager would."""
    if rig.tunnel is not None and not rig.tunnel.running:
        with contextlib.suppress(AssertionError):  # the server refuses; the next look tries again
            rig.tunnel.start()


def nothing_waits(rig: Rig) -> bool:
    """Return whether the forwarder would only wait: relay reports it, and gets its time; others cannot report it."""
    if not is_relay(rig.name):
        return True
    try:
        found = status(Disk(), str(rig.folder / "state"))
    except RelayError:
        return False
    read = found.live is not None and all(source.lag == 0 for source in found.live.sources)
    return read and all(each.waiting_events == 0 for each in found.destinations)


def finish(rig: Rig) -> None:
    """Stop forwarder and far end as their services would; the content of a receiver's spool is archived."""
    rig.forwarder.stop()
    arrivals, far_end = Arrivals(rig), rig.far_end
    wait_until(lambda: arrivals.quiet_for() >= _LAST_WORDS, _PATIENCE, "the far end has written what it read")
    far_end.stop()
    if isinstance(far_end, RelayReceive):
        subprocess.run([*far_end.argv, "--drain"], check=True, timeout=_PATIENCE)  # noqa: S603  relay itself
