"""The auditd watch on a machine of the test's own: what it looks at, what it sends, what it leaves out and tells."""

import asyncio
import errno
import logging
import struct

import pytest
from watch.conftest import Stubs

from relay.alarm import Alarm
from relay.errors import PermissionRefusedError, RelayError, UnavailableError
from relay.event import Batch, Event, EventType
from relay.watch import audit_trail, canary
from relay.watch.audit_trail import AuditTrail, ThisMachine
from relay.watch.auditd import PATIENCE, SILENCE, Unit
from relay.watch.clock import Clocks
from relay.watch.kernel_audit import KernelAudit

SECOND = 1_000_000
WORKING = KernelAudit(enabled=1, pid=4711, lost=0, backlog=0, backlog_limit=64)
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
        """A record that an audit source gives."""
        event = Event(EventType.AUDIT, self.now.wall - seconds_ago * SECOND, b"<110>1 - h a - - [128T", b"] " + line)
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
    watched.give(canary.text(token))
    assert watched.after(SECOND) is None


def test_audit_that_is_locked_is_on_and_audit_that_is_off_is_an_alarm(watched: Watched) -> None:
    watched.machine.audit = WORKING._replace(enabled=2)
    assert watched.after(SECOND) is None
    watched.machine.audit = WORKING._replace(enabled=0)
    assert watched.after(SECOND) is not None


def test_the_canary_is_known_by_its_text_among_all_records(watched: Watched) -> None:
    assert watched.after(SILENCE) is None
    (token,) = watched.machine.sent
    watched.give(b"type=USER msg=audit(1.000:2): pid=1 msg='%b'" % canary.text(token))
    assert watched.after(PATIENCE) is None
    assert len(watched.machine.sent) == 1


def test_a_canary_that_does_not_come_is_an_alarm_which_ends_when_one_comes(watched: Watched) -> None:
    watched.after(SILENCE)
    assert watched.after(PATIENCE) is not None
    assert watched.after(SILENCE - PATIENCE) is not None
    first, second = watched.machine.sent
    assert first == second
    watched.give(canary.text(second))
    assert watched.after(0) is None


def test_old_records_show_life_and_young_ones_that_the_canary_is_kept_out(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.after(SILENCE)
    watched.after(5 * SECOND)
    watched.give(b"type=SYSCALL", seconds_ago=60)
    assert watched.after(PATIENCE - 1) is None
    assert len(watched.machine.sent) == 3
    watched.give(b"type=SYSCALL")
    assert "canary" not in watched.trail.blind, "it may follow still"
    watched.after(3 * SECOND)
    watched.give(b"type=SYSCALL")
    assert watched.after(10 * SILENCE) is None
    assert len(watched.machine.sent) == 3
    assert "audit rules keep records of type USER away" in watched.trail.blind["canary"]
    assert "goes on without its part canary" in caplog.text


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
    watched.give(b"type=DAEMON_START")
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


@pytest.mark.parametrize(("active", "failed", "state"), [(0, 1, "active"), (3, 0, "failed"), (3, 1, "inactive")])
def test_the_units_state_is_told_by_systemctls_exit_codes(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch, active: int, failed: int, state: str
) -> None:
    monkeypatch.setattr(audit_trail, "_BOOTED", str(stubs.folder))
    stubs.write(
        "systemctl",
        f'#!/bin/sh\n[ "$3" = auditd.service ] || exit 64\n[ "$2" = is-active ] && exit {active}\nexit {failed}\n',
    )
    assert ThisMachine().unit() == state


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
