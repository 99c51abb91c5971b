"""A listener for datagrams, over UDP (RFC 5426) or a Unix socket: each is a message, and nobody can send it again.

A wake-up reads up to `AT_ONCE` datagrams and submits one batch for each peer; then others get their turn. The batches
are not `repeatable`: on a full disk they use the spool's reserve, and beyond it they are refused and counted.

The kernel keeps what is not read yet, up to `receive_buffer` octets for each socket, and drops the rest. Its count of
these (SO_MEMINFO, which is the count of SO_RXQ_OVFL without waiting for the next datagram) is read after each wake-up
and once a second. It goes to the counters, to the log once a minute, and to the destinations as a gap event.

Ceilings: at most `UNDURABLE` octets are submitted and not yet durable. Beyond that the sockets are not read. A datagram
above `max_message_size` is cut, marked and counted.

A stop reads what the kernel still holds, and waits until it is durable, for at most `STOP_SECONDS`.
"""

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from relay.events import own_events
from relay.events.own_events import Author
from relay.listener.listening_socket import Bind, Listener, ip_of
from relay.syslog.datagram import datagram_message
from relay.syslog.framing import DEFAULT_MAX_MESSAGE_SIZE
from relay.system.clock import Clock, wall_clock
from relay.system.minute_log import MINUTE, MinuteLog
from relay.values.configuration.listener_url import ListenerUrl
from relay.values.event import Batch, Event, EventType, Submit
from relay.values.provenance import Provenance, ReceiptMark
from relay.values.size import size_text
from relay.values.text import bug_text, counted

AT_ONCE: Final = 512
UNDURABLE: Final = 8 * 1024**2
STOP_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 1.0
_OVERHEAD: Final = 512
"""What an event costs in memory besides its octets, roughly."""
_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("=9I")
_DROPS: Final = 8  # SK_MEMINFO_DROPS in linux/sock_diag.h
_WRAP: Final = 1 << 32

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class DatagramCounters:
    """A listener's counts since it started. Only its event loop writes; others may read."""

    messages: int = 0
    octets: int = 0
    cut: int = 0  # messages cut because they are too long
    empty: int = 0  # datagrams without a message
    dropped: int = 0  # datagrams that the kernel dropped because its buffer was full
    storage_errors: int = 0  # messages that the spool could not store


@dataclass(frozen=True, slots=True, kw_only=True)
class DatagramTerms:
    """What the datagram listeners of a program share."""

    author: Callable[[], Author]
    """Of the events that report losses."""
    receive_buffer: int = 8 * 1024**2
    max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE
    minute: float = MINUTE
    """Seconds from one log line to the next."""


class DatagramListener(Listener):
    """Listens for datagrams."""

    def __init__(
        self, url: ListenerUrl, bind: Bind, submit: Submit, terms: DatagramTerms, *, clock: Clock = wall_clock
    ) -> None:
        super().__init__(str(url), bind)
        self.counters = DatagramCounters()
        self._submit = submit
        self._terms = terms
        self._clock = clock
        self._buffer = bytearray(terms.max_message_size)
        self._is_udp = url.scheme == "udp"
        self._dropped: dict[socket.socket, int] = {}
        """The kernel's count for each socket at the last look."""
        self._unreported = 0
        self._log = MinuteLog(self._write_log, terms.minute)
        self._undurable = 0
        self._room = asyncio.Event()
        self._stopping = False
        self._asleep: dict[socket.socket, asyncio.Future[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        state = "listening" if self._tasks else "not listening"
        return f"<DatagramListener {self._name} {state}, {self.counters.messages} messages>"

    @override
    async def start(self) -> None:
        await self._listen()
        self.resize(self._terms.receive_buffer)
        self._dropped = {sock: _drops(sock) or 0 for sock in self._sockets}
        self._tasks = [asyncio.create_task(self._whatever_happens(self._receive, sock)) for sock in self._sockets]
        self._tasks.append(asyncio.create_task(self._whatever_happens(self._look_for_drops)))

    def limit(self, max_message_size: int) -> None:
        """Cut messages there from now on."""
        if len(self._buffer) != max_message_size:
            self._buffer = bytearray(max_message_size)

    def resize(self, receive_buffer: int) -> None:
        """Let the kernel keep that much for each socket, as far as it allows; a smaller size is logged."""
        if not self._is_udp:
            return  # on a Unix socket the kernel counts at the sender, and drops nothing
        for sock in self._sockets:
            try:
                sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer)  # needs CAP_NET_ADMIN
            except OSError:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)  # up to net.core.rmem_max
            given = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # socket(7): the kernel doubles the value
            if given < receive_buffer:
                _log.warning(
                    "%s: the kernel gives a receive buffer of %s, not %s (receive-buffer), so it drops datagrams "
                    "sooner; allow it with `sysctl -w net.core.rmem_max=%d`, or grant CAP_NET_ADMIN",
                    *(self._name, size_text(given), size_text(receive_buffer), receive_buffer),
                )

    @override
    async def stop(self) -> None:
        if not self._tasks:
            return
        *reading, looking = self._tasks
        self._tasks = []
        looking.cancel()
        self._stopping = True
        for woken in self._asleep.values():
            _wake(woken)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.gather(*reading)
                await self._report_drops()
                while self._undurable:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            _log.error("%s: the spool does not answer; messages received last are lost", self._name)
        for task in (*reading, looking):
            task.cancel()
        await asyncio.gather(*reading, looking, return_exceptions=True)
        for sock in self._sockets:
            sock.close()
        self._sockets = []
        self._log.close()

    async def _whatever_happens(self, work: Callable[..., Awaitable[None]], *arguments: socket.socket) -> None:
        """Do it again after a bug: without this task the listener would be deaf, and nothing would say so."""
        while True:
            try:
                await work(*arguments)
            except Exception as error:  # noqa: BLE001  as above
                _log.error("%s: %s; the listener continues; please report it with the log", self._name, bug_text(error))
                await asyncio.sleep(LOOK_SECONDS)
            else:
                return

    # --- Reading ---

    async def _receive(self, sock: socket.socket) -> None:
        while True:
            by_peer, read = self._read(sock)
            for peer, events in by_peer.items():
                provenance = Provenance(peer or socket.gethostname(), "", self._name)
                await self._hand_on(Batch(events, repeatable=False, provenance=provenance))
            if read < AT_ONCE:
                if self._stopping:
                    return
                loop = asyncio.get_running_loop()
                woken = self._asleep[sock] = loop.create_future()  # done also at the stop
                loop.add_reader(sock, _wake, woken)
                try:
                    await woken
                finally:
                    loop.remove_reader(sock)
            else:
                self._count_drops(sock)
                await asyncio.sleep(0)

    def _read(self, sock: socket.socket) -> tuple[Mapping[str, list[Event]], int]:
        """Read what is there, by peer; and how many datagrams that is, at most `AT_ONCE`."""
        by_peer: dict[str, list[Event]] = {}
        view, limit = memoryview(self._buffer), len(self._buffer)
        for read in range(AT_ONCE):
            try:
                # With this flag recvfrom(2) returns the length that a cut datagram had.
                length, address = sock.recvfrom_into(view, limit, socket.MSG_TRUNC)
            except (BlockingIOError, InterruptedError):
                return by_peer, read
            except OSError:  # an ICMP error for an earlier datagram of this socket
                continue
            if event := self._event(bytes(view[: min(length, limit)]), length):
                by_peer.setdefault(ip_of(address), []).append(event)
        return by_peer, AT_ONCE

    def _event(self, datagram: bytes, length: int) -> Event | None:
        message = datagram_message(datagram, length)
        if not message:
            self.counters.empty += 1
            return None
        self.counters.messages += 1
        self.counters.octets += len(datagram)
        marks = 0
        if length > len(datagram):
            marks = ReceiptMark.CUT
            self.counters.cut += 1
            self._log.count("cut")
        return Event(EventType.LOG, self._clock(), message, b"", marks)

    async def _hand_on(self, batch: Batch) -> None:
        size = sum(len(event.head) + _OVERHEAD for event in batch.events)
        durable = await self._submit(batch)
        self._undurable += size

        def note_stored(_: "asyncio.Future[None]") -> None:
            self._undurable -= size
            self._room.set()
            if durable.cancelled() or durable.exception() is not None:
                self.counters.storage_errors += len(batch.events)

        durable.add_done_callback(note_stored)
        while self._undurable > UNDURABLE and not self._stopping:
            self._room.clear()
            await self._room.wait()

    # --- What the kernel dropped ---

    async def _look_for_drops(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._report_drops()

    def _count_drops(self, sock: socket.socket) -> None:
        if (now := _drops(sock)) is None:
            return
        dropped = (now - self._dropped[sock]) % _WRAP
        self._dropped[sock] = now
        if dropped:
            self.counters.dropped += dropped
            self._unreported += dropped
            self._log.count("dropped", dropped)

    async def _report_drops(self) -> None:
        for sock in self._sockets:
            self._count_drops(sock)
        dropped, self._unreported = self._unreported, 0
        if dropped:
            event = own_events.datagram_gap(self._terms.author(), self._clock(), self._name, dropped)
            await self._hand_on(Batch([event], repeatable=False))

    def _write_log(self, counts: Mapping[str, int]) -> None:
        if dropped := counts.get("dropped"):
            _log.warning(
                "%s: the kernel dropped %s, because its buffer was full; raise receive-buffer, or send less at once",
                *(self._name, counted(dropped, "datagram")),
            )
        if cut := counts.get("cut"):
            limit = size_text(len(self._buffer))
            _log.warning("%s: %s cut to %s (max-message-size)", self._name, counted(cut, "message"), limit)


def _wake(woken: "asyncio.Future[None]") -> None:
    if not woken.done():
        woken.set_result(None)


def _drops(sock: socket.socket) -> int | None:
    """How many datagrams the kernel has dropped at this socket, modulo 2**32; None where it does not count."""
    try:
        return int(_MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[_DROPS])
    except (OSError, struct.error):  # before Linux 4.12
        return None
