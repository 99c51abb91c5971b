"""What `relay status --check` concludes from a program's state."""

from typing import Any

import pytest

from relay.program.status.check_result import CheckState
from relay.program.status.live import Live, LiveAlarm, LiveDestination
from relay.program.status.status import DestinationStatus, SpoolStatus, Status
from relay.program.status.status_check import AgeLimits, check_status

SECOND = 1_000_000
NOW = 10_000_000 * SECOND
EMPTY = SpoolStatus(0, 0, 0, {})


def destination(name: str = "log1", events: int = 0, age: float = 0) -> DestinationStatus:
    since = NOW - int(age * SECOND) if events else 0
    return DestinationStatus(name, 100, events, events * 200, since, "drained", NOW)


def state(*destinations: DestinationStatus, **seen: Any) -> Status:
    live = Live(
        pid=5, started=1, destinations=tuple(LiveDestination(name=each.name, state="") for each in destinations), **seen
    )
    return Status("/state", 5, EMPTY, EMPTY, (), destinations, live)


def alarm(severity: str, name: str = "server-lost") -> LiveAlarm:
    return LiveAlarm(name=name, severity=severity, text="a text", since=1)


def check(found: Status) -> tuple[CheckState, str]:
    result = check_status(found, NOW, AgeLimits(60, 600))
    assert "\n" not in result.line
    return result.state, result.text


def test_a_program_without_faults_is_ok() -> None:
    found = state(destination(events=3, age=59), destination("log2"))
    assert check(found) == (CheckState.OK, "2 destinations, 3 events wait")
    line = check_status(found, NOW, AgeLimits(60, 600)).line
    assert line.endswith(" | depth=3;;;0 depth_size=600B;;;0 oldest=59s;60;600;0 alarms=0;;;0")


@pytest.mark.parametrize(
    ("age", "expected"), [(60, CheckState.WARNING), (599, CheckState.WARNING), (600, CheckState.CRITICAL)]
)
def test_the_age_of_the_oldest_event_counts(age: float, expected: CheckState) -> None:
    found, text = check(state(destination(events=1, age=age), destination("log2")))
    assert found is expected
    assert text.startswith(f"log1: the oldest event without proof is {age:.0f} s old, the limit is ")


def test_a_clock_that_was_set_back_makes_nothing_old() -> None:
    assert check(state(destination(events=1, age=-100_000)))[0] is CheckState.OK


@pytest.mark.parametrize(
    ("severity", "expected"),
    [
        ("critical", CheckState.CRITICAL),
        ("major", CheckState.WARNING),
        ("minor", CheckState.WARNING),
        ("info", CheckState.OK),
    ],
)
def test_alarms_count_by_their_severity(severity: str, expected: CheckState) -> None:
    assert check(state(destination(), alarms=(alarm(severity),)))[0] is expected


def test_the_worst_alarm_comes_first() -> None:
    found = state(destination(), alarms=(alarm("minor", "certificate-ends"), alarm("critical", "spool-full")))
    assert check(found) == (CheckState.CRITICAL, "alarm spool-full: a text; alarm certificate-ends: a text")


def test_a_spool_that_cannot_be_written_is_critical_before_its_alarm_is_raised() -> None:
    assert check(state(destination(), intake_error="full")) == (
        CheckState.CRITICAL,
        "the spool cannot be written: full",
    )


def test_the_cursor_of_a_removed_server_does_not_count() -> None:
    found = state(destination())
    old = destination("removed", events=10, age=100_000)
    assert check(found._replace(destinations=(*found.destinations, old)))[0] is CheckState.OK


def test_a_program_that_does_not_run_is_critical_and_one_that_does_not_answer_unknown() -> None:
    found = state(destination())
    assert check(found._replace(pid=None, live=None)) == (
        CheckState.CRITICAL,
        "relay does not run (state directory /state)",
    )
    assert check(found._replace(live=None)) == (CheckState.UNKNOWN, "relay (pid 5) does not answer")
