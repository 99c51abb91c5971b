"""A small spool and a damaged spool, with the commands that a user runs: no loss stays unreported."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.collector import Collector
from harness.ports import free_port
from harness.process import Process
from harness.relay import RELAY, archived, octet_counted
from harness.waiting import wait_until
from source.log_writing import record, records

from relay.program.receiver import ROUTING
from relay.program.status.control_socket import ask
from relay.program.status.live import Live
from relay.spool.commit import Commit
from relay.spool.spool import RunSeed
from relay.spool.store import Store
from relay.system.disk import Disk
from relay.values.event import Batch, Event, EventType

CONFIGURATION = """\
[relay]
hostname = "combo1"
state-directory = "{folder}/state"
[audit]
watch-auditd = "never"
disk-full-action = "{policy}"
halt-command = ["/usr/bin/touch", "{folder}/halted"]
space-left = "0B"
[spool]
max-size = "4MiB"
segment-size = "1MiB"
[[source]]
name = "audit"
path = "{folder}/audit.log"
{more}
[[remote-logging-server]]
address = "127.0.0.1"
port = {port}
transport = "tcp"
"""
RECORDS = 20_000
FULL = 3_000
"""Large records that do not all fit."""
SPOOLED = 1_200
"""Events that fit with space to spare."""


def large(first: int, last: int) -> bytes:
    return b"".join(record(serial, body="x" * 1500) for serial in range(first, last + 1))


class Small:
    """A router with 4 MiB of state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "audit.log"
        self.configure()

    def configure(self, policy: str = "ignore", more: str = "") -> None:
        text = CONFIGURATION.format(folder=self.folder, port=self.port, policy=policy, more=more)
        (self.folder / "relay.toml").write_text(text)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [*RELAY, "-c", str(self.folder / "relay.toml"), *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=100)

    def start(self) -> Process:
        argv = [*RELAY, "-c", str(self.folder / "relay.toml"), "run"]
        return Process(argv, self.folder / "relay.log")

    def live(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return status.get("live") or {}

    def segments(self) -> list[Path]:
        return sorted((self.folder / "state" / "spool" / "retained").glob("*.segment"))

    def answer(self) -> Live:
        """What the running relay reports; nothing while it does not answer. It costs less than `live`."""
        return ask(str(self.folder / "state")) or Live(pid=0, started=0)

    def waits(self) -> bool:
        return any(source.waits_for_space for source in self.answer().sources)

    def writes(self) -> bool:
        """Whether the spool can be written, and everybody is answered."""
        answer = self.answer()
        return bool(answer.pid) and not answer.intake_error


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(tmp_path)


@pytest.fixture
def collector(small: Small) -> Iterator[Collector]:
    with Collector(port=small.port) as listening:
        yield listening


def serials(collector: Collector) -> list[int]:
    return sorted({int(found) for found in re.findall(rb' serial="(\d+)"', collector.received)})


def gaps(collector: Collector) -> set[bytes]:
    return {message for message in octet_counted(collector.received) if b" GAP [" in message}


def test_ignore_delivers_everything_that_audit_log_still_holds(small: Small) -> None:
    small.log.write_bytes(records(1, RECORDS))
    with small.start() as relay:
        wait_until(small.waits, 60, lambda: relay.log)
        relay.wait_for_log("alarm raised: the sources wait for space")
        status = small.run("status").stdout
        assert "intake       waiting for space: audit: " in status
        assert "waits for space in the spool, and is read on then" in status
        assert "alarm        critical, spool-full: the sources wait for space: " in status
        with Collector(port=small.port) as collector:
            wait_until(lambda: len(serials(collector)) == RECORDS, 90, lambda: relay.log)
            wait_until(small.writes, 60, lambda: relay.log)
            assert serials(collector) == list(range(1, RECORDS + 1))
            assert small.live()["refused"] == {}
            assert gaps(collector) == set()
        relay.stop()


def test_what_the_log_rotates_away_while_its_source_waits_is_a_gap_with_the_serials_around_it(small: Small) -> None:
    small.log.write_bytes(large(1, FULL))
    with small.start() as relay:
        wait_until(small.waits, 60, lambda: relay.log)
        for first in (3_001, 4_001, 5_001):  # auditd keeps one older file here, and deletes the others
            small.log.replace(small.log.with_name("audit.log.1"))
            small.log.write_bytes(large(first, first + 999))
        with Collector(port=small.port) as collector:
            wait_until(lambda: 5_999 in serials(collector) and gaps(collector), 90, lambda: relay.log)
            (gap,) = gaps(collector)
            (after,), (before,) = (re.findall(rb' %b="\S+ (\d+)"' % word, gap) for word in (b"after", b"before"))
            found = serials(collector)
        relay.stop()
    missing = sorted(set(range(1, found[-1] + 1)) - set(found))
    assert missing == list(range(int(after) + 1, int(before)))
    assert missing


def test_the_halt_is_requested_although_every_source_only_waits(small: Small) -> None:
    small.configure("halt")
    small.log.write_bytes(large(1, FULL))
    with small.start() as relay:
        wait_until(small.waits, 60, lambda: relay.log)
        relay.wait_for_log("alarm raised: the sources wait for space")
        assert not (small.folder / "halted").exists(), "never within a minute of its start"
        relay.stop()


def test_beside_a_waiting_source_a_dispatcher_uses_the_reserve_and_is_then_refused_and_counted(
    small: Small,
) -> None:
    socket = small.folder / "dispatch"
    small.configure(more=f'[[source]]\nname = "plugin"\ntype = "audit-dispatcher"\nsocket = "{socket}"')
    small.log.write_bytes(large(1, FULL))
    with small.start() as relay:
        wait_until(small.waits, 60, lambda: relay.log)
        before = small.live()["accepted"]["audit"]
        argv = [sys.executable, "-m", "relay", "dispatch", str(socket)]
        given = large(100_001, 101_000)
        subprocess.run(argv, input=given, check=True, timeout=60)
        wait_until(lambda: _of(small, "plugin") == 1_000, 60, lambda: relay.log)
        live = small.live()
        assert live["accepted"]["audit"] > before
        refused = live["refused"]["audit"]
        assert refused > 0
        assert f"events refused since the start (audit {refused}" in small.run("status").stdout
        with Collector(port=small.port) as collector:
            wait_until(lambda: FULL in serials(collector) and gaps(collector), 90, lambda: relay.log)
            wait_until(small.writes, 60, lambda: relay.log)
            counted = sum(
                int(found) for gap in gaps(collector) for found in re.findall(rb'lost="\w+ audit \d+ \d+ (\d+)"', gap)
            )
            found = serials(collector)
        relay.stop()
    assert [serial for serial in found if serial <= FULL] == list(range(1, FULL + 1))
    assert counted == refused == 1_000 - sum(serial > 100_000 for serial in found)


def _of(small: Small, source: str) -> int:
    """Events of a source that are accepted or refused."""
    return sum(each.accepted + each.refused for each in small.answer().sources if each.name == source)


# --- A spool that was harmed ---


def spooled(small: Small) -> None:
    """Leave a spool with undelivered events behind."""
    small.log.write_bytes(large(1, SPOOLED))
    with small.start() as relay:
        wait_until(lambda: small.answer().accepted.get("audit") == SPOOLED, 60, lambda: relay.log)
        relay.stop()


def _damage(small: Small) -> None:
    with small.segments()[1].open("r+b") as file:
        file.seek(1000)
        file.write(b"damage" * 20_000)


def _delete_the_oldest(small: Small) -> None:
    for path in small.segments()[:2]:
        path.unlink()


@pytest.mark.parametrize("harm", [_damage, _delete_the_oldest])
def test_a_drain_delivers_the_gaps_that_it_found_and_its_exit_code_is_65(small: Small, harm: Any) -> None:
    spooled(small)
    harm(small)
    assert harm is _damage or "nothing waits" not in small.run("status").stdout
    with Collector(port=small.port) as collector:
        done = small.run("run", "--drain", "--timeout", "60")
        found = serials(collector)
        counted = {
            number
            for gap in gaps(collector)
            for first, last in re.findall(rb'lost="\w+ audit (\d+) (\d+)', gap)
            for number in range(int(first), int(last) + 1)
        }
    assert done.returncode == 65, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert re.search(r"damaged or missing in part: \d+ events lost for .*; everything else is proven", last)
    assert counted
    assert sorted(counted | set(found)) == list(range(1, SPOOLED + 1))
    with Collector(port=small.port):
        again = small.run("run", "--drain", "--timeout", "60")
        assert (again.returncode, "lost" in again.stderr) == (0, False), again.stderr


def test_a_receivers_drain_reports_what_is_missing_of_its_spool_in_the_archive(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Store(Disk(), str(state), segment_size=1 << 16, max_size=1 << 22, run=RunSeed(b"1" * 8, b"s" * 16)) as store:
        numbers = dict.fromkeys(EventType, 1)
        for _ in range(20):
            events = [Event(EventType.LOG, 1, b"<13>1 - host app - - - " + b"x" * 1000) for _ in range(20)]
            commit = Commit(store, ROUTING, [Batch(events)], numbers, {}, _no_gap)
            commit.write(lambda: 1)
            numbers = commit.reached
    files = sorted((state / "spool" / "transient").glob("*.segment"))
    assert len(files) > 4
    files[0].unlink()
    files[2].unlink()
    argv = [*RELAY, "receive", "--drain", "--timeout", "60", "--state", str(state), "--archive", str(tmp_path / "a")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 65, done.stderr
    messages = archived(tmp_path / "a")
    arrived = sum(b" app - - - " in message for message in messages)
    lost = [int(found) for each in messages for found in re.findall(rb'lost="\w+ log \d+ \d+ (\d+)"', each)]
    assert arrived + sum(lost) == 400
    assert f"{sum(lost)} events lost for archive" in done.stderr.splitlines()[-1]


def _no_gap(*_: object) -> Event:
    raise AssertionError
