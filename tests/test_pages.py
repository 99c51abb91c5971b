"""The pages agree with the code: rooms, commands, paths and links that they name exist."""

import re
from pathlib import Path

import click
import pytest

from relay.cli.commands import root
from relay.program.watch import all_users
from relay.values.alarm import AUDITD_DOWN

ROOT = Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
COMMANDS_PAGE = (ROOT / "docs" / "commands.md").read_text()
PAGES = [
    *ROOT.glob("*.md"),
    *(page for name in ("certs", "deploy", "docs", "relay") for page in (ROOT / name).rglob("*.md")),
]
PAGES = sorted({*PAGES, ROOT / "tests" / "README.md"})


def rooms() -> list[str]:
    """Every file and folder of the package, and every folder in those, as the page names them."""
    package = ROOT / "relay"
    files = [path.name for path in package.glob("*.py") if path.name != "__init__.py"]
    folders = [path.parent.relative_to(package).as_posix() + "/" for path in package.rglob("__init__.py")]
    return sorted([*files, *(folder for folder in folders if folder != "./")])


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
def test_every_room_is_in_the_architecture(room: str) -> None:
    assert f"`{room}`" in ARCHITECTURE


@pytest.mark.parametrize("command", paths(root))
def test_every_command_is_in_the_architecture_and_the_manual(command: str) -> None:
    assert f"`{command}`" in ARCHITECTURE
    assert f"`{command}`" in COMMANDS_PAGE


def test_every_command_has_help() -> None:
    context = click.Context(root)
    assert all((root.get_command(context, name) or click.Command("")).help for name in root.list_commands(context))


def test_every_schema_of_the_commands_is_in_the_manual() -> None:
    schema = re.compile(r"relay\.[a-z-]+/[0-9]+")
    of_code = {name for path in (ROOT / "relay" / "cli").rglob("*.py") for name in schema.findall(path.read_text())}
    assert of_code == set(schema.findall(COMMANDS_PAGE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_path_on_a_page_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    named = re.findall(r"(?<![\w/.])(?:\./)?((?:relay|tests|scripts|deploy|docs|certs)/[\w./-]*\w)", text)
    missing = [link for link in links if link and not (page.parent / link).exists()]
    missing += [path for path in named if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("named", re.findall(r"`(tests/\S+\.py::\w+)`", (ROOT / "SECURITY.md").read_text()))
def test_every_test_that_the_threat_model_names_exists(named: str) -> None:
    file, _, name = named.partition("::")
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize("change", ["", all_users.CLEARED])
def test_the_manual_quotes_the_message_to_all_users(change: str) -> None:
    assert all_users.TEXTS[AUDITD_DOWN + change] in (ROOT / "docs" / "sources.md").read_text()
