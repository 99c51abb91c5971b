"""What another program does to an open day is recorded in a ledger before anything is appended, and found for ever."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from archive.messages import DAY_US, NOON_US, foreign, messages_in
from archive.writer.test_write import abandon

from relay.archive import ledger
from relay.archive.completeness.assessment import AssessmentScope
from relay.archive.verification.archive_check import ArchiveCheck
from relay.archive.writer import changed_files
from relay.archive.writer.archive_writer import ArchiveWriter
from relay.system.disk import Disk

STEM = "2024-03-06"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def put(writer: ArchiveWriter, number: int, host: str = "switch1", day: int = 0) -> None:
    """Write and commit one message."""
    writer.write(foreign(number, host=host), NOON_US + day * DAY_US)
    writer.commit(b"%d" % number)


def opened(archive: Path) -> ArchiveWriter:
    return ArchiveWriter(str(archive), "spool")


def records(archive: Path, folder: str = "switch1") -> list[dict[str, Any]]:
    lines = [line for path in sorted((archive / folder).glob("*.ledger")) for line in path.read_bytes().split(b"\n")]
    return [json.loads(line) for line in lines if line.startswith(b'{"changed"')]


def defects(archive: Path) -> dict[str, int]:
    check = ArchiveCheck(Disk(), str(archive), AssessmentScope())
    counts: dict[str, int] = {}
    for originator in check.originators():
        for kind, count in originator.counts.items():
            counts[kind] = counts.get(kind, 0) + count
    return counts


def unlink(day: Path) -> None:
    day.with_suffix(".log").unlink()


def unlink_both(day: Path) -> None:
    day.with_suffix(".log").unlink()
    day.with_suffix(".ledger").unlink()


def remove_folder(day: Path) -> None:
    shutil.rmtree(day.parent)


def cut(day: Path) -> None:
    os.truncate(day.with_suffix(".log"), 7)


def empty_both(day: Path) -> None:
    os.truncate(day.with_suffix(".log"), 0)
    os.truncate(day.with_suffix(".ledger"), 0)


def cut_whole_lines_of_both(day: Path) -> None:
    """What a forger does: log and ledger agree afterwards."""
    lines = day.with_suffix(".ledger").read_bytes().splitlines(keepends=True)
    os.truncate(day.with_suffix(".log"), json.loads(lines[-2])["off"])
    day.with_suffix(".ledger").write_bytes(b"".join(lines[:-2]))


def cut_ledger(day: Path) -> None:
    os.truncate(day.with_suffix(".ledger"), 100)


def replace_by_less(day: Path) -> None:
    day.with_suffix(".log").unlink()
    day.with_suffix(".log").write_bytes(b"forged\n")


CHANGES = [
    unlink,
    unlink_both,
    remove_folder,
    cut,
    empty_both,
    cut_whole_lines_of_both,
    cut_ledger,
    replace_by_less,
]


@pytest.mark.parametrize("then", ["the same day", "the next day", "others alone"])
@pytest.mark.parametrize("when", ["running", "stopped", "crashed"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_recorded_before_anything_is_appended(
    archive: Path, change: Callable[[Path], None], when: str, then: str
) -> None:
    day = archive / "switch1" / STEM
    writer = opened(archive)
    put(writer, 1)
    put(writer, 2)
    put(writer, 2, host="other")
    if when == "crashed":
        writer.write(foreign(3), NOON_US)
        writer._write_out()
        abandon(writer)
    elif when == "stopped":
        writer.close()
    size = day.with_suffix(".log").stat().st_size
    change(day)
    present = {path.name: path.read_bytes() for path in archive.glob(f"switch1/{STEM}.l*")}
    if when != "running":
        writer = opened(archive)
    host = "other" if then == "others alone" else "switch1"
    with writer:
        put(writer, 3, host, day=0 if then == "the same day" else 1)
        put(writer, 4, "other", day=2)
    (record,) = records(archive)
    assert (record["log"], len(record["head"])) == (f"switch1/{STEM}.log", 64)
    assert record["left"][0] <= size
    assert defects(archive)["changed"] == 1
    copies = {path.name.partition("~")[2]: path.read_bytes() for path in archive.glob(".relay/changed/*")}
    if when == "crashed":  # what was not committed is cut before
        assert all(present[name].startswith(octets) for name, octets in copies.items())
    else:
        assert copies == present == {path.name: path.read_bytes() for path in archive.glob(f"switch1/{STEM}.l*")}
    later = [path for path in archive.glob("*/*.log") if path.name != f"{STEM}.log" or path.parent.name == "other"]
    assert foreign(3, host=host) in [message for path in later for message in messages_in(path)]


def append_a_line(day: Path) -> None:
    with day.with_suffix(".log").open("ab") as log:
        log.write(b"forged\n")


def rewrite_both(day: Path) -> None:
    """The last message is replaced by one of the same length, and the chain is computed anew."""
    log, path = day.with_suffix(".log"), day.with_suffix(".ledger")
    lines = path.read_bytes().splitlines(keepends=True)
    last = ledger.decode(lines[-1])
    assert isinstance(last, ledger.Extent)
    octets = log.read_bytes()[last.off :].replace(b"number", b"forged")
    log.write_bytes(log.read_bytes()[: last.off] + octets)
    path.write_bytes(b"".join(lines[:-1]) + ledger.encode(last, lines[-2], [octets]))


@pytest.mark.parametrize("change", [append_a_line, rewrite_both])
def test_what_was_written_while_the_writer_was_stopped_is_not_taken_for_its_own(
    archive: Path, change: Callable[[Path], None]
) -> None:
    with opened(archive) as writer:
        put(writer, 1)
        put(writer, 2)
    change(archive / "switch1" / STEM)
    present = (archive / "switch1" / f"{STEM}.log").read_bytes()
    with opened(archive) as writer:
        assert writer.recovered.cut == 0
        put(writer, 3)
    assert (archive / "switch1" / f"{STEM}.log").read_bytes() == present
    assert len(records(archive)) == 1
    assert defects(archive)["changed" if change is rewrite_both else "unrecorded"] == 1


def forge_in_place(path: Path) -> None:
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.write(data.replace(b"switch1", b"switch2", 1))


@pytest.mark.parametrize("suffix", [".log", ".ledger"])
def test_octets_that_are_changed_in_place_while_the_writer_runs_are_found(archive: Path, suffix: str) -> None:
    with opened(archive) as writer:
        put(writer, 1)
        put(writer, 2)
        path = archive / "switch1" / f"{STEM}{suffix}"
        forge_in_place(path)
        _later(path)
        put(writer, 3)
    (record,) = records(archive)
    assert record["cause"] == "octets of the log or ledger were changed in place"
    assert messages_in(archive / "switch1" / f"{STEM}.2.log") == [foreign(3)]
    assert defects(archive) != {}


def test_a_file_that_is_touched_with_its_octets_unchanged_is_continued(archive: Path) -> None:
    with opened(archive) as writer:
        put(writer, 1)
        for path in (archive / "switch1").iterdir():
            _later(path)
        put(writer, 2)
        put(writer, 3)
    assert records(archive) == []
    assert messages_in(archive / "switch1" / f"{STEM}.log") == [foreign(1), foreign(2), foreign(3)]


def _later(path: Path) -> None:
    """The kernel's file times may be some milliseconds coarse."""
    now = path.stat().st_mtime_ns
    os.utime(path, ns=(now, now + 1_000_000_000))


def test_a_day_that_is_back_as_it_was_is_not_a_fault(archive: Path) -> None:
    with opened(archive) as writer:
        put(writer, 1)
        (archive / "switch1").rename(archive / "moved")
        put(writer, 2)
        for path in (archive / "moved").iterdir():
            path.rename(archive / "switch1" / path.name)
        (archive / "moved").rmdir()
        put(writer, 3)
    assert len(records(archive)) == 1
    assert defects(archive) == {}
    assert [messages_in(path) for path in sorted(archive.glob("switch1/*.log"))] == [
        [foreign(2), foreign(3)],
        [foreign(1)],
    ]


def test_only_so_many_copies_are_kept_and_a_copy_is_never_in_the_way(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changed_files, "MAX_COPIES", 4)
    monkeypatch.setattr(changed_files, "MAX_OCTETS", 10)
    with opened(archive) as writer:
        for number in range(1, 6):
            put(writer, number)
            logs = sorted(archive.glob("switch1/*.log"), key=lambda path: path.stat().st_ino)
            with max(logs, key=lambda path: path.stat().st_mtime_ns).open("ab") as log:
                log.write(b"forged\n")
        copies = sorted((archive / ".relay/changed").iterdir())
        assert [path.stat().st_size for path in copies] == [10] * 4
        assert copies[-1].read_bytes().endswith(b"forged\n")
        shutil.rmtree(archive / ".relay/changed")
        (archive / ".relay/changed").touch()
        put(writer, 6)
    assert len(records(archive)) == 5
    assert "aside" in records(archive)[-1]
    assert records(archive)[-1]["aside"] == []
