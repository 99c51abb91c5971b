"""Mistakes and warnings in the settings of `relay run` on this machine."""

from collections.abc import Iterator

from relay.config.check.files import Finding
from relay.config.check.receiver import tls_mistakes
from relay.config.check.servers import server_mistakes, server_warnings
from relay.config.check.sources import (
    followed_beside_auditd,
    followed_twice,
    missing_logs,
    source_mistakes,
    unreadable_older_files,
)
from relay.config.configuration import Configuration
from relay.errors import ConfigurationError
from relay.system.programs.command import check_command
from relay.values.configuration.source_settings import SyslogSource


def router_mistakes(configuration: Configuration) -> Iterator[Finding]:
    """What keeps `relay run` from working as configured."""
    settings = configuration.settings
    for index, source in enumerate(settings.source):
        yield from source_mistakes(("source", index), source)
        if isinstance(source, SyslogSource) and source.tls is not None:
            yield from tls_mistakes(("source", index, "tls"), source.tls)
    yield from server_mistakes(settings, settings.port_forwarding)
    try:
        check_command(settings.audit.halt_command)
    except ConfigurationError as error:
        yield ("audit", "halt-command"), f"{error.cause}; {error.remedy}"
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
    yield from server_warnings(settings)


def _nothing_to_forward(configuration: Configuration) -> Iterator[Finding]:
    """A mistake, unless port-forwardings for other programs are enough for `relay run`."""
    if not configuration.settings.source and not configuration.settings.remote_logging_server:
        files = " and ".join(configuration.others or configuration.files)
        yield (), f"nothing to forward: no source and no server in {files}"
