"""The command line: one file a command group, and the only room that prints.

A command imports its rooms when it is called, so that `relay --help` stays fast. Exit codes are those of sysexits.h,
also for usage errors; every failure is one line on stderr that names the object, the cause and the remedy, and a wrong
configuration one line for each mistake. Control characters in these lines are escaped.

When --json stands on the command line, a failure also prints one object on stdout:
    {"schema": "relay.error/1", "what", "cause", "remedy" ("": none is known), "exit_code", "mistakes": [FINDING…]}
    FINDING: {"file" (null: none), "line" (null: the file as a whole), "key", "message"}
mistakes is there only when the configuration is wrong (exit code 78). Only `relay config check --json` tells a wrong
configuration in an object of its own.
"""

import importlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from relay.cli.printable import escaped
from relay.errors import ConfigurationError, InternalError, RelayError, UsageError

COMMANDS: Final = {
    "run": ("relay.cli.run", "run"),
    "receive": ("relay.cli.run", "receive"),
    "test-connection": ("relay.cli.test_connection", "test_connection"),
    "status": ("relay.cli.status", "status"),
    "events": ("relay.cli.events", "events"),
    "spool": ("relay.cli.spool", "spool"),
    "config": ("relay.cli.config", "config"),
    "key": ("relay.cli.key", "key"),
    "dispatch": ("relay.cli.dispatch", "dispatch"),
    "completion": ("relay.cli.completion", "completion"),
}
"""Command → its module and its object there."""

ERROR_SCHEMA: Final = "relay.error/1"
INTERRUPTED: Final = 130
CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Commands(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), name)
        return command if isinstance(command, click.Command) else None


def commands() -> click.Group:
    """The command `relay` with all that it has."""
    from relay.cli.options import config_option

    @click.group(cls=_Commands, context_settings=CONTEXT)
    @click.version_option(package_name="relay-syslog", prog_name="relay")
    @config_option
    def relay() -> None:
        """Get a router's audit trail to the log server over SSH, and prove it."""

    return relay


def main(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        return _run(arguments)
    except BrokenPipeError:
        # The reader of our output has seen enough; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: Sequence[str]) -> int:
    stdout = sys.stdout
    try:
        result = commands().main(args=list(arguments), prog_name="relay", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as asked:
        return asked.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except SystemExit as ended:
        # Shell completion ends so; and so does click, with 1, after a broken pipe, which it shows by wrapping stdout.
        if sys.stdout is not stdout:
            raise BrokenPipeError from ended
        return ended.code if isinstance(ended.code, int) else 0
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  no traceback reaches a user
        told = _told(error)
        _tell(told, as_json="--json" in arguments)
        return told.exit_code
    return result if isinstance(result, int) else 0


def _tell(error: RelayError, *, as_json: bool) -> None:
    from relay.config.mistake import MistakesError

    for line in error.mistakes if isinstance(error, MistakesError) else (str(error),):
        click.echo(f"relay: {escaped(line)}", err=True)
    if as_json:
        click.echo(json.dumps({"schema": ERROR_SCHEMA, **_object(error)}))


def _object(error: RelayError) -> dict[str, object]:
    told: dict[str, object] = {
        "what": error.what,
        "cause": error.cause,
        "remedy": error.remedy,
        "exit_code": error.exit_code,
    }
    return told | {"mistakes": _findings(error)} if isinstance(error, ConfigurationError) else told


def _findings(error: ConfigurationError) -> list[dict[str, object]]:
    from relay.cli.config import objects
    from relay.config.mistake import MistakesError

    if isinstance(error, MistakesError):
        return objects(error.found)
    return [{"file": None, "line": None, "key": "", "message": sentence} for sentence in error.mistakes]


def _told(error: Exception) -> RelayError:
    match error:
        case RelayError():
            return error
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "relay"
            return UsageError(command, error.format_message().rstrip("."), f"see `{command} --help`")
        case click.ClickException():
            return UsageError("relay", error.format_message().rstrip("."))
        case ExceptionGroup():
            return _told(error.exceptions[0])
        case _:
            logging.getLogger("relay").debug("a bug", exc_info=error)
            return InternalError("relay", f"a bug of ours: {error!r}", "run it with -vv and report what it says")
