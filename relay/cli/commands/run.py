"""`relay run` and `relay receive`."""

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from relay.cli.number import Number
from relay.cli.options import Options, config_option, options
from relay.values.text import escaped

if TYPE_CHECKING:
    from relay.config.configuration import Configuration
    from relay.config.mistake import Mistake
    from relay.program.reload.loaded_configuration import LoadedConfiguration

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
    from relay.config import intended_program
    from relay.config.configuration import read_configuration
    from relay.program import forwarder
    from relay.program.reload.loaded_configuration import load, load_checked
    from relay.system import operational_log

    _refuse_a_timeout_without_drain(drain=drain, timeout=timeout)
    given = options(context)

    def read() -> "Configuration":
        configuration = read_configuration(given.config_paths, given.choice)
        intended_program.require_program(configuration, "run")
        return configuration

    def read_again() -> "LoadedConfiguration":
        again = read()
        _log_warnings(again)
        return load_checked(again, "run")

    configuration = read()
    operational_log.configure(given.verbosity)
    _log_warnings(configuration)
    gc.freeze()
    asyncio.run(
        forwarder.drain(configuration.settings, timeout)
        if drain
        else forwarder.forward(load(configuration), read_again)
    )


def _log_warnings(configuration: "Configuration") -> None:
    for warning in configuration.warnings:
        logging.getLogger("relay").warning("%s", escaped(str(warning)))


DEFAULT_ARCHIVE: Final = "/var/log/relay"
DEFAULT_STATE: Final = "/var/lib/relay"
_STATE_ENDING: Final = ".state"
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
@click.option(
    "--listen", multiple=True, metavar="URL", help="Accept syslog here; repeatable.  [default: tcp://127.0.0.1:9999]"
)
@click.option(
    "--archive",
    metavar="DIR",
    help="Keep the messages here, a folder for each originator.  "
    f"[default: DIR of --state DIR.state, DIR.archive of --state DIR; without --state {DEFAULT_ARCHIVE}]",
)
@click.option(
    "--state",
    metavar="DIR",
    help=f"Keep the spool here.  [default: DIR.state of --archive DIR; without --archive {DEFAULT_STATE}]",
)
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
    """Be a remote logging server: listen, and archive each event once. Flags alone suffice.

    A flag overrides the configuration. An archive or a state directory that is named by a flag implies the other one,
    unless the configuration names that: both then lie beside each other, DIR and DIR.state.
    """
    _collect_garbage_seldom()
    from relay.program import receiver
    from relay.program.reload.loaded_configuration import load, load_checked
    from relay.system import operational_log

    _refuse_a_timeout_without_drain(drain=drain, timeout=timeout)
    given, said = options(context), {name: value for name, value in flags.items() if value}
    configuration = _with_flags(given, said)
    if flags["state"] or flags["archive"]:
        given.places["--state"] = configuration.settings.relay.state_directory
    operational_log.configure(given.verbosity)
    _log_warnings(configuration)
    gc.freeze()
    asyncio.run(
        receiver.drain(configuration.settings, timeout)
        if drain
        else receiver.receive(load(configuration), lambda: load_checked(_with_flags_again(given, said), "receive"))
    )


def _with_flags_again(given: Options, flags: dict[str, str | tuple[str, ...]]) -> "Configuration":
    from relay.errors import ConfigurationError

    try:
        return _with_flags(given, flags)
    except click.UsageError as error:
        raise ConfigurationError("command line", (error.format_message(),)) from None


def _with_flags(given: Options, flags: dict[str, str | tuple[str, ...]]) -> "Configuration":
    """The configuration with the flags over it; its warnings: tables without effect. Flags alone need no file."""
    from pydantic import ValidationError

    from relay.config import intended_program
    from relay.config.configuration import configuration_without_files, read_configuration
    from relay.config.validation_sentence import validation_sentence
    from relay.values.settings import Settings

    warnings: tuple[Mistake, ...] = ()
    if given.given_config_paths or os.environ.get("RELAY_CONFIG") or not flags:
        configuration = read_configuration(given.config_paths, given.choice)
        if not flags:
            intended_program.require_program(configuration, "receive")
        if intended_program.intended_programs(configuration) != intended_program.PROGRAMS:
            warnings = tuple(intended_program.tables_without_effect(configuration, "receive"))
    else:
        configuration = configuration_without_files(Settings())
    document = configuration.settings.model_dump(mode="json", exclude_unset=True)
    for name, value in flags.items():
        *tables, key = _FLAGS[name]
        place = document
        for table in tables:
            place = place.setdefault(table, {})
        place[key] = os.path.abspath(str(value)) if name in _PATHS else value
    _imply_the_other_folder(document, flags)
    try:
        return configuration._replace(settings=Settings.model_validate(document), warnings=warnings)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False)[0]
        flag = next((name for name, path in _FLAGS.items() if path == error["loc"][: len(path)]), "")
        raise click.BadParameter(validation_sentence(error), param_hint=f"--{flag.replace('_', '-')}") from None


def _imply_the_other_folder(document: dict[str, Any], flags: Collection[str]) -> None:
    """The archive or the state directory that a flag names implies the other one: beside it, never in it."""
    archive, state = document.get("receiver", {}).get("archive"), document.get("relay", {}).get("state-directory")
    if "archive" in flags and state is None:
        document.setdefault("relay", {})["state-directory"] = archive + _STATE_ENDING
    elif "state" in flags and archive is None:
        folder, name = os.path.split(state)
        beside = name.removesuffix(_STATE_ENDING)
        implied = beside if beside not in {"", name} else f"{name}.archive"
        document.setdefault("receiver", {})["archive"] = os.path.join(folder, implied)
