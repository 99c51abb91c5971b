"""The options that every command shares, accepted before and after the command's name.

`-c FILE` may be repeated, on both sides; files are read in the order in which they stand. Without it the file is
`$RELAY_CONFIG`, else /etc/relay/relay.toml. Each `-v` makes relay's own log one step more talkative.
`--router` and `--node` say which of several is meant in a router's own configuration text.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from relay.config.router.router_choice import RouterChoice

DEFAULT_CONFIG: Final = "/etc/relay/relay.toml"

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


@dataclass(slots=True)
class Options:
    """What the shared options say; the context's object, filled while the command line is read."""

    given_config_paths: tuple[str, ...] = ()
    verbosity: int = 0
    router: str = ""
    node: str = ""
    places: dict[str, str] = field(default_factory=dict)
    """Options that name another folder or file than the configuration does, as `--state`, each with its whole path:
    what a printed command needs as well (`relay.cli.as_typed`)."""

    @property
    def choice(self) -> "RouterChoice":
        """Which router and node of a router's configuration text are meant."""
        from relay.config.router.router_choice import RouterChoice

        return RouterChoice(self.router, self.node)

    @property
    def named_config_paths(self) -> tuple[str, ...]:
        """The configuration files that the caller names; none: it is the default one."""
        named = os.environ.get("RELAY_CONFIG")
        return self.given_config_paths or ((named,) if named else ())

    @property
    def config_paths(self) -> tuple[str, ...]:
        """The configuration files, never none."""
        return self.named_config_paths or (DEFAULT_CONFIG,)


def config_option(command: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Give a command or group all shared options; what they say stands in `ctx.obj`, an `Options`."""
    router = click.option(
        "--router",
        metavar="NAME",
        expose_value=False,
        callback=_set_router,
        help="Which router is meant, where a router's own configuration text has several.",
    )
    node = click.option(
        "--node",
        metavar="NAME",
        expose_value=False,
        callback=_set_node,
        help="Which node of it is meant, where it has several.",
    )
    return files_option(router(node(command)))


def files_option(command: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Give a command that has a --router of its own `-c/--config` and `-v/--verbose` alone."""
    config = click.option(
        "-c",
        "--config",
        multiple=True,
        metavar="FILE",
        type=click.Path(readable=False),  # shells complete it; whether it can be read, who reads it tells
        expose_value=False,
        callback=_add_config,
        help="Read this configuration file; later ones complete and override earlier ones.  "
        f"[default: $RELAY_CONFIG, else {DEFAULT_CONFIG}]",
    )
    verbose = click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        callback=_add_verbosity,
        help="Log sessions and proofs too; repeat to find a fault.",
    )
    return config(verbose(command))


def options(context: click.Context) -> Options:
    """Return the shared options of this command line."""
    found = context.find_object(Options)
    if found is None:
        found = context.obj = Options()
    return found


def _add_config(context: click.Context, _parameter: click.Parameter, paths: tuple[str, ...]) -> None:
    options(context).given_config_paths += paths


def _add_verbosity(context: click.Context, _parameter: click.Parameter, count: int) -> None:
    options(context).verbosity += count


def _set_router(context: click.Context, _parameter: click.Parameter, name: str | None) -> None:
    options(context).router = name or options(context).router


def _set_node(context: click.Context, _parameter: click.Parameter, name: str | None) -> None:
    options(context).node = name or options(context).node
