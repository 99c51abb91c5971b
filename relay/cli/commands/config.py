"""`relay config`: validate the configuration, print what holds, and turn a router's own configuration into ours.

`check` ends with 0, 66 (a file is missing), 77 (this user is not allowed to read it) or 78 (mistakes, each on a line of
standard error).
With --json it prints one object, also when there are mistakes, with the schema "relay.config-check/1":
    {"schema", "ok", "files", "for": ["run" and "receive", or one], "mistakes": [FINDING…], "warnings": [FINDING…]}
    FINDING: {"file", "line" (null: the file as a whole), "key" ("": the same), "message"}
`show --json` prints {"schema": "relay.config-show/1", "files", "settings", "origins": [{"key", "origin"}…], "warnings":
[FINDING…]}, settings by their TOML keys and values; origins tell where the values of files that are no TOML come from.
`import` prints TOML, and on standard error a line for each thing that relay does otherwise than the file says. With
--json it prints {"schema": "relay.config-import/1", "files", "settings", "origins", "warnings": [FINDING…]}.
"""

import json
from typing import TYPE_CHECKING, Any

import click

from relay.cli.group import Group
from relay.cli.options import config_option, options
from relay.errors import RelayError
from relay.values.text import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from relay.config.configuration import Configuration
    from relay.config.intended_program import Program
    from relay.config.mistake import Mistake
    from relay.values.settings import Settings

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")


@click.group(cls=Group)
@config_option
def config() -> None:
    """Validate the configuration, print what holds, or import a router's own."""


@config.command()
@click.option(
    "--for",
    "program",
    type=click.Choice(["run", "receive"]),
    help="Which program will read it.  [default: those whose tables it has]",
)
@config_option
@_json_option
@click.pass_context
def check(context: click.Context, *, program: "Program | None", as_json: bool) -> None:
    """Validate the configuration and the files that it names.

    Every mistake is told at once, with its file, line and key. Run it as the user that relay runs as.
    """
    from relay.config.check import check as on_this_machine
    from relay.config.configuration import read_configuration
    from relay.config.intended_program import intended_programs
    from relay.config.mistake import MistakesError, mistake_lines

    paths = options(context).config_paths
    wanted: Sequence[Program] = (program,) if program else ()
    try:
        configuration = read_configuration(paths, options(context).choice)
    except MistakesError as error:
        findings, summary = on_this_machine.CheckFindings(error.found, ()), ""
        exit_code = error.exit_code
    else:
        wanted = wanted or intended_programs(configuration)
        findings, summary = on_this_machine.check(configuration, program), _summary(configuration.settings, wanted)
        exit_code = MistakesError.exit_code if findings.mistakes else 0
    if as_json:
        _print_json(
            "relay.config-check/1",
            ok=exit_code == 0,
            files=paths,
            **{"for": wanted},
            mistakes=objects(findings.mistakes),
            warnings=objects(findings.warnings),
        )
    else:
        for line in (
            *mistake_lines(findings.mistakes),
            *(f"warning: {line}" for line in mistake_lines(findings.warnings)),
        ):
            click.echo(RelayError.complete(line), err=True)
        if exit_code == 0:
            click.echo(f"{', '.join(paths)}: no mistakes; {summary}")
    context.exit(exit_code)


@config.command()
@config_option
@_json_option
@click.pass_context
def show(context: click.Context, *, as_json: bool) -> None:
    """Print the settings that hold, defaults included, as TOML."""
    from relay.config.configuration import read_configuration
    from relay.config.toml_text import settings_document, toml_text

    configuration = read_configuration(options(context).config_paths, options(context).choice)
    document = settings_document(configuration.settings)
    if as_json:
        _print_json(
            "relay.config-show/1",
            files=configuration.files,
            settings=document,
            origins=_origins(configuration),
            warnings=objects(configuration.warnings),
        )
    else:
        _print_warnings(configuration)
        text = toml_text(document, configuration.notes)
        click.echo(f"# What holds, from {_names(configuration)}\n{text}", nl=False)


@config.command("import")
@click.argument("file", metavar="FILE")
@config_option
@_json_option
@click.pass_context
def import_(context: click.Context, file: str, *, as_json: bool) -> None:
    """Print a router's configuration text, or a Monitoring Agent's folder, as TOML.

    What it cannot say (user, keys) is left to relay's defaults and to further files.
    """
    from relay.config.configuration import read_configuration
    from relay.config.toml_text import toml_text

    if options(context).given_config_paths:
        raise click.UsageError("FILE alone is read; leave -c out", context)
    configuration = read_configuration([file], options(context).choice)
    if as_json:
        _print_json(
            "relay.config-import/1",
            files=configuration.files,
            settings=configuration.document,
            origins=_origins(configuration),
            warnings=objects(configuration.warnings),
        )
        return
    _print_warnings(configuration)
    text = toml_text(configuration.document, configuration.notes)
    click.echo(f"# Made by relay config import, from {_names(configuration)}\n{text}", nl=False)


def _print_warnings(configuration: "Configuration") -> None:
    from relay.config.mistake import mistake_lines

    for line in mistake_lines(configuration.warnings):
        click.echo(f"warning: {escaped(RelayError.complete(line))}", err=True)


def _names(configuration: "Configuration") -> str:
    return escaped(", ".join(configuration.files))


def _origins(configuration: "Configuration") -> list[dict[str, str]]:
    from relay.config.key_path import key_text

    return [{"key": key_text(path), "origin": note} for path, note in configuration.notes.items()]


def _print_json(schema: str, **fields: object) -> None:
    click.echo(json.dumps({"schema": schema, **fields}, ensure_ascii=False))


def objects(mistakes: "Iterable[Mistake]") -> list[dict[str, Any]]:
    """Each mistake as a FINDING."""
    return [
        {
            "file": mistake.location.file,
            "line": mistake.location.line,
            "key": mistake.location.key,
            "message": RelayError.complete(mistake.sentence),
        }
        for mistake in mistakes
    ]


def _summary(settings: "Settings", wanted: "Sequence[Program]") -> str:
    """Say in one sentence what is configured."""
    sources = _list([f"{source.origin} ({source.name})" for source in settings.source])
    servers = _list([_server(settings, index) for index in range(len(settings.remote_logging_server))])
    listeners = _list([f"tcp://{address}" for address in settings.receiver.listen])
    parts: dict[Program, str] = {
        "run": f"relay run: from {sources} to {servers}",
        "receive": f"relay receive: from {listeners} to {settings.receiver.archive}",
    }
    return "; ".join(parts[program] for program in wanted)


def _server(settings: "Settings", index: int) -> str:
    server = settings.remote_logging_server[index]
    forwarding = settings.forwarding_of(server)
    if forwarding is None:
        return f"{server.display_name} directly, by {server.transport}"
    return f"{server.display_name} through SSH to {forwarding.username}@{forwarding.server_address}"


def _list(things: "Sequence[str]") -> str:
    return " and ".join(things) or "nothing"
