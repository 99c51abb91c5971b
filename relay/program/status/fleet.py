"""The answer of `relay fleet`: each originator of an archive, and the check of all of them.

It reads the newest of each originator's ledgers, whether or not a receiver writes to the archive. While none does,
"now" is the newest receipt in the archive: a receiver that does not run makes nobody silent.
"""

import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.archive.filing.bound_names import BoundNames
from relay.archive.layout import OWN
from relay.archive.reading.originator_report import OriginatorReport, read_report
from relay.archive.reading.originators import require_archive
from relay.errors import NoInputError
from relay.program.status.check_result import CheckResult, CheckState, Fault, PerformanceValue, check_result
from relay.program.status.status_check import OF_SEVERITY
from relay.program.watch.silence_watch import FORGOTTEN, HEARTBEATS_MISSED
from relay.system.disk import Disk
from relay.values.configuration.expect_settings import ReceiverExpect
from relay.values.duration import duration_text
from relay.values.glob_matcher import glob_matcher
from relay.values.text import counted

FLEET_SCHEMA: Final = "relay.fleet/1"
MOST_FAULTS: Final = 10
"""Faults that the check's line names."""
_MICROSECONDS: Final = 1_000_000
_WORST: Final = {"critical": 0, "major": 1, "minor": 2}


class SilenceLimits(NamedTuple):
    """Seconds without a heartbeat from which on a relay is a warning, or critical."""

    warning: float = HEARTBEATS_MISSED
    critical: float = 3600.0


class FleetMember(NamedTuple):
    """An originator, and what is wrong with it."""

    report: OriginatorReport
    is_silent: bool
    faults: tuple[Fault, ...]


class Fleet(NamedTuple):
    """All originators of an archive."""

    archive: str
    pid: int | None
    """The receiver that writes to it; None: none runs."""
    now: int
    members: Sequence[FleetMember]
    missing: tuple[Fault, ...]
    """Expectations that no originator matches."""
    unreadable: tuple[str, ...]
    """Folders that cannot be read."""


def read_fleet(
    disk: Disk,
    archive: str,
    now: int,
    expected: Sequence[ReceiverExpect] = (),
    limits: SilenceLimits = SilenceLimits(),  # noqa: B008  a value that cannot change
    names: BoundNames | None = None,
) -> Fleet:
    """Read an archive; NoInputError when the folder is not one. `names`: those that are bound."""
    reports, unreadable = list[OriginatorReport](), list[str]()
    for folder in require_archive(disk, archive):
        try:
            reports.append(read_report(disk, folder, names))
        except NoInputError as error:
            unreadable.append(str(error))
    pid = None
    with contextlib.suppress(OSError):
        pid = disk.lock_owner(f"{archive}/{OWN}/lock")
    if pid is None:
        now = max((each.received for each in reports), default=now)
    members = [judged(each, now, expected, limits) for each in reports]
    originators = [each.name for each in reports]
    missing = tuple(
        Fault(CheckState.WARNING, f"there is no originator {pattern}, which is expected")
        for table in expected
        for pattern in table.originator
        if not any(map(glob_matcher([pattern]), originators))
    )
    return Fleet(archive, pid, now, members, missing, tuple(unreadable))


def judged(
    report: OriginatorReport, now: int, expected: Sequence[ReceiverExpect], limits: SilenceLimits
) -> FleetMember:
    """What is wrong with an originator."""
    faults = []
    verified = {sender: at for sender, at in report.own_senders.items() if sender}
    for sender, received in (verified or report.own_senders).items():
        silent_for = (now - received) / _MICROSECONDS
        if limits.warning <= silent_for < FORGOTTEN:
            state = CheckState.CRITICAL if silent_for >= limits.critical else CheckState.WARNING
            by = f" by {sender}" if len(report.own_senders) > 1 else ""
            faults.append(Fault(state, f"{report.name}: no heartbeat{by} for {silent_for:.0f} s"))
    quiet_for = (now - report.received) / _MICROSECONDS
    for table in expected:
        if quiet_for >= table.within and glob_matcher(table.originator)(report.name):
            text = f"{report.name}: nothing came for {quiet_for:.0f} s (limit: {duration_text(table.within)})"
            faults.append(Fault(CheckState.WARNING, text))
    is_silent = bool(faults)
    if report.disputed:
        faults.append(Fault(CheckState.WARNING, f"{report.name}: messages under another sender's name"))
    if report.report is not None:
        name = f"{report.name} (unverified)" if report.evidence == "unverified" else report.name
        faults += [
            Fault(OF_SEVERITY.get(each.severity, CheckState.WARNING), f"{name}: alarm {each.name} {each.about}")
            for each in sorted(report.report.alarms, key=lambda each: _WORST.get(each.severity, 3))
            if each.severity != "info"
        ]
    return FleetMember(report, is_silent, tuple(faults))


def check_fleet(fleet: Fleet, limits: SilenceLimits) -> CheckResult:
    """Judge all originators; the line names the worst faults."""
    faults = [*fleet.missing, *(fault for member in fleet.members for fault in member.faults)]
    faults += [Fault(CheckState.UNKNOWN, text) for text in fleet.unreadable]
    worst = sorted(faults, key=lambda fault: -fault.state.rank)
    named = worst[:MOST_FAULTS]
    if len(worst) > MOST_FAULTS:
        named.append(Fault(named[-1].state, f"and {len(worst) - MOST_FAULTS} more"))
    relays = sum(bool(member.report.own_received) for member in fleet.members)
    evidence = Counter(member.report.evidence for member in fleet.members)
    reports = [member.report.report for member in fleet.members if member.report.report is not None]
    oldest = max(
        (
            age
            for each in fleet.members
            if each.report.own_received and (age := (fleet.now - each.report.own_received) / _MICROSECONDS) < FORGOTTEN
        ),
        default=0.0,
    )
    performance = (
        PerformanceValue("originators", len(fleet.members)),
        PerformanceValue("relays", relays),
        PerformanceValue("silent", sum(member.is_silent for member in fleet.members)),
        PerformanceValue("oldest_heartbeat", max(oldest, 0.0), "s", limits.warning, limits.critical),
        PerformanceValue("disputed", sum(member.report.disputed for member in fleet.members)),
        PerformanceValue("alarms", sum(len(report.alarms) for report in reports)),
        PerformanceValue("lost", sum(report.lost for report in reports)),
        PerformanceValue("unverified", evidence["unverified"]),
        PerformanceValue("contested", evidence["contested"]),
    )
    words = ", ".join(f"{evidence[word]} {word}" for word in ("unverified", "contested") if evidence[word])
    good = f"{counted(len(fleet.members), 'originator')}, {counted(relays, 'relay')}{f' ({words})' if words else ''}"
    return check_result(named, good, performance)
