"""Which link of the audit trail is broken, by what could be observed."""

import pytest

from relay.program.watch.audit_trail.observation import AuditFault, AuditObservation


@pytest.mark.parametrize(
    ("observed", "fault"),
    [
        (AuditObservation(enabled=True, daemon=True, unit="active"), None),
        (AuditObservation(enabled=False, daemon=True, unit="active", records_missing=True), "audit-off"),
        (AuditObservation(enabled=True, daemon=False, unit="active", records_missing=True), "no-daemon"),
        (AuditObservation(enabled=True, daemon=True, unit="failed", records_missing=True), "unit-failed"),
        (AuditObservation(enabled=True, daemon=True, unit="inactive"), None),
        (AuditObservation(enabled=True, daemon=True, unit="active", records_missing=True), "no-records"),
        (AuditObservation(unit="failed"), "unit-failed"),
        (AuditObservation(unit="inactive"), "unit-inactive"),
        (AuditObservation(unit="active"), None),
        (AuditObservation(), None),
    ],
)
def test_the_first_broken_link_is_the_fault_and_an_unknown_one_is_not(
    observed: AuditObservation, fault: AuditFault | None
) -> None:
    """A daemon that somebody started by hand does not need the unit; without the kernel's status, the unit counts."""
    assert observed.fault == fault
