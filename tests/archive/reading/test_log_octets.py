"""A log's octets by offset."""

import gzip
from contextlib import closing
from pathlib import Path

import pytest

from relay.archive.layout import DayFiles, days_in
from relay.archive.reading.log_octets import open_day, open_log
from relay.errors import DataError, NoInputError


def test_a_plain_log_is_read_by_offset_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "2026-11-30.log"
    path.write_bytes(b"0123456789")
    log = open_log(str(path))
    assert (log.size(), log.read(3, 4), log.read(8, 9), log.read(20, 1)) == (10, b"3456", b"89", b"")
    with path.open("ab") as file:
        file.write(b"ab")
    assert (log.size(), log.read(8, 9)) == (12, b"89ab")
    log.close()
    log.close()


def test_a_missing_log_and_a_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link.log").symlink_to("/etc/hostname")
    for name in ("none.log", "link.log"):
        with pytest.raises(NoInputError, match=name):
            open_log(str(tmp_path / name))


def test_the_plain_log_of_a_day_is_read_before_its_compressed_copies(tmp_path: Path) -> None:
    plain, copy = tmp_path / "2026-11-30.log", tmp_path / "2026-11-30.log.gz"
    plain.write_bytes(b"plain")
    copy.write_bytes(gzip.compress(b"copy"))
    (day,) = days_in(path.name for path in tmp_path.iterdir())
    assert _content(tmp_path, day) == b"plain"
    plain.unlink()  # after the folder was listed
    assert _content(tmp_path, day) == b"copy"


def test_a_damaged_copy_of_a_day_is_passed_over_for_a_whole_one(tmp_path: Path) -> None:
    (tmp_path / "2026-11-30.log.zst").write_bytes(b"")
    (damaged,) = days_in(path.name for path in tmp_path.iterdir())
    with pytest.raises(DataError, match=r"2026-11-30.log.zst"):
        open_day(str(tmp_path), damaged)
    (tmp_path / "2026-11-30.log.gz").write_bytes(gzip.compress(b"whole"))
    (day,) = days_in(path.name for path in tmp_path.iterdir())
    assert _content(tmp_path, day) == b"whole"


def test_a_day_without_a_log_is_named(tmp_path: Path) -> None:
    (day,) = days_in(["2026-11-30.2.ledger"])
    with pytest.raises(NoInputError, match=f"{tmp_path}/2026-11-30.2: the day has no log"):
        open_day(str(tmp_path), day)


def _content(folder: Path, day: DayFiles) -> bytes:
    with closing(open_day(str(folder), day)) as log:
        return log.read(0, 100)
