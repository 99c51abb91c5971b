"""relay starts under the interpreter that runs the tests; ./scripts/test runs this under each one that it finds."""

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from harness.receiver import Receiver
from harness.relay import RELAY, SEED

import relay
from relay.cli.commands import root

STRICT = {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"}
"""A deprecation is the failure of the next Python; a socket left to the garbage collector is a leak."""
IMPORT_EVERYTHING = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
EVENTS = 26  # in SEED


def command_lines(group: click.Group, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command, with the names of its groups."""
    context = click.Context(group)
    found = [words]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found += command_lines(command, (*words, name)) if isinstance(command, click.Group) else [(*words, name)]
    return found


def works(argv: list[str]) -> str:
    """Run it with every warning as an error, assert that it succeeds, and return its output."""
    done = subprocess.run(argv, env={**os.environ, **STRICT}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr  # a warning in a destructor is printed and raises nothing
    return done.stdout


def test_every_module_can_be_imported_without_a_warning() -> None:
    modules = [
        module.name for module in pkgutil.walk_packages(relay.__path__, "relay.") if "__main__" not in module.name
    ]
    works([sys.executable, "-c", IMPORT_EVERYTHING, *modules])


@pytest.mark.parametrize("words", command_lines(root), ids=" ".join)
def test_every_command_shows_its_help(words: tuple[str, ...]) -> None:
    assert works([*RELAY, *words, "--help"]).startswith(" ".join(("Usage: relay", *words)))


def test_events_travel_from_a_log_to_an_archive(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_bytes(SEED.read_bytes())
    receiver = Receiver(tmp_path / "receiver")
    file = tmp_path / "relay.toml"
    file.write_text(
        f'[relay]\nstate-directory = "{tmp_path}/state"\n'
        '[audit]\nwatch-auditd = "never"\n'
        f'[[source]]\nname = "audit"\ntype = "audit-log"\npath = "{tmp_path}/audit.log"\n'
        f'[[remote-logging-server]]\naddress = "127.0.0.1"\nport = {receiver.port}\n'
    )
    ours = [*RELAY, "-c", str(file)]
    works([*ours, "config", "check"])
    works([*ours, "config", "show"])
    with receiver.running(**STRICT) as receiving:
        works([*ours, "run", "--drain", "--timeout", "60"])
        receiver.wait_for_messages(EVENTS)
        receiving.stop()
        assert "Warning" not in receiving.log
    works([*ours, "status"])
    works([*ours, "events"])
    works([*ours, "spool", "verify"])
    works([*ours, "spool", "show"])
    works([*ours, "archive", "verify", str(receiver.archive)])
