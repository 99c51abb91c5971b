"""The watch on this machine's audit trail: it looks at the machine, sees the sources' records, and sends the canary.

relay's user may lack the right to a part of this, or the machine may lack the part (systemd): then the watch works
without it, names it in the status, and logs it once.

A record proves that records arrive if it was written after all earlier ones. An older one proves it only while no
records are missing: then a source catches up. A malformed line has no time, so it proves nothing then.

`wrap` runs in the event loop's thread and `look` in a worker thread; a lock protects the canary's state. It is never
held during a call that may wait.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from relay.errors import RelayError
from relay.program.watch.audit_trail.canary import Canary
from relay.program.watch.audit_trail.kernel_audit import canary_text
from relay.program.watch.audit_trail.machine import Machine
from relay.program.watch.audit_trail.observation import AuditObservation, Unit
from relay.program.watch.audit_trail.own_records import OwnRecords
from relay.values.clocks import Clocks
from relay.values.event import Batch, EventType, Submit

_log = logging.getLogger("relay.watch")

_UNIT_EVERY: Final = 10
"""Looks from one question to systemd to the next: each starts a process or two."""
_NO_TIME: Final = b">1 - "  # the TIMESTAMP of a malformed line, RFC 5424 section 6.2.3
_YOUNGER: Final = 2_000_000
"""Microseconds. A record younger than the canary by more than that was certainly written after it."""


class AuditTrailWatch:
    """Watches the audit trail for one program."""

    def __init__(self, machine: Machine, clocks: Callable[[], Clocks], *, records_missing: bool) -> None:
        now = clocks()
        self._clocks = clocks
        self._machine = machine
        self.own_records = OwnRecords(os.getpid(), now.boot)
        self._token = secrets.token_hex(8)
        self._canary_text = canary_text(self._token)
        self._lock = threading.Lock()
        self._canary = Canary.begin(now.boot, records_missing=records_missing)
        self._sent_at = 0
        """By the wall clock, which the kernel stamps records with; 0: none is under way."""
        self._youngest = now.wall if records_missing else 0
        """By the same clock: no record written before that proves that records arrive again."""
        self._looks = 0
        self._unit: Unit | None = None
        self.unavailable: dict[str, str] = {}
        """Each part that cannot be watched, and why."""

    @property
    def error(self) -> str:
        """For the status: the parts that cannot be watched; empty when there are none."""
        return "; ".join(f"not {part}: {why}" for part, why in sorted(self.unavailable.items()))

    @property
    def state(self) -> str:
        """For the status: the parts that are watched."""
        parts = {"kernel", "unit", "canary"} - set(self.unavailable)
        return f"watches {', '.join(sorted(parts)) or 'nothing'}"

    def wrap(self, submit: Submit) -> Submit:
        """The same submit, for a source of audit records: the watch notes each batch that passes through it."""

        async def noting(batch: Batch) -> asyncio.Future[None]:
            self.own_records.count(batch.events)
            with self._lock:
                self._note(batch)
            return await submit(batch)

        return noting

    def _note(self, batch: Batch) -> None:
        last = next((event for event in reversed(batch.events) if event.type is EventType.AUDIT), None)
        if last is None:  # a gap is an event of relay's own and proves nothing about auditd
            return
        now = self._clocks().boot
        if self._sent_at and any(self._canary_text in event.tail for event in batch.events):
            self._canary = self._canary.arrive(now)
            self._sent_at = 0
            return
        written = 0 if _NO_TIME in last.head else last.time
        if written < max(self._youngest, 1) and self._canary.is_missing(now):
            return
        self._youngest = max(self._youngest, written)
        younger = bool(self._sent_at) and written > self._sent_at + _YOUNGER
        self._canary = self._canary.note_record(now, younger=younger)
        if self._canary.excluded and "canary" not in self.unavailable:
            self._sent_at = 0
            self._set_unavailable("canary", "audit rules exclude records of type USER, so silence proves nothing")

    def look(self, now: Clocks, *, accepting: bool) -> AuditObservation:
        """Look at the machine once, and send the canary if it is due. `accepting`: whether relay accepts records.

        Takes as long as systemctl does, up to 10 s: not for the event loop's thread.
        """
        observed = self._look_at_machine()
        with self._lock:
            self._youngest = min(self._youngest, now.wall)  # the clock was set back
            if observed.fault is not None:
                self._sent_at, self._youngest = 0, now.wall
                self._canary = Canary.begin(now.boot, records_missing=True)
            elif not accepting:
                self._canary = self._canary.pause(now.boot)
        if observed.fault is None and accepting and self._canary.is_due(now.boot):
            # The state changes before the record is sent: it may arrive here before the kernel's answer does.
            with self._lock:
                self._sent_at = now.wall
                former, self._canary = self._canary, self._canary.send(now.boot)
            is_sent = False
            with self._watching("canary"):
                self._machine.send_canary(self._token)
                is_sent = True
            if not is_sent:
                with self._lock:
                    self._sent_at, self._canary = 0, self._canary.fail(former)
        return replace(observed, records_missing=self._canary.is_missing(now.boot))

    def _look_at_machine(self) -> AuditObservation:
        enabled = daemon = None
        with self._watching("kernel"):
            kernel = self._machine.kernel()
            enabled = kernel.enabled != 0
            daemon = kernel.pid > 0 and self._machine.is_alive(kernel.pid)
        if self._looks % _UNIT_EVERY == 0:
            self._unit = None
            with self._watching("unit"):
                self._unit = self._machine.unit()
            if self._unit is None:  # an error is worth a line in the log, a machine without systemd is not
                self.unavailable.setdefault("unit", "systemd does not run here")
        self._looks += 1
        return AuditObservation(enabled=enabled, daemon=daemon, unit=self._unit)

    @contextlib.contextmanager
    def _watching(self, part: str) -> Iterator[None]:
        """Watch a part; a RelayError makes it unavailable."""
        try:
            yield
        except RelayError as error:
            self._set_unavailable(part, str(error))
        else:
            self.unavailable.pop(part, None)

    def _set_unavailable(self, part: str, why: str) -> None:
        if self.unavailable.get(part) != why:
            _log.warning("the auditd watch works without its part %s: %s", part, why)
        self.unavailable[part] = why
