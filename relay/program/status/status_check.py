"""The check of `relay status --check`: alarms, and the age of what is not proven. Pure.

An alarm of severity critical is critical, one that is major or minor is a warning. A program that does not run is
critical. One that runs and does not answer is unknown: it may be stopped, or too busy for two seconds.
"""

from typing import Final, NamedTuple

from relay.program.status.check_result import CheckResult, CheckState, Fault, PerformanceValue, check_result
from relay.program.status.status import DestinationStatus, Status
from relay.values.duration import duration_text
from relay.values.text import counted

OF_SEVERITY: Final = {
    "critical": CheckState.CRITICAL,
    "major": CheckState.WARNING,
    "minor": CheckState.WARNING,
    "info": CheckState.OK,
}
_MICROSECONDS: Final = 1_000_000


class AgeLimits(NamedTuple):
    """The age in seconds from which on the oldest unproven event is a warning, or critical."""

    warning: float = 900.0
    critical: float = 3600.0


def check_status(found: Status, now: int, limits: AgeLimits) -> CheckResult:
    """Judge a program's state; `now` is in microseconds since the epoch."""
    if found.pid is None:
        return CheckResult(CheckState.CRITICAL, f"relay does not run (state directory {found.state_directory})")
    if found.live is None:
        return CheckResult(CheckState.UNKNOWN, f"relay (pid {found.pid}) does not answer")
    configured = {each.name for each in found.live.destinations}
    destinations = [each for each in found.destinations if each.name in configured]
    faults = [
        Fault(OF_SEVERITY.get(alarm.severity, CheckState.WARNING), f"alarm {alarm.name}: {alarm.text}")
        for alarm in found.live.alarms
        if alarm.severity != "info"
    ]
    if found.live.intake_error and not any(fault.state is CheckState.CRITICAL for fault in faults):
        faults.append(Fault(CheckState.CRITICAL, f"the spool cannot be written: {found.live.intake_error}"))
    ages = {each.name: _age(each, now) for each in destinations}
    for name, age in ages.items():
        for state, limit in ((CheckState.CRITICAL, limits.critical), (CheckState.WARNING, limits.warning)):
            if age >= limit:
                sentence = f"{name}: the oldest event without proof is {age:.0f} s old, the limit is"
                faults.append(Fault(state, f"{sentence} {duration_text(limit)}"))
                break
    waiting = max((each.waiting_events for each in destinations), default=0)
    octets = max((each.waiting_octets for each in destinations), default=0)
    good = f"{counted(len(destinations), 'destination')}, {counted(waiting, 'event waits', 'events wait')}"
    performance = (
        PerformanceValue("depth", waiting),
        PerformanceValue("depth_size", octets, "B"),
        PerformanceValue("oldest", max(ages.values(), default=0.0), "s", limits.warning, limits.critical),
        PerformanceValue("alarms", len(found.live.alarms)),
    )
    return check_result(faults, good, performance)


def _age(destination: DestinationStatus, now: int) -> float:
    """The age of its oldest unproven event in seconds; 0 when nothing waits."""
    since = destination.waiting_since
    return max(now - since, 0) / _MICROSECONDS if destination.waiting_events and since else 0.0
