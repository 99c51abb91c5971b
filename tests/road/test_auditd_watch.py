"""The watch on the audit trail for real: the kernel's audit, auditd, relay, and users at terminals.

The kernel's audit is machine-wide and belongs to root (`harness.kernel_auditd`); for another user the tests check that
relay reports that.
"""

import asyncio
import functools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.kernel_auditd import KernelAuditd, may_audit
from harness.login import LoginMachine
from harness.openssh import Sshd
from harness.relay import RELAY, Router
from harness.standstill import Standstill
from harness.waiting import wait_until
from source.log_writing import AUTHOR

from relay.events.audit.mapping import AuditMapping
from relay.program.watch.all_users import CLEARED, LOGIN_MESSAGE, TEXTS
from relay.program.watch.audit_trail.audit_trail_watch import AuditTrailWatch
from relay.program.watch.audit_trail.canary import ARRIVAL, SILENCE
from relay.program.watch.audit_trail.machine import ThisMachine
from relay.program.watch.audit_trail.observation import AuditFault
from relay.source.auditd.audit_log import AuditLog, WatchedLog
from relay.values.alarm import AUDITD_DOWN
from relay.values.clocks import Clocks
from relay.values.event import Batch

# Whoever has the machine's audit for himself (`kernel_auditd.LOCK`) is waited for, which may be a minute.
pytestmark = pytest.mark.timeout(300)

DOWN = TEXTS[AUDITD_DOWN]
WORKS = TEXTS[AUDITD_DOWN + CLEARED]
CLEAR = 'alarm="auditd-down" severity="critical" state="clear"'
SECOND = 1_000_000
PROMISED = 5
"""Seconds after which every user is warned."""


class Road:
    """auditd's log, followed by the real source; the watch looks at the real machine, with a clock of the test's."""

    def __init__(self, log: Path) -> None:
        self.passed = 0
        self.watch = AuditTrailWatch(ThisMachine(), self.clocks, records_missing=False)
        self._source = AuditLog("audit", WatchedLog(path=str(log)), AuditMapping(hostname="h", router="h"), AUTHOR)
        self.lines: list[bytes] = []

    def clocks(self) -> Clocks:
        boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
        return Clocks(time.time_ns() // 1000, boot + self.passed)

    def after(self, microseconds: int) -> AuditFault | None:
        self.passed += microseconds
        return self.watch.look(self.clocks(), accepting=True).fault

    async def run(self, story: Callable[[], None]) -> None:
        """Follow the log while the story runs in another thread."""

        async def submit(batch: Batch) -> "asyncio.Future[None]":
            self.lines += [event.tail for event in batch.events]
            durable = asyncio.get_running_loop().create_future()
            durable.set_result(None)
            return durable

        reading = asyncio.create_task(self._source.run(self.watch.wrap(submit), None, drain=False))
        try:
            await asyncio.to_thread(self._caught_up)
            await asyncio.to_thread(story)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def _caught_up(self) -> None:
        wait_until(lambda: any(b"start-1" in line for line in self.lines), 60, "what auditd wrote at its start")

    def has_read(self, log: Path) -> bool:
        """Whether the newest record of a log that is at rest has come through."""
        newest = [line for line in log.read_bytes().splitlines() if not line.startswith(b"type=EOE ")][-1]
        return any(newest in line for line in self.lines)

    @property
    def canaries(self) -> int:
        return sum(b"op=relay-canary" in line for line in self.lines)


@pytest.fixture
def auditd() -> Iterator[KernelAuditd | None]:
    """None where this user may not use the kernel's audit."""
    if not may_audit():
        yield None
        return
    with KernelAuditd() as daemon:
        yield daemon


def test_the_canary_arrives_through_kernel_auditd_and_source(auditd: KernelAuditd | None, tmp_path: Path) -> None:
    road = Road(auditd.log_file if auditd else tmp_path / "audit.log")
    if auditd is None:
        road.after(SILENCE)
        assert set(road.watch.unavailable) >= {"kernel"}
        return

    def story() -> None:
        assert road.after(SECOND) is None
        assert road.after(SILENCE) is None
        wait_until(lambda: road.canaries == 1, 60, "the canary in the log")
        assert road.after(ARRIVAL) is None

    asyncio.run(road.run(story))
    assert set(road.watch.unavailable) == {"unit"}
    (line,) = [line for line in road.lines if b"op=relay-canary" in line]
    assert b"type=USER msg=audit(" in line
    assert b" res=success'" in line


def test_only_the_canary_reveals_a_frozen_daemon(auditd: KernelAuditd | None, tmp_path: Path) -> None:
    """It is alive and registered, so nothing else reveals it; when it continues, the fault ends."""
    road = Road(auditd.log_file if auditd else tmp_path / "audit.log")
    if auditd is None:
        assert road.after(SILENCE + ARRIVAL) is None
        return

    def story() -> None:
        auditd.suspend()
        wait_until(lambda: road.has_read(auditd.log_file), 60, "what auditd wrote before")
        assert road.after(SILENCE) is None
        assert road.after(ARRIVAL) == "no-records"
        auditd.resume()
        wait_until(lambda: road.after(0) is None, 60, "the end of the alarm")

    asyncio.run(road.run(story))
    assert road.canaries >= 1


def test_disabled_audit_and_a_daemon_that_dies_are_noticed_at_once(auditd: KernelAuditd | None) -> None:
    road = Road(auditd.log_file if auditd else Path("/nonexistent/audit.log"))
    if auditd is None:
        assert road.after(SECOND) is None
        return

    def story() -> None:
        for end, begin, fault in (
            (functools.partial(auditd.control, "-e", "0"), functools.partial(auditd.control, "-e", "1"), "audit-off"),
            (auditd.kill, auditd.start, "no-daemon"),
        ):
            assert road.after(SECOND) is None
            end()
            assert road.after(SECOND) == fault
            begin()
            wait_until(lambda: road.after(0) is None, 60, "the end of the alarm")

    asyncio.run(road.run(story))


def test_users_are_warned_on_their_terminals_and_at_login_until_auditd_works_again(
    auditd: KernelAuditd | None, tmp_path: Path
) -> None:
    with Sshd() as sshd:
        router = Router(tmp_path, sshd, remote_port=9)  # nobody listens there, and that is no matter
        router.audit["watch-auditd"] = "always"
        if auditd is None:
            router.write_configuration()
            with router.start() as relay:
                relay.wait_for_log("the auditd watch works without its part kernel")
            return
        router.audit_log = auditd.log_file
        router.write_configuration()
        argv = [*RELAY, "-c", str(router.configuration), "run"]
        with LoginMachine() as machine, machine.log_in() as before, machine.start(argv, tmp_path / "relay.log"):
            wait_until(lambda: _watch(router) == "watches canary, kernel", 60, "the watch")
            assert DOWN not in before.shown
            with Standstill() as standstill:
                auditd.kill()
                killed = time.monotonic()
                before.wait_for(DOWN)
                assert time.monotonic() - killed - standstill.seconds < PROMISED
            assert machine.run("cat", LOGIN_MESSAGE) == DOWN + "\n"
            with machine.log_in() as later:
                later.wait_for(DOWN)
            (alarm,) = [each for each in router.live()["alarms"] if each["name"] == AUDITD_DOWN]
            assert alarm["severity"] == "critical"
            assert alarm["text"].startswith("no audit daemon reads the kernel's records; start it with ")
            assert "alarm        critical, auditd-down: no audit daemon" in router.run("status").stdout
            auditd.start()
            with Standstill() as standstill:
                started = time.monotonic()
                before.wait_for(WORKS)
                assert time.monotonic() - started - standstill.seconds < PROMISED
            with machine.log_in() as last:
                assert DOWN not in last.shown
            wait_until(lambda: CLEAR in router.run("spool", "cat").stdout, 60, "the end of the alarm is stored")
            assert all(each["name"] != AUDITD_DOWN for each in router.live()["alarms"])
    stored = router.run("spool", "cat").stdout
    assert stored.count('alarm="auditd-down" severity="critical" state="add"') in {1, 2}  # twice: its text may change
    assert stored.count(CLEAR) == 1


def _watch(router: Router) -> str:
    if not (router.state / "control").exists():
        return ""
    return "".join(part["state"] for part in router.live()["parts"] if part["name"] == "auditd watch")


def test_without_capabilities_it_names_them_and_watches_the_rest(tmp_path: Path) -> None:
    """In another user namespace even root is allowed neither to ask the kernel nor to send anything through it."""
    program = (
        "from relay.program.watch.audit_trail.audit_trail_watch import AuditTrailWatch;"
        "from relay.program.watch.audit_trail.machine import ThisMachine;"
        "from relay.system.clock import read_clocks as clocks;"
        "watch = AuditTrailWatch(ThisMachine(), clocks, records_missing=True);"
        "print(watch.look(clocks(), accepting=True).fault is not None, watch.error)"
    )
    argv = ["unshare", "--user", "--map-root-user", sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path)
    assert "give relay CAP_AUDIT_CONTROL" in done.stdout
    assert "give relay CAP_AUDIT_WRITE" in done.stdout
    assert done.stdout.startswith("True ")
