"""`relay receive`: listeners → spool → archive, put together from the settings."""

import contextlib
import functools
from collections.abc import AsyncIterator
from dataclasses import asdict, replace

from relay.archive.write import ArchiveWriter
from relay.control import LivePart
from relay.delivery.archive_session import ArchiveSession
from relay.delivery.wanted import EVERYTHING
from relay.event import EventType
from relay.housekeeping import Care, care_of
from relay.intake import Routing
from relay.listener.conversation import ALL
from relay.listener.stream import ByteStream, ListenerCounters, StreamReception, StreamTerms
from relay.listener.tcp import TcpListener
from relay.listener.tls import ServerIdentity, TlsListener
from relay.road import Road, Way, stopping_event, until_stopped
from relay.service_manager import serving
from relay.settings import LARGEST_MESSAGE_SIZE, Settings
from relay.spool.cursor import Cursor
from relay.ssh_endpoint import SshEndpoint
from relay.watch.certificates import of_receiver

ROUTING = Routing(retained=frozenset({EventType.RELAY}), transient=frozenset({EventType.LOG}))
"""What a receiver takes in is of type log and kept by its archive; the spool holds it until it is archived."""

ARCHIVE = "archive"
"""The archive's name among the destinations."""

LISTENERS = "listeners"
"""Their name among what submits."""


async def receive(settings: Settings, *, drain: bool = False, patience: float | None = None) -> None:
    """Listen and archive until SIGTERM or SIGINT; with `drain`, archive what the spool holds, and return.

    TemporaryError when a drain is stopped, or takes longer than `patience` seconds.
    """
    stopping = stopping_event()
    async with Road.open(settings.relay.state_directory, settings.spool, ROUTING, _care(settings)) as road:
        await _archive(road, settings.receiver.archive)
        if drain:
            await until_stopped(road.drained(patience), stopping, drain=True)
            return
        async with _listening(road, settings):
            with serving():
                await stopping.wait()


def _care(settings: Settings) -> Care:
    """A receiver without room accepts nothing, whatever [audit] says: its senders keep what it does not take."""
    care = care_of(settings)
    return replace(care, disk_full_action="halt", may_halt=False, certificates=of_receiver(settings))


async def _archive(road: Road, folder: str) -> None:
    spool_id = road.store.transient.id.hex()
    with ArchiveWriter(folder, spool_id) as archive:
        # The archive's own word counts: it is written in one step with the files.
        start = Cursor() if archive.cursor is None else Cursor.decode(archive.cursor)
    road.store.move_cursor(ARCHIVE, start)
    way = Way(ARCHIVE, lambda _: ArchiveSession(ArchiveWriter(folder, spool_id)), EVERYTHING, start)
    await road.deliver([way])


@contextlib.asynccontextmanager
async def _listening(road: Road, settings: Settings) -> AsyncIterator[None]:
    """Listen on every address, and on the SSH endpoint, until the block is left."""
    terms = StreamTerms(dialects=ALL, max_message_size=LARGEST_MESSAGE_SIZE)
    counters = ListenerCounters()

    submit = road.submit_of(LISTENERS)

    async def serve(stream: ByteStream) -> None:
        await StreamReception(stream, submit, counters, terms).run()

    def live() -> LivePart:
        waits = "; its senders wait for space in the spool" if LISTENERS in road.intake.waiting else ""
        return LivePart(name=LISTENERS, state=f"listening{waits}", counters=asdict(counters))

    road.parts.append(live)
    async with contextlib.AsyncExitStack() as stack:
        for address in settings.receiver.listen:
            await stack.enter_async_context(
                TcpListener(address.host, address.port, submit, counters=counters, terms=terms)
            )
        if (tls := settings.receiver.tls) is not None:
            identity = ServerIdentity(tls)
            listener = TlsListener(tls.listen, identity, submit, counters, terms)
            await stack.enter_async_context(listener)
            road.parts.append(lambda: LivePart(name="tls", state="listening", error=str(identity.look() or "")))
            road.faults.append(lambda: ("TLS listener", identity.look()))
        if settings.receiver.ssh is not None:
            endpoint = SshEndpoint(
                settings.receiver.ssh.listen.host,
                settings.receiver.ssh.listen.port,
                host_key_file=settings.receiver.ssh.host_key,
                authorized_keys_file=settings.receiver.ssh.authorized_keys,
                allowed=frozenset((address.host, address.port) for address in settings.receiver.listen),
                serve=serve,
            )
            await stack.enter_async_context(endpoint)
            road.parts.append(functools.partial(_live_endpoint, endpoint))
            road.faults.append(lambda: ("SSH end", endpoint.look()))
        yield


def _live_endpoint(endpoint: SshEndpoint) -> LivePart:
    error = str(endpoint.look() or "")
    return LivePart(name="ssh", state="listening", error=error, counters=asdict(endpoint.counters))
