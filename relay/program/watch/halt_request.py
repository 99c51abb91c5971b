"""Requesting the halt of this machine, for disk-full-action or network-failure-action = "halt".

No halt is requested within 15 minutes of the boot, so that a person can log in and repair the cause. None is requested
while cursors move, because delivery frees space (for a lost server its own cursor counts), nor while the file no-halt
exists. relay requests it once a boot. Before anything is run, a slot remembers the boot; a slot can be written on a
full disk. If not even that works, the process remembers.

relay is not allowed to halt anything itself. It runs the configured command or, when that is empty, creates a file that
one of root's units waits for (deploy/relay-halt.path). A command that fails is not run again; the log reports why.
"""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from relay.errors import RelayError, StorageError
from relay.program.watch.root_request import leave_root_request
from relay.spool.slots import Slots
from relay.system.disk import Disk
from relay.system.programs import command
from relay.system.programs.child_rights import HALTING

_log = logging.getLogger("relay.watch")

REQUEST: Final = "/run/relay/halt"
NO_HALT: Final = "/run/relay/no-halt"
SLOT: Final = "halt-asked"
LEAST_UPTIME: Final = 900.0
LEAST_STILL: Final = 60.0
_TIMEOUT_S: Final = 30.0
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"  # random(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltMethod:
    """How a halt is requested."""

    command: tuple[str, ...] = ()
    boot_id: str
    """See `boot_id()`."""
    request: str = REQUEST
    no_halt: str = NO_HALT


class HaltOutcome(NamedTuple):
    """The result of an attempt to request a halt."""

    outcome: Literal["requested", "held back", "failed"]
    detail: str
    """How it was requested, the objection, or the error."""


def boot_id() -> str:
    """The identity of this boot; empty where the kernel does not have one."""
    try:
        return Path(_BOOT_ID).read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return ""


class HaltRequest:
    """Requests the halt, at most once a boot."""

    def __init__(self, disk: Disk, slots: Slots, method: HaltMethod, warn: Callable[[str], None]) -> None:
        self.method = method
        self._disk = disk
        self._slots = slots
        self._warn = warn
        self._requested = bool(method.boot_id) and slots.get(SLOT) == method.boot_id.encode()
        self._logged: HaltOutcome | None = None

    def request(self, message: str, *, uptime: float, still: float) -> HaltOutcome:
        """Warn users with `message` and request the halt, unless something objects. A new outcome is logged.

        `uptime` and `still` are seconds: since the boot, and since a cursor last moved or relay was started. Takes as
        long as the command does, up to 30 s: not for the event loop's thread.
        """
        objection = self._objection(uptime, still)
        outcome = self._request_now(message) if objection is None else HaltOutcome("held back", objection)
        if outcome != self._logged:
            self._logged = outcome
            level = logging.WARNING if outcome.outcome == "held back" else logging.CRITICAL
            _log.log(level, "halt of this machine: %s (%s)", outcome.outcome, outcome.detail)
        return outcome

    def _objection(self, uptime: float, still: float) -> str | None:
        if self._requested:
            return "it was requested in this boot already"
        with contextlib.suppress(StorageError):  # relay cannot enter the folder, so nobody can forbid the halt there
            if self._disk.exists(self.method.no_halt):
                return "the file no-halt forbids it"
        if uptime < LEAST_UPTIME:
            return f"the machine was booted less than {LEAST_UPTIME / 60:g} minutes ago"
        if still < LEAST_STILL:
            return f"events were delivered, or relay was started, less than {LEAST_STILL:g} s ago"
        return None

    def _request_now(self, message: str) -> HaltOutcome:
        self._requested = True
        try:
            self._slots.put(SLOT, self.method.boot_id.encode())
        except StorageError as error:
            _log.error("only this process remembers that a halt was requested: %s", error)
        self._warn(message)
        try:
            if self.method.command:
                command.run(self.method.command, timeout=_TIMEOUT_S, rights=HALTING)
                return HaltOutcome("requested", f"ran {self.method.command[0]}")
            leave_root_request(self._disk, self.method.request)
            return HaltOutcome("requested", f"created {self.method.request}")
        except RelayError as error:
            return HaltOutcome("failed", str(error))
