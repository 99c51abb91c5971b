"""`relay run`: sources → spool → servers, put together from the settings."""

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import cast

from relay.delivery.message_selection import MessageSelection
from relay.delivery.sessions.server_connector import ServerConnector
from relay.errors import ConfigurationError, RelayError, TemporaryError
from relay.program.control import LivePart, LiveSource
from relay.program.housekeeping import author_of, care_of
from relay.program.intake import Routing
from relay.program.reload.loaded import Loaded
from relay.program.reload.plan import Contents, PartChanges, PartsByName, ReloadPlan, SourcePart, parts_of_run, plan
from relay.program.reload.reloads import Reloads, log_ready, refuse_fixed
from relay.program.reload.running_sources import RunningSources
from relay.program.road import Road, Route, until_drained
from relay.program.watch import kernel_audit
from relay.program.watch.halt import boot_id
from relay.source import EventInput, Source, SourceTerms
from relay.source.auditd.kernel_lost import NAME as KERNEL_AUDIT
from relay.source.auditd.kernel_lost import KernelLost
from relay.source.registry import source_of
from relay.spool.block import type_bitmap
from relay.spool.cursor import Cursor
from relay.spool.store import Store
from relay.spool.succession import ServerKey
from relay.syslog.priority import priorities
from relay.system.command import check_command
from relay.system.service_manager import serving
from relay.system.signals import Signals
from relay.transport.ssh.port_forward import PortForward
from relay.values.address import Address
from relay.values.event import ALWAYS_RETAINED, OPTIONAL_TYPES, EventType
from relay.values.settings import PortForwarding, RemoteLoggingServer, Settings

SAMPLE = "deploy/relay.toml shows what belongs there"


def routing(settings: Settings) -> Routing:
    """Which spool takes which type, as [audit] says."""
    enabled = frozenset(kind for kind in OPTIONAL_TYPES if settings.audit.category(kind).enabled)
    persistent = frozenset(kind for kind in enabled if settings.audit.category(kind).persist)
    return Routing(ALWAYS_RETAINED | persistent, enabled - persistent)


def wanted_by(server: RemoteLoggingServer) -> MessageSelection:
    """What a server gets: what its keys choose, and relay's own events always."""
    types = {EventType.from_label(label) for label in server.types} | {EventType.RELAY}
    return MessageSelection(type_bitmap(sorted(types)), priorities(server.facilities, server.severity))


def start_of(server: RemoteLoggingServer, store: Store) -> Cursor:
    """Where a server without a cursor begins."""
    if server.start == "now":
        return Cursor(retained=store.retained.next_number, transient=store.transient.next_number)
    return Cursor()


def sources_of(settings: Settings) -> list[Source]:
    """The configured sources."""
    terms = SourceTerms(author_of(settings), settings.audit.audit_format)
    return [source_of(table, terms) for table in settings.source]


def kernel_lost(settings: Settings) -> KernelLost | None:
    """The watch on what the kernel drops, where a source has this machine's audit trail."""
    if care_of(settings).fed_by_auditd:
        status = kernel_audit.StandingStatus()
        return KernelLost(author_of(settings), boot_id(), lambda: status.read().lost)
    return None


def live_kernel_lost(watch: KernelLost) -> LivePart:
    """What the watch on the kernel tells at this moment."""
    return LivePart(name=watch.name, error=watch.last_error, counters={"lost": watch.lost})


def live_source(source: Source, error: str) -> LiveSource:
    """What `relay status` shows of a source while it runs; `error` is why it could not begin."""
    return LiveSource(
        name=source.name,
        lag=source.lag,
        open_events=source.open_events,
        malformed=source.malformed,
        lost_places=source.lost_places,
        error=error or source.last_error,
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


def check(settings: Settings) -> None:
    """Raise at once what no retry can repair."""
    ways(settings)
    check_command(settings.audit.halt_command)


def _ways(settings: Settings, store: Store) -> list[Route]:
    return [_way(server, forwarding, store) for server, forwarding in ways(settings)]


def _way(server: RemoteLoggingServer, forwarding: PortForwarding | None, store: Store) -> Route:
    wanted = wanted_by(server)
    connect = ServerConnector(server, forwarding, wanted)
    start, key = start_of(server, store), server_key(server, forwarding)
    return Route(server.display_name, connect, wanted, start, server.required, key, connect.files)


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


def _parts(settings: Settings, contents: Contents) -> PartsByName:
    """What is to run, with the watch on the kernel among the sources."""
    parts = parts_of_run(settings, contents)
    if not care_of(settings).fed_by_auditd:
        return parts
    return parts._replace(sources={**parts.sources, KERNEL_AUDIT: author_of(settings)})


def _takers(settings: Settings) -> list[EventInput]:
    watch = kernel_lost(settings)
    return [*sources_of(settings), *([watch] if watch is not None else [])]


class Forwarder:
    """Sources, servers and local ports of one road. They are begun by `begin`, and what changed is exchanged."""

    def __init__(self, road: Road) -> None:
        self._road = road
        self._parts = PartsByName()
        """What runs now; a kind whose exchange failed lacks what did not come to run."""
        self._ports: dict[str, PortForward] = {}
        self.sources = RunningSources(road)

    async def begin(self, settings: Settings, contents: Contents) -> None:
        """Begin with everything that the settings name. The road is open with them."""
        self._parts = _parts(settings, contents)
        await self._road.deliver(_ways(settings, self._road.store))
        self._begin_ports(settings.port_forwarding)
        for source in _takers(settings):
            self.sources.begin(source)
        self._show(settings)

    async def prepare(self, new: Loaded) -> ReloadPlan:
        """See `reloads.Running`."""
        what = plan(self._parts, _parts(new.settings, new.contents))
        refuse_fixed(what, self._parts, new)
        check(new.settings)
        return what

    async def exchange(self, new: Loaded, what: ReloadPlan) -> tuple[str, ...]:
        """See `reloads.Running`. A source that still ends is answered."""
        settings, wanted = new.settings, _parts(new.settings, new.contents)
        # First what needs no end: it may make the room that a source waits for. Then servers, which free room as well.
        await self._road.exchange(settings.spool, routing(settings), care_of(settings))
        self._parts = self._parts._replace(policies=wanted.policies)
        await self._exchange_servers(settings, what.servers, wanted.servers)
        await self._exchange_ports(settings, what.port_forwardings, wanted.port_forwardings)
        later = await self._exchange_sources(settings, what.sources, wanted.sources)
        self._show(settings)
        return later

    async def _exchange_servers(self, settings: Settings, changes: PartChanges, wanted: Mapping[str, object]) -> None:
        if changes.exchanged or changes.begun or changes.ended:
            self._parts = self._parts._replace(servers={name: wanted[name] for name in changes.kept})
            await self._road.deliver(_ways(settings, self._road.store), kept=changes.kept)
            self._parts = self._parts._replace(servers=wanted)

    async def _exchange_ports(self, settings: Settings, changes: PartChanges, wanted: Mapping[str, object]) -> None:
        await self._end_ports((*changes.exchanged, *changes.ended))
        begun = {*changes.exchanged, *changes.begun}
        self._begin_ports(each for each in settings.port_forwarding if str(each.local) in begun)
        self._parts = self._parts._replace(port_forwardings=wanted)

    def _begin_ports(self, forwardings: Iterable[PortForwarding]) -> None:
        """Let other programs use these forwardings, by their local ports."""
        for forwarding in forwardings:
            port = self._ports[str(forwarding.local)] = PortForward(forwarding)
            port.start()

    async def _end_ports(self, names: Iterable[str]) -> None:
        ports = [self._ports.pop(name) for name in names if name in self._ports]
        await asyncio.gather(*(asyncio.to_thread(port.stop) for port in ports))

    async def _exchange_sources(
        self, settings: Settings, changes: PartChanges, wanted: Mapping[str, object]
    ) -> tuple[str, ...]:
        """Exchange them; returns a sentence for each that is still ending."""
        begun = {*changes.exchanged, *changes.begun}
        successors: dict[str, EventInput | None] = dict.fromkeys(changes.ended)
        for source in _takers(settings):
            if source.name in begun and not self._is_adopted(source, wanted[source.name]):
                successors[source.name] = source
        self._parts = self._parts._replace(sources=wanted)
        done = await asyncio.gather(*(self.sources.exchange(*each) for each in successors.items()))
        ending = (name for name, is_over in zip(successors, done, strict=True) if not is_over)
        return tuple(f"source {name} ends only when what it gave is stored" for name in ending)

    def _is_adopted(self, successor: EventInput, wanted: object) -> bool:
        """Whether a source that runs goes on as its successor would."""
        running, known = self.sources.source(successor.name), self._parts.sources.get(successor.name)
        if not isinstance(known, SourcePart) or not isinstance(wanted, SourcePart) or known.watched != wanted.watched:
            return False
        return running is not None and cast("Source", running).adopt(cast("Source", successor))

    def _show(self, settings: Settings) -> None:
        """Have the status name what runs now."""
        self._road.sources[:] = [functools.partial(self._live_source, source.name) for source in settings.source]
        ports = [functools.partial(live_part, port) for port in self._ports.values()]
        watch = self.sources.source(KERNEL_AUDIT)
        kernel = [functools.partial(live_kernel_lost, watch)] if isinstance(watch, KernelLost) else []
        self._road.parts[:] = [*ports, *kernel]
        self._road.faults[:] = [functools.partial(fault_of, port) for port in self._ports.values()]

    def _live_source(self, name: str) -> LiveSource:
        source = self.sources.source(name)
        if source is None:  # its predecessor ends
            return LiveSource(name=name, lag=-1)
        return live_source(cast("Source", source), self.sources.error(name))

    async def end(self) -> None:
        """End everything but the delivery, which ends with the road."""
        await self.sources.stop()
        await self._end_ports(tuple(self._ports))


def _summary(settings: Settings) -> str:
    """Return a line about what runs."""
    named = {
        "sources": [f"{source.name} ({source.origin})" for source in settings.source],
        "servers": [server.display_name for server in settings.remote_logging_server],
        "port-forwardings": [str(each.local) for each in settings.port_forwarding],
    }
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in named.items() if names)


def _open(settings: Settings) -> AbstractAsyncContextManager[Road]:
    return Road.open(settings.relay.state_directory, settings.spool, routing(settings), care_of(settings))


async def forward(start: Loaded, read_again: Callable[[], Loaded]) -> None:
    """Forward until SIGTERM or SIGINT; SIGHUP or a request on the control socket exchanges what changed."""
    settings = start.settings
    with Signals() as signals:
        check(settings)
        async with _open(settings) as road:
            forwarder = Forwarder(road)
            try:
                await forwarder.begin(settings, start.contents)
                reloads = Reloads(road, read_again, forwarder)
                with serving():
                    log_ready("run", start, _summary(settings))
                    await reloads.serve(signals, forwarder.sources.failed)
            finally:
                await forwarder.end()


async def drain(settings: Settings, patience: float | None) -> None:
    """Forward until everything that is there now is proven. What other programs have to send is not there "now".

    TemporaryError when it is stopped before that, or takes longer than `patience` seconds.
    """
    with Signals() as signals:
        check(settings)
        async with _open(settings) as road:
            await road.deliver(_ways(settings, road.store))
            sources, watch = sources_of(settings), kernel_lost(settings)
            road.sources += [functools.partial(live_source, source, "") for source in sources]
            with serving():
                await until_drained(_drain(road, [*sources, *([watch] if watch else [])], patience), signals)


async def _drain(road: Road, sources: list[EventInput], patience: float | None) -> None:
    loop = asyncio.get_running_loop()
    until = None if patience is None else loop.time() + patience
    try:
        async with asyncio.timeout_at(until), asyncio.TaskGroup() as group:
            hopeless = group.create_task(road.until_hopeless())
            reading = []
            for source in sources:
                position = road.store.position(source.name)
                task = source.run(road.submit_of(source.name), position, drain=True)
                reading.append(group.create_task(task))
            if reading:
                await asyncio.wait(reading)
            hopeless.cancel()
    except TimeoutError:
        raise TemporaryError("drain", f"the sources were not read to their end within {patience:g} s") from None
    await road.drained(None if until is None else max(until - loop.time(), 0))
