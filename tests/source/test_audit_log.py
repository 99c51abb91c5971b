"""The source `audit-log` on real files, with a real writer that rotates them."""

import asyncio
import json
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from harness.rights import WITHOUT_ROOTS_RIGHTS
from harness.waiting import until
from source.log_writing import NEVER, Taken, append, audit_log, drain, follow, record, records, rotate, text_of

from relay.errors import NoInputError, StorageError
from relay.source.auditd import audit_log as audit_log_module
from relay.source.auditd.log_position import reassemble
from relay.values.event import Batch, Position

TESTS = Path(__file__).parents[1]

both_ways = pytest.mark.parametrize("inotify", [True, False], ids=["inotify", "polling"])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def overwrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def place_of(position: Position | None) -> dict[str, object]:
    assert position is not None
    decoded = json.loads(position.data)
    assert isinstance(decoded, dict)
    return decoded


# --- Following ---


def test_drain_gives_every_event_once_and_returns(log: Path) -> None:
    log.write_bytes(records(1, 5000))
    source = audit_log(log)
    taken = drain(source)
    assert taken.serials == list(range(1, 5001))
    assert taken.position is not None
    assert taken.position.count == source.events == 5000
    assert source.lag == -1 or source.file == ""


def test_batches_are_bounded(log: Path) -> None:
    log.write_bytes(records(1, 20_000))
    taken = drain(audit_log(log))
    assert len(taken.batches) > 3
    assert max(sum(len(event.tail) for event in batch.events) for batch in taken.batches) < 600_000


@both_ways
def test_an_appended_record_comes_at_once(log: Path, inotify: bool) -> None:
    """With inotify, no scan of the folder helps."""
    log.write_bytes(records(1, 3))

    async def play(taken: Taken) -> None:
        await until(lambda: taken.serials == [1, 2, 3])
        for serial in range(4, 10):
            append(log, record(serial))
            await until(lambda: taken.serials[-1] == serial)  # noqa: B023  it is awaited at once

    follow(audit_log(log, inotify=inotify, rescan_s=NEVER), play)


@both_ways
def test_start_now_gives_only_new_records(log: Path, inotify: bool) -> None:
    log.write_bytes(records(1, 100) + b"type=USER_LOGIN msg=aud")
    source = audit_log(log, start="now", inotify=inotify)

    async def play(taken: Taken) -> None:
        await until(lambda: source.offset)  # not only opened: it has found where the last line begins
        append(log, b"it(1709742862.101:101): res=success\n" + record(102))
        await until(lambda: len(taken.events) == 2)

    assert follow(source, play).serials == [101, 102]


@both_ways
def test_a_missing_log_is_waited_for_with_its_folder(tmp_path: Path, inotify: bool) -> None:
    log = tmp_path / "audit" / "audit.log"

    async def play(taken: Taken) -> None:
        await asyncio.sleep(0)
        log.parent.mkdir()
        log.write_bytes(records(1, 2))
        await until(lambda: taken.serials == [1, 2])

    follow(audit_log(log, inotify=inotify), play)


def test_draining_a_missing_log_returns_at_once(log: Path) -> None:
    assert drain(audit_log(log)).events == []


@both_ways
def test_a_last_line_without_lf_waits_for_its_end(log: Path, inotify: bool) -> None:
    log.write_bytes(record(1) + record(2)[:30])
    source = audit_log(log, inotify=inotify)
    taken = drain(source)
    assert taken.serials == [1]

    async def play(taken: Taken) -> None:
        await until(lambda: source.file)
        for octet in record(2)[30:] + record(3):
            append(log, bytes([octet]))
        await until(lambda: len(taken.events) == 2)

    assert follow(source, play, taken.position).serials == [2, 3]


def test_a_last_line_without_lf_of_a_rotated_file_is_taken(log: Path) -> None:
    log.write_bytes(record(1) + record(2)[:-1])
    rotate(log)
    log.write_bytes(record(3))
    assert drain(audit_log(log)).serials == [1, 2, 3]


def test_malformed_lines_are_forwarded_marked_and_counted(log: Path) -> None:
    lines = [b"", b"type=", b"\xff garbage", b"x" * 300_000]
    log.write_bytes(record(1) + b"\n".join(lines) + b"\n" + record(2))
    source = audit_log(log)
    events = drain(source).events
    assert source.malformed == 4
    assert [text_of(event).split(b' malformed="1"] ', 1)[1] for event in events[1:5]] == lines
    assert b'serial="2"' in events[5].tail


def test_a_line_over_the_ceiling_comes_in_pieces(log: Path) -> None:
    line = b"123456789" * 350_000
    log.write_bytes(record(1) + line + b"\n" + record(2))
    source = audit_log(log)
    taken = drain(source)
    pieces = [text_of(event).split(b' malformed="1"] ', 1)[1] for event in taken.events[1:-1]]
    assert b"".join(pieces) == line
    assert max(map(len, pieces)) <= 1024 * 1024
    assert source.malformed == len(pieces) > 3
    for batch in taken.batches[:-1]:
        assert batch.position is not None
        rest = drain(audit_log(log, chunk=900), batch.position)
        assert without_time_of_reading(rest) == without_time_of_reading(taken)[batch.position.count :]


@both_ways
def test_an_event_that_nothing_completes_leaves_after_its_silence(log: Path, inotify: bool) -> None:
    log.write_bytes(record(1, kind="SYSCALL"))
    loop_times: list[float] = []

    async def play(taken: Taken) -> None:
        loop = asyncio.get_running_loop()
        loop_times.append(loop.time())
        await until(lambda: taken.events)
        loop_times.append(loop.time())

    assert follow(audit_log(log, inotify=inotify), play).serials == [1]
    assert 1.9 < loop_times[1] - loop_times[0] < 10


def test_the_location_of_an_open_event_is_stored_and_a_drain_waits_for_it(log: Path) -> None:
    log.write_bytes(record(1, kind="SYSCALL") + record(2))
    taken = drain(audit_log(log))
    assert taken.serials == [2, 1]
    first, last = (place_of(batch.position) for batch in taken.batches)
    assert [event[1:] for event in first["open"]] == [[0, 1_709_742_862_001, 1]]  # type: ignore[attr-defined]  # JSON
    assert last["open"] == []


def test_an_event_that_left_by_its_silence_does_not_come_again_after_a_restart(log: Path) -> None:
    log.write_bytes(record(1, kind="SYSCALL"))
    taken = drain(audit_log(log))
    append(log, record(1, kind="CWD", at_ms=1) + record(2))
    again = drain(audit_log(log), taken.position)
    assert again.serials == [1, 2]
    assert b' late="1"' in again.events[0].tail


def test_a_folder_that_is_replaced_while_followed_is_followed_again(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    log = folder / "audit.log"
    folder.mkdir()
    log.write_bytes(records(1, 3))

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.events) == 3)
        folder.rename(tmp_path / "old")
        folder.mkdir()
        overwrite(log, records(4, 6))
        await until(lambda: len(taken.events) == 6)
        append(log, records(7, 7))
        await until(lambda: len(taken.events) == 7)

    assert follow(audit_log(log), play).serials == [1, 2, 3, 4, 5, 6, 7]


# --- Rotation ---


@both_ways
def test_rotation_under_load_loses_and_repeats_nothing(log: Path, inotify: bool) -> None:
    total = 30_000
    log.touch()

    async def play(taken: Taken) -> None:
        argv = [sys.executable, str(TESTS / "source" / "rotating_writer.py"), str(log), str(total), "60000", "99"]
        writer = await asyncio.create_subprocess_exec(*argv, env={**os.environ, "PYTHONPATH": str(TESTS)})
        await until(lambda: len(taken.events) >= total, 60, "all records")
        assert await writer.wait() == 0

    source = audit_log(log, inotify=inotify)
    taken = follow(source, play)
    assert len(list(log.parent.glob("audit.log.*"))) > 25
    assert taken.serials == list(range(1, total + 1))
    assert source.loss_count == 0


@both_ways
def test_several_rotations_between_two_looks_lose_nothing(log: Path, inotify: bool) -> None:
    log.write_bytes(record(1))

    async def play(taken: Taken) -> None:
        await until(lambda: taken.serials == [1])
        for serial in range(2, 6):  # no await in between: the source cannot look
            append(log, record(serial))
            rotate(log, 9)
        append(log, record(6))
        await until(lambda: len(taken.events) == 6)

    assert follow(audit_log(log, inotify=inotify), play).serials == [1, 2, 3, 4, 5, 6]


def test_an_event_may_span_a_rotation_and_a_restart(log: Path) -> None:
    log.write_bytes(records(1, 3) + record(4, kind="SYSCALL") + record(5))
    taken = follow(audit_log(log), lambda taken: until(lambda: 5 in taken.serials))
    rotate(log)
    append(log, record(6) + record(4, kind="PROCTITLE"))
    again = drain(audit_log(log), taken.position)
    assert again.serials == [6, 4]
    assert b"type=SYSCALL" in again.events[1].tail
    assert b"\ntype=PROCTITLE" in again.events[1].tail


def test_oldest_begins_with_the_oldest_generation(log: Path) -> None:
    for number in range(12):
        log.write_bytes(records(number * 10 + 1, number * 10 + 10))
        if number < 11:
            rotate(log, 20)
    (log.parent / "audit.log.old").write_bytes(record(999))
    (log.parent / "audit.log.3.gz").write_bytes(record(999))
    assert drain(audit_log(log)).serials == list(range(1, 121))


def test_rotated_twice_while_stopped(log: Path) -> None:
    log.write_bytes(records(1, 10))
    position = drain(audit_log(log)).position
    append(log, records(11, 15))
    rotate(log)
    append(log, records(16, 20))
    rotate(log)
    append(log, records(21, 25))
    taken = drain(audit_log(log), position)
    assert taken.serials == list(range(11, 26))
    assert taken.position is not None
    assert taken.position.count == 25


def test_a_position_whose_file_is_gone_continues_at_the_oldest_file(log: Path) -> None:
    log.write_bytes(records(1, 10))
    position = drain(audit_log(log)).position
    for number in range(5):
        rotate(log, 3)
        append(log, records(number * 10 + 11, number * 10 + 20))
    source = audit_log(log)
    assert drain(source, position).serials == list(range(21, 61))
    assert source.loss_count == 1


def test_a_file_deleted_while_its_offset_is_being_found_does_not_stop_the_source(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotation may delete the file after it was opened, and before the bytes in front of the offset were read again."""
    log.write_bytes(records(1, 10))
    position = drain(audit_log(log)).position
    rotate(log)
    append(log, records(11, 20))

    def delete_first(*arguments: Any) -> Any:
        log.with_name("audit.log.1").unlink(missing_ok=True)
        return reassemble(*arguments)

    monkeypatch.setattr(audit_log_module, "reassemble", delete_first)
    assert drain(audit_log(log), position).serials == list(range(11, 21))


def test_a_log_that_was_deleted_by_hand_is_not_read_again_from_its_oldest(log: Path) -> None:
    log.write_bytes(records(1, 10))
    rotate(log)
    append(log, records(11, 20))
    position = drain(audit_log(log)).position
    log.unlink()
    log.write_bytes(records(21, 30))
    assert drain(audit_log(log), position).serials == list(range(21, 31))


@both_ways
def test_after_a_deleted_log_the_next_one_is_followed(log: Path, inotify: bool) -> None:
    log.write_bytes(records(1, 10))
    rotate(log)
    append(log, records(11, 20))
    source = audit_log(log, inotify=inotify)

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.events) == 20)
        replace(log, records(21, 30))
        await until(lambda: len(taken.events) == 30)

    assert follow(source, play).serials == list(range(1, 31))
    assert source.loss_count == 0


def test_an_inode_that_is_used_again_is_noticed(log: Path) -> None:
    log.write_bytes(records(1, 50))
    position = drain(audit_log(log)).position
    inode = log.stat().st_ino
    log.write_bytes(records(1001, 1100))  # cut and written anew: the same inode, longer than the place reached
    assert log.stat().st_ino == inode
    source = audit_log(log)
    assert drain(source, position).serials == list(range(1001, 1101))
    assert source.loss_count == 1


@both_ways
def test_a_file_that_was_cut_is_read_from_its_beginning(log: Path, inotify: bool) -> None:
    log.write_bytes(records(1, 100))
    source = audit_log(log, inotify=inotify)

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.events) == 100)
        overwrite(log, records(101, 103))
        await until(lambda: len(taken.events) == 103)

    assert follow(source, play).serials == list(range(1, 104))
    assert source.loss_count == 1


def test_reading_continues_in_the_copy_of_a_log_that_was_copied_and_cut(log: Path) -> None:
    log.write_bytes(records(1, 100))
    position = drain(audit_log(log)).position
    append(log, records(101, 110))
    (log.parent / "audit.log.1").write_bytes(log.read_bytes())
    log.write_bytes(records(111, 120))
    assert drain(audit_log(log), position).serials == list(range(101, 121))


@both_ways
def test_a_log_that_is_copied_and_cut_while_followed_loses_nothing(log: Path, inotify: bool) -> None:
    log.write_bytes(records(1, 100))

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.events) == 100)
        append(log, records(101, 110))  # no await up to the cut: the source cannot have read them
        overwrite(log.with_name("audit.log.1"), records(1, 110))
        overwrite(log, records(111, 112))
        await until(lambda: len(taken.events) == 112)

    assert follow(audit_log(log, inotify=inotify), play).serials == list(range(1, 113))


@both_ways
def test_a_log_that_is_cut_and_at_once_grows_beyond_the_offset_is_noticed(log: Path, inotify: bool) -> None:
    log.write_bytes(records(1, 10))
    source = audit_log(log, inotify=inotify)

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.events) == 10)
        append(log, records(11, 12))  # no await up to the end: the source cannot have looked
        overwrite(log.with_name("audit.log.1"), records(1, 12))
        overwrite(log, records(13, 60))
        await until(lambda: len(taken.events) == 60)

    assert follow(source, play).serials == list(range(1, 61))
    assert source.loss_count == 0


@both_ways
def test_a_copy_is_not_read_again_after_records_between_the_copy_and_the_cut(log: Path, inotify: bool) -> None:
    log.write_bytes(records(1, 10))
    source = audit_log(log, inotify=inotify)

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.events) == 10)
        overwrite(log.with_name("audit.log.1"), records(1, 10))
        append(log, record(11))
        await until(lambda: len(taken.events) == 11)
        overwrite(log, record(12))
        await until(lambda: len(taken.events) == 12)

    assert follow(source, play).serials == list(range(1, 13))
    assert source.loss_count == 0


def test_a_log_of_one_record_is_recognized_in_its_copy(log: Path) -> None:
    log.write_bytes(record(1))
    position = drain(audit_log(log)).position
    append(log, record(2))
    overwrite(log.with_name("audit.log.1"), records(1, 2))
    overwrite(log, records(3, 9))
    assert drain(audit_log(log), position).serials == [2, 3, 4, 5, 6, 7, 8, 9]


def test_an_event_that_is_open_in_a_log_of_one_record_is_found_in_its_copy(log: Path) -> None:
    log.write_bytes(record(1, kind="SYSCALL", at_ms=1) + record(2, at_ms=2))
    position = follow(audit_log(log), lambda taken: until(lambda: 2 in taken.serials)).position
    overwrite(log.with_name("audit.log.1"), log.read_bytes())
    overwrite(log, record(1, kind="PROCTITLE", at_ms=1))
    (event,) = drain(audit_log(log), position).events
    assert b"type=SYSCALL" in event.tail
    assert b"\ntype=PROCTITLE" in event.tail


@both_ways
def test_a_new_log_that_is_copied_and_cut_before_it_is_read_is_read_in_its_copy(log: Path, inotify: bool) -> None:
    log.write_bytes(records(1, 10))

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.events) == 10)
        overwrite(log.with_name("audit.log.1"), records(1, 10))
        overwrite(log, b"")
        await until(lambda: source.file.endswith(".1"))
        append(log, records(11, 20))  # no await: the source cannot have read them
        log.with_name("audit.log.1").rename(log.with_name("audit.log.2"))
        overwrite(log.with_name("audit.log.1"), records(11, 20))
        overwrite(log, records(21, 30))
        await until(lambda: len(taken.events) == 30)

    source = audit_log(log, inotify=inotify)
    assert follow(source, play).serials == list(range(1, 31))


@both_ways
def test_an_empty_log_that_is_copied_and_cut_before_it_is_read_is_read_in_its_copy(log: Path, inotify: bool) -> None:
    log.touch()

    async def play(taken: Taken) -> None:
        await until(lambda: source.file)
        append(log, records(11, 20))  # no await: the source cannot have read them
        overwrite(log.with_name("audit.log.1"), records(11, 20))
        overwrite(log, records(21, 30))
        await until(lambda: len(taken.events) == 20)

    source = audit_log(log, inotify=inotify)
    assert follow(source, play).serials == list(range(11, 31))


def test_a_copy_that_is_still_being_made_is_not_read_twice(log: Path) -> None:
    """audit.log.1 already holds its beginning, and audit.log still all of it."""
    whole = records(11, 20)
    overwrite(log.with_name("audit.log.2"), records(1, 10))
    overwrite(log.with_name("audit.log.1"), whole[: len(whole) // 2])
    overwrite(log, whole)
    source = audit_log(log)

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.events) == 20)
        overwrite(log.with_name("audit.log.1"), whole)
        overwrite(log, records(21, 30))
        await until(lambda: len(taken.events) == 30)

    assert follow(source, play).serials == list(range(1, 31))


@pytest.mark.parametrize("beyond", [0, 50_000])
def test_a_line_over_the_ceiling_ends_with_its_file(log: Path, beyond: int) -> None:
    log.write_bytes(b"x" * (1024 * 1024 + beyond))
    rotate(log)
    append(log, records(1, 2))
    source = audit_log(log)
    taken = drain(source)
    assert source.malformed == (2 if beyond else 1)
    assert [b"malformed" in event.tail for event in taken.events][-3:] == [True, False, False]
    position = taken.batches[0].position
    assert place_of(position)["within"] is True
    log.with_name("audit.log.1").unlink()
    assert drain(audit_log(log), position).serials == [1, 2]


def test_a_tail_that_a_crash_took_and_others_wrote_over_is_noticed(log: Path) -> None:
    log.write_bytes(records(1, 100))
    position = drain(audit_log(log)).position
    kept = records(1, 90)
    log.write_bytes(kept + records(201, 240))
    source = audit_log(log)
    assert drain(source, position).serials == [*range(1, 91), *range(201, 241)]
    assert source.loss_count == 1


# --- Restarts ---


def mixed_log(count: int) -> list[bytes]:
    """Lines of interleaved events: alone, of several records, overtaken, late, malformed."""
    lines = []
    for serial in range(1, count, 4):
        at = serial * 40
        lines += [
            record(serial, kind="SYSCALL", at_ms=at),
            record(serial + 1, at_ms=at + 1),
            record(serial, kind="PATH", at_ms=at, body='item=0 name="/etc/passwd"'),
            record(serial + 2, kind="SYSCALL", at_ms=at + 2),  # nothing completes it but time
            record(serial, kind="PROCTITLE", at_ms=at, body="proctitle=6C73"),
            record(serial, kind="UNKNOWN[1420]", at_ms=at, body="subj_apparmor=unconfined"),
            b"no record %d\n" % serial,
            record(serial, kind="CWD", at_ms=at, body='cwd="/"'),  # late
        ]
    return [*lines, record(count * 2, at_ms=count * 40 + 10_000)]


def without_time_of_reading(taken: Taken) -> list[bytes]:
    return [text_of(event) for event in taken.events]


def test_a_restart_after_any_batch_gives_the_same_rest(log: Path) -> None:
    """From every batch's position come the same events with the same counts, among them open and late events."""
    lines = mixed_log(400)
    third = len(lines) // 3
    log.write_bytes(b"".join(lines[:third]))
    rotate(log)
    append(log, b"".join(lines[third : 2 * third]))
    rotate(log)
    append(log, b"".join(lines[2 * third :]))
    whole = drain(audit_log(log, chunk=900))
    assert len(whole.batches) > 40
    assert any(place_of(batch.position)["open"] for batch in whole.batches)
    events = without_time_of_reading(whole)
    assert any(b' late="1"' in event for event in events)
    for batch in whole.batches[:-1]:
        assert batch.position is not None
        rest = drain(audit_log(log, chunk=900), batch.position)
        assert without_time_of_reading(rest) == events[batch.position.count :]
        assert rest.position is not None
        assert rest.position.count == len(events)


def test_a_restart_after_each_batch_of_the_run_before_gives_everything_once(log: Path) -> None:
    log.write_bytes(b"".join(mixed_log(200)))
    expected = without_time_of_reading(drain(audit_log(log, chunk=3000)))
    given: list[bytes] = []
    position = None
    while True:
        taken = Taken()

        async def only_one(batch: Batch, taken: Taken = taken) -> asyncio.Future[None]:
            if taken.batches:
                raise StorageError("spool", "full")
            return await taken.submit(batch)

        try:
            asyncio.run(audit_log(log, chunk=3000).run(only_one, position, drain=True))
        except StorageError:
            pass
        else:
            if not taken.batches:
                break
        given += without_time_of_reading(taken)
        position = taken.position
    assert given == expected


def test_an_open_event_whose_record_holds_a_carriage_return_is_found_again_after_a_restart(log: Path) -> None:
    log.write_bytes(record(1, kind="SYSCALL", body="a=1\r b=2") + record(2))
    position = follow(audit_log(log), lambda taken: until(lambda: 2 in taken.serials)).position
    append(log, record(1, kind="PROCTITLE", at_ms=1) + record(3))
    taken = drain(audit_log(log), position)
    assert (taken.serials, taken.gaps) == ([1, 3], [])
    assert b"\ntype=PROCTITLE" in taken.events[0].tail


def test_an_unreadable_position_is_logged_and_reading_begins_anew(log: Path, caplog: pytest.LogCaptureFixture) -> None:
    log.write_bytes(records(1, 3))
    for place in (b"", b"\xff", b"{}", b'{"files":[],"offset":0,"before":0,"older":false,"within":false,"open":[]}'):
        assert drain(audit_log(log), Position("audit", 7, place)).serials == [1, 2, 3]
    assert "cannot be read" in caplog.text


def test_positions_stay_small_with_as_many_open_events_as_there_may_be(log: Path) -> None:
    node = "n" * 200
    lines = [f"node={node} ".encode() + record(serial, kind="SYSCALL", at_ms=1) for serial in range(1, 400)]
    log.write_bytes(b"".join(lines))
    taken = follow(audit_log(log), lambda taken: until(lambda: taken.events))
    assert taken.position is not None
    assert len(place_of(taken.position)["open"]) == 256  # type: ignore[arg-type]  # JSON
    assert len(taken.position.data) < 32 * 1024


# --- Back-pressure and failure ---


def test_no_more_than_two_batches_are_on_their_way(log: Path) -> None:
    log.write_bytes(records(1, 200))
    source = audit_log(log, chunk=1000)

    async def play(taken: Taken) -> None:
        taken.hold = True
        await until(lambda: len(taken.held) == 2)
        for _ in range(200):
            await asyncio.sleep(0)
        assert len(taken.held) == 2
        taken.hold = False
        taken.held[0].set_result(None)
        taken.held[1].set_result(None)
        await until(lambda: len(taken.events) == 200)

    assert follow(source, play).serials == list(range(1, 201))


def test_draining_waits_until_the_last_batch_is_durable(log: Path) -> None:
    log.write_bytes(records(1, 10))
    source = audit_log(log)
    taken = Taken()
    taken.hold = True

    async def play() -> None:
        running = asyncio.create_task(source.run(taken.submit, None, drain=True))
        await until(lambda: taken.held)
        for _ in range(200):
            await asyncio.sleep(0)
        assert not running.done()
        taken.held[0].set_result(None)
        await running

    asyncio.run(play())


def test_a_batch_that_fails_ends_the_run(log: Path) -> None:
    log.write_bytes(records(1, 10))

    async def play(taken: Taken) -> None:
        taken.hold = True
        await until(lambda: taken.held)
        taken.held[0].set_exception(StorageError("spool", "failed"))
        await until(lambda: False)

    with pytest.raises(StorageError):
        follow(audit_log(log), play)


@pytest.mark.parametrize("batches", [1, 2])
def test_stopping_does_not_cancel_batches_on_their_way(log: Path, batches: int) -> None:
    log.write_bytes(records(1, 10 * batches))

    async def play(taken: Taken) -> None:
        taken.hold = True
        await until(lambda: len(taken.held) == batches)
        for _ in range(50):
            await asyncio.sleep(0)

    taken = follow(audit_log(log, chunk=1000), play)
    assert not any(durable.cancelled() for durable in taken.held)


def test_without_descriptors_for_inotify_it_looks_often(log: Path, caplog: pytest.LogCaptureFixture) -> None:
    """EMFILE from the real kernel; when descriptors are free again inotify is taken after all."""
    log.write_bytes(record(1))
    source = audit_log(log)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def play() -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)  # the loop has all its descriptors
        taken = Taken()
        used = os.open(os.devnull, os.O_RDONLY)
        hogs = [used]
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 16, hard))
        running = None
        try:
            while True:
                try:
                    hogs.append(os.open(os.devnull, os.O_RDONLY))
                except OSError:
                    break
            running = asyncio.create_task(source.run(taken.submit, None, drain=False))
            await until(lambda: "no inotify" in caplog.text)
        finally:
            for hog in hogs:
                os.close(hog)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert running is not None
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(play())


# --- Permissions ---

READER = """
    import asyncio, os, sys
    from relay.errors import RelayError
    from harness.waiting import until
    from source.log_writing import Taken, audit_log, record
    from pathlib import Path

    log = Path(sys.argv[1])
"""


def unprivileged(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program to which file modes apply, even if root runs the tests."""
    return subprocess.run(
        [*WITHOUT_ROOTS_RIGHTS, sys.executable, "-c", textwrap.dedent(READER + program), *arguments],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_an_unreadable_log_is_an_error_at_the_start(log: Path) -> None:
    log.write_bytes(record(1))
    log.chmod(0)
    done = unprivileged(
        """
    try:
        asyncio.run(audit_log(log).run(Taken().submit, None, drain=True))
    except RelayError as error:
        print(error.exit_code, error)
    """,
        str(log),
    )
    assert done.stdout.startswith(f"77 {log}: "), done
    assert "log_group" in done.stdout


def test_an_unreadable_folder_is_an_error_at_the_start(log: Path) -> None:
    log.parent.chmod(0)
    try:
        done = unprivileged(
            """
    try:
        asyncio.run(audit_log(log).run(Taken().submit, None, drain=True))
    except RelayError as error:
        print(error.exit_code, error)
    """,
            str(log),
        )
    finally:
        log.parent.chmod(0o700)
    assert done.stdout.startswith("77 "), done


def test_a_log_that_becomes_unreadable_is_tried_again(log: Path) -> None:
    log.write_bytes(record(1))
    done = unprivileged(
        """
    source = audit_log(log)
    taken = Taken()

    async def play():
        running = asyncio.create_task(source.run(taken.submit, None, drain=False))
        await until(lambda: taken.serials == [1])
        log.rename(log.with_name("audit.log.1"))
        os.close(os.open(log, os.O_CREAT | os.O_WRONLY, 0))
        await until(lambda: "Permission denied" in source.last_error)
        log.chmod(0o600)
        log.write_bytes(record(2))
        await until(lambda: taken.serials == [1, 2])
        await until(lambda: not source.last_error)
        running.cancel()

    asyncio.run(play())
    print("done")
    """,
        str(log),
    )
    assert done.stdout == "done\n", done
    assert done.stderr.count("cannot be read at present") == 1


def test_a_path_that_cannot_be_is_an_error_at_the_start(log: Path) -> None:
    log.write_bytes(b"")
    with pytest.raises(NoInputError):
        drain(audit_log(log / "audit.log"))


# --- Status ---


def test_status_says_where_it_is(log: Path) -> None:
    log.write_bytes(records(1, 100))
    rotate(log)
    append(log, records(101, 110))
    source = audit_log(log)
    size = log.stat().st_size
    lags = []

    class Looking(Taken):
        async def submit(self, batch: Batch) -> asyncio.Future[None]:
            lags.append(source.lag)  # here it does nothing else
            return await super().submit(batch)

    async def play(taken: Taken) -> None:
        await until(lambda: len(taken.events) == 110)
        assert source.file == str(log)
        assert source.offset == size
        assert "offset=" in repr(source)

    follow(source, play, taken=Looking())
    assert lags[:2] == [size, 0]
