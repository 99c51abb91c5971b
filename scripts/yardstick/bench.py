"""The yardstick's command, run by ./scripts/bench: relay beside its competitors, as Markdown tables on standard output.

All get the same records, the same sshd and the same kind of far end. Rounds alternate, one run of each program after
the other, so that a noisy moment hits all of them. Figures are medians, with the least and the greatest in brackets.
Progress goes to standard error. The exit code is 1 when a run lost or duplicated a record, or did not end in time.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from harness.openssh import Sshd
from harness.process import Workplace

from scripts.yardstick import catch_up, idle, live, receive
from scripts.yardstick.forwarders import FORWARDERS, RELAY_NAME
from scripts.yardstick.machine import machine, peers
from scripts.yardstick.receivers import RECEIVERS
from scripts.yardstick.workload import Workload

if TYPE_CHECKING:
    from scripts.yardstick.rig import FarEnd

RECORDS: Final = 200_000
ROUNDS: Final = 3
QUICK_RECORDS: Final = 20_000
QUICK: Final = (RELAY_NAME, "rsyslog-memory", "rsyslog-careful-fsync", "syslog-ng-parsed")
SLOW_SHARE: Final = 20

Run = TypeVar("Run")
Name = TypeVar("Name", bound="str | tuple[str, FarEnd]")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Spools and queues are in the temporary folder ($TMPDIR), which should be on a real disk.",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--catch-up", action="store_true", help="a log that is complete beforehand (the default)")
    mode.add_argument("--live", type=int, metavar="RATE", help="so many records a second; latency to arrival and proof")
    mode.add_argument("--receive", action="store_true", help="many senders into each receiver")
    mode.add_argument("--idle", action="store_true", help="CPU while nothing happens")
    parser.add_argument("-n", dest="records", type=int, help=f"records a run; {RECORDS} unless told")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS} unless told")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these alone; relay may be left out")
    parser.add_argument("--seconds", type=float, help="how long a live or idle run lasts; 20 unless told")
    parser.add_argument("--senders", type=int, default=16, help="of --receive; 16 unless told")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds after which a run is cut off; 300")
    parser.add_argument("--quick", action="store_true", help="one round of little: under two minutes")
    return _completed(parser, parser.parse_args(argv))


def _completed(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> argparse.Namespace:
    to_the_sink = {
        name: kind for name, kind in FORWARDERS.items() if not (kind.tls or kind.own_ssh_end)
    }  # the sink has neither
    known = RECEIVERS if chosen.receive else to_the_sink
    chosen.records = chosen.records or (QUICK_RECORDS if chosen.quick else RECORDS)
    chosen.rounds = chosen.rounds or (1 if chosen.quick else ROUNDS)
    chosen.seconds = chosen.seconds or (5.0 if chosen.quick else 20.0)
    quick = [name for name in QUICK if name in known] if chosen.quick and not chosen.receive else list(known)
    chosen.names = chosen.only or quick
    unknown = [name for name in chosen.names if name not in known]
    if unknown:
        parser.error(f"{unknown[0]} is not known; there are: {', '.join(known)}")
    return chosen


def _rounds(names: Sequence[Name], rounds: int, measure: Callable[[Name], Run]) -> dict[Name, list[Run]]:
    """Return every name's runs; the rounds alternate."""
    runs: dict[Name, list[Run]] = {name: [] for name in names}
    for number in range(1, rounds + 1):
        for name in names:
            told = name if isinstance(name, str) else " into ".join(name)
            print(f"round {number} of {rounds}: {told}", file=sys.stderr, flush=True)
            runs[name].append(measure(name))
    return runs


def _catch_up(chosen: argparse.Namespace, sshd: Sshd) -> tuple[str, bool]:
    whole, share = Workload.of(chosen.records), Workload.of(max(chosen.records // SLOW_SHARE, 1))

    def measure(name: str) -> catch_up.Run:
        return catch_up.measure(name, sshd, share if FORWARDERS[name].slow else whole, chosen.limit)

    runs = _rounds(chosen.names, chosen.rounds, measure)
    return catch_up.report(runs), all(run.whole for each in runs.values() for run in each)


def _live(chosen: argparse.Namespace, sshd: Sshd) -> tuple[str, bool]:
    pattern = live.Pattern(rate=chosen.live, seconds=chosen.seconds)
    pairs: list[tuple[str, FarEnd]] = [(name, "sink") for name in chosen.names]
    if RELAY_NAME in chosen.names:
        pairs.insert(1, (RELAY_NAME, "relay"))
    runs = _rounds(pairs, chosen.rounds, lambda pair: live.measure(*pair, sshd, pattern))
    return live.report(runs), True


def _receive(chosen: argparse.Namespace) -> tuple[str, bool]:
    place = Workplace("yardstick-load")
    try:
        load = receive.make_load(place.path, chosen.records, chosen.senders)
        runs = _rounds(chosen.names, chosen.rounds, lambda name: receive.measure(name, load, chosen.limit))
        return receive.report(runs), all(run.came == run.messages for each in runs.values() for run in each)
    finally:
        place.remove()


def _idle(chosen: argparse.Namespace, sshd: Sshd) -> tuple[str, bool]:
    runs = _rounds(chosen.names, chosen.rounds, lambda name: idle.measure(name, sshd, chosen.seconds))
    return idle.report(runs), True


def _measure(chosen: argparse.Namespace) -> tuple[str, str, bool]:
    """Return the measurement's title, its table, and whether every record arrived."""
    if chosen.receive:
        return ("Receiving", *_receive(chosen))
    with Sshd(["MaxStartups 100"]) as sshd:
        if chosen.live:
            return (f"Live, {chosen.live:,} records a second", *_live(chosen, sshd))
        if chosen.idle:
            return ("Idle", *_idle(chosen, sshd))
        return ("Catching up", *_catch_up(chosen, sshd))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print each table with the machine that it was measured on."""
    chosen = _arguments(argv)
    where = f"{machine()}. {peers()}."
    try:
        title, table, whole = _measure(chosen)
    except AssertionError as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 1
    rounds = "one round" if chosen.rounds == 1 else f"medians of {chosen.rounds} rounds"
    print(f"**{title}**, {rounds}. {where}\n\n{table}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
