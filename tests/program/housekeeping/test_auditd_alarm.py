"""The alarm about auditd: when users are warned, and what a restart of relay changes."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from program.housekeeping.test_housekeeping import House

from relay.errors import TemporaryError
from relay.program.housekeeping import ALARMS_SLOT, Watches
from relay.program.watch.audit_trail.audit_trail_watch import AuditTrailWatch
from relay.program.watch.audit_trail.canary import ARRIVAL, SILENCE
from relay.program.watch.audit_trail.kernel_audit import KernelAudit, canary_text
from relay.program.watch.audit_trail.observation import Unit
from relay.spool.store import Store
from relay.values.alarm import AUDITD_DOWN, AlarmChange, Alarms
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


class Users:
    """In place of all users: the messages to them."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def send(self, name: str) -> None:
        self.messages.append(name)

    def send_change(self, change: AlarmChange) -> None:
        if change.begins or not change.raised:
            self.messages.append(f"{change.alarm.name} {'begins' if change.raised else 'ends'}")

    def remind(self, active: Iterable[AlarmChange]) -> None:
        self.messages += [f"{change.alarm.name} still" for change in active]


class Watched(House):
    """A house that watches auditd, unless it does not; messages go to `Users`."""

    def __init__(self, folder: Path, run: bytes = b"run00001", *, watches_auditd: bool = True) -> None:
        self.machine = Machine()
        self.users = Users()
        self.watches_auditd = watches_auditd
        super().__init__(folder, run=run)

    def watches(self, store: Store, former: Watches | None) -> Watches:
        watches = replace(super().watches(store, former), users=self.users)  # type: ignore[arg-type]  # the real ones are this machine's
        if not self.watches_auditd:
            return watches
        is_down = Alarms.decode(store.slots.get(ALARMS_SLOT) or b"").get(AUDITD_DOWN) is not None
        watch = AuditTrailWatch(self.machine, lambda: self.clocks, records_missing=is_down)
        return replace(watches, audit_trail=watch)

    def receive_canary(self) -> None:
        """Submit the canary as the source does."""
        watch = self.housekeeping.watches.audit_trail
        assert watch is not None

        async def submit(_: Batch) -> "asyncio.Future[None]":
            return asyncio.get_running_loop().create_future()

        async def receive() -> None:
            await watch.wrap(submit)(Batch([Event(EventType.AUDIT, self.clocks.wall, b"", text)]))

        text = canary_text(self.machine.token)
        asyncio.run(receive())

    def messages_after(self, seconds: float) -> list[str]:
        """Move the clocks and look; the messages to users."""
        self.users.messages = []
        self.after(seconds)
        return self.users.messages


def test_users_are_warned_at_once_and_every_minute_until_auditd_works(tmp_path: Path) -> None:
    house = Watched(tmp_path)
    with house.store:
        assert house.messages_after(1) == []
        house.machine.pid = 0
        assert house.messages_after(1) == ["auditd-down begins"]
        for _ in range(3):
            assert house.messages_after(59) == []
            assert house.messages_after(1) == ["auditd-down still"]
        house.machine.pid = 4711
        assert house.messages_after(1) == [], "back, but no record has arrived"
        house.receive_canary()
        assert house.messages_after(1) == ["auditd-down ends"]
        assert [house.messages_after(1) for _ in range(59)] == [[]] * 59


def test_the_beginning_and_the_end_of_the_alarm_are_events(tmp_path: Path) -> None:
    house = Watched(tmp_path)
    with house.store:
        house.machine.pid = 0
        assert house.after(1) == ["ALARM auditd-down add"]
        assert house.after(1) == []
        house.machine.pid = 4711
        house.receive_canary()
        assert house.after(1) == ["ALARM auditd-down clear"]


def test_a_restart_of_relay_does_not_end_the_alarm(tmp_path: Path) -> None:
    """The daemon runs again, but no record has arrived from it yet: a canary is sent at once."""
    first = Watched(tmp_path)
    with first.store:
        first.machine.pid = 0
        first.after(1)
    second = Watched(tmp_path, b"run00002")
    with second.store:
        assert second.messages_after(100) == ["auditd-down still"]
        assert second.machine.sent == 1
        assert second.messages_after(60) == ["auditd-down still"]


def test_while_the_spool_accepts_nothing_silence_raises_no_alarm(tmp_path: Path) -> None:
    house = Watched(tmp_path)
    with house.store:
        house.intake.error = TemporaryError("spool", "waits")
        for _ in range((SILENCE + ARRIVAL) // SECOND):
            assert "auditd-down begins" not in house.messages_after(1)
        assert house.machine.sent == 0


def test_an_alarm_that_is_no_longer_watched_ends_without_the_message_that_auditd_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Since a restart `watch-auditd` is "never", or no source has this machine's audit trail."""
    first = Watched(tmp_path)
    with first.store:
        first.machine.pid = 0
        assert first.messages_after(1) == ["auditd-down begins"]
    second = Watched(tmp_path, b"run00002", watches_auditd=False)
    with second.store:
        events = second.housekeeping.look()
        assert second.users.messages == ["auditd-down-unwatched"]
        (event,) = events
        assert b'alarm="auditd-down" severity="critical" state="clear"' in event.tail
        assert b"no longer watched" in event.tail
        assert "no audit daemon" not in caplog.messages[-1]
        assert "no longer watched" in caplog.messages[-1]
        assert second.messages_after(1) == []
    third = Watched(tmp_path, b"run00003")
    with third.store:
        assert third.housekeeping.alarms.get(AUDITD_DOWN) is None
