"""Blocks of the log that were never written, as after a power cut: passed over, counted by a gap, nothing else lost."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
from harness.waiting import until
from source.log_writing import Taken, append, audit_log, drain, follow, record, records, rotate

from relay.source.auditd.generations import LogFile
from relay.syslog.rfc5424 import parse
from relay.values.event import Event, EventType

CAUSE = "blocks were never written, as after a power cut"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def cut_record(serial: int) -> bytes:
    """A record as a power cut left it."""
    return record(serial)[:-12]


def params_of(gap: bytes) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in parse(gap).structured_data[0].params}


def serial_named(gap: dict[str, str], side: str) -> int | None:
    return int(gap[side].split()[1]) if side in gap else None


def gaps_of(taken: Taken) -> list[tuple[int, int | None, int | None]]:
    """Of each gap: how many NULs, and the serials of the records around them."""
    found = [params_of(gap) for gap in taken.gaps]
    assert all(gap["cause"] == CAUSE for gap in found)
    return [(int(gap["nulOctets"]), serial_named(gap, "after"), serial_named(gap, "before")) for gap in found]


def after_a_power_cut() -> bytes:
    """Between two records, behind a whole record's LF, in the middle of a record, and at the start."""
    pieces = [
        bytes(4096),
        records(1, 10),
        bytes(3000),
        records(11, 20),
        bytes(12_288),
        records(21, 30),
        cut_record(31),
        bytes(1),
        records(32, 40),
    ]
    return b"".join(pieces)


GAPS = [(4096, None, 1), (3000, 10, 11), (12_288, 20, 21), (1, 31, 32)]


@pytest.mark.parametrize("chunk", [100, 700, 5000, 262_144])
def test_every_record_arrives_and_gaps_count_the_nuls_however_the_reads_cut_them(log: Path, chunk: int) -> None:
    log.write_bytes(after_a_power_cut())
    source = audit_log(log, chunk=chunk)
    taken = drain(source)
    assert taken.serials == [*range(1, 41)]
    assert gaps_of(taken) == GAPS
    assert params_of(taken.gaps[0])["file"] == str(log)
    assert source.malformed == 0


def test_a_gap_is_delivered_between_the_records_around_the_nuls(log: Path) -> None:
    log.write_bytes(records(1, 2) + bytes(4096) + records(3, 4))
    types = [event.type for event in drain(audit_log(log)).events]
    assert types == [EventType.AUDIT, EventType.AUDIT, EventType.RELAY, EventType.AUDIT, EventType.AUDIT]


def test_the_rest_of_a_record_behind_nuls_is_kept_and_marked(log: Path) -> None:
    line = record(2)
    log.write_bytes(record(1) + line[:60] + bytes(512) + line[60:] + record(3))
    taken = drain(audit_log(log))
    messages = [event.tail for event in taken.events if event.type is EventType.AUDIT]
    assert [message.endswith(b'malformed="1"] ' + line[60:-1]) for message in messages] == [False, False, True, False]
    assert gaps_of(taken) == [(512, 2, 3)]


def without_time_of_reading(events: list[Event]) -> list[bytes]:
    return [event.tail if event.type is EventType.RELAY else event.head + event.tail for event in events]


def test_a_restart_after_any_batch_counts_the_nuls_once(log: Path) -> None:
    """The gap and the position behind the NULs are one batch."""
    log.write_bytes(after_a_power_cut() + record(41, kind="SYSCALL") + bytes(700) + record(41, kind="PROCTITLE"))
    whole = drain(audit_log(log, chunk=700))
    events = without_time_of_reading(whole.events)
    positions = [batch.position for batch in whole.batches]
    assert [old.count < new.count for old, new in pairwise(p for p in positions if p)] == [True] * (len(positions) - 1)
    for position in positions[:-1]:
        assert position is not None
        assert without_time_of_reading(drain(audit_log(log, chunk=700), position).events) == events[position.count :]


def test_an_event_that_began_behind_nuls_is_found_again_after_a_restart(log: Path) -> None:
    log.write_bytes(record(1) + cut_record(2) + bytes(9000) + record(3, kind="SYSCALL") + record(4))
    position = follow(audit_log(log), lambda taken: until(lambda: 4 in taken.serials)).position
    append(log, record(3, kind="PROCTITLE") + record(5))
    taken = drain(audit_log(log), position)
    assert (taken.serials, taken.gaps) == ([3, 5], [])
    assert b"\ntype=PROCTITLE" in taken.events[0].tail


# --- At the end of the log ---


def test_nuls_at_the_end_wait_and_data_written_over_them_is_read(log: Path) -> None:
    log.write_bytes(records(1, 3) + cut_record(4) + bytes(8192))
    place = len(records(1, 3))

    async def play(taken: Taken) -> None:
        await until(lambda: taken.serials == [1, 2, 3])
        with log.open("r+b") as file:
            file.seek(place)
            file.write(record(4) + record(5))
        await until(lambda: taken.serials == [1, 2, 3, 4, 5])
        assert taken.gaps == []
        append(log, record(6))
        await until(lambda: 6 in taken.serials)

    taken = follow(audit_log(log), play)
    left = place + len(cut_record(4)) + 8192 - len(records(1, 5))
    assert (taken.serials, gaps_of(taken)) == ([1, 2, 3, 4, 5, 6], [(left, 5, 6)])


@pytest.mark.parametrize("inotify", [True, False], ids=["inotify", "polling"])
def test_nuls_at_the_end_are_counted_once_something_follows(log: Path, inotify: bool) -> None:
    log.write_bytes(records(1, 3) + bytes(8192))
    position = drain(audit_log(log)).position
    append(log, bytes(100))

    async def play(taken: Taken) -> None:
        append(log, bytes(1000))
        append(log, record(4))
        await until(lambda: 4 in taken.serials)

    taken = follow(audit_log(log, inotify=inotify), play, position)
    assert (taken.serials, gaps_of(taken)) == ([4], [(9292, 3, 4)])


def test_nuls_at_the_end_of_a_rotated_log_and_the_start_of_the_next_are_counted(log: Path) -> None:
    log.write_bytes(records(1, 3) + cut_record(4) + bytes(8192))
    rotate(log)
    append(log, bytes(50) + records(5, 6))
    taken = drain(audit_log(log))
    assert taken.serials == [1, 2, 3, 4, 5, 6]
    assert sum(int(params_of(gap)["nulOctets"]) for gap in taken.gaps) == 8242
    assert params_of(taken.gaps[0])["after"].endswith(" 4")


def test_a_rotation_shows_that_nothing_follows_the_nuls(log: Path) -> None:
    log.write_bytes(records(1, 3) + bytes(8192))

    async def play(taken: Taken) -> None:
        await until(lambda: taken.serials == [1, 2, 3])
        rotate(log)
        append(log, record(4))
        await until(lambda: 4 in taken.serials)

    assert gaps_of(follow(audit_log(log), play)) == [(8192, 3, 4)]


def test_nuls_in_a_deleted_log_that_is_written_on_are_counted(log: Path) -> None:
    log.write_bytes(records(1, 3))

    async def play(taken: Taken) -> None:
        with log.open("ab", buffering=0) as auditd:
            await until(lambda: taken.serials == [1, 2, 3])
            os.unlink(log)
            append(log, record(4, at_ms=0))
            await until(lambda: 4 in taken.serials)
            auditd.write(record(5) + bytes(600) + record(6))
            await until(lambda: {5, 6} <= set(taken.serials))
            await until(lambda: any("nulOctets" in params_of(gap) for gap in taken.gaps))

    taken = follow(audit_log(log), play)
    assert [found["nulOctets"] for gap in taken.gaps if "nulOctets" in (found := params_of(gap))] == ["600"]


# --- Size ---


class CountedReads:
    """How many octets of logs are read, and the most at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.octets = self.most = 0
        read = LogFile.read

        def counted(file: LogFile, offset: int, length: int) -> bytes:
            data = read(file, offset, length)
            self.octets += len(data)
            self.most = max(self.most, len(data))
            return data

        monkeypatch.setattr(LogFile, "read", counted)


def test_a_hole_of_60_mb_is_not_read(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_bytes(records(1, 3))
    os.truncate(log, 60_000_000)
    append(log, records(4, 6))
    reads = CountedReads(monkeypatch)
    taken = drain(audit_log(log))
    assert taken.serials == [1, 2, 3, 4, 5, 6]
    assert gaps_of(taken) == [(60_000_000 - len(records(1, 3)), 3, 4)]
    assert reads.octets < 2_000_000


def test_a_hole_at_the_start_is_not_read_either(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that was cut while its writer went on where it was."""
    log.touch()
    os.truncate(log, 60_000_000)
    append(log, records(4, 6))
    reads = CountedReads(monkeypatch)
    assert gaps_of(drain(audit_log(log))) == [(60_000_000, None, 4)]
    assert reads.octets < 2_000_000


def test_nuls_that_lie_on_the_disk_are_read_in_small_pieces_and_once(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(records(1, 3) + bytes(3_000_000))
    os.utime(log, (0, 0))
    reads = CountedReads(monkeypatch)

    async def play(taken: Taken) -> None:
        await until(lambda: taken.serials == [1, 2, 3])
        await until(lambda: reads.octets > 8_000_000)  # it is looked at again and again
        before = reads.octets
        append(log, record(4))
        await until(lambda: 4 in taken.serials)
        assert reads.octets - before < 5_000_000

    taken = follow(audit_log(log, inotify=False), play)
    assert gaps_of(taken) == [(3_000_000, 3, 4)]
    assert reads.most <= 262_144 + 256


def test_a_gap_waits_no_longer_than_others_for_a_record_behind_the_nuls(log: Path) -> None:
    log.write_bytes(record(1) + bytes(100) + b"not a rec")

    async def play(taken: Taken) -> None:
        await until(lambda: taken.gaps)
        assert taken.serials == [1]
        append(log, b"ord\n" + record(2))
        await until(lambda: b' serial="2"' in taken.events[-1].tail)

    taken = follow(audit_log(log), play)
    assert gaps_of(taken) == [(100, 1, None)]
    assert taken.events[-2].tail.endswith(b'malformed="1"] not a record')
