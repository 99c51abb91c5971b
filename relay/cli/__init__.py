"""The command line: one file a command group, and the only room that prints.

A command imports its rooms when it is called, so that `relay --help` stays fast. Exit codes are those of sysexits.h,
also for usage errors; every failure is one line on stderr that names the object, the cause and the remedy.
"""

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from relay.errors import InternalError, RelayError, UsageError

COMMANDS: Final = {
    "run": ("relay.cli.run", "run"),
    "receive": ("relay.cli.run", "receive"),
    "status": ("relay.cli.status", "status"),
    "config": ("relay.cli.config", "config"),
}
"""Command → its module and its object there."""

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


def _main() -> click.Group:
    from relay.cli.options import config_option

    @click.group(cls=_Commands, context_settings=CONTEXT)
    @click.version_option(package_name="relay-syslog", prog_name="relay")
    @config_option
    def relay() -> None:
        """Get a router's audit trail to the log server over SSH, and prove it."""

    return relay


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        result = _main().main(args=list(arguments), prog_name="relay", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as asked:
        return asked.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has seen enough; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  no traceback reaches a user
        told = _told(error)
        click.echo(f"relay: {told}", err=True)
        return told.exit_code
    return result if isinstance(result, int) else 0


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
