"""The watch on the audit trail, on a fake machine: its faults, its canaries, and the parts that it cannot watch."""

import asyncio
import logging
import threading
import time

import pytest
from harness.waiting import wait_until
from program.watch.conftest import Stubs

from relay.errors import PermissionRefusedError, RelayError, UnavailableError
from relay.events.audit.assembly import AuditEvent
from relay.events.audit.mapping import AuditMapping
from relay.events.audit.record import parse
from relay.events.own_events import Author, UnreadLog, unread_gap
from relay.program.watch.audit_trail.audit_trail_watch import AuditTrailWatch
from relay.program.watch.audit_trail.canary import ARRIVAL, SILENCE
from relay.program.watch.audit_trail.kernel_audit import KernelAudit, canary_text
from relay.program.watch.audit_trail.machine import ThisMachine
from relay.program.watch.audit_trail.observation import AuditFault, Unit
from relay.values.clocks import Clocks
from relay.values.event import Batch, Event

SECOND = 1_000_000
WORKING = KernelAudit(enabled=1, pid=4711, lost=0, backlog=0, backlog_limit=64)
USER = b"type=USER msg=audit(1.000:2): pid=1 msg='%b'"
SYSCALL = b"type=SYSCALL msg=audit(1.000:3): syscall=1"
NO_RIGHT = PermissionRefusedError("the kernel", "permission denied")


class FakeMachine:
    """A machine whose parts the test sets; an error among them is raised."""

    def __init__(self) -> None:
        self.audit: KernelAudit | RelayError = WORKING
        self.alive = {4711}
        self.state: Unit | RelayError | None = "active"
        self.refusal: RelayError | None = None
        self.sent: list[str] = []
        self.asked_systemd = 0

    def kernel(self) -> KernelAudit:
        if isinstance(self.audit, RelayError):
            raise self.audit
        return self.audit

    def is_alive(self, pid: int) -> bool:
        return pid in self.alive

    def unit(self) -> Unit | None:
        self.asked_systemd += 1
        if isinstance(self.state, RelayError):
            raise self.state
        return self.state

    def send_canary(self, token: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.sent.append(token)


class Watched:
    """The watch, on clocks that the test moves."""

    def __init__(self, *, records_missing: bool = False) -> None:
        self.now = Clocks(wall=1_700_000_000 * SECOND, boot=5_000 * SECOND)
        self.machine = FakeMachine()
        self.watch = AuditTrailWatch(self.machine, lambda: self.now, records_missing=records_missing)

    def after(self, microseconds: int, *, accepting: bool = True) -> AuditFault | None:
        self.now = Clocks(self.now.wall + microseconds, self.now.boot + microseconds)
        return self.watch.look(self.now, accepting=accepting).fault

    def give(self, line: bytes, *, seconds_ago: int = 0) -> None:
        """Submit the event that an audit source makes of a line that was written so long ago."""
        mapping = AuditMapping(hostname="h", router="r")
        record = parse(line)
        if record is None:
            (event,) = [mapping.malformed(line, self.now.wall)]
        else:
            written = (self.now.wall - seconds_ago * SECOND) // 1000
            (event,) = mapping.events(AuditEvent((record._replace(time=written),)))
        self.give_event(event)

    def give_event(self, event: Event) -> None:
        given: list[Batch] = []

        async def submit(batch: Batch) -> "asyncio.Future[None]":
            given.append(batch)
            return asyncio.get_running_loop().create_future()

        async def through() -> None:
            await self.watch.wrap(submit)(Batch([event]))

        asyncio.run(through())
        assert given == [Batch([event])]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_machine_that_audits_has_no_fault(watched: Watched) -> None:
    assert watched.after(SECOND) is None
    assert (watched.watch.unavailable, watched.watch.state) == ({}, "watches canary, kernel, unit")


def test_a_daemon_that_died_or_never_registered_is_a_fault_at_the_next_look(watched: Watched) -> None:
    watched.machine.alive.clear()
    assert watched.after(SECOND) == "no-daemon"
    watched.machine.alive.add(4711)
    watched.machine.audit = WORKING._replace(pid=0)
    assert watched.after(SECOND) == "no-daemon"


def test_a_daemon_that_is_back_is_a_fault_until_a_record_arrives(watched: Watched) -> None:
    watched.machine.alive.clear()
    watched.after(SECOND)
    watched.machine.alive.add(4711)
    assert watched.after(SECOND) is not None
    (token,) = watched.machine.sent
    watched.give(USER % canary_text(token))
    assert watched.after(SECOND) is None


def test_a_gap_that_a_source_reports_does_not_show_that_auditd_works(watched: Watched) -> None:
    watched.machine.alive.clear()
    watched.after(SECOND)
    watched.machine.alive.add(4711)
    watched.after(SECOND)
    author = Author(hostname="h", router="r", node="", sd_id="128T")
    gap = unread_gap(author, watched.now.wall, UnreadLog("audit", ("audit.log",), "it was emptied", None, None))
    watched.give_event(gap)
    assert watched.after(SECOND) is not None


def test_locked_audit_is_on_and_disabled_audit_is_a_fault(watched: Watched) -> None:
    watched.machine.audit = WORKING._replace(enabled=2)
    assert watched.after(SECOND) is None
    watched.machine.audit = WORKING._replace(enabled=0)
    assert watched.after(SECOND) == "audit-off"


def test_the_canary_is_recognised_by_its_text(watched: Watched) -> None:
    assert watched.after(SILENCE) is None
    (token,) = watched.machine.sent
    watched.give(USER % canary_text(token))
    assert watched.after(ARRIVAL) is None
    assert len(watched.machine.sent) == 1


def test_a_canary_that_does_not_arrive_is_a_fault_until_one_arrives(watched: Watched) -> None:
    watched.after(SILENCE)
    assert watched.after(ARRIVAL) == "no-records"
    assert watched.after(SILENCE - ARRIVAL) == "no-records"
    first, second = watched.machine.sent
    assert first == second
    watched.give(USER % canary_text(second))
    assert watched.after(0) is None


def test_old_records_show_that_auditd_works_and_young_ones_that_rules_exclude_the_canary(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.after(SILENCE)
    watched.after(5 * SECOND)
    watched.give(SYSCALL, seconds_ago=60)
    assert watched.after(ARRIVAL - 1) is None
    assert len(watched.machine.sent) == 3
    watched.give(SYSCALL)
    assert "canary" not in watched.watch.unavailable, "it may follow still"
    watched.after(3 * SECOND)
    watched.give(SYSCALL)
    assert watched.after(10 * SILENCE) is None
    assert len(watched.machine.sent) == 3
    assert "audit rules exclude records of type USER" in watched.watch.unavailable["canary"]
    assert "works without its part canary" in caplog.text


def test_records_from_before_the_fault_do_not_end_it() -> None:
    """Relay may neither look nor send a canary; it has only the records, and old ones are still being read."""
    watched = Watched(records_missing=True)
    watched.machine.audit = watched.machine.refusal = NO_RIGHT
    watched.machine.state = None
    assert watched.after(SECOND) is not None
    watched.give(SYSCALL, seconds_ago=3600)
    watched.give(b"no record", seconds_ago=0)
    assert watched.after(SECOND) is not None
    watched.give(SYSCALL)
    assert watched.after(SECOND) is None
    assert watched.after(10 * SILENCE) is None


def test_records_from_before_a_broken_link_do_not_end_its_fault(watched: Watched) -> None:
    watched.machine.alive.clear()
    watched.machine.refusal = NO_RIGHT
    assert watched.after(SECOND) is not None
    watched.machine.alive.add(4711)
    watched.give(SYSCALL, seconds_ago=1)
    assert watched.after(SECOND) is not None
    watched.give(SYSCALL)
    assert watched.after(SECOND) is None


def test_a_source_that_catches_up_ends_the_fault_with_records_younger_than_its_last(watched: Watched) -> None:
    """It stood still until the fault began; the records that it reads then are older than that."""
    watched.give(SYSCALL, seconds_ago=9000)
    watched.after(SILENCE)
    assert watched.after(ARRIVAL) is not None
    watched.give(SYSCALL, seconds_ago=9001 + (SILENCE + ARRIVAL) // SECOND)
    assert watched.after(0) is not None
    watched.give(SYSCALL, seconds_ago=8000)
    assert watched.after(0) is None


def test_a_clock_that_was_set_back_does_not_keep_the_fault() -> None:
    watched = Watched(records_missing=True)
    watched.machine.refusal = NO_RIGHT
    watched.now = Clocks(watched.now.wall - 3600 * SECOND, watched.now.boot)
    assert watched.after(SECOND) is not None
    watched.after(SECOND)
    watched.give(SYSCALL)
    watched.after(SECOND)
    watched.give(SYSCALL)
    assert watched.after(SECOND) is None


def test_malformed_lines_do_not_show_that_rules_exclude_the_canary(watched: Watched) -> None:
    """They have no time: they may be older than the canary."""
    for _ in range(5):
        watched.after(SILENCE)
        watched.give(b"no record")
    assert "canary" not in watched.watch.unavailable


def test_while_relay_accepts_nothing_silence_is_not_a_fault(watched: Watched) -> None:
    for _ in range(300):
        assert watched.after(SECOND, accepting=False) is None
    assert watched.machine.sent == []


def test_a_part_without_rights_is_logged_once_and_the_others_are_watched(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.machine.audit = NO_RIGHT
    watched.machine.refusal = NO_RIGHT
    watched.machine.state = "failed"
    for _ in range(200):
        assert watched.after(SECOND) == "unit-failed"
    watched.machine.state = "active"
    for _ in range(20):
        watched.after(SECOND)
    watched.give(SYSCALL)
    assert watched.after(SECOND) is None
    assert watched.watch.unavailable == {"kernel": str(NO_RIGHT), "canary": str(NO_RIGHT)}
    assert watched.watch.state == "watches unit"
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_a_part_that_can_be_watched_again_is_no_longer_named(watched: Watched) -> None:
    watched.machine.audit = watched.machine.refusal = NO_RIGHT
    watched.machine.state = UnavailableError("systemctl", "there is no such program")
    watched.after(SILENCE)
    assert watched.watch.state == "watches nothing"
    watched.machine.audit, watched.machine.refusal, watched.machine.state = WORKING, None, "active"
    for _ in range(11):
        watched.after(SILENCE)
    assert watched.watch.unavailable == {}


def test_systemd_is_asked_at_every_tenth_look(watched: Watched) -> None:
    for _ in range(100):
        watched.after(SECOND)
    assert watched.machine.asked_systemd == 10


# --- The real machine ---


def test_a_process_of_another_user_is_alive_too() -> None:
    machine = ThisMachine()
    assert machine.is_alive(1)
    assert not machine.is_alive(2**22 + 1)  # above the kernel's largest pid


def test_a_kernel_that_makes_its_callers_wait_delays_neither_look_nor_canary() -> None:
    """As it does while its backlog is full. What it refuses in the end, the next canary reports."""
    free, sent = threading.Event(), []

    def send(token: str) -> None:
        sent.append(token)
        assert free.wait(30)
        raise NO_RIGHT

    def status() -> KernelAudit:
        assert free.is_set() or not asked or free.wait(30)
        asked.append(1)
        return WORKING

    asked: list[int] = []
    machine = ThisMachine(status, send)
    assert machine.kernel() == WORKING
    before = time.monotonic()
    for _ in range(3):
        assert machine.kernel() == WORKING
        machine.send_canary("token")
    assert time.monotonic() - before < 20, "not the 30 s of a single call"
    assert sent == ["token"]
    free.set()
    wait_until(lambda: is_refused(machine), 60, "the kernel's refusal")
    assert sent == ["token"]


def is_refused(machine: ThisMachine) -> bool:
    try:
        machine.send_canary("token")
    except PermissionRefusedError:
        return True
    return False


@pytest.mark.parametrize(
    ("active", "failed", "state"), [(0, 1, "active"), (3, 0, "failed"), (3, 1, "inactive"), (4, 1, "inactive")]
)
def test_the_units_state_follows_from_systemctls_exit_codes(stubs: Stubs, active: int, failed: int, state: str) -> None:
    stubs.write(
        "systemctl",
        f'#!/bin/sh\n[ "$3" = auditd.service ] || exit 64\n[ "$2" = is-active ] && exit {active}\nexit {failed}\n',
    )
    assert ThisMachine(booted=str(stubs.folder)).unit() == state


def test_a_systemctl_that_cannot_ask_systemd_is_an_error(stubs: Stubs) -> None:
    stubs.write("systemctl", "#!/bin/sh\nexit 1\n")
    with pytest.raises(UnavailableError, match="cannot ask systemd: exit code 1"):
        ThisMachine(booted=str(stubs.folder)).unit()


def test_without_systemd_there_is_no_unit(stubs: Stubs) -> None:
    assert ThisMachine(booted=str(stubs.folder / "missing")).unit() is None
    assert stubs.ran == []
