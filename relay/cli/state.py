"""The option --state, for commands that look at a state directory."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from relay.cli.options import options
from relay.errors import NoInputError

_Command = TypeVar("_Command", bound=Callable[..., Any])


def state_option(command: _Command) -> _Command:
    """Give a command `--state`."""
    option = click.option(
        "--state",
        metavar="DIR",
        type=click.Path(readable=False),
        help="Look at this state directory.  [default: the configuration's state-directory]",
    )
    return option(command)


def state_directory(context: click.Context, state: str | None) -> str:
    """The directory that is meant: the option's, else the configuration's."""
    from relay.config import toml

    if state:
        return existing_folder(context, "--state", state)
    return toml.load(options(context).config_paths, options(context).choice).relay.state_directory


def existing_folder(context: click.Context, option: str, given: str) -> str:
    """The whole path of a folder that an option names; NoInputError with the nearest name when nothing is there."""
    path = os.path.abspath(given)
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NoInputError(path, "there is no such folder", _nearest(path) or f"name another with {option}") from None
    except OSError:  # whoever reads the folder says why not
        pass
    options(context).places[option] = path
    return path


def _nearest(path: str) -> str:
    from difflib import get_close_matches

    parent, name = os.path.split(path)
    try:
        beside = [entry.name for entry in os.scandir(parent) if entry.is_dir()]
    except OSError:
        return ""
    near = get_close_matches(name, beside, 1)
    return f'did you mean "{os.path.join(parent, near[0])}"?' if near else ""
