"""Records in, whole events out.

All records with one node, time and serial are one event; the records of several events interleave. An event leaves

- when it is complete: with the next record of another event, with a malformed line (`interrupt`), or, when the caller
  asks (`expire`), TOGETHER_S after its last record by the caller's monotonic clock. An event is complete once a record
  of a type that completes events (`record_types`) was fed. Records of the same event that follow directly still belong
  to it: a message of a user-space program is followed by its SYSCALL and SOCKADDR where a rule audits the sending, and
  all of them, on Ubuntu, by an UNKNOWN[1420];
- with its EOE;
- when a record of the same node comes whose time stamp is at least 2 s later: so few events are open while relay
  catches up, and the same log gives the same events again;
- after 2 s of silence, when the caller asks (`expire`);
- when it is the oldest and more than 256 events, or 16 MiB of records, are open;
- when the next record would bring it above 1,024 records or 1 MiB;
- when the caller closes all events (`flush`).

A record of an event that has left leaves at once, by itself, as `late`. At least the last 1,024 events that left are
remembered; a record that comes after still more others begins an event anew. Every record that is fed leaves exactly
once, and events that leave together leave in the order in which they began. Only an EOE never leaves, because it holds
nothing except the end of its event. An EOE whose line holds anything else is a record like others.

A *location* is what the caller needs to find an event's first record again after a restart. It is only returned.
"""

from typing import Final, Generic, NamedTuple, TypeVar

from relay.events.audit.record import END_OF_EVENT, Key, Record
from relay.events.audit.record_types import completes_event

Location = TypeVar("Location")

TOGETHER_S: Final = 0.02
"""How long the next record of a complete event may take: auditd writes its records one by one."""
SILENCE_S: Final = 2.0
OVERTAKEN_MS: Final = 2000
MAX_OPEN_EVENTS: Final = 256
MAX_OPEN_BYTES: Final = 16 << 20
MAX_EVENT_RECORDS: Final = 1024
MAX_EVENT_BYTES: Final = 1 << 20
REMEMBERED_EVENTS: Final = 1024


class AuditEvent(NamedTuple):
    """The records of one event, in the order in which they came; at least one."""

    records: tuple[Record, ...]
    late: bool = False
    """Whether the event had left before, and this is a record that came after it."""


class OpenEvent(NamedTuple, Generic[Location]):
    """An event that has not left, and the location of its first record."""

    location: Location
    key: Key


class _Gathering(Generic[Location]):
    """An open event's records, their size and the time of the last."""

    __slots__ = ("location", "records", "size", "touched")

    def __init__(self, record: Record, location: Location, now: float) -> None:
        self.location = location
        self.records = [record]
        self.size = len(record.line)
        self.touched = now


class Assembler(Generic[Location]):
    """Assembles the events of one source."""

    def __init__(self) -> None:
        self._open: dict[Key, _Gathering[Location]] = {}
        self._open_bytes = 0
        self._complete: Key | None = None
        """The open event that is complete. The last record belongs to it, so there is at most one."""
        self._overtaken_at = 0
        """While events are open: time stamps below this overtake none of them."""
        self._left: set[Key] = set()
        self._left_before: set[Key] = set()

    @property
    def open(self) -> list[OpenEvent[Location]]:
        """The events that have not left, in the order in which they began."""
        return [OpenEvent(event.location, key) for key, event in self._open.items()]

    @property
    def is_whole(self) -> bool:
        """Whether no open event waits for a record."""
        return all(key == self._complete for key in self._open)

    @property
    def deadline(self) -> float | None:
        """The monotonic time at which `expire` will next close an event; None while none is open."""
        return min((event.touched + self._longest_silence(key) for key, event in self._open.items()), default=None)

    def feed(self, record: Record, location: Location, now: float) -> list[AuditEvent]:
        """Add a record, and return the events that leave because of it; `now` is in monotonic seconds."""
        key = record[1:4]  # record.key without the call: this runs for every record
        leaving: list[AuditEvent] = []
        if self._complete is not None and self._complete != key:
            leaving.append(self._leave(self._complete))
        if self._open and record.time >= self._overtaken_at:
            # Another node's clock says nothing about this one's.
            last = record.time - OVERTAKEN_MS
            leaving += self._close([key for key in self._open if key[0] <= last and key[2] == record.node])
            self._overtaken_at = min((key[0] for key in self._open), default=0) + OVERTAKEN_MS
        event = self._open.get(key)
        completes = completes_event(record.type)
        if completes and record.type == END_OF_EVENT and record.is_mere_end:
            return [*leaving, *self._close([key])] if event is not None else leaving
        if event is not None:
            if len(event.records) >= MAX_EVENT_RECORDS or event.size + len(record.line) > MAX_EVENT_BYTES:
                return [*leaving, *self._close([key]), AuditEvent((record,), late=True)]
            self._add(event, record, now)
        elif key in self._left or key in self._left_before:
            leaving.append(AuditEvent((record,), late=True))
            return leaving
        else:
            self._begin(key, record, location, now)
        if completes:
            self._complete = key
        while len(self._open) > MAX_OPEN_EVENTS or self._open_bytes > MAX_OPEN_BYTES:
            leaving += self._close([next(iter(self._open))])
        return leaving

    def resume(self, record: Record, location: Location, now: float) -> None:
        """Add a record again after a restart: one of an event that `open` named, from its location on.

        No event leaves, because the event had not left with its records so far.
        """
        event = self._open.get(record.key)
        if event is None:
            self._begin(record.key, record, location, now)
        else:
            self._add(event, record, now)
        if completes_event(record.type):
            self._complete = record.key

    def expire(self, now: float) -> list[AuditEvent]:
        """Close the events that have been silent for too long."""
        return self._close(
            [key for key, event in self._open.items() if event.touched + self._longest_silence(key) <= now]
        )

    def interrupt(self) -> list[AuditEvent]:
        """Close the complete event, because a line that is not a record follows it."""
        return [] if self._complete is None else [self._leave(self._complete)]

    def flush(self) -> list[AuditEvent]:
        """Close all events."""
        return self._close(list(self._open))

    def _begin(self, key: Key, record: Record, location: Location, now: float) -> None:
        overtaken_at = record.time + OVERTAKEN_MS
        self._overtaken_at = min(self._overtaken_at, overtaken_at) if self._open else overtaken_at
        self._open[key] = _Gathering(record, location, now)
        self._open_bytes += len(record.line)

    def _add(self, event: _Gathering[Location], record: Record, now: float) -> None:
        event.records.append(record)
        event.size += len(record.line)
        event.touched = now
        self._open_bytes += len(record.line)

    def _longest_silence(self, key: Key) -> float:
        return TOGETHER_S if key == self._complete else SILENCE_S

    def _close(self, keys: list[Key]) -> list[AuditEvent]:
        return [self._leave(key) for key in keys]

    def _leave(self, key: Key) -> AuditEvent:
        event = self._open.pop(key)
        if key == self._complete:
            self._complete = None
        self._open_bytes -= event.size
        # Two generations instead of a list in order of use: cheaper, and up to twice as long.
        self._left.add(key)
        if len(self._left) >= REMEMBERED_EVENTS:
            self._left_before, self._left = self._left, set()
        return AuditEvent(tuple(event.records))
