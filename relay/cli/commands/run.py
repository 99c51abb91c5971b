"""`relay run`: the router side."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any, TypeVar

import click

from relay.cli.options import config_option, options
from relay.cli.output import log_warnings
from relay.cli.parameter_types import Number
from relay.config.check.listeners import warn_of_open_listeners
from relay.config.check.modes import require_strict_configuration
from relay.config.configuration import Configuration, read_configuration
from relay.config.intended_program import require_program
from relay.config.mistake import located
from relay.system import operational_log
from relay.system.programs.child_rights import keep_rights

_Command = TypeVar("_Command", bound=Callable[..., Any])


def drain_options(command: _Command) -> _Command:
    """Give a command `--drain` and `--timeout`."""

    def require_drain(context: click.Context, _: click.Parameter, seconds: float | None) -> float | None:
        if seconds is not None and not context.params["drain"] and not context.resilient_parsing:
            raise click.UsageError("--timeout is for --drain alone; without it nothing is waited for", context)
        return seconds

    drain = click.option(
        "--drain",
        is_flag=True,
        is_eager=True,  # before --timeout, which looks at it
        help="Read what the sources have now, deliver and prove it, and exit.",
    )
    timeout = click.option(
        "--timeout",
        type=Number(min=0),
        metavar="SECONDS",
        callback=require_drain,
        help="With --drain: exit with 75 when it takes longer.",
    )
    return drain(timeout(command))


@click.command()
@drain_options
@config_option
@click.pass_context
def run(context: click.Context, *, drain: bool, timeout: float | None) -> None:
    """Forward events from the sources to the servers until it is stopped.

    Every event is stored in the spool first, and stays there until its delivery is proven.
    """
    # --help, completion and remedies that name this command need not wait half a second for these.
    from relay.program import forwarder  # noqa: PLC0415
    from relay.program.reload.loaded_configuration import LoadedConfiguration, load, load_checked  # noqa: PLC0415

    given = options(context)

    def read() -> Configuration:
        configuration = read_configuration(given.config_paths, given.choice)
        require_program(configuration, "run")
        require_strict_configuration(configuration, "run")
        return configuration

    configuration = read()
    operational_log.configure(given.verbosity)
    log_warnings(configuration.warnings)
    warn_of_open_listeners(configuration.settings, "run")
    gc.freeze()
    keep_rights()
    if drain:
        with located(configuration.locate):
            asyncio.run(forwarder.drain(configuration.settings, timeout))
        return

    def read_again() -> LoadedConfiguration:
        configuration = read()
        log_warnings(configuration.warnings)
        return load_checked(configuration, "run")

    with located(configuration.locate):
        asyncio.run(forwarder.forward(load(configuration), read_again))
