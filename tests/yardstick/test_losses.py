"""scripts/losses and scripts/soak: the judge on outputs made by hand, and short runs of the real thing."""

import itertools
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from harness.records import generate
from harness.waiting import wait_until

from scripts.yardstick.faults import FAULTS, RELOADS, changed_configurations
from scripts.yardstick.judge import Ledger, Verdict, judge
from scripts.yardstick.losses import Column, Plan, cell, failed, plan_of, tabulated
from scripts.yardstick.part import Part
from scripts.yardstick.soak import Memory
from scripts.yardstick.soak import Plan as SoakPlan
from scripts.yardstick.trial import Trial
from scripts.yardstick.writing import Writing

SCRIPTS = Path(__file__).parents[2] / "scripts"
GENERATED = generate(300).splitlines()
CELL = re.compile(r"\*{0,2}([\d,]+) / ([\d,]+)")


def ledger(data: bytes) -> Ledger:
    found = Ledger()
    found.take(data)
    return found


def verdict(*, lost: int = 0, duplicated: int = 0, unknown: int = 0) -> Verdict:
    return Verdict(written=100, lost=lost, duplicated=duplicated, unknown=unknown, lost_serials=(7,) * bool(lost))


def framed(record: bytes) -> bytes:
    """Return it as a sink keeps it: a message and a LF; the structured data has the serial too."""
    return b'<110>1 2024-03-06T16:34:22.344Z combo1 auditd - USER_AUTH [128T serial="100007"] ' + record + b"\n"


def test_the_judge_reports_a_lost_and_a_duplicated_record() -> None:
    written = ledger(b"\n".join(GENERATED))
    kept = [framed(record) for record in GENERATED if b":100005)" not in record]
    assert len(kept) == len(GENERATED) - 1
    doubled = kept[17]

    found = judge(written, ledger(b"".join([*kept, doubled])))

    assert (found.written, found.lost, found.duplicated, found.unknown) == (len(GENERATED), 1, 1, 0)
    assert found.lost_serials == (100005, 100005)
    assert str(found) == f"{len(GENERATED)} records, 1 lost, 1 duplicated (lost: serials 100005 to 100005)"


def test_the_judge_reports_nothing_when_every_record_is_there_once_in_any_order_and_grouping() -> None:
    found = judge(ledger(b"\n".join(GENERATED)), ledger(framed(b"\n".join(reversed(GENERATED)))))
    assert (found.lost, found.duplicated, found.unknown) == (0, 0, 0)


def test_a_lost_record_is_reported_although_another_record_of_its_event_is_duplicated() -> None:
    serial = next(s for s in range(100_000, 100_026) if sum(b":%d)" % s in record for record in GENERATED) > 1)
    first, second, *_ = (record for record in GENERATED if b":%d)" % serial in record)
    kept = [first if record is second else record for record in GENERATED]
    found = judge(ledger(b"\n".join(GENERATED)), ledger(b"\n".join(kept)))
    assert (found.lost, found.duplicated) == (1, 1)


def test_a_record_that_was_never_written_is_reported() -> None:
    found = judge(ledger(GENERATED[0]), ledger(b"\n".join(GENERATED[:2])))
    assert (found.lost, found.duplicated, found.unknown) == (0, 0, 1)


def test_the_judge_reads_files_including_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"\n".join(GENERATED))
    (tmp_path / "empty").touch()
    assert Ledger().take_files([tmp_path / "kept", tmp_path / "empty"]).records == len(GENERATED)


@pytest.mark.parametrize(
    ("column", "found", "expected"),
    [
        (Column("relay"), verdict(lost=1), True),
        (Column("relay"), verdict(unknown=1), True),
        (Column("relay"), verdict(duplicated=1), False),
        (Column("relay", "relay"), verdict(duplicated=1), True),
        (Column("relay", "relay"), verdict(), False),
        (Column("syslog-ng"), verdict(lost=1), False),
    ],
)
def test_only_relay_must_lose_nothing_and_only_its_receiver_must_keep_each_record_once(
    column: Column, found: Verdict, *, expected: bool
) -> None:
    assert failed(column, found) is expected


def test_a_loss_is_bold_in_the_table_and_an_impossible_trial_is_a_dash() -> None:
    columns = (Column("relay"), Column("relay", "relay"))
    plan = Plan(columns=columns, faults=(FAULTS["slow"],), modes=("live",), seeds=2, records=None)
    found = {(FAULTS["slow"], plan.modes[0], columns[0]): [verdict(), verdict(lost=2, duplicated=1234)]}
    row = tabulated(plan, found).splitlines()[2]
    assert row == "| collector reads 4 MB/s, SSH session killed | live | **0 / 0; 2 / 1,234** | — |"
    assert cell([verdict(duplicated=3)]) == "0 / 3"
    assert not Column("rsyslog-memory").can_have(FAULTS["reload"])
    assert Column("rsyslog-memory").can_have(FAULTS["hup"])


def test_the_moment_of_the_fault_depends_on_the_seed_alone() -> None:
    shares = [
        Trial(forwarder="relay", far_end="sink", fault=FAULTS["sshd"], mode="live", records=1, seed=seed).share()
        for seed in (1, 2, 1)
    ]
    assert shares[0] == shares[2] != shares[1]
    assert all(0 < share < 1 for share in shares)


def test_the_full_plan_has_every_fault_in_both_modes() -> None:
    plan = plan_of(["--peers", "--seeds", "3"])
    assert len(list(plan.rows())) == 2 * len(FAULTS)
    assert [column.title for column in plan.columns[:7]] == [
        *("relay → sink", "relay-relp → sink", "relay-auditd → sink"),
        *("relay → relay receive", "relay-relp → relay receive", "relay-tls → relay receive"),
        "rsyslog-memory → sink",
    ]
    assert plan.trial(plan.columns[0], FAULTS["sshd"], "backlog", 2).records == 500_000


def test_written_records_are_counted_and_are_in_the_log_and_its_generations(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    with Writing(log, GENERATED, rate=2000, rotate_at=20_000, generations=9) as writing:
        wait_until(lambda: writing.ended, 60, "everything is written")
    assert writing.rotations > 1
    found = judge(writing.written, Ledger().take_files(tmp_path.iterdir()))
    assert (found.written, found.lost, found.duplicated) == (len(GENERATED), 0, 0)
    newest_first = sorted(tmp_path.iterdir(), key=lambda path: path.name)
    assert b"".join(path.read_bytes() for path in reversed(newest_first)).splitlines() == GENERATED


def test_memory_that_grows_in_the_last_quarter_is_reported(tmp_path: Path) -> None:
    flat = [(float(at), 60_000 + at % 3) for at in range(1000)]
    growing = [(float(at), 60_000 + 40 * at) for at in range(1000)]
    part = Part(["true"], tmp_path / "log")
    assert not Memory(part, flat).grew(1000)
    assert Memory(part, growing).grew(1000)
    assert str(Memory(part, growing[:3])) == "58.6 MiB at the start, 58.7 at most, 58.7 at the end"


def test_no_fault_outlasts_a_short_soak_and_no_program_is_killed_in_its_second_half() -> None:
    short = SoakPlan(seconds=18, rate=500, seed=0)
    assert {fault.name for fault in short.faults(0)} == {"session", "collector", "forwarder", "hup", "reload"}
    assert {fault.name for fault in short.faults(10)} == {"session", "hup", "reload"}
    assert "frozen" in {fault.name for fault in SoakPlan(seconds=3600, rate=500, seed=0).faults(3000)}


def test_the_fault_reload_can_strike_again_and_each_reload_changes_server_and_source() -> None:
    text = '[[source]]\nname = "audit"\n[[remote-logging-server]]\nmax-message-size = "64KiB"\n'
    for _ in range(2):
        changes = changed_configurations(text, RELOADS)
        read = [tomllib.loads(each) for each in [text, *changes]]
        for former, later in itertools.pairwise(read):
            assert all(former[table] != later[table] for table in ("source", "remote-logging-server"))
        text = changes[-1]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("fault", "mode", "records"), [("session", "backlog", 10_000), ("collector", "live", 40_000)])
def test_relay_loses_nothing_with_any_protocol_and_its_receiver_keeps_each_record_once(
    fault: str, mode: str, records: int
) -> None:
    """The quick form: into a sink by three protocols, and into `relay receive` by two and by TLS."""
    argv = [str(SCRIPTS / "losses"), "--quick", "--only", fault, "--mode", mode, "-n", str(records), "--at-once", "6"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=230, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = [line for line in done.stdout.splitlines() if line.startswith(f"| {FAULTS[fault].what}")]
    assert row.split(" | ")[1] == mode
    cells = CELL.findall(row)
    assert [lost for lost, _ in cells] == ["0"] * 6, row
    assert cells[3:] == [("0", "0")] * 3, row


@pytest.mark.timeout(240)
def test_a_short_soak_loses_nothing_and_rotates() -> None:
    argv = [str(SCRIPTS / "soak"), "--minutes", "0.25"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=230, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ records, 0 lost, 0 duplicated$", done.stdout, re.MULTILINE), done.stdout
    faults, rotations = re.findall(r"(\d+) (?:faults|rotations)", done.stdout)
    assert int(faults) > 0
    assert int(rotations) > 0
    assert done.stdout.count(" at the start, ") == 2
