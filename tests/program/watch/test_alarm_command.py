"""The alarm-command: what it gets, and that nothing it does delays or stops relay."""

import logging
from pathlib import Path

import pytest
from harness.waiting import wait_until

from relay.errors import ConfigurationError
from relay.program.watch.alarm_command import MOST_WAITING, AlarmCommand, check_alarm_command
from relay.values.alarm import Alarm, AlarmChange, Severity
from relay.values.configuration.settings import RelaySettings

NAME = "server-lost"
VARIABLES = "ALARM STATE SEVERITY SUBJECT TEXT SINCE AT"


def script(folder: Path, text: str) -> tuple[str, ...]:
    """A program of the administrator's, which writes each alarm as a line into `alarms`."""
    path = folder / "report-alarm"
    values = "|".join(f"$RELAY_{name}" for name in VARIABLES.split())
    path.write_text(f'#!/bin/sh\n{text}\necho "$1|{values}" >> {folder}/alarms\n')
    path.chmod(0o755)
    return (str(path), "an argument")


def change(*, raised: bool = True, severity: Severity = "major", text: str = "it is lost", at: int = 0) -> AlarmChange:
    return AlarmChange(Alarm(NAME, severity, text, "log 1"), raised=raised, since=0, at=at)


def alarms(folder: Path, count: int) -> list[str]:
    file = folder / "alarms"
    wait_until(lambda: file.exists() and len(file.read_text().splitlines()) >= count, 60, "alarms")
    return file.read_text().splitlines()


def test_it_gets_each_alarm_that_begins_changes_its_severity_or_ends(tmp_path: Path) -> None:
    runner = AlarmCommand(script(tmp_path, ""))
    runner.note(change(text="$(touch /tmp/never) `never` \"quoted\" 'too' \0"))
    runner.note(change(text="another text alone", at=1_000_000))
    runner.note(change(severity="critical", at=1_000_000))
    runner.note(change(raised=False, at=2_000_000))
    begin = "1970-01-01T00:00:00.000Z"
    assert alarms(tmp_path, 3) == [
        f"an argument|{NAME}|raised|major|log 1|$(touch /tmp/never) `never` \"quoted\" 'too' \\x00|{begin}|{begin}",
        f"an argument|{NAME}|raised|critical|log 1|it is lost|{begin}|1970-01-01T00:00:01.000Z",
        f"an argument|{NAME}|cleared|major|log 1|it is lost|{begin}|1970-01-01T00:00:02.000Z",
    ]


def test_a_failure_is_logged_once_until_it_works_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    runner = AlarmCommand(script(tmp_path, f"test -e {tmp_path}/works || exit 3"))
    for _ in range(3):
        runner.note(change())
    wait_until(lambda: runner._waiting.empty() and "exit code 3" in caplog.text, 60, "the failure")
    (tmp_path / "works").touch()
    runner.note(change(raised=False))
    alarms(tmp_path, 1)
    wait_until(lambda: "works again" in caplog.text, 60, "that it works")
    assert caplog.text.count("alarm-command failed") == 1


def test_one_that_hangs_is_killed_and_the_next_alarm_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = AlarmCommand(script(tmp_path, 'test "$RELAY_STATE" = cleared || exec /bin/sleep 1000'), timeout=0.1)
    runner.note(change())
    runner.note(change(raised=False))
    assert "cleared" in alarms(tmp_path, 1)[0]
    assert "did not end within 0.1 s" in caplog.text


def test_alarms_beyond_the_ceiling_replace_the_oldest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runner = AlarmCommand(script(tmp_path, f"while ! test -e {tmp_path}/go; do /bin/sleep 0.01; done; exit"))
    for _ in range(MOST_WAITING + 10):
        runner.note(change())
    assert 9 <= runner.dropped <= 10, "the first may have begun already"
    assert runner._waiting.qsize() == MOST_WAITING
    assert "oldest are dropped" in caplog.text
    runner._waiting.queue.clear()
    (tmp_path / "go").touch()


def test_without_a_command_nothing_runs() -> None:
    runner = AlarmCommand(())
    runner.note(change())
    assert runner._thread is None


def test_a_command_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match=r"alarm-command.*/no/such/program.*not a program"):
        check_alarm_command(RelaySettings(alarm_command=("/no/such/program",)))
