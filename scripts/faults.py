"""relay's promises under faults: no accepted event is lost, none is duplicated, and damage is counted.

Run by ./scripts/faults; single parts run alone when they are named. Random choices come from --seed, which is printed:
the same seed makes the same choices, although the real programs meet them at another moment. Every process started
here is ended here, also on Ctrl-C. The last line is the verdict. The exit code is 0 when every promise was kept, 1 when
one was broken (the folder is kept then), and 130 when interrupted.
"""

import argparse
import contextlib
import logging
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from harness.bad_days import BadDays, BrokenPromiseError
from harness.every_bit import BITS, Specimen, examine
from harness.every_call import WRONGS, every_call
from harness.openssh import Sshd
from harness.process import freeze, signal_all
from harness.spool_machine import SpoolMachine
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from relay.spool.full_disk import Policy
from relay.system.crash_point import POINTS
from scripts.yardstick.judge import Verdict
from scripts.yardstick.killing import NEVER, Road, deaths

POLICIES: Final[tuple[Policy, ...]] = ("halt", "ignore", "rotate")
RATE: Final = 3000
"""Records a second, while programs are killed."""
INTERRUPTED: Final = 130


class Extent(NamedTuple):
    """The amount of each part."""

    rounds: int
    times: int
    """How many times each named moment is used: the first time it comes, the second, …"""
    seeds: int
    machine: int
    stride: int
    """The distance between damaged octets."""
    bits: range | None
    """Of each octet; None: one."""


FULL: Final = Extent(rounds=50, times=3, seeds=5000, machine=10_000, stride=1, bits=range(BITS))
QUICK: Final = Extent(rounds=8, times=1, seeds=500, machine=100, stride=8, bits=None)
Part = Callable[[], str]
"""Does its work and returns a summary; a broken promise is an AssertionError."""


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def _kept(verdict: Verdict) -> str:
    if verdict.lost or verdict.duplicated or verdict.unknown:
        raise BrokenPromiseError(str(verdict))
    return str(verdict)


@contextlib.contextmanager
def _road(folder: Path) -> Iterator[Road]:
    folder.mkdir()
    with Sshd() as sshd, Road(folder, sshd, rate=RATE) as road:
        yield road


def rounds(folder: Path, count: int, seed: int) -> str:
    """Kill the real programs at random."""
    with _road(folder) as road:
        for number in range(1, count + 1):
            chance = random.Random(f"{seed} {number}")  # noqa: S311  misfortune, no secret
            say(f"  round {number}: {road.one_round(chance, time.sleep)}")
        return f"{count} rounds of seed {seed}: {_kept(road.judge())}"


def points(folder: Path, names: Sequence[str], times: int) -> str:
    """Let the real programs die at named moments."""
    died = 0
    with _road(folder) as road:
        for death in deaths(tuple(names), times):
            say(f"  {death}")
            road.die(death)
            died += 1
        return f"{died} deaths at {len(names)} moments: {_kept(road.judge())}"


def seeds(first: int, count: int) -> str:
    """Bad days of the store on a disk in memory: power cuts, kills and failing calls."""
    accepted = 0
    for seed in range(first, first + count):
        days = BadDays(seed=seed)
        try:
            days.live()
            days.settle()
        except BrokenPromiseError as error:
            raise BrokenPromiseError(f"seed {seed}: {error}") from error
        accepted += days.accepted
    return f"seeds {first} to {first + count - 1}: {accepted} events accepted, 0 lost, 0 numbered twice"


def calls() -> str:
    """Let every single call of the disk fail, or be the last, under each policy."""
    results = []
    for policy in POLICIES:
        lived = [every_call(wrong, policy=policy) for wrong in WRONGS]
        gone, accepted = sum(each.calls for each in lived), sum(each.accepted for each in lived)
        results.append(f"{policy}: {gone} failed calls, {accepted} events accepted, each delivered or counted")
    return "; ".join(results)


def every_bit(extent: Extent) -> str:
    """Damage a spool at every place."""
    specimen, done = Specimen.make(), 0
    for damages in (specimen.flips(extent.bits, extent.stride), specimen.cuts(extent.stride)):
        for damage in damages:
            examine(specimen, damage)
            done += 1
    return f"{done} damaged spools: no wrong message, every loss reported"


def machine(examples: int) -> str:
    """Run any sequence of calls on a spool, beside a plain list."""
    chosen = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(SpoolMachine, settings=chosen)
    return f"{examples} examples: the spool is the list of what was appended"


def run(parts: dict[str, Part]) -> list[str]:
    """Run each part; return the names of those that broke a promise."""
    broken = []
    for name, part in parts.items():
        say(f"{name} …")
        begun = time.monotonic()
        try:
            result = part()
        except (AssertionError, ExceptionGroup) as error:
            result = "\n".join((f"BROKEN: {error}", *getattr(error, "__notes__", ())))
            broken.append(name)
        say(f"{name}: {result} ({time.monotonic() - begun:.0f} s)")
    return broken


def _chosen(words: Sequence[str]) -> argparse.Namespace:
    known = [point for point in POINTS if point not in NEVER]
    parser = argparse.ArgumentParser(
        prog="scripts/faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="less of every part: under 2 minutes")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31), help="of --rounds and --seeds")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"random kills of both programs ({FULL.rounds})")
    parser.add_argument(
        "--points", nargs="*", metavar="NAME", choices=known, help=f"deaths at named moments: {', '.join(known)}"
    )
    parser.add_argument("--seeds", type=int, metavar="N", help=f"bad days of a disk in memory ({FULL.seeds})")
    parser.add_argument("--calls", action="store_true", help="each call of the disk goes wrong")
    parser.add_argument("--every-bit", action="store_true", help="every bit and length of three segments")
    parser.add_argument("--machine", type=int, metavar="N", help=f"hypothesis beside a plain list ({FULL.machine})")
    return parser.parse_args(words)


def _parts(chosen: argparse.Namespace, folder: Path) -> dict[str, Part]:
    extent = QUICK if chosen.quick else FULL
    asked = {
        "rounds": chosen.rounds is not None,
        "points": chosen.points is not None,
        "seeds": chosen.seeds is not None,
        "calls": chosen.calls,
        "every-bit": chosen.every_bit,
        "machine": chosen.machine is not None,
    }
    names = chosen.points or [point for point in POINTS if point not in NEVER]
    parts: dict[str, Part] = {
        "rounds": lambda: rounds(folder / "rounds", chosen.rounds or extent.rounds, chosen.seed),
        "points": lambda: points(folder / "points", names, extent.times),
        "seeds": lambda: seeds(chosen.seed, chosen.seeds or extent.seeds),
        "calls": calls,
        "every-bit": lambda: every_bit(extent),
        "machine": lambda: machine(chosen.machine or extent.machine),
    }
    return {name: part for name, part in parts.items() if asked[name] or not any(asked.values())}


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _end_all() -> None:
    """End the processes that were just being started, or ended, when the interrupt came."""
    signal_all(freeze(os.getpid()), signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def main(words: Sequence[str]) -> int:
    """Run the parts in a folder of their own, and give the verdict."""
    chosen = _chosen(words)
    logging.disable()  # thousands of torn tails are expected here
    signal.signal(signal.SIGTERM, _interrupted)
    chosen.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(dir=chosen.folder.resolve()))
    say(f"seed {chosen.seed}")
    try:
        broken = run(_parts(chosen, folder))
    except KeyboardInterrupt:
        _end_all()
        shutil.rmtree(folder)
        say("faults: interrupted")
        return INTERRUPTED
    if broken:
        say(f"faults: BROKEN: {', '.join(broken)}; see {folder}")
        return 1
    shutil.rmtree(folder)
    say("faults: every promise was kept")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
