"""What of a log was not read is told by a gap, durable with the place behind it; the rest goes on being delivered."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from harness.rights import WITHOUT_ROOTS_RIGHTS
from harness.waiting import until
from source.log_writing import NEVER, Taken, append, audit_log, drain, follow, record, records, rotate

from relay.source.auditd.unreported_losses import LOSSES, PATIENCE_S
from relay.syslog.rfc5424 import parse
from relay.values.event import Position

TESTS = Path(__file__).parents[1]

both_ways = pytest.mark.parametrize("inotify", [True, False], ids=["inotify", "polling"])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def params_of(gap: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for element in parse(gap).structured_data:
        for name, value in element.params:
            found.setdefault(name.decode(), []).append(value.decode())
    return found


def the_gap(taken: Taken) -> dict[str, list[str]]:
    (gap,) = taken.gaps
    return params_of(gap)


# --- Gone and cut ---


def test_files_that_were_rotated_away_while_it_was_stopped_are_a_gap(log: Path) -> None:
    log.write_bytes(records(1, 3))
    position = drain(audit_log(log)).position
    for first in range(10, 80, 10):
        rotate(log, 3)
        append(log, records(first, first + 2))
    taken = drain(audit_log(log), position)
    assert taken.serials == [40, 41, 42, 50, 51, 52, 60, 61, 62, 70, 71, 72]
    gap = the_gap(taken)
    assert gap["type"] == ["relay"]
    assert gap["source"] == ["audit"]
    assert gap["file"] == [str(log)]
    assert gap["cause"] == ["the file was rotated away, deleted or written anew"]
    assert gap["events"] == ["unknown"]
    assert gap["after"] == ["2024-03-06T16:34:22.003Z 3"]
    assert gap["before"] == ["2024-03-06T16:34:22.040Z 40"]
    assert taken.events[0].tail in taken.gaps[0]  # before what could be read


def test_a_gap_becomes_durable_with_the_position_behind_it(log: Path) -> None:
    """It is in the first batch after the loss, and that batch's position does not bring it again."""
    log.write_bytes(records(1, 3))
    position = drain(audit_log(log)).position
    log.write_bytes(records(10, 12))
    taken = drain(audit_log(log), position)
    (batch,) = taken.batches
    assert batch.position is not None
    assert batch.position.count == 3 + 1 + 3
    assert drain(audit_log(log), batch.position).batches == []
    assert len(drain(audit_log(log), position).gaps) == 1  # not made durable: it is told again


@both_ways
def test_a_log_that_is_cut_twice_at_once_is_a_gap_that_names_what_is_missing(log: Path, inotify: bool) -> None:
    log.write_bytes(records(1, 5))

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.serials) == 5)
        os.truncate(log, 0)  # no await: the source cannot look
        append(log, records(6, 7))
        os.truncate(log, 0)
        append(log, records(8, 9))
        await until(lambda: len(taken.serials) == 7)

    gap = the_gap(follow(audit_log(log, inotify=inotify), play))
    assert gap["cause"] == ["the file was cut"]
    assert (gap["after"][0].split()[1], gap["before"][0].split()[1]) == ("5", "8")


def test_a_log_that_is_cut_without_a_loss_causes_no_gap(log: Path) -> None:
    log.write_bytes(records(1, 5))
    source = audit_log(log)

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.serials) == 5)
        os.truncate(log, 0)
        append(log, records(6, 7))
        await until(lambda: len(taken.serials) == 7)

    assert follow(source, play).gaps == []
    assert source.loss_count == 1


def test_auditds_own_records_do_not_decide_whether_something_is_lost(log: Path) -> None:
    log.write_bytes(records(1, 5))
    position = drain(audit_log(log)).position
    log.write_bytes(record(4711, kind="DAEMON_START") + records(6, 7) + record(4712, kind="DAEMON_END"))
    taken = drain(audit_log(log), position)
    assert taken.gaps == []
    log.write_bytes(records(8, 9))
    assert drain(audit_log(log), taken.position).gaps == []
    log.write_bytes(record(6, kind="DAEMON_START"))
    assert len(drain(audit_log(log), position).gaps) == 1


def test_with_an_open_event_even_a_record_that_follows_on_leaves_a_gap(log: Path) -> None:
    log.write_bytes(records(1, 4) + record(5, kind="SYSCALL"))
    position = follow(audit_log(log), lambda taken: until(lambda: 4 in taken.serials)).position
    log.write_bytes(records(6, 7))
    taken = drain(audit_log(log), position)
    assert the_gap(taken)["before"][0].endswith(" 6")
    assert "the beginnings of events that were open are gone" in the_gap(taken)["cause"][0]


@both_ways
def test_an_emptied_log_is_a_gap_even_without_another_record(log: Path, inotify: bool) -> None:
    log.write_bytes(records(1, 5))
    waited: list[float] = []

    async def play(taken: Taken) -> None:
        loop = asyncio.get_running_loop()
        await until(lambda: len(taken.serials) == 5)
        os.truncate(log, 0)
        began = loop.time()
        await until(lambda: taken.gaps)
        waited.append(loop.time() - began)
        append(log, records(6, 7))
        await until(lambda: len(taken.serials) == 7)

    gap = the_gap(follow(audit_log(log, inotify=inotify), play))
    assert gap["after"][0].endswith(" 5")
    assert "before" not in gap
    assert waited[0] >= PATIENCE_S


def test_a_position_without_a_last_record_is_of_an_older_relay(log: Path) -> None:
    log.write_bytes(records(1, 3))
    position = drain(audit_log(log)).position
    assert position is not None
    place = json.loads(position.data)
    del place["last"]
    log.write_bytes(records(4, 5))
    old = Position(position.source, position.count, json.dumps(place).encode())
    gap = the_gap(drain(audit_log(log), old))
    assert "after" not in gap
    assert gap["before"][0].endswith(" 4")


# --- Not readable ---


def unprivileged(program: str, log: Path) -> str:
    """The output of a program that runs without root's right to read all files."""
    head = """
        import asyncio, json, os, sys
        from pathlib import Path
        from harness.waiting import until
        from source.log_writing import NEVER, PATIENCE_S, Taken, audit_log, drain, follow, record, records, rotate
        log = Path(sys.argv[1])
        append = lambda path, data: path.open("ab").write(data)
        def rotate_unreadable(path, data):  # the new file is so from the start: what may be read for a moment is read
            new = path.with_name("new")
            new.write_bytes(data)
            new.chmod(0)
            rotate(path, then=new)
        older = log.with_name("audit.log.1")
        oldest = log.with_name("audit.log.2")
    """
    done = subprocess.run(
        [*WITHOUT_ROOTS_RIGHTS, sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(program), str(log)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def three_files(log: Path) -> None:
    for number, first in enumerate((7, 4, 1)):
        log.with_name(f"audit.log.{number}" if number else "audit.log").write_bytes(records(first, first + 2))


def test_unreadable_older_files_are_skipped_at_the_start_and_reported(log: Path) -> None:
    three_files(log)
    log.with_name("audit.log.1").chmod(0)
    told = unprivileged(
        """
        taken = drain(audit_log(log))
        (gap,) = taken.gaps
        print(taken.serials, str(older).encode() in gap, b"not allowed to read" in gap)
        print(drain(audit_log(log), taken.position).batches)
        """,
        log,
    )
    assert told == "[1, 2, 3, 7, 8, 9] True True\n[]\n"


def test_skipped_files_are_not_read_later(log: Path) -> None:
    three_files(log)
    log.with_name("audit.log.2").chmod(0)
    told = unprivileged(
        """
        older.chmod(0)
        log.write_bytes(b"")  # the position stands at the beginning of a file
        async def told_of(taken):
            await until(lambda: taken.gaps)
        taken = follow(audit_log(log), told_of)
        older.chmod(0o600)
        oldest.chmod(0o600)
        append(log, records(7, 9))
        again = drain(audit_log(log), taken.position)
        print(taken.serials, again.serials, again.gaps)
        """,
        log,
    )
    assert told == "[] [7, 8, 9] []\n"


def test_a_position_in_the_newest_file_needs_no_older_file(log: Path) -> None:
    three_files(log)
    told = unprivileged(
        """
        position = drain(audit_log(log)).position
        older.chmod(0)
        oldest.chmod(0)
        append(log, records(10, 12))
        taken = drain(audit_log(log), position)
        print(taken.serials, taken.gaps)
        """,
        log,
    )
    assert told == "[10, 11, 12] []\n"


@pytest.mark.parametrize(("more", "gaps"), [("", 0), ("append(older, records(13, 15))", 1)])
def test_a_position_in_a_file_that_has_become_unreadable(log: Path, more: str, gaps: int) -> None:
    """Where it was read to its end nothing is lost."""
    three_files(log)
    told = unprivileged(
        f"""
        position = drain(audit_log(log)).position
        rotate(log)
        {more}
        older.chmod(0)
        append(log, records(20, 22))
        taken = drain(audit_log(log), position)
        print(taken.serials, len(taken.gaps))
        """,
        log,
    )
    assert told == f"[20, 21, 22] {gaps}\n"


def test_after_a_cut_older_files_that_may_not_be_read_hinder_nothing(log: Path) -> None:
    three_files(log)
    told = unprivileged(
        """
        async def play(taken):
            await until(lambda: len(taken.serials) == 9)
            older.chmod(0)
            os.truncate(log, 0)
            append(log, records(20, 22))
            await until(lambda: len(taken.serials) == 12)
        taken = follow(audit_log(log), play)
        print(len(taken.gaps), b"the file was cut" in taken.gaps[0])
        """,
        log,
    )
    assert told == "1 True\n"


def test_files_that_become_readable_one_by_one_are_all_read(log: Path) -> None:
    """As `chgrp audit.log*` does it, the newest first."""
    log.write_bytes(records(1, 3))
    told = unprivileged(
        """
        source = audit_log(log, inotify=False)
        async def play(taken):
            await until(lambda: len(taken.serials) == 3)
            for first in (4, 7):
                rotate_unreadable(log, records(first, first + 2))
                await until(lambda: source.last_error)
            log.chmod(0o600)
            await until(lambda: older.name in source.last_error)
            older.chmod(0o600)
            await until(lambda: len(taken.serials) == 9 and not source.last_error)
        taken = follow(source, play)
        print(taken.serials, taken.gaps, source.last_error)
        """,
        log,
    )
    assert told == "[1, 2, 3, 4, 5, 6, 7, 8, 9] [] \n"


def test_files_that_become_unreadable_during_the_first_look_are_waited_for(log: Path) -> None:
    """At the start an unreadable file is skipped at once; this one appeared later."""
    log.write_bytes(records(1, 3))
    told = unprivileged(
        """
        source = audit_log(log, inotify=False)
        class Rotating(Taken):
            async def submit(self, batch):
                if not self.batches:
                    rotate_unreadable(log, records(4, 6))
                return await super().submit(batch)
        async def play(taken):
            await until(lambda: source.last_error)
            rotate_unreadable(log, records(7, 9))
            log.chmod(0o600)
            await until(lambda: older.name in source.last_error)
            older.chmod(0o600)
            await until(lambda: len(taken.serials) == 9)
        taken = follow(source, play, taken=Rotating())
        print(taken.serials, taken.gaps)
        """,
        log,
    )
    assert told == "[1, 2, 3, 4, 5, 6, 7, 8, 9] []\n"


def test_a_file_that_stays_unreadable_is_skipped_while_following(log: Path) -> None:
    log.write_bytes(records(1, 3))
    told = unprivileged(
        """
        source = audit_log(log, inotify=False)
        async def play(taken):
            loop = asyncio.get_running_loop()
            await until(lambda: len(taken.serials) == 3)
            rotate_unreadable(log, records(4, 6))
            await until(lambda: source.last_error)
            began = loop.time()
            rotate(log)
            append(log, records(7, 9))
            await until(lambda: len(taken.serials) == 6)
            print(loop.time() - began >= PATIENCE_S)
        taken = follow(source, play)
        print(taken.serials, len(taken.gaps), b"not allowed to read" in taken.gaps[0], source.loss_count)
        """,
        log,
    )
    assert told == "True\n[1, 2, 3, 7, 8, 9] 1 True 1\n"


def test_more_files_than_are_named_are_counted(log: Path) -> None:
    for number in range(1, LOSSES + 4):
        log.with_name(f"audit.log.{number}").write_bytes(record(number))
        log.with_name(f"audit.log.{number}").chmod(0)
    log.write_bytes(record(100))
    told = unprivileged("print(drain(audit_log(log)).gaps[0].decode())", log)
    gap = params_of(told.encode())
    assert len(gap["file"]) == LOSSES
    assert gap["cause"] == ["relay is not allowed to read the file, 3 more"]


# --- Not there ---


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "FIFO"])
def test_a_path_that_is_not_a_file_is_logged_and_relay_waits_for_one(
    log: Path, caplog: pytest.LogCaptureFixture, make: object
) -> None:
    assert callable(make)
    make(log)
    source = audit_log(log)

    async def play(taken: Taken) -> None:
        await until(lambda: source.last_error)
        assert source.last_error == f"{log}: this is not a regular file; waiting for it"
        os.rename(log, log.with_name("moved"))
        append(log, records(1, 3))
        await until(lambda: len(taken.serials) == 3)
        await until(lambda: not source.last_error)

    follow(source, play)
    assert [message for message in caplog.messages if "waiting for it" in message] == [
        f"{log}: this is not a regular file; waiting for it"
    ]


@pytest.mark.parametrize(("what", "inotify"), [("log", True), ("log", False), ("folder", False)])
def test_a_deleted_log_is_logged_and_relay_waits_for_a_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str, inotify: bool
) -> None:
    log = tmp_path / "audit" / "audit.log"
    log.parent.mkdir()
    append(log, records(1, 3))
    source = audit_log(log, inotify=inotify)

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.serials) == 3)
        log.unlink()
        if what == "folder":
            log.parent.rmdir()
        await until(lambda: source.last_error == f"{log}: there is no such file; waiting for it")
        await until(lambda: "there is no such file" in caplog.text)
        log.parent.mkdir(exist_ok=True)
        append(log, records(4, 6))
        await until(lambda: len(taken.serials) == 6)

    follow(source, play)
    assert caplog.text.count("there is no such file") == 1


# --- Elsewhere ---


def test_a_log_behind_a_link_is_followed_at_once(tmp_path: Path) -> None:
    """Its bytes are written in another folder than its own. No scan of the folder helps."""
    target, log = tmp_path / "disk" / "a.log", tmp_path / "audit.log"
    target.parent.mkdir()
    append(target, records(1, 3))
    log.symlink_to(target)

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.serials) == 3)
        for serial in range(4, 10):  # by the last it has looked its fill and waits
            append(target, record(serial))
            await until(lambda: len(taken.serials) == serial)  # noqa: B023  it is awaited at once

    follow(audit_log(log, rescan_s=NEVER), play)
