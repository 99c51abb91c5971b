"""auditd that does not work: when who is told, and what a restart of relay changes of it."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest
from program.housekeeping.test_housekeeping import House

from relay.errors import TemporaryError
from relay.program.watch import canary
from relay.program.watch.audit_trail import AuditTrail
from relay.program.watch.auditd import PATIENCE, SILENCE, Unit
from relay.program.watch.kernel_audit import KernelAudit
from relay.values.alarm import AUDITD_DOWN, AlarmChange
from relay.values.event import Batch, Event, EventType

SECOND = 1_000_000


class Machine:
    """A machine whose daemon the test starts and ends."""

    def __init__(self) -> None:
        self.pid = 4711
        self.sent = 0
        self.token = ""

    def kernel(self) -> KernelAudit:
        return KernelAudit(enabled=1, pid=self.pid, lost=0, backlog=0, backlog_limit=64)

    def is_alive(self, pid: int) -> bool:
        return pid == 4711

    def unit(self) -> Unit | None:
        return None

    def send_canary(self, token: str) -> None:
        self.sent += 1
        self.token = token


class Listener:
    """In the place of all users: what they are told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, name: str) -> None:
        self.told.append(name)

    def tell_change(self, change: AlarmChange) -> None:
        if change.begins or not change.raised:
            self.told.append(f"{change.alarm.name} {'begins' if change.raised else 'ends'}")

    def remind(self, active: Iterable[AlarmChange]) -> None:
        self.told += [f"{change.alarm.name} still" for change in active]


class Watched(House):
    """A house that watches auditd; nobody but a `Listener` is told."""

    def __init__(self, folder: Path, run: bytes = b"run00001") -> None:
        super().__init__(folder, run=run)
        self.machine = Machine()
        self.users = Listener()
        keeping = self.housekeeping
        keeping.audit_trail = AuditTrail(
            self.clocks,
            standing=keeping.alarms.get(AUDITD_DOWN) is not None,
            clocks=lambda: self.clocks,
            machine=self.machine,
        )
        keeping._users = self.users  # type: ignore[assignment]  # the real ones are this machine's

    def hear(self) -> None:
        """The canary comes from the source."""
        trail = self.housekeeping.audit_trail
        assert trail is not None

        async def submit(_: Batch) -> "asyncio.Future[None]":
            return asyncio.get_running_loop().create_future()

        async def come() -> None:
            await trail.hear(submit)(Batch([Event(EventType.AUDIT, self.clocks.wall, b"", text)]))

        text = canary.text(self.machine.token)
        asyncio.run(come())

    def told_after(self, seconds: float) -> list[str]:
        """What users are told when so much time has passed."""
        self.users.told = []
        self.after(seconds)
        return self.users.told


def test_users_are_told_at_once_and_every_minute_until_it_is_over(tmp_path: Path) -> None:
    house = Watched(tmp_path)
    with house.store:
        assert house.told_after(1) == []
        house.machine.pid = 0
        assert house.told_after(1) == ["auditd-down begins"]
        for _ in range(3):
            assert house.told_after(59) == []
            assert house.told_after(1) == ["auditd-down still"]
        house.machine.pid = 4711
        assert house.told_after(1) == [], "back, and not heard of yet"
        house.hear()
        assert house.told_after(1) == ["auditd-down ends"]
        assert [house.told_after(1) for _ in range(59)] == [[]] * 59


def test_its_beginning_and_its_end_are_events(tmp_path: Path) -> None:
    house = Watched(tmp_path)
    with house.store:
        house.machine.pid = 0
        assert house.after(1) == ["ALARM auditd-down add"]
        assert house.after(1) == []
        house.machine.pid = 4711
        house.hear()
        assert house.after(1) == ["ALARM auditd-down clear"]


def test_a_restart_of_relay_does_not_say_that_it_is_over(tmp_path: Path) -> None:
    """The daemon is there again, but nothing has come from it yet: a canary is sent at once."""
    first = Watched(tmp_path)
    with first.store:
        first.machine.pid = 0
        first.after(1)
    second = Watched(tmp_path, b"run00002")
    with second.store:
        assert second.told_after(100) == ["auditd-down still"]
        assert second.machine.sent == 1
        assert second.told_after(60) == ["auditd-down still"]


def test_while_the_spool_takes_nothing_in_silence_is_its_own(tmp_path: Path) -> None:
    house = Watched(tmp_path)
    with house.store:
        house.intake.error = TemporaryError("spool", "waits")
        for _ in range((SILENCE + PATIENCE) // SECOND):
            assert "auditd-down begins" not in house.told_after(1)
        assert house.machine.sent == 0


def test_when_nobody_watches_any_more_it_is_not_said_that_auditd_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`watch-auditd = "never"` now, or no source that auditd feeds, and the alarm stood."""
    first = Watched(tmp_path)
    with first.store:
        first.machine.pid = 0
        assert first.told_after(1) == ["auditd-down begins"]
    second = Watched(tmp_path, b"run00002")
    second.housekeeping.audit_trail = None
    with second.store:
        events = second.housekeeping.look()
        assert second.users.told == ["auditd-down-unwatched"]
        (event,) = events
        assert b'alarm="auditd-down" severity="critical" state="clear"' in event.tail
        assert b"not watched any more" in event.tail
        assert "no audit daemon" not in caplog.messages[-1]
        assert "not watched any more" in caplog.messages[-1]
        assert second.told_after(1) == []
    third = Watched(tmp_path, b"run00003")
    with third.store:
        assert third.housekeeping.alarms.get(AUDITD_DOWN) is None
