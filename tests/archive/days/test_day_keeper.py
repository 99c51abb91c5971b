"""Closed days are compressed and removed as the settings say, and nothing else is touched."""

import gzip
import lzma
import os
import shutil
import time
from pathlib import Path
from threading import Thread

import pytest
import pyzstd
from archive.days.closed_archive import DAY, ClosedArchive
from harness.compressors import compressor
from harness.waiting import wait_until
from typing_extensions import override

from relay.archive.days import day_keeper
from relay.archive.days.compressor import CompressionJob, compress
from relay.archive.days.day_keeper import DayKeeper
from relay.archive.days.retention import MAX_DAYS, RetentionTerms
from relay.archive.days.uncommitted_closings import UncommittedClosings
from relay.archive.days.vanished_days import read_vanished
from relay.archive.layout import begin_of
from relay.archive.ledger import Closing, Extent, Removal
from relay.system.disk import Disk, File, storage_error

NOW = begin_of("2026-11-30") + DAY // 2
DAYS = 86_400.0
LOG = b"".join(b"<13>1 2026-11-27T10:00:00Z fw1 app - - - line %d\n" % number for number in range(30_000))


@pytest.fixture
def archive(tmp_path: Path) -> ClosedArchive:
    return ClosedArchive(tmp_path / "archive")


class Kept:
    """A keeper of one archive, at one time."""

    def __init__(
        self,
        archive: ClosedArchive,
        terms: RetentionTerms,
        *,
        by_age: bool = True,
        now: int = NOW,
        most_days: int = MAX_DAYS,
    ) -> None:
        self.closings = UncommittedClosings()
        self.keeper = DayKeeper(
            Disk(),
            str(archive.folder),
            terms,
            self.closings,
            lambda: by_age,
            clock=lambda: now,
            floor=0,
            most_days=most_days,
        )

    def once(self) -> DayKeeper:
        """Look and compress once."""
        self.keeper.compress(self.keeper.look(), until=time.monotonic() + 60)
        self.keeper.compressor.end()
        return self.keeper


AFTER_TWO_DAYS = RetentionTerms(compress_after=2 * DAYS)


def test_files_of_somebody_else_are_neither_removed_nor_compressed(archive: ClosedArchive) -> None:
    archive.add("fw1", "2026-11-20")
    archive.add("fw1", "2026-11-27")
    foreign = ["2026-11-20.jsonl", "2026-11-26.ledger.zst.new", "2026-11-26.log.gz.new", "2026-11-26.log.new"]
    for name in foreign:
        (archive.folder / "fw1" / name).write_bytes(b"{}\n")
    Kept(archive, RetentionTerms(age=5 * DAYS, compress_after=2 * DAYS)).once()
    assert set(archive.names("fw1")) == {*foreign, "2026-11-20.ledger", "2026-11-27.ledger", "2026-11-27.log.zst"}


def test_a_copy_of_another_program_is_durable_before_the_log_is_deleted(archive: ClosedArchive) -> None:
    log = archive.add("fw1", "2026-11-27", LOG)
    compressor("zstd", "-q", "-k", log)
    calls: list[str] = []

    class Noted(Disk):
        @override
        def open(self, path: str, *, create: bool = False, writable: bool = True) -> File:
            return NotedFile(path, super().open(path, create=create, writable=writable).descriptor)

    class NotedFile(File):
        @override
        def sync(self) -> None:
            calls.append(self.path)
            super().sync()

    result = compress(Noted(), CompressionJob(str(log), len(LOG), compare=True, floor=0))
    assert result.copy is not None
    assert calls == [f"{log}.zst"]


# --- Compression ---


def test_a_closed_day_is_compressed_as_zstd_reads_it_and_nothing_else_is(archive: ClosedArchive) -> None:
    due = archive.add("fw1", "2026-11-27", LOG)
    due.chmod(0o640)
    os.chown(due, -1, os.getgid())
    os.utime(due, ns=(1, 1_796_000_000_000_000_123))
    archive.add("fw1", "2026-11-28")  # closed for less than two days
    archive.add("fw1", "2026-11-28", part=2, closed=NOW - int(2 * DAYS) * 1_000_000)  # the clock was set back
    archive.add("fw1", "2026-11-26", is_closed=False)
    (archive.folder / "fw1/2026-11-25.log").write_bytes(b"not relay's: it has no ledger\n")
    (archive.folder / "fw1/2026-11-24.log.zst.new").write_bytes(b"a crash left it")
    facts = due.stat()
    keeper = Kept(archive, AFTER_TWO_DAYS).once()
    assert archive.names("fw1") == [
        "2026-11-25.log",
        *("2026-11-26.ledger", "2026-11-26.log"),
        *("2026-11-27.ledger", "2026-11-27.log.zst"),
        *("2026-11-28.2.ledger", "2026-11-28.2.log.zst", "2026-11-28.ledger", "2026-11-28.log"),
    ]
    copy = archive.folder / "fw1/2026-11-27.log.zst"
    compressor("zstd", "-q", "-t", copy)
    assert compressor("zstd", "-q", "-dc", copy) == LOG
    now = copy.stat()
    assert (now.st_mode, now.st_uid, now.st_gid, now.st_mtime_ns) == (
        *(facts.st_mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns),
    )
    assert (keeper.counters.days_compressed, keeper.counters.failed, keeper.fault) == (2, 0, None)
    assert keeper.counters.octets_before > 5 * keeper.counters.octets_after


def test_a_day_is_not_touched_before_its_closing_is_committed(archive: ClosedArchive) -> None:
    archive.add("fw1", "2026-11-20")
    before = archive.names("fw1")
    kept = Kept(archive, RetentionTerms(age=DAYS, size=0, compress_after=0.0))
    kept.closings.note(["fw1/2026-11-20.ledger"])
    kept.once()
    assert archive.names("fw1") == before
    kept.closings.settle()
    kept.once()
    assert archive.names("fw1") == ["2026-11-20.ledger"]


def test_a_day_that_cannot_be_compressed_is_named_and_the_others_are_compressed(
    archive: ClosedArchive, caplog: pytest.LogCaptureFixture
) -> None:
    with archive.add("fw1", "2026-11-20").open("ab") as log:
        log.write(b"<13>somebody appended this\n")
    archive.add("fw2", "2026-11-21")
    kept = Kept(archive, AFTER_TWO_DAYS)
    kept.once()
    keeper = kept.once()
    assert archive.names("fw2") == ["2026-11-21.ledger", "2026-11-21.log.zst"]
    assert archive.names("fw1") == ["2026-11-20.ledger", "2026-11-20.log"]
    assert str(keeper.fault).startswith(
        f"{archive.folder}/fw1/2026-11-20.log: it has 41 octets, and its ledger says 14"
    )
    assert len(caplog.records) == keeper.counters.failed == 1  # it is tried again in an hour
    shutil.move(archive.folder / "fw1/2026-11-20.log", archive.folder / "aside")
    kept.once()
    assert keeper.fault is None


def test_a_copy_beside_its_plain_log_is_compared_with_it(archive: ClosedArchive) -> None:
    same, other = archive.add("fw1", "2026-11-20", LOG), archive.add("fw2", "2026-11-20", LOG)
    compressor("zstd", "-q", same)  # as after a crash between rename and deletion
    Path(f"{other}.zst").write_bytes(compressor("zstd", "-c", content=LOG[1:]))
    keeper = Kept(archive, AFTER_TWO_DAYS).once()
    assert archive.names("fw1") == ["2026-11-20.ledger", "2026-11-20.log.zst"]
    assert archive.names("fw2") == ["2026-11-20.ledger", "2026-11-20.log", "2026-11-20.log.zst"]
    assert f"{other}.zst: it does not decompress to 2026-11-20.log" in str(keeper.fault)


def test_a_compressor_that_was_killed_is_started_again(archive: ClosedArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.add("fw1", "2026-11-20", LOG)
    kept = Kept(archive, AFTER_TWO_DAYS)
    monkeypatch.setenv("RELAY_CRASH_AT", "day-compressing")
    assert "the compression of" in str(kept.once().fault)
    assert "2026-11-20.log" in archive.names("fw1")
    monkeypatch.delenv("RELAY_CRASH_AT")
    kept.keeper.exchange(RetentionTerms(compress_after=DAYS))  # a reload tries again at once
    assert kept.once().fault is None
    assert archive.names("fw1") == ["2026-11-20.ledger", "2026-11-20.log.zst"]


# --- Retention ---


def test_days_beyond_the_age_are_removed_on_record_whoever_compressed_them(
    archive: ClosedArchive, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for number, suffix in enumerate(("", ".gz", ".xz", ".zst")):
        log = archive.add("fw1", f"2026-11-1{number}", LOG)
        if suffix:
            octets = log.read_bytes()
            log.unlink()
            packed = {
                ".gz": gzip.compress(octets),
                ".xz": lzma.compress(octets, preset=0),
                ".zst": pyzstd.compress(octets),
            }
            Path(f"{log}{suffix}").write_bytes(packed[suffix])
    archive.add("~disputed/fw1", "2026-11-10")
    archive.add("fw1", "2026-11-20")
    archive.add("fw2", "2026-11-01", is_closed=False)
    foreign = archive.folder / "fw1/notes.txt"
    foreign.write_text("an administrator's")
    keeper = Kept(archive, RetentionTerms(age=10 * DAYS)).once()
    assert archive.names("fw1") == [
        *(f"2026-11-1{number}.ledger" for number in range(4)),
        *("2026-11-20.ledger", "2026-11-20.log", "notes.txt"),
    ]
    assert archive.names("~disputed/fw1") == ["2026-11-10.ledger"]
    assert archive.names("fw2") == ["2026-11-01.ledger", "2026-11-01.log"]
    line = archive.last_line("fw1", "2026-11-10")
    assert isinstance(line, Removal)
    assert (line.removed, line.cause, keeper.counters.days_removed, keeper.fault) == (NOW, "age", 5, None)
    (report,) = keeper.removed
    assert str(report).startswith("retention removed 5 days of 2 originators, ")
    assert "fw1/2026-11-10" in report.names
    assert "~disputed/fw1/2026-11-10" in report.names
    assert [record.message for record in caplog.records] == [str(report)]


def test_beyond_the_size_the_oldest_closed_days_of_all_originators_go_first(archive: ClosedArchive) -> None:
    for originator in ("fw1", "fw2"):
        for day in ("2026-11-20", "2026-11-21", "2026-11-22"):
            archive.add(originator, day, b"x" * 999 + b"\n")
    archive.add("fw3", "2026-11-01", b"x" * 999 + b"\n", is_closed=False)
    keeper = Kept(archive, RetentionTerms(size=3500)).once()
    left = [name for each in ("fw1", "fw2", "fw3") for name in archive.names(each) if name.endswith(".log")]
    assert left == ["2026-11-22.log", "2026-11-22.log", "2026-11-01.log"]
    assert keeper.counters.octets_removed == 4000
    assert isinstance(archive.last_line("fw2", "2026-11-20"), Removal)
    assert isinstance(archive.last_line("fw1", "2026-11-22"), Closing)
    assert isinstance(archive.last_line("fw3", "2026-11-01"), Extent)


def test_days_that_relay_gave_up_do_not_stop_retention_and_are_named(archive: ClosedArchive) -> None:
    """There are more of them than one look takes."""
    for number in range(5):
        archive.add("fw1", f"2026-11-0{number + 1}", b"x" * 999 + b"\n", is_closed=False)
    archive.add("fw1", "2026-11-20", b"x" * 999 + b"\n")
    archive.add("fw1", "2026-11-21", b"x" * 999 + b"\n", is_closed=False)
    kept = Kept(archive, RetentionTerms(size=5500), most_days=2)
    for _ in range(4):
        kept.once()
    assert isinstance(archive.last_line("fw1", "2026-11-20"), Removal)
    assert (kept.keeper.counters.days_removed, kept.keeper.fault is not None) == (1, True)
    assert "2026-11-01.ledger: relay gave this day up and 4 others (5.0 KB)" in str(kept.keeper.fault)
    kept.keeper.exchange(RetentionTerms(size=9999))
    assert kept.once().fault is None


def test_nothing_is_removed_by_age_while_the_clock_is_doubtful_and_size_still_counts(archive: ClosedArchive) -> None:
    archive.add("fw1", "2025-01-01")
    terms = RetentionTerms(age=DAYS)
    assert Kept(archive, terms, by_age=False, now=NOW + 3650 * DAY).once().counters.days_removed == 0
    assert Kept(archive, terms._replace(size=0), by_age=False).once().counters.days_removed == 1


def test_ledgers_without_a_log_are_deleted_from_the_oldest_on_but_never_the_newest(archive: ClosedArchive) -> None:
    for day in ("2026-11-01", "2026-11-02", "2026-11-03"):
        archive.add("fw1", day)
    Kept(archive, RetentionTerms(age=10 * DAYS)).once()
    kept = Kept(archive, RetentionTerms(age=10 * DAYS, ledgers=28 * DAYS))
    kept.once()
    assert archive.names("fw1") == ["2026-11-02.ledger", "2026-11-03.ledger"]
    assert Kept(archive, RetentionTerms(ledgers=20 * DAYS)).once().counters.ledgers_removed == 1
    assert archive.names("fw1") == ["2026-11-03.ledger"]


# --- What somebody else did ---


def test_a_day_that_vanished_is_named_once_and_forgotten_when_it_is_back(
    archive: ClosedArchive, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(archive, RetentionTerms(age=20 * DAYS))
    for day in ("2026-11-01", "2026-11-20", "2026-11-21"):
        archive.add("fw1", day)
    kept.once()
    elsewhere = archive.folder / "moved"
    shutil.move(archive.folder / "fw1/2026-11-20.log", elsewhere)
    assert kept.once().counters.vanished == 1
    assert Kept(archive, RetentionTerms()).once().counters.vanished == 0  # after a restart
    assert [record.message for record in caplog.records] == [
        "fw1/2026-11-20: the log of this closed day was deleted or moved, and not by relay's retention"
    ]
    assert read_vanished(Disk(), str(archive.folder)) == {"fw1/2026-11-20": NOW}
    shutil.move(elsewhere, archive.folder / "fw1/2026-11-20.log")
    kept.once()
    assert read_vanished(Disk(), str(archive.folder)) == {}


def test_links_and_folders_are_passed_over(archive: ClosedArchive, tmp_path: Path) -> None:
    outside = ClosedArchive(tmp_path / "outside")
    log = outside.add("fw1", "2026-11-01")
    archive.add("fw2", "2026-11-02")
    (archive.folder / "fw1").symlink_to(outside.folder / "fw1")
    (archive.folder / "fw2/2026-11-01.log").symlink_to(log)
    (archive.folder / "fw2/2026-11-03.log").mkdir()
    Kept(archive, RetentionTerms(age=DAYS, compress_after=0)).once()
    assert outside.names("fw1") == ["2026-11-01.ledger", "2026-11-01.log"]
    assert archive.names("fw2") == ["2026-11-01.log", "2026-11-02.ledger", "2026-11-03.log"]


def test_a_log_that_cannot_be_deleted_is_a_fault_and_the_next_run_deletes_it(archive: ClosedArchive) -> None:
    archive.add("fw1", "2026-11-01")
    archive.add("fw2", "2026-11-01")
    disk = _Refusing(f"{archive.folder}/fw2/2026-11-01.log")
    keeper = DayKeeper(
        disk, str(archive.folder), RetentionTerms(age=DAYS), UncommittedClosings(), lambda: True, clock=lambda: NOW
    )
    keeper.look()
    assert "fw2/2026-11-01.log: unlink failed" in str(keeper.fault)
    assert archive.names("fw1") == ["2026-11-01.ledger"]
    keeper = Kept(archive, RetentionTerms(age=999 * DAYS)).once()  # a removal on record is finished at the next start
    assert archive.names("fw2") == ["2026-11-01.ledger"]
    assert keeper.fault is None


class _Refusing(Disk):
    """A disk that cannot delete one file."""

    def __init__(self, path: str) -> None:
        self._path = path

    @override
    def remove(self, path: str) -> None:
        if path == self._path:
            raise storage_error(path, "unlink", PermissionError(1, "no"))
        super().remove(path)


# --- Many days ---


def test_a_look_at_many_originators_rests_and_can_be_stopped(
    archive: ClosedArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        archive.add(f"fw{number}", "2026-11-20")
    kept = Kept(archive, AFTER_TWO_DAYS)
    assert len(list(kept.keeper.look())) == 300
    monkeypatch.setattr(day_keeper, "_SLICE_SECONDS", 0.0)
    monkeypatch.setattr(day_keeper, "_REST", 1e9)
    kept.keeper.stop()
    assert len(list(kept.keeper.look())) <= 1


def test_the_thread_looks_again_when_a_day_begins_and_when_the_settings_change(archive: ClosedArchive) -> None:
    archive.add("fw1", "2026-11-20")
    archive.add("fw1", "2026-11-29")
    now = [begin_of("2026-11-30")]
    keeper = DayKeeper(
        Disk(),
        str(archive.folder),
        RetentionTerms(age=9 * DAYS),
        UncommittedClosings(),
        lambda: True,
        clock=lambda: now[0],
    )
    thread = Thread(target=keeper.run)
    thread.start()
    try:
        wait_until(lambda: keeper.counters.days_removed == 1, 60, "the removal of the oldest day")
        now[0] += 20 * DAY
        wait_until(lambda: keeper.counters.days_removed == 2, 60, "the removal after the clock leapt")
        archive.add("fw2", "2026-12-10")
        keeper.exchange(RetentionTerms(size=0))
        wait_until(lambda: keeper.counters.days_removed == 3, 60, "the removal after the reload")
    finally:
        keeper.stop()
        thread.join(10)
    assert not thread.is_alive()
