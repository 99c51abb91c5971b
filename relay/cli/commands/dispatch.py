"""`relay dispatch`: what auditd starts as its plugin. It has no --json: no person and no program reads what it says."""

import click

SOCKET = "/run/relay/audit"


@click.command()
@click.argument("socket", default=SOCKET, type=click.Path(readable=False))
def dispatch(*, socket: str) -> None:
    """Hand over to a running relay what auditd gives to its plugins.

    auditd starts this (deploy/relay-auditd-plugin.conf). SOCKET is that of the source of type audit-dispatcher; by
    default /run/relay/audit. What relay has not made durable is kept and sent again.
    """
    from relay.program.dispatch import DispatcherPlugin

    DispatcherPlugin(socket).run()
