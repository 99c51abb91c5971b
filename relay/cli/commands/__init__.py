"""Every command with its module and its summary, and the groups that hold them.

A module is imported when its command is used, so that `relay --help`, `relay --version` and completion stay fast.
"""

import gc
from typing import Final

import click
from typing_extensions import override

from relay.cli.lazy_group import LazyCommand, LazyGroup
from relay.cli.options import config_option
from relay.system import signals

LASTING: Final = frozenset({"run", "receive", "dispatch"})
"""Commands that run until they are stopped."""
_GC_THRESHOLD: Final = 50_000


class _Root(LazyGroup):
    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As usual. A lasting command first decides about signals and garbage, because its imports take a while."""
        if args[0] in LASTING:
            signals.hold()
            # Events are many short-lived tuples without cycles: a search for cycles every 700 of them costs 15 % of the
            # CPU time, and a search during the imports a tenth of a start's.
            gc.set_threshold(_GC_THRESHOLD, 20, 20)
        return super().resolve_command(ctx, args)


@click.group(
    "relay",
    cls=_Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    lazy={
        "run": LazyCommand("relay.cli.commands.run:run", "Forward until told to stop: sources, spool, servers"),
        "receive": LazyCommand(
            "relay.cli.commands.receive:receive", "Be a remote logging server: listen, and archive each event once"
        ),
        "test-connection": LazyCommand(
            "relay.cli.commands.test_connection:test_connection",
            "Try the way to each server, step by step: SSH, forward, a test message, its proof",
        ),
        "reload": LazyCommand(
            "relay.cli.commands.reload:reload",
            "Have the relay that runs read its configuration again, and wait until it has",
        ),
        "status": LazyCommand(
            "relay.cli.commands.status:status",
            "Show what the spool holds, how far each destination is proven, and how far each source has come",
        ),
        "events": LazyCommand(
            "relay.cli.commands.events:events",
            "Show the event history: of the spool, or of an archive; in the order of arrival, the oldest first",
        ),
        "spool": LazyCommand(
            "relay.cli.commands:spool_group", "Look into the spool: its segments, its wholeness, its messages"
        ),
        "archive": LazyCommand("relay.cli.commands:archive_group", "Look into the archive of `relay receive`"),
        "config": LazyCommand(
            "relay.cli.commands:config_group", "Validate the configuration, print what holds, or import a router's own"
        ),
        "key": LazyCommand("relay.cli.commands:key_group", "Make relay's key pair, or pin a server's host key"),
        "dispatch": LazyCommand(
            "relay.cli.commands.dispatch:dispatch", "Hand over to a running relay what auditd gives to its plugins"
        ),
        "completion": LazyCommand(
            "relay.cli.commands.completion:completion",
            "Print the script that completes commands and options in a shell",
        ),
    },
)
@click.version_option(package_name="relay-syslog", prog_name="relay")
@config_option
def root() -> None:
    """Get a router's audit trail to the log server over SSH, and prove it."""


@click.group(
    "spool",
    cls=LazyGroup,
    lazy={
        "show": LazyCommand(
            "relay.cli.commands.spool:show", "Show each segment, and where each destination's cursor stands"
        ),
        "verify": LazyCommand(
            "relay.cli.commands.spool:verify",
            "Check every block and the hash chain; 65 and the first break's place when something is wrong",
        ),
        "cat": LazyCommand("relay.cli.commands.spool:cat", "Print the spool's messages, in order, to the present end"),
    },
)
@config_option
def spool_group() -> None:
    """Look into the spool: its segments, its wholeness, its messages. Nothing is changed."""


@click.group(
    "archive",
    cls=LazyGroup,
    lazy={
        "verify": LazyCommand(
            "relay.cli.commands.archive:verify",
            "Check each originator's numbers, gaps and files; 65 when something is missing, damaged or double",
        ),
    },
)
@config_option
def archive_group() -> None:
    """Look into the archive of `relay receive`. Nothing is changed."""


@click.group(
    "config",
    cls=LazyGroup,
    lazy={
        "check": LazyCommand(
            "relay.cli.commands.config:check", "Validate the configuration and the files that it names"
        ),
        "show": LazyCommand(
            "relay.cli.commands.config:show", "Print the settings that hold, defaults included, as TOML"
        ),
        "import": LazyCommand(
            "relay.cli.commands.config:import_",
            "Print a router's configuration text, or a Monitoring Agent's folder, as TOML",
        ),
    },
)
@config_option
def config_group() -> None:
    """Validate the configuration, print what holds, or import a router's own."""


@click.group(
    "key",
    cls=LazyGroup,
    lazy={
        "generate": LazyCommand(
            "relay.cli.commands.key:generate",
            "Make a key pair, and print the line that the server's authorized_keys needs",
        ),
        "trust": LazyCommand(
            "relay.cli.commands.key:trust", "Fetch a server's host keys, show them, and pin what is confirmed"
        ),
    },
)
@config_option
def key_group() -> None:
    """Make relay's key pair, or pin a server's host key."""
