"""Requesting the halt: when, and how. Every command is a stub: no test can reach a real halt."""

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.fake_disk import FakeDisk
from program.watch.conftest import Stubs

from relay.errors import ConfigurationError, UnavailableError
from relay.program.watch import halt_request
from relay.program.watch.halt_request import HaltMethod, HaltOutcome, HaltRequest
from relay.spool.slots import Slots
from relay.system.disk import Disk
from relay.system.programs import command
from relay.system.programs.command import check_command
from relay.values.alarm import HALT_ASKED

SHUTDOWN = ("shutdown", "-h", "now")
LONG_UP = 901.0
LONG_STILL = 61.0


class Machine:
    """A state directory, a /run/relay of the test's own, and the boot that it is in."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.run.mkdir()
        self.request = self.run / "halt"
        self.no_halt = self.run / "no-halt"
        self.slots = Slots(Disk(), str(folder / "slots"))
        self.boot = "5b1e8d9c"
        self.warned = 0

    def relay(self, *words: str, warn: Callable[[str], None] | None = None) -> HaltRequest:
        """The `HaltRequest` of a relay that was just started."""
        method = HaltMethod(command=words, boot_id=self.boot, request=str(self.request), no_halt=str(self.no_halt))
        return HaltRequest(Disk(), self.slots, method, warn or self._warn)

    def _warn(self, message: str) -> None:
        assert message == HALT_ASKED
        self.warned += 1


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def ask(request: HaltRequest) -> HaltOutcome:
    return request.request(HALT_ASKED, uptime=LONG_UP, still=LONG_STILL)


# --- When ---


def test_a_halt_may_be_requested_15_minutes_after_the_boot_and_a_minute_after_the_last_delivery(
    machine: Machine, stubs: Stubs
) -> None:
    assert machine.relay(*SHUTDOWN).request(HALT_ASKED, uptime=900, still=60).outcome == "requested"
    assert stubs.ran == ["shutdown -h now"]


@pytest.mark.parametrize(
    ("held_back", "words"),
    [
        ({"uptime": 899.9, "still": LONG_STILL}, "booted less than 15 minutes ago"),
        ({"uptime": LONG_UP, "still": 59.9}, "less than 60 s ago"),
    ],
)
def test_each_objection_is_a_sentence(machine: Machine, held_back: dict[str, float], words: str) -> None:
    assert words in machine.relay(*SHUTDOWN).request(HALT_ASKED, **held_back).detail


@pytest.mark.parametrize("held_back", [{"uptime": 899.0, "still": 61.0}, {"uptime": 901.0, "still": 59.0}])
def test_while_there_is_an_objection_nothing_is_run_and_nobody_is_warned(
    machine: Machine, stubs: Stubs, held_back: dict[str, float]
) -> None:
    request = machine.relay(*SHUTDOWN)
    assert request.request(HALT_ASKED, **held_back).outcome == "held back"
    assert (stubs.ran, machine.warned) == ([], 0)
    assert ask(request).outcome == "requested"


def test_the_file_no_halt_holds_the_halt_back_until_it_is_deleted(machine: Machine, stubs: Stubs) -> None:
    request = machine.relay(*SHUTDOWN)
    machine.no_halt.touch()
    assert ask(request) == HaltOutcome("held back", "the file no-halt forbids it")
    assert stubs.ran == []
    machine.no_halt.unlink()
    assert ask(request).outcome == "requested"


def test_a_no_halt_that_relay_cannot_look_for_holds_nothing_back(machine: Machine, stubs: Stubs) -> None:
    loop = machine.run / "loop"
    loop.symlink_to(loop)
    machine.no_halt = loop / "no-halt"
    assert ask(machine.relay(*SHUTDOWN)).outcome == "requested"
    assert stubs.ran == ["shutdown -h now"]


def test_the_halt_is_requested_once_a_boot_however_often_relay_starts(machine: Machine, stubs: Stubs) -> None:
    request = machine.relay(*SHUTDOWN)
    assert ask(request).outcome == "requested"
    assert ask(request) == HaltOutcome("held back", "it was requested in this boot already")
    assert ask(machine.relay(*SHUTDOWN)).outcome == "held back"
    assert stubs.ran == ["shutdown -h now"]
    machine.boot = "the next"
    assert ask(machine.relay(*SHUTDOWN)).outcome == "requested"
    assert stubs.ran == ["shutdown -h now"] * 2


def test_the_request_is_remembered_before_the_command_is_run(machine: Machine) -> None:
    def look(_: str) -> None:
        assert machine.slots.get("halt-asked") == machine.boot.encode()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(machine.relay(*SHUTDOWN, warn=look))
    assert ask(machine.relay(*SHUTDOWN)).outcome == "held back"


def test_on_a_disk_that_fails_the_halt_is_requested_once(
    machine: Machine, stubs: Stubs, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FakeDisk()
    machine.slots = Slots(disk, "/slots")
    disk.fail_always = errno.EIO
    request = machine.relay(*SHUTDOWN)
    assert [ask(request).outcome for _ in range(3)] == ["requested", "held back", "held back"]
    assert stubs.ran == ["shutdown -h now"]
    assert "only this process remembers that a halt was requested: /slots: write failed" in caplog.text


def test_without_the_identity_of_the_boot_each_relay_requests_the_halt_once(machine: Machine, stubs: Stubs) -> None:
    machine.boot = ""
    request = machine.relay(*SHUTDOWN)
    assert [ask(request).outcome for _ in range(2)] == ["requested", "held back"]
    assert ask(machine.relay(*SHUTDOWN)).outcome == "requested"
    assert len(stubs.ran) == 2


def test_this_boot_has_an_identity() -> None:
    assert len(halt_request.boot_id()) == 36
    assert halt_request.boot_id() == halt_request.boot_id()


# --- How ---


def test_the_command_is_run_as_configured_and_without_a_shell(machine: Machine, stubs: Stubs) -> None:
    answer = ask(machine.relay("shutdown", "-h", "+1 $(reboot)", "`halt`; poweroff"))
    assert answer == HaltOutcome("requested", "ran shutdown")
    assert stubs.ran == ["shutdown -h +1 $(reboot) `halt`; poweroff"]
    assert not machine.request.exists()


def test_users_are_warned_before_the_command_is_run(machine: Machine, stubs: Stubs) -> None:
    before: list[list[str]] = []
    ask(machine.relay(*SHUTDOWN, warn=lambda _: before.append(stubs.ran)))
    assert before == [[]]


def test_the_command_gets_only_path_of_relays_environment(
    machine: Machine, stubs: Stubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("RELAY_CONFIG", "secret")
    exported = tmp_path / "exported"
    stubs.write("shutdown", f"#!/bin/sh\nexport -p > {exported}\n")
    assert ask(machine.relay(*SHUTDOWN)).outcome == "requested"
    names = {line.split()[1].partition("=")[0] for line in exported.read_text().splitlines()}
    assert {"PATH", "LC_ALL"} <= names <= {"PATH", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"}


def test_without_a_command_the_file_for_the_unit_is_created(machine: Machine, stubs: Stubs) -> None:
    assert ask(machine.relay()) == HaltOutcome("requested", f"created {machine.request}")
    assert machine.request.read_bytes() == b""
    assert stubs.ran == []


def test_a_file_that_cannot_be_created_is_logged_with_its_remedy(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.run.rmdir()
    answer = ask(machine.relay())
    assert answer.outcome == "failed"
    assert f"{machine.request}: open failed: No such file or directory" in caplog.text
    assert "as deploy/relay.service does" in caplog.text


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("#!/bin/sh\nexit 3\n", "shutdown: ended with exit code 3"),
        ("#!/bin/sh\nkill -9 $$\n", "shutdown: ended with signal 9"),
        ("no program\0", "shutdown: cannot be run: Exec format error"),
    ],
)
def test_a_command_that_fails_is_logged_with_its_cause_and_not_run_again(
    machine: Machine, stubs: Stubs, caplog: pytest.LogCaptureFixture, script: str, words: str
) -> None:
    stubs.write("shutdown", script)
    request = machine.relay(*SHUTDOWN)
    assert ask(request).outcome == "failed"
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
    assert words in caplog.text
    assert ask(request).outcome == "held back"


def test_a_command_that_is_missing_by_now_is_a_failure_with_its_cause(machine: Machine, stubs: Stubs) -> None:
    request = machine.relay(*SHUTDOWN)
    (stubs.folder / "shutdown").unlink()
    assert ask(request) == HaltOutcome("failed", "shutdown: there is no such program, or it is not executable")


def test_the_same_outcome_is_logged_once(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    request = machine.relay(*SHUTDOWN)
    for _ in range(5):
        request.request(HALT_ASKED, uptime=1, still=1)
    machine.no_halt.touch()
    for _ in range(5):
        ask(request)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_a_command_that_does_not_end_in_time_is_killed(stubs: Stubs, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    stubs.write("shutdown", f"#!/bin/sh\necho $$ > {pid}\nexec /bin/sleep 1000\n")
    for timeout in (1, 4, 16, 64):  # one that was killed before it could do anything proves nothing
        with pytest.raises(UnavailableError, match=rf"did not end within {timeout} s"):
            command.run(SHUTDOWN, timeout=timeout)
        if pid.exists() and pid.read_text():
            break
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


# --- At start ---


def test_a_command_that_can_be_run_is_accepted(stubs: Stubs) -> None:
    check_command([])
    check_command(SHUTDOWN)
    check_command([str(stubs.folder / "shutdown"), "-h", "now"])
    assert stubs.ran == []


@pytest.mark.parametrize("word", ["", "no-such", "/no/such", "stubs/shutdown", "./shutdown", "plain", ".", "a\0b"])
def test_a_command_that_cannot_be_run_is_refused(
    stubs: Stubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    (stubs.folder / "plain").write_text("#!/bin/sh\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"audit\.halt-command") as caught:
        check_command([word, "-h"])
    assert caught.value.exit_code == 78
    assert "\0" not in str(caught.value)
