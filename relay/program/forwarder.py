"""`relay run`: sources → spool → servers, put together from the settings."""

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from typing_extensions import override

from relay.delivery.route import routes_to_servers
from relay.errors import ConfigurationError, RelayError, TemporaryError
from relay.program.alarms import listener_losses
from relay.program.housekeeping import ALARMS_SLOT, Watches, author_of, policy_of
from relay.program.metrics.metrics_endpoint import MetricsEndpoint
from relay.program.reload.loaded_configuration import LoadedConfiguration
from relay.program.reload.reload_plan import (
    Digests,
    PartChanges,
    PartsByName,
    ReloadPlan,
    SourcePart,
    compare,
    parts_of_run,
)
from relay.program.reload.reloader import Reloader, RunningParts, log_ready, refuse_fixed
from relay.program.reload.running_sources import RunningSources
from relay.program.road import Road, RoadTerms, until_drained
from relay.program.status.live import LivePart, LiveSource
from relay.program.watch.alarm_command import AlarmCommand, check_alarm_command
from relay.program.watch.all_users import AllUsers
from relay.program.watch.audit_trail.audit_trail_watch import AuditTrailWatch
from relay.program.watch.audit_trail.machine import ThisMachine
from relay.program.watch.certificate_watch import CertificateWatch, of_servers, of_sources
from relay.program.watch.halt_request import HaltMethod, HaltRequest, boot_id
from relay.source import EventInput, Source, SourceTerms
from relay.source.auditd.kernel_lost import NAME as KERNEL_AUDIT
from relay.source.auditd.kernel_lost import KernelLost
from relay.source.registry import source_of
from relay.source.syslog_receiver import SyslogReceiver
from relay.spool.commit import Routing
from relay.spool.store import Store
from relay.system.clock import read_clocks
from relay.system.descriptors import raise_descriptor_limit
from relay.system.disk import Disk
from relay.system.programs.command import check_command
from relay.system.service_manager import serving
from relay.system.signals import Signals
from relay.transport.ssh.forwarding.port_forward import PortForward
from relay.values.alarm import AUDITD_DOWN, Alarms
from relay.values.configuration.settings import PortForwarding, Settings
from relay.values.event import ALWAYS_RETAINED, OPTIONAL_TYPES

SAMPLE = "deploy/relay.toml shows what belongs there"


# --- The meaning of the settings ---


def routing(settings: Settings) -> Routing:
    """Which spool keeps which type, by [audit]."""
    enabled = frozenset(each for each in OPTIONAL_TYPES if settings.audit.category(each).enabled)
    persistent = frozenset(each for each in enabled if settings.audit.category(each).persist)
    return Routing(ALWAYS_RETAINED | persistent, enabled - persistent)


def check(settings: Settings) -> None:
    """ConfigurationError for faults that no retry can repair."""
    servers, sources = settings.remote_logging_server, settings.source
    if bool(servers) != bool(sources) or not (servers or settings.port_forwarding):
        missing = "source" if servers else "remote-logging-server"
        raise ConfigurationError("configuration", (f"it has no {missing}, so nothing can be forwarded",), SAMPLE)
    check_command(settings.audit.halt_command)
    check_alarm_command(settings.relay)


def parts_to_run(settings: Settings, digests: Digests) -> PartsByName:
    """The parts of `relay run`, with the watch on the kernel's count of lost records among the sources."""
    parts = parts_of_run(settings, digests)
    if not settings.watched_sources:
        return parts
    return parts._replace(sources={**parts.sources, KERNEL_AUDIT: author_of(settings)})


# --- Parts built from the settings ---


def watches_of(settings: Settings, store: Store, former: Watches | None) -> Watches:
    """The watches of `relay run`; a watch that is still wanted is the former one."""
    users = former.users if former is not None else AllUsers(Disk())
    method = HaltMethod(command=settings.audit.halt_command, boot_id=boot_id())
    halt = former.halt if former is not None else None
    if halt is None or halt.method != method:
        halt = HaltRequest(Disk(), store.slots, method, users.send)
    fed = settings.watched_sources
    audit_trail = former.audit_trail if former is not None and fed else None
    if audit_trail is None and fed:
        is_down = Alarms.decode(store.slots.get(ALARMS_SLOT) or b"").get(AUDITD_DOWN) is not None
        audit_trail = AuditTrailWatch(ThisMachine(), read_clocks, records_missing=is_down)
    return Watches(
        users=users,
        certificates=CertificateWatch((*of_servers(settings.remote_logging_server), *of_sources(settings.source))),
        audit_trail=audit_trail,
        fed_by_auditd=fed,
        halt=halt,
        alarm_command=AlarmCommand.following(settings.relay, former.alarm_command if former is not None else None),
    )


def inputs_of(settings: Settings, writable: asyncio.Event | None = None) -> list[EventInput]:
    """The configured sources and, if one has this machine's audit trail, the watch on the kernel's count of losses."""
    author, machine = author_of(settings), ThisMachine()
    terms = SourceTerms(author, settings.audit.audit_format, writable)
    inputs: list[EventInput] = [source_of(table, terms) for table in settings.source]
    if settings.watched_sources:
        inputs.append(KernelLost(author, boot_id(), lambda: machine.kernel().lost))
    return inputs


def terms_of(settings: Settings) -> RoadTerms:
    """The terms of the road."""
    watches = functools.partial(watches_of, settings)
    return RoadTerms(settings.spool, routing(settings), policy_of(settings), watches)


# --- Status ---


def live_source(source: Source, error: str) -> LiveSource:
    """The state of a source for `relay status`; `error` is why it could not begin."""
    return LiveSource(
        name=source.name,
        lag=source.lag,
        open_events=source.open_events,
        malformed=source.malformed,
        lost_places=source.loss_count,
        error=error or source.last_error,
    )


# --- Running ---


class Forwarder(RunningParts):
    """Sources, servers and local ports of one road: `begin` begins them, `exchange` exchanges changed parts."""

    def __init__(self, road: Road) -> None:
        self._road = road
        self._parts = PartsByName()
        """The parts that run. A kind whose exchange failed lacks the parts that could not begin."""
        self._settings = Settings()
        self._ports: dict[str, PortForward] = {}
        self.sources = RunningSources(road)
        self._metrics = MetricsEndpoint(road)

    async def begin(self, settings: Settings, digests: Digests) -> None:
        """Begin with everything that the settings name. The road is open with them."""
        self._parts = parts_to_run(settings, digests)
        await self._road.deliver([*routes_to_servers(settings, self._road.store)])
        self._begin_ports(settings.port_forwarding)
        for source in inputs_of(settings, self._road.intake.writable):
            self.sources.begin(source)
        self._settings = settings
        self._road.live_sources, self._road.live_parts = self.live_sources, self.live_parts
        self._road.housekeeping.faults, self._road.housekeeping.losses = self.faults, self.losses
        await self._metrics.follow(settings.metrics)

    @override
    async def prepare(self, new: LoadedConfiguration) -> ReloadPlan:
        changes = compare(self._parts, parts_to_run(new.settings, new.digests))
        refuse_fixed(changes, self._parts, new)
        check(new.settings)
        await self._metrics.follow(new.settings.metrics)  # last: it is the one part that has begun when this returns
        return changes

    @override
    async def exchange(self, new: LoadedConfiguration, changes: ReloadPlan) -> tuple[str, ...]:
        """See `RunningParts`. A source that is still ending is named in the answer."""
        settings, wanted = new.settings, parts_to_run(new.settings, new.digests)
        # First the policies, which end nothing and may free space that a source waits for. Then servers, for the same
        # reason.
        await self._road.exchange(terms_of(settings))
        self._parts = self._parts._replace(policies=wanted.policies)
        servers, ports = changes.servers, changes.port_forwardings
        if servers.exchanged or servers.begun or servers.ended:
            self._parts = self._parts._replace(servers={name: wanted.servers[name] for name in servers.kept})
            await self._road.deliver([*routes_to_servers(settings, self._road.store)], kept=servers.kept)
            self._parts = self._parts._replace(servers=wanted.servers)
        await self._end_ports((*ports.exchanged, *ports.ended))
        begun = {*ports.exchanged, *ports.begun}
        self._begin_ports(each for each in settings.port_forwarding if each.listens_on in begun)
        self._parts = self._parts._replace(port_forwardings=wanted.port_forwardings)
        still_ending = await self._exchange_sources(settings, changes.sources, wanted.sources)
        self._settings = settings
        return still_ending

    def _begin_ports(self, forwardings: Iterable[PortForwarding]) -> None:
        """Let other programs use these forwardings, by their local ports or sockets, if they have any."""
        for forwarding in forwardings:
            if forwarding.listens_on:
                port = self._ports[forwarding.listens_on] = PortForward(forwarding)
                port.start()

    async def _end_ports(self, names: Iterable[str]) -> None:
        ports = [self._ports.pop(name) for name in names if name in self._ports]
        await asyncio.gather(*(asyncio.to_thread(port.stop) for port in ports))

    async def _exchange_sources(
        self, settings: Settings, changes: PartChanges, wanted: Mapping[str, object]
    ) -> tuple[str, ...]:
        begun = {*changes.exchanged, *changes.begun}
        successors: dict[str, EventInput | None] = dict.fromkeys(changes.ended)
        for source in inputs_of(settings, self._road.intake.writable):
            if source.name in begun and not self._adopts(source, wanted[source.name]):
                successors[source.name] = source
        self._parts = self._parts._replace(sources=wanted)
        done = await asyncio.gather(*(self.sources.exchange(*each) for each in successors.items()))
        ending = (name for name, is_over in zip(successors, done, strict=True) if not is_over)
        return tuple(f"source {name} ends when its last events are stored" for name in ending)

    def _adopts(self, successor: EventInput, wanted: object) -> bool:
        """Whether the running source continues with the successor's settings, so that nothing has to be exchanged."""
        running, known = self.sources.get(successor.name), self._parts.sources.get(successor.name)
        if not isinstance(known, SourcePart) or not isinstance(wanted, SourcePart) or known.watched != wanted.watched:
            return False
        return running is not None and cast("Source", running.source).adopt(cast("Source", successor))

    def live_sources(self) -> list[LiveSource]:
        """The state of each source; of one whose predecessor is still ending nothing is known."""
        live = []
        for table in self._settings.source:
            running = self.sources.get(table.name)
            if running is None:
                live.append(LiveSource(name=table.name, lag=-1))
            else:
                live.append(live_source(cast("Source", running.source), running.error))
        return live

    def live_parts(self) -> list[LivePart]:
        """The state of each port forwarding, and of the watch on the kernel's count."""
        live = [
            LivePart(
                name=f"port-forwarding {port.name}",
                state=port.state,
                error=str(port.error or ""),
                counters={"connections": port.connections},
            )
            for port in self._ports.values()
        ]
        for table in self._settings.source:
            running = self.sources.get(table.name)
            if running is not None and isinstance(source := running.source, SyslogReceiver):
                for name, counters in source.counters().items():
                    live.append(LivePart(name=f"source {table.name}: {name}", counters=dict(counters)))
        running = self.sources.get(KERNEL_AUDIT)
        if running is not None and isinstance(watch := running.source, KernelLost):
            live.append(LivePart(name=watch.name, error=watch.last_error, counters={"lost": watch.lost}))
        return live

    def losses(self) -> dict[str, int]:
        """What the listeners of the syslog sources counted since the start, by the alarm that reports it."""
        found: Counter[str] = Counter()
        for table in self._settings.source:
            running = self.sources.get(table.name)
            if running is not None and isinstance(source := running.source, SyslogReceiver):
                found.update(listener_losses(source.counters().get("listeners", {})))
        return found

    def faults(self) -> dict[str, RelayError | None]:
        """Why each port forwarding is closed."""
        return {f"port-forwarding {port.name}": port.error for port in tuple(self._ports.values())}

    async def end(self) -> None:
        """End everything except the delivery, which ends with the road."""
        await self._metrics.end()
        await self.sources.stop()
        await self._end_ports(tuple(self._ports))


async def forward(start: LoadedConfiguration, read_again: Callable[[], LoadedConfiguration]) -> None:
    """Forward until SIGTERM or SIGINT; SIGHUP or a request on the control socket reloads."""
    raise_descriptor_limit()
    settings = start.settings
    with Signals() as signals:
        check(settings)
        async with Road.open(settings.relay.state_directory, terms_of(settings)) as road:
            forwarder = Forwarder(road)
            road.supervisor.on_failure = signals.limit_stop
            try:
                await forwarder.begin(settings, start.digests)
                reloads = Reloader(road, read_again, forwarder)
                names = {
                    "sources": [f"{source.name} ({source.origin})" for source in settings.source],
                    "servers": [server.display_name for server in settings.remote_logging_server],
                    "port-forwardings": [each.listens_on for each in settings.port_forwarding if each.listens_on],
                }
                summary = "; ".join(f"{kind}: {', '.join(named)}" for kind, named in names.items() if named)
                with serving():
                    log_ready("run", start, summary)
                    await reloads.serve(signals, forwarder.sources.failed)
            finally:
                await forwarder.end()


async def drain(settings: Settings, timeout: float | None) -> None:  # noqa: ASYNC109  it has its own error
    """Forward until all that the sources hold now is proven; port forwardings for other programs are not opened.

    TemporaryError when a signal stops it before that, or when it takes longer than `timeout` seconds.
    """
    with Signals() as signals:
        check(settings)
        async with Road.open(settings.relay.state_directory, terms_of(settings)) as road:
            await road.deliver([*routes_to_servers(settings, road.store)])
            inputs = inputs_of(settings)
            sources = [cast("Source", each) for each in inputs if not isinstance(each, KernelLost)]
            road.live_sources = lambda: [live_source(source, "") for source in sources]
            with serving():
                await until_drained(road, _drain(road, inputs, timeout), signals)


async def _drain(road: Road, inputs: list[EventInput], timeout: float | None) -> None:  # noqa: ASYNC109  as `drain`
    loop = asyncio.get_running_loop()
    until = None if timeout is None else loop.time() + timeout
    try:
        async with asyncio.timeout_at(until), asyncio.TaskGroup() as group:
            permanent_error = group.create_task(road.raise_permanent_error())
            reading = []
            for source in inputs:
                position = road.store.position(source.name)
                task = source.run(road.housekeeping.submit_of(source.name), position, drain=True)
                reading.append(group.create_task(task))
            if reading:
                await asyncio.wait(reading)
            permanent_error.cancel()
    except TimeoutError:
        raise TemporaryError("drain", f"the sources were not read to their end within {timeout:g} s") from None
    await road.drained(None if until is None else max(until - loop.time(), 0))
