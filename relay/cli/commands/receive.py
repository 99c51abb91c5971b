"""`relay receive`: the log server's side."""

import asyncio
import gc
import os
from collections.abc import Collection
from typing import Any, Final

import click
from pydantic import ValidationError

from relay.cli.commands.run import drain_options
from relay.cli.options import Options, config_option, options
from relay.cli.output import log_warnings
from relay.config.check.listeners import warn_of_open_listeners
from relay.config.check.modes import require_strict_configuration
from relay.config.configuration import Configuration, configuration_without_files, read_configuration
from relay.config.intended_program import PROGRAMS, intended_programs, require_program, tables_without_effect
from relay.config.mistake import located
from relay.config.validation_sentence import validation_sentence
from relay.errors import ConfigurationError
from relay.system import operational_log
from relay.system.programs.child_rights import keep_rights
from relay.values.configuration.settings import Settings

DEFAULT_ARCHIVE: Final = "/var/log/relay"
DEFAULT_STATE: Final = "/var/lib/relay"
_STATE_SUFFIX: Final = ".state"
_KEYS: Final = {
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
"""Flag → the key that it sets."""
_PATHS: Final = frozenset({"state", "archive", "host_key", "authorized_keys", "certificate", "private_key", "ca"})


@click.command()
@click.option(
    "--listen",
    multiple=True,
    metavar="URL",
    help="Accept syslog here (tcp://, udp://, unix:///, unix-datagram:///); repeatable.  "
    "[default: tcp://127.0.0.1:9999]",
)
@click.option(
    "--archive",
    metavar="DIR",
    help="Keep the messages here, in a folder for each originator.  "
    f"[default: DIR of --state DIR.state, DIR.archive of --state DIR; without --state {DEFAULT_ARCHIVE}]",
)
@click.option(
    "--state",
    metavar="DIR",
    help=f"Keep the spool here.  [default: DIR.state of --archive DIR; without --archive {DEFAULT_STATE}]",
)
@click.option("--ssh-listen", metavar="HOST:PORT", help="Run an SSH server for the senders' port forwarding here.")
@click.option("--host-key", metavar="FILE", help="The SSH server's private key.")
@click.option("--authorized-keys", metavar="FILE", help="The public keys that are allowed to forward to the listeners.")
@click.option("--tls-listen", metavar="HOST:PORT", help="Accept syslog by TLS here (RFC 5425).")
@click.option("--certificate", metavar="FILE", help="The certificate that TLS clients verify, in PEM.")
@click.option("--private-key", metavar="FILE", help="The certificate's private key, in PEM.")
@click.option("--ca", metavar="FILE", help="Accept TLS clients only with a certificate signed by one of these CAs.")
@drain_options
@config_option
@click.pass_context
def receive(context: click.Context, /, *, drain: bool, timeout: float | None, **flags: str | tuple[str, ...]) -> None:
    """Run the log server's side: listen, and archive each event once.

    Flags alone are enough; a flag overrides the configuration. When a flag names only the archive or only the state
    directory, and the configuration does not name the other one, that one is beside it: DIR and DIR.state.
    """
    # --help, completion and remedies that name this command need not wait half a second for these.
    from relay.program import receiver  # noqa: PLC0415
    from relay.program.reload.loaded_configuration import LoadedConfiguration, load, load_checked  # noqa: PLC0415

    given, flags_given = options(context), {name: value for name, value in flags.items() if value}
    configuration = _with_flags(given, flags_given)
    require_strict_configuration(configuration, "receive")
    if flags["state"] or flags["archive"]:
        given.paths["--state"] = configuration.settings.relay.state_directory
    operational_log.configure(given.verbosity)
    log_warnings(configuration.warnings)
    warn_of_open_listeners(configuration.settings, "receive")
    gc.freeze()
    keep_rights()
    if drain:
        with located(configuration.locate):
            asyncio.run(receiver.drain(configuration.settings, timeout))
        return

    def read_again() -> LoadedConfiguration:
        try:
            configuration = _with_flags(given, flags_given)
        except click.UsageError as error:
            raise ConfigurationError("command line", (error.format_message(),)) from None
        require_strict_configuration(configuration, "receive")
        return load_checked(configuration, "receive")

    with located(configuration.locate):
        asyncio.run(receiver.receive(load(configuration), read_again))


def _with_flags(given: Options, flags: dict[str, str | tuple[str, ...]]) -> Configuration:
    """The configuration with the flags over it; its warnings name tables without effect. Flags alone need no file."""
    if given.named_config_paths or not flags:
        configuration = read_configuration(given.config_paths, given.choice)
        if not flags:
            require_program(configuration, "receive")
        is_for_both = intended_programs(configuration) == PROGRAMS
        warnings = () if is_for_both else tuple(tables_without_effect(configuration, "receive"))
    else:
        configuration, warnings = configuration_without_files(Settings()), ()
    document = configuration.settings.model_dump(mode="json", exclude_unset=True)
    for name, value in flags.items():
        *tables, key = _KEYS[name]
        table = document
        for table_name in tables:
            table = table.setdefault(table_name, {})
        table[key] = os.path.abspath(str(value)) if name in _PATHS else value
    imply_the_other_folder(document, flags)
    try:
        return configuration._replace(settings=Settings.model_validate(document), warnings=warnings)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False)[0]
        flag = next((name for name, path in _KEYS.items() if path == error["loc"][: len(path)]), "")
        raise click.BadParameter(validation_sentence(error), param_hint=f"--{flag.replace('_', '-')}") from None


def imply_the_other_folder(document: dict[str, Any], flags: Collection[str]) -> None:
    """Put the archive or the state directory that no flag and no file names beside the one that a flag names."""
    archive, state = document.get("receiver", {}).get("archive"), document.get("relay", {}).get("state-directory")
    if "archive" in flags and state is None:
        document.setdefault("relay", {})["state-directory"] = archive + _STATE_SUFFIX
    elif "state" in flags and archive is None:
        folder, name = os.path.split(state)
        stem = name.removesuffix(_STATE_SUFFIX)
        archive = stem if stem not in {"", name} else f"{name}.archive"
        document.setdefault("receiver", {})["archive"] = os.path.join(folder, archive)
