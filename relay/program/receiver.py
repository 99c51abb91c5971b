"""`relay receive`: listeners → spool → archive and servers, put together from the settings."""

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC
from typing import Literal, NamedTuple

from typing_extensions import override

from relay.archive.days.keeper_thread import KeeperThread
from relay.archive.days.uncommitted_closings import UncommittedClosings
from relay.archive.filing.bound_names import BoundNames
from relay.archive.filing.configured_terms import filing_terms
from relay.archive.filing.filing_policy import FilingPolicy
from relay.archive.layout import OWN
from relay.archive.reading.originator_report import OriginatorReport, read_report
from relay.archive.reading.originators import originators
from relay.archive.writer.archive_counters import ArchiveCounters
from relay.archive.writer.archive_writer import ArchiveWriter
from relay.config.check.receiver import NAME_OF_ARCHIVE
from relay.delivery.message_selection import EVERYTHING
from relay.delivery.route import Route, routes_to_servers
from relay.delivery.sessions.archive_session import ArchiveSession
from relay.errors import ConfigurationError, RelayError
from relay.listener.admission.source_log import SourceLog
from relay.listener.conversation import ALL
from relay.listener.listeners import Listeners
from relay.listener.reception.aside import Aside
from relay.listener.reception.stream_terms import StreamTerms
from relay.listener.ssh.ssh_listener import SshListener
from relay.listener.stream import ANSWER_WITHIN, StreamReception
from relay.listener.tls import ServerIdentity, TlsListener
from relay.program.alarms import listener_losses
from relay.program.housekeeping import Watches, author_of, policy_of
from relay.program.metrics.metrics_endpoint import MetricsEndpoint
from relay.program.reload.loaded_configuration import LoadedConfiguration
from relay.program.reload.reload_plan import Digests, PartsByName, ReloadPlan, compare, parts_of_receive
from relay.program.reload.reloader import Reloader, RunningParts, log_ready, refuse_fixed
from relay.program.road import Road, RoadTerms, until_drained
from relay.program.status.live import LivePart
from relay.program.watch.alarm_command import AlarmCommand, check_alarm_command
from relay.program.watch.all_users import AllUsers
from relay.program.watch.certificate_watch import CertificateWatch, of_receiver
from relay.program.watch.filing_watch import FilingWatch
from relay.program.watch.silence_watch import SilenceWatch
from relay.spool.both_spools import BothSpools
from relay.spool.commit import Routing
from relay.spool.cursor import Cursor
from relay.spool.store import Store
from relay.system.descriptors import descriptor_limit, descriptors_for_connections, raise_descriptor_limit
from relay.system.disk import Disk
from relay.system.files.file_access import FileAccess, group_number
from relay.system.service_manager import serving
from relay.system.signals import Signals
from relay.system.time_zone import zone_of
from relay.values.alarm import ARCHIVE_CHANGED, MESSAGES_DIFFER
from relay.values.configuration.listener_url import ListenerUrl
from relay.values.configuration.receiver_settings import ARCHIVE, ReceiverSettings
from relay.values.configuration.settings import Settings
from relay.values.event import EventType
from relay.values.histogram import COMMIT_BOUNDS, Histogram

ROUTING = Routing(retained=frozenset({EventType.RELAY}), transient=frozenset({EventType.LOG}))
"""A receiver accepts messages of type log. Its archive keeps them; the spool holds them until they are archived."""

LISTENERS = "listeners"
"""Their name among the sources that submit."""

LONGEST_PAUSE_OF_ARCHIVE = 5.0
"""Seconds until an archive that could not be written is tried again: it is on this machine, so nothing is spared."""

_ZONE_KEY = "receiver.zone"
GROUP_KEY = "receiver.archive-group"

_log = logging.getLogger("relay.receiver")


class ArchiveWriting(NamedTuple):
    """What all writers of the archive share, one after the other."""

    closings: UncommittedClosings
    filing: FilingPolicy
    counters: ArchiveCounters


async def receive(start: LoadedConfiguration, read_again: Callable[[], LoadedConfiguration]) -> None:
    """Listen and archive until SIGTERM or SIGINT; SIGHUP and a request on the control socket reload."""
    raise_descriptor_limit()  # first: the archive's share depends on it
    settings = start.settings
    check(settings)
    with Signals() as signals:
        async with Road.open(settings.relay.state_directory, terms_of(settings)) as road:
            writing = ArchiveWriting(UncommittedClosings(), filing_of(settings), ArchiveCounters())
            archive = await _route_to_archive(road, settings.receiver, writing)
            receiver = Receiver(road, archive, writing)
            road.supervisor.on_failure = signals.limit_stop
            try:
                await receiver.begin(settings, start.digests)
                with serving():
                    log_ready("receive", start, receiver.summary)
                    await Reloader(road, read_again, receiver).serve(signals)
            finally:
                await receiver.end()


async def drain(settings: Settings, timeout: float | None) -> None:  # noqa: ASYNC109  `drained` has its own error
    """Archive everything that the spool holds, hand it on to every server, and return.

    TemporaryError when a signal stops it before that, or when it takes longer than `timeout` seconds.
    """
    check(settings)
    with Signals() as signals:
        async with Road.open(settings.relay.state_directory, terms_of(settings)) as road:
            writing = ArchiveWriting(UncommittedClosings(), filing_of(settings), ArchiveCounters())
            archive = await _route_to_archive(road, settings.receiver, writing)
            await road.deliver([archive, *routes_to_servers(settings, road.store, received=True)])
            await until_drained(road, road.drained(timeout), signals)


def terms_of(settings: Settings) -> RoadTerms:
    """The terms of the road: without space it accepts nothing, whatever [audit] says, because its senders keep it."""
    policy = replace(policy_of(settings), disk_full_action="halt")
    return RoadTerms(settings.spool, ROUTING, policy, functools.partial(watches_of, settings))


def watches_of(settings: Settings, store: Store, former: Watches | None) -> Watches:
    """The watches of `relay receive`, which has no source of audit records, and never requests a halt."""
    del store
    users = former.users if former is not None else AllUsers(Disk())
    silence = former.silence if former is not None and former.silence is not None else SilenceWatch()
    silence.expect(settings.receiver.expect)
    silence.bind(filing_terms(settings.receiver, UTC).bindings)
    return Watches(
        users=users,
        certificates=CertificateWatch(of_receiver(settings)),
        alarm_command=AlarmCommand.following(settings.relay, former.alarm_command if former is not None else None),
        silence=silence,
    )


def terms_of_streams(url: str, settings: Settings, writable: asyncio.Event) -> StreamTerms:
    """The terms of the streams of one listener."""
    receiver = settings.receiver
    return StreamTerms(
        dialects=ALL,
        max_message_size=receiver.max_message_size,
        first_message_timeout=receiver.first_message_timeout,
        listener=url,
        aside=Aside(os.path.join(receiver.archive, OWN, "aside")),
        proxies=receiver.proxies if receiver.proxy_protocol else (),
        answer_within=ANSWER_WITHIN,
        writable=writable,
    )


def filing_of(settings: Settings) -> FilingPolicy:
    """The policy that files messages; ConfigurationError when this machine does not know the time zone."""
    return FilingPolicy(filing_terms(settings.receiver, zone_of(settings.receiver.zone, _ZONE_KEY)))


def check(settings: Settings) -> None:
    """ConfigurationError for faults that no retry can repair."""
    check_alarm_command(settings.relay)
    if any(server.display_name == ARCHIVE for server in settings.handed_on):
        raise ConfigurationError("remote-logging-server.name", (NAME_OF_ARCHIVE,))


async def _route_to_archive(road: Road, receiver: ReceiverSettings, writing: ArchiveWriting) -> Route:
    spool_id = road.store.transient.id.hex()
    silence = road.housekeeping.watches.silence or SilenceWatch()
    writer = functools.partial(
        ArchiveWriter,
        receiver.archive,
        spool_id,
        policy=writing.filing,
        closings=writing.closings,
        committed=silence.note,
        counters=writing.counters,
        unusable=set(),
        is_outdated=functools.partial(is_outdated, road.store),
        archive_format=receiver.archive_format,
        access=FileAccess(receiver.archive_mode, group_number(receiver.archive_group, GROUP_KEY)),
    )
    with writer(is_outdated=functools.partial(is_outdated, road.store, comes_again=True)) as archive:
        # The archive's own cursor counts: it is written in one step with the files.
        start = beginning(road.store) if archive.cursor is None else Cursor.decode(archive.cursor)
    road.store.restore_cursor(ARCHIVE, start)
    seconds = road.archive_commit_seconds = Histogram(COMMIT_BOUNDS)
    session = functools.partial(ArchiveSession, commit_seconds=seconds)
    return Route(ARCHIVE, lambda _: session(writer()), EVERYTHING, start, longest_pause=LONGEST_PAUSE_OF_ARCHIVE)


def is_outdated(store: Store, cursor: bytes, *, comes_again: bool = False) -> bool:
    """Whether the archive has proven more than this cursor says, and not all of that comes again.

    `comes_again`: what the spool still has after this cursor comes again. That damage alone was passed is not more.
    """
    stored, found = store.cursor(ARCHIVE), Cursor.decode(cursor)
    if stored is None or stored.delivered == found.delivered:
        return False
    return any(
        at < was_at and not (comes_again and 0 < spool.oldest_first <= at[0])
        for spool, at, was_at in zip(store.spools, found.reached, stored.reached, strict=True)
    )


def beginning(store: Store) -> Cursor:
    """Where an archive without a cursor begins: with all that the spool has. What is proven and deleted is not lost."""
    stored = store.cursor(ARCHIVE) or Cursor()
    firsts = (spool.oldest_first or spool.next_number for spool in store.spools)
    return Cursor().at(BothSpools(*((min(pair), 0) for pair in zip(stored.blocks, firsts, strict=True))))


class Receiver(RunningParts):
    """The listeners and servers of one road: `begin` begins them, `exchange` exchanges changed parts alone."""

    def __init__(self, road: Road, archive: Route, writing: ArchiveWriting) -> None:
        self._road = road
        self._archive = archive
        self._filing = writing.filing
        self._filing_watch = FilingWatch(writing.filing.counters, writing.counters)
        self._closings = writing.closings
        self._archived = writing.counters
        self._days: KeeperThread | None = None
        self._parts = PartsByName()
        """The parts that listen now."""
        self._settings = Settings()
        self._identity: ServerIdentity | None = None
        self._listeners = Listeners(
            road.housekeeping.submit_of(LISTENERS),
            self._settings.receiver,
            lambda: author_of(self._settings),
            descriptors_for_connections(descriptor_limit()),
        )
        self._recalling: asyncio.Task[None] | None = None
        self._metrics = MetricsEndpoint(road)

    @property
    def summary(self) -> str:
        """A line about the listeners, the archive and the servers."""
        servers = ", ".join(server.display_name for server in self._settings.handed_on)
        archive = f"archive: {self._settings.receiver.archive}{f'; hands on to: {servers}' if servers else ''}"
        return f"listens on {', '.join(self._listeners.at_work)}; {archive}"

    async def begin(self, settings: Settings, digests: Digests) -> None:
        """Deliver, and listen on every address; the road is open with these settings."""
        self._parts = parts_of_receive(settings, digests)
        self._settings = settings
        self._listeners.exchange(
            settings.receiver, lambda url: terms_of_streams(url, settings, self._road.intake.writable)
        )
        await self._road.deliver(self._routes(settings))
        if settings.receiver.tls is not None:
            self._identity = ServerIdentity(settings.receiver.tls)
        for url in self._parts.listeners:
            await self._listen(url, settings)
        _log_closed_addresses(settings)
        housekeeping = self._road.housekeeping
        self._road.live_parts, housekeeping.faults, housekeeping.losses = self.live_parts, self.faults, self.losses
        self._days = days = KeeperThread(settings.receiver, self._closings, housekeeping.may_delete_by_age)
        housekeeping.reports, housekeeping.archive_fault = days.events, lambda: days.fault
        days.begin()
        self._recalling = asyncio.create_task(asyncio.to_thread(self._recall, settings.receiver.archive))
        await self._metrics.follow(settings.metrics)

    def _recall(self, archive: str) -> None:
        """Let the watch on silence know the archive's originators; reads a little of each, in a thread."""
        reports: list[OriginatorReport] = []
        silence, disk = self._road.housekeeping.watches.silence, Disk()
        names = BoundNames(filing_terms(self._settings.receiver, UTC).bindings)
        try:
            for folder in originators(disk, archive):
                with contextlib.suppress(RelayError):  # one that cannot be read is judged when it comes again
                    reports.append(read_report(disk, folder, names, own_report=False))
        except RelayError as error:
            _log.warning("the originators in %s are not known before they come again: %s", archive, error)
        if silence is not None:
            silence.recall(reports)

    @override
    async def prepare(self, new: LoadedConfiguration) -> ReloadPlan:
        """See `RunningParts`. New listeners listen when this returns; if one cannot, everything is as it was."""
        changes = compare(self._parts, parts_of_receive(new.settings, new.digests))
        refuse_fixed(changes, self._parts, new)
        zone_of(new.settings.receiver.zone, _ZONE_KEY)
        tls = new.settings.receiver.tls
        self._identity = self._identity or (ServerIdentity(tls) if tls is not None else None)
        # A listener that ends makes way first only where a new one needs its port: its address may be part of the new.
        ports = {_port(url) for url in changes.listeners.begun}
        former = [url for url in changes.listeners.ended if _port(url) in ports]
        for url in former:
            await self._listeners.end(url)
        begun: list[str] = []
        try:
            for url in changes.listeners.begun:
                await self._listen(url, new.settings)
                begun.append(url)
            await self._metrics.follow(new.settings.metrics)
        except BaseException:
            for url in begun:
                await self._listeners.end(url)
            for url in former:
                await self._listen(url, self._settings)
            raise
        return changes

    @override
    async def exchange(self, new: LoadedConfiguration, changes: ReloadPlan) -> tuple[str, ...]:
        settings = new.settings
        await self._road.exchange(terms_of(settings))
        if {"receiver.zone", "receiver.originator"}.intersection(changes.policies.exchanged):
            zone = zone_of(settings.receiver.zone, _ZONE_KEY)
            self._filing.exchange(filing_terms(settings.receiver, zone))
        if "receiver.require-identity" in changes.policies.exchanged:
            _log_closed_addresses(settings)
        if self._days is not None:
            self._days.exchange(settings.receiver)
        servers = changes.servers
        if servers.exchanged or servers.begun or servers.ended:
            wanted = parts_of_receive(settings, new.digests).servers
            self._parts = self._parts._replace(servers={name: wanted[name] for name in servers.kept})
            await self._road.deliver(self._routes(settings), kept=(ARCHIVE, *servers.kept))
        for url in changes.listeners.ended:
            if url in self._listeners.at_work:
                await self._listeners.end(url)
        self._listeners.exchange(
            settings.receiver, lambda url: terms_of_streams(url, settings, self._road.intake.writable)
        )
        if settings.receiver.tls is not None and self._identity is not None:
            self._identity.exchange(settings.receiver.tls)
        for listener in self._listeners.at_work.values():
            if isinstance(listener, SshListener) and (ssh := settings.receiver.ssh) is not None and changes.sentences:
                listener.exchange(ssh.host_key, ssh.authorized_keys, _allowed(settings))
        self._parts, self._settings = parts_of_receive(settings, new.digests), settings
        return ()

    def _routes(self, settings: Settings) -> list[Route]:
        return [self._archive, *routes_to_servers(settings, self._road.store, received=True)]

    async def _listen(self, url: str, settings: Settings) -> None:
        listeners, terms = self._listeners, terms_of_streams(url, settings, self._road.intake.writable)
        submit, counters = listeners.submit, listeners.counters_of(url)
        tls, ssh = settings.receiver.tls, settings.receiver.ssh
        if tls is not None and self._identity is not None and url == f"tls://{tls.listen}":
            await listeners.begin_tls(tls.listen, self._identity, terms)
        elif ssh is not None and url == f"ssh://{ssh.listen}":
            from relay.listener.ssh.ssh_endpoint import SshEndpoint  # noqa: PLC0415  asyncssh: 6 MB

            shared = functools.partial(StreamReception, turn=asyncio.Lock(), source_log=SourceLog(_log))
            endpoint = SshEndpoint(
                ssh.listen.host,
                ssh.listen.port,
                host_key_file=ssh.host_key,
                authorized_keys_file=ssh.authorized_keys,
                allowed=_allowed(settings),
                serve=lambda stream: shared(stream, submit, counters, listeners.terms[url]).run(),
                admission=listeners.admission,
            )
            await listeners.add(url, endpoint, terms)
        else:
            await listeners.begin(ListenerUrl.parse(url), terms)

    def live_parts(self) -> list[LivePart]:
        """The state of the listeners together, and of the SSH end and the TLS identity."""
        waits = "; its senders wait for space in the spool" if LISTENERS in self._road.intake.waiting else ""
        live = [LivePart(name=LISTENERS, state=f"listening{waits}", counters=self._listeners.totals())]
        for url, counted in self._listeners.by_url().items():
            live.append(LivePart(name=f"listener {url}", state="listening", counters=counted))
        for name, part in self._with_keys():
            counters = asdict(part.counters) if isinstance(part, SshListener) else {}
            live.append(LivePart(name=name, state="listening", error=str(part.refresh() or ""), counters=counters))
        counters = {key: n for key, n in asdict(self._filing.counters).items() if not key.startswith("last_")}
        live.append(LivePart(name="filing", error="", counters=counters))
        counters = {key: n for key, n in asdict(self._archived).items() if not key.startswith("last_")}
        live.append(LivePart(name="archive", counters=counters))
        if (days := self._days) is not None:
            live.append(
                LivePart(name="closed days", state=days.state, error=str(days.fault or ""), counters=days.counters)
            )
        return live

    def losses(self) -> dict[str, int]:
        """What was counted since the start, by the alarm that reports it."""
        return {
            **listener_losses(self._listeners.totals()),
            **self._filing_watch.look(),
            MESSAGES_DIFFER: self._archived.differing,
            ARCHIVE_CHANGED: self._archived.new_parts + (self._days.counters["vanished"] if self._days else 0),
        }

    def faults(self) -> dict[str, RelayError | None]:
        """Why the keys or certificates of the SSH end and of the TLS listener cannot be used."""
        alarm_names = {"ssh": "SSH end", "tls": "TLS listener"}
        return {alarm_names[name]: part.refresh() for name, part in self._with_keys()}

    def _with_keys(self) -> Iterator[tuple[Literal["ssh", "tls"], SshListener | ServerIdentity]]:
        for listener in tuple(self._listeners.at_work.values()):
            if isinstance(listener, SshListener):
                yield "ssh", listener
            elif isinstance(listener, TlsListener) and self._identity is not None:
                yield "tls", self._identity

    async def end(self) -> None:
        """Accept no more connections, and close those that are left."""
        if self._recalling is not None:
            await asyncio.gather(self._recalling, return_exceptions=True)
        await self._metrics.end()
        await self._listeners.end_all()
        if self._days is not None:
            await self._days.end()


def _log_closed_addresses(settings: Settings) -> None:
    """Log each address of `listen` on which `require-identity` keeps relay from listening."""
    for url in settings.receiver.urls:
        if not settings.receiver.is_open_to(url):
            why = "require-identity is true, and no [[receiver.originator]] lists it in listeners"
            _log.warning("not listening on %s: %s", url, why)


def _allowed(settings: Settings) -> frozenset[tuple[str, int]]:
    """The addresses that senders may open through SSH."""
    return frozenset((url.address.host, url.address.port) for url in settings.receiver.listen if url.scheme == "tcp")


def _port(url: str) -> str:
    return url.rpartition(":")[2]
