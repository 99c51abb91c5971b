"""Writing the archive: exactly once, through kills, power cuts, full disks and damage."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from archive.killed_writer import message
from archive.messages import DAY_US, NOON_US, all_stored, foreign, limits, messages_in, number_of, own, stored
from archive.mortal_disk import DiedError, MortalDisk
from archive.plain_reader import read_archive
from harness.rights import WITHOUT_ROOTS_RIGHTS
from harness.small_disk import SmallDisk

from relay.archive.filing.filing_policy import FilingPolicy, FilingTerms
from relay.archive.writer import recovery
from relay.archive.writer.archive_counters import ArchiveCounters
from relay.archive.writer.archive_writer import ArchiveWriter
from relay.archive.writer.journal import MAGIC
from relay.errors import StorageError, TemporaryError
from relay.system.disk import Disk, File
from relay.system.files.file_access import FileAccess
from relay.values.provenance import Provenance

TESTS = Path(__file__).parents[2]
DAY = "2024-03-06.log"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def fill(archive: Path, messages: list[bytes], cursor: bytes = b"1", spool_id: str = "spool") -> list[bool]:
    """Open, write, commit, close."""
    with ArchiveWriter(str(archive), spool_id) as writer:
        new = [writer.write(each, NOON_US) for each in messages]
        writer.commit(cursor)
    return new


def abandon(writer: ArchiveWriter) -> None:
    """Leave a writer as a killed process leaves it."""
    writer._logs.files.close_all()  # else each of hundreds of writers leaves its threads
    writer._lock.release()


# --- The layout ---


def test_the_layout_is_one_file_an_originator_and_day_of_receipt(archive: Path) -> None:
    with ArchiveWriter(str(archive), "spool") as writer:
        writer.write(b"<13>1 - host1 a - - - one\ntwo", NOON_US)
        writer.write(b"<13>1 - host1 a - - - late", NOON_US + DAY_US // 2)
        writer.write(b"<13>1 - - a - - - nobody's", NOON_US, Provenance("192.0.2.1"))
        writer.write(b"not RFC 5424", NOON_US, Provenance("192.0.2.1"))
        writer.commit(b"1")
    files = {str(path.relative_to(archive)): path.read_bytes() for path in archive.glob("*/*.log")}
    assert files == {
        "host1/2024-03-06.log": b"<13>1 - host1 a - - - one#012two\n",
        "host1/2024-03-07.log": b"<13>1 - host1 a - - - late\n",
        "192.0.2.1/2024-03-06.log": b"<13>1 - - a - - - nobody's\nnot RFC 5424\n",
    }


def test_octets_of_every_kind_stand_as_they_came(archive: Path) -> None:
    messages = [
        b"<13>1 - h a - - - LF \n and NUL \0 and CR \r\n",
        b"<13>1 - h a - - - invalid \xff\xfe UTF-8",
        b"\n9 <13>1 - x",
        own(1, text="a\nb\n"),
        b"<13>1 - h a - - - " + bytes(range(256)) * 1000,
    ]
    fill(archive, messages)
    assert sorted(all_stored(archive)) == sorted(messages)


@pytest.mark.parametrize("host", ["../../etc/passwd", ".", "..", ".relay", "~others", "a" * 255, "a/b", "%2E", "x\\y"])
def test_hostile_names_stay_inside(archive: Path, host: str) -> None:
    fill(archive, [own(1, host=host), own(1, host="router1")])
    assert sorted(path.name for path in archive.parent.iterdir()) == ["archive"]
    assert len(stored(archive)) == 2
    assert all_stored(archive).count(own(1, host=host)) == 1


def test_more_originators_than_files_may_be_open_and_than_the_ceiling(archive: Path) -> None:
    hosts = [f"router{number}" for number in range(200)]
    with ArchiveWriter(
        str(archive),
        "spool",
        policy=FilingPolicy(FilingTerms(most_originators=190)),
        limits=limits(max_open=20, max_pending=30_000),
    ) as writer:
        for number in (1, 2):
            for host in hosts:
                assert writer.write(own(number, host=host, run=host), NOON_US, Provenance("127.0.0.1"))
            writer.commit(b"%d" % number)
        assert len(os.listdir("/proc/self/fd")) < 100
    found = stored(archive)
    assert len(found) == 191
    assert len(found[f"127.0.0.1/{DAY}"]) == 20
    assert sum(map(len, found.values())) == 400


# --- Exactly once ---


def test_duplicates_are_told_counted_and_not_stored(archive: Path) -> None:
    with ArchiveWriter(str(archive), "spool") as writer:
        assert writer.write(own(1), NOON_US)
        assert not writer.write(own(1), NOON_US + DAY_US)
        assert writer.write(own(1, kind="admin"), NOON_US)
        assert writer.write(own(1, run="60"), NOON_US)
        assert writer.write(own(1, host="router2"), NOON_US)
        assert writer.write(own(2, part="1/2"), NOON_US)
        assert writer.write(own(2, part="2/2"), NOON_US)
        assert not writer.write(own(2, part="1/2"), NOON_US)
        assert not writer.write(own(2), NOON_US)
        writer.commit(b"1")
        assert writer.counters.duplicates == 3
        assert writer.counters.messages == 6
    assert len(all_stored(archive)) == 6


def test_what_is_never_committed_is_not_counted_because_it_comes_again(archive: Path) -> None:
    counters = ArchiveCounters()
    for cursor in (b"", b"", b"1"):
        with ArchiveWriter(str(archive), "spool", counters=counters) as writer:
            assert [writer.write(own(1), NOON_US) for _ in range(2)] == [True, False]
            if cursor:
                writer.commit(cursor)
    assert (counters.messages, counters.duplicates) == (1, 1)


def test_duplicates_are_known_after_a_restart_and_on_other_days(archive: Path) -> None:
    fill(archive, [own(number) for number in range(10)] + [own(20, part="1/2")])
    with ArchiveWriter(str(archive), "spool") as writer:
        assert not any(writer.write(own(number), NOON_US + 3 * DAY_US) for number in range(10))
        assert not writer.write(own(20, part="1/2"), NOON_US)
        assert writer.write(own(20, part="2/2"), NOON_US)
        assert writer.write(own(10), NOON_US)
        writer.commit(b"2")


def test_messages_without_identity_are_never_duplicates(archive: Path) -> None:
    assert fill(archive, [foreign(1), foreign(1)]) == [True, True]


def test_an_identity_with_absurd_numbers_is_none(archive: Path) -> None:
    absurd = [own(2**63 + 5), own(1, part="1/99999")]
    assert fill(archive, absurd * 2) == [True] * 4
    assert fill(archive, absurd) == [True, True]


def test_the_cursor_is_what_the_last_commit_was_given(archive: Path) -> None:
    with ArchiveWriter(str(archive), "spool") as writer:
        writer.write(own(1), NOON_US)
        assert writer.cursor is None
    with ArchiveWriter(str(archive), "spool") as writer:
        writer.write(own(1), NOON_US)
        writer.commit(b"\x00\xff")
        assert writer.cursor == b"\x00\xff"
        writer.write(own(2), NOON_US)
    with ArchiveWriter(str(archive), "spool") as writer:
        assert writer.cursor == b"\x00\xff"
    assert all_stored(archive) == [own(1)]


def test_what_was_written_ahead_but_not_committed_is_cut_and_comes_again(archive: Path) -> None:
    fill(archive, [foreign(1)])
    writer = ArchiveWriter(str(archive), "spool", limits=limits(max_pending=10))
    writer.write(foreign(2), NOON_US)
    writer.write(foreign(3, host="new"), NOON_US)
    abandon(writer)
    assert len(all_stored(archive)) == 3
    with ArchiveWriter(str(archive), "spool") as writer:
        assert writer.recovered.cut > 0
        assert all_stored(archive) == [foreign(1)]
        writer.write(foreign(2), NOON_US)
        writer.write(foreign(3, host="new"), NOON_US)
        writer.commit(b"2")
    assert sorted(all_stored(archive)) == sorted([foreign(1), foreign(2), foreign(3, host="new")])
    copy = (archive / ".relay" / "cut-1").read_bytes()
    assert foreign(2) in copy
    assert f"switch1/{DAY} ".encode() in copy


def test_only_the_last_copies_are_kept(archive: Path) -> None:
    for _ in range(recovery.MAX_COPIES + 3):
        writer = ArchiveWriter(str(archive), "spool", limits=limits(max_pending=1))
        writer.write(foreign(1), NOON_US)
        abandon(writer)
    names = [path.name for path in (archive / ".relay").glob("cut-*")]
    assert len(names) == recovery.MAX_COPIES
    assert f"cut-{recovery.MAX_COPIES + 2}" in names


# --- Kills and power cuts ---


def test_a_writer_killed_at_random_moments_stores_everything_once(archive: Path) -> None:
    """SIGKILL of a real process, 15 times; the oracle is the sequence itself, foreign messages included."""
    total = 1500
    rng = random.Random(5)
    argv = [sys.executable, str(TESTS / "archive" / "killed_writer.py"), str(archive), str(total)]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    for _ in range(15):
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.read(rng.randrange(1, 160))
            child.kill()
    subprocess.run(argv, env=env, stdout=subprocess.DEVNULL, check=True)
    assert sorted(all_stored(archive)) == sorted(message(number) for number in range(1, total + 1))
    for messages in stored(archive).values():
        numbers = [number_of(each) for each in messages]
        assert numbers == sorted(numbers)
    assert len(read_archive(archive)) == total


def play(archive: Path, disk: Disk, told: list[int]) -> None:
    """From the cursor to 14, with commits, an early write-out, evictions; `told` are the cursors that came back."""
    writer = ArchiveWriter(
        str(archive), "spool", disk=disk, limits=limits(max_pending=400, max_open=2, journal_size=600, journal_growth=0)
    )
    try:
        for number in range(int(writer.cursor or b"0") + 1, 15):
            host = f"router{number % 3}"
            text = own(number, host=host) if number % 4 else foreign(number, host=host)
            writer.write(text, NOON_US + (DAY_US if number > 7 else 0))
            if number % 5 == 0 or number == 14:
                writer.commit(b"%d" % number)
                told.append(number)
    finally:
        abandon(writer)


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power cut"])
def test_death_at_every_call_to_the_disk(archive: Path, power: bool) -> None:
    """Also while it recovers from the death before, and while it begins its journal anew."""
    play(archive, counter := MortalDisk(), [])
    assert counter.calls > 60
    for dies_at in range(1, counter.calls + 1):
        shutil.rmtree(archive)
        told = [0]
        for again in (dies_at, 1 + dies_at % 17, 0):
            disk = MortalDisk(again)
            try:
                play(archive, disk, told)
            except DiedError:
                if power:
                    disk.cut_power()
            else:
                break
            with ArchiveWriter(str(archive), "spool") as writer:
                assert int(writer.cursor or b"0") >= told[-1], f"call {dies_at}: a cursor that was told is lost"
        found = sorted(number_of(each) for each in all_stored(archive))
        assert found == list(range(1, 15)), f"death at call {dies_at}"
        assert len(read_archive(archive)) == 14


# --- The disk fails ---


class FailingFile(File):
    """Fails every sync, or every write, once it is told to."""

    failing: str = ""

    def write(self, data: bytes | memoryview, offset: int) -> None:
        if FailingFile.failing == "write":
            super().write(bytes(data)[: len(data) // 2], offset)
            error = StorageError(self.path, "write failed: No space left on device")
            error.errno = errno.ENOSPC
            raise error
        super().write(data, offset)

    def sync(self) -> None:
        if FailingFile.failing == "sync":
            raise StorageError(self.path, "fdatasync failed: Input/output error")
        super().sync()


class FailingDisk(Disk):
    def open(self, path: str, *, create: bool = False, writable: bool = True) -> File:
        file = super().open(path, create=create, writable=writable)
        return FailingFile(file.path, file.descriptor)


@pytest.mark.parametrize("call", ["write", "sync"])
def test_after_a_failed_commit_the_writer_is_void_and_a_new_one_goes_on(
    archive: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ArchiveWriter(str(archive), "spool", disk=FailingDisk())
    writer.write(foreign(1), NOON_US)
    writer.commit(b"1")
    writer.write(foreign(2), NOON_US)
    monkeypatch.setattr(FailingFile, "failing", call)
    with pytest.raises(StorageError):
        writer.commit(b"2")
    monkeypatch.setattr(FailingFile, "failing", "")
    assert writer.cursor == b"1"
    with pytest.raises(StorageError, match="open the archive anew"):
        writer.write(foreign(2), NOON_US)
    with pytest.raises(StorageError, match="open the archive anew"):
        writer.commit(b"2")
    writer.close()
    with ArchiveWriter(str(archive), "spool") as again:
        assert again.cursor == b"1"
        again.write(foreign(2), NOON_US)
        again.commit(b"2")
    assert all_stored(archive) == [foreign(1), foreign(2)]


class UnsureFile(File):
    """A journal whose octets stay in memory when it cannot be synced, as they do in a kernel's cache."""

    failing = False

    def sync(self) -> None:
        super().sync()
        if self.failing and self.path.endswith("/journal"):
            raise StorageError(self.path, "fdatasync failed: Input/output error")


class UnsureDisk(Disk):
    def open(self, path: str, *, create: bool = False, writable: bool = True) -> File:
        file = super().open(path, create=create, writable=writable)
        return UnsureFile(file.path, file.descriptor)


def test_a_commit_that_was_not_reported_is_not_found_by_the_next_writer(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session's cursor did not move, so its messages come again, also those without an identity."""
    with ArchiveWriter(str(archive), "spool", disk=UnsureDisk()) as writer:
        writer.write(foreign(1), NOON_US)
        writer.commit(b"1")
        writer.write(foreign(2), NOON_US)
        monkeypatch.setattr(UnsureFile, "failing", True)
        with pytest.raises(StorageError):
            writer.commit(b"2")
        monkeypatch.setattr(UnsureFile, "failing", False)
    with ArchiveWriter(str(archive), "spool") as again:
        assert again.cursor == b"1"
        again.write(foreign(2), NOON_US)
        again.commit(b"2")
    assert all_stored(archive) == [foreign(1), foreign(2)]


class BadFile(File):
    """A file on a bad sector: its octets cannot be made durable."""

    def sync(self) -> None:
        if "bad1" in self.path:
            error = StorageError(self.path, "fdatasync failed: Input/output error")
            error.errno = errno.EIO
            raise error
        super().sync()


class BadDisk(Disk):
    def open(self, path: str, *, create: bool = False, writable: bool = True) -> File:
        file = super().open(path, create=create, writable=writable)
        return BadFile(file.path, file.descriptor) if path.endswith(f"bad1/{DAY}") else file


def test_a_bad_sector_costs_one_part_of_one_originator(archive: Path) -> None:
    """The next writer of the same program stores the same messages elsewhere."""
    unusable: set[str] = set()
    failures = 0
    for _ in range(4):
        try:
            with ArchiveWriter(str(archive), "spool", disk=BadDisk(), unusable=unusable) as writer:
                for number in range(int(writer.cursor or b"0") + 1, 3):
                    writer.write(foreign(number, host="bad1"), NOON_US)
                    writer.write(foreign(number, host="good"), NOON_US)
                    writer.commit(b"%d" % number)
        except StorageError:
            failures += 1
    assert failures == 1
    assert messages_in(archive / "bad1" / "2024-03-06.2.log") == [foreign(number, host="bad1") for number in (1, 2)]
    assert messages_in(archive / "good" / DAY) == [foreign(number, host="good") for number in (1, 2)]


def test_on_a_full_disk_the_cut_is_made_without_its_copy(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = ArchiveWriter(str(archive), "spool", limits=limits(max_pending=1))
    writer.write(foreign(1), NOON_US)
    abandon(writer)
    former = {f"cut-{number}" for number in range(1, recovery.MAX_COPIES + 1)}
    for name in former:
        (archive / ".relay" / name).touch()
    monkeypatch.setattr(FailingFile, "failing", "write")
    with ArchiveWriter(str(archive), "spool", disk=FailingDisk()) as again:
        assert all_stored(archive) == []
        copies = {name for name in os.listdir(archive / ".relay") if name.startswith("cut-")}
        assert copies == former, "a copy that cannot be finished replaces none"
        assert "journal.new" not in os.listdir(archive / ".relay"), "there is no room for it: the old one is continued"
        again.write(foreign(1), NOON_US)
        with pytest.raises(StorageError):
            again.commit(b"1")
    monkeypatch.setattr(FailingFile, "failing", "")
    assert fill(archive, [foreign(1)]) == [True]
    assert all_stored(archive) == [foreign(1)]


@pytest.mark.parametrize("tail", [b"", b"RELAYJ2\n"])
def test_a_journal_that_is_continued_on_a_full_disk_loses_nothing(
    archive: Path, monkeypatch: pytest.MonkeyPatch, tail: bytes
) -> None:
    fill(archive, [own(1), foreign(1)])
    with (archive / ".relay/journal").open("ab") as journal:
        journal.write(tail)
    monkeypatch.setattr(FailingFile, "failing", "write")
    with ArchiveWriter(str(archive), "spool", disk=FailingDisk()) as writer:
        monkeypatch.setattr(FailingFile, "failing", "")
        assert (writer.cursor, writer.write(own(1), NOON_US)) == (b"1", False)
        writer.write(own(2), NOON_US)
        writer.commit(b"2")
    with ArchiveWriter(str(archive), "spool") as writer:
        assert (writer.cursor, writer.recovered.damaged, writer.recovered.cut) == (b"2", False, 0)
    assert sorted(all_stored(archive)) == sorted([own(1), foreign(1), own(2)])


# --- Damage, and a spool that was lost ---


def whole_archive(archive: Path) -> Path:
    """Five commits of own and foreign messages; gives the journal."""
    with ArchiveWriter(str(archive), "spool") as writer:
        for number in range(1, 26):
            writer.write(own(number, host=f"router{number % 3}"), NOON_US)
            if number % 5 == 0:
                writer.commit(b"%d" % number)
    return archive / ".relay" / "journal"


def test_a_damaged_journal_is_kept_stepped_over_and_nothing_is_lost_or_doubled(archive: Path) -> None:
    journal = whole_archive(archive)
    data = journal.read_bytes()
    rng = random.Random(7)
    places = sorted(rng.sample(range(len(data)), 60))
    safe = archive.parent / "safe"
    shutil.copytree(archive, safe)
    for place in places:
        shutil.rmtree(archive)
        shutil.copytree(safe, archive)
        damaged = bytearray(data)
        damaged[place] ^= 0x55
        journal.write_bytes(damaged)
        with ArchiveWriter(str(archive), "spool") as writer:
            assert writer.recovered.damaged
            assert int(writer.cursor or b"0") >= 20
            for number in range(1, 31):
                assert writer.write(own(number, host=f"router{number % 3}"), NOON_US) == (number > 25), place
            writer.commit(b"30")
        assert sorted(map(number_of, all_stored(archive))) == list(range(1, 31)), place
        assert (archive / ".relay" / "journal.damaged-1").read_bytes() == damaged


def test_a_torn_journal_tail_takes_the_archive_back_to_the_commit_before(archive: Path) -> None:
    journal = whole_archive(archive)
    data = journal.read_bytes()
    journal.write_bytes(data[: data.rfind(b"RELAYJ2\n") - 3])  # without the last record, by which the writer stopped
    with ArchiveWriter(str(archive), "spool") as writer:
        assert writer.cursor == b"20"
        assert not writer.recovered.damaged
        assert sorted(map(number_of, all_stored(archive))) == list(range(1, 21))


def test_a_lost_journal_is_replaced_by_what_the_files_say(archive: Path) -> None:
    journal = whole_archive(archive)
    for content in (None, b"", MAGIC, b"nonsense"):
        journal.unlink()
        if content is not None:
            journal.write_bytes(content)
        with ArchiveWriter(str(archive), "spool") as writer:
            assert writer.cursor is None
            assert writer.recovered.learned == 25
            assert not any(writer.write(own(number, host=f"router{number % 3}"), NOON_US) for number in range(1, 26))


def test_an_older_copy_of_the_journal_cuts_nothing_that_the_spool_has_deleted(archive: Path) -> None:
    """A backup of a running archive has the journal first, because its folder's name begins with a dot."""
    journal = archive / ".relay" / "journal"
    fill(archive, [own(1), foreign(1)])
    older = journal.read_bytes()
    fill(archive, [own(2), foreign(2)], cursor=b"2")
    journal.write_bytes(older)
    with ArchiveWriter(str(archive), "spool", is_outdated=lambda cursor: int(cursor) < 2) as writer:
        assert (writer.cursor, writer.recovered.cut) == (b"1", 0)
        assert not writer.write(own(2), NOON_US)
        writer.write(own(3), NOON_US)
        writer.commit(b"3")
    assert sorted(all_stored(archive)) == sorted([own(1), foreign(1), own(2), foreign(2), own(3)])
    read_archive(archive)


def test_another_spool_cuts_nothing_and_knows_what_stands_there(archive: Path) -> None:
    fill(archive, [own(1), foreign(1)])
    writer = ArchiveWriter(str(archive), "spool", limits=limits(max_pending=1))
    writer.write(own(2), NOON_US)
    writer.write(foreign(2), NOON_US)
    abandon(writer)
    with ArchiveWriter(str(archive), "another") as writer:
        assert writer.cursor is None
        assert writer.recovered.cut == 0
        assert not writer.write(own(2), NOON_US)
        assert writer.write(own(3), NOON_US)
        writer.commit(b"1")
    assert sorted(all_stored(archive)) == sorted([own(1), own(2), own(3), foreign(1), foreign(2)])
    assert sorted(path.name for path in (archive / "router1").glob("*.log")) == ["2024-03-06.2.log", DAY]
    assert len(read_archive(archive)) == 5


def test_the_journal_stays_small(archive: Path) -> None:
    with ArchiveWriter(str(archive), "spool", limits=limits(journal_size=5000)) as writer:
        for number in range(300):
            writer.write(own(number), NOON_US)
            writer.commit(b"%d" % number)
    assert (archive / ".relay" / "journal").stat().st_size < 6000
    assert not any(fill(archive, [own(number) for number in range(300)]))


# --- Others touch the archive ---


def test_a_second_writer_is_refused_and_told_who_has_it(archive: Path) -> None:
    with ArchiveWriter(str(archive), "spool"), pytest.raises(TemporaryError, match=f"pid {os.getpid()}"):
        ArchiveWriter(str(archive), "spool")
    ArchiveWriter(str(archive), "spool").close()


def moved(path: Path) -> None:
    path.rename(path.with_name(path.name + ".1"))


def replaced_by_a_copy(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


def cut_inside_a_frame(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def added_to(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"forged\n")


@pytest.mark.parametrize("meddle", [Path.unlink, moved, replaced_by_a_copy, cut_inside_a_frame, added_to])
@pytest.mark.parametrize("suffix", [".log", ".ledger"])
@pytest.mark.parametrize("running", [True, False])
def test_a_file_that_others_touched_is_left_alone_and_a_new_part_begins(
    archive: Path, meddle: Callable[[Path], None], suffix: str, running: bool
) -> None:
    path = archive / "switch1" / f"2024-03-06{suffix}"
    writer = ArchiveWriter(str(archive), "spool")
    for number in (1, 2):
        writer.write(foreign(number), NOON_US)
        writer.write(foreign(number, host="other"), NOON_US)
        writer.commit(b"%d" % number)
    if not running:
        writer.close()
    before = path.read_bytes()
    meddle(path)
    touched = path.read_bytes() if path.exists() else None
    replaced_while_stopped = meddle is replaced_by_a_copy and not running
    if not running:
        writer = ArchiveWriter(str(archive), "spool")
    assert writer.cursor == b"2"
    for number in (3, 4):
        writer.write(foreign(number), NOON_US)
        writer.write(foreign(number, host="other"), NOON_US)
        writer.commit(b"%d" % number)
    writer.close()
    if replaced_while_stopped:  # it is as the journal says
        assert path.read_bytes().startswith(before)
        assert messages_in(path.with_suffix(".log")) == [foreign(number) for number in (1, 2, 3, 4)]
    else:
        assert (path.read_bytes() if path.exists() else None) == touched
        assert messages_in(path.with_name("2024-03-06.2.log")) == [foreign(3), foreign(4)]
        heading = json.loads((archive / "switch1" / "2024-03-06.2.ledger").read_bytes().split(b"\n")[0])
        assert heading["after"] == (
            "2024-03-06.ledger" if (archive / "switch1" / "2024-03-06.ledger").exists() else None
        )
    assert messages_in(archive / "other" / DAY) == [foreign(number, host="other") for number in (1, 2, 3, 4)]
    with ArchiveWriter(str(archive), "spool") as again:
        assert again.cursor == b"4"
        assert again.recovered.cut == 0


def test_a_folder_that_was_removed_is_made_again(archive: Path) -> None:
    with ArchiveWriter(str(archive), "spool") as writer:
        for number in (1, 2, 3):
            writer.write(foreign(number), NOON_US)
            writer.commit(b"%d" % number)
            if number == 1:
                shutil.rmtree(archive / "switch1")
    assert [line.message for line in read_archive(archive)] == [foreign(2), foreign(3)]


def test_a_journal_that_was_removed_is_written_anew_and_one_in_its_place_is_obeyed(
    archive: Path, tmp_path: Path
) -> None:
    writer = ArchiveWriter(str(archive), "spool")
    writer.write(foreign(1), NOON_US)
    writer.commit(b"1")
    shutil.copytree(archive, tmp_path / "copy")
    shutil.rmtree(archive / ".relay")
    writer.write(foreign(2), NOON_US)
    writer.commit(b"2")
    with pytest.raises(TemporaryError, match="in use"):
        ArchiveWriter(str(archive), "spool")
    writer.write(foreign(3), NOON_US)
    abandon(writer)
    writer = ArchiveWriter(str(archive), "spool")
    assert writer.cursor == b"2"
    writer.write(foreign(3), NOON_US)
    archive.rename(tmp_path / "moved")
    (tmp_path / "copy").rename(archive)  # as another file system that is mounted there
    with pytest.raises(StorageError, match="another program replaced it"):
        writer.commit(b"3")
    writer.close()
    with ArchiveWriter(str(archive), "spool") as writer:
        assert writer.cursor == b"1"
    assert [line.message for line in read_archive(tmp_path / "moved")] == [foreign(1), foreign(2)]


def a_file(path: Path, victim: Path) -> None:
    del victim
    path.touch()


def a_dangling_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim / "missing" / "x")


@pytest.mark.parametrize("obstacle", [a_file, a_dangling_link])
def test_what_cannot_be_filed_is_stored_aside_and_others_are_not_disturbed(
    archive: Path, tmp_path: Path, obstacle: Callable[[Path, Path], None]
) -> None:
    """Something else has the folder's name."""
    archive.mkdir()
    obstacle(archive / "switch1", tmp_path)
    for number in (1, 2):
        with ArchiveWriter(str(archive), "spool") as writer:
            assert writer.write(own(number, host="switch1"), NOON_US)
            assert writer.write(foreign(number, host="other"), NOON_US)
            writer.commit(b"%d" % number)
    assert len(stored(archive)["other/2024-03-06.log"]) == 2
    assert stored(archive)["~aside/switch1/2024-03-06.log"] == [own(1, host="switch1"), own(2, host="switch1")]
    (archive / ".relay" / "journal").unlink()
    assert fill(archive, [own(2, host="switch1"), own(3, host="switch1")]) == [False, True]


def test_a_folder_that_became_read_only_costs_its_originator_a_detour(archive: Path) -> None:
    """A writer without root's rights; also while its files of another day are open there."""
    argv = [*WITHOUT_ROOTS_RIGHTS, sys.executable, str(TESTS / "archive" / "killed_writer.py"), str(archive)]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    (archive / "router1").mkdir(parents=True)
    (archive / "router1").chmod(0o500)
    subprocess.run([*argv, "40"], env=env, stdout=subprocess.DEVNULL, check=True)
    (archive / "router2").chmod(0o500)
    (archive / "router2" / DAY).chmod(0o400)
    subprocess.run([*argv, "80"], env=env, stdout=subprocess.DEVNULL, check=True)
    folders = {str(path.relative_to(archive)) for path in archive.rglob("router*") if any(path.glob("*.log"))}
    assert folders == {*(f"router{number}" for number in (0, 2, 3, 4, 5, 6)), "~aside/router1", "~aside/router2"}
    assert sorted(line.message for line in read_archive(archive)) == sorted(message(number) for number in range(1, 81))


def test_a_symbolic_link_in_place_of_a_file_is_not_followed(archive: Path, tmp_path: Path) -> None:
    fill(archive, [foreign(1)])
    victim = tmp_path / "victim"
    for name, number in ((DAY, 2), ("2024-03-06.2.ledger", 3)):
        path = archive / "switch1" / name
        victim.write_bytes(path.read_bytes())
        path.unlink()
        path.symlink_to(victim)
        before = victim.read_bytes()
        fill(archive, [foreign(number)])
        assert victim.read_bytes() == before
    assert messages_in(archive / "switch1" / "2024-03-06.2.log") == [foreign(2)]
    assert messages_in(archive / "switch1" / "2024-03-06.3.log") == [foreign(3)]


# --- Mode and group ---


def test_new_files_and_folders_get_mode_and_group_and_the_writers_own_stay_private(archive: Path) -> None:
    group = max(os.getgroups() or [os.getegid()])
    access = FileAccess(0o640, group)
    old = os.umask(0o077)
    try:
        with ArchiveWriter(str(archive), "spool", access=access) as writer:
            writer.write(foreign(1), NOON_US)
            writer.commit(b"1")
    finally:
        os.umask(old)
    modes = {str(path.relative_to(archive)): path.stat().st_mode & 0o7777 for path in archive.rglob("*")}
    assert modes == {
        ".relay": 0o700,
        ".relay/journal": 0o600,
        ".relay/lock": 0o600,
        "switch1": 0o750,
        "switch1/2024-03-06.log": 0o640,
        "switch1/2024-03-06.ledger": 0o640,
    }
    assert archive.stat().st_mode & 0o7777 == 0o750
    assert {path.stat().st_gid for path in (archive, archive / "switch1" / DAY)} == {group}


def test_an_archive_with_a_file_system_of_its_own_is_synced_as_a_whole(tmp_path: Path) -> None:
    """An originator's folder on another disk is not part of that file system, so it is synced too."""
    argv = [sys.executable, str(TESTS / "archive" / "own_file_system.py")]
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    with SmallDisk(tmp_path / "disk", "20m") as disk:

        def synced(folder: str) -> str:
            command = [*disk.prefix, *argv, str(tmp_path / folder)]
            return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()

        assert synced("disk") == "['all', 'journal']"
        assert synced("disk/sub") == "['journal', 'ledger', 'log']"
        disk.run("mount", "-t", "tmpfs", "none", str(tmp_path / "disk" / "switch7"))
        assert synced("disk") == "['all', 'journal', 'ledger', 'log']"
