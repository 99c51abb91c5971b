"""The auditd watch at work: looks at this machine, listens to what the audit sources give, sends the canary.

`relay.program.watch.auditd` judges; here is what it needs from the machine. For a part of it relay's user may have no
right, or the machine lacks it (systemd): then the part is left out, named in status, and logged once.

A record shows life when it was written after all that was heard before it. One that is older does so only as long as
the alarm does not stand: then a source catches up. When a malformed line was written nobody can tell.

`hear` stands in the event loop's thread and `look` in a worker thread; the canary's state has a lock, which is never
held while anything is waited for.
"""

import asyncio
import functools
import logging
import os
import secrets
import threading
from collections.abc import Callable
from typing import Final, Protocol

from relay.errors import RelayError, UnavailableError
from relay.program.watch import auditd, canary, kernel_audit
from relay.program.watch.auditd import AuditdObservation, Canary, Unit
from relay.program.watch.clock import Clocks
from relay.program.watch.enquiry import Enquiry
from relay.system import command
from relay.values.alarm import Alarm
from relay.values.event import Batch, Event, EventType, Submit

_log = logging.getLogger("relay.watch")

UNIT: Final = "auditd.service"
_BOOTED: Final = "/run/systemd/system"  # sd_booted(3)
_NOT_ACTIVE: Final = frozenset({3, 4})
"""systemctl(1), exit status: not active, no such unit. Without D-Bus it is 1, for a user other than root."""
_UNIT_EVERY: Final = 10
"""Looks between two questions to systemd: each starts a process or two."""
_PATIENCE_S: Final = 5.0
_NO_TIME: Final = b">1 - "  # the TIMESTAMP of a malformed line, RFC 5424 section 6.2.3
_LATER: Final = 2_000_000
"""Microseconds. By how much a record must be younger than the canary to have come after it for certain."""


class Machine(Protocol):
    """What is looked at."""

    def kernel(self) -> kernel_audit.KernelAudit:
        """The kernel's audit status; RelayError when it cannot be read."""

    def is_alive(self, pid: int) -> bool:
        """Whether there is such a process."""

    def unit(self) -> Unit | None:
        """The state of the audit daemon's unit; None without systemd."""

    def send_canary(self, token: str) -> None:
        """Send a record through the kernel; RelayError when that cannot be done."""


class ThisMachine:
    """The real one. What the kernel makes wait holds nobody up (`enquiry`)."""

    def __init__(self, status: Callable[[], kernel_audit.KernelAudit] = kernel_audit.read_status) -> None:
        self._status = kernel_audit.StandingStatus(status)
        self._canaries: Enquiry[None] = Enquiry()

    def kernel(self) -> kernel_audit.KernelAudit:
        """The kernel's audit status, by its last answer."""
        return self._status.read()

    def is_alive(self, pid: int) -> bool:
        """Whether there is such a process; that it is another user's is no matter."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def unit(self) -> Unit | None:
        """What systemd says, by the exit codes of systemctl(1); UnavailableError when it could not be asked."""
        if not os.path.isdir(_BOOTED):
            return None
        active = _systemctl("is-active")
        if active == 0:
            return "active"
        if active not in _NOT_ACTIVE:
            remedy = f"run it by hand, as relay's user: systemctl is-active {UNIT} (D-Bus must run)"
            raise UnavailableError("systemctl", f"cannot ask systemd: exit code {active}", remedy)
        return "failed" if _systemctl("is-failed") == 0 else "inactive"

    def send_canary(self, token: str) -> None:
        """Send a record through the kernel; what the kernel answers late is told by the next call, which sends none."""
        self._canaries.ask(functools.partial(canary.send, token))


def _written(event: Event) -> int:
    """When a record was written, by the wall clock in microseconds; 0: nobody can tell."""
    return 0 if _NO_TIME in event.head else event.time


def _systemctl(question: str) -> int:
    return command.code(["systemctl", "--quiet", question, UNIT], patience=_PATIENCE_S)


class AuditTrail:
    """Watches auditd for one road."""

    def __init__(self, now: Clocks, *, standing: bool, clocks: Callable[[], Clocks], machine: Machine) -> None:
        self._clocks = clocks
        self._machine = machine
        self._token = secrets.token_hex(8)
        self._mark = canary.text(self._token)
        self._lock = threading.Lock()
        self._canary = Canary.begin(now.boot, standing=standing)
        self._sent_at = 0
        """By the wall clock, which the kernel stamps records with; 0: none was sent."""
        self._youngest = now.wall if standing else 0
        """By the same clock: what was written before tells nothing of an alarm that stands."""
        self._looks = 0
        self._unit: Unit | None = None
        self.blind: dict[str, str] = {}
        """Each part that cannot be watched, and why."""

    @property
    def error(self) -> str:
        """What status tells of the parts that are left out; empty when there are none."""
        return "; ".join(f"not {part}: {why}" for part, why in sorted(self.blind.items()))

    @property
    def state(self) -> str:
        """What status tells."""
        parts = {"kernel", "unit", "canary"} - set(self.blind)
        return f"watches {', '.join(sorted(parts)) or 'nothing'}"

    def hear(self, submit: Submit) -> Submit:
        """The same submit, which notes what comes through it."""

        async def heard(batch: Batch) -> asyncio.Future[None]:
            last = next((event for event in reversed(batch.events) if event.type is EventType.AUDIT), None)
            if last is not None:  # a gap of relay's own is no life of auditd's
                with self._lock:
                    self._note(batch, last)
            return await submit(batch)

        return heard

    def _note(self, batch: Batch, last: Event) -> None:
        now = self._clocks().boot
        if self._sent_at and any(self._mark in event.tail for event in batch.events):
            self._canary = self._canary.arrive(now)
            self._sent_at = 0
            return
        written = _written(last)
        if written < max(self._youngest, 1) and self._canary.is_missing(now):
            return
        self._youngest = max(self._youngest, written)
        younger = bool(self._sent_at) and written > self._sent_at + _LATER
        self._canary = self._canary.hear(now, younger=younger)
        if self._canary.given_up and "canary" not in self.blind:
            self._sent_at = 0
            self._leave_out("canary", "audit rules keep records of type USER away, so silence tells nothing")

    def look(self, now: Clocks, *, taking: bool) -> Alarm | None:
        """Look once; the alarm that this calls for. `taking`: whether what comes can be taken in.

        Takes as long as systemctl does, up to 10 s: not for the event loop's thread.
        """
        sight = self._sight()
        with self._lock:
            self._youngest = min(self._youngest, now.wall)  # the clock was set back
        if auditd.broken_link(sight):
            with self._lock:
                self._sent_at, self._youngest = 0, now.wall
                self._canary = Canary.begin(now.boot, standing=True)
        elif not taking:
            with self._lock:
                self._canary = self._canary.hold(now.boot)
        elif self._canary.is_due(now.boot):
            self._send(now)
        return auditd.alarm_wanted(sight, self._canary, now.boot)

    def _send(self, now: Clocks) -> None:
        # Noted before it is sent: it may be here before the kernel's answer is.
        with self._lock:
            self._sent_at = now.wall
            former, self._canary = self._canary, self._canary.leave(now.boot)
        try:
            self._machine.send_canary(self._token)
        except RelayError as error:
            with self._lock:
                self._sent_at, self._canary = 0, self._canary.fail(former)
            self._leave_out("canary", str(error))
        else:
            self._take_up("canary")

    def _sight(self) -> AuditdObservation:
        enabled: bool | None = None
        daemon: bool | None = None
        try:
            kernel = self._machine.kernel()
        except RelayError as error:
            self._leave_out("kernel", str(error))
        else:
            self._take_up("kernel")
            enabled = kernel.enabled != 0
            daemon = kernel.pid > 0 and self._machine.is_alive(kernel.pid)
        return AuditdObservation(enabled=enabled, daemon=daemon, unit=self._unit_now())

    def _unit_now(self) -> Unit | None:
        self._looks += 1
        if self._looks % _UNIT_EVERY == 1:
            try:
                self._unit = self._machine.unit()
            except RelayError as error:
                self._leave_out("unit", str(error))
                self._unit = None
            else:
                self._take_up("unit")
                if self._unit is None:
                    self.blind["unit"] = "systemd does not run here"
        return self._unit

    def _leave_out(self, part: str, why: str) -> None:
        if self.blind.get(part) != why:
            _log.warning("the auditd watch goes on without its part %s: %s", part, why)
        self.blind[part] = why

    def _take_up(self, part: str) -> None:
        self.blind.pop(part, None)
