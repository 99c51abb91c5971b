"""Commands of a user without rights name what cannot be read and as whom to run them, never "start relay"."""

import json
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from archive.messages import NOON_US, own
from harness.relay import RELAY
from harness.rights import WITHOUT_ROOTS_RIGHTS
from harness.small_disk import SmallDisk
from program.history.spools import event, filled

from relay.archive.writer.archive_writer import ArchiveWriter
from relay.system.disk import permission_refused

# Prints the exit code and the output of each command line. One process for all is quicker.
MANY = """
import contextlib, io, json, sys
from relay.cli import main
def one(arguments):
    out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    out.flush(), err.flush()
    return code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()
json.dump([one(arguments) for arguments in json.load(sys.stdin)], sys.stdout)
"""
OTHER = "daemon"
"""A user that every system has, and that never runs the tests."""


def called(command_lines: list[list[str]]) -> list[tuple[int, str, str]]:
    """Run each command line with the rights that files give."""
    argv = [*WITHOUT_ROOTS_RIGHTS, sys.executable, "-c", MANY]
    done = subprocess.run(
        argv, input=json.dumps(command_lines), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return [tuple(each) for each in json.loads(done.stdout)]


def closed(path: Path) -> str:
    """Give the path to another user and close it to everybody else; returns the remedy."""
    if os.geteuid() != 0:
        path.chmod(0)
        return f"it belongs to this user: `chmod u+rwX {path}`"
    path.chmod(0o700)
    os.chown(path, pwd.getpwnam(OTHER).pw_uid, -1)
    return f'run this command as root or as the user "{OTHER}"'


@pytest.fixture
def state(tmp_path: Path) -> Path:
    filled(tmp_path / "state", [event("one")])
    return tmp_path / "state"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    with ArchiveWriter(str(tmp_path / "archive"), "s") as writer:
        writer.write(own(1), NOON_US)
        writer.commit(b"c")
    return tmp_path / "archive"


def of_state(folder: Path) -> list[list[str]]:
    commands = ("status", "events", "events --limit 1", "spool show", "spool verify", "spool cat")
    return [[*command.split(), "--state", str(folder)] for command in commands]


def of_archive(folder: Path) -> list[list[str]]:
    return [["events", "--archive", str(folder)], ["archive", "verify", str(folder)]]


def assert_refused(found: list[tuple[int, str, str]], path: Path, remedy: str) -> None:
    assert {(code, out) for code, out, _ in found} == {(77, "")}
    assert {err for *_, err in found} == {f"relay: cannot read {path}: permission denied; {remedy}\n"}


def test_a_folder_of_somebody_else_is_named_with_its_owner(state: Path, archive: Path) -> None:
    remedies = {path: closed(path) for path in (state, archive)}
    found = called([*of_state(state), *of_archive(archive)])
    states = len(of_state(state))
    assert_refused(found[:states], state, remedies[state])
    assert_refused(found[states:], archive, remedies[archive])


def test_the_folder_at_fault_may_lie_above(state: Path, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    moved = state.rename(tmp_path / "above" / "state"), archive.rename(tmp_path / "above" / "archive")
    remedy = closed(tmp_path / "above")
    found = called([*of_state(moved[0]), *of_archive(moved[1])])
    (tmp_path / "above").chmod(0o700)
    assert_refused(found, tmp_path / "above", remedy)


def test_a_closed_file_within_an_open_folder_is_named(state: Path, archive: Path) -> None:
    spool = state / "spool" / "retained"
    originator = archive / "router1"
    remedies = {path: closed(path) for path in (spool, originator)}
    assert_refused(called(of_state(state)), spool, remedies[spool])
    assert_refused(called(of_archive(archive)), originator, remedies[originator])


def test_an_unreadable_file_is_named(state: Path, archive: Path) -> None:
    (segment,) = (state / "spool" / "retained").glob("*.segment")
    (day,) = (archive / "router1").glob("*.log")
    remedies = {path: closed(path) for path in (segment, day)}
    without_status = [line for line in of_state(state) if line[0] != "status"]
    assert_refused(called(without_status), segment, remedies[segment])
    assert_refused(called(of_archive(archive)), day, remedies[day])


def test_the_control_socket_is_named_with_its_owner(state: Path) -> None:
    """A folder may be open to a group that is not allowed to query the running relay."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(state / "control"))
        listening.listen()
        remedy = closed(state / "control")
        assert_refused(called([["status", "--state", str(state)]]), state / "control", remedy)


def test_the_configuration_is_named_with_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("")
    remedy = closed(file)
    commands = ("status", "events", "spool cat", "archive verify", "config check", "config show", "run", "receive")
    assert_refused(called([["-c", str(file), *command.split()] for command in commands]), file, remedy)


def test_with_json_the_refusal_is_an_object_too(state: Path) -> None:
    remedy = closed(state)
    ((code, out, _),) = called([["status", "--state", str(state), "--json"]])
    error: dict[str, Any] = json.loads(out)
    assert (code, error["exit_code"], error["cause"], error["remedy"]) == (77, 77, "permission denied", remedy)


def test_the_program_of_a_unit_names_its_user_because_nobody_typed_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "relay.toml"
    file.touch()
    if os.geteuid() == 0:
        os.chown(file, pwd.getpwnam(OTHER).pw_uid, -1)
    else:
        file = Path("/etc/passwd")  # root's
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getpid()))
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert str(permission_refused(str(file))).endswith(f'allow the unit\'s user "{user}" to write it')
    monkeypatch.setenv("SYSTEMD_EXEC_PID", "1")
    assert "run this command as root" in str(permission_refused(str(file)))


def test_a_read_only_file_system_is_named_with_what_a_unit_needs(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk", "1m") as disk:
        disk.run("mount", "-o", "remount,ro", str(disk.folder))
        argv = [*disk.prefix, *RELAY, "receive", "--archive", f"{disk.folder}/archive", "--state", f"{tmp_path}/state"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 73
    assert "the folder cannot be created: Read-only file system; mount the file system writable; " in done.stderr
    assert done.stderr.endswith("a unit of systemd must also name the folder in ReadWritePaths=\n")
