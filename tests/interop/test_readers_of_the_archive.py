"""Other programs read the archive as it is: lnav, grep, tail -F, zstd(1), and a shipper that stores offsets."""

import subprocess
import threading
from pathlib import Path

import pytest
import pyzstd
from archive.messages import NOON_US, foreign, own
from harness.debian import LNAV, ZSTD, fetch
from harness.waiting import wait_until

from relay.archive.days.compressed_log import FRAME, OPTIONS
from relay.archive.writer.archive_writer import ArchiveWriter

LINES = 400


class OffsetReader:
    """Reads whole lines from a stored offset, as Filebeat, Promtail and Vector do; a new one continues."""

    def __init__(self, path: Path, registry: Path) -> None:
        self._path = path
        self._registry = registry

    def lines(self) -> list[bytes]:
        offset = int(self._registry.read_text()) if self._registry.exists() else 0
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._registry.write_text(str(offset + len(whole)))
        return whole.split(b"\n")[:-1]


def write(archive: Path, pace: threading.Semaphore) -> None:
    with ArchiveWriter(str(archive), "spool") as writer:
        for number in range(1, LINES + 1):
            writer.write(own(number, text=f"two\nlines {number}"), NOON_US)
            if number % 10 == 0:
                writer.commit(b"%d" % number)
                pace.acquire(timeout=30)


def test_a_log_is_read_while_its_writer_appends(tmp_path: Path) -> None:
    """A shipper with offsets, restarted again and again, and tail -F get every line once."""
    log = tmp_path / "archive" / "router1" / "2024-03-06.log"
    log.parent.mkdir(parents=True)
    pace = threading.Semaphore(0)
    shipped: list[bytes] = []
    with (tmp_path / "tailed").open("wb") as tailed:
        tail = subprocess.Popen(["tail", "-n", "+1", "-F", log], stdout=tailed, stderr=subprocess.DEVNULL)
    writing = threading.Thread(target=write, args=(tmp_path / "archive", pace))
    writing.start()
    try:
        for _ in range(LINES // 10 + 1):
            pace.release()
            shipped += OffsetReader(log, tmp_path / "registry").lines()
        writing.join(60)
        shipped += OffsetReader(log, tmp_path / "registry").lines()
        expected = log.read_bytes()
        assert shipped == expected.split(b"\n")[:-1]
        assert len(shipped) == LINES
        wait_until(lambda: (tmp_path / "tailed").read_bytes() == expected, 60, "tail -F to have every line")
    finally:
        tail.kill()
        tail.wait()
        pace.release()
        writing.join(60)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    with ArchiveWriter(str(tmp_path), "spool") as writer:
        for number in range(1, 21):
            writer.write(own(number, text=f"two\nlines {number}"), NOON_US)
            writer.write(foreign(number, host="router1"), NOON_US)
        writer.commit(b"1")
    return tmp_path / "router1" / "2024-03-06.log"


def test_lnav_and_grep_read_the_lines(log: Path, tmp_path: Path) -> None:
    """The format that lnav recognises is its own syslog_log, with time, host and program."""
    root = fetch(LNAV)
    query = (
        ";select log_hostname, log_procname, date(max(log_time)) as day, count(*) as n from syslog_log group by 1, 2"
    )
    done = subprocess.run(
        [root.file("bin/lnav"), "-n", "-c", query, "-c", ":write-csv-to -", log],
        env={**root.environment(), "HOME": str(tmp_path), "TERM": "xterm"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [
        "log_hostname,log_procname,day,n",
        "router1,app,2024-03-06,20",
        "router1,auditd,2024-03-06,20",
    ]
    counted = subprocess.run(["grep", "-c", "two#012lines", log], capture_output=True, text=True, check=True)
    assert counted.stdout == "20\n"


def test_zstd_decompresses_a_closed_day(log: Path) -> None:
    compressed = log.with_suffix(".log.zst")
    with pyzstd.SeekableZstdFile(compressed, "w", level_or_option=dict(OPTIONS), max_frame_content_size=FRAME) as file:
        file.write(log.read_bytes())
    root = fetch(ZSTD)
    done = subprocess.run(
        [root.file("bin/zstd"), "-dc", compressed], env=root.environment(), capture_output=True, check=True
    )
    assert done.stdout == log.read_bytes()
