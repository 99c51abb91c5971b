"""What a program that relay starts can see and do: its rights, its environment, its open files, its session."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import pytest
from harness.waiting import wait_until

from relay.errors import UnavailableError
from relay.system.programs import command
from relay.system.programs.child_rights import (
    CAP_DAC_OVERRIDE,
    CAP_SYS_BOOT,
    EVERY_TERMINAL,
    HALTING,
    NO_RIGHTS,
    ChildRights,
)

_REPORT: Final = """#!/bin/sh
exec >"$1"
cat /proc/self/status
echo "Session: $(cut -d' ' -f6 /proc/$$/stat) $$"
find /proc/$$/fd -type l -printf 'Open %f: %l\n'
env | sed 's/^/Variable /; s/=/: /'
"""
_RUN: Final = """
import os, sys
from relay.system.programs import child_rights, command
if sys.argv[1] == "keep": child_rights.keep_rights()
rights = getattr(child_rights, sys.argv[2])
descriptor = os.open("/", os.O_RDONLY)
os.set_inheritable(descriptor, True)
command.run(sys.argv[3:], timeout=20, environment={"RELAY_ALARM": "x"}, rights=rights)
"""
_WITH_AMBIENT_RIGHTS: Final = ("setpriv", "--inh-caps=+audit_control", "--ambient-caps=+audit_control")
_SECRET: Final = {"NOTIFY_SOCKET": "/run/x", "PASSWORD": "x", "LD_PRELOAD": "", "TZ": "UTC"}
ALWAYS: Final = {"PATH", "LC_ALL", "TZ", "PWD"}
"""A shell adds PWD."""


@pytest.fixture
def report(tmp_path: Path) -> tuple[str, Path]:
    script = tmp_path / "report"
    script.write_text(_REPORT)
    script.chmod(0o755)
    return str(script), tmp_path / "reported"


def fields(text: str) -> dict[str, str]:
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def reported(report: tuple[str, Path], rights: str, prefix: tuple[str, ...] = (), mode: str = "keep") -> dict[str, str]:
    """What the program reports that a process with root's rights in a user namespace of its own has started."""
    script, output = report
    argv = ["unshare", "--user", "--map-root-user", *prefix, sys.executable, "-c", _RUN, mode, rights]
    environment = {**os.environ, **_SECRET, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*argv, script, str(output)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return fields(output.read_text())


@pytest.mark.parametrize(
    ("rights", "bounds", "no_new_privs"),
    [("NO_RIGHTS", 0, "1"), ("HALTING", 1 << CAP_SYS_BOOT, "0"), ("EVERY_TERMINAL", 1 << CAP_DAC_OVERRIDE, "1")],
)
def test_a_program_of_roots_has_the_named_rights_alone(
    report: tuple[str, Path], rights: str, bounds: int, no_new_privs: str
) -> None:
    found = reported(report, rights)
    assert [int(found[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd")] == [
        *(0, bounds, bounds, 0),
        bounds,
    ]
    assert found["NoNewPrivs"] == no_new_privs


def test_ambient_and_inheritable_rights_do_not_reach_it(report: tuple[str, Path]) -> None:
    """As in the units, where they let relay's user read the kernel's audit status."""
    found = reported(report, "HALTING", _WITH_AMBIENT_RIGHTS)
    assert {int(found[key], 16) for key in ("CapInh", "CapAmb")} == {0}
    assert int(found["CapEff"], 16) == 1 << CAP_SYS_BOOT
    kept = reported(report, "HALTING", _WITH_AMBIENT_RIGHTS, mode="without")
    assert int(kept["CapInh"], 16) != 0, "what a program inherits without `keep_rights`"


def test_it_gets_a_small_environment_no_open_file_and_a_session_of_its_own(report: tuple[str, Path]) -> None:
    found = reported(report, "NO_RIGHTS")
    variables = {key.partition(" ")[2]: value for key, value in found.items() if key.startswith("Variable ")}
    assert set(variables) - {"_", "OLDPWD", "SHLVL"} == ALWAYS | {"RELAY_ALARM"}
    assert (variables["TZ"], variables["LC_ALL"], variables["PWD"]) == ("UTC", "C.UTF-8", "/")
    opened = {key.partition(" ")[2]: value for key, value in found.items() if key.startswith("Open ")}
    assert opened.pop("0").startswith("pipe"), "relay's end of it is closed"
    assert sorted(opened.values()) == sorted(["/dev/null", str(report[1]), report[0]]), "10 is the shell's own script"
    session, pid = found["Session"].split()
    assert session == pid


@pytest.mark.parametrize("rights", [NO_RIGHTS, HALTING, EVERY_TERMINAL])
def test_the_process_that_starts_it_keeps_its_own_rights(rights: ChildRights) -> None:
    before = Path("/proc/self/status").read_text()
    assert command.code(["/bin/true"], timeout=20, rights=rights) == 0
    keys = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
    after = fields(Path("/proc/self/status").read_text())
    assert [fields(before)[key] for key in keys] == [after[key] for key in keys]


def test_one_that_exceeds_its_time_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    script = f"/bin/sleep 1000 & echo $! >{tmp_path}/pid; wait"
    with pytest.raises(UnavailableError, match=r"did not end within 0\.5 s"):
        command.run(["/bin/sh", "-c", script], timeout=0.5)
    pid = (tmp_path / "pid").read_text().strip()

    def is_over() -> bool:
        try:
            return ") Z " in Path(f"/proc/{pid}/stat").read_text()
        except FileNotFoundError:
            return True

    wait_until(is_over, 20, "the end of what it has started")


def test_a_program_that_every_user_can_change_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is found along PATH, as wall and systemctl are."""
    program = tmp_path / "wall"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    command.run(["wall"], timeout=20)
    tmp_path.chmod(0o777)
    with pytest.raises(UnavailableError, match=rf"wall: every user can write to the folder {tmp_path} \(mode 0777\)"):
        command.run(["wall"], timeout=20)


@pytest.mark.parametrize("path", ["", ".", "bin", ":/nonexistent"])
def test_a_program_in_the_working_directory_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    for folder in (tmp_path, tmp_path / "bin"):
        folder.mkdir(exist_ok=True)
        (folder / "wall").write_text("#!/bin/sh\n")
        (folder / "wall").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", path)
    assert command.find("wall") is None


def test_while_no_thread_can_be_started_the_command_fails_and_is_not_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when an alarm comes while the interpreter ends."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(UnavailableError, match="cannot be run: Resource temporarily unavailable"):
        command.run(["/bin/true"], timeout=20)
