"""How a destination is delivered to, and the routes to the configured servers.

`relay run` and `relay receive` have servers: a receiver hands on what it accepted. They differ in what the `types` of a
server mean, because the spool of a receiver has no types of its own.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC
from typing import NamedTuple

from relay.archive.filing.bound_names import BoundNames
from relay.archive.filing.configured_terms import filing_terms
from relay.delivery.message_selection import EVERYTHING, MessageSelection
from relay.delivery.received_filter import ReceivedFilter
from relay.delivery.sessions.delivery_session import DeliverySession
from relay.spool.block import type_bitmap
from relay.spool.cursor import Cursor
from relay.spool.store import Store
from relay.spool.succession import ServerKey
from relay.syslog.priority import priorities
from relay.transport.retry import LONGEST
from relay.values.address import Address
from relay.values.configuration.settings import PortForwarding, RemoteLoggingServer, Settings
from relay.values.event import EventType

_OWN = 1 << EventType.RELAY


class Route(NamedTuple):
    """How a destination is delivered to."""

    name: str
    connect: Callable[[threading.Event], DeliverySession]
    selection: MessageSelection
    start: Cursor
    """Where it begins without a stored cursor."""
    required: bool = True
    """Whether events that it has not proven are kept when space is needed."""
    server: ServerKey = ""
    """Its protocol and final address, which its cursor belongs to."""
    files: Sequence[str] = ()
    """The keys and certificates that `connect` reads."""
    counted_types: int | None = None
    """The types of which events before its beginning are counted as lost for it, a bitmap; None: all that it gets."""
    longest_pause: float = LONGEST
    """Seconds between two attempts, at most."""


def selection_of(server: RemoteLoggingServer) -> MessageSelection:
    """The messages that a server gets: those that its keys choose, and relay's own events always."""
    types = {EventType.from_label(label) for label in server.types} | {EventType.RELAY}
    return MessageSelection(type_bitmap(sorted(types)), priorities(server.facilities, server.severity))


def received_selection_of(server: RemoteLoggingServer, names: BoundNames) -> MessageSelection:
    """The same of what a receiver accepted, which has these names bound."""
    types = [EventType.from_label(label) for label in server.types]
    chosen = ReceivedFilter.of(types, priorities(server.facilities, server.severity), server.originators, names)
    return EVERYTHING._replace(received=chosen)


def server_key(server: RemoteLoggingServer, forwarding: PortForwarding | None) -> ServerKey:
    """The owner of a cursor: the protocol, and the SSH server with the remote end, or the address that is used."""
    ends = [(server.address, server.port)]
    if forwarding is not None:
        remote = (forwarding.remote_host, forwarding.remote_port)
        ends = [(forwarding.server_address, forwarding.server_port), remote]
    return " ".join([server.protocol, *(str(Address(host.lower(), port)) for host, port in ends)])


def routes_to_servers(settings: Settings, store: Store, *, received: bool = False) -> Iterator[Route]:
    """The route to each server; `received`: of what a receiver hands on.

    Keys and certificates are read when a server is connected to, so that a fault in them stops that server alone.
    """
    names = BoundNames(filing_terms(settings.receiver, UTC).bindings)
    for server in settings.handed_on if received else settings.remote_logging_server:
        from relay.delivery.sessions.server_connector import ServerConnector  # noqa: PLC0415  paramiko: 10 MB

        forwarding = settings.forwarding_of(server)
        selection = received_selection_of(server, names) if received else selection_of(server)
        connect = ServerConnector(server, forwarding, selection)
        start = Cursor()
        if server.start == "now":
            start = Cursor(retained=store.retained.next_number, transient=store.transient.next_number)
        key = server_key(server, forwarding)
        # What was archived before a receiver got this server is not lost; of its own events the numbers must be whole.
        counted = _OWN if received else None
        yield Route(server.display_name, connect, selection, start, server.required, key, connect.files, counted)
