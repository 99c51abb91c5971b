"""The archive's files and index as `verify` finds them; the archives are their own writer's."""

import shutil
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from archive.evidence import RUN, heartbeat, numbered
from archive.messages import DAY_US, NOON_US, foreign, limits, own

from relay.archive import verify as verify_module
from relay.archive.completeness.judgement import JudgementScope
from relay.archive.verify import ArchiveCheck, ArchiveDefect, ArchiveNotice, Originator
from relay.archive.writer.archive_writer import ArchiveWriter
from relay.errors import NoInputError
from relay.system.disk import Disk

LIMIT = 8 * 1024 * 1024
"""Octets that a check of an archive of any size may take, with one originator and one run."""


def keep(archive: Path, messages: Iterable[bytes], day: int = 0) -> None:
    with ArchiveWriter(str(archive), "spool") as writer:
        put(writer, messages, day)


def put(writer: ArchiveWriter, messages: Iterable[bytes], day: int = 0) -> None:
    for message in messages:
        writer.write(message, NOON_US + day * DAY_US)
    writer.commit(b"1")


def checked(archive: Path, first_day: str = "") -> tuple[ArchiveCheck, dict[str, Originator]]:
    check = ArchiveCheck(Disk(), str(archive), JudgementScope(begun=bool(first_day)), first_day)
    return check, {each.name: each for each in check.originators()}


def kinds(items: Iterable[ArchiveDefect | ArchiveNotice]) -> list[str]:
    return [item.kind for item in items]


def only_file(archive: Path, name: str = "router1") -> Path:
    (path,) = (archive / name).glob("*.log")
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    keep(tmp_path, [*numbered(1, 2, 3), foreign(7)])
    return tmp_path


# --- What there is ---


def test_days_and_originators_are_checked_one_after_the_other(archive: Path) -> None:
    keep(archive, numbered(4, 5), day=1)
    check, found = checked(archive)
    assert list(found) == ["router1", "switch1"]
    assert all(each.whole for each in found.values())
    assert found["router1"].days == ("2024-03-06", "2024-03-07")
    assert found["router1"].octets == sum(path.stat().st_size for path in (archive / "router1").glob("*.log"))
    assert (check.pid, check.indexed, check.places, check.warnings) == (None, True, [], [])


def test_an_empty_archive_is_whole(tmp_path: Path) -> None:
    keep(tmp_path, ())
    check, found = checked(tmp_path)
    assert (check.indexed, check.places, found) == (True, [], {})


def test_what_is_no_archive_is_no_input(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(NoInputError):
            checked(path)


# --- What is being written ---


def test_the_end_of_the_newest_file_is_being_written_while_a_writer_runs_and_damage_when_none_does(
    archive: Path,
) -> None:
    with ArchiveWriter(str(archive), "spool"), only_file(archive).open("ab") as file:
        file.write(b"500 <13>1 half a mess")
        file.flush()
        check, found = checked(archive)
        assert found["router1"].whole
        assert (found["router1"].being_written, check.warnings) == (21, [])
        assert check.pid is not None
    check, found = checked(archive)
    assert kinds(found["router1"].places) == ["damaged"]
    assert check.warnings == [ArchiveNotice("uncommitted", str(only_file(archive)), 21)]


def test_the_end_of_an_older_file_is_damage_also_while_a_writer_runs(archive: Path) -> None:
    older = only_file(archive)
    with ArchiveWriter(str(archive), "spool") as writer:
        put(writer, numbered(4), day=1)
        older.write_bytes(older.read_bytes()[:-5])
        _, found = checked(archive)
    assert found["router1"].damaged == 1


def test_a_message_that_waits_for_its_commit_counts_as_there(archive: Path) -> None:
    with ArchiveWriter(str(archive), "spool", limits=limits(max_pending=0)) as writer:
        writer.write(own(4, run=RUN.hex()), NOON_US)
        check, found = checked(archive)
        assert (found["router1"].judgement.messages, found["router1"].whole, check.warnings) == (4, True, [])


# --- The index ---


def test_what_was_cut_or_removed_is_told_by_the_index(archive: Path) -> None:
    router, switch = only_file(archive), only_file(archive, "switch1")
    size, switch_size = router.stat().st_size, switch.stat().st_size
    router.write_bytes(router.read_bytes()[: size // 3])
    shutil.rmtree(archive / "switch1")
    check, found = checked(archive)
    assert check.places == [
        ArchiveDefect("file cut", str(router), size // 3, size - size // 3),
        ArchiveDefect("file gone", str(switch), 0, switch_size),
    ]
    (gone,) = found["router1"].judgement.faults
    assert (gone.kind, gone.ranges) == ("gone", ((2, 3),))


def test_an_originator_whose_folder_is_gone_is_judged_by_the_index(archive: Path) -> None:
    shutil.rmtree(archive / "router1")
    _, found = checked(archive)
    (gone,) = found["router1"].judgement.faults
    assert (gone.kind, gone.ranges, found["router1"].days) == ("gone", ((1, 3),), ())


def test_a_damaged_index_is_a_fault_and_what_is_left_of_it_still_counts(archive: Path) -> None:
    keep(archive, [foreign(8)])
    journal = archive / ".relay" / "journal"
    data = bytearray(journal.read_bytes())
    data[40] ^= 1
    journal.write_bytes(data)
    check, _ = checked(archive)
    assert kinds(check.places) == ["index"]


@pytest.mark.parametrize("octets", [0, 3, 8, 20])
def test_an_index_of_which_nothing_is_left_is_a_fault(archive: Path, octets: int) -> None:
    """No crash leaves one: it takes its place with its first entry in it."""
    with (archive / ".relay" / "journal").open("r+b") as journal:
        journal.truncate(octets)
    check, _ = checked(archive)
    assert kinds(check.places) == ["index"]


def test_without_an_index_the_numbers_alone_tell(archive: Path) -> None:
    shutil.rmtree(archive / ".relay")
    check, found = checked(archive)
    assert (check.indexed, check.places) == (False, [])
    assert found["router1"].whole


# --- A later beginning ---


def test_with_a_first_day_older_files_and_what_stood_in_them_are_left_out(archive: Path) -> None:
    keep(archive, [*numbered(4, 6, 7), heartbeat(9, audit=7, relay=8)], day=1)
    only = archive / "router1" / "2024-03-06.log"
    _, found = checked(archive, "2024-03-07")
    assert found["router1"].judgement.faults[0].ranges == ((5, 5),)
    assert found["router1"].judgement.messages == 4
    assert "switch1" in found
    only.unlink()
    check, found = checked(archive, "2024-03-07")
    assert (check.places, found["router1"].judgement.missing) == ([], 1)
    assert checked(archive)[1]["router1"].judgement.missing == 3 + 1 + 8


# --- What else lies there ---


def test_what_relay_did_not_make_is_told_and_not_read(archive: Path) -> None:
    strange = [archive / "notes", archive / "lost+found", archive / "router1" / "2024-03-05.log.gz"]
    strange[0].touch()
    strange[1].mkdir()
    strange[2].touch()
    link = archive / "router1" / "2024-03-04.log"
    link.symlink_to(strange[0])
    check, found = checked(archive)
    assert sorted(check.warnings) == sorted(ArchiveNotice("foreign", str(path)) for path in (*strange, link))
    assert found["router1"].whole


def test_modes_that_let_others_write_are_told(archive: Path) -> None:
    path = only_file(archive)
    path.chmod(0o620)
    (archive / "switch1").chmod(0o777)
    check, _ = checked(archive)
    assert check.warnings == [ArchiveNotice("open", str(path)), ArchiveNotice("open", str(archive / "switch1"))]


def test_copies_of_what_the_writer_cut_are_told(archive: Path) -> None:
    with only_file(archive).open("ab") as file:
        file.write(b"500 <13>1 half a mess")
    keep(archive, ())
    check, found = checked(archive)
    assert kinds(check.warnings) == ["copy"]
    assert found["router1"].whole


# --- Ceilings ---


def test_places_beyond_the_ceiling_are_counted(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "MAX_PLACES", 2)
    path = only_file(archive)
    path.write_bytes(path.read_bytes() * 2)
    _, found = checked(archive)
    assert (len(found["router1"].places), found["router1"].doubles, found["router1"].broken) == (2, 3, 3)


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    """120 MB of one originator."""
    path = tmp_path / "router1" / "2024-03-06.log"
    path.parent.mkdir()
    text = "x" * 4000
    with path.open("wb") as file:
        for number in range(1, 30_001):
            message = own(number, text=text)
            file.write(message + b"\n")
    tracemalloc.start()
    try:
        _, found = checked(tmp_path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found["router1"].whole, found["router1"].judgement.numbered) == (True, 30_000)
    assert path.stat().st_size > 100_000_000
    assert most < LIMIT
