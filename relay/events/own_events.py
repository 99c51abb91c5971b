"""relay's own events as RFC 5424 messages: openings, heartbeats, gaps, alarms. Pure.

    <PRI>1 TIME HOSTNAME relay - MSGID [128T type="relay" router="…" node="…" …] sentence

They are of type `relay`: always enabled and persistent, and sent to every server whatever its types. Facility 5
(messages of the syslog system itself). Numbers are decimal, times RFC 3339.

- OPENING: a spool's writer begins a run; `previousRun` and `last="TYPE NUMBER"` are the last sequence numbers of the
  run before it, `version` is relay's.
- HEARTBEAT: once a minute; `last="TYPE NUMBER"` for each type, `chain` (the head of the retained spool's hash chain, in
  hex), `backlog="SERVER BLOCKS"`, the blocks without proof, `version`, `lostEvents`, the lost events that gap events
  have reported since the start, and `raised="NAME SEVERITY SUBJECT"` for each raised alarm, the worst eight. Its
  absence shows that a router is silent.
- GAP: `server` (absent: no server got them), `gap` (its number), `cause`, `events`, and for each run and type
  `lost="RUN TYPE FIRST LAST EVENTS"`; `unnamed` counts events without a sequence number.
  Audit records that the kernel dropped before any audit daemon could read them are a GAP too, with `source="kernel"`
  and without a number. So is data that a source could not read: `source`, `file` for each file, `events="unknown"`,
  and the records that were read before and after it, `after="TIME SERIAL"` and `before="TIME SERIAL"`, where known.
  `nulOctets` counts octets that were never written into the log.
  Datagrams that the kernel dropped at a listener are a GAP with the listener's URL as `source`.
- REMOVAL: retention removed days from the archive: their number and octets, how many `byAge` and `bySize`, and
  `removed="ORIGINATOR/DAY"` for the first 100. The ledger of each day says so too.
- ALARM: `alarm`, `severity`, `state` (`add` or `clear`), `since`, and `server` where it is about one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from relay.events.envelope import Envelope
from relay.spool.losses.gap import Gap
from relay.syslog.rfc5424 import escape_value, format_timestamp
from relay.values.alarm import Alarm, AlarmChange
from relay.values.event import Event, EventType
from relay.values.text import counted

APP_NAME: Final = b"relay"
FACILITY: Final = 5
MOST_ALARMS: Final = 8
"""In one heartbeat; the most severe ones."""
_ALARM_SEVERITY: Final = {"critical": 2, "major": 3, "minor": 4, "info": 6}
_ERROR: Final = 3
_NOTICE: Final = 5
_INFORMATIONAL: Final = 6

Param = tuple[str, str]


class Author(NamedTuple):
    """The names in relay's own events."""

    hostname: str
    router: str
    node: str
    sd_id: str

    def event(self, now: int, severity: int, msgid: str, params: Iterable[Param], sentence: str) -> Event:
        """Write an event of type relay; `now` is in microseconds since the epoch."""
        envelope = Envelope(**self._asdict())
        head = envelope.head(FACILITY * 8 + severity, format_timestamp(now), APP_NAME, msgid.encode())
        own = b"".join(b' %b="%b"' % (name.encode(), escape_value(value.encode())) for name, value in params if value)
        tail = b"%b%b] %b" % (envelope.origin(EventType.RELAY), own, sentence.encode())
        return Event(EventType.RELAY, now, head, tail)


class PreviousRun(NamedTuple):
    """The run before this one, and its last sequence number of each type."""

    run: bytes
    last: Mapping[EventType, int]


def opening(author: Author, now: int, previous: PreviousRun | None, version: str = "") -> Event:
    """Write that a run begins."""
    if previous is None:
        return author.event(now, _INFORMATIONAL, "OPENING", [("version", version)], "relay begins a new spool")
    run = previous.run.hex()
    params = [("previousRun", run), *_last(previous.last), ("version", version)]
    return author.event(now, _INFORMATIONAL, "OPENING", params, f"relay begins a new run after {run}")


class HeartbeatReport(NamedTuple):
    """How a relay is, as a heartbeat reports it."""

    last: Mapping[EventType, int]
    """The last sequence number of each type."""
    chain: bytes
    waiting: Mapping[str, int]
    """Blocks without proof, by server."""
    version: str = ""
    alarms: Sequence[Alarm] = ()
    """Those that are raised."""
    lost: int = 0
    """Events that gap events have reported since the start."""


def heartbeat(author: Author, now: int, report: HeartbeatReport) -> Event:
    """Write that relay is running, and how it is."""
    worst_first = sorted(report.alarms, key=lambda each: _ALARM_SEVERITY[each.severity])
    params = [
        *_last(report.last),
        ("chain", report.chain.hex()),
        *(("backlog", f"{server} {blocks}") for server, blocks in report.waiting.items()),
        ("version", report.version),
        ("lostEvents", str(report.lost or "")),
        *(("raised", f"{each.name} {each.severity} {each.about}".rstrip()) for each in worst_first[:MOST_ALARMS]),
    ]
    return author.event(now, _INFORMATIONAL, "HEARTBEAT", params, "relay is running")


def gap(author: Author, now: int, lost: Gap) -> Event:
    """Write that events are lost, and how many."""
    whom = f"{lost.server} will not get" if lost.server else "relay could not keep"
    return author.event(now, _ERROR, "GAP", lost.params(), f"{whom} {counted(lost.events, 'event')}: {lost.cause}")


def kernel_gap(author: Author, now: int, records: int) -> Event:
    """Write how many audit records the kernel dropped."""
    cause = "the kernel dropped audit records"
    params = [("source", "kernel"), ("cause", cause), ("events", str(records)), ("unnamed", str(records))]
    sentence = f"nobody will get {counted(records, 'audit record')}: the kernel dropped them"
    return author.event(now, _ERROR, "GAP", params, sentence)


def datagram_gap(author: Author, now: int, listener: str, datagrams: int) -> Event:
    """Write how many datagrams the kernel dropped at a listener, before relay could read them."""
    cause = "the kernel dropped datagrams"
    params = [("source", listener), ("cause", cause), ("events", str(datagrams)), ("unnamed", str(datagrams))]
    sentence = f"{counted(datagrams, 'datagram')} to {listener} lost: the kernel dropped them, its buffer was full"
    return author.event(now, _ERROR, "GAP", params, sentence)


class UnreadLog(NamedTuple):
    """Data of a log that a source could not read, and that cannot be counted."""

    source: str
    files: tuple[str, ...]
    cause: str
    after: tuple[int, int] | None
    """Time (milliseconds since the epoch) and serial of the last record before it."""
    before: tuple[int, int] | None
    nuls: int = 0
    """Octets that are NUL because they were never written."""


def unread_gap(author: Author, now: int, unread: UnreadLog) -> Event:
    """Write that data of a log was not read."""
    params = [
        ("source", unread.source),
        *(("file", file) for file in unread.files),
        ("cause", unread.cause),
        ("events", "unknown"),
        ("after", _record(unread.after)),
        ("before", _record(unread.before)),
        ("nulOctets", str(unread.nuls or "")),
    ]
    cause = f"{unread.cause} ({counted(unread.nuls, 'NUL octet')})" if unread.nuls else unread.cause
    return author.event(now, _ERROR, "GAP", params, f"{unread.source} could not read all of its log: {cause}")


def _record(name: tuple[int, int] | None) -> str:
    return f"{format_timestamp(name[0] * 1000).decode()} {name[1]}" if name else ""


def alarm(author: Author, now: int, change: AlarmChange) -> Event:
    """Write that an alarm is raised or cleared."""
    state = "add" if change.raised else "clear"
    params = [
        ("alarm", change.alarm.name),
        ("severity", change.alarm.severity),
        ("state", state),
        ("since", format_timestamp(change.since).decode()),
        ("server", change.alarm.about),
    ]
    severity = _ALARM_SEVERITY[change.alarm.severity] if change.raised else _INFORMATIONAL
    return author.event(now, severity, "ALARM", params, f"{change.alarm.text} ({state})")


class RemovedFromArchive(NamedTuple):
    """What one run of retention removed."""

    days: int
    octets: int
    by_age: int
    by_size: int
    names: Sequence[str]
    """The first of them."""
    sentence: str


def removal(author: Author, now: int, removed: RemovedFromArchive) -> Event:
    """Write that retention removed days from the archive."""
    params = [
        ("days", str(removed.days)),
        ("octets", str(removed.octets)),
        ("byAge", str(removed.by_age)),
        ("bySize", str(removed.by_size)),
        *(("removed", name) for name in removed.names),
    ]
    return author.event(now, _NOTICE, "REMOVAL", params, removed.sentence)


def _last(numbers: Mapping[EventType, int]) -> list[Param]:
    return [("last", f"{kind.label} {number}") for kind, number in sorted(numbers.items()) if number]
