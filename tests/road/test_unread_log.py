"""Records that relay could not read are reported as a gap, and `relay status` shows why a source waits."""

import contextlib
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.auditd import Auditd
from harness.collector import Collector
from harness.process import Process
from harness.relay import RELAY, octet_counted
from harness.rights import WITHOUT_ROOTS_RIGHTS
from harness.waiting import wait_until
from source.log_writing import record, records

from relay.syslog.auditd_remote import AuditdClient

CONFIGURATION = """\
[relay]
hostname = "combo1"
state-directory = "{folder}/state"
[audit]
watch-auditd = "never"
[[source]]
name = "audit"
path = "{folder}/audit.log"
[[remote-logging-server]]
address = "127.0.0.1"
port = {port}
transport = "tcp"
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as listening:
        yield listening


@pytest.fixture
def log(tmp_path: Path, collector: Collector) -> Path:
    (tmp_path / "relay.toml").write_text(CONFIGURATION.format(folder=tmp_path, port=collector.port))
    return tmp_path / "audit.log"


def relay(log: Path) -> Process:
    argv = [*WITHOUT_ROOTS_RIGHTS, *RELAY, "-c", str(log.with_name("relay.toml")), "run"]
    return Process(argv, log.with_name("relay.log"))


def status(log: Path) -> str:
    argv = [*RELAY, "-c", str(log.with_name("relay.toml")), "status"]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60).stdout


def gaps(collector: Collector) -> set[bytes]:
    return {message for message in octet_counted(collector.received) if b" GAP [" in message}


def serials(collector: Collector) -> list[int]:
    return sorted({int(found) for found in re.findall(rb' serial="(\d+)"', collector.received)})


def test_nul_blocks_are_one_gap_even_across_a_crash_and_every_record_arrives(log: Path, collector: Collector) -> None:
    log.write_bytes(records(1, 3) + bytes(12_288) + records(4, 6) + bytes(500))
    with relay(log) as running:
        wait_until(lambda: serials(collector) == [*range(1, 7)] and gaps(collector), 60, lambda: running.log)
        running.kill()
    with log.open("ab") as file:
        file.write(records(7, 9))
    with relay(log) as running:
        wait_until(lambda: serials(collector) == [*range(1, 10)] and len(gaps(collector)) > 1, 60, lambda: running.log)
        running.stop()
    assert sorted(re.findall(rb' nulOctets="(\d+)"', b"".join(gaps(collector)))) == [b"12288", b"500"]


def test_a_file_that_relay_is_not_allowed_to_read_does_not_stop_the_others(log: Path, collector: Collector) -> None:
    """After a crash and a restart it is not reported again."""
    older = log.with_name("audit.log.1")
    older.write_bytes(records(1, 3))
    older.chmod(0)
    log.write_bytes(records(4, 6))
    with relay(log) as running:
        wait_until(lambda: serials(collector) == [4, 5, 6] and gaps(collector), 60, lambda: running.log)
        running.wait_for_log(f"{older}: relay is not allowed to read the file")
        running.kill()
    with log.open("ab") as file:
        file.write(records(7, 9))
    with relay(log) as running:
        wait_until(lambda: serials(collector) == [4, 5, 6, 7, 8, 9], 60, lambda: running.log)
        running.stop()
    (gap,) = gaps(collector)
    cause = 'cause="relay is not allowed to read the file"'
    assert f' source="audit" file="{older}" {cause} events="unknown" before="'.encode() in gap


def test_a_log_that_was_emptied_while_relay_was_stopped_is_a_gap(log: Path, collector: Collector) -> None:
    log.write_bytes(records(1, 3))
    with relay(log) as running:
        wait_until(lambda: serials(collector) == [1, 2, 3], 60, lambda: running.log)
        running.stop()
    log.write_bytes(b"")
    with relay(log) as running:
        wait_until(lambda: gaps(collector), 60, lambda: running.log)
        running.stop()
    (gap,) = gaps(collector)
    assert b' events="unknown" after="2024-03-06T16:34:22.003Z 3"] ' in gap


def test_status_shows_a_source_that_waits_for_its_log(log: Path, collector: Collector) -> None:
    line = f"source       audit: 0 events taken in; 0 bytes to read; {log}: there is no such file; waiting for it\n"
    with relay(log) as running:
        wait_until(lambda: line in status(log), 60, lambda: f"{status(log)}\n{running.log}")
        running.wait_for_log(f"{log}: there is no such file; waiting for it")
        log.write_bytes(records(1, 3))
        wait_until(lambda: serials(collector) == [1, 2, 3], 60, lambda: running.log)
        wait_until(lambda: "no such file" not in status(log), 60, lambda: status(log))
        running.stop()


# --- What auditd leaves of its log to log_group ---

ROTATING = "max_log_file = 1\nnum_logs = 5\nmax_log_file_action = ROTATE\nlog_group = root\n"
GROUP = "adm"
READER = """
    import sys
    from pathlib import Path
    from source.log_writing import audit_log, drain
    taken = drain(audit_log(Path(sys.argv[1])))
    print(len(taken.serials) > 0, *taken.gaps)
"""


def fill(auditd: Auditd, megabytes: int) -> None:
    """Have it write so much: sent to it, each record acknowledged."""
    client = AuditdClient()
    lines = [record(serial, body="x" * 900)[:-1] for serial in range(megabytes * 1100)]
    with auditd.connect() as connection:
        for first in range(0, len(lines), 100):
            connection.sendall(b"".join(client.message(line) for line in lines[first : first + 100]))
            waiting = len(lines[first : first + 100])
            while waiting:
                waiting -= len(client.receive(connection.recv(1 << 16)))


def generations(log: Path) -> dict[str, str]:
    """Whose group each file's is; auditd may be about to rotate them."""
    found = {}
    for file in sorted(log.parent.glob("audit.log*")):
        with contextlib.suppress(FileNotFoundError):
            found[file.name] = file.group()
    return found


def read_as_a_member(log: Path) -> str:
    """What a user of the group reads, where auditd runs: its log lies on a disk of its mount namespace's own."""
    root = Path(*log.parts[:4])  # /proc/PID/root
    for folder in (log.parent, log.parents[1]):  # auditd's own, in the folder for temporary files
        folder.chmod(0o755)
    there = ["nsenter", "--target", log.parts[2], "--mount", "setpriv", "--reuid=65534", "--clear-groups"]
    member = [f"--regid={GROUP}", sys.executable, "-c", textwrap.dedent(READER), f"/{log.relative_to(root)}"]
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": f"{tests}:{Path(tests).parent}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*there, *member], env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_relay_skips_the_files_that_auditd_rotated_before_log_group_was_set() -> None:
    """Seen with auditd 3.0.9: log_group applies to its newest file, and to the files that it rotates from then on."""
    if os.geteuid() != 0:
        return  # nobody else may give files to groups
    with Auditd(settings=ROTATING) as auditd:
        fill(auditd, 3)
        settings = auditd.folder / "auditd.conf"
        settings.write_text(settings.read_text().replace("log_group = root", f"log_group = {GROUP}"))
        auditd.kill()
        auditd.start()
        fill(auditd, 1)
        newest, older = {"audit.log": GROUP, "audit.log.1": GROUP}, {"audit.log.2": "root", "audit.log.3": "root"}
        wait_until(
            lambda: generations(auditd.log_file) == newest | older, 60, lambda: f"{generations(auditd.log_file)}"
        )
        printed = read_as_a_member(auditd.log_file)
    assert printed.startswith("True b'<43>"), printed
    assert all(f'{name}"' in printed for name in older)
    assert 'audit.log.1"' not in printed
