"""The state directory and the archive that a command reads: the command line's, else the configuration's."""

import contextlib
import os
import tomllib
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Final

import click

from relay.archive.filing.bound_names import BoundNames
from relay.archive.filing.configured_terms import filing_terms
from relay.cli.options import options
from relay.errors import NoInputError
from relay.system.time_zone import zone_of
from relay.values.did_you_mean import did_you_mean

if TYPE_CHECKING:
    from relay.values.configuration.receiver_settings import ReceiverSettings

state_option: Final = click.option(
    "--state",
    metavar="DIR",
    type=click.Path(readable=False),
    help="Use this state directory.  [default: the configuration's, whose own default is /var/lib/relay]",
)


def state_directory(context: click.Context, state: str | None) -> str:
    """The option's directory, else the configuration's."""
    if state:
        return existing_folder(context, "--state", state)
    from relay.config.configuration import read_settings  # noqa: PLC0415  100 ms, which a named folder does not need

    return read_settings(options(context).config_paths, options(context).choice).relay.state_directory


def archive_folder(context: click.Context, named: str | None) -> str:
    """The absolute path of the archive: the one that is named, else [receiver] archive of the configuration."""
    if named:
        return existing(named, "name another folder")
    settings = receiver_settings(context)
    return existing(settings.archive, "name the archive's folder, or its configuration with -c")


def receiver_settings(context: click.Context) -> "ReceiverSettings":
    """The [receiver] table of the configuration."""
    from relay.config.configuration import read_settings  # noqa: PLC0415  100 ms, which a named folder does not need

    return read_settings(options(context).config_paths, options(context).choice).receiver


def bound_names(context: click.Context, named: str | None) -> BoundNames:
    """The originators' names that the configuration binds; for an archive that is named, only if -c names it too."""
    if named is not None and not options(context).given_config_paths:
        return BoundNames()
    return BoundNames(filing_terms(receiver_settings(context), UTC).bindings)


def receiver_zone(context: click.Context) -> tzinfo:
    """The zone of time stamps without one: the configuration's [receiver] zone, else this machine's.

    The files are not checked as a configuration, which would take 100 ms; one that is not TOML has no such key.
    """
    name: object = "local"
    for path in options(context).config_paths:
        with contextlib.suppress(OSError, ValueError), open(path, "rb") as file:
            table = tomllib.load(file).get("receiver")
            name = table.get("zone", name) if isinstance(table, dict) else name
    return zone_of(name if isinstance(name, str) else "local", "receiver.zone")


def existing_folder(context: click.Context, option: str, folder: str) -> str:
    """The absolute path of the folder that an option names; commands in remedies will name it too."""
    options(context).paths[option] = existing(folder, f"name another with {option}")
    return options(context).paths[option]


def existing(folder: str, remedy: str) -> str:
    """The absolute path of a folder; NoInputError with the nearest name, else the remedy, when it does not exist."""
    path = os.path.abspath(folder)
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        nearest = ""
        with contextlib.suppress(OSError):  # the folder above cannot be listed
            nearest = did_you_mean(path, [entry.path for entry in os.scandir(os.path.dirname(path)) if entry.is_dir()])
        raise NoInputError(path, "there is no such folder", nearest or remedy) from None
    except OSError:  # reading the folder will report the cause
        pass
    return path
