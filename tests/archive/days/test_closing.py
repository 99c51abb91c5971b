"""The writer closes days, the keeper compresses and removes them, and both go on beside each other."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from archive.messages import DAY_US, NOON_US, foreign, limits, own
from archive.plain_reader import read_archive

from relay.archive.completeness.assessment import AssessmentScope
from relay.archive.days.day_keeper import DayKeeper
from relay.archive.days.retention import RetentionTerms
from relay.archive.days.uncommitted_closings import UncommittedClosings
from relay.archive.verification.archive_check import ArchiveCheck
from relay.archive.writer.archive_writer import ArchiveWriter
from relay.errors import StorageError
from relay.system.disk import Disk

AT_ONCE = RetentionTerms(compress_after=0.0)
LATER = NOON_US + 3650 * DAY_US


class Archive:
    """An archive with its writer and its keeper."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.closings = UncommittedClosings()
        self.cursor = 0

    def writer(self) -> ArchiveWriter:
        return ArchiveWriter(str(self.folder), "spool", closings=self.closings, limits=limits())

    def commit(self, writer: ArchiveWriter, received: int, *messages: bytes) -> None:
        for message in messages:
            writer.write(message, received)
        self.cursor += 1
        writer.commit(b"%d" % self.cursor)

    def keep(self, terms: RetentionTerms, now: int = LATER) -> DayKeeper:
        keeper = DayKeeper(
            Disk(), str(self.folder), terms, self.closings, lambda: True, clock=lambda: max(now, time.time_ns() // 1000)
        )
        keeper.compress(keeper.look(), until=time.monotonic() + 60)
        keeper.compressor.end()
        assert keeper.fault is None
        return keeper

    def names(self, originator: str) -> list[str]:
        return sorted(path.name for path in (self.folder / originator).iterdir())

    def messages(self) -> list[bytes]:
        return sorted(line.message for line in read_archive(self.folder))

    def last(self, path: str) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.folder / path).read_bytes().splitlines()[-1])
        return found


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


def test_a_day_is_closed_by_the_next_days_first_commit_also_of_silent_originators(archive: Archive) -> None:
    with archive.writer() as writer:
        archive.commit(writer, NOON_US, own(1, host="fw1"), foreign(1, host="fw2"))
        archive.commit(writer, NOON_US + 1, own(2, host="fw1"))
        archive.commit(writer, NOON_US + DAY_US, own(3, host="fw1"))
        for originator, messages in (("fw1", 2), ("fw2", 1)):
            closing = archive.last(f"{originator}/2024-03-06.ledger")
            assert (closing["n"], "closed" in closing) == (messages, True)
        archive.keep(AT_ONCE)
        assert archive.names("fw2") == ["2024-03-06.ledger", "2024-03-06.log.zst"]
        assert archive.names("fw1") == [
            *("2024-03-06.ledger", "2024-03-06.log.zst", "2024-03-07.ledger", "2024-03-07.log"),
        ]
        archive.commit(writer, NOON_US + DAY_US, own(4, host="fw1"), own(1, host="fw1"))
        assert writer.counters.duplicates == 1
        archive.commit(writer, NOON_US + DAY_US, own(1, host="fw1", text="forged"))
        assert (writer.counters.duplicates, writer.counters.differing) == (1, 1), "compared with the compressed log"
        archive.commit(writer, NOON_US, foreign(5, host="fw1"), foreign(6, host="fw2"))  # the clock was set back
        archive.commit(writer, NOON_US + 2 * DAY_US, foreign(7, host="fw1"))
        archive.keep(AT_ONCE)
        assert archive.names("fw2") == [
            *("2024-03-06.2.ledger", "2024-03-06.2.log.zst", "2024-03-06.ledger", "2024-03-06.log.zst"),
        ]
    expected = [own(number, host="fw1") for number in range(1, 5)] + [
        own(1, host="fw1", text="forged"),
        *(foreign(1, host="fw2"), foreign(5, host="fw1"), foreign(6, host="fw2"), foreign(7, host="fw1")),
    ]
    assert archive.messages() == sorted(expected)


def test_a_writer_that_opens_after_a_removal_continues_the_chain_and_cuts_nothing(archive: Archive) -> None:
    with archive.writer() as writer:
        archive.commit(writer, NOON_US, own(1, host="fw1"))
        archive.commit(writer, NOON_US + DAY_US, foreign(1, host="fw2"))
        keeper = archive.keep(RetentionTerms(age=1.0))
        assert keeper.counters.days_removed == 1
        assert archive.names("fw1") == ["2024-03-06.ledger"]
        archive.commit(writer, NOON_US + DAY_US, own(2, host="fw1"))
    with archive.writer() as writer:
        assert writer.recovered.cut == 0
        archive.commit(writer, NOON_US + 2 * DAY_US, own(1, host="fw1"), own(3, host="fw1"))
        assert writer.counters.removed_duplicates == 1, "what retention removed is not stored again"
    assert archive.last("fw1/2024-03-06.ledger")["cause"] == "age"
    assert archive.messages() == sorted([own(2, host="fw1"), own(3, host="fw1"), foreign(1, host="fw2")])


def test_a_closing_that_is_not_committed_keeps_the_keeper_away(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    with archive.writer() as writer:
        archive.commit(writer, NOON_US, own(1, host="fw1"))
        monkeypatch.setattr(writer._journal, "append", _fails)
        with pytest.raises(StorageError):
            archive.commit(writer, NOON_US + DAY_US, own(2, host="fw1"))
        archive.keep(RetentionTerms(age=1.0, size=0, compress_after=0.0))
        assert "2024-03-06.log" in archive.names("fw1")
    with archive.writer() as writer:
        archive.commit(writer, NOON_US + DAY_US, own(2, host="fw1"))
        archive.keep(AT_ONCE)
        assert archive.names("fw1")[:2] == ["2024-03-06.ledger", "2024-03-06.log.zst"]
    assert archive.messages() == [own(1, host="fw1"), own(2, host="fw1")]


def _fails(_: object) -> None:
    raise StorageError("journal", "a failing disk")


@pytest.mark.parametrize("restart", [False, True])
def test_days_are_closed_after_the_clock_leapt_years_ahead_and_back(archive: Archive, restart: bool) -> None:
    received = [NOON_US, NOON_US + 1000 * DAY_US, NOON_US + DAY_US, NOON_US + 2 * DAY_US, NOON_US + 3 * DAY_US]
    writer = archive.writer()
    for number, at in enumerate(received, 1):
        archive.commit(writer, at, own(number, host="fw1"))
        if restart:
            writer.close()
            writer = archive.writer()
    writer.close()
    archive.keep(AT_ONCE)
    names = archive.names("fw1")
    assert [name for name in names if name.endswith(".log")] == ["2024-03-09.log"], "every other day is closed"
    assert archive.messages() == [own(number, host="fw1") for number in range(1, 6)]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "hours",
    [
        [0, 1, 0, 2, 14],  # an hour forward and back, within a day
        [11, 13, 11, 13, 11, 40],  # the same over midnight
        [0, 87_600, 1, 87_601, 2, 30],  # ten years forward and back, twice
        [0, -87_600, 1, -87_599, 30],  # ten years back
    ],
)
def test_a_clock_that_is_set_makes_no_archive_incomplete(archive: Archive, hours: list[int], restart: bool) -> None:
    """No message is lost, no day is closed twice, and verify finds the archive whole."""
    writer = archive.writer()
    for number, hour in enumerate(hours, 1):
        archive.commit(writer, NOON_US + hour * 3_600_000_000, foreign(number, host="fw1"))
        archive.commit(writer, NOON_US + hour * 3_600_000_000, foreign(number, host="fw2"))
        if restart:
            writer.close()
            writer = archive.writer()
    writer.close()
    check = ArchiveCheck(Disk(), str(archive.folder), AssessmentScope())
    assert [found.whole for found in check.originators()] == [True, True]
    assert check.places == []
    assert sorted(archive.messages()) == sorted(
        foreign(number, host=host) for number in range(1, len(hours) + 1) for host in ("fw1", "fw2")
    )
    for path in archive.folder.glob("fw*/*.ledger"):
        assert path.read_bytes().count(b'{"closed"') <= 1


def test_a_device_that_says_1993_is_an_outlier_of_its_day(archive: Archive) -> None:
    early = foreign(1, host="fw1").replace(b"2024-03-06", b"1993-01-01")
    with archive.writer() as writer:
        archive.commit(writer, NOON_US, early, *(foreign(number, host="fw1") for number in range(2, 9)))
        archive.commit(writer, NOON_US + DAY_US, foreign(9, host="fw1"))
    closing = archive.last("fw1/2024-03-06.ledger")
    at_1993, now = _time("1993-01-01T16:34:22"), _time("2024-03-06T16:34:22")
    assert (closing["time"], closing["outliers"]) == ([now, now], [[at_1993, at_1993]])


def _time(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000
