"""`relay receive` keeps its closed days as configured, and a reload changes that."""

import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

from archive.days.closed_archive import ClosedArchive
from harness.compressors import compressor
from harness.ports import LOOPBACK, free_port
from harness.process import Process
from harness.relay import RELAY
from harness.small_disk import SmallDisk
from harness.waiting import wait_until


def test_days_are_removed_and_compressed_as_the_settings_say_and_the_archive_says_so(tmp_path: Path) -> None:
    archive = ClosedArchive(tmp_path / "archive")
    chance = random.Random(13)
    configuration = tmp_path / "relay.toml"
    base = (
        f'[relay]\nstate-directory = "{tmp_path}/state"\nhostname = "logs"\n'
        f'[receiver]\narchive = "{archive.folder}"\nlisten = ["tcp://{LOOPBACK}:{free_port()}"]\n[receiver.retention]\n'
    )
    relay = [*RELAY, "-c", str(configuration)]
    configuration.write_text(base + 'compress-after = ""\nage = "1d"\n')
    with Process([*relay, "receive"], tmp_path / "receive.log") as process:
        process.wait_for_log("ready: ")
        logs = [archive.add("fw1", f"2026-11-0{day}", _log(chance, 700_000)) for day in (1, 2, 3)]
        configuration.write_text(base + 'size = "1MiB"\n')
        done = subprocess.run([*relay, "reload"], capture_output=True, text=True, timeout=60, check=True)
        changed = [f"receiver.retention.{key} changed" for key in ("age", "size", "compress-after")]
        assert sorted(done.stdout.splitlines()) == sorted(changed)
        wait_until(lambda: archive.names("fw1")[-1] == "2026-11-03.log.zst", 60, lambda: process.log)
        reported = lambda: _reports(archive)  # noqa: E731  the condition
        wait_until(reported, 60, lambda: process.log)
        live = json.loads(subprocess.run([*relay, "status", "--json"], capture_output=True, check=True).stdout)
        process.stop()
    assert archive.names("fw1") == [
        *("2026-11-01.ledger", "2026-11-02.ledger", "2026-11-03.ledger", "2026-11-03.log.zst"),
    ], "nothing is removed by age in the first 24 hours"
    compressor("zstd", "-q", "-t", f"{logs[2]}.zst")
    (report,) = _reports(archive)
    assert b'days="2"' in report
    assert (
        b'bySize="2" removed="fw1/2026-11-01" removed="fw1/2026-11-02"] retention removed 2 days of 1 origin' in report
    )
    assert "retention removed 2 days of 1 originator, 1.4 MB (2 by size)" in process.log
    (part,) = (part for part in live["live"]["parts"] if part["name"] == "closed days")
    counters = part["counters"]
    assert (counters["days_removed"], counters["days_compressed"], counters["failed"]) == (2, 1, 0)
    assert process.exit_code == 0


def test_a_receiver_starts_on_a_full_disk_and_retention_frees_it_for_what_waits(tmp_path: Path) -> None:
    """The disk of the archive has 4 MiB, which closed days and a file of somebody else's fill."""
    port = free_port()
    with SmallDisk(tmp_path / "disk", "4m") as disk:
        archive = disk.folder / "archive"
        configuration = tmp_path / "relay.toml"
        base = (
            f'[relay]\nstate-directory = "{tmp_path}/state"\n[receiver]\narchive = "{archive}"\n'
            f'listen = ["tcp://{LOOPBACK}:{port}"]\n[receiver.retention]\ncompress-after = ""\n'
        )
        configuration.write_text(base)
        relay = [*RELAY, "-c", str(configuration)]
        with Process([*disk.prefix, *relay, "receive"], tmp_path / "receive.log") as process:
            process.wait_for_log("ready: ")
            fill = tmp_path / "fill.py"
            fill.write_text(_FILL.format(path=sys.path, folder=str(archive)))
            disk.run(sys.executable, str(fill))
            with socket.create_connection((LOOPBACK, port)) as sender:
                sender.sendall(b"<13>1 - fw2 app - - - waits for space\n")
                sender.shutdown(socket.SHUT_WR)
                assert sender.recv(1) == b"", "it is in the spool"
            wait_until(lambda: "No space left" in process.log, 60, lambda: process.log)
            process.kill()
        with Process([*disk.prefix, *relay, "receive"], tmp_path / "again.log") as process:
            process.wait_for_log("ready: ")
            configuration.write_text(base + 'size = "1MiB"\n')
            subprocess.run([*relay, "reload"], capture_output=True, timeout=60, check=True)
            wait_until(lambda: "waits for space" in _text(disk, archive), 60, lambda: process.log)
            assert "Traceback" not in process.log
        kept = disk.run("ls", f"{archive}/fw1").split()
        assert kept == ["2026-11-01.ledger", "2026-11-02.ledger", "2026-11-02.log"], "the oldest was enough"


def _text(disk: SmallDisk, archive: Path) -> str:
    return disk.run("sh", "-c", f"cat {archive}/fw2/*.log 2> {os.devnull} || true")


_FILL = """
import sys
sys.path[:] = {path!r}
from pathlib import Path
from archive.days.closed_archive import ClosedArchive
folder = Path({folder!r})
archive = ClosedArchive(folder)
archive.add("fw1", "2026-11-01", b"<13>a message\\n" * 100_000)
archive.add("fw1", "2026-11-02", b"<13>a message\\n" * 10_000)
try:
    with (folder.parent / "fill").open("wb", buffering=0) as fill:
        while True:
            fill.write(b"x" * 4096)
except OSError:
    pass
"""


def _log(chance: random.Random, size: int) -> bytes:
    line = b"<13>1 2026-11-01T10:00:00Z fw1 app - - - "
    return b"".join(line + chance.randbytes(30).hex().encode() + b"\n" for _ in range(size // 102))


def _reports(archive: ClosedArchive) -> list[bytes]:
    logs = (
        Path(folder, name) for folder, _, names in os.walk(archive.folder) for name in names if name.endswith(".log")
    )
    return [line for log in logs for line in log.read_bytes().splitlines() if b" REMOVAL [" in line]
