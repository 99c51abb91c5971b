"""The records that auditd's dispatcher passes to its plugins as they happen, by one of two plugins.

- `plugin = "relay"`: auditd runs `relay dispatch`, which connects to a unix socket of ours and keeps every record until
  we answer that it is durable (`relay.program.dispatch` describes the protocol).
- `plugin = "af_unix"`: we connect to the socket of auditd's own af_unix plugin. It keeps nothing: the records that it
  writes while relay does not run are lost, and so are those on their way when relay is killed. They cannot be counted.
  Up to auditd 3 the plugin is a part of auditd. From version 4 on it is a program, which passes on records as lines
  only.

The source has no position, because the dispatcher cannot deliver a record again. So its events may use the spool's
reserve. Beyond the reserve they are refused and counted, and answered as durable: auditd drops records itself, and does
not count them, when its plugins wait. The answer to our plugin covers all records before the first one of an event that
is not durable yet. After a crash the plugin sends the rest again, so events may arrive twice, and none is lost. While
the disk does not answer, nothing is read, and the dispatcher's own queue fills. Records that auditd still has in its
queue when it stops, perhaps its DAEMON_END, reach no plugin (auditd 3, audispd.c); its log has them.

Memory: the records of `CHUNK` octets of each stream, twice, and the open events of its assembler. At most `MAX_STREAMS`
plugins may be connected; further connections are closed.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterable
from typing import Final, Literal, Self

from typing_extensions import override

from relay.errors import CannotCreateError
from relay.events.audit.assembly import Assembler
from relay.events.audit.dispatcher import DispatcherDecoder
from relay.events.audit.mapping import AuditMapping
from relay.events.audit.record import parse
from relay.source import Source, SourceTerms
from relay.source.batch_in_flight import BatchInFlight
from relay.system.clock import wall_clock
from relay.values.configuration.source_settings import AuditDispatcherSource
from relay.values.event import Batch, Event, Position, Submit

CHUNK: Final = 256 * 1024
MAX_STREAMS: Final = 8
RETRY_SECONDS: Final = 1.0
FINISH_SECONDS: Final = 5.0
"""More than the silence after which an event is complete."""
_PRIVATE: Final = 0o177  # the umask of a socket that only its owner and root may use

Plugin = Literal["relay", "af_unix"]

logger = logging.getLogger(__name__)


class AuditDispatcher(Source):
    """The source `audit-dispatcher`. A drain returns at once, because the dispatcher holds no records back."""

    def __init__(self, name: str, plugin: Plugin, path: str, mapping: AuditMapping) -> None:
        self.name = name
        self.path = path
        self.plugin = plugin
        self.mapping = mapping
        self.events = 0
        """Submitted in this run."""
        self.malformed = 0
        self.last_error = ""
        """Why no dispatcher is connected; empty while one is."""
        self.streams: set[_Stream] = set()
        self.finishing = asyncio.Event()
        """Set when every stream is to end before its next event begins."""

    @classmethod
    def from_settings(cls, table: AuditDispatcherSource, terms: SourceTerms) -> Self:
        """See `relay.source.registry`."""
        return cls(table.name, table.plugin, table.origin, terms.audit_mapping())

    def __repr__(self) -> str:
        return f"<AuditDispatcher {self.name!r} {self.plugin} {self.path!r} streams={len(self.streams)}>"

    @property
    @override
    def open_events(self) -> int:
        return sum(len(stream.assembler.open) for stream in self.streams)

    @override
    async def run(self, submit: Submit, position: Position | None, *, drain: bool) -> None:
        if drain:
            return
        if self.plugin == "relay":
            await self._accept_plugins(submit)
        else:
            await self._read_from_plugin(submit)

    @override
    def finish(self) -> float:
        """End each stream between two events, behind the last answer, so that the plugin sends nothing twice."""
        self.finishing.set()
        return FINISH_SECONDS

    @override
    def adopt(self, other: Source) -> bool:
        if not isinstance(other, AuditDispatcher) or (other.plugin, other.path) != (self.plugin, self.path):
            return False
        self.mapping = other.mapping
        return True

    async def _accept_plugins(self, submit: Submit) -> None:
        """Be the server of relay's plugin. An error of `submit` in any stream ends it."""
        self.last_error = "no plugin is connected"
        connections: set[asyncio.StreamWriter] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._follow(_Stream(self, submit, reader, writer))
            finally:
                connections.discard(writer)
                writer.close()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(connections) >= MAX_STREAMS:
                logger.warning("%s: %d plugins are connected already; one more was rejected", self.path, MAX_STREAMS)
                writer.close()
                return
            serving = serve(reader, writer)
            try:
                group.create_task(serving)
            except RuntimeError:  # the source has just ended; the plugin connects to the next one
                serving.close()
                writer.close()
            else:
                connections.add(writer)

        umask = os.umask(_PRIVATE)
        try:
            server = await asyncio.start_unix_server(connected, self.path, limit=CHUNK, start_serving=False)
        except OSError as error:
            remedy = "deploy/relay.service makes the folder /run/relay; else choose another socket"
            raise CannotCreateError(self.path, error.strerror or str(error), remedy) from error
        finally:
            os.umask(umask)
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    await server.start_serving()
                    await self.finishing.wait()
                finally:
                    server.close()
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            for writer in connections:  # of tasks that were cancelled before they began
                writer.close()
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    async def _read_from_plugin(self, submit: Submit) -> None:
        """Be the client of auditd's own plugin, and connect again whenever it closes."""
        while not self.finishing.is_set():
            try:
                reader, writer = await asyncio.open_unix_connection(self.path, limit=CHUNK)
            except OSError as error:
                self._report(f"{self.path}: {error.strerror or error}")
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
        cause = "the dispatcher has closed the connection"
        try:
            cause = await stream.run() or cause
        except OSError as error:
            cause = error.strerror or str(error)
        finally:
            self.streams.discard(stream)
            if not self.streams:
                self._report(f"{self.path}: {cause}")

    def _report(self, cause: str) -> None:
        if cause != self.last_error:
            logger.warning("auditd's dispatcher is not connected; waiting for it: %s", cause)
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
        """A record's location is the number of octets before it, each record counted with its LF."""
        self._source = source
        self._in_flight = BatchInFlight(submit)
        self._reader = reader
        self._writer = writer
        """For the answers; None: the plugin expects none."""
        self._decoder = DispatcherDecoder()
        self._read = 0
        self._answered = 0

    async def run(self) -> str:
        """Submit all records to the end; why the stream ended, unless the peer closed it."""
        while data := await self._next_data():
            await self._submit_lines(self._decoder.receive(data))
            if self._decoder.error is not None or self._is_finished():
                break
        if not self._is_finished() or self._writer is None:  # else the plugin sends the rest again
            await self._submit_lines(self._decoder.finish())
        await self._submit(self._source.mapping.all(self.assembler.flush()))
        await self._settle()
        return str(self._decoder.error or "")

    async def _next_data(self) -> bytes:
        """Read the next octets; meanwhile submit events that were silent for too long."""
        reading = asyncio.ensure_future(self._reader.read(CHUNK))
        finishing = asyncio.ensure_future(self._source.finishing.wait())
        try:
            while not self._is_finished():
                deadline = self.assembler.deadline
                timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
                if self._in_flight or self._answered < self._complete():
                    timeout = 0.0
                awaited = {reading} if finishing.done() else {reading, finishing}
                await asyncio.wait(awaited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    return reading.result()
                await self._submit(self._source.mapping.all(self.assembler.expire(time.monotonic())))
                await self._settle()
            return b""
        finally:
            reading.cancel()
            finishing.cancel()

    def _is_finished(self) -> bool:
        return self._source.finishing.is_set() and not self.assembler.open

    async def _submit_lines(self, lines: Iterable[bytes]) -> None:
        now = time.monotonic()
        events: list[Event] = []
        for line in lines:
            if self._is_finished() and self._writer is not None:
                break  # the plugin sends the rest to the next relay
            record = parse(line)
            if record is None:
                self._source.malformed += 1
                events += self._source.mapping.all(self.assembler.interrupt())
                events.append(self._source.mapping.malformed(line, wall_clock()))
            else:
                self._source.malformed += bool(record.joined)
                events += self._source.mapping.all(self.assembler.feed(record, self._read, now))
            self._read += len(line) + 1
        await self._submit(events)

    async def _submit(self, events: list[Event]) -> None:
        if events:
            complete = self._complete()
            self._source.events += len(events)
            batch = Batch(events, repeatable=AuditDispatcherSource.can_deliver_again)
            await self._in_flight.submit(batch, lambda: self._answer(complete))

    async def _settle(self) -> None:
        """Wait until all that was submitted is durable, and answer that."""
        await self._in_flight.settle()
        self._answer(self._complete())

    def _complete(self) -> int:
        """Count the octets before the first record of an open event."""
        still_open = self.assembler.open
        return still_open[0].location if still_open else self._read

    def _answer(self, durable: int) -> None:
        if durable > self._answered:
            self._answered = durable
            if self._writer is not None:
                with contextlib.suppress(OSError):  # the plugin is gone; it sends again what has no answer
                    self._writer.write(b"%d\n" % durable)
