"""scripts/bench: short runs of the real thing, checked by their counts and never by their time."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench"


def bench(*arguments: str) -> list[dict[str, str]]:
    """Return the table that a run prints, row by row."""
    done = subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    title, _, *lines = done.stdout.splitlines()
    assert "cores of" in title, title
    header, rule, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert all(set(cell) <= set("-:") for cell in rule), rule
    return [dict(zip(header, row, strict=True)) for row in rows]


def number(cell: str) -> float:
    """Return a figure as the table writes it."""
    return float(cell.replace(",", ""))


def test_every_record_arrives_while_catching_up() -> None:
    """The column `records` has another text when a record is missing, duplicated or changed."""
    relay, rsyslog = bench("--only", "relay", "rsyslog-memory", "-n", "2000", "--rounds", "1")
    assert (relay["forwarder"], rsyslog["forwarder"]) == ("relay", "rsyslog-memory")
    assert relay["records"] == rsyslog["records"] == "2,017"
    assert relay["relay = 1"] == "1.00"
    assert relay["its ssh"] == "0.0"
    assert number(relay["proven after s"]) > 0
    assert rsyslog["proven after s"] == "—"
    assert number(relay["octets written a record"]) > 0


def test_a_run_that_is_cut_off_fails_and_reports_how_many_records_arrived() -> None:
    argv = [str(SCRIPT), "--only", "rsyslog-careful-fsync", "-n", "200000", "--rounds", "1", "--limit", "1"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1, done.stderr
    assert " came |" in done.stdout


def test_live_events_are_timed_to_their_arrival_and_their_proof() -> None:
    into_sink, into_relay = bench("--live", "500", "--seconds", "1", "--rounds", "1", "--only", "relay")
    assert (into_sink["far end"], into_relay["far end"]) == ("sink", "relay receive")
    for row in (into_sink, into_relay):
        assert number(row["arrived p50 ms"]) > 0
        assert 0 < number(row["proven p50 ms"]) <= number(row["p99"]) <= number(row["max"])
        assert number(row["without an end: arrived p50 ms"]) >= 2000


@pytest.mark.parametrize("receiver", ["relay", "rsyslog-imrelp"])
def test_every_message_of_many_senders_is_filed(receiver: str) -> None:
    (row,) = bench("--receive", "--only", receiver, "-n", "2000", "--senders", "8", "--rounds", "1")
    assert (row["receiver"], row["senders"], row["messages"]) == (receiver, "8", "2,000")


def test_idle_is_measured_by_process() -> None:
    (row,) = bench("--idle", "--only", "relay", "--seconds", "1", "--rounds", "1")
    assert number(row["ms CPU a minute"]) >= 0


def test_an_unknown_name_is_reported_with_the_known_ones() -> None:
    done = subprocess.run([str(SCRIPT), "--only", "rsylog"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "rsylog is not known; there are: relay, relay-relp" in done.stderr
