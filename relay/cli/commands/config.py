"""`relay config`: validate the configuration, print the settings, and turn a router's own configuration into relay's.

`check` ends with 0, 66 (a file is missing), 77 (this user is not allowed to read it) or 78 (mistakes, each on a line of
stderr). With --json it prints one object, also when there are mistakes, with the schema "relay.config-check/1":
    {"schema", "ok", "files", "for": ["run" and "receive", or one], "mistakes": [MISTAKE…], "warnings": [MISTAKE…]}
    MISTAKE: {"file", "line" (null: the file as a whole), "key" ("": the same), "message"}
`show --json` prints {"schema": "relay.config-show/1", "files", "settings", "origins": [{"key", "origin"}…], "warnings":
[MISTAKE…]}, settings by their TOML keys and values; "origins" has the origin of each value that is not TOML.
`import` prints TOML, and on stderr a line for each thing that relay does differently from the file. With --json it
prints {"schema": "relay.config-import/1", "files", "settings", "origins", "warnings": [MISTAKE…]}.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from relay.cli.options import options, usual_options
from relay.cli.output import mistakes_as_json, print_json, print_line, report
from relay.config.check.check import CheckFindings
from relay.config.check.check import check as check_on_this_machine
from relay.config.configuration import Configuration, read_configuration
from relay.config.intended_program import Program, intended_programs
from relay.config.key_path import key_text
from relay.config.mistake import MistakesError, mistake_lines
from relay.config.toml_text import settings_document, toml_text
from relay.values.configuration.settings import RemoteLoggingServer, Settings
from relay.values.text import escaped


@click.command()
@click.option(
    "--for",
    "program",
    type=click.Choice(["run", "receive"]),
    help="The program that will read it.  [default: the one that its tables are for]",
)
@usual_options
def check(context: click.Context, *, program: Program | None, as_json: bool) -> None:
    """Validate the configuration and the files that it names.

    It reports every mistake at once, with its file, line and key. Run it as the user that relay runs as.
    """
    paths = options(context).config_paths
    checked_for: Sequence[Program] = (program,) if program else ()
    try:
        configuration = read_configuration(options(context).config_paths, options(context).choice)
    except MistakesError as error:
        findings, summary, exit_code = CheckFindings(error.found, ()), "", error.exit_code
    else:
        checked_for = checked_for or intended_programs(configuration)
        findings = check_on_this_machine(configuration, program)
        summary = "; ".join(_summary(configuration.settings, each) for each in checked_for)
        exit_code = MistakesError.exit_code if findings.mistakes else 0
    if as_json:
        fields = {
            "ok": exit_code == 0,
            "files": paths,
            "for": checked_for,
            "mistakes": mistakes_as_json(findings.mistakes),
            "warnings": mistakes_as_json(findings.warnings),
        }
        print_json("relay.config-check/1", **fields)
    else:
        for line in mistake_lines(findings.mistakes):
            report(line, "")
        for line in mistake_lines(findings.warnings):
            report(line, "warning: ")
        if exit_code == 0:
            print_line(f"{', '.join(paths)}: no mistakes; {summary}")
    context.exit(exit_code)


@click.command()
@usual_options
def show(context: click.Context, *, as_json: bool) -> None:
    """Print the settings that are in effect, defaults included, as TOML."""
    configuration = read_configuration(options(context).config_paths, options(context).choice)
    settings = settings_document(configuration.settings)
    _print_settings(configuration, settings, "config-show", "# The settings in effect, from", as_json=as_json)


@click.command("import")
@click.argument("file", metavar="FILE")
@usual_options
def import_(context: click.Context, file: str, *, as_json: bool) -> None:
    """Print a router's configuration text, or a Monitoring Agent's folder, as TOML.

    What it cannot contain (user, keys) is left to relay's defaults and to further files.
    """
    if options(context).given_config_paths:
        raise click.UsageError("FILE alone is read; leave -c out", context)
    configuration = read_configuration([file], options(context).choice)
    settings = configuration.document
    _print_settings(configuration, settings, "config-import", "# Made by relay config import, from", as_json=as_json)


def _print_settings(
    configuration: Configuration, settings: Mapping[str, Any], schema: str, title: str, *, as_json: bool
) -> None:
    if as_json:
        origins = [{"key": key_text(path), "origin": note} for path, note in configuration.notes.items()]
        warnings = mistakes_as_json(configuration.warnings)
        fields = {"files": configuration.files, "settings": settings, "origins": origins, "warnings": warnings}
        print_json(f"relay.{schema}/1", **fields)
        return
    for line in mistake_lines(configuration.warnings):
        report(line, "warning: ")
    click.echo(f"{title} {escaped(', '.join(configuration.files))}")
    click.echo(toml_text(settings, configuration.notes), nl=False)


def _summary(settings: Settings, program: Program) -> str:
    """What is configured for a program, in one sentence."""
    if program == "receive":
        listeners = _list([str(url) for url in settings.receiver.listen])
        servers = [settings.receiver.archive, *_servers(settings, settings.handed_on)]
        return f"relay receive: from {listeners} to {_list(servers)}"
    sources = _list([f"{source.origin} ({source.name})" for source in settings.source])
    return f"relay run: from {sources} to {_list(_servers(settings, settings.remote_logging_server))}"


def _servers(settings: Settings, servers: Sequence[RemoteLoggingServer]) -> list[str]:
    """Each server with the route to it."""
    found = []
    for server in servers:
        forwarding = settings.forwarding_of(server)
        route = f"through SSH to {forwarding.username}@{forwarding.server_address}" if forwarding else ""
        found.append(f"{server.display_name} {route or f'directly, by {server.transport}'}")
    return found


def _list(things: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(things[:-1]), *things[-1:]))) or "nothing"
