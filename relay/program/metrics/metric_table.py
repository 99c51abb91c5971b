"""The table of metrics: each has a name, a type, labels, a sentence, and its values. Pure.

Each function below `_metric` is a row of the table, and its docstring is the sentence. It yields the values of the
labels, and a number or a `Histogram`. Names end in their unit: seconds, bytes (octets), or a plain noun for counts; a
counter ends in `_total`. Labels have few values: names from the configuration, types, and words of relay's own.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from relay.program.metrics.measurement import Measurement
from relay.program.status.live import LivePart
from relay.values.event import EventType
from relay.values.histogram import Histogram

MetricType = Literal["counter", "gauge", "histogram"]
Values = Iterator[tuple[tuple[str, ...], float | Histogram]]
"""The labels' values, and the number or histogram."""

_MICROSECONDS: Final = 1_000_000
_LISTENERS: Final = "listeners"
"""The sum of all listeners; each of them has a part of its own where there are several."""
_REFUSED: Final = "refused_"
_ARCHIVE: Final = "archive"
_OUTCOMES: Final = ("messages", "duplicates", "removed_duplicates", "differing", "uncompared")
_NO_EVENTS: Final = {each.label: 0 for each in EventType}
"""A counter is 0 from the start where its labels are known, because Prometheus' increase() ignores a first value."""
_OF_CONNECTIONS: Final = frozenset({"open", "connections", "messages", "octets"})


class Metric(NamedTuple):
    """A row of the table."""

    name: str
    type: MetricType
    labels: tuple[str, ...]
    sentence: str
    values: Callable[[Measurement], Values]


METRICS: Final[list[Metric]] = []


def _metric(
    name: str, type_: MetricType, *labels: str
) -> Callable[[Callable[[Measurement], Values]], Callable[[Measurement], Values]]:
    def add(values: Callable[[Measurement], Values]) -> Callable[[Measurement], Values]:
        METRICS.append(Metric(f"relay_{name}", type_, labels, (values.__doc__ or "").removesuffix("."), values))
        return values

    return add


# --- The program ---


@_metric("build_info", "gauge", "version", "python")
def build_info(seen: Measurement) -> Values:
    """Always 1; the labels are the versions of relay and Python."""
    yield (seen.version, seen.python), 1


@_metric("start_timestamp_seconds", "gauge")
def start_time(seen: Measurement) -> Values:
    """When the program was started, in seconds since the epoch."""
    yield (), seen.live.started / _MICROSECONDS


@_metric("alarms", "gauge", "severity")
def alarms(seen: Measurement) -> Values:
    """Alarms that are raised."""
    for severity in ("critical", "major", "minor", "info"):
        yield (severity,), sum(alarm.severity == severity for alarm in seen.live.alarms)


@_metric("alarm_raised_timestamp_seconds", "gauge", "alarm", "subject", "severity")
def alarm_since(seen: Measurement) -> Values:
    """When each raised alarm was raised, in seconds since the epoch; it vanishes when the alarm is cleared."""
    for each in seen.live.alarms:
        yield (each.name, each.about, each.severity), each.since / _MICROSECONDS


@_metric("alarm_command_dropped_total", "counter")
def alarm_command_dropped(seen: Measurement) -> Values:
    """Alarms that the alarm-command did not get, because too many waited for it."""
    yield (), seen.dropped_alarms


@_metric("certificate_expiry_timestamp_seconds", "gauge", "subject", "certificate")
def certificate_expiry(seen: Measurement) -> Values:
    """When a configured certificate expires, in seconds since the epoch."""
    for each in seen.certificates:
        yield (each.about, each.name), each.at.timestamp()


# --- Events in ---


@_metric("accepted_events_total", "counter", "type")
def accepted_events(seen: Measurement) -> Values:
    """Events made durable."""
    for label, count in (_NO_EVENTS | seen.live.accepted).items():
        yield (label,), count


@_metric("refused_events_total", "counter", "type")
def refused_events(seen: Measurement) -> Values:
    """Events that no source can deliver again, refused for want of space and counted in a gap."""
    for label, count in (_NO_EVENTS | seen.live.refused).items():
        yield (label,), count


@_metric("lost_events_total", "counter", "destination")
def lost_events(seen: Measurement) -> Values:
    """Lost events that gap events reported; the destination is empty where they are lost to all."""
    none = dict.fromkeys(("", *(each.name for each in seen.destinations)), 0)
    for name, count in {**none, **seen.lost}.items():
        yield (name,), count


@_metric("source_lag_bytes", "gauge", "source")
def source_lag(seen: Measurement) -> Values:
    """Octets of the source that are not read yet, where that is known."""
    for each in seen.live.sources:
        if each.lag >= 0:
            yield (each.name,), each.lag


@_metric("source_accepted_events_total", "counter", "source")
def source_accepted(seen: Measurement) -> Values:
    """Events of the source made durable."""
    for each in seen.live.sources:
        yield (each.name,), each.accepted


@_metric("source_faults_total", "counter", "source", "cause")
def source_faults(seen: Measurement) -> Values:
    """Events of the source that were refused, lines that could not be parsed, and lost positions."""
    for each in seen.live.sources:
        yield (each.name, "refused"), each.refused
        yield (each.name, "malformed"), each.malformed
        yield (each.name, "lost_position"), each.lost_places


def _is_listener(part: LivePart) -> bool:
    return "messages" in part.counters and "octets" in part.counters


def _is_sum(part: LivePart) -> bool:
    return part.name.endswith(_LISTENERS)


def _listeners(seen: Measurement, counter: str) -> Values:
    """One counter of each listener, or of all together where there is only their sum."""
    found = [part for part in seen.live.parts if _is_listener(part)]
    for part in [part for part in found if not _is_sum(part)] or found:
        if counter in part.counters:
            yield (part.name.removeprefix("listener "),), part.counters[counter]


@_metric("listener_open_connections", "gauge", "listener")
def listener_open(seen: Measurement) -> Values:
    """Connections of senders."""
    yield from _listeners(seen, "open")


@_metric("listener_connections_total", "counter", "listener")
def listener_connections(seen: Measurement) -> Values:
    """Connections that were accepted."""
    yield from _listeners(seen, "connections")


@_metric("listener_messages_total", "counter", "listener")
def listener_messages(seen: Measurement) -> Values:
    """Messages received."""
    yield from _listeners(seen, "messages")


@_metric("listener_received_bytes_total", "counter", "listener")
def listener_received(seen: Measurement) -> Values:
    """Octets received."""
    yield from _listeners(seen, "octets")


@_metric("listener_faults_total", "counter", "listener", "cause")
def listener_faults(seen: Measurement) -> Values:
    """Connections ended, datagrams dropped and messages cut, by cause."""
    causes = {cause for part in seen.live.parts if _is_listener(part) for cause in part.counters} - _OF_CONNECTIONS
    for cause in sorted(each for each in causes if not each.startswith(_REFUSED)):
        for labels, count in _listeners(seen, cause):
            yield (*labels, cause), count


@_metric("refused_connections_total", "counter", "ceiling")
def refused_connections(seen: Measurement) -> Values:
    """Connections refused at a ceiling of all listeners or for a penalty; those without a descriptor waited."""
    counts: Counter[str] = Counter()
    for part in seen.live.parts:
        if _is_listener(part) and _is_sum(part):
            counts.update({cause: n for cause, n in part.counters.items() if cause.startswith(_REFUSED)})
    for cause, count in counts.items():
        yield (cause.removeprefix(_REFUSED),), count


@_metric("archive_messages_total", "counter", "outcome")
def archive_messages(seen: Measurement) -> Values:
    """Messages that were stored, dropped as duplicates, or stored although they differ or could not be compared."""
    for part in seen.live.parts:
        if part.name == _ARCHIVE:
            for outcome in _OUTCOMES:
                yield (outcome,), part.counters.get(outcome, 0)


@_metric("archive_commit_seconds", "histogram")
def archive_commit_seconds(seen: Measurement) -> Values:
    """How long a commit of the archive took, with the fsync of all files."""
    if seen.archive_commit_seconds is not None:
        yield (), seen.archive_commit_seconds


@_metric("part_events_total", "counter", "part", "event")
def part_events(seen: Measurement) -> Values:
    """What other parts count: the archive, the SSH end, port-forwardings, the watch on the kernel's audit."""
    for part in seen.live.parts:
        if not _is_listener(part):
            for event, count in part.counters.items():
                if part.name != _ARCHIVE or event not in _OUTCOMES:
                    yield (part.name, event), count


@_metric("known_originators", "gauge")
def known_originators(seen: Measurement) -> Values:
    """Originators of the receiver's archive, without disputed ones."""
    if seen.originators is not None:
        yield (), seen.originators.known


@_metric("silent_originators", "gauge")
def silent_originators(seen: Measurement) -> Values:
    """Relays that miss heartbeats, and expected originators that do not send."""
    if seen.originators is not None:
        yield (), seen.originators.silent


@_metric("unverified_relays", "gauge")
def unverified_relays(seen: Measurement) -> Values:
    """Relays of which no sender is verified, so that anybody may have sent their heartbeats."""
    if seen.originators is not None:
        yield (), seen.originators.unverified


@_metric("contested_relays", "gauge")
def contested_relays(seen: Measurement) -> Values:
    """Relays whose name several verified senders use."""
    if seen.originators is not None:
        yield (), seen.originators.contested


# --- The spool ---


@_metric("spool_writable", "gauge")
def spool_writable(seen: Measurement) -> Values:
    """1 while commits succeed, else 0."""
    yield (), int(not seen.live.intake_error)


@_metric("intake_pending_bytes", "gauge")
def intake_pending(seen: Measurement) -> Values:
    """Octets that wait for a commit."""
    yield (), seen.pending_octets


@_metric("commit_seconds", "histogram")
def commit_seconds(seen: Measurement) -> Values:
    """How long a commit of the spool took."""
    yield (), seen.commit_seconds


@_metric("fsync_seconds", "histogram", "spool")
def fsync_seconds(seen: Measurement) -> Values:
    """How long the fsync of a block took."""
    for each in seen.spools:
        yield (each.name,), each.sync_seconds


@_metric("spool_appended_messages_total", "counter", "spool")
def spool_messages(seen: Measurement) -> Values:
    """Messages written to the spool."""
    for each in seen.spools:
        yield (each.name,), each.messages


@_metric("spool_appended_bytes_total", "counter", "spool")
def spool_octets(seen: Measurement) -> Values:
    """Octets of blocks written to the spool."""
    for each in seen.spools:
        yield (each.name,), each.octets


@_metric("spool_used_bytes", "gauge")
def spool_used(seen: Measurement) -> Values:
    """Octets that the spool's files take."""
    yield (), seen.used


@_metric("spool_max_bytes", "gauge")
def spool_max(seen: Measurement) -> Values:
    """The setting max-size."""
    yield (), seen.max_size


@_metric("disk_free_bytes", "gauge")
def disk_free(seen: Measurement) -> Values:
    """Free space on the file system of the state directory, for relay's user."""
    if seen.free is not None:
        yield (), seen.free


# --- Events out ---


@_metric("destination_up", "gauge", "destination")
def destination_up(seen: Measurement) -> Values:
    """1 while the destination receives its events, 0 while it has an error."""
    for each in seen.live.destinations:
        yield (each.name,), int(not each.error)


@_metric("proven_messages_total", "counter", "destination")
def proven_messages(seen: Measurement) -> Values:
    """Messages that the destination has proven, ever."""
    for each in seen.destinations:
        yield (each.name,), each.delivered


@_metric("proofs_total", "counter", "destination")
def proofs(seen: Measurement) -> Values:
    """Proofs that moved the destination's cursor."""
    for each in seen.live.destinations:
        yield (each.name,), each.proofs


@_metric("proof_latency_seconds", "histogram", "destination")
def proof_latency(seen: Measurement) -> Values:
    """From the commit of a message to its proof."""
    for each in seen.destinations:
        yield (each.name,), each.proof_seconds


@_metric("last_proof_timestamp_seconds", "gauge", "destination")
def last_proof(seen: Measurement) -> Values:
    """When the last proof came, in seconds since the epoch; absent before the first one."""
    for each in seen.destinations:
        if each.proven_at:
            yield (each.name,), each.proven_at / _MICROSECONDS


@_metric("backlog_events", "gauge", "destination")
def backlog_events(seen: Measurement) -> Values:
    """Events without proof, also those that the destination's filters leave out."""
    for each in seen.destinations:
        if each.backlog is not None:
            yield (each.name,), each.backlog.messages


@_metric("backlog_bytes", "gauge", "destination")
def backlog_bytes(seen: Measurement) -> Values:
    """Octets of the blocks with these events."""
    for each in seen.destinations:
        if each.backlog is not None:
            yield (each.name,), each.backlog.octets


@_metric("oldest_unproven_seconds", "gauge", "destination")
def oldest_unproven(seen: Measurement) -> Values:
    """The age of the oldest event without proof; 0 when nothing waits."""
    for each in seen.destinations:
        if each.backlog is not None:
            since = each.backlog.since
            yield (each.name,), max(seen.now - since, 0) / _MICROSECONDS if since else 0


@_metric("rejected_messages_total", "counter", "destination")
def rejected_messages(seen: Measurement) -> Values:
    """Messages that the destination will never accept; they are kept in refused/ and counted."""
    for each in seen.live.destinations:
        yield (each.name,), each.refused


@_metric("damaged_blocks_total", "counter", "destination")
def damaged_blocks(seen: Measurement) -> Values:
    """Damaged blocks of the spool that the destination skipped; at most 100 are counted."""
    for each in seen.live.destinations:
        yield (each.name,), each.damage


def metrics_of(seen: Measurement) -> Sequence[tuple[Metric, list[tuple[tuple[str, ...], float | Histogram]]]]:
    """Every metric with its values; a metric without values is left out."""
    found = [(metric, list(metric.values(seen))) for metric in METRICS]
    return [(metric, values) for metric, values in found if values]
