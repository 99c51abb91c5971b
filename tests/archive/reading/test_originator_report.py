"""What an originator's newest ledgers and its last heartbeat say, whatever is damaged and however much came before."""

import os
from pathlib import Path

import pytest
from archive.messages import NOON_US, own
from archive.relay_events import AUTHOR, RUN, opening, stamped
from harness.made_archive import MadeDay

from relay.archive.ledgers.ledger_end import CHUNK
from relay.archive.reading.ledger_tail import LONGEST_TAIL, read_tail
from relay.archive.reading.originator_report import OriginatorReport, ReportedAlarm, SelfReport, read_report
from relay.archive.reading.originators import originators
from relay.events import own_events
from relay.events.own_events import HeartbeatReport
from relay.system.disk import Disk
from relay.values.alarm import Alarm
from relay.values.event import EventType

SECOND = 1_000_000
KEY = "SHA256:jUJBbBUHaJnyFgNcnxEOXAFJUOL0CkbQLNRPLsZDoGE"
ALARMS = (Alarm("server-lost", "major", "text", "log 1"), Alarm("spool-full", "critical", "text"))


def heartbeat(number: int, at: int = NOON_US) -> bytes:
    condition = HeartbeatReport({EventType.AUDIT: 5}, b"\1" * 32, {"log 1": 7, "log2": 0}, "0.9.1", ALARMS, 12)
    return stamped(own_events.heartbeat(AUTHOR, at, condition), number)


def report(archive: Path, name: str = "fw1") -> OriginatorReport:
    (folder,) = [each for each in originators(Disk(), str(archive)) if each.name == name]
    return read_report(Disk(), folder)


def test_a_strangers_or_a_forwarded_heartbeat_is_not_the_routers(tmp_path: Path) -> None:
    day = MadeDay("fw1", "2026-11-30")
    day.extent(NOON_US, [own(1), heartbeat(1), opening(2)], identity=KEY, marks={2: ("forwarded",)})
    day.extent(NOON_US + SECOND, [opening(3)])
    day.save(tmp_path)
    found = report(tmp_path)
    assert (found.own_received, found.own_senders) == (NOON_US, {KEY: NOON_US, "": NOON_US + SECOND})
    assert found.evidence == "verified"
    assert found.report is not None
    assert found.report.version == "0.9.1"


def test_a_relay_reports_its_version_backlog_alarms_and_losses(tmp_path: Path) -> None:
    day = MadeDay("fw1", "2026-11-30")
    day.extent(NOON_US, [own(1), heartbeat(1), own(2)], identity=KEY)
    day.extent(NOON_US + 9 * SECOND, [own(3)], identity=KEY)
    day.save(tmp_path)
    found = report(tmp_path)
    assert (found.name, found.disputed, found.peer, found.identity) == ("fw1", False, "192.0.2.1", KEY)
    assert (found.received, found.own_received) == (NOON_US + 9 * SECOND, NOON_US)
    assert found.report == SelfReport(
        NOON_US,
        "0.9.1",
        {"log 1": 7, "log2": 0},
        (ReportedAlarm("spool-full", "critical", ""), ReportedAlarm("server-lost", "major", "log 1")),
        12,
    )


def test_the_newest_own_event_of_an_older_relay_has_no_version(tmp_path: Path) -> None:
    day = MadeDay("fw1", "2026-11-30")
    day.extent(NOON_US, [opening()])
    day.save(tmp_path)
    assert report(tmp_path).report == SelfReport(NOON_US)


def test_an_originator_that_is_not_a_relay_has_no_report(tmp_path: Path) -> None:
    day = MadeDay("printer", "2026-11-30")
    day.extent(NOON_US, [b"<13>Nov 30 12:00:00 printer lpd: relay, HEARTBEAT and [relay"])
    day.save(tmp_path)
    found = report(tmp_path, "printer")
    assert (found.received, found.own_received, found.report) == (NOON_US, 0, None)
    assert (found.lag, found.event_time) == (None, 0)


def test_the_lag_is_from_event_to_receipt_whatever_the_senders_clock_says(tmp_path: Path) -> None:
    for name, late in (("slow", 90.0), ("ahead", -86_400.0)):
        day = MadeDay(name, "2026-11-30")
        day.extent(NOON_US + int(late * SECOND), [heartbeat(1)])
        day.save(tmp_path)
        assert report(tmp_path, name).lag == pytest.approx(late, abs=1)


def test_the_heartbeat_of_the_day_before_counts_after_midnight(tmp_path: Path) -> None:
    before = MadeDay("fw1", "2026-11-29")
    before.extent(NOON_US - 86_400 * SECOND, [heartbeat(1)])
    before.save(tmp_path)
    day = MadeDay("fw1", "2026-11-30", before)
    day.extent(NOON_US, [own(2)])
    day.save(tmp_path)
    found = report(tmp_path)
    assert found.own_received == NOON_US - 86_400 * SECOND
    assert found.report is not None
    assert found.received == NOON_US


@pytest.mark.parametrize("size", [CHUNK, LONGEST_TAIL // 2])
def test_only_the_end_of_a_long_ledger_is_read(tmp_path: Path, size: int) -> None:
    day = MadeDay("fw1", "2026-11-30")
    day.extent(NOON_US, [heartbeat(1)])
    lines = len(day.lines)
    day.extent(NOON_US + SECOND, [own(2)])
    day.lines += [day.lines[-1]] * (size // len(day.lines[-1]))
    day.save(tmp_path)
    assert report(tmp_path).own_received == NOON_US
    day.lines[lines:] = day.lines[lines:] * (2 * LONGEST_TAIL // size)
    day.save(tmp_path)
    found = report(tmp_path)
    assert (found.received, found.own_received) == (NOON_US + SECOND, 0), "nobody reads a gigabyte for it"


def test_missing_numbers_among_the_newest_are_counted(tmp_path: Path) -> None:
    day = MadeDay("fw1", "2026-11-30")
    day.extent(NOON_US, [own(1), own(2), own(5)])
    day.extent(NOON_US, [own(4), own(9), own(1, run=RUN.hex())])
    day.save(tmp_path)
    day.extent(NOON_US, [own(9_000_000)], identity=KEY)
    day.save(tmp_path)
    assert report(tmp_path).missing == 1 + 3


@pytest.mark.parametrize(
    "damage",
    [b"", b"\n", b"garbage\n", b'{"at":[1\n', b'{"at":[1,2],"from":"x"', b"\0" * 100_000, b'"relay",' * 1000 + b"\n"],
    ids=lambda damage: repr(damage[:20]),
)
def test_damage_at_the_end_of_a_ledger_is_passed_over(tmp_path: Path, damage: bytes) -> None:
    day = MadeDay("fw1", "2026-11-30")
    day.extent(NOON_US, [heartbeat(1)])
    folder = day.save(tmp_path)
    with (folder / "2026-11-30.ledger").open("ab") as ledger:
        ledger.write(damage)
    found = report(tmp_path)
    assert (found.received, found.own_received) == (NOON_US, NOON_US)


def test_without_the_log_the_ledger_still_has_the_times(tmp_path: Path) -> None:
    day = MadeDay("fw1", "2026-11-30")
    day.extent(NOON_US, [heartbeat(1)])
    day.save(tmp_path, log=False)
    found = report(tmp_path)
    assert (found.own_received, found.report) == (NOON_US, None)


def test_a_folder_without_a_ledger_and_one_that_cannot_be_read_are_empty(tmp_path: Path) -> None:
    (tmp_path / "fw1").mkdir()
    (tmp_path / "fw1" / "2026-11-30.ledger").mkdir()
    (tmp_path / "fw2").mkdir()
    os.symlink("/etc/passwd", tmp_path / "fw2" / "2026-11-30.ledger")
    for name in ("fw1", "fw2"):
        assert report(tmp_path, name) == OriginatorReport(name, disputed=False)


def test_a_disputed_name_is_marked(tmp_path: Path) -> None:
    day = MadeDay("fw1", "2026-11-30")
    day.extent(NOON_US, [own(1)])
    day.save(tmp_path / "~disputed")
    assert report(tmp_path, "~disputed/fw1").disputed


def test_the_tail_of_an_empty_ledger_is_empty(tmp_path: Path) -> None:
    (tmp_path / "fw1").mkdir()
    (tmp_path / "fw1" / "2026-11-30.ledger").touch()
    (folder,) = originators(Disk(), str(tmp_path))
    assert read_tail(Disk(), folder).newest is None
