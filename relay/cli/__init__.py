"""The command line: one module for each command, and the only package that prints.

Exit codes are those of sysexits.h, also for usage errors (`relay.errors`). Every failure is one line on stderr that
names the object, the cause and the remedy; a wrong configuration is one line for each mistake. When --json was given,
stdout gets the same as an object (`relay.cli.output.print_error`). Output that cannot be written is 74. A reader that
closes the pipe early is not a failure. A closed standard stream is read and written as /dev/null.
"""

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final

import click

from relay.cli.commands import root
from relay.cli.options import Options
from relay.cli.output import print_error
from relay.cli.printed_commands import completing
from relay.errors import InternalError, NoInputError, RelayError, StorageError, UsageError
from relay.system.disk import permission_refused
from relay.values.text import bug_text

INTERRUPTED: Final = 130
_PRINTING: Final = (click.echo.__code__.co_filename, os.path.dirname(__file__) + os.sep)
"""Where an OSError means that output cannot be written: only this package prints, and it opens no files."""


def main(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        # A closed stream (`relay status >&-`) is None, and the next file that is opened would get its descriptor.
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  open as long as the process
    given = Options()
    try:
        with completing(root, given):
            return _run(given, arguments)
    except BrokenPipeError:
        _discard_output()
        return 0
    except OSError as error:
        _discard_output()
        remedy = "free some space there" if error.errno in {errno.ENOSPC, errno.EDQUOT} else ""
        unwritten = StorageError("standard output", f"cannot be written: {error.strerror}", remedy)
        print_error(unwritten, as_json=False)
        return unwritten.exit_code


def _discard_output() -> None:
    """Send to /dev/null what is still buffered, so that it does not raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(given: Options, arguments: Sequence[str]) -> int:
    """Run it and print its error, if there is one; OSError when standard output cannot be written."""
    stdout = sys.stdout
    try:
        result = root.main(args=list(arguments), prog_name="relay", standalone_mode=False, obj=given)
        sys.stdout.flush()
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except SystemExit as exit_:
        # Raised by shell completion, and by click, with 1, after a broken pipe: only then click has wrapped stdout.
        if sys.stdout is not stdout:
            raise BrokenPipeError from exit_
        return exit_.code if isinstance(exit_.code, int) else 0
    except BrokenPipeError:
        raise
    except click.exceptions.NoArgsIsHelpError as help_:
        click.echo(help_.format_message(), err=True)
        return UsageError.exit_code
    except Exception as error:  # no traceback reaches a user
        *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
        if isinstance(error, OSError) and innermost.f_code.co_filename.startswith(_PRINTING):
            raise
        reported = _reported(error)
        print_error(reported, as_json="--json" in arguments)
        return reported.exit_code
    return result if isinstance(result, int) else 0


def _reported(error: Exception) -> RelayError:
    """The error that the user sees for any exception."""
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
            return _reported(error.exceptions[0])
        case _:
            return InternalError("relay", bug_text(error), "please report this line")


def _sentence(error: click.ClickException) -> str:
    """Click's message on one line, without its full stop."""
    return " ".join(error.format_message().split()).rstrip(".")
