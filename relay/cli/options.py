"""The options that several commands share.

`-c FILE`, `-v`, `--router` and `--node` are accepted before and after the command's name, and `-c` may be repeated on
both sides: the files are read in the order in which they are given. Without it the file is `$RELAY_CONFIG`, else
/etc/relay/relay.toml. Each `-v` makes relay's own log one step more detailed.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import click

from relay.config.router.router_choice import RouterChoice

DEFAULT_CONFIG: Final = "/etc/relay/relay.toml"

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(slots=True)
class Options:
    """The values of the shared options; the context's object, filled while the command line is read."""

    given_config_paths: tuple[str, ...] = ()
    verbosity: int = 0
    router: str = ""
    """Which router is meant, where a router's own configuration text has several; empty: it has one."""
    node: str = ""
    paths: dict[str, str] = field(default_factory=dict)
    """Options that name another folder or file than the configuration does, for example `--state`, each with its
    absolute path. A command in a remedy needs them as well (`relay.cli.printed_commands`)."""

    @property
    def choice(self) -> RouterChoice:
        """Which router and node of a router's configuration text are meant."""
        return RouterChoice(self.router, self.node)

    @property
    def named_config_paths(self) -> tuple[str, ...]:
        """The configuration files that the caller names; empty: the default one is meant."""
        named = os.environ.get("RELAY_CONFIG")
        return self.given_config_paths or ((named,) if named else ())

    @property
    def config_paths(self) -> tuple[str, ...]:
        """The configuration files, at least one."""
        return self.named_config_paths or (DEFAULT_CONFIG,)


def options(context: click.Context) -> Options:
    """Return the shared options of this command line."""
    found = context.find_object(Options)
    if found is None:
        found = context.obj = Options()
    return found


def _set(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value:
        setattr(options(context), str(parameter.name), value)


def _add(context: click.Context, parameter: click.Parameter, value: tuple[str, ...] | int) -> None:
    given, name = options(context), str(parameter.name)
    setattr(given, name, getattr(given, name) + value)


_verbose_option: Final = click.option(
    "-v",
    "--verbose",
    "verbosity",
    count=True,
    expose_value=False,
    callback=_add,
    help="Log sessions and proofs too; repeat it to find a fault.",
)


def config_option(command: _Command) -> _Command:
    """Give a command or group `-c`, `-v`, `--router` and `--node`; `options` returns their values."""
    router = click.option(
        "--router",
        metavar="NAME",
        expose_value=False,
        callback=_set,
        help="Use this router of a router's own configuration text that has several.",
    )
    node = click.option(
        "--node",
        metavar="NAME",
        expose_value=False,
        callback=_set,
        help="Use this node of the router, where it has several.",
    )
    return files_option(router(node(command)))


def files_option(command: _Command) -> _Command:
    """Give a command that has a --router of its own `-c` and `-v` alone."""
    config = click.option(
        "-c",
        "--config",
        "given_config_paths",
        multiple=True,
        metavar="FILE",
        type=click.Path(readable=False),  # for completion by shells; its reader reports why it cannot be read
        expose_value=False,
        callback=_add,
        help="Read this configuration file; later files complete and override earlier ones.  "
        f"[default: $RELAY_CONFIG, else {DEFAULT_CONFIG}]",
    )
    return config(_verbose_option(command))


def repeatable_option(
    option: str,
    name: str,
    metavar: str,
    text: str,
    **attributes: Any,  # noqa: ANN401  click's own
) -> Callable[[_Command], _Command]:
    """An option that can be given several times; its values are the tuple `name`."""
    return click.option(option, name, multiple=True, metavar=metavar, help=f"{text}; repeatable.", **attributes)


def usual_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the context to a command, and give it `--json` (as `as_json`) and the options of `config_option`."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
    return as_json(config_option(click.pass_context(command)))
