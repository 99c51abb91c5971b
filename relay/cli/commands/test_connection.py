"""`relay test-connection`: step by step to the servers, beside a relay that runs.

Prints each step as it ends, and one sentence at the end. The exit code is that of the first step that failed, as
relay.program.connection_test.report lists them: 78, 74, 77, 68, 69 or 76; warnings leave it 0.
With --json it prints one object with the schema "relay.test-connection/1":
    {"schema", "ok", "exit_code", "sentence", "steps": [STEP…], "servers": [SERVER…]}
    SERVER: {"name", "ok", "exit_code", "sentence", "proof", "largest_message", "steps": [STEP…]}
    STEP: {"step", "outcome" ("ok", "warning", "FAILED", "skipped"), "milliseconds", "found", "remedy", "exit_code"}
"proof" is its kind as `relay status` names it: "drained", "acknowledged", or "unproven" (a warning) where the server
cannot prove delivery. It is null when the test ended before the proof. "largest_message" is in octets, with --sizes;
null when it was not found. Every server has every step; the steps of SSH are skipped where no port-forwarding leads to
it. The outer steps are those that all servers share; when one of them fails, "servers" is empty and "steps" has all
steps. So it is, with exit code 0, for a `relay receive` that hands on to no server: there is nothing to test.
"""

import os
import sys
from typing import Any, Final

import click

from relay.cli.options import options, usual_options
from relay.cli.output import print_json, print_line
from relay.cli.parameter_types import Number
from relay.errors import RelayError
from relay.program.connection_test.report import Report, StepResult
from relay.values.text import escaped

SCHEMA: Final = "relay.test-connection/1"
_COLOURS: Final = {"ok": "green", "warning": "yellow", "FAILED": "red", "skipped": "bright_black"}
_TEXT_INDENT: Final = " " * 37


@click.command()
@click.option("--server", default="", metavar="NAME", help="Test the route to this server only.  [default: to each]")
@click.option("--no-send", is_flag=True, help="Stop before the test message.")
@click.option("--sizes", is_flag=True, help="Find the largest message that each server accepts.")
@click.option(
    "--timeout",
    type=Number(min=0, min_open=True),
    metavar="SECONDS",
    help="Wait at most this long in each step.  [default: as `relay run` does; 10 for the proof]",
)
@usual_options
def test_connection(
    context: click.Context, *, server: str, no_send: bool, sizes: bool, timeout: float | None, as_json: bool
) -> None:
    """Test the route to each server step by step: SSH, port forwarding, a message, its proof.

    It does not disturb a relay that runs. Run it as the user that relay runs as.
    """
    # --help, completion and remedies that name this command need not wait 0.4 s for these.
    from relay.program.connection_test import connection_test, test_request  # noqa: PLC0415

    given = options(context)
    request = test_request.TestRequest(
        given.config_paths, server, send=not no_send, sizes=sizes, timeout=timeout, choice=given.choice
    )
    report = connection_test.run_test(request, (lambda *_: None) if as_json else _StepPrinter())
    if as_json:
        print_json(SCHEMA, **as_object(report))
    else:
        click.echo()
        print_line(report.sentence)
    context.exit(report.exit_code)


class _StepPrinter:
    """Prints each step as it ends, a server's name above its steps."""

    def __init__(self) -> None:
        self._server = ""
        self._coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def __call__(self, server: str, result: StepResult) -> None:
        if server != self._server:
            self._server = server
            click.echo()
            print_line(server)
        time = "" if result.outcome == "skipped" else f"{result.seconds * 1000:.0f} ms"
        outcome = f"{result.outcome:<8}"
        if self._coloured:
            outcome = click.style(outcome, fg=_COLOURS[result.outcome])
        # What was found names servers, files and processes, so its control characters are escaped.
        first, *more = map(escaped, RelayError.complete(result.found).split("\n"))
        click.echo(f"{result.step:<17} {outcome} {time:>8}  {first}".rstrip())
        for line in more:
            click.echo(_TEXT_INDENT + line)
        if result.remedy:
            print_line(f"{_TEXT_INDENT}→ {result.remedy}")


def as_object(report: Report) -> dict[str, Any]:
    """The report as JSON shows it, without the schema."""
    return {
        "ok": report.exit_code == 0,
        "exit_code": report.exit_code,
        "sentence": RelayError.complete(report.sentence),
        "steps": [_step(result) for result in report.shared],
        "servers": [
            {
                "name": server.name,
                "ok": server.exit_code == 0,
                "exit_code": server.exit_code,
                "sentence": RelayError.complete(server.sentence),
                "proof": server.proof or None,
                "largest_message": server.largest,
                "steps": [_step(result) for result in server.results],
            }
            for server in report.servers
        ],
    }


def _step(result: StepResult) -> dict[str, Any]:
    return {
        "step": result.step,
        "outcome": result.outcome,
        "milliseconds": round(result.seconds * 1000, 1),
        "found": RelayError.complete(result.found),
        "remedy": RelayError.complete(result.remedy),
        "exit_code": result.exit_code,
    }
