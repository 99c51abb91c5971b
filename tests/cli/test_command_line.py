"""Every command line: it starts quickly, reports failures as a line and as an object, and prints no traceback."""

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from harness.relay import PROGRAM, RELAY

from relay.cli.commands import root
from relay.cli.lazy_group import LazyGroup

HEAVY = {"paramiko", "cryptography", "pydantic", "msgspec", "tenacity", "asyncinotify"}
IMPORTED = """
import sys
from relay.cli import main
code = main(sys.argv[1:])
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


def relay(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    done: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]  # options are its own
        [*RELAY, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )
    return done


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["key", "--help"], ["completion", "fish"]])
def test_help_imports_none_of_the_large_libraries(arguments: list[str]) -> None:
    argv = [sys.executable, "-c", IMPORTED, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    imported = set(done.stderr.split())
    assert "click" in imported
    assert not imported & HEAVY


def test_a_failure_is_one_line_that_names_object_cause_and_remedy() -> None:
    done = relay("-c", "/nonexistent.toml", "status")
    assert (done.returncode, done.stdout) == (66, "")
    expected = "relay: /nonexistent.toml: there is no such file; create it, or name another file with -c FILE\n"
    assert done.stderr == expected


def test_with_json_a_failure_is_also_an_object_with_the_same_words() -> None:
    done = relay("-c", "/nonexistent.toml", "status", "--json")
    assert done.returncode == 66
    assert done.stderr.startswith("relay: /nonexistent.toml: ")
    assert json.loads(done.stdout) == {
        "schema": "relay.error/1",
        "what": "/nonexistent.toml",
        "cause": "there is no such file",
        "remedy": "create it, or name another file with -c FILE",
        "exit_code": 66,
    }


def test_each_mistake_of_a_configuration_is_a_line_and_an_object(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("[relay]\nnode = 1\n[spool]\nmax-sizes = 1\n")
    done = relay("-c", str(file), "status", "--json")
    assert done.returncode == 78
    assert done.stderr.splitlines() == [
        f"relay: {file}:2: relay.node: must be a text in quotes, not 1",
        f"relay: {file}:4: spool.max-sizes: unknown key; did you mean `max-size`?",
    ]
    error = json.loads(done.stdout)
    assert (error["schema"], error["exit_code"]) == ("relay.error/1", 78)
    assert error["mistakes"] == [
        {"file": str(file), "line": 2, "key": "relay.node", "message": "must be a text in quotes, not 1"},
        {"file": str(file), "line": 4, "key": "spool.max-sizes", "message": "unknown key; did you mean `max-size`?"},
    ]


def test_a_configuration_without_anything_to_do_is_a_mistake(tmp_path: Path) -> None:
    """A mistake without a line, which only `relay run` finds."""
    file = tmp_path / "relay.toml"
    file.write_text(f'[relay]\nstate-directory = "{tmp_path}/state"\n')
    done = relay("-c", str(file), "run")
    assert done.returncode == 78
    assert done.stderr.startswith("relay: configuration: it has no remote-logging-server")
    assert done.stderr.count("\n") == 1


RECEIVERS = '[receiver]\nlisten = ["tcp://127.0.0.1:0"]\n'
ROUTERS = '[[source]]\nname = "audit"\n[[remote-logging-server]]\n'
ADD_BOTH = "start `relay receive`, or add both a [[source]] and a [[remote-logging-server]]"
ADD_RECEIVER = "start `relay run`, or add a [receiver] table"
INCOMPLETE = "cannot forward events with that alone"


@pytest.mark.parametrize(
    ("command", "text", "expected"),
    [
        ("run", RECEIVERS, f"receive`: it has [receiver], and has nothing to forward; {ADD_BOTH}"),
        (
            "run",
            f"{RECEIVERS}[[remote-logging-server]]\n",
            f"receive`: it has [receiver] beside [[remote-logging-server]], and {INCOMPLETE}; {ADD_BOTH}",
        ),
        (
            "receive",
            ROUTERS,
            f"run`: it has [[source]] and [[remote-logging-server]], and has no [receiver]; {ADD_RECEIVER}",
        ),
    ],
)
def test_the_configuration_of_the_other_program_is_refused_as_such(
    tmp_path: Path, command: str, text: str, expected: str
) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(text)
    result = relay(command, "-c", str(file))
    assert result.returncode == 78
    for program in ("run", "receive"):
        expected = expected.replace(f"start `relay {program}`", f"start `{PROGRAM} {program} -c {file}`")
    assert result.stderr == f"relay: configuration: {file} is for `relay {expected}\n"


def test_a_connection_test_of_a_receiver_without_servers_has_nothing_to_test(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(RECEIVERS)
    result = relay("test-connection", "--json", "-c", str(file))
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["sentence"].startswith(
        "nothing to test: this `relay receive` hands on to no server. A [[remote-logging-"
    )
    assert (found["servers"], {step["outcome"] for step in found["steps"][1:]}) == ([], {"skipped"})


def test_at_its_start_a_program_logs_settings_without_effect(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    state = f'[relay]\nstate-directory = "{tmp_path}/state"\n'
    file.write_text(f'{state}{RECEIVERS}archive = "{tmp_path}/archive"\n[[source]]\nname = "a"\n')
    received = relay("receive", "--drain", "-c", str(file))
    assert received.returncode == 0
    assert f"{file}:6: source[1]: has no effect on `relay receive`; `relay run` reads it" in received.stderr
    source = f'[[source]]\nname = "audit"\npath = "{tmp_path}/audit.log"\nstart = "now"\n'
    server = "[[remote-logging-server]]\nport = 1\n[audit]\ntraffic = { enabled = true }\n"
    (tmp_path / "audit.log").write_text("")
    file.write_text(state + source + server)
    ran = relay("run", "--drain", "--timeout", "0", "-c", str(file))
    assert f"{file}:10: audit.traffic.enabled: traffic events are enabled, and no source delivers them" in ran.stderr


@pytest.mark.parametrize("arguments", [["nonsense"], ["status", "--nonsense"], ["key", "generate", "--type", "dsa"]])
def test_a_usage_error_is_64_and_names_the_help(arguments: list[str]) -> None:
    done = relay(*arguments, "--json")
    assert done.returncode == 64
    assert json.loads(done.stdout)["exit_code"] == 64
    assert "--help`" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["spool"], ["config"], ["key"]])
def test_a_group_without_a_command_prints_its_help(arguments: list[str]) -> None:
    done = relay(*arguments)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith(" ".join(["Usage: relay", *arguments, "[OPTIONS] COMMAND"]))
    assert done.stderr.count("\n") > 10


def test_a_usage_error_begins_with_the_command_and_is_one_line() -> None:
    assert relay("completion").stderr.startswith("relay completion: Missing argument")
    assert relay("completion").stderr.count("\n") == 1
    assert "\\n" not in relay("completion").stderr


@pytest.mark.parametrize("arguments", [["run", "--timeout", "x"], ["events", "--limit", "1.5"]])
def test_an_option_that_needs_a_number_rejects_other_text(arguments: list[str]) -> None:
    assert re.search(r"'(x|1\.5)' is not a valid (whole )?number; see", relay(*arguments).stderr)


@pytest.mark.parametrize("arguments", [[], ["spool"], ["key"]])
def test_help_prints_each_summary_whole(arguments: list[str]) -> None:
    _, _, listed = relay(*arguments, "--help").stdout.partition("\nCommands:\n")
    assert listed
    assert "..." not in listed


def test_for_a_mistyped_command_the_nearest_one_is_named() -> None:
    expected = f'relay: there is no command "stauts"; did you mean "status"?; see `{PROGRAM} --help`\n'
    assert (relay("stauts").returncode, relay("stauts").stderr) == (64, expected)
    assert relay("frobnicate").stderr == f'relay: there is no command "frobnicate"; see `{PROGRAM} --help`\n'
    expected = f'relay key: there is no command "trsut"; did you mean "trust"?; see `{PROGRAM} key --help`\n'
    assert relay("key", "trsut").stderr == expected


@pytest.mark.parametrize("command", ["run", "receive"])
def test_a_timeout_without_a_drain_is_refused(command: str) -> None:
    """It would have no effect, and the command would run without end."""
    done = relay(command, "--timeout", "5", "-c", "/nonexistent.toml")
    assert done.returncode == 64
    assert "--drain" in done.stderr


@pytest.mark.parametrize("arguments", ["--help", "key generate /proc/nonexistent/key --json", "completion fish"])
def test_output_to_a_full_disk_is_74_and_one_line(arguments: str) -> None:
    done = in_a_shell(f"{arguments} >/dev/full")
    assert done.stdout == "74\n"
    assert done.stderr.splitlines()[-1].startswith("relay: standard output: cannot be written: No space left on device")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_changes_no_exit_code(closed: str) -> None:
    assert in_a_shell(f"completion fish {closed}").stdout.splitlines()[-1] == "0"
    failed = in_a_shell(f"-c /nonexistent.toml status --json {closed}")
    assert failed.stdout.splitlines()[-1] == "66"
    assert "Traceback" not in failed.stderr


def in_a_shell(arguments: str) -> subprocess.CompletedProcess[str]:
    """Run relay with redirections; the last line of stdout is its exit code."""
    script = f'"$0" -m relay {arguments}; echo "$?"'
    argv = ["bash", "-c", script, sys.executable]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_control_characters_of_a_name_do_not_reach_the_terminal() -> None:
    done = relay("-c", "/no\x1b[31m\x9bsuch\u202efile", "status", "--json")
    assert done.returncode == 66
    assert done.stderr.startswith("relay: /no\\x1b[31m\\x9bsuch\\u202efile: ")
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("arguments", ["--help", "-c /nonexistent.toml status --json", "completion fish"])
def test_a_reader_that_closes_the_pipe_early_is_not_an_error(arguments: str) -> None:
    """Also of the object of an error."""
    script = f'"$0" -m relay {arguments} | true; echo "${{PIPESTATUS[0]}}"'
    argv = ["bash", "-c", script, sys.executable]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "0\n"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("words", [[], ["spool"], ["archive"], ["config"], ["key"]], ids=" ".join)
def test_a_summary_in_a_groups_help_is_the_first_sentence_of_the_commands_own_help(words: list[str]) -> None:
    """The group has the summaries without importing the commands."""
    group: click.Command | None = root
    for word in words:
        assert isinstance(group, LazyGroup)
        group = group.get_command(click.Context(group), word)
    assert isinstance(group, LazyGroup)
    context = click.Context(group)
    assert group.summaries() == {
        name: (group.get_command(context, name) or root).get_short_help_str(1000)
        for name in group.list_commands(context)
    }
