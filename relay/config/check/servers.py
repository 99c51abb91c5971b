"""Mistakes and warnings in the settings of servers and of the port-forwardings to them, on this machine."""

from collections.abc import Collection, Iterator

from relay.config.check.files import Finding, tls_key
from relay.config.check.forwardings import forwarding_mistakes, forwarding_warnings
from relay.errors import RelayError
from relay.transport.tls.client import tls_client
from relay.values.configuration.settings import PortForwarding, Settings


def server_mistakes(settings: Settings, forwardings: Collection[PortForwarding]) -> Iterator[Finding]:
    """What keeps relay from connecting to the servers, through those of its `forwardings` that are used."""
    for index, forwarding in enumerate(settings.port_forwarding):
        if forwarding in forwardings:
            yield from forwarding_mistakes(("port-forwarding", index), forwarding)
    for index, server in enumerate(settings.remote_logging_server):
        try:
            if server.transport == "tls":
                tls_client(server)
        except RelayError as error:
            yield ("remote-logging-server", index, tls_key(error, server.ca, server.private_key)), str(error)


def server_warnings(settings: Settings) -> Iterator[Finding]:
    """A server without encryption, and lines of known_hosts that cannot be read."""
    for index, server in enumerate(settings.remote_logging_server):
        if settings.forwarding_of(server) is None and server.transport != "tls":
            cause = "no [[port-forwarding]] has this address and port as its local-address and local-port"
            sentence = f"{cause}; relay sends to it directly, by {server.transport} without encryption"
            yield ("remote-logging-server", index), sentence
    for index, forwarding in enumerate(settings.port_forwarding):
        yield from forwarding_warnings(("port-forwarding", index), forwarding)
