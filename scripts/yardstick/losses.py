"""Lost and duplicated records under faults: relay, and on request its competitors.

Run by ./scripts/losses. Every record has a serial, and both numbers are counted from what the collector kept. Prints a
Markdown table to stdout, and each trial to stderr when it ends. The exit code is 1 when relay lost a record, or when a
record is in the archive of `relay receive` twice.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, get_args

from scripts.yardstick.faults import COLLECTOR, FAULTS, SESSION, Fault
from scripts.yardstick.forwarders import FORWARDERS, RELAY_NAME, RELAY_TLS, is_relay
from scripts.yardstick.judge import Verdict
from scripts.yardstick.machine import machine, peers
from scripts.yardstick.rig import FarEnd
from scripts.yardstick.table import NONE, markdown
from scripts.yardstick.trial import RATE, Mode, Outcome, Trial, run

LIVE: Final = 100_000
BACKLOG: Final = 500_000
SLOW: Final = 100_000
"""Records for a slow collector, which takes a quarter of a minute for them."""
QUICK: Final = 30_000
QUICK_FAULTS: Final = (SESSION, COLLECTOR)


@dataclass(frozen=True, slots=True)
class Column:
    """A forwarder and the far end that it sends to."""

    forwarder: str
    far_end: FarEnd = "sink"

    @property
    def title(self) -> str:
        """Its heading."""
        return f"{self.forwarder} → relay receive" if self.far_end == "relay" else f"{self.forwarder} → sink"

    def can_have(self, fault: Fault) -> bool:
        """Whether the fault can happen to it."""
        if fault.of_relay_alone and not is_relay(self.forwarder):
            return False
        return not (fault.octets_a_second and self.far_end == "relay")


RELAY: Final = (
    *(Column(RELAY_NAME), Column("relay-relp"), Column("relay-auditd")),
    *(Column(RELAY_NAME, "relay"), Column("relay-relp", "relay"), Column(RELAY_TLS, "relay")),
)
PEERS: Final = tuple(map(Column, ("rsyslog-memory", "rsyslog-careful-fsync", "rsyslog-relp", "syslog-ng")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be tried."""

    columns: Sequence[Column]
    faults: Sequence[Fault]
    modes: Sequence[Mode]
    seeds: int
    records: int | None
    """None: as many as suit the mode."""
    at_once: int = 1
    """Trials that go on beside each other: they mostly wait."""

    def rows(self) -> Iterator[tuple[Fault, Mode]]:
        """The table's rows."""
        yield from ((fault, mode) for fault in self.faults for mode in self.modes)

    def trials(self) -> Iterator[Trial]:
        """All of them, row by row."""
        for fault, mode in self.rows():
            for column in self.columns:
                for seed in range(self.seeds) if column.can_have(fault) else ():
                    yield self.trial(column, fault, mode, seed)

    def trial(self, column: Column, fault: Fault, mode: Mode, seed: int) -> Trial:
        """One trial."""
        usual = SLOW if fault.octets_a_second else LIVE if mode == "live" else BACKLOG
        return Trial(
            forwarder=column.forwarder,
            far_end=column.far_end,
            fault=fault,
            mode=mode,
            records=self.records or usual,
            seed=seed,
        )


def failed(column: Column, verdict: Verdict) -> bool:
    """Whether relay broke its promise; others promised us nothing."""
    twice = verdict.duplicated if column.far_end == "relay" else 0
    return is_relay(column.forwarder) and bool(verdict.lost or twice or verdict.unknown)


def cell(verdicts: Sequence[Verdict]) -> str:
    """Lost / duplicated, for each seed."""
    if not verdicts:
        return NONE
    numbers = [f"{verdict.lost:,} / {verdict.duplicated:,}" for verdict in verdicts]
    if any(verdict.lost for verdict in verdicts):
        return f"**{'; '.join(numbers)}**"
    return "; ".join(numbers)


def tabulated(plan: Plan, found: dict[tuple[Fault, Mode, Column], list[Verdict]]) -> str:
    """The table, in Markdown."""
    table = markdown(
        ("fault", "mode", *(column.title for column in plan.columns)),
        (
            (fault.what, mode, *(cell(found.get((fault, mode, column), ())) for column in plan.columns))
            for fault, mode in plan.rows()
        ),
    )
    sizes = ", ".join(sorted({_size(each) for each in plan.trials()}))
    forwarders = dict.fromkeys(column.forwarder for column in plan.columns)
    legend = [
        f"Lost / duplicated, of {sizes}; {plan.seeds} seed{'s' * (plan.seeds > 1)}. {machine()}. {peers()}.",
        *(f"{name}: {FORWARDERS[name].what}." for name in forwarders),
    ]
    return table + "\n\n" + "  \n".join(legend)


def _size(trial: Trial) -> str:
    how = f"live at {RATE:,}/s" if trial.mode == "live" else "as a backlog"
    return f"{trial.records:,} records {how}"


def carry_out(plan: Plan) -> tuple[str, bool]:
    """Try everything; answer the table, and whether relay kept its promises."""
    found: dict[tuple[Fault, Mode, Column], list[Verdict]] = {}
    kept = True
    for trial, outcome in _outcomes(plan.trials(), plan.at_once):
        column = Column(trial.forwarder, trial.far_end)
        found.setdefault((trial.fault, trial.mode, column), []).append(outcome.verdict)
        kept = kept and not failed(column, outcome.verdict)
    return tabulated(plan, found), kept


def _outcomes(trials: Iterable[Trial], at_once: int) -> Iterator[tuple[Trial, Outcome]]:
    if at_once == 1:  # in this thread, where an interruption ends what is under way
        yield from map(_try, trials)
        return
    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(_try, trials)


def _try(trial: Trial) -> tuple[Trial, Outcome]:
    outcome = run(trial)
    title = Column(trial.forwarder, trial.far_end).title
    where = f"{title}, {trial.fault.name}, {trial.mode}, seed {trial.seed}, struck after {outcome.at}"
    print(f"{where}: {outcome.verdict}; {outcome.seconds:.0f} s", file=sys.stderr, flush=True)
    return trial, outcome


def plan_of(words: Sequence[str]) -> Plan:
    """The plan that the command line asks for."""
    parser = argparse.ArgumentParser(prog="scripts/losses", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="trials a cell; the stroke's moment varies")
    parser.add_argument("--quick", action="store_true", help=f"two faults, {QUICK} records; under 2 minutes")
    parser.add_argument("--only", choices=FAULTS, action="append", metavar="FAULT", help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--mode", choices=get_args(Mode), help="one mode instead of both")
    parser.add_argument("--peers", action="store_true", help="rsyslog and syslog-ng too")
    parser.add_argument("-n", type=int, metavar="RECORDS", help=f"default {LIVE} live, {BACKLOG} as a backlog")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="trials beside each other (default 1)")
    chosen = parser.parse_args(words)
    faults = [FAULTS[name] for name in chosen.only or ()]
    return Plan(
        columns=RELAY + PEERS * chosen.peers,
        faults=faults or (QUICK_FAULTS if chosen.quick else tuple(FAULTS.values())),
        modes=(chosen.mode,) if chosen.mode else get_args(Mode),
        seeds=chosen.seeds,
        records=chosen.n or (QUICK if chosen.quick else None),
        at_once=chosen.at_once,
    )


def main(words: Sequence[str]) -> int:
    """Print the table; 1 when relay broke a promise."""
    table, kept = carry_out(plan_of(words))
    print(table)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
