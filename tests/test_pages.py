"""The pages keep up with the code: every room and every command stands where a newcomer looks for it."""

from pathlib import Path

import click
import pytest

from relay.cli import COMMANDS, all_commands

ROOT = Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
README = (ROOT / "README.md").read_text()


def rooms() -> list[str]:
    """Every file and folder of the package, as a page names it."""
    found = [
        path.name + "/" * path.is_dir()
        for path in (ROOT / "relay").iterdir()
        if path.name not in {"py.typed", "__pycache__"}
    ]
    return sorted(name for name in found if name != "__init__.py")


def paths(group: click.Group, words: tuple[str, ...] = ("relay",)) -> list[str]:
    """Every command, with the groups that lead to it."""
    context = click.Context(group)
    names = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            names += paths(command, (*words, name))
        else:
            names.append(" ".join((*words, name)))
    return names


@pytest.mark.parametrize("room", rooms())
def test_every_room_stands_in_the_architecture(room: str) -> None:
    assert f"`{room}`" in ARCHITECTURE


@pytest.mark.parametrize("command", paths(all_commands()))
def test_every_command_stands_in_the_architecture_and_the_readme(command: str) -> None:
    group, _, last = command.rpartition(" ")
    assert f"`{command}`" in ARCHITECTURE
    assert f"`{command}`" in README or (f"`{group} " in README and f"`{last}`" in README)


def test_every_command_has_help() -> None:
    context = click.Context(all_commands())
    assert all((all_commands().get_command(context, name) or click.Command("")).help for name in COMMANDS)
