"""The option --state, for commands that look at a state directory."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from relay.cli.options import options
from relay.errors import NoInputError
from relay.values.did_you_mean import did_you_mean

_Command = TypeVar("_Command", bound=Callable[..., Any])


def state_option(command: _Command) -> _Command:
    """Give a command `--state`."""
    option = click.option(
        "--state",
        metavar="DIR",
        type=click.Path(readable=False),
        help="Look at this state directory.  [default: the configuration's, whose own default is /var/lib/relay]",
    )
    return option(command)


def state_directory(context: click.Context, state: str | None) -> str:
    """The directory that is meant: the option's, else the configuration's."""
    from relay.config.configuration import read_settings

    if state:
        return existing_folder(context, "--state", state)
    return read_settings(options(context).config_paths, options(context).choice).relay.state_directory


def existing_folder(context: click.Context, option: str, given: str) -> str:
    """The whole path of the folder that an option names; a printed command will name it too."""
    options(context).places[option] = existing(given, f"name another with {option}")
    return options(context).places[option]


def existing(given: str, remedy: str) -> str:
    """The whole path of a folder; NoInputError with the nearest name, else the remedy, when nothing is there."""
    path = os.path.abspath(given)
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NoInputError(path, "there is no such folder", _nearest(path) or remedy) from None
    except OSError:  # reading the folder will report the cause
        pass
    return path


def _nearest(path: str) -> str:
    parent = os.path.dirname(path)
    try:
        return did_you_mean(path, [entry.path for entry in os.scandir(parent) if entry.is_dir()])
    except OSError:
        return ""
