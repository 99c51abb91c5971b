"""The source `event-collector`: a child process that writes SSR events, one record each (`relay.events.ssr.records`).

It is read in rounds: the child's index file is copied (`index_file` tells why, and which copy goes with what), then
what is in the pipe at that moment is read, decoded, filtered, mapped and submitted, in one batch with the position. One
batch may be under way to the disk while the next is read, no second one: behind a slow disk nothing is read, the pipe
fills, and the child waits. Before each start of the child the index file is made what it was at the position.

- A child that ends is started again, after a pause that grows to a minute and begins anew after a child that lived as
  long. The position starts with the index as it is found, stored before the child runs for the first time.
- A child that makes itself a daemon lives on in it (`subreaper`): it is read and told of, and is ended before another
  one is started, also where it has closed its output and can give nothing any more.
- Without an index file there is nothing to go back to: the child begins where it chooses, its events have no position,
  and what a crash takes from memory and pipe is gone.
- A last line without a line feed is a whole one when the child ended with status 0; otherwise it is cut, and cannot be
  read.
- What cannot be read is forwarded as it is, marked, and counted in `malformed`; the log tells of the first. What the
  filters drop is counted in `filtered`.
- To drain is to take in what the child gives until it ends, or until nothing has come for `QUIET_SECONDS` (at the
  start, `FIRST_SECONDS`); an index file that moves is nothing that comes. A child that ends with another status than 0
  fails a drain: UnavailableError.

Memory: what a pipe holds (64 KiB), a record that has begun (at most 1 MiB), and the events of two rounds.
"""

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from relay.errors import NoInputError, UnavailableError
from relay.events.ssr.collected import Collected
from relay.events.ssr.filters import Filter
from relay.events.ssr.mapping import SsrDefaults, SsrMapping
from relay.events.ssr.records import Malformed, RecordDecoder
from relay.source import Source, SourceTerms
from relay.source.collector.child_process import ChildProcess
from relay.source.collector.index_file import SETTLE_SECONDS, IndexFile, is_place
from relay.syslog.priority import FACILITIES, SEVERITIES
from relay.system.clock import wall_clock
from relay.transport.retry import Backoff
from relay.values.event import Batch, Event, Position, Submit
from relay.values.settings import EventCollectorSource

QUIET_SECONDS: Final = 2.0
FIRST_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 10.0
"""How often an idle child's index file is looked at."""
REST_SECONDS: Final = 0.02
"""Between two rounds, so that events that come one by one make no round each."""
FULL_ROUND: Final = 32 * 1024
"""So many octets are followed by the next round at once: the pipe must not fill in the meantime."""
END_SECONDS: Final = 1.0
"""How long a child that has closed its output may take to end."""
FINISH_SECONDS: Final = 8.0
LONGEST_PAUSE: Final = 60.0
FIRST_PAUSE: Final = 0.5

_log = logging.getLogger("relay.source")


class CollectorProgram(NamedTuple):
    """What to run."""

    command: Sequence[str]
    environment: Sequence[str] = ()
    """NAME=VALUE, on top of relay's own; of a name that stands there twice the last one holds."""
    index_file: str = ""
    """The path of its index file; empty when it has none."""


class EventCollector:
    """The source. `run` may be called again after it ended: it begins at the position it is given."""

    open_events = 0
    lost_places = 0

    def __init__(self, name: str, program: CollectorProgram, mapping: SsrMapping, events: Filter | None = None) -> None:
        self.name = name
        self.events = 0
        """Given so far, ever, where there is an index file; else in this run."""
        self.malformed = 0
        self.filtered = 0
        self.starts = 0
        """How often the child was started in this run."""
        self._down = ""
        self._unknown_place = ""
        self.program = program
        self.mapping = mapping
        self.filter = events or Filter()
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
    def last_error(self) -> str:
        """Why there is no child just now, or no place can be told; empty while all is well."""
        return self._down or self._unknown_place

    @property
    def lag(self) -> int:
        """Octets in the pipe."""
        return self._child.waiting if self._child is not None else 0

    async def run(self, submit: Submit, position: Position | None, *, drain: bool) -> None:
        """Give events until cancelled; with `drain`, until the child has given all and everything is durable.

        Whatever `submit` raises ends it; what was not durable then is given again after the position.
        """
        self._require_program()
        self.events = position.count if position is not None else 0
        handing = _HandedOver(submit)
        index = await self._find_index(handing, position)
        failures = 0
        while True:
            begun = time.monotonic()
            error = await self._live(_Life(handing, index, drain=drain))
            if drain:
                if error is not None:
                    raise error
                return
            if self._finishing:
                return
            failures = 0 if time.monotonic() - begun > LONGEST_PAUSE else failures + 1
            await self._pause(failures, error)

    def finish(self) -> float:
        """End the child, and take in what it still gives; when it ends well, its index file is behind all of it."""
        self._finishing = True
        if self._child is not None:
            self._child.terminate()
        return FINISH_SECONDS if self._child is not None else 0

    def adopt(self, other: Source) -> bool:
        """Filter and write events as `other` would, and leave the child alone."""
        if not isinstance(other, EventCollector) or other.program != self.program:
            return False
        self.mapping, self.filter = other.mapping, other.filter
        return True

    def _require_program(self) -> None:
        program = self.program.command[0]
        if not os.access(program, os.X_OK) or os.path.isdir(program):
            raise NoInputError(f"source {self.name}", f"{program} cannot be run", "check the source's command")

    async def _find_index(self, handing: "_HandedOver", position: Position | None) -> IndexFile | None:
        """The index file at the position; without one as it is now, stored before a child can move it."""
        path = self.program.index_file
        if not path:
            return None
        if position is not None and is_place(position.data):
            return IndexFile(path, position.data)
        try:
            index = await asyncio.to_thread(IndexFile, path)
        except OSError as error:
            cause = f"{path}: {error.strerror}"
            raise NoInputError(f"source {self.name}", cause, "check the source's index-file") from error
        await handing.submit(Batch((), Position(self.name, self.events, index.place)))
        await handing.settle()
        return index

    async def _pause(self, failures: int, error: UnavailableError | None) -> None:
        seconds = Backoff(first=2 * FIRST_PAUSE, longest=LONGEST_PAUSE, least=0.5).delay(failures)
        self._down = error.cause if error is not None else "its child has ended"
        _log.warning("source %s: %s; starting it again in %.1f s", self.name, self._down, seconds)
        await asyncio.sleep(seconds)

    # --- One life of the child ---

    async def _live(self, life: "_Life") -> UnavailableError | None:
        """Start a child, take in what it gives, and see it end; why it ended, if not as it should."""
        try:
            if life.index is not None:
                await asyncio.to_thread(life.index.put_back)
        except OSError as error:
            return self._cannot_start(error, "relay's user must be able to write the index file")
        try:
            child = self._child = await ChildProcess.start(f"source {self.name}", *self.program[:2])
        except OSError as error:
            return self._cannot_start(error, "check the source's command and environment")
        self.starts += 1
        self._down = ""
        try:
            ended = await self._read(child, life)
            status = await child.end(END_SECONDS) if ended else 0
        finally:
            self._child = None
            await child.stop()
            life.handing.abandon()
        if status == 0:
            return None
        return UnavailableError(f"source {self.name}", _how(status, child.last_words), "run its command by hand")

    def _cannot_start(self, error: OSError, remedy: str) -> UnavailableError:
        cause = f"its child cannot be started: {error.filename or self.program.command[0]}: {error.strerror}"
        return UnavailableError(f"source {self.name}", cause, remedy)

    async def _read(self, child: ChildProcess, life: "_Life") -> bool:
        """Take in what the child gives, to its end; False when a drain has waited long enough before that."""
        while True:
            copy = await self._copy(life.index)
            data = child.read()
            if data == b"":
                await self._end(child, life)
                return True
            await self._submit(life, life.take(data or b"", copy))
            if data is None:
                if life.drained:
                    await life.handing.settle()
                    return False
                await child.changes(life.patience)
            elif len(data) < FULL_ROUND:
                await asyncio.sleep(REST_SECONDS)

    async def _end(self, child: ChildProcess, life: "_Life") -> None:
        """The child has written its last; when it ended well, its index is behind all of it."""
        well = await child.end(END_SECONDS) == 0
        last = life.records.finish(whole=well)
        cut = any(isinstance(each, Malformed) for each in last)
        found = life.take(b"", await self._copy(life.index)) + last
        if well and not cut and life.index is not None:
            life.index.settle()
        await self._submit(life, found, at_once=True)
        await life.handing.settle()

    async def _copy(self, index: IndexFile | None) -> bytes:
        if index is None:
            return b""
        try:
            copy = await asyncio.to_thread(index.copy)
        except OSError as error:
            cause = f"{index.path}: {error.strerror}"
            if cause != self._unknown_place:
                _log.warning("source %s: the place reached is not known just now: %s", self.name, cause)
            self._unknown_place = cause
            return index.newest
        self._unknown_place = ""
        return copy

    async def _submit(self, life: "_Life", found: Sequence[Collected | Malformed], *, at_once: bool = False) -> None:
        """Hand over what was found, and the place; the place alone at most once in `SETTLE_SECONDS`."""
        now = wall_clock()
        events = [event for each in found if (event := self._event(each, now)) is not None]
        if not events and not life.has_place_to_store(at_once=at_once):
            return
        self.events += len(events)
        position = None if life.index is None else Position(self.name, self.events, life.store())
        await life.handing.submit(Batch(events, position))

    def _event(self, found: Collected | Malformed, now: int) -> Event | None:
        if isinstance(found, Malformed):
            if not self.malformed:
                _log.warning("source %s: no event, taken in as it is, as one of type log: %s", self.name, found.reason)
            self.malformed += 1
            return self.mapping.malformed(found.octets, now)
        passed = self.filter.apply(found)
        if passed is None:
            self.filtered += 1
            return None
        return self.mapping.event(passed, now)


class _HandedOver:
    """Hands batches over; while one becomes durable the next may be read, but no second one."""

    def __init__(self, submit: Submit) -> None:
        self._submit = submit
        self._in_flight: asyncio.Future[None] | None = None

    async def submit(self, batch: Batch) -> None:
        """Hand a batch over, once the one before the last is durable."""
        durable = await self._submit(batch)
        before, self._in_flight = self._in_flight, durable
        if before is not None:
            await asyncio.shield(before)

    async def settle(self) -> None:
        """Wait until everything is durable."""
        if self._in_flight is not None:
            await asyncio.shield(self._in_flight)
            self._in_flight = None

    def abandon(self) -> None:
        """Nobody will wait for the last any more; its failure is the intake's to tell."""
        if self._in_flight is not None:
            self._in_flight.add_done_callback(lambda durable: durable.cancelled() or durable.exception())


class _Life:
    """What belongs to one life of the child."""

    def __init__(self, handing: _HandedOver, index: IndexFile | None, *, drain: bool) -> None:
        self.handing = handing
        self.index = index
        self.records = RecordDecoder()
        self._drain = drain
        self._stored = b"" if index is None else index.place
        self._stored_at = time.monotonic()
        self._received = 0
        self._quiet_since = self._silent_since = time.monotonic()

    def take(self, data: bytes, copy: bytes) -> list[Collected | Malformed]:
        """Take a round: the octets read after the index was copied."""
        self._received += len(data)
        found = self.records.receive(data) if data else []
        moved = self.index is not None and self.index.look(copy, self._received, self._received - self.records.held)
        if data:
            self._silent_since = time.monotonic()
        if data or moved:
            self._quiet_since = time.monotonic()
        elif self.index is not None and self._quiet >= SETTLE_SECONDS and not self.records.held:
            self.index.settle()
        return found

    def has_place_to_store(self, *, at_once: bool) -> bool:
        """Whether the place has moved without events, and not only just now."""
        if self.index is None or self.index.place == self._stored:
            return False
        return at_once or time.monotonic() - self._stored_at >= SETTLE_SECONDS

    def store(self) -> bytes:
        """The place, which is stored now."""
        self._stored_at = time.monotonic()
        self._stored = b"" if self.index is None else self.index.place
        return self._stored

    @property
    def _quiet(self) -> float:
        """Seconds since something came, or the index moved."""
        return time.monotonic() - self._quiet_since

    @property
    def _until_drained(self) -> float:
        """How long a drain still waits for more."""
        enough = QUIET_SECONDS if self._received else FIRST_SECONDS
        return enough - (time.monotonic() - self._silent_since)

    @property
    def drained(self) -> bool:
        """Whether a drain has waited long enough."""
        return self._drain and self._until_drained <= 0

    @property
    def patience(self) -> float:
        """How long to wait for octets until the next look."""
        quiet = self._quiet
        look = SETTLE_SECONDS - quiet if quiet < SETTLE_SECONDS else LOOK_SECONDS
        return max(0.0, min(look, self._until_drained)) if self._drain else look


def _how(status: int | None, words: str) -> str:
    """Say how a child ended."""
    how = (
        f"ended with status {status}"
        if status is not None and status >= 0
        else f"was killed by signal {-(status or 0)}"
    )
    said = f', saying "{words}"' if words else ""
    return f"its child {how if status is not None else 'closed its output'}{said}"
