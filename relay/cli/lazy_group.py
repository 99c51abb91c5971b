"""A group that imports a command's module when the command is used; its own help needs their summaries alone.

Unlike click's own group it prints each summary whole, also where it is longer than a line.
"""

import importlib
import keyword
from collections.abc import Iterable, Mapping
from typing import Any, Final

import click
from click.shell_completion import CompletionItem
from typing_extensions import override

from relay.values.did_you_mean import did_you_mean

_NO_LIMIT: Final = 1000
"""Longer than any summary."""


class LazyGroup(click.Group):
    """A group whose commands are imported from `module`.

    COMMAND in the name of the module is replaced by the command's name, for commands with their own modules. `lazy` has
    the commands in the order in which help lists them: each with its summary, which is the first sentence of its own
    help, or, for a group within this group, with that group.
    """

    def __init__(self, *args: Any, module: str, lazy: Mapping[str, str | click.Group], **attributes: Any) -> None:  # noqa: ANN401  click's own
        super().__init__(*args, **attributes)
        self._module = module
        self._lazy = lazy

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = self._lazy.get(cmd_name)
        if found is None or isinstance(found, click.Group):
            return found
        name = cmd_name.replace("-", "_")
        module = importlib.import_module(self._module.replace("COMMAND", name))
        command: click.Command = getattr(module, f"{name}_" if keyword.iskeyword(name) else name)
        return command

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self._lazy and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = did_you_mean(args[0], self._lazy)
            ctx.fail(f'there is no command "{args[0]}"{near and f"; {near}"}')
        return super().resolve_command(ctx, args)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries().items()))

    @override
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=text) for name, text in self.summaries().items() if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def find(self, words: Iterable[str]) -> click.Command | None:
        """The command that begins with these words; None for an unknown command."""
        command: click.Command | None = self
        for word in words:
            if not isinstance(command, click.Group):
                break
            command = command.get_command(click.Context(command), word)
        return command

    def summaries(self) -> dict[str, str]:
        """The summary of each command."""
        return {
            name: found if isinstance(found, str) else found.get_short_help_str(_NO_LIMIT)
            for name, found in self._lazy.items()
        }
