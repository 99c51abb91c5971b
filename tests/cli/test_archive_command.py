"""`relay archive verify` as a user calls it."""

import json
import subprocess
from pathlib import Path

import pytest
from archive.messages import DAY_US, NOON_US, foreign, own
from archive.relay_events import RUN, THIRD, gap, heartbeat, lost, numbered, opening
from harness.relay import RELAY

from relay.archive.writer.archive_writer import ArchiveWriter
from relay.values.event import EventType

RUN_NAME = RUN.hex()


def relay(*arguments: str) -> tuple[int, str, str]:
    argv = [*RELAY, "archive", "verify", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three runs, of which the second left nothing; a hole, a counted loss, and events that may be on their way."""
    folder = tmp_path / "archive"
    with ArchiveWriter(str(folder), "spool") as writer:
        for message in (
            opening(),
            *numbered(1, 2, 3, 6, 7, 9),
            gap(2, lost(4, 5), server="far"),
            opening(run=THIRD, previous=b"\x60" * 8, audit=2),
            gap(2, lost(1, 1, kind=EventType.ADMIN), server="other", told=2, run=THIRD),
            heartbeat(3, run=THIRD, waiting={"far": 2}, relay=2, traffic=3),
            foreign(7),
        ):
            writer.write(message, NOON_US)
        writer.commit(b"1")
        writer.write(own(10, run=RUN_NAME), NOON_US + DAY_US)
        writer.commit(b"2")
    return folder


def test_faults_go_to_stderr_and_stdout_has_a_summary_of_each_originator(archive: Path) -> None:
    code, shown, errors = relay(str(archive))
    assert code == 65
    assert errors.splitlines()[:-1] == [
        "relay: router1: run 6060606060606060: there is nothing at all of this run, which came between two others",
        f"relay: router1: run {RUN_NAME}, type audit: 1 event is missing (8); no gap accounts for it",
        "relay: router1: run 6060606060606060, type audit: 2 events are missing (1 to 2); no gap accounts for them",
    ]
    assert "`facilities` or `severity`" in errors.splitlines()[-1]
    assert shown.splitlines() == [
        "router1: NOT WHOLE; 12 messages (12 numbered in 2 runs), received 2024-03-06 to 2024-03-07",
        "  relay there last reported at 2024-03-06T12:00:00.000Z; then 2 blocks for far waited",
        "  reported by relay itself: 3 events lost, in 2 gaps",
        "    2: far: deleted",
        "    1: other: deleted",
        f"  run {RUN_NAME}, type audit: 2 events reported as lost (4 to 5)",
        "  run 6161616161616161, type traffic: 3 events possibly still on the way (1 to 3)",
        "switch1: whole; 1 message (1 without a number), received 2024-03-06",
        f"{archive}: not whole, 3 events missing; 13 messages of 2 originators, 12 of them numbered",
    ]


def test_losses_that_a_gap_counts_without_numbers_are_reported(tmp_path: Path) -> None:
    """Such a loss accounts for no particular missing number."""
    with ArchiveWriter(str(tmp_path), "spool") as writer:
        for message in (opening(), gap(2, lost(1, 2), unnamed=40), *numbered(3)):
            writer.write(message, NOON_US)
        writer.commit(b"1")
    _, shown, _ = relay(str(tmp_path))
    assert "  reported by relay itself: 42 events lost (40 of them without their numbers), in 1 gap\n" in shown


def test_json_has_every_number(archive: Path) -> None:
    code, shown, errors = relay(str(archive), "--json")
    found = json.loads(shown)
    assert (code, errors) == (65, "")
    assert {key: found[key] for key in ("schema", "archive", "pid", "journal", "first_day", "whole")} == {
        "schema": "relay.archive/2",
        "archive": str(archive),
        "pid": None,
        "journal": True,
        "first_day": "",
        "whole": False,
    }
    assert (found["places"], found["notices"], found["more_notices"]) == ([], [], 0)
    router, switch = found["originators"]
    assert router["faults"][1] == {
        "kind": "missing",
        "run": RUN_NAME,
        "type": "audit",
        "numbers": 1,
        "ranges": [[8, 8]],
        "more_ranges": 0,
    }
    assert (router["last_report"], router["backlog"], router["missing"]) == ("2024-03-06T12:00:00.000Z", {"far": 2}, 3)
    assert router["gaps"] == {
        "reported": 2,
        "events": 3,
        "unknown": 0,
        "unnamed": 0,
        "explained": 2,
        "forgotten": 0,
        "causes": {"far: deleted": 2, "other: deleted": 1},
    }
    assert (switch["name"], switch["whole"], switch["numbered"], switch["last_report"]) == ("switch1", True, 0, None)


def test_gaps_of_other_servers_do_not_count_when_a_server_is_named(archive: Path) -> None:
    assert "(8); no gap" in relay(str(archive), "--server", "far")[2]
    assert "(4 to 5, 8); no gap" in relay(str(archive), "--server", "other")[2]


def test_types_and_days_can_be_chosen(archive: Path) -> None:
    assert "type audit" not in relay(str(archive), "--type", "admin")[2]
    assert relay(str(archive), "--from", "2024-03-07")[0] == 0
    assert relay(str(archive), "--from", "2024-03-07 00:00")[0] == 0
    assert relay(str(archive), "--from", "yesterday")[0] == 0
    assert relay(str(archive), "--from", "yesterday-ish")[0] == 64
    assert relay(str(archive), "--type", "unheard-of")[0] == 64


def test_without_an_argument_the_archive_of_the_configuration_is_verified(archive: Path, tmp_path: Path) -> None:
    configuration = tmp_path / "relay.toml"
    configuration.write_text(f'[receiver]\narchive = "{archive}"\n')
    code, shown, _ = relay("-c", str(configuration))
    assert code == 65
    assert shown.splitlines()[-1].startswith(f"{archive}: not whole, ")


def test_a_folder_that_is_not_an_archive_is_66(tmp_path: Path) -> None:
    code, shown, errors = relay(str(tmp_path))
    assert (code, shown) == (66, "")
    assert errors == (
        f"relay: {tmp_path}: it is not an archive: no folder in it has a day's log or ledger; name another folder\n"
    )


def test_for_a_missing_folder_the_nearest_one_is_named(archive: Path) -> None:
    code, _, errors = relay(f"{archive}s")
    assert (code, errors) == (66, f'relay: {archive}s: there is no such folder; did you mean "{archive}"?\n')


def test_control_characters_in_names_of_files_are_escaped(archive: Path) -> None:
    (archive / "\x1b[2Jred").touch()
    _, shown, _ = relay(str(archive))
    assert "\x1b" not in shown
    assert "\\x1b[2Jred: not made by relay, and not read" in shown


def test_verification_changes_no_file(archive: Path) -> None:
    def files() -> dict[str, tuple[bytes, int]]:
        paths = (path for path in archive.rglob("*") if path.is_file())
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}

    before = files()
    assert len(before) > 3
    assert relay(str(archive))[0] == 65
    assert relay(str(archive), "--json")[0] == 65
    assert files() == before
