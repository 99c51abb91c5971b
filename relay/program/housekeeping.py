"""The housekeeping of a running program: alarms, heartbeats, retention by age, and the request for a halt.

Once a second a worker thread takes a snapshot and asks the table of alarms about it. An alarm that is raised or cleared
goes to relay's log, into an event, to the alarm-command, and to all users if it concerns them. Alarms are kept in a
slot, so that a restart neither forgets nor repeats them. relay's own events may use the spool's reserve; beyond it they
are refused and counted. While the disk does not answer they wait in memory: `MAX_WAITING` at most, then the oldest are
dropped (gaps do not wait here).

A bug in one part of a look ends neither the housekeeping nor the other parts: it is an alarm of its own.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Final, NamedTuple

from relay.delivery.destination import Destination
from relay.errors import RelayError, StorageError
from relay.events import own_events
from relay.events.own_events import Author, HeartbeatReport
from relay.program.alarms import (
    NOT_WATCHED,
    DiskSpace,
    ServerState,
    Snapshot,
    alarms_wanted,
    internal_error_alarm,
)
from relay.program.intake import Intake
from relay.program.watch.age_rule import DISAGREEMENT, AgeRule
from relay.program.watch.alarm_command import AlarmCommand
from relay.program.watch.all_users import LASTING, NETWORK_HALT, UNWATCHED, AllUsers
from relay.program.watch.audit_trail.audit_trail_watch import AuditTrailWatch
from relay.program.watch.certificate_watch import CertificateWatch
from relay.program.watch.clock_watch import ClockWatch
from relay.program.watch.halt_request import HaltRequest
from relay.program.watch.silence_watch import ArchiveProgress, OriginatorCounts, Silences, SilenceWatch
from relay.spool.full_disk import Policy
from relay.spool.slots import MAX_CONTENT
from relay.spool.store import Store
from relay.syslog.rfc5424 import format_timestamp
from relay.system.clock import read_clocks
from relay.system.disk import Disk
from relay.system.rare_log import RareLog
from relay.values import alarm
from relay.values.alarm import Alarm, AlarmChange, Alarms
from relay.values.clocks import Clocks
from relay.values.configuration.receiver_settings import ARCHIVE
from relay.values.configuration.settings import Settings
from relay.values.duration import duration_text
from relay.values.event import Batch, Event, Submit
from relay.values.text import bug_text

INTERVAL_SECONDS: Final = 1.0
HEARTBEAT_SECONDS: Final = 60.0
PROBE_SECONDS: Final = 2.0
"""From one heartbeat to the next while a server waits for any message (relay.delivery.suspicion)."""
QUIET_SECONDS: Final = 60.0
"""An alarm about a repeated loss ends after so long without one."""
REMIND_SECONDS: Final = 60.0
"""From one message to all users to the next, about an alarm that nobody may miss."""
MAX_WAITING: Final = 100
ALARMS_SLOT: Final = "alarms"
_CLOCK_SLOT: Final = "clock"
_MICROSECONDS: Final = 1_000_000

_log = logging.getLogger("relay.housekeeping")


@dataclass(frozen=True, slots=True, kw_only=True)
class HousekeepingPolicy:
    """The settings that housekeeping follows."""

    author: Author
    disk_full_action: Policy
    retention: float
    """Seconds."""
    space_left: int
    """Bytes; 0: no alarm."""
    network_failure: Mapping[str, float] = field(default_factory=dict)
    """The servers for which the machine is to be halted, and after how many seconds without them."""
    version: str = ""
    """relay's, for its own events."""


def author_of(settings: Settings) -> Author:
    """The author of relay's own events."""
    hostname = settings.relay.hostname or socket.gethostname()
    return Author(hostname, settings.relay.router or hostname, settings.relay.node, settings.audit.sd_id)


def policy_of(settings: Settings) -> HousekeepingPolicy:
    """The policy that [audit] and the servers' keys configure."""
    return HousekeepingPolicy(
        author=author_of(settings),
        disk_full_action=settings.audit.disk_full_action,
        retention=settings.audit.retention,
        space_left=settings.audit.space_left,
        network_failure={
            server.display_name: server.network_failure_timeout
            for server in settings.remote_logging_server
            if server.network_failure_action == "halt"
        },
        version=version("relay-syslog"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Watches:
    """The watches besides intake, spool and servers, and the ways to warn. The two programs build them."""

    users: AllUsers
    certificates: CertificateWatch
    audit_trail: AuditTrailWatch | None = None
    fed_by_auditd: frozenset[str] = frozenset()
    """The sources whose records the watch on the audit trail notes."""
    halt: HaltRequest | None = None
    """None: this program never requests a halt."""
    alarm_command: AlarmCommand = field(default_factory=lambda: AlarmCommand(()))
    silence: SilenceWatch | None = None
    """Of the archive's originators; None: this program has no archive."""


WatchesBuilder = Callable[[Store, Watches | None], Watches]
"""Builds the watches from the open store and, after a reload, from the former ones, which it keeps where it can."""


class _Counted(NamedTuple):
    """How often something had happened at the last look, and when it last did (boot clock, microseconds)."""

    times: int
    at: int


class _LostServer(NamedTuple):
    """A server that is lost."""

    since: int
    """By the delivery's account; wall clock."""
    seen: int
    """When housekeeping first saw it; boot clock."""
    cause: RelayError


class Housekeeping:
    """Looks after one road; `run` until cancelled."""

    def __init__(  # noqa: PLR0913, PLR0917  each is a part of the program
        self,
        disk: Disk,
        store: Store,
        intake: Intake,
        destinations: Sequence[Destination],
        policy: HousekeepingPolicy,
        build: WatchesBuilder,
        clocks: Callable[[], Clocks] = read_clocks,
    ) -> None:
        self.faults: Callable[[], Mapping[str, RelayError | None]] = dict
        """Returns why each listener and port-forwarding cannot be used, by its name; called in a worker thread."""
        self.archive_fault: Callable[[], RelayError | None] = lambda: None
        """Returns why a closed day of the archive could not be compressed or removed."""
        self.losses: Callable[[], Mapping[str, int]] = dict
        """Returns what was counted since the start, by the alarm that reports it; called on the event loop."""
        self.reports: Callable[[Author, int], list[Event]] = lambda _author, _now: []
        """Returns events about what other parts of the program did; called in a worker thread."""
        self.alarms = Alarms.decode(store.slots.get(ALARMS_SLOT) or b"")
        self.watches = build(store, None)
        self._disk = disk
        self._store = store
        self._intake = intake
        self._destinations = destinations
        self._policy = policy
        self._clocks = clocks
        self._looking = asyncio.Lock()
        """Held while a worker thread looks."""
        now = clocks()
        self._age = AgeRule.decode(store.slots.get(_CLOCK_SLOT), now)
        self._clock = ClockWatch(Clocks(self._age.wall, self._age.boot))
        self._clock_log = RareLog(_log)
        self._began = now.boot
        self._lost: dict[str, _LostServer] = {}
        self._halt_failure = ""
        self._bug = ""
        """What the last bug was; empty when it was long ago."""
        self._bug_at = 0
        self._free = sys.maxsize
        """Free bytes on the disk, as far as it was possible to ask."""
        self._counted: dict[str, _Counted] = {}
        self._lost_counts: Mapping[str, int] = {}
        self.originators: OriginatorCounts | None = None
        """None: this program has no archive."""
        self._waiting: deque[Event] = deque(maxlen=MAX_WAITING)
        self._submitted: asyncio.Future[None] | None = None
        self._next_heartbeat = now.boot + int(HEARTBEAT_SECONDS * _MICROSECONDS)
        self._next_reminder = now.boot

    async def exchange(self, policy: HousekeepingPolicy, build: WatchesBuilder) -> None:
        """Follow this policy from now on, with the watches that `build` makes of the former ones."""
        async with self._looking:
            self._policy = policy
            self.watches = build(self._store, self.watches)

    def submit_of(self, source: str) -> Submit:
        """The submit function for a source: the intake's, behind the watch on the audit trail if the source has it."""
        submit = self._intake.submit_for(source)
        watch = self.watches.audit_trail
        return watch.wrap(submit) if watch is not None and source in self.watches.fed_by_auditd else submit

    async def run(self) -> None:
        """Submit the event that opens the run, then look once a second."""
        previous = self._store.previous_run
        before = own_events.PreviousRun(*previous) if previous else None
        self._waiting.append(own_events.opening(self._policy.author, self._clocks().wall, before, self._policy.version))
        while True:
            if self._waiting and (self._submitted is None or self._submitted.done()):
                self._submitted = await self._intake.submit(Batch([*self._waiting], repeatable=False))
                self._waiting.clear()
            await asyncio.sleep(INTERVAL_SECONDS)
            async with self._looking:
                try:
                    self._lost_counts = dict(self.losses())
                except Exception as bug:  # noqa: BLE001  as in `look`
                    self._waiting.extend(self._note_bug(bug, self._clocks()))
                self._waiting.extend(await asyncio.to_thread(self.look))

    def look(self) -> list[Event]:
        """Look at everything once, and act on it; returns the events that report it."""
        now, events = self._clocks(), list[Event]()
        for part in (self._look_at_clock, self._look_for_alarms, self._remind, self._expire, self._report, self._beat):
            try:
                events += part(now)
            except Exception as bug:  # noqa: BLE001  the other parts, and the next looks, must go on
                events += self._note_bug(bug, now)
        return events

    def _look_at_clock(self, now: Clocks) -> list[Event]:
        if step := self._clock.look(now):
            self._clock_log.warn(
                "clock",
                "the clock of this machine was set %s by %s, to %s; times of receipt follow it%s",
                "forward" if step > 0 else "back",
                duration_text(round(abs(step) / _MICROSECONDS)),
                format_timestamp(now.wall).decode(),
                "; nothing is deleted by age for 24 hours" if abs(step) > DISAGREEMENT else "",
            )
        return []

    def _look_for_alarms(self, now: Clocks) -> list[Event]:
        seen = self._snapshot(now)
        events = self._events_of(self._changes(alarms_wanted(seen), now), now)
        self._request_halt(seen.servers, now)
        return events

    def _events_of(self, changes: Iterable[AlarmChange], now: Clocks) -> list[Event]:
        events = [own_events.alarm(self._policy.author, now.wall, change) for change in changes]
        if events:
            self._remember(ALARMS_SLOT, self.alarms.encode(MAX_CONTENT - len(ALARMS_SLOT)))
        return events

    def _remind(self, now: Clocks) -> list[Event]:
        if now.boot >= self._next_reminder:
            self._next_reminder = now.boot + int(REMIND_SECONDS * _MICROSECONDS)
            self.watches.users.remind(self.alarms.active)
        return []

    def _beat(self, now: Clocks) -> list[Event]:
        probe = any(each.needs_a_message for each in self._destinations)
        if now.boot < self._next_heartbeat - probe * int((HEARTBEAT_SECONDS - PROBE_SECONDS) * _MICROSECONDS):
            return []
        self._next_heartbeat = now.boot + int(HEARTBEAT_SECONDS * _MICROSECONDS)
        retained, transient = self._store.retained, self._store.transient
        behind = {
            each.name: retained.next_number - each.cursor.retained + transient.next_number - each.cursor.transient
            for each in self._destinations
        }
        chain = retained.last.chain if retained.last else b""
        raised, lost = [each.alarm for each in self.alarms.active], self._store.losses.reported_events.total()
        report = HeartbeatReport(self._intake.last_numbers, chain, behind, self._policy.version, raised, lost)
        return [own_events.heartbeat(self._policy.author, now.wall, report)]

    def _note_bug(self, bug: Exception, now: Clocks) -> list[Event]:
        """Raise the alarm about a bug at once: the next look may fail before it asks the table of alarms."""
        self._bug, self._bug_at = bug_text(bug), now.boot
        raised = [each.alarm for each in self.alarms.active if each.alarm.name != alarm.INTERNAL_ERROR]
        return self._events_of(self._changes([*raised, internal_error_alarm(self._bug)], now), now)

    # --- The snapshot ---

    def _snapshot(self, now: Clocks) -> Snapshot:
        error, space, watch = self._intake.error, self._store.space, self.watches.audit_trail
        with contextlib.suppress(StorageError):  # a failing disk may not say it, and needs the other alarms
            self._free = self._disk.free(self._store.folder)
        former, self._lost = self._lost, {}
        servers = [self._server_state(each, former.get(each.name), now) for each in self._destinations]
        return Snapshot(
            raised={(each.alarm.name, each.alarm.about): each.alarm.text for each in self.alarms.active},
            intake_error=error,
            waiting="sources" if self.watches.silence is None else "senders",
            refusing=self._happened_lately("refused", self._intake.refused.total(), now),
            rotating=self._happened_lately("rotated", space.rotated, now),
            retention_cut_short=self._happened_lately("cut short", space.cut_short, now),
            halt_failure=self._halt_failure,
            bug=self._bug if self._bug and now.boot - self._bug_at < QUIET_SECONDS * _MICROSECONDS else "",
            space=DiskSpace(
                free=self._free,
                held=space.held,
                max_size=space.max_size,
                reserved=space.reserved,
                space_left=self._policy.space_left,
            ),
            audit_trail=watch.look(now, accepting=error is None) if watch is not None else None,
            own_events_per_minute=watch.own_records.per_minute(now.boot) if watch is not None else 0,
            certificates=self.watches.certificates.look(now),
            today=dt.datetime.fromtimestamp(now.wall / _MICROSECONDS, dt.UTC),
            servers=servers,
            faults=self.faults(),
            losing=frozenset(
                name for name, count in self._lost_counts.items() if self._happened_lately(name, count, now)
            ),
            silences=self._silences(now),
            archive_fault=self.archive_fault(),
        )

    def _silences(self, now: Clocks) -> Silences:
        watch = self.watches.silence
        archive = next((each for each in self._destinations if each.name == ARCHIVE), None)
        if watch is None or archive is None:
            return Silences()
        ends = self._store.spools.map(lambda spool: spool.next_number)
        hindered = self._intake.error is not None or archive.error is not None
        found = watch.look(now.boot, ArchiveProgress(archive.cursor.blocks, ends, hindered))
        self.originators = OriginatorCounts(found.known, len(found.originators), found.unverified, found.contested)
        return found

    def _happened_lately(self, what: str, times: int, now: Clocks) -> bool:
        known = self._counted.get(what, _Counted(0, -int(QUIET_SECONDS * _MICROSECONDS)))
        if times != known.times:
            known = self._counted[what] = _Counted(times, now.boot)
        return times > 0 and now.boot - known.at < QUIET_SECONDS * _MICROSECONDS

    def _server_state(self, destination: Destination, lost: _LostServer | None, now: Clocks) -> ServerState:
        """How long it is lost is measured by the boot clock, because the wall clock may jump.

        The cause stays while attempts fail at the same object in the same way, because each new text is an event.
        """
        name, error, since = destination.name, destination.error, destination.error_since
        timeout = self._policy.network_failure.get(name, float("inf"))
        if error is None:
            return ServerState(name=name, proofs=destination.proofs, network_failure_timeout=timeout)
        if lost is None or lost.since != since:
            lost = _LostServer(since, now.boot, lost.cause if lost else error)
        if (type(lost.cause), lost.cause.what) != (type(error), error.what):
            lost = lost._replace(cause=error)
        self._lost[name] = lost
        return ServerState(
            name=name,
            proofs=destination.proofs,
            lost_seconds=(now.boot - lost.seen) / _MICROSECONDS,
            cause=lost.cause,
            network_failure_timeout=timeout,
        )

    # --- The reactions ---

    def _changes(self, wanted: Sequence[Alarm], now: Clocks) -> Iterator[AlarmChange]:
        """Clear and raise alarms until those of `wanted` are raised; logs each change and sends it to the users."""
        keys = {(each.name, each.about) for each in wanted}
        over = [each.alarm for each in self.alarms.active if (each.alarm.name, each.alarm.about) not in keys]
        cleared = [self.alarms.clear(each.name, now.wall, each.about) for each in over]
        for change in (*cleared, *(self.alarms.raise_(each, now.wall) for each in wanted)):
            if change is None:
                continue
            if change.alarm.name == alarm.AUDITD_DOWN and self.watches.audit_trail is None:
                # It was raised by a run that watched auditd. That it is cleared must not say that auditd works.
                change = replace(change, alarm=replace(change.alarm, text=NOT_WATCHED))  # noqa: PLW2901
                self.watches.users.send(alarm.AUDITD_DOWN + UNWATCHED)
            elif self._is_given_up(change):
                text = f"{change.alarm.about} is not watched any more; it has not come back"
                change = replace(change, alarm=replace(change.alarm, text=text))  # noqa: PLW2901
            else:
                self.watches.users.send_change(change)
            self.watches.alarm_command.note(change)
            _log.warning("alarm %s: %s", "raised" if change.raised else "cleared", change.alarm.text)
            if change.begins and change.alarm.name in LASTING:
                self._next_reminder = now.boot + int(REMIND_SECONDS * _MICROSECONDS)
            yield change

    def _is_given_up(self, change: AlarmChange) -> bool:
        """Whether an alarm about a silent originator ends although nothing came from it."""
        watch, about = self.watches.silence, change.alarm.about
        of_one = change.alarm.name == alarm.ORIGINATOR_SILENT and about and not change.raised
        return bool(of_one) and (watch is None or not watch.is_heard(about))

    def _request_halt(self, servers: Iterable[ServerState], now: Clocks) -> None:
        """Request the halt where the policy wants one, unless the destinations that it is about still make progress."""
        lost = {each.name for each in servers if each.lost_seconds >= each.network_failure_timeout}
        halt = self.watches.halt
        if halt is not None and lost:
            message, concerned = NETWORK_HALT, [each for each in self._destinations if each.name in lost]
        elif halt is not None and self._intake.error is not None and self._policy.disk_full_action == "halt":
            message, concerned = alarm.HALT_ASKED, [*self._destinations]
        else:
            self._halt_failure = ""
            return
        proven = max((each.cursor.proven_at for each in concerned), default=0)
        still = min(now.boot - self._began, now.wall - proven) / _MICROSECONDS
        outcome = halt.request(message, uptime=now.boot / _MICROSECONDS, still=still)
        if outcome.outcome == "failed":
            self._halt_failure = outcome.detail

    def _expire(self, now: Clocks) -> list[Event]:
        rule = self._age.look(now)
        if rule is not self._age:
            self._age = rule
            self._remember(_CLOCK_SLOT, rule.encode())
        if rule.may_delete(now):
            self._store.space.expire(now.wall - int(self._policy.retention * _MICROSECONDS))
        return []

    def may_delete_by_age(self) -> bool:
        """Whether the clocks can be trusted so far that something may be deleted because of its age."""
        now = self._clocks()
        return self._age.look(now).may_delete(now)  # the clock may have been set since the last look

    def _report(self, now: Clocks) -> list[Event]:
        return self.reports(self._policy.author, now.wall)

    def _remember(self, slot: str, value: bytes) -> None:
        try:
            self._store.slots.put(slot, value)
        except StorageError as error:
            _log.warning('the slot "%s" cannot be written, a restart of relay will not know it: %s', slot, error)
