"""`relay run`: sources → spool → servers, put together from the settings."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterable

from relay.audit.mapping import AuditFormat, AuditMapping
from relay.control import LivePart, LiveSource
from relay.delivery.to_server import ToServer
from relay.delivery.wanted import Wanted
from relay.errors import ConfigurationError, RelayError, TemporaryError
from relay.event import EventType
from relay.housekeeping import author_of, care_of
from relay.intake import Routing
from relay.own_events import Author
from relay.quantity import Address
from relay.road import Road, Way, stopping_event, until_stopped
from relay.service_manager import serving
from relay.settings import (
    AuditDispatcherSource,
    AuditdRemoteSource,
    AuditLogSource,
    Category,
    EventCollectorSource,
    PortForwarding,
    QuietCategory,
    RemoteLoggingServer,
    Settings,
    SourceTable,
)
from relay.source import Source, Taker
from relay.source.audit_dispatcher import AuditDispatcher
from relay.source.audit_log import AuditLog, Log
from relay.source.auditd_remote import AuditdRemote
from relay.source.event_collector import EventCollector, Program
from relay.source.kernel_lost import KernelLost
from relay.spool.block import type_bitmap
from relay.spool.cursor import Cursor
from relay.spool.store import Store
from relay.spool.succession import ServerKey
from relay.ssr.filters import Filter
from relay.ssr.mapping import Defaults, SsrMapping
from relay.syslog.priority import FACILITIES, SEVERITIES, priorities
from relay.transport.port_forward import PortForward
from relay.watch import kernel_audit
from relay.watch.halt import boot_id, check_command

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


def wanted_by(server: RemoteLoggingServer) -> Wanted:
    """What a server gets: what its keys choose, and relay's own events always."""
    types = {EventType.from_label(label) for label in server.types} | {EventType.RELAY}
    return Wanted(type_bitmap(sorted(types)), priorities(server.facilities, server.severity))


def start_of(server: RemoteLoggingServer, store: Store) -> Cursor:
    """Where a server without a cursor begins."""
    if server.start == "now":
        return Cursor(retained=store.retained.next_number, transient=store.transient.next_number)
    return Cursor()


def sources_of(settings: Settings) -> list[Source]:
    """The configured sources."""
    author = author_of(settings)
    return [_source(table, author, settings.audit.audit_format) for table in settings.source]


def _source(table: SourceTable, author: Author, audit_format: AuditFormat) -> Source:
    match table:
        case AuditLogSource():
            mapping = AuditMapping(**author._asdict(), format=audit_format)
            return AuditLog(table.name, Log(path=table.path, start=table.start), mapping, author)
        case AuditDispatcherSource():
            mapping = AuditMapping(**author._asdict(), format=audit_format)
            return AuditDispatcher(table.name, table.plugin, table.origin, mapping)
        case AuditdRemoteSource():
            mapping = AuditMapping(**author._asdict(), format=audit_format)
            return AuditdRemote(table.name, table.listen, mapping)
        case EventCollectorSource():
            return EventCollector(
                table.name,
                Program(table.command, table.environment, table.index),
                SsrMapping(**author._asdict(), defaults=_defaults(table), tags=table.tags),
                Filter(
                    tagpass=table.tagpass,
                    tagdrop=table.tagdrop,
                    fieldpass=table.fieldpass,
                    fielddrop=table.fielddrop,
                ),
            )


def _defaults(table: EventCollectorSource) -> Defaults:
    facility, severity = FACILITIES.index(table.facility), SEVERITIES.index(table.severity)
    return Defaults(facility, severity, table.app_name.encode())


def kernel_lost(settings: Settings) -> KernelLost | None:
    """The watch on what the kernel drops, where a source has this machine's audit trail."""
    if care_of(settings).fed_by_auditd:
        status = kernel_audit.StandingStatus()
        return KernelLost(author_of(settings), boot_id(), lambda: status.read().lost)
    return None


def live_kernel_lost(watch: KernelLost) -> LivePart:
    """What the watch on the kernel tells at this moment."""
    return LivePart(name=watch.name, error=watch.last_error, counters={"lost": watch.lost})


def live_source(source: Source) -> LiveSource:
    """What `relay status` tells of a source while it runs."""
    return LiveSource(
        name=source.name,
        lag=source.lag,
        open_events=source.open_events,
        malformed=source.malformed,
        lost_places=source.lost_places,
        error=source.last_error,
    )


def ways(settings: Settings) -> list[tuple[RemoteLoggingServer, PortForwarding | None]]:
    """Each server with the port forwarding that leads to it, if one does.

    Keys and certificates are read when a server is connected to: what is wrong with them stops that server alone.
    """
    found = [(server, settings.forwarding_of(server)) for server in settings.remote_logging_server]
    if bool(found) != bool(settings.source) or not (found or settings.port_forwarding):
        missing = "source" if found else "remote-logging-server"
        raise ConfigurationError("configuration", (f"it names no {missing}, so nothing can be forwarded",), SAMPLE)
    return found


def _way(server: RemoteLoggingServer, forwarding: PortForwarding | None, store: Store) -> Way:
    wanted = wanted_by(server)
    connect = ToServer(server, forwarding, wanted)
    start, key = start_of(server, store), server_key(server, forwarding)
    return Way(server.display_name, connect, wanted, start, server.required, key, connect.files)


def server_key(server: RemoteLoggingServer, forwarding: PortForwarding | None) -> ServerKey:
    """To what a cursor belongs: the protocol, and the SSH server with the remote end, or the address that is used."""
    ends = [(server.address, server.port)]
    if forwarding is not None:
        remote = (forwarding.remote_host, forwarding.remote_port)
        ends = [(forwarding.server_address, forwarding.server_port), remote]
    return " ".join([server.protocol, *(str(Address(host.lower(), port)) for host, port in ends)])


def live_part(port: PortForward) -> LivePart:
    """What a port forwarding tells at this moment."""
    name = f"port-forwarding {port.name}"
    return LivePart(
        name=name, state=port.state, error=str(port.error or ""), counters={"connections": port.connections}
    )


def fault_of(port: PortForward) -> tuple[str, RelayError | None]:
    """What keeps a port forwarding closed at this moment."""
    return f"port-forwarding {port.name}", port.error


@contextlib.asynccontextmanager
async def local_ports(road: Road, forwardings: Iterable[PortForwarding]) -> AsyncIterator[None]:
    """Let other programs use these forwardings, by their local ports, while the block runs."""
    ports = [PortForward(forwarding) for forwarding in forwardings]
    road.parts += [functools.partial(live_part, port) for port in ports]
    road.faults += [functools.partial(fault_of, port) for port in ports]
    for port in ports:
        port.start()
    try:
        yield
    finally:
        await asyncio.gather(*(asyncio.to_thread(port.stop) for port in ports))


async def forward(settings: Settings, *, drain: bool = False, patience: float | None = None) -> None:
    """Forward until SIGTERM or SIGINT; with `drain`, until everything that is there now is proven.

    TemporaryError when a drain is stopped before that, or takes longer than `patience` seconds.
    """
    stopping = stopping_event()
    servers = ways(settings)
    check_command(settings.audit.halt_command)
    sources = sources_of(settings)
    lent = () if drain else settings.port_forwarding  # what other programs have to send is not there "now"
    async with (
        Road.open(settings.relay.state_directory, settings.spool, routing(settings), care_of(settings)) as road,
        local_ports(road, lent),
    ):
        await road.deliver([_way(server, forwarding, road.store) for server, forwarding in servers])
        road.sources += [functools.partial(live_source, source) for source in sources]
        takers: list[Taker] = [*sources]
        if watch := kernel_lost(settings):
            road.parts.append(functools.partial(live_kernel_lost, watch))
            takers.append(watch)
        with serving():
            await until_stopped(_take_in(road, takers, drain=drain, patience=patience), stopping, drain=drain)


async def _take_in(road: Road, sources: list[Taker], *, drain: bool, patience: float | None) -> None:
    loop = asyncio.get_running_loop()
    until = None if patience is None else loop.time() + patience
    try:
        async with asyncio.timeout_at(until), asyncio.TaskGroup() as group:
            hopeless = group.create_task(road.until_hopeless()) if drain else None
            reading = []
            for source in sources:
                position = road.store.position(source.name)
                reading.append(group.create_task(source.run(road.submit_of(source.name), position, drain=drain)))
            if hopeless is not None:
                if reading:
                    await asyncio.wait(reading)
                hopeless.cancel()
    except TimeoutError:
        raise TemporaryError("drain", f"the sources were not read to their end within {patience:g} s") from None
    if drain:
        await road.drained(None if until is None else max(until - loop.time(), 0))
