"""A group of commands whose help wraps each summary, where click's own cuts it at the line's end."""

import click

_WHOLE = 1000
"""Longer than any summary."""


class Group(click.Group):
    """As click's."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with its whole summary."""
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [(name, command.get_short_help_str(_WHOLE)) for name, command in found if command and not command.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
