"""`relay dispatch`: what auditd starts as its plugin. It has no --json, because nobody reads its output."""

import click

from relay.program.dispatch import DispatcherPlugin

SOCKET = "/run/relay/audit"


@click.command()
@click.argument("socket", default=SOCKET, type=click.Path(readable=False))
def dispatch(*, socket: str) -> None:
    """Hand the events that auditd's dispatcher writes over to a running relay.

    auditd starts this command (deploy/relay-auditd-plugin.conf). SOCKET is the socket of the source of type
    audit-dispatcher; by default /run/relay/audit. Events that relay has not made durable are kept and sent again.
    """
    DispatcherPlugin(socket).run()
