"""Mistakes and warnings in the settings of `relay run` on this machine."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from relay.config.check.audit_sources import (
    followed_beside_auditd,
    followed_twice,
    missing_logs,
    unreadable_older_files,
)
from relay.config.check.files import AS_RELAY, Finding, tls_key, unreadable, unusable_key
from relay.config.configuration import Configuration
from relay.config.key_path import KeyPath
from relay.errors import ConfigurationError, RelayError
from relay.system.command import check_command
from relay.transport.ssh.known_hosts import KnownHosts
from relay.transport.tls.client import tls_client
from relay.values.address import Address
from relay.values.settings import AuditLogSource, EventCollectorSource, PortForwarding, SourceTable


def router_mistakes(configuration: Configuration) -> Iterator[Finding]:
    """What keeps `relay run` from working as configured."""
    settings = configuration.settings
    for index, source in enumerate(settings.source):
        yield from _source_mistakes(("source", index), source)
    for index, forwarding in enumerate(settings.port_forwarding):
        yield from _forwarding_mistakes(("port-forwarding", index), forwarding)
    for index, server in enumerate(settings.remote_logging_server):
        try:
            if server.transport == "tls":
                tls_client(server)
        except RelayError as error:
            yield ("remote-logging-server", index, tls_key(error, server.ca, server.private_key)), str(error)
    try:
        check_command(settings.audit.halt_command)
    except ConfigurationError as error:
        yield ("audit", "halt-command"), error.cause
    yield from followed_twice(settings)
    if settings.source and not settings.remote_logging_server:
        yield ("source",), "there is no [[remote-logging-server]] to deliver its events to; add one"
    if settings.remote_logging_server and not settings.source:
        yield ("remote-logging-server",), "there is no [[source]] whose events relay could deliver to it; add one"
    if not settings.port_forwarding:
        yield from _nothing_to_forward(configuration)


def router_warnings(configuration: Configuration) -> Iterator[Finding]:
    """What may be intended, and may be wrong."""
    settings = configuration.settings
    if settings.port_forwarding and configuration.others:
        yield from _nothing_to_forward(configuration)
    yield from missing_logs(settings)
    yield from unreadable_older_files(settings)
    yield from followed_beside_auditd(settings)
    for index, server in enumerate(settings.remote_logging_server):
        if settings.forwarding_of(server) is None and server.transport != "tls":
            cause = "no [[port-forwarding]] has this address and port as its local-address and local-port"
            sentence = f"{cause}; relay sends to it directly, by {server.transport} without encryption"
            yield ("remote-logging-server", index), sentence
    for index, forwarding in enumerate(settings.port_forwarding):
        with contextlib.suppress(RelayError):  # reported as a mistake
            for mistake in KnownHosts.read(forwarding.known_hosts).mistakes:  # other lines hold all the same
                yield ("port-forwarding", index, "known-hosts"), mistake


def _nothing_to_forward(configuration: Configuration) -> Iterator[Finding]:
    """A mistake, unless port-forwardings for other programs are enough for `relay run`."""
    if not configuration.settings.source and not configuration.settings.remote_logging_server:
        files = " and ".join(configuration.others or configuration.files)
        yield (), f"nothing to forward: no source and no server in {files}"


def _source_mistakes(path: KeyPath, source: SourceTable) -> Iterator[Finding]:
    """A log that cannot be read; a program that cannot run, and an index file that cannot be written."""
    if isinstance(source, AuditLogSource) and (sentence := unreadable(source.path, can_be_missing=True)):
        yield (*path, "path"), sentence
    if not isinstance(source, EventCollectorSource):
        return
    program, index = source.command[0], source.index
    folder = os.path.dirname(index)
    if not Path(program).exists():
        yield (*path, "command"), f"{program} does not exist"
    elif not os.access(program, os.X_OK):
        yield (*path, "command"), f"this user is not allowed to run {program}; {AS_RELAY}"
    if os.path.exists(index):
        if not os.access(index, os.R_OK | os.W_OK):
            yield (*path, "index-file"), f"this user is not allowed to read and write {index}; {AS_RELAY}"
    elif os.path.exists(folder) and not os.access(folder, os.W_OK | os.X_OK):
        yield (*path, "index-file"), f"this user is not allowed to create {index} in its folder; {AS_RELAY}"


def _forwarding_mistakes(path: KeyPath, forwarding: PortForwarding) -> Iterator[Finding]:
    """A private key that cannot be used, and a server whose host key is not known."""
    if sentence := unusable_key(forwarding.private_key, forwarding.algorithms):
        yield (*path, "private-key"), sentence
    server = Address(forwarding.server_address, forwarding.server_port)
    if sentence := unreadable(forwarding.known_hosts):
        exists = os.path.lexists(forwarding.known_hosts)
        yield (*path, "known-hosts"), sentence if exists else f"{sentence}; `relay key trust {server}` creates it"
        return
    known = KnownHosts.read(forwarding.known_hosts)
    if not known.pinned(server.host, server.port):
        cause = f"{known.path} has no host key for {server}{known.why_unpinned(server.host, server.port)}"
        remedy = f"relay sends nothing to an unknown server; run `relay key trust {server}`"
        yield (*path, "known-hosts"), f"{cause}; {remedy}"
