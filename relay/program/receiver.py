"""`relay receive`: listeners → spool → archive, put together from the settings."""

import contextlib
import functools
from collections.abc import Callable
from dataclasses import asdict, replace

from relay.archive.write import ArchiveWriter
from relay.delivery.message_selection import EVERYTHING
from relay.delivery.sessions.archive_session import ArchiveSession
from relay.errors import RelayError
from relay.listener.conversation import ALL
from relay.listener.listening_socket import Listener
from relay.listener.ssh_endpoint import SshEndpoint
from relay.listener.stream import ByteStream, ListenerCounters, StreamReception, StreamTerms
from relay.listener.tcp import TcpListener
from relay.listener.tls import ServerIdentity, TlsListener
from relay.program.control import LivePart
from relay.program.housekeeping import HousekeepingPolicy, care_of
from relay.program.intake import Routing
from relay.program.reload.loaded import Loaded
from relay.program.reload.plan import Contents, PartChanges, PartsByName, ReloadPlan, parts_of_receive, plan
from relay.program.reload.reloads import Reloads, log_ready, refuse_fixed
from relay.program.road import Road, Route, until_drained
from relay.program.watch.certificates import of_receiver
from relay.spool.cursor import Cursor
from relay.system.service_manager import serving
from relay.system.signals import Signals
from relay.values.event import EventType
from relay.values.settings import LARGEST_MESSAGE_SIZE, Settings

ROUTING = Routing(retained=frozenset({EventType.RELAY}), transient=frozenset({EventType.LOG}))
"""What a receiver takes in is of type log and kept by its archive; the spool holds it until it is archived."""

ARCHIVE = "archive"
"""The archive's name among the destinations."""

LISTENERS = "listeners"
"""Their name among what submits."""


async def receive(start: Loaded, read_again: Callable[[], Loaded]) -> None:
    """Listen and archive until SIGTERM or SIGINT; SIGHUP and a request on the control socket reload."""
    settings = start.settings
    with Signals() as signals:
        async with _open(settings) as road:
            await _archive(road, settings.receiver.archive)
            receiver = Receiver(road)
            try:
                await receiver.begin(settings, start.contents)
                with serving():
                    log_ready("receive", start, receiver.summary)
                    await Reloads(road, read_again, receiver).serve(signals)
            finally:
                await receiver.end()


async def drain(settings: Settings, patience: float | None) -> None:
    """Archive what the spool holds, and return; TemporaryError when that takes longer, or is stopped."""
    with Signals() as signals:
        async with _open(settings) as road:
            await _archive(road, settings.receiver.archive)
            await until_drained(road.drained(patience), signals)


def _open(settings: Settings) -> contextlib.AbstractAsyncContextManager[Road]:
    return Road.open(settings.relay.state_directory, settings.spool, ROUTING, _care(settings))


def _care(settings: Settings) -> HousekeepingPolicy:
    """A receiver without room accepts nothing, whatever [audit] says: its senders keep what it does not take."""
    care = care_of(settings)
    return replace(care, disk_full_action="halt", may_halt=False, certificates=of_receiver(settings))


async def _archive(road: Road, folder: str) -> None:
    spool_id = road.store.transient.id.hex()
    with ArchiveWriter(folder, spool_id) as archive:
        # The archive's own word counts: it is written in one step with the files.
        start = Cursor() if archive.cursor is None else Cursor.decode(archive.cursor)
    road.store.move_cursor(ARCHIVE, start)
    way = Route(ARCHIVE, lambda _: ArchiveSession(ArchiveWriter(folder, spool_id)), EVERYTHING, start)
    await road.deliver([way])


class Receiver:
    """The listeners of one road. They are begun by `begin`; what changed is exchanged, and ends no other session."""

    def __init__(self, road: Road) -> None:
        self._road = road
        self._submit = road.submit_of(LISTENERS)
        self._parts = PartsByName()
        """What listens now."""
        self._settings = Settings()
        self._terms = StreamTerms(dialects=ALL, max_message_size=LARGEST_MESSAGE_SIZE)
        self._counters = ListenerCounters()
        self._listening: dict[str, Listener] = {}
        """By the URL of each."""
        self._identity: ServerIdentity | None = None

    @property
    def summary(self) -> str:
        """A line about what runs."""
        return f"listens on {', '.join(self._listening)}; archive: {self._settings.receiver.archive}"

    async def begin(self, settings: Settings, contents: Contents) -> None:
        """Listen on every address; the road is open with these settings."""
        self._parts = parts_of_receive(settings, contents)
        self._settings = settings
        if settings.receiver.tls is not None:
            self._identity = ServerIdentity(settings.receiver.tls)
        for name in self._parts.listeners:
            await self._start(name, self._listener(name, settings))
        self._show()

    async def prepare(self, new: Loaded) -> ReloadPlan:
        """See `reloads.Running`. What is to listen does so when this returns."""
        wanted = parts_of_receive(new.settings, new.contents)
        what = plan(self._parts, wanted)
        refuse_fixed(what, self._parts, new)
        tls = new.settings.receiver.tls
        self._identity = self._identity or (ServerIdentity(tls) if tls is not None else None)
        await self._begin_new(new.settings, what.listeners)
        return what

    async def exchange(self, new: Loaded, what: ReloadPlan) -> tuple[str, ...]:
        """See `reloads.Running`."""
        settings = new.settings
        await self._road.exchange(settings.spool, ROUTING, _care(settings))
        for name in what.listeners.ended:
            if name in self._listening:
                await self._listening.pop(name).stop()
        if settings.receiver.tls is not None and self._identity is not None:
            self._identity.exchange(settings.receiver.tls)
        for listener in self._listening.values():
            if isinstance(listener, SshEndpoint) and (ssh := settings.receiver.ssh) is not None and what.sentences:
                listener.exchange(ssh.host_key, ssh.authorized_keys, _allowed(settings))
        self._parts, self._settings = parts_of_receive(settings, new.contents), settings
        self._show()
        return ()

    async def _begin_new(self, settings: Settings, changes: PartChanges) -> None:
        """Listen where that is new; what cannot be leaves everything as it was.

        A listener that ends goes first only where it has the port that a new one needs: its address may be part of it.
        """
        ports = {_port(name) for name in changes.begun}
        in_the_way = [name for name in changes.ended if _port(name) in ports]
        for name in in_the_way:
            await self._listening.pop(name).stop()
        begun: list[str] = []
        try:
            for name in changes.begun:
                await self._start(name, self._listener(name, settings))
                begun.append(name)
        except BaseException:
            for name in begun:
                await self._listening.pop(name).stop()
            for name in in_the_way:
                await self._start(name, self._listener(name, self._settings))
            raise

    def _listener(self, name: str, settings: Settings) -> Listener:
        submit, counters, terms = self._submit, self._counters, self._terms
        tls, ssh = settings.receiver.tls, settings.receiver.ssh
        if tls is not None and self._identity is not None and name == f"tls://{tls.listen}":
            return TlsListener(tls.listen, self._identity, submit, counters, terms)
        if ssh is not None and name == f"ssh://{ssh.listen}":
            return SshEndpoint(
                ssh.listen.host,
                ssh.listen.port,
                host_key_file=ssh.host_key,
                authorized_keys_file=ssh.authorized_keys,
                allowed=_allowed(settings),
                serve=self._serve,
            )
        (address,) = (each for each in settings.receiver.listen if name == f"tcp://{each}")
        return TcpListener(address.host, address.port, submit, counters=counters, terms=terms)

    async def _start(self, name: str, listener: Listener) -> None:
        await listener.start()
        self._listening[name] = listener

    async def _serve(self, stream: ByteStream) -> None:
        await StreamReception(stream, self._submit, self._counters, self._terms).run()

    def _show(self) -> None:
        """Have the status and the alarms name what listens now."""
        parts, faults = [self._live], []
        for listener in self._listening.values():
            if isinstance(listener, SshEndpoint):
                parts.append(functools.partial(_live_endpoint, listener))
                faults.append(functools.partial(_fault_of, "SSH end", listener))
            elif isinstance(listener, TlsListener) and self._identity is not None:
                parts.append(functools.partial(_live_identity, self._identity))
                faults.append(functools.partial(_fault_of, "TLS listener", self._identity))
        self._road.parts[:], self._road.faults[:] = parts, faults

    def _live(self) -> LivePart:
        waits = "; its senders wait for space in the spool" if LISTENERS in self._road.intake.waiting else ""
        return LivePart(name=LISTENERS, state=f"listening{waits}", counters=asdict(self._counters))

    async def end(self) -> None:
        """Accept nobody any more, and break the connections off that are left."""
        for name in reversed(tuple(self._listening)):
            await self._listening.pop(name).stop()


def _live_endpoint(endpoint: SshEndpoint) -> LivePart:
    error = str(endpoint.refresh() or "")
    return LivePart(name="ssh", state="listening", error=error, counters=asdict(endpoint.counters))


def _live_identity(identity: ServerIdentity) -> LivePart:
    return LivePart(name="tls", state="listening", error=str(identity.refresh() or ""))


def _fault_of(name: str, waiting: SshEndpoint | ServerIdentity) -> tuple[str, RelayError | None]:
    return name, waiting.refresh()


def _allowed(settings: Settings) -> frozenset[tuple[str, int]]:
    return frozenset((address.host, address.port) for address in settings.receiver.listen)


def _port(name: str) -> str:
    return name.rpartition(":")[2]
