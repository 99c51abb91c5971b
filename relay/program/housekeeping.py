"""What is looked after while the road is open: alarms, heartbeats, retention by age, and the wish for a halt.

Once a second the state of intake, spool, disk, servers and, if wanted, auditd is looked at, in a worker thread. What
changes is told in three ways: in relay's log, by an alarm event, and to all users where it matters to them. Alarms
stay in their slot, so that a restart neither forgets nor repeats them. Own events may use the spool's reserve, and are
refused and counted beyond it. While the disk does not answer they wait in memory: at most `MAX_WAITING`, then the
oldest are dropped (gaps do not wait here).
"""

import asyncio
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from relay.delivery.destination import Destination
from relay.errors import RelayError, StorageError
from relay.events import own_events
from relay.events.own_events import Author
from relay.program.intake import Intake
from relay.program.watch import disk as disk_watch
from relay.program.watch.audit_trail import AuditTrail, ThisMachine
from relay.program.watch.certificates import CertificateWatch, ConfiguredCertificate, of_servers
from relay.program.watch.clock import AgeRule, Clocks
from relay.program.watch.halt import HaltMethod, HaltRequest, boot_id
from relay.program.watch.own_records import OwnRecords
from relay.program.watch.users import LASTING, NETWORK_HALT, UNWATCHED, AllUsers
from relay.spool.full_disk import Policy
from relay.spool.slots import MAX_CONTENT
from relay.spool.store import Store
from relay.system.clock import wall_clock
from relay.system.disk import Disk
from relay.values import alarm
from relay.values.alarm import Alarm, AlarmChange, Alarms
from relay.values.event import Batch, Event, Submit
from relay.values.settings import Settings

TICK_SECONDS: Final = 1.0
HEARTBEAT_SECONDS: Final = 60.0
WANTED_SECONDS: Final = 2.0
"""The same while a server waits for any message (relay.delivery.suspicion)."""
QUIET_SECONDS: Final = 60.0
"""An alarm about something that happens again and again ends after so long without it."""
REMIND_SECONDS: Final = 60.0
"""How often all users are told again of an alarm that they must not miss."""
_LONGEST_CAUSE: Final = 400
"""Characters of an error that an alarm repeats; all alarms share one slot."""
LOST_SECONDS: Final = 3.0
"""A server that is back sooner was not lost: a connection may break."""
MAX_WAITING: Final = 100
_REFUSING: Final = (
    "the spool's reserve is used up: new events that no source can deliver again are refused, and counted"
)
_NOT_WATCHED: Final = "auditd is not watched any more: watch-auditd forbids it, or no source is fed by it"
_ALARMS: Final = "alarms"
_CLOCK: Final = "clock"
_MICROSECONDS: Final = 1_000_000

_log = logging.getLogger("relay.housekeeping")


@dataclass(frozen=True, slots=True, kw_only=True)
class HousekeepingPolicy:
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
    network_failure: Mapping[str, float] = field(default_factory=dict)
    """The servers that the machine is to be halted for, and after how many seconds without them."""
    fed_by_auditd: frozenset[str] = frozenset()
    """The sources by which auditd is watched; none: it is not."""
    certificates: Sequence[ConfiguredCertificate] = ()
    """Those that should not end unnoticed."""


def author_of(settings: Settings) -> Author:
    """Who speaks in relay's own events."""
    hostname = settings.relay.hostname or socket.gethostname()
    return Author(hostname, settings.relay.router or hostname, settings.relay.node, settings.audit.sd_id)


def care_of(settings: Settings) -> HousekeepingPolicy:
    """How [audit] and [spool] want the spool to be cared for."""
    return HousekeepingPolicy(
        author=author_of(settings),
        disk_full_action=settings.audit.disk_full_action,
        retention=settings.audit.retention,
        space_left=settings.audit.space_left,
        max_size=settings.spool.max_size,
        halt_command=settings.audit.halt_command,
        network_failure={
            server.display_name: server.network_failure_timeout
            for server in settings.remote_logging_server
            if server.network_failure_action == "halt"
        },
        fed_by_auditd=settings.watched_sources,
        certificates=of_servers(settings),
    )


def read_clocks() -> Clocks:
    """Both clocks now."""
    return Clocks(wall_clock(), time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000)


Fault = Callable[[], tuple[str, RelayError | None]]
"""The name of a listener or port-forwarding, and what it waits for: an error that only a person can repair."""


class _Counted(NamedTuple):
    """How often something had happened at the last look, and when it last did (boot clock, microseconds)."""

    times: int
    at: int


class _LostServer(NamedTuple):
    """A server that is lost: when by its own account (wall clock), and when that was first seen (boot clock)."""

    since: int
    seen: int


class _HaltReason(NamedTuple):
    """A reason for a halt: what users are told of it, and whose cursors must stand still."""

    message: str
    destinations: Sequence[Destination]


class Housekeeping:
    """Looks after one road; `run` until cancelled."""

    def __init__(
        self,
        disk: Disk,
        store: Store,
        intake: Intake,
        destinations: Sequence[Destination],
        care: HousekeepingPolicy,
        clocks: Callable[[], Clocks] = read_clocks,
    ) -> None:
        self._disk = disk
        self._store = store
        self._intake = intake
        self._destinations = destinations
        self._care = care
        self._clocks = clocks
        self.faults: Sequence[Fault] = ()
        """What else may wait for a repair, besides the destinations."""
        self._users = AllUsers(disk)
        self._halt = self._halt_request(care)
        self._looking = asyncio.Lock()
        """Held while everything is looked at, in a worker thread."""
        self.alarms = Alarms.decode(store.slots.get(_ALARMS) or b"")
        now = clocks()
        self._age = AgeRule.decode(store.slots.get(_CLOCK), now)
        self._began = now.boot
        self.audit_trail: AuditTrail | None = None
        """The auditd watch, when it is wanted."""
        if care.fed_by_auditd:
            self.audit_trail = self._watch(now)
        self._certificates = CertificateWatch(care.certificates)
        self._ending: Mapping[str, Alarm] = {}
        self._own_records = OwnRecords(os.getpid(), now.boot)
        self._lost: dict[str, _LostServer] = {}
        self._causes: dict[str, RelayError] = {}
        """What the alarm about each lost server names."""
        self._halt_failure = ""
        self._counted: dict[str, _Counted] = {}
        self._waiting: deque[Event] = deque(maxlen=MAX_WAITING)
        self._handed_on: asyncio.Future[None] | None = None
        self._next_heartbeat = now.boot + int(HEARTBEAT_SECONDS * _MICROSECONDS)
        self._next_reminder = now.boot

    def _halt_request(self, care: HousekeepingPolicy) -> HaltRequest:
        way = HaltMethod(command=care.halt_command, boot_id=boot_id())
        return HaltRequest(self._disk, self._store.slots, way, self._users.tell)

    def _watch(self, now: Clocks) -> AuditTrail:
        standing = self.alarms.get(alarm.AUDITD_DOWN) is not None
        return AuditTrail(now, standing=standing, clocks=self._clocks, machine=ThisMachine())

    async def exchange(self, care: HousekeepingPolicy) -> None:
        """Care as these settings want it from now on; a watch that stays wanted goes on."""
        async with self._looking:
            former, self._care = self._care, care
            if care.halt_command != former.halt_command:
                self._halt = self._halt_request(care)
            if bool(care.fed_by_auditd) != (self.audit_trail is not None):
                self.audit_trail = self._watch(self._clocks()) if care.fed_by_auditd else None
            self._certificates = CertificateWatch(care.certificates)

    def submit_of(self, source: str) -> Submit:
        """What a source is to hand its batches to: the intake, and before that the auditd watch if it is fed by it."""
        if self.audit_trail is not None and source in self._care.fed_by_auditd:
            return self.audit_trail.hear(self._own_records.hear(self._intake.submit_for(source)))
        return self._intake.submit_for(source)

    async def run(self) -> None:
        """Open the run with its event, then look after everything, once a second."""
        self._waiting.append(self._opening(self._clocks().wall))
        while True:
            await self._tell()
            await asyncio.sleep(TICK_SECONDS)
            async with self._looking:
                self._waiting.extend(await asyncio.to_thread(self.look))

    async def _tell(self) -> None:
        """Hand on what waits, once what was handed on before is durable, or refused."""
        if self._waiting and (self._handed_on is None or self._handed_on.done()):
            self._handed_on = await self._intake.submit(Batch([*self._waiting], repeatable=False))
            self._waiting.clear()

    def _opening(self, now: int) -> Event:
        previous = self._store.previous_run
        return own_events.opening(self._care.author, now, own_events.PreviousRun(*previous) if previous else None)

    def look(self) -> list[Event]:
        """Look at everything once; the events that tell of it."""
        now = self._clocks()
        self._note_lost(now)
        events = []
        for change in self._changes(now):
            _log.warning("alarm %s: %s", "raised" if change.raised else "cleared", change.alarm.text)
            self._tell_users(change)
            if change.begins and change.alarm.name in LASTING:
                self._next_reminder = now.boot + int(REMIND_SECONDS * _MICROSECONDS)
            events.append(own_events.alarm(self._care.author, now.wall, change))
        if events:
            self._remember(_ALARMS, self.alarms.encode(MAX_CONTENT - len(_ALARMS)))
        self._remind(now)
        self._ask_for_halt(now)
        self._expire(now)
        wanted = any(each.wants_a_message for each in self._destinations)
        if now.boot >= self._next_heartbeat - wanted * int((HEARTBEAT_SECONDS - WANTED_SECONDS) * _MICROSECONDS):
            self._next_heartbeat = now.boot + int(HEARTBEAT_SECONDS * _MICROSECONDS)
            events.append(self._heartbeat(now.wall))
        return events

    # --- Alarms ---

    def _changes(self, now: Clocks) -> Iterator[AlarmChange]:
        self._ending = self._certificates.look(now)
        yield from self._unwatched(now)
        for name, wanted in self._wanted(now):
            yield from self._turn(name, "", wanted, now)
        for each in self._destinations:
            for name, wanted in self._wanted_of(each, now):
                yield from self._turn(name, each.name, wanted, now)
        parts = dict(tell() for tell in self.faults)
        for about, error in parts.items():
            stopped = error is not None and not error.retryable
            wanted = Alarm(alarm.REPAIR_NEEDED, "major", f"{about} waits for a repair{_because(error)}", about)
            yield from self._turn(alarm.REPAIR_NEEDED, about, wanted if stopped else None, now)
        servers = {"", *(each.name for each in self._destinations), *parts}
        for gone in [change.alarm for change in self.alarms.active if change.alarm.about not in servers]:
            yield from self._turn(gone.name, gone.about, None, now)

    def _unwatched(self, now: Clocks) -> Iterator[AlarmChange]:
        """End what stands from a run that watched auditd, when this one does not; it does not say that auditd works."""
        if self.audit_trail is None and (change := self.alarms.clear(alarm.AUDITD_DOWN, now.wall)):
            yield replace(change, alarm=replace(change.alarm, text=_NOT_WATCHED))

    def _tell_users(self, change: AlarmChange) -> None:
        if change.alarm.name == alarm.AUDITD_DOWN and self.audit_trail is None:
            self._users.tell(alarm.AUDITD_DOWN + UNWATCHED)
        else:
            self._users.tell_change(change)

    def _turn(self, name: str, about: str, wanted: Alarm | None, now: Clocks) -> Iterator[AlarmChange]:
        change = self.alarms.raise_(wanted, now.wall) if wanted else self.alarms.clear(name, now.wall, about)
        if change is not None:
            yield change

    def _wanted(self, now: Clocks) -> Iterator[tuple[str, Alarm | None]]:
        """Each alarm's name, and the alarm that the present state calls for."""
        error, space = self._intake.error, self._store.space
        refusing = self._again(alarm.SPOOL_IGNORING, self._intake.refused.total(), now)
        rotating = self._again(alarm.SPOOL_ROTATING, space.rotated, now)
        cut_short = self._again(alarm.RETENTION_CUT_SHORT, space.cut_short, now)
        full, failing = error is not None and _is_full(error), error is not None and not _is_full(error)
        yield alarm.SPOOL_FULL, _if(full, alarm.SPOOL_FULL, "critical", f"the sources wait for space: {error}")
        yield alarm.DISK_FAILING, _if(failing, alarm.DISK_FAILING, "critical", f"the spool cannot be written: {error}")
        yield (
            alarm.SPOOL_IGNORING,
            _if(refusing, alarm.SPOOL_IGNORING, "critical", _REFUSING),
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
        if self.audit_trail is not None:
            yield alarm.AUDITD_DOWN, self.audit_trail.look(now, taking=error is None)
        yield alarm.AUDIT_LOOP, self._own_records.alarm_wanted(now.boot)
        yield alarm.CERTIFICATE_ENDS, self._ending.get("")

    def _space_left(self) -> Alarm | None:
        room = disk_watch.DiskSpace(
            free=self._disk.free(self._store.folder),
            held=self._store.space.held,
            max_size=self._store.space.max_size,
            reserved=self._store.space.reserved,
            space_left=self._care.space_left,
        )
        return disk_watch.alarm_wanted(room, self.alarms.get(alarm.DISK_SPACE_LEFT))

    def _again(self, name: str, times: int, now: Clocks) -> bool:
        """Whether something that is counted has happened lately."""
        known = self._counted.get(name, _Counted(0, -int(QUIET_SECONDS * _MICROSECONDS)))
        if times != known.times:
            known = self._counted[name] = _Counted(times, now.boot)
        return times > 0 and now.boot - known.at < QUIET_SECONDS * _MICROSECONDS

    # --- Servers ---

    def _note_lost(self, now: Clocks) -> None:
        """Since when each server is lost, by the boot clock: the wall clock may jump."""
        former, self._lost = self._lost, {}
        for each in self._destinations:
            if each.error is None:
                continue
            loss = former.get(each.name)
            same = loss is not None and loss.since == each.error_since
            self._lost[each.name] = loss if loss and same else _LostServer(each.error_since, now.boot)

    def _lost_for(self, destination: Destination, now: Clocks) -> float:
        """For how many seconds; 0 while it is not."""
        loss = self._lost.get(destination.name)
        return (now.boot - loss.seen) / _MICROSECONDS if loss else 0

    def _wanted_of(self, destination: Destination, now: Clocks) -> Iterator[tuple[str, Alarm | None]]:
        """Like `_wanted`, of one server; an alarm of an earlier run stands until something is proven in this one."""
        name = destination.name
        lost = self._lost_for(destination, now)
        limit = self._care.network_failure.get(name, float("inf"))
        for least, told in (
            (LOST_SECONDS, self._server_lost(destination)),
            (limit, Alarm(alarm.NETWORK_FAILURE, "critical", f"{name}: lost beyond network-failure-timeout", name)),
        ):
            stands = destination.proofs == 0 and self.alarms.get(told.name, name) is not None
            yield told.name, told if stands or lost >= least else None
        yield alarm.CERTIFICATE_ENDS, self._ending.get(name)

    def _server_lost(self, destination: Destination) -> Alarm:
        """The alarm for a server that is lost. It names the error, with its remedy.

        Each new text is an event, so the text stays while attempts fail at the same object in the same way.
        """
        name, error = destination.name, destination.error
        standing = self.alarms.get(alarm.SERVER_LOST, name)
        if error is None:
            self._causes.pop(name, None)
            return standing or Alarm(alarm.SERVER_LOST, "major", f"nothing can be delivered to {name}", name)
        known = self._causes.get(name)
        if known is None or (type(known), known.what) != (type(error), error.what):
            known = self._causes[name] = error
        return Alarm(alarm.SERVER_LOST, "major", f"nothing can be delivered to {name}{_because(known)}", name)

    # --- Halt, retention, heartbeat ---

    def _ask_for_halt(self, now: Clocks) -> None:
        wish = next(self._wishes(now), None)
        if wish is None:
            self._halt_failure = ""
            return
        proven = max((each.cursor.proven_at for each in wish.destinations), default=0)
        still = min(now.boot - self._began, now.wall - proven) / _MICROSECONDS
        answer = self._halt.ask(wish.message, uptime=now.boot / _MICROSECONDS, still=still)
        if answer.outcome == "failed":
            self._halt_failure = answer.words

    def _wishes(self, now: Clocks) -> Iterator[_HaltReason]:
        """The reasons for a halt that there are now; first that which less stands against."""
        if not self._care.may_halt:
            return
        lost = [
            each
            for each in self._destinations
            if each.name in self._care.network_failure
            and self._lost_for(each, now) >= self._care.network_failure[each.name]
        ]
        if lost:
            yield _HaltReason(NETWORK_HALT, lost)
        if self._intake.error is not None and self._care.disk_full_action == "halt":
            yield _HaltReason(alarm.HALT_ASKED, self._destinations)

    def _remind(self, now: Clocks) -> None:
        if now.boot >= self._next_reminder:
            self._next_reminder = now.boot + int(REMIND_SECONDS * _MICROSECONDS)
            self._users.remind(self.alarms.active)

    def _expire(self, now: Clocks) -> None:
        rule = self._age.look(now)
        if rule is not self._age:
            self._age = rule
            self._remember(_CLOCK, rule.encode())
        if rule.may_delete(now):
            self._store.space.expire(now.wall - int(self._care.retention * _MICROSECONDS))

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


def _because(error: RelayError | None) -> str:
    """An error behind what it causes."""
    told = str(error or "")
    return f": {told if len(told) <= _LONGEST_CAUSE else told[:_LONGEST_CAUSE] + '…'}"


def _if(wanted: bool, name: str, severity: alarm.Severity, text: str) -> Alarm | None:  # noqa: FBT001  its condition
    return Alarm(name, severity, text) if wanted else None
