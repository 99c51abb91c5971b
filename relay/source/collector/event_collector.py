"""The source `event-collector`: a child process that writes SSR events, one record each (`relay.events.ssr.records`).

It is read in rounds. A round copies the child's index file (`index_file` explains why, and which copy belongs to which
events), then reads what is in the pipe at that moment. It decodes, filters and maps the events, and submits them in one
batch with the position. One batch may be on its way to the disk while the next is read. Behind a slow disk nothing is
read, the pipe fills, and the child waits. Before each start of the child its index file is restored to the position.

- A child that ends is started again, after a pause that grows to a minute; a child that lived that long resets it. The
  first position is the index file as relay finds it, stored before the child runs for the first time.
- A child that makes itself a daemon continues in that daemon (`subreaper`): relay reads it and logs the fact. It is
  ended before another child is started, even if it has closed its output and can write nothing any more.
- Without an index file relay cannot go back: the child begins where it chooses, its events have no position, and a
  crash loses the data in memory and in the pipe.
- A last line without a line feed is complete if the child ended with status 0. Otherwise it is cut, and malformed.
- Malformed data is forwarded unchanged, marked, and counted in `malformed`; relay logs the first. Events that the
  filters drop are counted in `filtered`.
- A drain reads the child until it ends, or until nothing has come for `drain_quiet_s` (at the start, `drain_first_s`).
  A moving index file does not prolong it. A child that ends with another status than 0 fails a drain: UnavailableError.

Memory: the content of a pipe (64 KiB), one incomplete record (at most 1 MiB), and the events of two rounds.
"""

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from typing_extensions import override

from relay.errors import NoInputError, UnavailableError
from relay.events.ssr.collected import Collected
from relay.events.ssr.filters import Filter
from relay.events.ssr.mapping import SsrDefaults, SsrMapping
from relay.events.ssr.records import Malformed, RecordDecoder
from relay.source import Source, SourceTerms
from relay.source.batch_in_flight import BatchInFlight
from relay.source.collector.child_process import STOP_SECONDS, ChildProcess
from relay.source.collector.index_file import IndexFile, is_index_copy
from relay.syslog.priority import FACILITIES, SEVERITIES
from relay.system.clock import wall_clock
from relay.system.files.strict_modes import require_strict_modes
from relay.transport.retry import Backoff
from relay.values.configuration.source_settings import EventCollectorSource
from relay.values.event import Batch, Event, Position, Submit

LOOK_SECONDS: Final = 10.0
"""How often the index file of an idle child is copied."""
REST_SECONDS: Final = 0.02
"""Between two rounds, so that single events do not cause a round each."""
FULL_ROUND: Final = 32 * 1024
"""After so many octets the next round follows at once, before the pipe fills."""
FINISH_SECONDS: Final = 8.0

_log = logging.getLogger("relay.source")


class CollectorProgram(NamedTuple):
    """The program to run."""

    command: Sequence[str]
    environment: Sequence[str] = ()
    """NAME=VALUE, in addition to what every program gets; the last value of a name counts."""
    index_file: str = ""
    """The path of its index file; empty when it has none."""

    @property
    def is_executable(self) -> bool:
        """Whether relay is allowed to run it."""
        return os.access(self.command[0], os.X_OK) and not os.path.isdir(self.command[0])


_BACKOFF: Final = Backoff(least=0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorTiming:
    """How long the source waits for its child, in seconds."""

    backoff: Backoff = _BACKOFF
    """Before the child is started again."""
    end_s: float = 1.0
    """How long a child that has closed its output may take to end."""
    stop_s: float = STOP_SECONDS
    settle_s: float = 1.0
    """How long a child must be quiet before its newest index copy is valid."""
    drain_first_s: float = 5.0
    """How long a drain waits for the first data."""
    drain_quiet_s: float = 2.0
    """How long a drain waits for further data."""


_USUAL: Final = CollectorTiming()


class EventCollector(Source):
    """The source."""

    def __init__(
        self,
        name: str,
        program: CollectorProgram,
        mapping: SsrMapping,
        events: Filter | None = None,
        timing: CollectorTiming = _USUAL,
    ) -> None:
        self.name = name
        self.events = 0
        """Submitted so far, ever, where there is an index file; else in this run."""
        self.malformed = 0
        self.filtered = 0
        self.starts = 0
        """How often the child was started in this run."""
        self.last_error = ""
        """Why no child runs at present, or why its index file cannot be copied; empty while all is well."""
        self.program = program
        self.mapping = mapping
        self.filter = events or Filter()
        self._timing = timing
        self._child: ChildProcess | None = None
        self._finishing = False

    @classmethod
    def from_settings(cls, table: EventCollectorSource, terms: SourceTerms) -> Self:
        """See `relay.source.registry`."""
        facility, severity = FACILITIES.index(table.facility), SEVERITIES.index(table.severity)
        defaults = SsrDefaults(facility, severity, table.app_name.encode())
        return cls(
            table.name,
            CollectorProgram(table.command, table.environment, table.index),
            SsrMapping(**terms.author._asdict(), defaults=defaults, tags=table.tags),
            Filter(tagpass=table.tagpass, tagdrop=table.tagdrop, fieldpass=table.fieldpass, fielddrop=table.fielddrop),
        )

    def __repr__(self) -> str:
        return f"<EventCollector {self.name!r} {self._child!r} events={self.events}>"

    @property
    @override
    def lag(self) -> int:
        return self._child.waiting if self._child is not None else 0

    @override
    async def run(self, submit: Submit, position: Position | None, *, drain: bool) -> None:
        timing = self._timing
        if not self.program.is_executable:
            cause = f"{self.program.command[0]} cannot be run"
            raise NoInputError(f"source {self.name}", cause, "check the source's command")
        require_strict_modes(f"source {self.name}", self.program.command[0])
        self.events = position.count if position is not None else 0
        in_flight = BatchInFlight(submit)
        index = await self._find_index(in_flight, position)
        failures = 0
        while True:
            begun = time.monotonic()
            error = await self._run_child(_ChildRun(in_flight, index, timing, drain=drain))
            if drain:
                if error is not None:
                    raise error
                return
            if self._finishing:
                return
            failures = 0 if time.monotonic() - begun > timing.backoff.longest else failures + 1
            pause = timing.backoff.delay(failures)
            self.last_error = error.cause if error is not None else "its child has ended"
            _log.warning("source %s: %s; starting it again in %.1f s", self.name, self.last_error, pause)
            await asyncio.sleep(pause)

    @override
    def finish(self) -> float:
        """End the child and read its last output; if it ends well, its index file is behind all of that."""
        self._finishing = True
        if self._child is not None:
            self._child.terminate()
        return FINISH_SECONDS if self._child is not None else 0

    @override
    def adopt(self, other: Source) -> bool:
        if not isinstance(other, EventCollector) or other.program != self.program:
            return False
        self.mapping, self.filter = other.mapping, other.filter
        return True

    async def _find_index(self, in_flight: BatchInFlight, position: Position | None) -> IndexFile | None:
        """Return the index file at the position. Without one, store it as it is, before a child can move it."""
        path = self.program.index_file
        if not path:
            return None
        if position is not None and is_index_copy(position.data):
            return IndexFile(path, position.data)
        try:
            index = await asyncio.to_thread(IndexFile, path)
        except OSError as error:
            cause = f"{path}: {error.strerror}"
            raise NoInputError(f"source {self.name}", cause, "check the source's index-file") from error
        await in_flight.submit(Batch((), Position(self.name, self.events, index.valid_copy)))
        await in_flight.settle()
        return index

    # --- One run of the child ---

    async def _run_child(self, run: "_ChildRun") -> UnavailableError | None:
        """Start a child and read it to its end; why it ended, unless it ended well."""
        remedy = "relay's user must be able to write the index file"
        try:
            if run.index is not None:
                await asyncio.to_thread(run.index.restore)
            remedy = "check the source's command and environment"
            child = self._child = await ChildProcess.start(
                f"source {self.name}", *self.program[:2], stop_s=self._timing.stop_s
            )
        except OSError as error:
            cause = f"its child cannot be started: {error.filename or self.program.command[0]}: {error.strerror}"
            return UnavailableError(f"source {self.name}", cause, remedy)
        self.starts += 1
        self.last_error = ""
        try:
            ended = await self._read(child, run)
            status = await child.end(self._timing.end_s) if ended else 0
        finally:
            self._child = None
            await child.stop()
        if status == 0:
            return None
        if status is None:
            cause = "its child closed its output"
        elif status > 0:
            cause = f"its child ended with status {status}"
        else:
            cause = f"its child was killed by signal {-status}"
        if child.last_line:
            cause += f', saying "{child.last_line}"'
        return UnavailableError(f"source {self.name}", cause, "run its command by hand")

    async def _read(self, child: ChildProcess, run: "_ChildRun") -> bool:
        """Read the child to its end; False when a drain has waited long enough before that."""
        while True:
            copy = await self._copy(run.index)
            data = child.read()
            if data == b"":
                break
            await self._submit(run, run.decode(data or b"", copy))
            if data is None:
                if run.is_drained:
                    await run.in_flight.settle()
                    return False
                await child.changes(run.timeout)
            elif len(data) < FULL_ROUND:
                await asyncio.sleep(REST_SECONDS)
        # It has written its last. If it ended well, its index is behind all of that.
        ended_well = await child.end(self._timing.end_s) == 0
        last = run.records.finish(whole=ended_well)
        is_cut = any(isinstance(each, Malformed) for each in last)
        found = run.decode(b"", await self._copy(run.index)) + last
        if ended_well and not is_cut and run.index is not None:
            run.index.settle()
        await self._submit(run, found, at_once=True)
        await run.in_flight.settle()
        return True

    async def _copy(self, index: IndexFile | None) -> bytes:
        if index is None:
            return b""
        try:
            copy = await asyncio.to_thread(index.copy)
        except OSError as error:
            cause = f"{index.path}: {error.strerror}"
            if cause != self.last_error:
                _log.warning("source %s: its index file cannot be copied at present: %s", self.name, cause)
            self.last_error = cause
            return index.newest
        self.last_error = ""
        return copy

    async def _submit(self, run: "_ChildRun", found: Sequence[Collected | Malformed], *, at_once: bool = False) -> None:
        """Submit events with the index; the index alone at most once in `settle_s`."""
        now = wall_clock()
        events: list[Event] = []
        for each in found:
            if isinstance(each, Malformed):
                if not self.malformed:
                    _log.warning(
                        "source %s: malformed data, forwarded unchanged as type log: %s", self.name, each.reason
                    )
                self.malformed += 1
                events.append(self.mapping.malformed(each.octets, now))
            elif (passed := self.filter.apply(each)) is not None:
                events.append(self.mapping.event(passed, now))
            else:
                self.filtered += 1
        if not events and not run.has_index_to_store(at_once=at_once):
            return
        self.events += len(events)
        position = None if run.index is None else Position(self.name, self.events, run.index_to_store(run.index))
        await run.in_flight.submit(Batch(events, position))


class _ChildRun:
    """The state of one run of the child."""

    def __init__(
        self, in_flight: BatchInFlight, index: IndexFile | None, timing: CollectorTiming, *, drain: bool
    ) -> None:
        self.in_flight = in_flight
        self.index = index
        self.records = RecordDecoder()
        self._timing = timing
        self._drain = drain
        self._stored = b"" if index is None else index.valid_copy
        self._stored_at = time.monotonic()
        self._received = 0
        self._last_change = self._last_data = time.monotonic()

    def decode(self, data: bytes, copy: bytes) -> list[Collected | Malformed]:
        """Decode the octets of a round, which were read after the index was copied."""
        self._received += len(data)
        found = self.records.receive(data) if data else []
        decoded = self._received - self.records.held
        moved = self.index is not None and self.index.observe(copy, self._received, decoded)
        now = time.monotonic()
        if data:
            self._last_data = now
        if data or moved:
            self._last_change = now
        elif self.index is not None and now - self._last_change >= self._timing.settle_s and not self.records.held:
            self.index.settle()
        return found

    def has_index_to_store(self, *, at_once: bool) -> bool:
        """Whether the index moved without events, and was not stored just now."""
        if self.index is None or self.index.valid_copy == self._stored:
            return False
        return at_once or time.monotonic() - self._stored_at >= self._timing.settle_s

    def index_to_store(self, index: IndexFile) -> bytes:
        """Return the valid copy, and note that it is stored now."""
        self._stored, self._stored_at = index.valid_copy, time.monotonic()
        return self._stored

    @property
    def is_drained(self) -> bool:
        """Whether a drain has waited long enough."""
        return self._drain and self._until_drained <= 0

    @property
    def timeout(self) -> float:
        """How long to wait for octets until the next round."""
        quiet = time.monotonic() - self._last_change
        timeout = self._timing.settle_s - quiet if quiet < self._timing.settle_s else LOOK_SECONDS
        return max(0.0, min(timeout, self._until_drained)) if self._drain else timeout

    @property
    def _until_drained(self) -> float:
        enough = self._timing.drain_quiet_s if self._received else self._timing.drain_first_s
        return enough - (time.monotonic() - self._last_data)
