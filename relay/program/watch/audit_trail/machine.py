"""The questions of the watch on the audit trail to the machine, and the canary that it sends."""

import functools
import os
from collections.abc import Callable
from typing import Final, Protocol

from typing_extensions import override

from relay.errors import UnavailableError
from relay.program.watch.audit_trail import kernel_audit
from relay.program.watch.audit_trail.kernel_audit import STATUS, KernelAudit
from relay.program.watch.audit_trail.observation import Unit
from relay.system.background.background_call import TIMEOUT_S, BackgroundCall
from relay.system.programs import command

UNIT: Final = "auditd.service"
_BOOTED: Final = "/run/systemd/system"  # sd_booted(3)
_NOT_ACTIVE: Final = frozenset({3, 4})
"""systemctl(1), exit status: not active, no such unit. Without D-Bus it is 1, for a user other than root."""
_SYSTEMCTL_TIMEOUT_S: Final = 5.0
_FIRST_TIMEOUT_S: Final = 3.0


class Machine(Protocol):
    """The machine, as the watch on the audit trail uses it."""

    def kernel(self) -> KernelAudit:
        """The kernel's audit status; RelayError when it cannot be read."""

    def is_alive(self, pid: int) -> bool:
        """Whether there is such a process, of whichever user."""

    def unit(self) -> Unit | None:
        """The state of the audit daemon's unit; None without systemd, RelayError when systemd does not answer."""

    def send_canary(self, token: str) -> None:
        """Send a record through the kernel; RelayError when that cannot be done."""


class ThisMachine(Machine):
    """The machine that relay runs on; for one thread at a time.

    A kernel that makes its callers wait delays none of them (`BackgroundCall`): `kernel` returns the latest answer.
    """

    def __init__(
        self,
        status: Callable[[], KernelAudit] = kernel_audit.read_status,
        send: Callable[[str], None] = kernel_audit.send_canary,
        booted: str = _BOOTED,
        first_timeout: float = _FIRST_TIMEOUT_S,
    ) -> None:
        self._status = status
        self._send = send
        self._booted = booted
        self._first_timeout = first_timeout
        self._known: KernelAudit | None = None
        self._statuses: BackgroundCall[KernelAudit] = BackgroundCall()
        self._canaries: BackgroundCall[None] = BackgroundCall()

    @override
    def kernel(self) -> KernelAudit:
        """See `Machine`. Takes a quarter of a second at most, and `first_timeout` seconds until the first answer."""
        answer = self._statuses.ask(self._status, timeout=TIMEOUT_S if self._known else self._first_timeout)
        self._known = answer or self._known
        if self._known is None:
            raise UnavailableError(STATUS.what, f"no answer within {self._first_timeout:g} s")
        return self._known

    @override
    def is_alive(self, pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    @override
    def unit(self) -> Unit | None:
        if not os.path.isdir(self._booted):
            return None
        active = _systemctl("is-active")
        if active == 0:
            return "active"
        if active not in _NOT_ACTIVE:
            remedy = f"run it by hand, as relay's user: systemctl is-active {UNIT} (D-Bus must run)"
            raise UnavailableError("systemctl", f"cannot ask systemd: exit code {active}", remedy)
        return "failed" if _systemctl("is-failed") == 0 else "inactive"

    @override
    def send_canary(self, token: str) -> None:
        """See `Machine`. An error that the kernel reports late is raised by the next call, which sends nothing."""
        self._canaries.ask(functools.partial(self._send, token))


def _systemctl(question: str) -> int:
    return command.code(["systemctl", "--quiet", question, UNIT], timeout=_SYSTEMCTL_TIMEOUT_S)
