"""`relay run` and `relay receive`."""

import asyncio
import gc
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from relay.cli.number import Number
from relay.cli.options import Options, config_option, options
from relay.cli.printable import escaped

if TYPE_CHECKING:
    from relay.config.loaded import Loaded
    from relay.config.toml import Configuration

_GC_THRESHOLD: Final = 50_000
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _drain_options(command: _Command) -> _Command:
    timeout = click.option(
        "--timeout", type=Number(min=0), metavar="SECONDS", help="With --drain: exit 75 when it takes longer."
    )
    drain = click.option("--drain", is_flag=True, help="Take in what is there now, deliver and prove it, and exit.")
    return drain(timeout(command))


def _refuse_a_timeout_without_drain(*, drain: bool, timeout: float | None) -> None:
    if timeout is not None and not drain:
        raise click.UsageError("--timeout is for --drain alone; without it there is nothing to wait for")


def _collect_garbage_seldom() -> None:
    """Events are many short-lived tuples without cycles: looking for cycles every 700 of them costs 15 % of the CPU.

    First of all, for what is imported is not looked through either: a tenth of the CPU of a start.
    """
    gc.set_threshold(_GC_THRESHOLD, 20, 20)


@click.command()
@_drain_options
@config_option
@click.pass_context
def run(context: click.Context, *, drain: bool, timeout: float | None) -> None:
    """Forward until told to stop: sources, spool, servers."""
    _collect_garbage_seldom()
    from relay import forwarder, operational_log
    from relay.config import toml
    from relay.config.loaded import checked, loaded

    _refuse_a_timeout_without_drain(drain=drain, timeout=timeout)
    given = options(context)
    configuration = toml.read(given.config_paths, given.choice)
    operational_log.configure(given.verbosity)
    _log_warnings(configuration)

    def read_again() -> "Loaded":
        again = toml.read(given.config_paths, given.choice)
        _log_warnings(again)
        return checked(again, "run")

    gc.freeze()
    asyncio.run(
        forwarder.drain(configuration.settings, timeout)
        if drain
        else forwarder.forward(loaded(configuration), read_again)
    )


def _log_warnings(configuration: "Configuration") -> None:
    for warning in configuration.warnings:
        logging.getLogger("relay").warning("%s", escaped(str(warning)))


_FLAGS: Final = {
    "state": ("relay", "state-directory"),
    "listen": ("receiver", "listen"),
    "archive": ("receiver", "archive"),
    "ssh_listen": ("receiver", "ssh", "listen"),
    "host_key": ("receiver", "ssh", "host-key"),
    "authorized_keys": ("receiver", "ssh", "authorized-keys"),
    "tls_listen": ("receiver", "tls", "listen"),
    "certificate": ("receiver", "tls", "certificate"),
    "private_key": ("receiver", "tls", "private-key"),
    "ca": ("receiver", "tls", "ca"),
}
"""Flag of `relay receive` → the key that it sets."""
_PATHS: Final = frozenset({"state", "archive", "host_key", "authorized_keys", "certificate", "private_key", "ca"})


@click.command()
@click.option("--listen", multiple=True, metavar="URL", help="Take syslog here; repeatable.  [tcp://127.0.0.1:9999]")
@click.option("--archive", metavar="DIR", help="Keep the messages here, a folder for each originator.")
@click.option("--state", metavar="DIR", help="Keep the spool here.")
@click.option("--ssh-listen", metavar="HOST:PORT", help="Be the SSH server for the senders' port-forwarding.")
@click.option("--host-key", metavar="FILE", help="The SSH server's private key.")
@click.option("--authorized-keys", metavar="FILE", help="The public keys that may forward to the listeners.")
@click.option("--tls-listen", metavar="HOST:PORT", help="Take syslog by TLS here (RFC 5425).")
@click.option("--certificate", metavar="FILE", help="What is shown to senders by TLS, in PEM.")
@click.option("--private-key", metavar="FILE", help="The certificate's private key, in PEM.")
@click.option("--ca", metavar="FILE", help="Let in by TLS only who has a certificate signed by one of these.")
@_drain_options
@config_option
@click.pass_context
def receive(context: click.Context, /, *, drain: bool, timeout: float | None, **flags: str | tuple[str, ...]) -> None:
    """Be a remote logging server: listen, and archive each event once. Flags alone suffice."""
    _collect_garbage_seldom()
    from relay import operational_log, receiver
    from relay.config.loaded import checked, loaded

    _refuse_a_timeout_without_drain(drain=drain, timeout=timeout)
    given, said = options(context), {name: value for name, value in flags.items() if value}
    configuration = _with_flags(given, said)
    operational_log.configure(given.verbosity)
    gc.freeze()
    asyncio.run(
        receiver.drain(configuration.settings, timeout)
        if drain
        else receiver.receive(loaded(configuration), lambda: checked(_with_flags_again(given, said), "receive"))
    )


def _with_flags_again(given: Options, flags: dict[str, str | tuple[str, ...]]) -> "Configuration":
    from relay.errors import ConfigurationError

    try:
        return _with_flags(given, flags)
    except click.UsageError as error:
        raise ConfigurationError("command line", (error.format_message(),)) from None


def _with_flags(given: Options, flags: dict[str, str | tuple[str, ...]]) -> "Configuration":
    """The configuration with the flags over it; flags alone need no file."""
    from pydantic import ValidationError

    from relay.config import toml
    from relay.config.sentence import sentence
    from relay.settings import Settings

    named = bool(given.given_config_paths or os.environ.get("RELAY_CONFIG"))
    configuration = (
        toml.read(given.config_paths, given.choice) if named or not flags else toml.without_files(Settings())
    )
    document = configuration.settings.model_dump(mode="json", exclude_unset=True)
    for name, value in flags.items():
        *tables, key = _FLAGS[name]
        place = document
        for table in tables:
            place = place.setdefault(table, {})
        place[key] = os.path.abspath(str(value)) if name in _PATHS else value
    try:
        return configuration._replace(settings=Settings.model_validate(document))
    except ValidationError as invalid:
        error = invalid.errors(include_url=False)[0]
        flag = next((name for name, path in _FLAGS.items() if path == error["loc"][: len(path)]), "")
        raise click.BadParameter(sentence(error), param_hint=f"--{flag.replace('_', '-')}") from None
