"""`relay run`: the router side."""

import asyncio
import gc

import click

from relay.cli.options import config_option, drain_options, options
from relay.cli.output import log_warnings
from relay.config.configuration import Configuration, read_configuration
from relay.config.intended_program import require_program
from relay.system import operational_log


@click.command()
@drain_options
@config_option
@click.pass_context
def run(context: click.Context, *, drain: bool, timeout: float | None) -> None:
    """Forward until told to stop: sources, spool, servers."""
    # --help, completion and remedies that name this command need not wait half a second for these.
    from relay.program import forwarder  # noqa: PLC0415
    from relay.program.reload.loaded_configuration import LoadedConfiguration, load, load_checked  # noqa: PLC0415

    given = options(context)

    def read() -> Configuration:
        configuration = read_configuration(given.config_paths, given.choice)
        require_program(configuration, "run")
        return configuration

    configuration = read()
    operational_log.configure(given.verbosity)
    log_warnings(configuration.warnings)
    gc.freeze()
    if drain:
        asyncio.run(forwarder.drain(configuration.settings, timeout))
        return

    def read_again() -> LoadedConfiguration:
        configuration = read()
        log_warnings(configuration.warnings)
        return load_checked(configuration, "run")

    asyncio.run(forwarder.forward(load(configuration), read_again))
