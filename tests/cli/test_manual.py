"""The manual has the texts of `--help`: nothing lacks help, and the pages are up to date."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from relay.cli.commands import root
from scripts.manual_pages import command_helps, command_table, man_page, settings_page, undocumented, with_table

ROOT = Path(__file__).parents[2]
MAN_MACROS = {".TH", ".SH", ".SS", ".PP", ".TP", ".TQ", '.\\"'}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def sample() -> None:
    """Do something.

    And report it.
    """


@sample.command()
@click.argument("file", metavar="[FILE]", required=False)
@click.option("--kind", type=click.Choice(["a", "b"]), help="Which `kind` it is.")
@click.option("--secret", hidden=True)
def first(file: str, kind: str, secret: str) -> None:
    r""".hidden\nature is not a request.

    'Nor is
    this.
    """


@sample.command()
@click.option("--mute")
def second(mute: str) -> None:
    pass


def test_everything_has_help() -> None:
    assert list(undocumented(root)) == []


def test_the_help_of_every_option_names_its_default() -> None:
    def without(command: click.Command, name: str) -> Iterator[str]:
        context = click.Context(command, info_name=name)
        for option in (each for each in command.params if isinstance(each, click.Option)):
            default = option.get_default(context)
            has_one = (
                isinstance(default, str | int | float) and not option.is_flag and not option.count and default != ""
            )
            record = option.get_help_record(context)
            if has_one and record is not None and f"[default: {default}" not in record[1]:
                yield f"{name} {option.opts[0]}"
        if not isinstance(command, click.Group):
            return
        for word in command.list_commands(context):
            inner = command.get_command(context, word)
            yield from without(inner or click.Command(word), f"{name} {word}")

    assert list(without(root, "relay")) == []
    receive = next(command for command in command_helps(root) if command.name == "relay receive")
    helps = dict(receive.options)
    assert all("[default: " in helps[f"{name} DIR"] for name in ("--archive", "--state"))
    assert "[default: tcp://127.0.0.1:9999]" in helps["--listen URL"]


def test_the_committed_pages_are_up_to_date() -> None:
    """`./scripts/manual` updates them."""
    argv = [sys.executable, "-m", "scripts.manual", "--check"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_and_an_option_without_help_are_named() -> None:
    assert list(undocumented(sample)) == ["relay second", "relay second --mute"]


def test_a_commands_help_has_its_arguments_and_its_options_without_the_hidden_ones() -> None:
    first_help = next(command_helps(sample))
    assert (first_help.name, first_help.arguments) == ("relay first", ("[FILE]",))
    assert first_help.options == (("--kind [a|b]", "Which `kind` it is."),)


def test_the_table_has_one_row_for_each_command_with_any_text() -> None:
    rows = command_table(sample).splitlines()[2:]
    assert [row.replace("\\|", "").count("|") for row in rows] == [4, 4]
    assert rows[0].startswith("| `relay first` | ")


def test_no_text_becomes_a_request_or_an_escape_in_roff() -> None:
    page = man_page(sample)
    assert "\\&.hidden\\enature is not a request." in page
    assert "\\&'Nor is this." in page
    assert "Which \\fBkind\\fR it is." in page


@pytest.mark.parametrize("page", [man_page(root), settings_page((ROOT / "deploy/relay.toml").read_text())])
def test_a_man_page_has_only_the_macros_of_man(page: str) -> None:
    requests = {line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))}
    assert requests <= MAN_MACROS
    assert {".TH", ".SH", ".TP"} <= requests


def test_every_exit_code_is_in_the_man_page() -> None:
    page = man_page(root)
    assert all(f"\n\\fB{code}\\fR\n" in page for code in (0, 64, 65, 66, 68, 69, 70, 73, 74, 75, 76, 77, 78, 130))


def test_keys_with_the_same_prose_are_listed_together() -> None:
    page = settings_page('# Of all.\n\n# Who.\n[relay]\n# The name.\n#a = ""\nb = 1\n# Last.\n#c = 2\n#[[more]]\n')
    assert page.endswith(
        ".PP\nOf all.\n.SH [relay]\nWho.\n"
        '.TP\n\\fBa = ""\\fR\n.TQ\n\\fBb = 1\\fR\nThe name.\n.TP\n\\fBc = 2\\fR\nLast.\n.SH [[more]]\n'
        ".SH SEE ALSO\n\\fBrelay\\fR(1)\n"
    )


def test_an_unknown_kind_of_line_in_the_sample_is_an_error() -> None:
    with pytest.raises(ValueError, match="neither prose nor"):
        settings_page("# Of all.\n\n[relay]\n= nothing\n")


def test_a_page_keeps_everything_except_the_text_between_the_markers() -> None:
    page = "above\n<!-- commands: made by scripts/manual -->\nold\n<!-- end -->\nbelow\n"
    made = with_table(page, sample)
    assert made.startswith("above\n")
    assert made.endswith("\nbelow\n")
    assert "old" not in made
    assert with_table(made, sample) == made
    with pytest.raises(ValueError, match="has no"):
        with_table("nothing", sample)
