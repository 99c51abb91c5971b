"""Every command with its summary, in groups.

A module is imported when its command is used, so that `relay --help`, `relay --version` and completion stay fast.
"""

import gc
from collections.abc import Mapping
from typing import Final

import click
from typing_extensions import override

from relay.cli.lazy_group import LazyGroup
from relay.cli.options import config_option

LASTING: Final = frozenset({"run", "receive", "dispatch"})
"""Commands that run until they are stopped."""
_GC_THRESHOLD: Final = 50_000


def _group(name: str, text: str, lazy: Mapping[str, str]) -> LazyGroup:
    """A group whose commands are in the module of its name; `text` is its help."""
    return config_option(LazyGroup(name, module=f"relay.cli.commands.{name}", lazy=lazy, help=text))


spool_group = _group(
    "spool",
    "Inspect the spool: its segments, its integrity, its messages. Nothing is changed.",
    {
        "show": "Show each segment, and how far each destination's cursor has come.",
        "verify": "Check every block and the hash chain, name the first breaks, and exit with 65 if there are any.",
        "cat": "Print the messages of a spool, in order, up to its present end.",
    },
)
archive_group = _group(
    "archive",
    "Inspect the archive of `relay receive`. Nothing is changed.",
    {
        "verify": "Check every octet, number, gap and file; exit with 65 when something is missing, altered or "
        "duplicate.",
        "export": "Write whole days of an archive, with their ledgers, into one tar file for an auditor or another "
        "machine.",
    },
)
config_group = _group(
    "config",
    "Validate the configuration, print the settings in effect, or import a router's own configuration.",
    {
        "check": "Validate the configuration and the files that it names.",
        "show": "Print the settings that are in effect, defaults included, as TOML.",
        "import": "Print a router's configuration text, or a Monitoring Agent's folder, as TOML.",
    },
)
key_group = _group(
    "key",
    "Make relay's key pair, or pin a server's host key.",
    {
        "generate": "Make a key pair, and print the line that the server's authorized_keys needs.",
        "trust": "Fetch a server's host keys, show them, and pin those that are confirmed.",
    },
)


class _Root(LazyGroup):
    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in LASTING:  # before its imports, which take a while
            from relay.system import signals  # noqa: PLC0415  it imports asyncio, 25 ms that other commands do not need

            signals.hold()
            # Events are many short-lived tuples without cycles: a search for cycles every 700 of them costs 15 % of the
            # CPU time, and the searches during the imports a tenth of the start's.
            gc.set_threshold(_GC_THRESHOLD, 20, 20)
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    module="relay.cli.commands.COMMAND",
    lazy={
        "run": "Forward events from the sources to the servers until it is stopped.",
        "receive": "Run the log server's side: listen, and archive each event once.",
        "test-connection": "Test the route to each server step by step: SSH, port forwarding, a message, its proof.",
        "reload": "Have the running relay read its configuration again, and wait until it has.",
        "status": "Show what the spool holds, what each source has read, and what each destination has proven.",
        "fleet": "Show the originators of an archive: when they were last heard, and what relays report of themselves.",
        "events": "Show the event history of the spool or of an archive, in the order of arrival.",
        "spool": spool_group,
        "archive": archive_group,
        "config": config_group,
        "key": key_group,
        "dispatch": "Hand the events that auditd's dispatcher writes over to a running relay.",
        "completion": "Print the script that completes commands and options in a shell.",
    },
)
@click.version_option(package_name="relay-syslog", prog_name="relay")
@config_option
def root() -> None:
    """Deliver a router's audit trail to the log server over SSH, and prove the delivery."""
