"""Port-forwardings whose SSH session cannot be opened, or whose known_hosts file has lines that relay ignores."""

import contextlib
import os
from collections.abc import Iterator

from relay.config.check.files import Finding, unreadable, unusable_key
from relay.config.key_path import KeyPath
from relay.errors import RelayError
from relay.transport.ssh.forwarding.local_socket import ids_of
from relay.transport.ssh.known_hosts import KnownHosts
from relay.values.address import Address
from relay.values.configuration.settings import PortForwarding


def forwarding_mistakes(path: KeyPath, forwarding: PortForwarding) -> Iterator[Finding]:
    """A private key that cannot be used, users that do not exist, and a server whose host key is not known."""
    if sentence := unusable_key(forwarding.private_key, forwarding.algorithms):
        yield (*path, "private-key"), sentence
    try:
        ids_of(forwarding.local_users)
    except RelayError as error:
        yield (*path, "local-users"), f"{error.cause}; {error.remedy}"
    server = Address(forwarding.server_address, forwarding.server_port)
    if sentence := unreadable(forwarding.known_hosts):
        exists = os.path.lexists(forwarding.known_hosts)
        yield (*path, "known-hosts"), sentence if exists else f"{sentence}; `relay key trust {server}` creates it"
        return
    try:
        known = KnownHosts.read(forwarding.known_hosts)
    except RelayError as error:
        yield (*path, "known-hosts"), f"{error.cause}; {error.remedy}"
        return
    if not known.pinned(server.host, server.port):
        cause = f"{known.path} has no host key for {server}{known.why_unpinned(server.host, server.port)}"
        remedy = f"relay sends nothing to an unknown server; run `relay key trust {server}`"
        yield (*path, "known-hosts"), f"{cause}; {remedy}"


def forwarding_warnings(path: KeyPath, forwarding: PortForwarding) -> Iterator[Finding]:
    """Lines of known_hosts that cannot be read; the other lines are valid all the same."""
    with contextlib.suppress(RelayError):  # reported as a mistake
        for mistake in KnownHosts.read(forwarding.known_hosts).mistakes:
            yield (*path, "known-hosts"), mistake
