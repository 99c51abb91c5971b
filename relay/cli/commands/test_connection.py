"""`relay test-connection`: step by step to the servers and back, beside a relay that runs.

Prints each step as it ends, and one sentence at the end. The exit code is that of the first step that failed, as
relay.program.connection_test.report lists them: 78, 74, 77, 68, 69 or 76; warnings leave it 0.
With --json it prints one object with the schema "relay.test-connection/1":
    {"schema", "ok", "exit_code", "sentence", "steps": [STEP…], "servers": [SERVER…]}
    SERVER: {"name", "ok", "exit_code", "sentence", "proof", "largest_message", "steps": [STEP…]}
    STEP: {"step", "outcome" ("ok", "warning", "FAILED", "skipped"), "milliseconds", "found", "remedy", "exit_code"}
"proof" is its kind as `relay status` names it: "drained", "acknowledged", or "unproven" where none can be had, which is
a warning; null when the test did not come so far. "largest_message" is in octets, with --sizes; null when it was not
found. Every server has every step; where no port-forwarding leads to it, it is gone to directly and the steps of SSH
are skipped. The outer steps are those that all servers share; when one of them fails, "servers" is empty and all steps
stand there.
"""

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from relay.cli.number import Number
from relay.cli.options import config_option, options
from relay.errors import RelayError
from relay.values.text import escaped

if TYPE_CHECKING:
    from relay.program.connection_test.report import Report, ServerReport, StepResult

SCHEMA: Final = "relay.test-connection/1"
_COLOURS: Final = {"ok": "green", "warning": "yellow", "FAILED": "red", "skipped": "bright_black"}
_TEXT_COLUMN: Final = 37


@click.command()
@click.option("--server", default="", metavar="NAME", help="Test the way to this server only.  [default: to every one]")
@click.option("--no-send", is_flag=True, help="Stop before the test message.")
@click.option("--sizes", is_flag=True, help="Find the largest message that each server accepts.")
@click.option(
    "--timeout",
    type=Number(min=0, min_open=True),
    metavar="SECONDS",
    help="Wait so long in each step.  [default: as relay does; 10 for the proof]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@config_option
@click.pass_context
def test_connection(
    context: click.Context, *, server: str, no_send: bool, sizes: bool, timeout: float | None, as_json: bool
) -> None:
    """Try the way to each server, step by step: SSH, forward, a test message, its proof.

    A relay that runs is not disturbed. Run it as the user that relay runs as.
    """
    from relay.program.connection_test.connection_test import run_test
    from relay.program.connection_test.server_test import TestRequest

    given = options(context)
    wishes = TestRequest(
        given.config_paths, server, send=not no_send, sizes=sizes, timeout=timeout, choice=given.choice
    )
    report = run_test(wishes, _Quiet() if as_json else _Printer())
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, **as_object(report)}, ensure_ascii=False))
    else:
        click.echo(f"\n{_shown(report.sentence)}")
    context.exit(report.exit_code)


# --- For people ---


class _Quiet:
    """Prints nothing on the way."""

    def __call__(self, server: str, result: "StepResult") -> None:
        pass


class _Printer:
    """Prints each step as it ends, a server's name above its steps."""

    def __init__(self) -> None:
        self._server = ""
        self._colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def __call__(self, server: str, result: "StepResult") -> None:
        if server != self._server:
            self._server = server
            click.echo(f"\n{server}")
        for line in self._lines(result):
            click.echo(line)

    def _lines(self, result: "StepResult") -> list[str]:
        time = "" if result.outcome == "skipped" else f"{result.seconds * 1000:.0f} ms"
        outcome = self._coloured(f"{result.outcome:<8}", _COLOURS[result.outcome])
        first, *more = [_shown(line) for line in result.found.split("\n")]
        lines = [
            f"{result.step:<17} {outcome} {time:>8}  {first}".rstrip(),
            *(" " * _TEXT_COLUMN + line for line in more),
        ]
        return [*lines, " " * _TEXT_COLUMN + f"→ {_shown(result.remedy)}"] if result.remedy else lines

    def _coloured(self, text: str, colour: str) -> str:
        return click.style(text, fg=colour) if self._colours else text


def _shown(text: str) -> str:
    """The text with its control characters escaped: parts of it are what a server, a file or a process is called."""
    return escaped(RelayError.complete(text))


# --- For programs ---


def as_object(report: "Report") -> dict[str, Any]:
    """The report as JSON shows it, without the schema."""
    return {
        "ok": report.exit_code == 0,
        "exit_code": report.exit_code,
        "sentence": RelayError.complete(report.sentence),
        "steps": [_step(result) for result in report.shared],
        "servers": [_server(server) for server in report.servers],
    }


def _server(server: "ServerReport") -> dict[str, Any]:
    return {
        "name": server.name,
        "ok": server.exit_code == 0,
        "exit_code": server.exit_code,
        "sentence": RelayError.complete(server.sentence),
        "proof": server.proof or None,
        "largest_message": server.largest,
        "steps": [_step(result) for result in server.results],
    }


def _step(result: "StepResult") -> dict[str, Any]:
    return {
        "step": result.step,
        "outcome": result.outcome,
        "milliseconds": round(result.seconds * 1000, 1),
        "found": RelayError.complete(result.found),
        "remedy": RelayError.complete(result.remedy),
        "exit_code": result.exit_code,
    }
