"""A group that imports the module of a command when the command is used; its own help needs their summaries alone.

Unlike click's own group it prints each summary whole, also where it is longer than a line.
"""

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem
from typing_extensions import override


class LazyCommand(NamedTuple):
    """Where a command is defined, and what the help of its group says about it."""

    target: str
    """MODULE:NAME, as in an entry point."""
    summary: str
    """The first paragraph of the command's own help, without its full stop."""

    def load(self) -> click.Command:
        """Import the module; AttributeError or ImportError when the target is wrong."""
        module, _, name = self.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


class LazyGroup(click.Group):
    """See the head of this file; `lazy` has the commands by name, in the order in which help lists them."""

    def __init__(self, *arguments: Any, lazy: Mapping[str, LazyCommand], **attributes: Any) -> None:  # noqa: ANN401  click's own
        super().__init__(*arguments, **attributes)
        self.lazy = lazy

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self.lazy[cmd_name].load() if cmd_name in self.lazy else None

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; the error for an unknown name has the nearest one (click compares only loaded commands)."""
        if args[0] not in self.lazy and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = "".join(f". Did you mean '{name}'?" for name in get_close_matches(args[0], self.lazy, 1))
            ctx.fail(f"No such command '{args[0]}'{near}")
        return super().resolve_command(ctx, args)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in self.lazy.items()])

    @override
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [(name, lazy.summary) for name, lazy in self.lazy.items() if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=summary) for name, summary in names), *options]
