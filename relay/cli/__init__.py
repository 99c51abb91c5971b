"""The command line: one file a command group, and the only room that prints.

A command imports its rooms when it is called, so that `relay --help` stays fast. Exit codes are those of sysexits.h,
also for usage errors; every failure is one line on stderr that names the object, the cause and the remedy, and a wrong
configuration one line for each mistake. Control characters in these lines are escaped. Output that cannot be written
is 74, but a reader that has seen enough is no failure; a closed standard stream is read and written as /dev/null.

When --json stands on the command line, a failure also prints one object on stdout:
    {"schema": "relay.error/1", "what", "cause", "remedy" ("": none is known), "exit_code", "mistakes": [FINDING…]}
    FINDING: {"file" (null: none), "line" (null: the file as a whole), "key", "message"}
mistakes is there only when the configuration is wrong (exit code 78). Only `relay config check --json` tells a wrong
configuration in an object of its own.
"""

import contextlib
import importlib
import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from relay.cli.group import Group
from relay.errors import ConfigurationError, InternalError, NoInputError, RelayError, StorageError, UsageError
from relay.system import signals
from relay.values.text import error_text, escaped

if TYPE_CHECKING:
    from relay.cli.options import Options

COMMANDS: Final = {
    "run": ("relay.cli.commands.run", "run"),
    "receive": ("relay.cli.commands.run", "receive"),
    "test-connection": ("relay.cli.commands.test_connection", "test_connection"),
    "reload": ("relay.cli.commands.reload", "reload"),
    "status": ("relay.cli.commands.status", "status"),
    "events": ("relay.cli.commands.events", "events"),
    "spool": ("relay.cli.commands.spool", "spool"),
    "archive": ("relay.cli.commands.archive", "archive"),
    "config": ("relay.cli.commands.config", "config"),
    "key": ("relay.cli.commands.key", "key"),
    "dispatch": ("relay.cli.commands.dispatch", "dispatch"),
    "completion": ("relay.cli.commands.completion", "completion"),
}
"""Command → its module and its object there."""
LASTING: Final = frozenset({"run", "receive", "dispatch"})
"""Those that no signal may end by surprise."""

ERROR_SCHEMA: Final = "relay.error/1"
INTERRUPTED: Final = 130
CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Commands(Group):
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but what was probably meant is named, which click does only for commands that are imported."""
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = "".join(f". Did you mean '{name}'?" for name in get_close_matches(args[0], COMMANDS, 1))
            ctx.fail(f"No such command '{args[0]}'{near}")
        if args[0] in LASTING:
            signals.hold()  # before the rest is imported, which takes a while
        return super().resolve_command(ctx, args)


def all_commands() -> click.Group:
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
    _open_closed_streams()
    try:
        return _run(arguments)
    except BrokenPipeError:
        _print_no_more()
        return 0
    except OSError as error:
        _print_no_more()
        unwritten = StorageError("standard output", f"cannot be written: {error.strerror}", "give it room")
        _tell(unwritten, as_json=False)
        return unwritten.exit_code


def _open_closed_streams() -> None:
    """Python has None for a standard stream that was closed (`relay status >&-`), and files would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  open as long as the process


def _print_no_more() -> None:
    """Nobody gets our output any more; what is still buffered must not raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: Sequence[str]) -> int:
    from relay.cli.as_typed import completing
    from relay.cli.options import Options

    root, given = all_commands(), Options()
    with completing(root, given):
        return _run_command(root, given, arguments)


def _run_command(root: click.Group, given: "Options", arguments: Sequence[str]) -> int:
    stdout = sys.stdout
    try:
        result = root.main(args=list(arguments), prog_name="relay", standalone_mode=False, obj=given)
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
    except click.exceptions.NoArgsIsHelpError as bare:
        click.echo(bare.format_message(), err=True)
        return UsageError.exit_code
    except Exception as error:  # no traceback reaches a user
        if _is_of_output(error):
            raise
        told = _told(error)
        _tell(told, as_json="--json" in arguments)
        return told.exit_code
    return result if isinstance(result, int) else 0


def _is_of_output(error: Exception) -> bool:
    """Whether printing failed: only this room prints, by click or by itself, and it opens no files."""
    if not isinstance(error, OSError):
        return False
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    raised_in = innermost.f_code.co_filename
    return raised_in == click.echo.__code__.co_filename or os.path.dirname(raised_in) == os.path.dirname(__file__)


def _tell(error: RelayError, *, as_json: bool) -> None:
    from relay.config.mistake import MistakesError

    whose = "" if error.what.split(" ")[0] == "relay" else "relay: "
    with contextlib.suppress(OSError):  # where nobody hears it, the exit code still tells
        for line in error.mistakes if isinstance(error, MistakesError) else (str(error),):
            click.echo(f"{whose}{escaped(RelayError.complete(line))}", err=True)
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
    from relay.cli.commands.config import objects
    from relay.config.mistake import MistakesError

    if isinstance(error, MistakesError):
        return objects(error.found)
    return [{"file": None, "line": None, "key": "", "message": sentence} for sentence in error.mistakes]


def _told(error: Exception) -> RelayError:
    from relay.system.disk import permission_refused

    match error:
        case StorageError() | NoInputError() if isinstance(error.__cause__, PermissionError):
            return permission_refused(os.fsdecode(error.__cause__.filename or error.what))
        case RelayError():
            return error
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "relay"
            return UsageError(command, _sentence(error), f"see `{command} --help`")
        case click.ClickException():
            return UsageError("relay", _sentence(error))
        case ExceptionGroup():
            return _told(error.exceptions[0])
        case _:
            logging.getLogger("relay").debug("a bug", exc_info=error)
            return InternalError("relay", f"a bug: {error_text(error)}", "run it with -vv and report what it says")


def _sentence(error: click.ClickException) -> str:
    """Click's message on one line, without its full stop."""
    return " ".join(error.format_message().split()).rstrip(".")
