"""What is looked after while the road is open: alarms, heartbeats, retention by age, and the wish for a halt.

Once a second the state of intake, spool and disk is looked at, in a worker thread. What changes is told in three
ways: in relay's log, by an alarm event, and to all users where it matters to them. Alarms stay in their slot, so that
a restart neither forgets nor repeats them. Own events wait in memory while nothing can be taken in: at most
`MAX_WAITING`, then the oldest are dropped (what was lost is told by gaps, which do not wait here).
"""

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from relay import alarm, own_events
from relay.alarm import Alarm, AlarmChange, Alarms
from relay.delivery.destination import Destination
from relay.disk import Disk
from relay.errors import RelayError, StorageError
from relay.event import Batch, Event
from relay.intake import Intake, Policy
from relay.own_events import Author
from relay.settings import Settings
from relay.spool.cursor import MAX_CONTENT
from relay.spool.store import Store
from relay.watch import disk as disk_watch
from relay.watch.clock import AgeRule, Clocks
from relay.watch.halt import HaltRequest, HaltWay, boot_id
from relay.watch.users import AllUsers

TICK_SECONDS: Final = 1.0
HEARTBEAT_SECONDS: Final = 60.0
QUIET_SECONDS: Final = 60.0
"""An alarm about something that happens again and again ends after so long without it."""
MAX_WAITING: Final = 100
_ALARMS: Final = "alarms"
_CLOCK: Final = "clock"
_MICROSECONDS: Final = 1_000_000

_log = logging.getLogger("relay.housekeeping")


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """How the spool is to be cared for: the settings of [audit] that matter here."""

    author: Author
    disk_full_action: Policy
    retention: float
    """Seconds."""
    space_left: int
    """Octets; 0: nobody is warned."""
    max_size: int
    may_halt: bool = True
    """Whether disk-full-action halt asks for the machine's halt, or only stops taking in."""
    halt_command: tuple[str, ...] = ()


def author_of(settings: Settings) -> Author:
    """Who speaks in relay's own events."""
    hostname = settings.relay.hostname or socket.gethostname()
    return Author(hostname, settings.relay.router or hostname, settings.relay.node, settings.audit.sd_id)


def care_of(settings: Settings) -> Care:
    """How [audit] and [spool] want the spool to be cared for."""
    return Care(
        author=author_of(settings),
        disk_full_action=settings.audit.disk_full_action,
        retention=settings.audit.retention,
        space_left=settings.audit.space_left,
        max_size=settings.spool.max_size,
        halt_command=settings.audit.halt_command,
    )


def read_clocks() -> Clocks:
    """Both clocks now."""
    return Clocks(time.time_ns() // 1000, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000)


class _Counted(NamedTuple):
    """How often something had happened at the last look, and when it last did (boot clock, microseconds)."""

    times: int
    at: int


class Housekeeping:
    """Looks after one road; `run` until cancelled."""

    def __init__(
        self,
        disk: Disk,
        store: Store,
        intake: Intake,
        destinations: Sequence[Destination],
        care: Care,
        clocks: Callable[[], Clocks] = read_clocks,
    ) -> None:
        self._disk = disk
        self._store = store
        self._intake = intake
        self._destinations = destinations
        self._care = care
        self._clocks = clocks
        self._users = AllUsers(disk)
        way = HaltWay(command=care.halt_command, boot_id=boot_id())
        self._halt = HaltRequest(disk, store.slots, way, lambda: self._users.tell(alarm.HALT_ASKED))
        self.alarms = Alarms.decode(store.slots.get(_ALARMS) or b"")
        now = clocks()
        self._age = AgeRule.decode(store.slots.get(_CLOCK), now)
        self._began = now.boot
        self._halt_failure = ""
        self._counted: dict[str, _Counted] = {}
        self._waiting: deque[Event] = deque(maxlen=MAX_WAITING)
        self._next_heartbeat = now.boot + int(HEARTBEAT_SECONDS * _MICROSECONDS)

    async def run(self) -> None:
        """Open the run with its event, then look after everything, once a second."""
        self._waiting.append(self._opening(self._clocks().wall))
        while True:
            await self._tell()
            await asyncio.sleep(TICK_SECONDS)
            self._waiting.extend(await asyncio.to_thread(self.look))

    async def _tell(self) -> None:
        """Hand on what waits, as long as the intake takes in."""
        while self._waiting and self._intake.error is None:
            await self._intake.submit(Batch([self._waiting.popleft()]))

    def _opening(self, now: int) -> Event:
        previous = self._store.previous_run()
        return own_events.opening(self._care.author, now, own_events.PreviousRun(*previous) if previous else None)

    def look(self) -> list[Event]:
        """Look at everything once; the events that tell of it."""
        now = self._clocks()
        events = []
        for change in self._changes(now):
            _log.warning("alarm %s: %s", "raised" if change.raised else "cleared", change.alarm.text)
            self._users.tell_change(change)
            events.append(own_events.alarm(self._care.author, now.wall, change))
        if events:
            self._remember(_ALARMS, self.alarms.encode(MAX_CONTENT - len(_ALARMS)))
        self._ask_for_halt(now)
        self._expire(now)
        if now.boot >= self._next_heartbeat:
            self._next_heartbeat = now.boot + int(HEARTBEAT_SECONDS * _MICROSECONDS)
            events.append(self._heartbeat(now.wall))
        return events

    # --- Alarms ---

    def _changes(self, now: Clocks) -> Iterator[AlarmChange]:
        for name, wanted in self._wanted(now):
            change = self.alarms.raise_(wanted, now.wall) if wanted else self.alarms.clear(name, now.wall)
            if change is not None:
                yield change

    def _wanted(self, now: Clocks) -> Iterator[tuple[str, Alarm | None]]:
        """Each alarm's name, and the alarm that the present state calls for."""
        room = self._store.room
        error = self._intake.error
        stopped = error if self._care.disk_full_action != "ignore" else None
        refusing = self._again(alarm.SPOOL_IGNORING, self._intake.refused, now)
        rotating = self._again(alarm.SPOOL_ROTATING, room.rotated, now)
        cut_short = self._again(alarm.RETENTION_CUT_SHORT, room.cut_short, now)
        full, failing = stopped is not None and _is_full(stopped), error is not None and not _is_full(error)
        yield alarm.SPOOL_FULL, _if(full, alarm.SPOOL_FULL, "critical", f"nothing is taken in: {stopped}")
        yield alarm.DISK_FAILING, _if(failing, alarm.DISK_FAILING, "critical", f"the spool cannot be written: {error}")
        yield (
            alarm.SPOOL_IGNORING,
            _if(refusing, alarm.SPOOL_IGNORING, "critical", "new events are refused, and counted"),
        )
        yield (
            alarm.SPOOL_ROTATING,
            _if(rotating, alarm.SPOOL_ROTATING, "critical", "the oldest events are deleted undelivered, and counted"),
        )
        yield (
            alarm.RETENTION_CUT_SHORT,
            _if(
                cut_short,
                alarm.RETENTION_CUT_SHORT,
                "minor",
                "delivered events are deleted before their retention ends",
            ),
        )
        failed = self._halt_failure
        yield (
            alarm.HALT_FAILED,
            _if(bool(failed), alarm.HALT_FAILED, "critical", f"the halt could not be asked for: {failed}"),
        )
        yield alarm.DISK_SPACE_LEFT, self._space_left()

    def _space_left(self) -> Alarm | None:
        room = disk_watch.Room(
            free=self._disk.free(self._store.folder),
            held=self._store.room.held,
            max_size=self._care.max_size,
            space_left=self._care.space_left,
        )
        return disk_watch.alarm_wanted(room, self.alarms.get(alarm.DISK_SPACE_LEFT))

    def _again(self, name: str, times: int, now: Clocks) -> bool:
        """Whether something that is counted has happened lately."""
        known = self._counted.get(name, _Counted(0, -int(QUIET_SECONDS * _MICROSECONDS)))
        if times != known.times:
            known = self._counted[name] = _Counted(times, now.boot)
        return times > 0 and now.boot - known.at < QUIET_SECONDS * _MICROSECONDS

    # --- Halt, retention, heartbeat ---

    def _ask_for_halt(self, now: Clocks) -> None:
        if self._intake.error is None or self._care.disk_full_action != "halt" or not self._care.may_halt:
            self._halt_failure = ""
            return
        proven = max((each.cursor.proven_at for each in self._destinations), default=0)
        still = min(now.boot - self._began, now.wall - proven) / _MICROSECONDS
        answer = self._halt.ask(uptime=now.boot / _MICROSECONDS, still=still)
        if answer.outcome == "failed":
            self._halt_failure = answer.words

    def _expire(self, now: Clocks) -> None:
        rule = self._age.look(now)
        if rule is not self._age:
            self._age = rule
            self._remember(_CLOCK, rule.encode())
        if rule.may_delete(now):
            self._store.room.expire(now.wall - int(self._care.retention * _MICROSECONDS))

    def _heartbeat(self, now: int) -> Event:
        retained, transient = self._store.retained, self._store.transient
        behind = {
            each.name: retained.next_number - each.cursor.retained + transient.next_number - each.cursor.transient
            for each in self._destinations
        }
        chain = retained.last.chain if retained.last else b""
        return own_events.heartbeat(self._care.author, now, self._intake.last_numbers, chain, behind)

    def _remember(self, slot: str, value: bytes) -> None:
        try:
            self._store.slots.put(slot, value)
        except StorageError as error:
            _log.warning("not remembered: %s", error)


def _is_full(error: RelayError) -> bool:
    return isinstance(error, StorageError) and error.full


def _if(wanted: bool, name: str, severity: alarm.Severity, text: str) -> Alarm | None:  # noqa: FBT001  its condition
    return Alarm(name, severity, text) if wanted else None
