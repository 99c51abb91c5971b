"""A log that was deleted, replaced or renamed while auditd writes on in it: what comes there is read."""

import contextlib
import fcntl
import os
from pathlib import Path

import pytest
from harness.auditd import Auditd
from harness.waiting import until
from source.log_writing import Taken, append, audit_log, drain, follow, record, records

from relay.source.auditd.detached_files import MOST, DetachedFiles, DetachedLines
from relay.source.auditd.generations import LogFile
from relay.syslog.auditd_remote import AuditdClient

both_ways = pytest.mark.parametrize("inotify", [True, False], ids=["inotify", "polling"])

QUIET_S = 0.3


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    path.write_bytes(records(1, 3))
    return path


def deleted_files() -> list[str]:
    """The deleted files that this process has open for reading."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(descriptor.readlink())
            reads = fcntl.fcntl(int(descriptor.name), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
            found += [target] if reads and target.endswith("audit.log (deleted)") else []
    return found


def replace(log: Path, data: bytes) -> None:
    """Put another file in its place, as `sed -i` does."""
    other = log.with_name("other")
    other.write_bytes(data)
    other.rename(log)


def delete(log: Path) -> None:
    log.unlink()


def rename(log: Path, name: str) -> None:
    log.rename(log.with_name(name))


def make_anew(log: Path, *, renamed: bool) -> None:
    if renamed:
        log.rename(log.with_name("audit.log.1"))
    log.unlink(missing_ok=True)
    log.touch()


def counted_looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times at which detached files are read from now on."""
    looks: list[float] = []
    read = DetachedFiles.read

    def counted(detached: DetachedFiles, now: float) -> DetachedLines | None:
        looks.append(now)
        return read(detached, now)

    monkeypatch.setattr(DetachedFiles, "read", counted)
    return looks


async def until_last(taken: Taken, serial: int) -> None:
    await until(lambda: taken.serials[-1:] == [serial], what=f"serial {serial} comes")


@both_ways
@pytest.mark.parametrize("renamed", [False, True], ids=["deleted", "renamed"])
def test_while_the_new_log_is_empty_the_former_is_read(log: Path, inotify: bool, renamed: bool) -> None:
    """As when logrotate makes a new one without telling auditd."""
    source = audit_log(log, inotify=inotify)

    async def play(taken: Taken) -> None:
        with log.open("ab", buffering=0) as auditd:
            await until(lambda: len(taken.serials) == 3)
            make_anew(log, renamed=renamed)
            for serial in range(4, 9):
                auditd.write(record(serial))
                await until_last(taken, serial)
        append(log, records(9, 10))
        await until_last(taken, 10)

    taken = follow(source, play)
    assert taken.serials == list(range(1, 11))
    assert taken.gaps == []
    assert source.malformed == 0


def test_a_position_in_a_renamed_file_that_still_grows_survives_a_restart(log: Path) -> None:
    with log.open("ab", buffering=0) as auditd:
        make_anew(log, renamed=True)
        position = drain(audit_log(log)).position
        auditd.write(records(4, 6))
        taken = drain(audit_log(log), position)
    assert taken.serials == [4, 5, 6]
    append(log, records(7, 8))
    taken = drain(audit_log(log), taken.position)
    assert (taken.serials, taken.gaps) == ([7, 8], [])


@both_ways
def test_a_log_that_is_replaced_by_its_copy_is_read_in_both_files(log: Path, inotify: bool) -> None:
    source = audit_log(log, inotify=inotify)

    async def play(taken: Taken) -> None:
        with log.open("ab", buffering=0) as auditd:
            await until(lambda: len(taken.serials) == 3)
            replace(log, records(1, 3))
            await until(deleted_files)
            auditd.write(records(4, 6))
            await until_last(taken, 6)
        append(log, records(7, 9))  # auditd was told
        await until_last(taken, 9)

    taken = follow(source, play)
    assert taken.serials == list(range(1, 10))
    assert taken.gaps == []


def test_a_copy_made_before_the_last_read_record_is_not_read_again(log: Path) -> None:
    """And what was changed in it is."""
    source = audit_log(log)

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.serials) == 3)
        replace(log, records(1, 2) + record(3, body="scrubbed") + records(7, 8))
        await until(lambda: len(taken.serials) == 6)

    assert follow(source, play).serials == [1, 2, 3, 3, 7, 8]


def test_a_half_line_in_a_deleted_file_is_read_when_it_is_whole(log: Path) -> None:
    source = audit_log(log)

    async def play(taken: Taken) -> None:
        with log.open("ab", buffering=0) as auditd:
            auditd.write(record(4)[:30])
            await until(lambda: len(taken.serials) == 3)
            replace(log, record(101, at_ms=0))
            await until_last(taken, 101)
            auditd.write(record(4)[30:])
            await until_last(taken, 4)

    assert follow(source, play).serials == [1, 2, 3, 101, 4]
    assert source.malformed == 0


def test_the_unfinished_last_line_of_a_deleted_file_comes_when_the_file_is_closed(log: Path) -> None:
    source = audit_log(log, detached_quiet_s=QUIET_S)

    async def play(taken: Taken) -> None:
        with log.open("ab", buffering=0) as auditd:
            await until(lambda: len(taken.serials) == 3)
            auditd.write(record(4) + record(5)[:-9])
            replace(log, records(6, 7))
        await until(lambda: 5 in taken.serials)

    taken = follow(source, play)
    assert taken.serials == [1, 2, 3, 4, 6, 7, 5]
    assert deleted_files() == []


def test_a_deleted_file_is_kept_until_later_records_come_elsewhere(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(taken: Taken) -> None:
        with log.open("ab", buffering=0) as auditd:
            await until(lambda: len(taken.serials) == 3)
            replace(log, record(101, at_ms=0))  # older than what was read: auditd did not write it now
            await until_last(taken, 101)
            looks = counted_looks(monkeypatch)
            await until(lambda: len(looks) >= 3 and looks[-1] - looks[0] > 2 * QUIET_S)
            assert len(deleted_files()) == 1
            auditd.write(record(4))
            await until_last(taken, 4)
        append(log, record(5))
        await until_last(taken, 5)
        await until(lambda: not deleted_files())

    assert follow(audit_log(log, detached_quiet_s=QUIET_S), play).serials == [1, 2, 3, 101, 4, 5]


def test_more_deleted_files_than_are_kept_are_a_gap(log: Path) -> None:
    source = audit_log(log)

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.serials) == 3)
        with contextlib.ExitStack() as writers:
            for serial in range(10, 11 * (MOST + 1), 10):
                writers.enter_context(log.open("ab"))
                replace(log, record(serial, at_ms=0))
                await until_last(taken, serial)
            assert len(deleted_files()) == MOST

    told = [b"records written to a deleted file may be lost" in gap for gap in follow(source, play).gaps]
    assert told == [False] * MOST + [True]
    assert deleted_files() == []


@pytest.mark.parametrize(("next_serial", "gaps"), [(4, 0), (9, 1)])
def test_records_written_to_a_deleted_file_while_relay_was_stopped_are_a_gap(
    log: Path, next_serial: int, gaps: int
) -> None:
    """Unless the serials follow on."""

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.serials) == 3)
        replace(log, records(1, 3))
        append(log, records(3, 3))
        await until(lambda: len(taken.serials) == 4)

    with log.open("ab"):  # longer than relay runs
        position = follow(audit_log(log), play).position
    append(log, records(next_serial, next_serial + 1))
    taken = drain(audit_log(log), position)
    assert taken.serials == [next_serial, next_serial + 1]
    assert len(taken.gaps) == gaps
    append(log, records(20, 20))
    assert drain(audit_log(log), taken.position).gaps == []


def test_without_a_detached_file_a_restart_reports_no_loss(log: Path) -> None:
    """Although nothing was written since, with which the position could have been stored."""

    async def play(taken: Taken) -> None:
        with log.open("ab"):
            await until(lambda: len(taken.serials) == 3)
            replace(log, records(1, 3))
            await until(deleted_files)
            append(log, records(4, 5))
            await until_last(taken, 5)
        await until(lambda: not deleted_files())
        batches = len(taken.batches)
        await until(lambda: len(taken.batches) > batches or b'"left_behind":false' in place_of(taken))

    position = follow(audit_log(log), play).position
    assert drain(audit_log(log), position).gaps == []


def place_of(taken: Taken) -> bytes:
    return taken.position.data if taken.position else b""


def test_a_deleted_file_that_no_process_writes_is_closed_once_it_is_read(log: Path) -> None:
    """It would keep its room on the disk; a half line in it is its last."""

    async def play(taken: Taken) -> None:
        with log.open("ab", buffering=0) as auditd:
            await until(lambda: len(taken.serials) == 3)
            delete(log)
            auditd.write(record(4) + record(5)[:-9])
        await until(lambda: 5 in taken.serials)
        assert deleted_files() == []
        append(log, records(6, 7))
        await until_last(taken, 7)

    taken = follow(audit_log(log), play)
    assert (taken.serials, taken.gaps) == ([1, 2, 3, 4, 5, 6, 7], [])


def test_closing_the_oldest_file_for_another_is_a_loss_only_if_it_has_unread_data(tmp_path: Path) -> None:
    detached = DetachedFiles()
    losses = []
    for number in range(MOST + 2):
        path = tmp_path / str(number)
        path.write_bytes(records(1, 3))
        losses.append(detached.add(LogFile(str(path)), path.stat().st_size))
        detached.supersede(1)
        if number == 1:
            append(path, record(4))
    detached.close()
    assert losses == [False] * (MOST + 1) + [True]


@pytest.mark.parametrize("way", ["by a symlink", "by a hard link too", "renamed"])
@both_ways
def test_a_replaced_log_that_has_another_name_is_read_under_both_names(log: Path, inotify: bool, way: str) -> None:
    other = log.with_name("other name")
    if way == "by a symlink":
        log.rename(other)
        log.symlink_to(other)
    elif way == "by a hard link too":
        other.hardlink_to(log)
    source = audit_log(log, inotify=inotify)

    async def play(taken: Taken) -> None:
        with log.open("ab", buffering=0) as auditd:
            await until(lambda: len(taken.serials) == 3)
            if way == "renamed":
                rename(log, other.name)
            replace(log, records(1, 3))
            await until(lambda: log.stat().st_ino in read_inodes())
            auditd.write(records(4, 6))
            await until_last(taken, 6)
        append(log, records(7, 8))
        await until_last(taken, 8)

    taken = follow(source, play)
    assert (taken.serials, taken.gaps) == (list(range(1, 9)), [])


def read_inodes() -> set[int]:
    """The files that this process has open."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(descriptor.stat().st_ino)
    return found


def test_reading_continues_in_a_log_that_gets_its_name_back(log: Path) -> None:
    async def play(taken: Taken) -> None:
        with log.open("ab", buffering=0) as auditd:
            await until(lambda: len(taken.serials) == 3)
            rename(log, "aside")
            append(log, records(7, 7))
            await until_last(taken, 7)
            auditd.write(record(8))
            await until_last(taken, 8)
            rename(log.with_name("aside"), log.name)
            auditd.write(records(9, 10))
            await until_last(taken, 10)

    assert follow(audit_log(log), play).serials == [1, 2, 3, 7, 8, 9, 10]


# --- The real auditd ---


def send(auditd: Auditd, first: int, last: int) -> None:
    """Have it write these records; it has when this returns."""
    client = AuditdClient()
    with auditd.connect() as connection:
        for line in records(first, last).splitlines():
            connection.sendall(client.message(line))
            while client.unanswered:
                client.receive(connection.recv(4096))


@pytest.mark.parametrize("way", ["deleted", "renamed", "replaced"])
def test_auditd_writes_on_in_a_log_that_is_not_there_any_more_until_it_is_started_anew(way: str) -> None:
    with Auditd() as auditd:
        log = auditd.log_file
        send(auditd, 1, 3)
        source = audit_log(log)

        async def play(taken: Taken) -> None:
            await until(lambda: 3 in taken.serials)
            replace(log, log.read_bytes()) if way == "replaced" else make_anew(log, renamed=way == "renamed")
            await until(lambda: len(deleted_files()) == 1 or way != "replaced")
            send(auditd, 4, 6)
            await until(lambda: 6 in taken.serials)
            auditd.kill()
            auditd.start()
            send(auditd, 7, 9)
            await until(lambda: 9 in taken.serials)

        taken = follow(source, play)
        assert b"".join(auditd.records()).count(b":7)") == 1  # it writes where it should
        assert [serial for serial in taken.serials if serial < 10] == list(range(1, 10))
        assert (source.malformed, taken.gaps) == (0, [])


@pytest.mark.parametrize("may_ask", [True, False], ids=["relay may ask who writes", "it may not"])
def test_a_deleted_log_gives_its_room_on_a_full_disk_back(monkeypatch: pytest.MonkeyPatch, may_ask: bool) -> None:
    """Else auditd could write nothing into its new log, and so nothing would ever supersede the deleted one."""
    if not may_ask:
        monkeypatch.setattr(LogFile, "abandoned", False)  # as when F_SETLEASE is refused to a user without CAP_LEASE
    with Auditd(room="200k") as auditd:
        log = auditd.log_file
        send(auditd, 1, 3)

        async def play(taken: Taken) -> None:
            await until(lambda: 3 in taken.serials)
            with contextlib.suppress(OSError), log.with_name("other").open("ab", buffering=0) as other:
                while True:
                    other.write(b"x" * 4096)
            delete(log)
            auditd.kill()
            auditd.start()
            await until(lambda: os.statvfs(log.parent).f_bavail)
            send(auditd, 4, 6)
            await until(lambda: 6 in taken.serials)

        taken = follow(audit_log(log), play)
        assert [serial for serial in taken.serials if serial < 10] == list(range(1, 7))
        assert taken.gaps == []
