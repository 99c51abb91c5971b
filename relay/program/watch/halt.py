"""Asking for the halt of this machine, as disk-full-action or network-failure-action = "halt" wants it.

Never within 15 minutes of the boot, so that a person can log in and mend it; never while cursors move, since then room
is on its way (for a lost server: its own cursor); never while the file no-halt exists; and once a boot. The boot that
was asked in is remembered in a slot, which can be written on a full disk, before anything is run. Where not even that
can be written, the process remembers.

relay has no right to halt anything. It runs the configured command or, when that is empty, makes a file, which a unit
of root's (deploy/relay-halt.path) waits for. A command that fails is not run again: a person reads of it in the log.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from relay.errors import RelayError, StorageError
from relay.program.watch import request
from relay.spool.slots import Slots
from relay.system import command
from relay.system.disk import Disk

_log = logging.getLogger("relay.watch")

REQUEST: Final = "/run/relay/halt"
NO_HALT: Final = "/run/relay/no-halt"
SLOT: Final = "halt-asked"
LEAST_UPTIME: Final = 900.0
LEAST_STILL: Final = 60.0
_PATIENCE: Final = 30.0
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"  # random(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltGuard:
    """What is known at the moment when a halt is wanted; seconds."""

    uptime: float
    still: float
    """Since a cursor last moved or, when none has, since relay was started."""
    no_halt: bool
    asked: bool
    """Whether a halt was asked for in this boot."""

    def objection(self) -> str | None:
        """Why no halt may be asked for now; None when it may."""
        if self.asked:
            return "it was asked for in this boot"
        if self.no_halt:
            return "the file no-halt forbids it"
        if self.uptime < LEAST_UPTIME:
            return f"the machine was booted less than {LEAST_UPTIME / 60:g} minutes ago"
        if self.still < LEAST_STILL:
            return f"events were delivered, or relay was started, less than {LEAST_STILL:g} s ago"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltMethod:
    """How a halt is asked for."""

    command: tuple[str, ...] = ()
    boot_id: str
    """What `boot_id()` says."""
    request: str = REQUEST
    no_halt: str = NO_HALT


class HaltOutcome(NamedTuple):
    """What became of the wish for a halt."""

    outcome: Literal["asked", "held back", "failed"]
    words: str
    """How it was asked for, what stands against it, or the error."""


def boot_id() -> str:
    """What names this boot, and no other; empty where the kernel does not tell."""
    try:
        return Path(_BOOT_ID).read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return ""


class HaltRequest:
    """Asks for the halt, at most once a boot."""

    def __init__(self, disk: Disk, slots: Slots, way: HaltMethod, warn: Callable[[str], None]) -> None:
        self._disk = disk
        self._slots = slots
        self._way = way
        self._warn = warn
        self._asked = bool(way.boot_id) and slots.get(SLOT) == way.boot_id.encode()
        self._told: HaltOutcome | None = None

    def ask(self, message: str, *, uptime: float, still: float) -> HaltOutcome:
        """Ask for it unless `HaltGuard` objects; `warn` is given the message first. A new answer is logged.

        Takes as long as the command does, up to 30 s: not for the event loop's thread.
        """
        try:
            no_halt = self._disk.exists(self._way.no_halt)
        except StorageError:  # a folder above it is closed to relay: nobody can forbid the halt to it there
            no_halt = False
        guard = HaltGuard(uptime=uptime, still=still, no_halt=no_halt, asked=self._asked)
        objection = guard.objection()
        answer = self._go(message) if objection is None else HaltOutcome("held back", objection)
        if answer != self._told:
            self._told = answer
            level = logging.WARNING if answer.outcome == "held back" else logging.CRITICAL
            _log.log(level, "halt of this machine: %s (%s)", answer.outcome, answer.words)
        return answer

    def _go(self, message: str) -> HaltOutcome:
        self._remember()
        self._warn(message)
        try:
            return HaltOutcome("asked", self._run())
        except RelayError as error:
            return HaltOutcome("failed", str(error))

    def _remember(self) -> None:
        self._asked = True
        try:
            self._slots.put(SLOT, self._way.boot_id.encode())
        except StorageError as error:
            _log.error("that a halt was asked for is remembered only while this process runs: %s", error)

    def _run(self) -> str:
        if self._way.command:
            command.run(self._way.command, patience=_PATIENCE)
            return f"ran {self._way.command[0]}"
        request.leave(self._disk, self._way.request)
        return f"made {self._way.request}"
