"""Commands that relay prints work as printed: from any folder, in any shell, with the files that the caller named."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from harness.openssh import Sshd
from harness.ports import free_port
from harness.relay import PROGRAM, RELAY, SEED, Router
from harness.waiting import wait_until
from program.history.spools import event, filled, segments

from relay.cli.commands import root
from relay.cli.options import Options
from relay.cli.printed_commands import completed, completing, program
from relay.errors import RelayError

NO_COMMANDS = ("# Made by", "relay run: from", "relay archive journal")
"""Texts that begin with these contain the name of a command, but no command to type."""
CONSOLE_SCRIPT = Path(sys.executable).with_name("relay")


def complete(text: str, given: Options | None = None, called: str = "relay") -> str:
    return completed(text, root, given or Options(), called)


CONFIGURED = Options(given_config_paths=("/etc/a b.toml", "/k"), router="r1")
WITH = "-c '/etc/a b.toml' -c /k"
ELSEWHERE = Options(paths={"--state": "/srv/it's", "--known-hosts": "/k"})


@pytest.mark.parametrize(
    ("given", "text", "expected"),
    [
        (CONFIGURED, "`relay status`", f"`relay --router r1 status {WITH}`"),
        (CONFIGURED, "`relay events`", f"`relay --router r1 events {WITH}`"),
        (CONFIGURED, "`relay key trust h:22` pins", f"`relay --router r1 key trust h:22 {WITH}` pins"),
        (CONFIGURED, "`relay status -c /other`", "`relay status -c /other`"),
        (CONFIGURED, "`relay -c /other status`", "`relay -c /other status`"),
        (CONFIGURED, "`relay dispatch /run/a`", "`relay dispatch /run/a`"),
        (
            CONFIGURED,
            "is for `relay run`; start `relay receive`",
            f"is for `relay run`; start `relay --router r1 receive {WITH}`",
        ),
        (CONFIGURED, "`relay status --help`", "`relay status --help`"),
        (CONFIGURED, "`chmod 600 /a`; relay status", "`chmod 600 /a`; relay status"),
        (CONFIGURED, "did you mean `relay`? no: `relay this`", "did you mean `relay`? no: `relay this`"),
        (CONFIGURED, "`relaying`, `relay 'unclosed`", "`relaying`, `relay 'unclosed`"),
        (ELSEWHERE, "`relay spool verify`", """`relay spool verify --state '/srv/it'"'"'s'`"""),
        (ELSEWHERE, "`relay spool verify --state /x`", "`relay spool verify --state /x`"),
        (ELSEWHERE, "`relay key trust h`", "`relay key trust h --known-hosts /k`"),
        (ELSEWHERE, "`relay config check`", "`relay config check`"),
        (Options(), "`relay status`", "`relay status`"),
    ],
)
def test_a_command_gets_the_options_that_it_accepts(given: Options, text: str, expected: str) -> None:
    once = complete(text, given)
    assert once == expected
    assert complete(once, given) == once


def test_a_relative_configuration_is_named_from_the_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    given = Options(given_config_paths=("relay.toml",))
    assert complete("`relay status`", given) == f"`relay status -c {tmp_path}/relay.toml`"


def test_a_configuration_that_the_environment_names_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_CONFIG", "/etc/other.toml")
    assert complete("`relay status`") == "`relay status -c /etc/other.toml`"


def test_relay_is_called_by_its_name_only_where_the_shell_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(CONSOLE_SCRIPT), "status"])
    monkeypatch.setenv("PATH", str(CONSOLE_SCRIPT.parent))
    assert program() == "relay"
    monkeypatch.setenv("PATH", "/nonexistent")
    assert program() == shlex.quote(str(CONSOLE_SCRIPT))


def test_every_printed_command_of_relay_is_between_backquotes_and_exists() -> None:
    """This holds for each one in the code's strings, so that relay can complete it and a user can type it."""
    words = "|".join(name for name in root.list_commands(click.Context(root)))
    literal = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
    bare = re.compile(rf"(?<![`\w])relay (?:{words}) ")
    package = Path(sys.modules["relay"].__file__ or "").parent
    files = [path for path in package.rglob("*.py") if path.name != "printed_commands.py"]
    found = {text for path in files for text in literal.findall(path.read_text())}
    assert [text for text in found if bare.search(text) and not text.startswith(NO_COMMANDS)] == []
    printed = [command for text in found for command in re.findall(r"`relay ([^`]*)`", text)]
    assert len(printed) > 5
    for command in printed:
        words_of_it = command.split()
        reached: click.Command = root
        while isinstance(reached, click.Group) and words_of_it and not words_of_it[0].startswith(("-", "{")):
            inner = reached.get_command(click.Context(reached), words_of_it.pop(0))
            assert inner is not None, command
            reached = inner


# --- Typed as printed ---


def printed(text: str) -> list[str]:
    return [found for found in re.findall(r"`([^`]*)`", text) if found.startswith(PROGRAM)]


def typed(command: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Type it in another folder and shell."""
    argv = ["sh", "-c", command]
    environment = {key: value for key, value in os.environ.items() if key != "RELAY_CONFIG"}
    done: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]  # options are its own
        argv, cwd="/", env=environment, capture_output=True, text=True, timeout=60, check=False, **options
    )
    return done


def relay(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RELAY, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("by", ["option", "environment", "state"])
def test_a_damaged_history_names_the_check_of_the_same_spool(tmp_path: Path, by: str) -> None:
    folder = tmp_path / "it's a state"
    filled(folder, *([event(f"{'x' * 100} {number}")] for number in range(3)))
    path = segments(folder)[0]
    data = bytearray(path.read_bytes())
    data[data.index(b"x 1")] ^= 1
    path.write_bytes(data)
    (tmp_path / "relay.toml").write_text(f'[relay]\nstate-directory = "{folder}"\n')
    arguments, environment = {
        "option": (["-c", "relay.toml"], {}),
        "environment": ([], {"RELAY_CONFIG": "relay.toml"}),
        "state": (["--state", "it's a state"], {}),
    }[by]
    (command,) = printed(relay("events", *arguments, folder=tmp_path, **environment).stderr)
    done = typed(command)
    assert done.returncode == 65
    assert f"{folder}: damaged, 1 block lost" in done.stdout


def test_a_damaged_archive_names_the_check_of_the_same_archive(tmp_path: Path) -> None:
    day = tmp_path / "my archive" / "h" / "2024-03-06.log"
    day.parent.mkdir(parents=True)
    day.write_bytes(b"<13>1 - h - - - - ab\n")
    day.with_suffix(".ledger").write_bytes(b"garbage\n")
    (command,) = printed(relay("events", "--archive", "my archive", folder=tmp_path).stderr)
    done = typed(command)
    assert done.returncode == 65
    assert f"{tmp_path}/my archive: not whole" in done.stdout


def configuration(folder: Path, sshd: Sshd, **changed: str) -> Path:
    """A configuration that leads to this server, in its own folder, whose name a shell would split."""
    home = folder / "of this test"
    home.mkdir()
    keys = {
        "server-address": sshd.host,
        "username": sshd.user,
        "private-key": str(sshd.client_key),
        "known-hosts": str(home / "known_hosts"),
        **changed,
    }
    lines = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
    (home / "relay.toml").write_text(
        f'[relay]\nstate-directory = "{home}/state"\n[[port-forwarding]]\nserver-port = {sshd.port}\n{lines}'
        '[[remote-logging-server]]\naddress = "127.0.0.1"\nport = 7777\n'
    )
    (home / "known_hosts").touch()
    return home


def test_the_printed_command_pins_the_key_in_the_configurations_file(tmp_path: Path) -> None:
    with Sshd() as sshd:
        home = configuration(tmp_path, sshd)
        refused = relay("-c", "relay.toml", "test-connection", folder=home)
        trust = next(command for command in printed(refused.stdout) if "key trust" in command)
        # Without a terminal it asks for the fingerprint, and prints the command that has it.
        (confirmed,) = printed(typed(trust, stdin=subprocess.DEVNULL).stderr)
        assert typed(confirmed).returncode == 0
        assert "ssh-ed25519" in (home / "known_hosts").read_text()
        after = relay("-c", "relay.toml", "test-connection", "--json", folder=home)
        steps = [step for server in json.loads(after.stdout)["servers"] for step in server["steps"]]
        assert next(step for step in steps if step["step"] == "host key")["outcome"] == "ok"


def test_the_printed_command_makes_the_missing_key(tmp_path: Path) -> None:
    with Sshd() as sshd:
        key = tmp_path / "of this test" / "the key"
        home = configuration(tmp_path, sshd, **{"private-key": str(key)})
        checked = relay("-c", "relay.toml", "config", "check", folder=home)
        (command,) = (each for each in printed(checked.stderr) if " key generate " in each)
        assert typed(command).returncode == 0
        assert key.exists()


def test_a_usage_error_names_the_help_of_the_command() -> None:
    (command,) = printed(relay("spool", "cat", "--frm", "1", folder=Path("/")).stderr)
    assert "Begin with this block" in typed(command).stdout


def test_commands_in_a_running_relays_log_and_status_have_its_options(tmp_path: Path) -> None:
    """In its log and in `relay status`, also when that is given only the state directory."""
    with Sshd() as sshd:
        router = Router(tmp_path, sshd, free_port())
        router.audit_log.write_bytes(SEED.read_bytes())
        sshd.known_hosts.write_text("")
        command = f"`{PROGRAM} key trust {sshd.host}:{sshd.port} -c {router.configuration}`"
        with router.start() as running:
            wait_until(lambda: command in running.log, 60, lambda: running.log)
            assert command in relay("status", "--state", str(router.state), folder=Path("/")).stdout


def test_a_remedy_is_completed_when_it_is_read() -> None:
    error = RelayError("x", "y", "see `relay status`")
    given = Options(given_config_paths=("/etc/x.toml",))
    with completing(root, given):
        inside = str(error)
    assert inside == f"x: y; see `{program()} status -c /etc/x.toml`"
    assert str(error) == "x: y; see `relay status`"
