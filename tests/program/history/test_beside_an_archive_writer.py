"""Beside the real writer of an archive: a reader that continues gets every message, also after the writer crashed."""

import threading
from pathlib import Path

import pytest
from archive.messages import DAY_US, NOON_US, foreign, limits, own
from program.history.spools import texts

from relay.archive.writer.archive_writer import ArchiveWriter
from relay.program.history.archive_history import ArchiveHistory
from relay.program.history.bookmark import Bookmark
from relay.program.history.event_filter import EventFilter
from relay.program.history.past_event import PastEvent
from relay.system.disk import Disk

MESSAGES = 600
EACH = 20


def history(archive: Path, bookmark: Bookmark | None = None, **conditions: object) -> ArchiveHistory:
    positions = bookmark.archive_positions() if bookmark else None
    chosen = EventFilter(**conditions)  # type: ignore[arg-type]  # a test's conditions
    return ArchiveHistory(Disk(), str(archive), chosen, following=bookmark is not None, positions=positions)


def write(archive: Path, pace: threading.Semaphore) -> None:
    """Two originators and three days, a commit for every few messages."""
    with ArchiveWriter(str(archive), "spool", limits=limits(max_open=4)) as writer:
        for number in range(1, MESSAGES + 1):
            day = number * 3 // (MESSAGES + 1)
            writer.write(own(number, host=f"r{number % 2}"), NOON_US + day * DAY_US)
            if number % EACH == 0:
                writer.commit(b"%d" % number)
                pace.acquire(timeout=30)


def test_a_reader_with_a_bookmark_gets_everything_once(tmp_path: Path) -> None:
    """It ends and begins again after each look."""
    archive = tmp_path / "archive"
    (archive / ".relay").mkdir(parents=True)
    pace = threading.Semaphore(0)
    writing = threading.Thread(target=write, args=(archive, pace))
    writing.start()
    found: list[str] = []
    bookmark = Bookmark(Disk(), str(tmp_path / "bookmark"))
    for _ in range(MESSAGES // EACH + 2):
        reader = history(archive, bookmark)
        found += texts(reader.events())
        bookmark.save_archive(reader.positions)
        pace.release()
    writing.join(60)
    reader = history(archive, bookmark)
    found += texts(reader.events())
    assert sorted(map(int, found)) == list(range(1, MESSAGES + 1))
    for remainder in (0, 1):
        of_one = [int(number) for number in found if int(number) % 2 == remainder]
        assert of_one == sorted(of_one)
    assert texts(history(archive).newest(EACH)) == texts(history(archive).events())[-EACH:]


@pytest.mark.parametrize("seconds", [0, 1])
def test_what_a_crash_took_back_comes_again_and_nothing_is_left_out(tmp_path: Path, seconds: int) -> None:
    archive = tmp_path / "archive"
    with ArchiveWriter(str(archive), "spool") as writer:
        writer.write(own(1), NOON_US)
        writer.commit(b"1")
    bookmark = Bookmark(Disk(), str(tmp_path / "bookmark"))
    reader = history(archive, bookmark)
    assert texts(reader.events()) == ["1"]
    crashed = ArchiveWriter(str(archive), "spool", limits=limits(max_pending=0))
    for number in (2, 3):
        crashed.write(own(number), NOON_US)
    seen = [item.message[-1:].decode() for item in reader.events() if isinstance(item, PastEvent)]
    bookmark.save_archive(reader.positions)
    crashed.close()
    with ArchiveWriter(str(archive), "spool") as writer:  # cuts off what was not committed
        for number in (3, 2, 4):
            writer.write(own(number), NOON_US + seconds * 1_000_000)
        writer.commit(b"2")
    again = [item for item in history(archive, bookmark).events() if isinstance(item, PastEvent)]
    assert sorted({*seen, *texts(again)}) == ["2", "3", "4"]
    assert texts(again)[-1] == "4"


@pytest.mark.parametrize("form", ["text", "json"])
def test_both_formats_are_searched(tmp_path: Path, form: str) -> None:
    with ArchiveWriter(str(tmp_path), "spool", archive_format=form) as writer:
        for number in range(1, 30):
            writer.write(own(number, text=f'say "a\\b/c" \xe4 {number}'), NOON_US)
            writer.write(foreign(number), NOON_US)
        writer.write(b"<13>1 - switch1 - - - - latin \xff end", NOON_US)
        writer.commit(b"1")
    assert texts(history(tmp_path, texts=(b'"a\\b/c"',)).events()) == [str(number) for number in range(1, 30)]
    assert texts(history(tmp_path, texts=("\xe4 7".encode(),)).events()) == ["7"]
    assert texts(history(tmp_path, texts=(b"latin \xff",)).events()) == ["end"]
    assert texts(history(tmp_path, types=frozenset({"audit"}), texts=(b" 2",)).newest(3)) == ["27", "28", "29"]
