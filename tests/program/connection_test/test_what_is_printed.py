"""The output of `relay test-connection` for people and for programs."""

import os
import re
import subprocess
import sys
from pathlib import Path

from harness.openssh import Sshd
from harness.relay import Router
from harness.terminal import run_on_a_terminal
from program.connection_test.asking import STEPS, argv, ask

ESCAPE = "\x1b"


def test_people_get_a_line_for_each_step_and_one_sentence_at_the_end(router: Router) -> None:
    done = router.run("test-connection")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line for line in lines if re.match(rf"({'|'.join(STEPS)}) +ok +\d+ ms  \S", line)] == [
        *lines[:2],
        *lines[4:-2],
    ]
    assert lines[2:4] == ["", f"127.0.0.1:{router.local_port}"]
    assert lines[-2] == ""
    assert lines[-1].startswith(f"127.0.0.1:{router.local_port}: a test message went through ")


def test_people_get_the_remedy_below_what_failed(router: Router, sshd: Sshd) -> None:
    sshd.client_key.chmod(0o644)
    done = router.run("test-connection")
    assert done.returncode == 77
    lines = done.stdout.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("private key       FAILED "))
    assert lines[place + 1].strip() == f"→ `chmod 600 {sshd.client_key}`"
    assert lines[place + 2] == "name resolution   skipped"


def test_colours_are_for_terminals_only_and_can_be_turned_off(router: Router) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    code, text = run_on_a_terminal(argv(router.configuration), environment=environment)
    assert (code, ESCAPE in text) == (0, True)
    code, text = run_on_a_terminal(argv(router.configuration), environment=environment | {"NO_COLOR": "1"})
    assert (code, ESCAPE in text) == (0, False)
    assert ESCAPE not in router.run("test-connection").stdout


def test_control_characters_never_reach_the_terminal(router: Router, tmp_path: Path) -> None:
    name = tmp_path / f"red{ESCAPE}[31m.toml"
    router.configuration.rename(name)
    done = subprocess.run(argv(name), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert ESCAPE not in done.stdout
    assert r"red\x1b[31m.toml" in done.stdout


def test_programs_get_one_object_of_the_documented_schema(router: Router) -> None:
    whole = ask(router.configuration).whole
    assert whole["schema"] == "relay.test-connection/1"
    assert set(whole) == {"schema", "ok", "exit_code", "sentence", "steps", "servers"}
    (server,) = whole["servers"]
    assert set(server) == {"name", "ok", "exit_code", "sentence", "proof", "largest_message", "steps"}
    keys = {"step", "outcome", "milliseconds", "found", "remedy", "exit_code"}
    assert all(set(step) == keys for step in (*whole["steps"], *server["steps"]))


def test_help_imports_no_ssh_library_and_a_timeout_of_zero_is_a_usage_error(router: Router) -> None:
    imported = (
        "import sys; from relay.cli import main; main(['test-connection', '--help']); print('paramiko' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert router.run("test-connection", "--timeout", "0").returncode == 64
