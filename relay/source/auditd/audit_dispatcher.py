"""What auditd's dispatcher gives at the moment when it happens, by one of two ways.

- `plugin = "relay"`: auditd runs `relay dispatch` as its plugin, which comes to a unix socket of ours and keeps every
  record until we say that it is durable (`relay.program.dispatch` tells the few words that pass between the two).
- `plugin = "af_unix"`: we are the client of auditd's own af_unix plugin, at its socket. It keeps nothing: what it gives
  while relay does not run is lost, and what is on its way when relay is killed; no count of it can be had.
  Up to auditd 3 it is a part of auditd; from version 4 on it is a program, which passes on records as lines alone.

There is no position: what a dispatcher has given cannot be asked for again. So its events may use the spool's reserve,
and are refused and counted beyond it, which is answered as "accepted": auditd drops records itself, and does not count
them, when its plugins wait. A plugin of ours is told "accepted" for all records before the first that belongs to an
event which is not durable yet; after a crash what follows comes again, so that events may come twice, and are not lost.
While the disk does not answer, nothing is read, and the dispatcher's own queue fills. What auditd still has queued when
it is told to stop, perhaps its DAEMON_END, no plugin gets (auditd 3, audispd.c); its log has it.

Memory: what `CHUNK` octets of each stream become, twice, and what its assembler holds open. At most `MAX_STREAMS`
plugins may be connected; one more is sent away.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Final, Literal, Self

from relay.errors import CannotCreateError
from relay.events.audit.assembly import Assembler, AuditEvent
from relay.events.audit.dispatcher import DispatcherDecoder
from relay.events.audit.mapping import AuditMapping
from relay.events.audit.record import parse
from relay.source import Source, SourceTerms
from relay.system.clock import wall_clock
from relay.values.event import Batch, Event, Position, Submit
from relay.values.settings import AuditDispatcherSource

CHUNK: Final = 256 * 1024
MAX_STREAMS: Final = 8
RETRY_SECONDS: Final = 1.0
FINISH_SECONDS: Final = 5.0
"""More than an event may be silent before it is complete."""
_PRIVATE: Final = 0o177  # the umask under which a socket is made: its owner's alone, and root's

Plugin = Literal["relay", "af_unix"]

logger = logging.getLogger(__name__)


class AuditDispatcher:
    """The source `audit-dispatcher`. Draining it takes nothing in: nothing is there "now"."""

    lag = -1
    """What a dispatcher still has nobody can tell."""
    lost_places = 0

    def __init__(self, name: str, plugin: Plugin, path: str, mapping: AuditMapping) -> None:
        self.name = name
        self.path = path
        self.plugin = plugin
        self.mapping = mapping
        self.events = 0
        """Given in this run."""
        self.malformed = 0
        self.last_error = ""
        """Why nothing comes just now; empty while a dispatcher is connected."""
        self.streams: set[_Stream] = set()
        self.finishing = asyncio.Event()
        """Whether streams are to end, each before the next event begins."""

    @classmethod
    def from_settings(cls, table: AuditDispatcherSource, terms: SourceTerms) -> Self:
        """See `relay.source.registry`."""
        return cls(table.name, table.plugin, table.origin, terms.audit_mapping())

    def __repr__(self) -> str:
        return f"<AuditDispatcher {self.name!r} {self.plugin} {self.path!r} streams={len(self.streams)}>"

    @property
    def open_events(self) -> int:
        """Events that are begun and not complete."""
        return sum(len(stream.assembler.open) for stream in self.streams)

    async def run(self, submit: Submit, position: Position | None, *, drain: bool) -> None:
        """Take in what comes until cancelled. What `submit` raises ends it."""
        del position
        if drain:
            return
        if self.plugin == "relay":
            await self._listen(submit)
        else:
            await self._call(submit)

    def finish(self) -> float:
        """End each stream between two events, after the plugin got its last answer: it sends nothing twice."""
        self.finishing.set()
        return FINISH_SECONDS

    def adopt(self, other: Source) -> bool:
        """Write events as `other` would, and keep the connections."""
        if not isinstance(other, AuditDispatcher) or (other.plugin, other.path) != (self.plugin, self.path):
            return False
        self.mapping = other.mapping
        return True

    # --- The two ways ---

    async def _listen(self, submit: Submit) -> None:
        self.last_error = "no plugin is connected"
        meetings: set[asyncio.Task[None]] = set()
        ended = asyncio.Event()

        def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(meetings) >= MAX_STREAMS:
                logger.warning("%s: %d plugins are connected already", self.path, MAX_STREAMS)
                writer.close()
                return
            meeting = asyncio.create_task(self._meet(_Stream(self, submit, reader, writer), writer))
            meetings.add(meeting)
            meeting.add_done_callback(lambda _: ended.set())

        server = await self._server(meet)
        finishing = asyncio.create_task(self.finishing.wait())
        finishing.add_done_callback(lambda _: ended.set())
        try:
            while not self.finishing.is_set():
                await ended.wait()
                ended.clear()
                over = {meeting for meeting in meetings if meeting.done()}
                meetings -= over
                for meeting in over:
                    meeting.result()
            server.close()
            if meetings:
                await asyncio.wait(meetings)
        finally:
            finishing.cancel()
            server.close()
            for meeting in meetings:
                meeting.cancel()
            await asyncio.gather(*meetings, return_exceptions=True)
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    async def _meet(self, stream: "_Stream", writer: asyncio.StreamWriter) -> None:
        try:
            await self._follow(stream)
        finally:
            writer.close()

    async def _server(self, meet: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]) -> asyncio.Server:
        before = os.umask(_PRIVATE)
        try:
            return await asyncio.start_unix_server(meet, self.path, limit=CHUNK)
        except OSError as error:
            remedy = "deploy/relay.service makes the folder /run/relay; else choose another socket"
            raise CannotCreateError(self.path, error.strerror or str(error), remedy) from error
        finally:
            os.umask(before)

    async def _call(self, submit: Submit) -> None:
        while not self.finishing.is_set():
            try:
                reader, writer = await asyncio.open_unix_connection(self.path, limit=CHUNK)
            except OSError as error:
                self._tell(f"{self.path}: {error.strerror or error}")
            else:
                try:
                    await self._follow(_Stream(self, submit, reader, None))
                finally:
                    writer.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS):
                    await self.finishing.wait()

    async def _follow(self, stream: "_Stream") -> None:
        logger.info("%s: auditd's dispatcher is connected", self.path)
        self.streams.add(stream)
        self.last_error = ""
        why = "the dispatcher has closed the connection"
        try:
            why = await stream.run() or why
        except OSError as error:
            why = error.strerror or str(error)
        finally:
            self.streams.discard(stream)
            if not self.streams:
                self._tell(f"{self.path}: {why}")

    def _tell(self, cause: str) -> None:
        if cause != self.last_error:
            logger.warning("nothing comes from auditd's dispatcher just now, waiting for it: %s", cause)
            self.last_error = cause


class _Stream:
    """One connection, from its first record to its end."""

    def __init__(
        self,
        source: AuditDispatcher,
        submit: Submit,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter | None,
    ) -> None:
        self.assembler: Assembler[int] = Assembler()
        """A record's place is how many octets came before it, each record counted with its LF."""
        self._source = source
        self._submit = submit
        self._reader = reader
        self._writer = writer
        """Where it is told what is durable; None: nobody listens."""
        self._decoder = DispatcherDecoder()
        self._taken = 0
        self._answered = 0
        self._in_flight: tuple[asyncio.Future[None], int] | None = None

    async def run(self) -> str:
        """Take everything in to the end; why it ended, if not by the peer's closing."""
        while data := await self._read():
            await self._take(self._decoder.receive(data))
            if self._decoder.error is not None or self._is_to_end():
                break
        if not self._is_to_end() or self._writer is None:  # else the plugin sends the rest again
            await self._take(self._decoder.finish())
        await self._give(self.assembler.flush())
        await self._rest()
        return str(self._decoder.error or "")

    async def _read(self) -> bytes:
        """Read the next octets; what is silent for too long leaves meanwhile."""
        reading = asyncio.ensure_future(self._reader.read(CHUNK))
        finishing = asyncio.ensure_future(self._source.finishing.wait())
        try:
            while not self._is_to_end():
                deadline = self.assembler.deadline
                silence = None if deadline is None else max(0.0, deadline - time.monotonic())
                if self._in_flight is not None or self._answered < self._accepted():
                    silence = 0.0
                news = {reading} if finishing.done() else {reading, finishing}
                await asyncio.wait(news, timeout=silence, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    return reading.result()
                await self._give(self.assembler.expire(time.monotonic()))
                await self._rest()
            return b""
        finally:
            reading.cancel()
            finishing.cancel()

    def _is_to_end(self) -> bool:
        return self._source.finishing.is_set() and not self.assembler.open

    async def _take(self, lines: Iterable[bytes]) -> None:
        now = time.monotonic()
        events: list[Event] = []
        for line in lines:
            if self._is_to_end() and self._writer is not None:
                break  # the plugin sends the rest to the successor
            record = parse(line)
            if record is None:
                self._source.malformed += 1
                events += self._events(self.assembler.interrupt())
                events.append(self._source.mapping.malformed(line, wall_clock()))
            else:
                self._source.malformed += bool(record.joined)
                events += self._events(self.assembler.feed(record, self._taken, now))
            self._taken += len(line) + 1
        await self._hand_over(events)

    async def _give(self, events: Iterable[AuditEvent]) -> None:
        await self._hand_over(self._events(events))

    def _events(self, events: Iterable[AuditEvent]) -> list[Event]:
        return [event for each in events for event in self._source.mapping.events(each)]

    # --- Handing over ---

    async def _hand_over(self, events: list[Event]) -> None:
        """Submit, and wait only for what was submitted before."""
        if events:
            accepted = self._accepted()
            durable = await self._submit(Batch(events, repeatable=AuditDispatcherSource.can_deliver_again))
            self._source.events += len(events)
            await self._settle()
            self._in_flight = durable, accepted

    async def _rest(self) -> None:
        """Wait until all that was submitted is durable, and say so."""
        await self._settle()
        self._answer(self._accepted())

    def _accepted(self) -> int:
        still_open = self.assembler.open
        return still_open[0].place if still_open else self._taken

    async def _settle(self) -> None:
        if self._in_flight is not None:
            durable, accepted = self._in_flight
            await asyncio.shield(durable)
            self._in_flight = None
            self._answer(accepted)

    def _answer(self, accepted: int) -> None:
        if accepted > self._answered:
            self._answered = accepted
            if self._writer is not None:
                with contextlib.suppress(OSError):  # it is gone; what it was not told comes again
                    self._writer.write(b"%d\n" % accepted)
