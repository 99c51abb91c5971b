"""The observable state of this machine's audit trail. Pure.

The trail is a chain: the kernel audits, a daemon is registered with it and alive, its unit has not failed, and its
records reach relay's source. A link that cannot be observed is None and is not a fault.
"""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["active", "inactive", "failed"]
AuditFault = Literal["audit-off", "no-daemon", "unit-failed", "unit-inactive", "no-records"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditObservation:
    """The links of the chain; None: this user is not allowed to look, or this machine does not have it."""

    enabled: bool | None = None
    """Whether the kernel audits."""
    daemon: bool | None = None
    """Whether a daemon is registered with the kernel and its process runs."""
    unit: Unit | None = None
    records_missing: bool = False
    """Whether records should have arrived by now (`Canary`)."""

    @property
    def fault(self) -> AuditFault | None:
        """The first link that is broken."""
        if self.enabled is False:
            return "audit-off"
        if self.daemon is False:
            return "no-daemon"
        if self.unit == "failed":
            return "unit-failed"
        if self.unit == "inactive" and self.daemon is None:  # a daemon started by hand does not need the unit
            return "unit-inactive"
        return "no-records" if self.records_missing else None
