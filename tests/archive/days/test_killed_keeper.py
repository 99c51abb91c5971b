"""A keeper that is killed at any moment, and one on a disk that is full."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from archive.days import kept_days, killed_days
from archive.days.closed_archive import ClosedArchive
from archive.messages import number_of
from archive.plain_reader import read_archive
from harness.compressors import compressor
from harness.small_disk import SmallDisk
from harness.waiting import wait_until

from relay.archive.layout import begin_of
from relay.archive.ledger import Removal
from relay.archive.writer.archive_writer import ArchiveWriter
from relay.system.crash_point import POINTS

NOW = begin_of("2026-11-30")
LOG = b"".join(b"<13>1 2026-11-27T10:00:00Z fw1 app - - - line %d\n" % number for number in range(30_000))
ALL = [point for point in POINTS if point.startswith(("day-", "removal-"))]
COMPRESS = ("-", "-", "0")
REMOVE_BY_AGE = ("86400", "-", "-")


def _keep(archive: ClosedArchive, terms: tuple[str, str, str], *prefix: str, die_at: str = "", floor: int = 0) -> int:
    """Run the keeper once; its exit code."""
    command = [*prefix, sys.executable, kept_days.__file__, str(archive.folder), str(NOW), *terms, str(floor)]
    environment = {**os.environ, "RELAY_CRASH_AT": die_at, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=environment, timeout=60, check=False).returncode


def test_every_point_is_tried() -> None:
    assert ALL == ["day-compressing", "day-compressed", "day-renamed", "removal-recorded"]


@pytest.mark.parametrize("point", ["day-compressed", "day-renamed"])
def test_a_keeper_that_dies_while_it_compresses_leaves_a_whole_copy_and_the_next_one_finishes(
    tmp_path: Path, point: str
) -> None:
    archive = ClosedArchive(tmp_path / "archive")
    log = archive.add("fw1", "2026-11-20", LOG)
    archive.add("fw1", "2026-11-21", LOG)
    assert _keep(archive, COMPRESS, die_at=point) == -signal.SIGKILL
    assert log.read_bytes() == LOG
    assert _keep(archive, COMPRESS) == 0
    assert archive.names("fw1") == [
        *("2026-11-20.ledger", "2026-11-20.log.zst", "2026-11-21.ledger", "2026-11-21.log.zst"),
    ]
    for name in ("2026-11-20.log.zst", "2026-11-21.log.zst"):
        assert compressor("zstd", "-q", "-dc", log.parent / name) == LOG


def test_the_compressor_ends_when_its_keeper_was_killed(tmp_path: Path) -> None:
    archive = ClosedArchive(tmp_path / "archive")
    log = archive.add("fw1", "2026-11-20", LOG * 40)
    copy = Path(f"{log}.zst.new")
    command = [sys.executable, kept_days.__file__, str(archive.folder), str(NOW), *COMPRESS]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as keeper:
        wait_until(copy.exists, 60, "a copy that has begun")
        (child,) = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text().split()
        assert os.getpriority(os.PRIO_PROCESS, int(child)) == 19
        keeper.kill()
    wait_until(lambda: not Path(f"/proc/{child}").exists(), 60, "the end of the compressor")
    assert log.read_bytes() == LOG * 40
    assert [path.name for path in log.parent.iterdir() if ".zst" in path.name] == []


def test_a_removal_that_was_recorded_is_finished_by_the_next_keeper_whatever_its_settings(tmp_path: Path) -> None:
    archive = ClosedArchive(tmp_path / "archive")
    archive.add("fw1", "2026-11-20")
    archive.add("fw1", "2026-11-21")
    assert _keep(archive, REMOVE_BY_AGE, die_at="removal-recorded") == -signal.SIGKILL
    assert archive.names("fw1") == [*("2026-11-20.ledger", "2026-11-20.log", "2026-11-21.ledger", "2026-11-21.log")]
    assert isinstance(archive.last_line("fw1", "2026-11-20"), Removal)
    assert _keep(archive, ("-", "-", "-")) == 0
    assert archive.names("fw1") == ["2026-11-20.ledger", "2026-11-21.ledger", "2026-11-21.log"]


def test_a_torn_removal_is_written_again(tmp_path: Path) -> None:
    archive = ClosedArchive(tmp_path / "archive")
    archive.add("fw1", "2026-11-20")
    with (archive.folder / "fw1/2026-11-20.ledger").open("ab") as ledger:
        ledger.write(b'{"removed":17')
    assert _keep(archive, REMOVE_BY_AGE) == 0
    assert isinstance(archive.last_line("fw1", "2026-11-20"), Removal)
    assert archive.names("fw1") == ["2026-11-20.ledger"]
    lines = (archive.folder / "fw1/2026-11-20.ledger").read_bytes().splitlines()
    assert len(lines) == 4


def test_a_writer_and_its_keeper_that_are_killed_at_random_moments_lose_and_duplicate_nothing(tmp_path: Path) -> None:
    """Days pass every few milliseconds: they are closed, compressed and removed while messages are written."""
    chance, archive = random.Random(2026), tmp_path / "archive"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for size, ending in (("1e9", ".zst"), ("1e9", ".zst"), ("40000", ".ledger"), ("40000", ".ledger")):
        end = len(list(archive.glob(f"*/*{ending}"))) + chance.randrange(3, 30)
        command = [sys.executable, killed_days.__file__, str(archive), size]
        with subprocess.Popen(command, env=environment) as both:
            wait_until(partial(_has, archive, ending, end), 60, f"{end} files {ending}")
            both.kill()
    with ArchiveWriter(str(archive), "spool") as writer:
        assert not writer.recovered.damaged
        last = int(writer.cursor or b"0")
    for ledger in archive.glob("*/*.ledger"):
        if not ledger.stat().st_size:
            ledger.unlink()  # a part that had begun when the writer was killed
    stored = [number_of(line.message) for line in read_archive(archive)]
    removed = [number for path in archive.glob("*/*.ledger") for number in _removed(path)]
    assert sorted(stored + removed) == list(range(1, last + 1))
    assert removed


def _has(archive: Path, ending: str, count: int) -> bool:
    """Whether there are so many files; and for ledgers, whether something was removed."""
    found = list(archive.glob(f"*/*{ending}"))
    is_removed = ending != ".ledger" or any(b'{"removed"' in path.read_bytes() for path in found)
    return len(found) >= count and is_removed


def _removed(path: Path) -> Iterator[int]:
    """The numbers of the messages that retention removed."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    if "removed" in lines[-1]:
        for _, _, first, last in (identity for line in lines for identity in line.get("id", ())):
            yield from range(first, last + 1)


def test_a_full_disk_is_never_caused_by_compression_and_is_relieved_by_retention(tmp_path: Path) -> None:
    """The disk has 4 MiB and no room left: ledgers grow within their last block."""
    with SmallDisk(tmp_path / "disk", "4m") as disk:
        script = tmp_path / "fill.py"
        script.write_text(_FILL.format(path=sys.path, folder=str(disk.folder / "archive")))
        disk.run(sys.executable, str(script))
        assert disk.free == 0
        archive = ClosedArchive.__new__(ClosedArchive)
        archive.folder = disk.folder / "archive"
        assert _keep(archive, COMPRESS, *disk.prefix) == 0
        assert sorted(disk.run("ls", str(archive.folder / "fw1")).split()) == _BOTH
        assert _keep(archive, ("-", "2000000", "-"), *disk.prefix) == 0
        assert sorted(disk.run("ls", str(archive.folder / "fw1")).split()) == [
            name for name in _BOTH if name != _OLDEST
        ]
        disk.run("rm", f"{disk.folder}/fill")
        assert _keep(archive, COMPRESS, *disk.prefix, floor=3 << 30) == 0
        assert _YOUNGEST in disk.run("ls", str(archive.folder / "fw1")).split()
        assert _keep(archive, COMPRESS, *disk.prefix) == 0
        assert f"{_YOUNGEST}.zst" in disk.run("ls", str(archive.folder / "fw1")).split()


_OLDEST, _YOUNGEST = "2026-11-20.log", "2026-11-21.log"
_BOTH = sorted(["2026-11-20.ledger", _OLDEST, "2026-11-21.ledger", _YOUNGEST])
_FILL = """
import sys
sys.path[:] = {path!r}
from pathlib import Path
from archive.days.closed_archive import ClosedArchive
folder = Path({folder!r})
archive = ClosedArchive(folder)
for day in ("2026-11-20", "2026-11-21"):
    archive.add("fw1", day, b"<13>a message\\n" * 100_000)
try:
    with (folder.parent / "fill").open("wb", buffering=0) as fill:
        while True:
            fill.write(b"x" * 4096)
except OSError:
    pass
"""
