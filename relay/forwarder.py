"""`relay run`: sources → spool → servers, put together from the settings."""

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Iterable

from relay.audit.mapping import AuditMapping
from relay.control import LivePart, LiveSource
from relay.delivery.session import Session
from relay.delivery.syslog_stream import SyslogStream
from relay.errors import ConfigurationError, TemporaryError
from relay.event import EventType
from relay.housekeeping import author_of, care_of
from relay.intake import Routing
from relay.road import Road, stopping_event
from relay.settings import Category, PortForwarding, QuietCategory, RemoteLoggingServer, Settings
from relay.source.audit_log import AuditLog
from relay.spool.block import type_bitmap
from relay.spool.cursor import Cursor
from relay.spool.store import Store
from relay.transport import private_key
from relay.transport.host_key import KnownHosts
from relay.transport.port_forward import PortForward
from relay.transport.ssh import SshSession
from relay.watch.halt import check_command

SAMPLE = "deploy/relay.toml shows what belongs there"
IMPLICIT = frozenset({EventType.ALARM, EventType.PROVISIONING, EventType.AUDIT, EventType.LOG, EventType.RELAY})
"""Types that no configuration disables; all persist on a router."""


def routing(settings: Settings) -> Routing:
    """Which spool takes which type, as [audit] says."""
    categories: dict[EventType, Category | QuietCategory] = {
        EventType.ADMIN: settings.audit.administration,
        EventType.SECURITY: settings.audit.security,
        EventType.SYSTEM: settings.audit.system,
        EventType.TRAFFIC: settings.audit.traffic,
    }
    enabled = {kind: category for kind, category in categories.items() if category.enabled}
    retained = frozenset(kind for kind, category in enabled.items() if category.persist)
    return Routing(retained | IMPLICIT, frozenset(enabled) - retained)


def types_of(server: RemoteLoggingServer) -> frozenset[EventType]:
    """The types that a server gets: what it names, and relay's own events always."""
    return frozenset(EventType.from_label(label) for label in server.types) | {EventType.RELAY}


def connect(server: RemoteLoggingServer, forwarding: PortForwarding, stopped: threading.Event) -> Session:
    """A session with a server through its port forwarding's SSH session; proves by draining."""
    transport = SshSession.connect(forwarding, stopped)
    try:
        return SyslogStream(
            transport,
            wanted=type_bitmap(sorted(types_of(server))),
            max_message_size=server.max_message_size,
            octet_counting=server.framing == "octet-counting",
        )
    except BaseException:
        transport.close()
        raise


def start_of(server: RemoteLoggingServer, store: Store) -> Cursor:
    """Where a server without a cursor begins."""
    if server.start == "now":
        return Cursor(retained=store.retained.next_number, transient=store.transient.next_number)
    return Cursor()


def audit_logs(settings: Settings) -> list[AuditLog]:
    """The configured audit-log sources."""
    author = author_of(settings)
    mapping = AuditMapping(**author._asdict(), format=settings.audit.audit_format)
    return [AuditLog(source.name, source.path, source.start, mapping) for source in settings.source]


def live_source(source: AuditLog) -> LiveSource:
    """What `relay status` tells of a source while it runs."""
    return LiveSource(
        name=source.name,
        lag=source.lag,
        open_events=source.open_events,
        malformed=source.malformed,
        lost_places=source.lost_places,
        error=source.last_error,
    )


def ways(settings: Settings) -> list[tuple[RemoteLoggingServer, PortForwarding]]:
    """Each server with the port forwarding that leads to it; an error at once for what no retry can mend."""
    found = []
    for server in settings.remote_logging_server:
        forwarding = settings.forwarding_of(server)
        if forwarding is None:
            cause = "no port-forwarding has this local-address and local-port, and this version has no other way"
            raise ConfigurationError(f"remote-logging-server {server.display_name}", (cause,), "add a port-forwarding")
        private_key.load(forwarding.private_key, forwarding.algorithms)
        KnownHosts.read(forwarding.known_hosts)
        found.append((server, forwarding))
    if bool(found) != bool(settings.source) or not (found or settings.port_forwarding):
        missing = "source" if found else "remote-logging-server"
        raise ConfigurationError("configuration", (f"it names no {missing}, so nothing can be forwarded",), SAMPLE)
    return found


def live_part(port: PortForward) -> LivePart:
    """What a port forwarding tells at this moment."""
    name = f"port-forwarding {port.name}"
    return LivePart(
        name=name, state=port.state, error=str(port.error or ""), counters={"connections": port.connections}
    )


@contextlib.asynccontextmanager
async def local_ports(road: Road, forwardings: Iterable[PortForwarding]) -> AsyncIterator[None]:
    """Let other programs use these forwardings, by their local ports, while the block runs."""
    ports = [PortForward(forwarding) for forwarding in forwardings]
    road.parts += [functools.partial(live_part, port) for port in ports]
    for port in ports:
        port.start()
    try:
        yield
    finally:
        await asyncio.gather(*(asyncio.to_thread(port.stop) for port in ports))


async def forward(settings: Settings, *, drain: bool = False, patience: float | None = None) -> None:
    """Forward until SIGTERM or SIGINT; with `drain`, until everything that is there now is proven.

    TemporaryError when a drain takes longer than `patience` seconds.
    """
    stopping = stopping_event()
    servers = ways(settings)
    check_command(settings.audit.halt_command)
    sources = audit_logs(settings)
    lent = () if drain else settings.port_forwarding  # what other programs have to send is not there "now"
    async with (
        Road.open(settings.relay.state_directory, settings.spool, routing(settings), care_of(settings)) as road,
        local_ports(road, lent),
    ):
        for server, forwarding in servers:
            road.deliver(
                server.display_name,
                functools.partial(connect, server, forwarding),
                types=types_of(server),
                start=start_of(server, road.store),
            )
        road.sources += [functools.partial(live_source, source) for source in sources]
        work = asyncio.create_task(_take_in(road, sources, drain=drain, patience=patience))
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
        finally:
            for task in (work, stop):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


async def _take_in(road: Road, sources: list[AuditLog], *, drain: bool, patience: float | None) -> None:
    loop = asyncio.get_running_loop()
    until = None if patience is None else loop.time() + patience
    try:
        async with asyncio.timeout_at(until), asyncio.TaskGroup() as group:
            for source in sources:
                position = road.store.position(source.name)
                group.create_task(source.run(road.intake.submit, position, drain=drain))
    except TimeoutError:
        raise TemporaryError("drain", f"the sources were not read to their end within {patience:g} s") from None
    if drain:
        await road.drained(None if until is None else max(until - loop.time(), 0))
