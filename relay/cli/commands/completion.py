"""`relay completion`: the script with which a shell completes relay's commands and options, as click makes it.

The script asks relay itself (`_RELAY_COMPLETE=bash_complete relay`), so it stays right when commands are added.
"""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> None:
    """Print the script that completes commands and options in a shell.

    For bash: `relay completion bash > /etc/bash_completion.d/relay`. For zsh: the file `_relay` in a folder of $fpath.
    For fish: `~/.config/fish/completions/relay.fish`.
    """
    completion_class = get_completion_class(shell)
    if completion_class is not None:
        click.echo(completion_class(context.find_root().command, {}, "relay", "_RELAY_COMPLETE").source())
