"""The option --state, for commands that look at a state directory."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from relay.cli.options import options

_Command = TypeVar("_Command", bound=Callable[..., Any])


def state_option(command: _Command) -> _Command:
    """Give a command `--state`."""
    option = click.option(
        "--state",
        metavar="DIR",
        type=click.Path(readable=False),
        help="The state directory, instead of the configuration's.",
    )
    return option(command)


def state_directory(context: click.Context, state: str | None) -> str:
    """The directory that is meant: the option's, else the configuration's."""
    from relay.config import toml

    if state:
        return os.path.abspath(state)
    return toml.load(options(context).config_paths, options(context).choice).relay.state_directory
