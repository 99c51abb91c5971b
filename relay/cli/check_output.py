"""`--check`: a command as a plugin of Nagios, Icinga or Checkmk: one line on stdout, and the state as the exit code.

With `--json` it prints {"schema": "relay.check/1", "state" ("ok", "warning", "critical", "unknown"), "exit_code",
"text", "performance": {LABEL: {"value", "unit", "warning" (null: no limit), "critical"}}} instead of the line.
"""

from collections.abc import Callable
from typing import Any, Final

import click

from relay.cli.output import print_json, print_line
from relay.errors import RelayError
from relay.program.status.check_result import CheckResult, CheckState

CHECK_SCHEMA: Final = "relay.check/1"

check_option: Final = click.option(
    "--check",
    "as_check",
    is_flag=True,
    help="Be a monitoring plugin: print one line with figures, and exit with 0 (ok), 1 (warning), 2 (critical), "
    "or 3 (unknown: this cannot be found out).",
)


def exit_with_check(context: click.Context, check: Callable[[], CheckResult], *, as_json: bool) -> None:
    """Print the result and exit with its state; an error that prevents the check makes it unknown."""
    try:
        result = check()
    except RelayError as error:
        result = CheckResult(CheckState.UNKNOWN, str(error))
    if as_json:
        figures: dict[str, dict[str, Any]] = {
            each.label: {name: value for name, value in each._asdict().items() if name != "label"}
            for each in result.performance
        }
        state = result.state.name.lower()
        print_json(CHECK_SCHEMA, state=state, exit_code=int(result.state), text=result.text, performance=figures)
    else:
        print_line(result.line)
    context.exit(int(result.state))
