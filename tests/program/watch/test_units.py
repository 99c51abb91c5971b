"""The units in deploy/: checked by systemd, and root's units run line by line where they can do no harm.

No unit is installed or started. What would halt a machine is compared as text and never run.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from harness.debian import SYSTEMD, Root, fetch
from program.connection_test.asking import in_namespace
from program.watch.conftest import Stubs

from relay.program.watch import all_users, halt_request
from relay.system.descriptors import MOST
from relay.transport.ssh.forwarding.port_forward import PortForwardLimits
from relay.values.alarm import AUDITD_DOWN
from relay.values.configuration.settings import Settings

DEPLOY = Path(__file__).parents[3] / "deploy"
UNITS = sorted(path.name for kind in ("service", "path") for path in DEPLOY.glob(f"*.{kind}"))
EXPOSURE = {"relay.service": 1.5, "relay-receive.service": 1.5, "relay-halt.service": 0.9, "relay-message.service": 1.1}
"""Of 10.0, as `systemd-analyze security` rates what a service that was taken over could still do."""
TRUSTED = "/usr/sbin:/usr/bin:/sbin:/bin"


def values(unit: str, key: str) -> list[str]:
    """The values of a unit's key, line by line."""
    return re.findall(rf"^{key}=(.*)$", (DEPLOY / unit).read_text(), re.MULTILINE)


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Root:
    monkeypatch.setenv("PATH", TRUSTED)
    return fetch(SYSTEMD)


def analyze(systemd: Root, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = systemd.environment()
    private = {str(path.parent) for path in systemd.path.rglob("libsystemd-shared-*.so")}
    environment["LD_LIBRARY_PATH"] = ":".join([*private, environment["LD_LIBRARY_PATH"]])
    argv = [systemd.file("usr/bin/systemd-analyze"), *arguments]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root folder as an installed machine has it: the units, and the programs that they name."""
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    for name in UNITS:
        (folder / name).write_text((DEPLOY / name).read_text())
    for name in UNITS:
        for line in (*values(name, "ExecStart"), *values(name, "ExecCondition")):
            program = tmp_path / shlex.split(line)[0].lstrip("-/")
            program.parent.mkdir(parents=True, exist_ok=True)
            program.touch(0o755)
    return tmp_path


def test_every_unit_of_deploy_is_checked_here() -> None:
    assert UNITS == [
        "relay-halt.path",
        "relay-halt.service",
        "relay-message.path",
        "relay-message.service",
        "relay-receive.service",
        "relay.service",
    ]


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_every_line(systemd: Root, machine: Path, unit: str) -> None:
    argv = ["verify", "--man=no", "--recursive-errors=no", f"--root={machine}", unit]
    done = analyze(systemd, *argv)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    copy = machine / "etc/systemd/system" / unit
    copy.write_text(copy.read_text() + "Nonsense=1\n")
    assert "Nonsense" in analyze(systemd, *argv).stderr


@pytest.mark.parametrize(("unit", "exposure"), EXPOSURE.items())
def test_the_exposure_of_each_service_is_as_low_as_systemd_once_found_it(
    systemd: Root, unit: str, exposure: float
) -> None:
    done = analyze(systemd, "security", "--offline=true", "--no-pager", str(DEPLOY / unit))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+) ", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= exposure, done.stdout


def test_relay_runs_as_its_own_user() -> None:
    assert values("relay.service", "User") == values("relay.service", "Group") == ["relay"]


def test_relay_is_reloaded_by_its_own_command_and_started_again_however_it_ends() -> None:
    assert values("relay.service", "Restart") == ["always"]
    assert values("relay.service", "RestartPreventExitStatus") == ["64 78"]
    (reload,) = values("relay.service", "ExecReload")
    (start,) = values("relay.service", "ExecStart")
    assert reload.split() == [start.split()[0], "reload", "--state", Settings().relay.state_directory]
    assert values("relay.service", "StateDirectory") == [Path(Settings().relay.state_directory).name]


def test_the_log_server_has_its_own_user_and_folders_and_no_socket_of_systemds() -> None:
    unit = "relay-receive.service"
    assert values(unit, "User") == values(unit, "Group") == ["relay-receive"]
    assert values(unit, "CapabilityBoundingSet") == values(unit, "AmbientCapabilities") == ["CAP_NET_BIND_SERVICE"]
    assert values(unit, "RestartPreventExitStatus") == ["64 78"]
    assert values(unit, "LimitNOFILE") == [str(MOST)]
    assert values(unit, "ExecReload") == [
        f"/usr/local/bin/relay reload --state /var/lib/{values(unit, 'StateDirectory')[0]}"
    ]
    assert f"/var/log/{values(unit, 'LogsDirectory')[0]}" == Settings().receiver.archive
    assert not list(DEPLOY.glob("*.socket"))


@pytest.mark.parametrize("unit", ["relay.service", "relay-receive.service"])
def test_both_programs_have_all_the_descriptors_that_they_use_and_ceilings_against_faults(unit: str) -> None:
    assert values(unit, "LimitNOFILE") == [str(MOST)]
    (tasks,), (memory,) = values(unit, "TasksMax"), values(unit, "MemoryHigh")
    assert int(tasks) >= 4 * PortForwardLimits().connections
    assert re.fullmatch("[1-9][0-9]*[MG]", memory)


def test_the_path_units_wait_for_the_files_that_relay_creates() -> None:
    assert values("relay-halt.path", "PathExists") == [halt_request.REQUEST]
    assert values("relay-message.path", "PathExists") == [f"{all_users.REQUEST}.{name}" for name in all_users.TEXTS]
    assert values("relay-halt.path", "Unit") == ["relay-halt.service"]
    assert values("relay-message.path", "Unit") == ["relay-message.service"]


def run_in_namespace(files: list[str], words: list[str], left: Path) -> int:
    """Run one line of a unit with these files in a /run of its own; `left` contains the names that are left."""
    script = "mount -t tmpfs none /run\nmkdir /run/relay\n" + "".join(f"touch {file}\n" for file in files)
    inside = f'"$@" || code=$?; ls /run/relay > {shlex.quote(str(left))}; exit ${{code:-0}}'
    argv = [*in_namespace("mount", script), "sh", "-c", inside, "sh", *words]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode


@pytest.mark.parametrize("name", all_users.TEXTS)
def test_roots_unit_sends_the_same_text_and_deletes_the_request(
    tmp_path: Path, stubs: Stubs, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("PATH", f"{stubs.folder}:{TRUSTED}")
    lines = values("relay-message.service", "ExecStart")
    assert len(lines) == len(all_users.TEXTS)
    line = lines[list(all_users.TEXTS).index(name)]
    words = shlex.split(line.removeprefix("-"))
    requests = [f"{all_users.REQUEST}.{each}" for each in all_users.TEXTS]
    assert run_in_namespace(requests, words, tmp_path / "left") == 0
    assert stubs.ran == [f"wall {all_users.TEXTS[name]}"]
    assert sorted((tmp_path / "left").read_text().split()) == sorted(
        f"message.{each}" for each in all_users.TEXTS if each != name
    )


@pytest.mark.parametrize("ending", [all_users.CLEARED, all_users.UNWATCHED])
def test_roots_unit_writes_the_login_message_and_deletes_it(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Both lines one after the other, in a /run of their own."""
    monkeypatch.setenv("PATH", f"{stubs.folder}:{TRUSTED}")
    begin, end = (
        shlex.split(line.removeprefix("-"))[-1]
        for name in (AUDITD_DOWN, AUDITD_DOWN + ending)
        for line in values("relay-message.service", "ExecStart")
        if f"/message.{name} " in line
    )
    script = (
        f"{begin.replace('exec ', '')}\ncat {all_users.LOGIN_MESSAGE}\nstat -c %a {all_users.LOGIN_MESSAGE}\n"
        f"touch {all_users.REQUEST}.{AUDITD_DOWN}{ending}\n{end.replace('exec ', '')}\nls /run/motd.d /run/relay"
    )
    setup = f"mount -t tmpfs none /run\nmkdir /run/relay\ntouch {all_users.REQUEST}.{AUDITD_DOWN}"
    argv = [*in_namespace("mount", setup), "sh", "-ec", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{all_users.TEXTS[AUDITD_DOWN]}\n644\n/run/motd.d:\n\n/run/relay:\n"


def test_roots_unit_sends_only_requested_messages(
    tmp_path: Path, stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{stubs.folder}:{TRUSTED}")
    for line in values("relay-message.service", "ExecStart"):
        assert run_in_namespace([], shlex.split(line.removeprefix("-")), tmp_path / "left") != 0
    assert stubs.ran == []


@pytest.mark.parametrize(
    ("files", "codes", "left"),
    [
        ([halt_request.REQUEST], [0, 0], []),
        ([halt_request.REQUEST, halt_request.NO_HALT], [0, 1], ["no-halt"]),
        ([], [1, 0], []),
    ],
)
def test_root_halts_only_on_request_and_never_while_no_halt_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], codes: list[int], left: list[str]
) -> None:
    monkeypatch.setenv("PATH", TRUSTED)
    conditions = values("relay-halt.service", "ExecCondition")
    said = []
    for line in conditions:
        words = shlex.split(line)
        assert words[0] in {"/usr/bin/rm", "/usr/bin/test"}
        said.append(run_in_namespace(files, words, tmp_path / "left"))
        files = [f"/run/relay/{name}" for name in (tmp_path / "left").read_text().split()]
    assert said == codes
    assert (tmp_path / "left").read_text().split() == left
    assert values("relay-halt.service", "ExecStart") == ["/usr/bin/systemctl poweroff"]  # read, never run


def test_only_root_can_write_the_programs_that_root_runs() -> None:
    for unit in ("relay-halt.service", "relay-message.service"):
        for key in ("ExecStart", "ExecCondition"):
            for line in values(unit, key):
                program = shlex.split(line)[0].lstrip("-")
                assert os.path.dirname(program) in {"/bin", "/usr/bin"}
