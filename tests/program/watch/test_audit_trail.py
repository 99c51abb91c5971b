"""The auditd watch on a machine of the test's own: what it looks at, what it sends, what it leaves out and tells."""

import asyncio
import errno
import logging
import struct
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
from relay.program.watch import audit_trail, canary
from relay.program.watch.audit_trail import AuditTrail, ThisMachine
from relay.program.watch.auditd import PATIENCE, SILENCE, Unit
from relay.program.watch.clock import Clocks
from relay.program.watch.kernel_audit import KernelAudit
from relay.values.alarm import Alarm
from relay.values.event import Batch, Event

SECOND = 1_000_000
WORKING = KernelAudit(enabled=1, pid=4711, lost=0, backlog=0, backlog_limit=64)
USER = b"type=USER msg=audit(1.000:2): pid=1 msg='%b'"
SYSCALL = b"type=SYSCALL msg=audit(1.000:3): syscall=1"
NO_RIGHT = PermissionRefusedError("it", "may not be read")


class FakeMachine:
    """A machine whose parts the test sets; an error is raised instead of answered."""

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

    def __init__(self, *, standing: bool = False) -> None:
        self.now = Clocks(wall=1_700_000_000 * SECOND, boot=5_000 * SECOND)
        self.machine = FakeMachine()
        self.trail = AuditTrail(self.now, standing=standing, clocks=lambda: self.now, machine=self.machine)

    def after(self, microseconds: int, *, taking: bool = True) -> Alarm | None:
        self.now = Clocks(self.now.wall + microseconds, self.now.boot + microseconds)
        return self.trail.look(self.now, taking=taking)

    def give(self, line: bytes, *, seconds_ago: int = 0) -> None:
        """What an audit source makes of a line that was written so long ago."""
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
            await self.trail.hear(submit)(Batch([event]))

        asyncio.run(through())
        assert given == [Batch([event])]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_machine_that_audits_has_no_alarm(watched: Watched) -> None:
    assert watched.after(SECOND) is None
    assert (watched.trail.blind, watched.trail.state) == ({}, "watches canary, kernel, unit")


def test_a_daemon_that_dies_or_never_came_is_seen_at_the_next_look(watched: Watched) -> None:
    watched.machine.alive.clear()
    assert watched.after(SECOND) is not None
    watched.machine.alive.add(4711)
    watched.machine.audit = WORKING._replace(pid=0)
    assert watched.after(SECOND) is not None


def test_a_daemon_that_is_back_is_believed_when_a_record_comes(watched: Watched) -> None:
    watched.machine.alive.clear()
    watched.after(SECOND)
    watched.machine.alive.add(4711)
    assert watched.after(SECOND) is not None
    (token,) = watched.machine.sent
    watched.give(USER % canary.text(token))
    assert watched.after(SECOND) is None


def test_a_gap_that_a_source_tells_is_no_life_of_auditds(watched: Watched) -> None:
    watched.machine.alive.clear()
    watched.after(SECOND)
    watched.machine.alive.add(4711)
    watched.after(SECOND)
    author = Author(hostname="h", router="r", node="", sd_id="128T")
    gap = unread_gap(author, watched.now.wall, UnreadLog("audit", ("audit.log",), "it was emptied", None, None))
    watched.give_event(gap)
    assert watched.after(SECOND) is not None


def test_audit_that_is_locked_is_on_and_audit_that_is_off_is_an_alarm(watched: Watched) -> None:
    watched.machine.audit = WORKING._replace(enabled=2)
    assert watched.after(SECOND) is None
    watched.machine.audit = WORKING._replace(enabled=0)
    assert watched.after(SECOND) is not None


def test_the_canary_is_known_by_its_text_among_all_records(watched: Watched) -> None:
    assert watched.after(SILENCE) is None
    (token,) = watched.machine.sent
    watched.give(USER % canary.text(token))
    assert watched.after(PATIENCE) is None
    assert len(watched.machine.sent) == 1


def test_a_canary_that_does_not_come_is_an_alarm_which_ends_when_one_comes(watched: Watched) -> None:
    watched.after(SILENCE)
    assert watched.after(PATIENCE) is not None
    assert watched.after(SILENCE - PATIENCE) is not None
    first, second = watched.machine.sent
    assert first == second
    watched.give(USER % canary.text(second))
    assert watched.after(0) is None


def test_old_records_show_life_and_young_ones_that_the_canary_is_kept_out(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.after(SILENCE)
    watched.after(5 * SECOND)
    watched.give(SYSCALL, seconds_ago=60)
    assert watched.after(PATIENCE - 1) is None
    assert len(watched.machine.sent) == 3
    watched.give(SYSCALL)
    assert "canary" not in watched.trail.blind, "it may follow still"
    watched.after(3 * SECOND)
    watched.give(SYSCALL)
    assert watched.after(10 * SILENCE) is None
    assert len(watched.machine.sent) == 3
    assert "audit rules keep records of type USER away" in watched.trail.blind["canary"]
    assert "goes on without its part canary" in caplog.text


def test_what_was_written_before_does_not_end_an_alarm_that_stands() -> None:
    """Nobody can look, and no canary may be sent: all there is are records, and old ones are still being read."""
    watched = Watched(standing=True)
    watched.machine.audit = watched.machine.refusal = NO_RIGHT
    watched.machine.state = None
    assert watched.after(SECOND) is not None
    watched.give(SYSCALL, seconds_ago=3600)
    watched.give(b"no record", seconds_ago=0)
    assert watched.after(SECOND) is not None
    watched.give(SYSCALL)
    assert watched.after(SECOND) is None
    assert watched.after(10 * SILENCE) is None


def test_what_was_written_before_a_broken_link_was_seen_does_not_mend_it(watched: Watched) -> None:
    watched.machine.alive.clear()
    watched.machine.refusal = NO_RIGHT
    assert watched.after(SECOND) is not None
    watched.machine.alive.add(4711)
    watched.give(SYSCALL, seconds_ago=1)
    assert watched.after(SECOND) is not None
    watched.give(SYSCALL)
    assert watched.after(SECOND) is None


def test_a_source_that_catches_up_shows_life_in_the_order_of_the_log(watched: Watched) -> None:
    """It stood still until the alarm began; what it reads then is older than that, and younger than before."""
    watched.give(SYSCALL, seconds_ago=9000)
    watched.after(SILENCE)
    assert watched.after(PATIENCE) is not None
    watched.give(SYSCALL, seconds_ago=9001 + (SILENCE + PATIENCE) // SECOND)
    assert watched.after(0) is not None
    watched.give(SYSCALL, seconds_ago=8000)
    assert watched.after(0) is None


def test_a_clock_that_was_set_back_does_not_keep_the_alarm() -> None:
    watched = Watched(standing=True)
    watched.machine.refusal = NO_RIGHT
    watched.now = Clocks(watched.now.wall - 3600 * SECOND, watched.now.boot)
    assert watched.after(SECOND) is not None
    watched.after(SECOND)
    watched.give(SYSCALL)
    watched.after(SECOND)
    watched.give(SYSCALL)
    assert watched.after(SECOND) is None


def test_malformed_lines_do_not_say_that_the_canary_is_kept_out(watched: Watched) -> None:
    """When they were written nobody can tell: they may be older than the canary."""
    for _ in range(5):
        watched.after(SILENCE)
        watched.give(b"no record")
    assert "canary" not in watched.trail.blind


def test_while_relay_cannot_take_in_nothing_is_concluded_from_silence(watched: Watched) -> None:
    for _ in range(300):
        assert watched.after(SECOND, taking=False) is None
    assert watched.machine.sent == []


def test_without_rights_the_part_is_named_once_and_the_rest_is_done(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.machine.audit = NO_RIGHT
    watched.machine.refusal = NO_RIGHT
    watched.machine.state = "failed"
    for _ in range(200):
        assert watched.after(SECOND) is not None
    watched.machine.state = "active"
    for _ in range(20):
        watched.after(SECOND)
    watched.give(SYSCALL)
    assert watched.after(SECOND) is None
    assert watched.trail.blind == {"kernel": str(NO_RIGHT), "canary": str(NO_RIGHT)}
    assert watched.trail.state == "watches unit"
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_a_part_that_can_be_watched_again_is_not_named_any_more(watched: Watched) -> None:
    watched.machine.audit = watched.machine.refusal = NO_RIGHT
    watched.machine.state = UnavailableError("systemctl", "there is no such program")
    watched.after(SILENCE)
    assert watched.trail.state == "watches nothing"
    watched.machine.audit, watched.machine.refusal, watched.machine.state = WORKING, None, "active"
    for _ in range(11):
        watched.after(SILENCE)
    assert watched.trail.blind == {}


def test_systemd_is_asked_every_tenth_time(watched: Watched) -> None:
    for _ in range(100):
        watched.after(SECOND)
    assert watched.machine.asked_systemd == 10


# --- The real machine ---


def test_a_process_is_alive_whoever_owns_it() -> None:
    machine = ThisMachine()
    assert machine.is_alive(1)
    assert not machine.is_alive(2**22 + 1)  # above the kernel's largest pid


def test_a_kernel_that_makes_its_askers_wait_holds_up_neither_look_nor_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does while its backlog is full. What it refuses in the end is told by the next canary."""
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
    monkeypatch.setattr(canary, "send", send)
    machine = ThisMachine(status)
    assert machine.kernel() == WORKING
    before = time.monotonic()
    for _ in range(3):
        assert machine.kernel() == WORKING
        machine.send_canary("token")
    assert time.monotonic() - before < 20, "not the 30 s of a single call"
    assert sent == ["token"]
    free.set()
    wait_until(lambda: is_refused(machine), 10, "the kernel's refusal")
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
def test_the_units_state_is_told_by_systemctls_exit_codes(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch, active: int, failed: int, state: str
) -> None:
    monkeypatch.setattr(audit_trail, "_BOOTED", str(stubs.folder))
    stubs.write(
        "systemctl",
        f'#!/bin/sh\n[ "$3" = auditd.service ] || exit 64\n[ "$2" = is-active ] && exit {active}\nexit {failed}\n',
    )
    assert ThisMachine().unit() == state


def test_a_systemctl_that_cannot_ask_says_nothing_of_the_unit(stubs: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_trail, "_BOOTED", str(stubs.folder))
    stubs.write("systemctl", "#!/bin/sh\nexit 1\n")
    with pytest.raises(UnavailableError, match="cannot ask systemd: exit code 1"):
        ThisMachine().unit()


def test_without_systemd_there_is_no_unit(stubs: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_trail, "_BOOTED", str(stubs.folder / "missing"))
    assert ThisMachine().unit() is None
    assert stubs.ran == []


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        (struct.pack("=IHHIIi", 20, 2, 0, 1, 0, 0), 0),
        (struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -errno.EPERM), errno.EPERM),
        (struct.pack("=IHHIIi", 20, 1000, 0, 1, 0, 0), errno.EPROTO),
        (b"short", errno.EPROTO),
        (b"", errno.EPROTO),
    ],
)
def test_the_kernels_answer_to_a_canary_is_read(answer: bytes, number: int) -> None:
    assert canary.refused(answer) == number
