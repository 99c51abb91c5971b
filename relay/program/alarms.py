"""The table of alarms: for each condition its name, its severity, and when it is wanted. Pure.

Each function below `_condition`, and each call of `_while_losing`, is a row of the table. A row yields the alarm's
subject ("" for the machine itself) and a text with fault, cause and remedy. A text holds no measured number, so that it
changes only with its reason: each new text of an alarm is an event.

`disk-space-left` compares `space-left` with two amounts: the free space on the file system, and the space that the
spool may still use within `max-size`. Segments that may be deleted count as free within `max-size`, because a spool is
meant to fill up with history. When `max-size` is less than ten times `space-left`, the limit within it is a tenth of
it, because the alarm would never end in a small spool otherwise. It ends at a tenth more than its limit, so that it
does not flap.

`certificate-ends` is about the certificate of each server that expires first.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from relay.errors import RelayError, StorageError
from relay.program.watch.audit_trail import own_records
from relay.program.watch.audit_trail.observation import AuditFault, AuditObservation
from relay.program.watch.certificate_watch import CertificateExpiry
from relay.program.watch.silence_watch import Silence, Silences
from relay.transport.tls.certificate import SOON
from relay.values import alarm
from relay.values.alarm import Alarm, Severity
from relay.values.size import size_text
from relay.values.text import shortened

LOST_SECONDS: Final = 3.0
"""A server that is back sooner was not lost: a connection may break."""
NOT_WATCHED: Final = (
    'auditd is no longer watched: `watch-auditd = "never"`, or no source has this machine\'s audit trail'
)
MOST_NAMED: Final = 3
MOST_SILENT: Final = 10
"""Alarms about single originators; beyond that one alarm is about all others."""
_LONGEST_CAUSE: Final = 400
"""Characters of an error that an alarm repeats; all alarms share one slot."""
_TENTH: Final = 10
_SEE: Final = "the alarm server-lost has the cause"
_MORE_SPACE: Final = "free disk space, or raise max-size in [spool]"
_AUDIT_FAULTS: Final[Mapping[AuditFault, str]] = MappingProxyType(
    {
        "audit-off": "the kernel's audit is switched off; switch it on with `auditctl -e 1`",
        "no-daemon": "no audit daemon reads the kernel's records; start it with `systemctl start auditd`",
        "unit-failed": "auditd.service has failed; `systemctl status auditd` shows why",
        "unit-inactive": "auditd.service is not running; start it with `systemctl start auditd`",
        "no-records": "no audit records arrive; check that auditd is not suspended and writes where relay reads",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpace:
    """The measured and the configured amounts, in bytes."""

    free: int
    """Free space on the file system for relay's user."""
    held: int
    """Segments that the spool must not delete to free space."""
    max_size: int
    reserved: int = 0
    """The part of max-size for events that cannot be delivered again."""
    space_left: int
    """0: no alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """How the delivery to one server is."""

    name: str
    proofs: int
    """Since the start."""
    lost_seconds: float = 0
    """For how long it is lost; 0: it is not."""
    cause: RelayError | None = None
    """Why it is lost."""
    network_failure_timeout: float = float("inf")
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of a program and its machine at one moment."""

    raised: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """The text of each alarm that is raised, by its name and its subject."""
    intake_error: RelayError | None = None
    waiting: Literal["sources", "senders"] = "sources"
    """What waits while nothing can be stored."""
    refusing: bool = False
    """Whether events were refused lately, because there was no space for them."""
    rotating: bool = False
    """Whether events were deleted lately before they were delivered."""
    retention_cut_short: bool = False
    halt_failure: str = ""
    """Why the halt could not be requested."""
    bug: str = ""
    """The bug that the housekeeping itself met lately."""
    space: DiskSpace
    audit_trail: AuditObservation | None = None
    """None: it is not watched."""
    own_events_per_minute: int = 0
    """Audit events that relay itself causes."""
    certificates: Sequence[CertificateExpiry] = ()
    today: dt.datetime
    servers: Sequence[ServerState] = ()
    faults: Mapping[str, RelayError | None] = field(default_factory=dict)
    """Each listener and port-forwarding by name, and why it cannot be used."""
    losing: frozenset[str] = frozenset()
    """The alarms about counts that grew lately."""
    silences: Silences = field(default_factory=Silences)
    """Of the receiver's originators."""
    archive_fault: RelayError | None = None
    """Why a closed day of the archive could not be compressed or removed."""


Texts = Iterator[tuple[str, str]]
"""The alarm's subject (a server, listener or port-forwarding; empty for the machine itself), and its text."""


class Condition(NamedTuple):
    """A row of the table."""

    name: str
    severity: Severity
    texts: Callable[[Snapshot], Texts]


CONDITIONS: Final[list[Condition]] = []


def alarms_wanted(seen: Snapshot) -> list[Alarm]:
    """Every alarm that should be raised at this moment."""
    return [
        Alarm(condition.name, condition.severity, text, about)
        for condition in CONDITIONS
        for about, text in condition.texts(seen)
    ]


def _condition(name: str, severity: Severity) -> Callable[[Callable[[Snapshot], Texts]], Callable[[Snapshot], Texts]]:
    def add(texts: Callable[[Snapshot], Texts]) -> Callable[[Snapshot], Texts]:
        CONDITIONS.append(Condition(name, severity, texts))
        return texts

    return add


def _while_losing(name: str, text: str) -> None:
    """Add a row: a count grew lately (`listener_losses`, and those of the archive)."""

    @_condition(name, "major")
    def texts(seen: Snapshot) -> Texts:
        if name in seen.losing:
            yield "", text


# --- Spool and disk ---


def _is_full(error: RelayError | None) -> bool:
    return isinstance(error, StorageError) and error.full


@_condition(alarm.SPOOL_FULL, "critical")
def spool_full(seen: Snapshot) -> Texts:
    """Nothing can be stored, because there is no space."""
    if _is_full(seen.intake_error):
        yield "", f"the {seen.waiting} wait for space: {seen.intake_error}"


@_condition(alarm.DISK_FAILING, "critical")
def disk_failing(seen: Snapshot) -> Texts:
    """Nothing can be stored, for any other reason."""
    if seen.intake_error is not None and not _is_full(seen.intake_error):
        yield "", f"the spool cannot be written: {seen.intake_error}"


@_condition(alarm.SPOOL_IGNORING, "critical")
def spool_ignoring(seen: Snapshot) -> Texts:
    """New events are lost."""
    if seen.refusing:
        what = "the spool's reserve is used up: new events that no source can deliver again are refused and counted"
        yield "", f"{what}; {_MORE_SPACE}"


@_condition(alarm.SPOOL_ROTATING, "critical")
def spool_rotating(seen: Snapshot) -> Texts:
    """Old events are lost."""
    if seen.rotating:
        yield "", f"the oldest events are deleted undelivered, and counted; {_MORE_SPACE}"


@_condition(alarm.RETENTION_CUT_SHORT, "minor")
def retention_cut_short(seen: Snapshot) -> Texts:
    """Delivered events are deleted early."""
    if seen.retention_cut_short:
        what = "delivered events are deleted before their retention ends, because the spool needs the space"
        yield "", f"{what}; raise max-size in [spool], or lower retention in [audit]"


_while_losing(
    alarm.NAME_DISPUTED,
    "messages arrive under names that [[receiver.originator]] binds to other senders; ~disputed has them, and the log "
    "names the senders; stop them, or add their key or network to the table",
)
_while_losing(
    alarm.TOO_MANY_ORIGINATORS,
    "messages with new names beyond a ceiling are filed by their sender's address, and the log names it; "
    "stop that sender, or list the names that it relays in [[receiver.originator]]",
)


@_condition(alarm.HALT_FAILED, "critical")
def halt_failed(seen: Snapshot) -> Texts:
    """The machine should have been halted."""
    if seen.halt_failure:
        yield "", f"the halt of this machine failed: {seen.halt_failure}"


@_condition(alarm.DISK_SPACE_LEFT, "major")
def disk_space_left(seen: Snapshot) -> Texts:
    """There is little space left; see the head of this file."""
    space = seen.space
    limit = min(space.space_left, space.max_size // _TENTH)
    of_disk = f"less than {size_text(space.space_left)} (space-left) is free on the disk of the state directory"
    of_spool = f"less than {size_text(limit)} is left in the spool's max-size of {size_text(space.max_size)}"
    in_spool = max(space.max_size - space.reserved - space.held, 0)
    for text, left, least in (
        (f"{of_disk}; delete files there", space.free, space.space_left),
        (f"{of_spool}; `relay status` shows which server has not received its events", in_spool, limit),
    ):
        is_raised = seen.raised.get((alarm.DISK_SPACE_LEFT, "")) == text
        if left < least + (least // _TENTH if is_raised else 0):
            yield "", text
            return


@_condition(alarm.INTERNAL_ERROR, "major")
def internal_error(seen: Snapshot) -> Texts:
    """A part of the housekeeping does not work."""
    if seen.bug:
        yield "", internal_error_alarm(seen.bug).text


def internal_error_alarm(bug: str) -> Alarm:
    """The alarm about a bug, also for a look that fails before it can ask the table."""
    text = f"{shortened(bug, _LONGEST_CAUSE)}; please report it with the log"
    return Alarm(alarm.INTERNAL_ERROR, "major", text)


# --- The audit trail ---


@_condition(alarm.AUDITD_DOWN, "critical")
def auditd_down(seen: Snapshot) -> Texts:
    """No audit records can arrive."""
    if seen.audit_trail is not None and seen.audit_trail.fault is not None:
        yield "", _AUDIT_FAULTS[seen.audit_trail.fault]


@_condition(alarm.AUDIT_LOOP, "major")
def audit_loop(seen: Snapshot) -> Texts:
    """Relay's own work is audited."""
    if seen.own_events_per_minute >= own_records.LIMIT:
        yield "", "auditd audits relay itself, so that each event causes new ones; load deploy/relay.rules"


# --- Certificates, servers, listeners ---


def _first_to_expire(seen: Snapshot) -> Iterable[CertificateExpiry]:
    by_expiry = sorted(seen.certificates, key=lambda each: each.at, reverse=True)
    return {each.about: each for each in by_expiry}.values()


@_condition(alarm.CERTIFICATE_ENDS, "minor")
def certificate_expires_soon(seen: Snapshot) -> Texts:
    """A connection will fail soon."""
    for each in _first_to_expire(seen):
        if dt.timedelta(0) < each.at - seen.today < dt.timedelta(days=SOON):
            yield each.about, f"{each.name} expires on {each.at.date()}; renew it"


@_condition(alarm.CERTIFICATE_ENDS, "major")
def certificate_expired(seen: Snapshot) -> Texts:
    """A connection cannot be trusted any more."""
    for each in _first_to_expire(seen):
        if each.at <= seen.today:
            yield each.about, f"{each.name} expired on {each.at.date()}; renew it"


def _is_lost(seen: Snapshot, server: ServerState, name: str, seconds: float) -> bool:
    """Whether it is lost for so long; an alarm from before the start stays until this run has proven something."""
    return server.lost_seconds >= seconds or (server.proofs == 0 and (name, server.name) in seen.raised)


@_condition(alarm.SERVER_LOST, "major")
def server_lost(seen: Snapshot) -> Texts:
    """A server does not receive its events."""
    for server in seen.servers:
        if _is_lost(seen, server, alarm.SERVER_LOST, LOST_SECONDS):
            text = f"nothing can be delivered to {server.name}"
            former = seen.raised.get((alarm.SERVER_LOST, server.name), text)
            yield server.name, former if server.cause is None else f"{text}{_because(server.cause)}"


@_condition(alarm.NETWORK_FAILURE, "critical")
def network_failure(seen: Snapshot) -> Texts:
    """A server is lost for so long that the machine may be halted."""
    for server in seen.servers:
        if _is_lost(seen, server, alarm.NETWORK_FAILURE, server.network_failure_timeout):
            yield server.name, f"{server.name} has been lost for longer than its network-failure-timeout; {_SEE}"


@_condition(alarm.REPAIR_NEEDED, "major")
def repair_needed(seen: Snapshot) -> Texts:
    """A listener or a port-forwarding has an error that no retry repairs."""
    for about, error in seen.faults.items():
        if error is not None and not error.retryable:
            yield about, f"{about} waits for a repair{_because(error)}"


# --- Senders and the archive ---


def listener_losses(counted: Mapping[str, int]) -> dict[str, int]:
    """The counters of listeners, by the alarm that reports them."""
    causes = {cause for cause in counted if cause.startswith("refused_")} - {
        "refused_penalty"
    }  # which relay did not lose
    refused = sum(counted[cause] for cause in causes)
    return {alarm.DATAGRAMS_DROPPED: counted.get("dropped", 0), alarm.CONNECTIONS_REFUSED: refused}


_while_losing(
    alarm.DATAGRAMS_DROPPED,
    "the kernel drops datagrams, because they arrive faster than relay stores them; "
    "raise receive-buffer (and net.core.rmem_max), or send by TCP. `relay status` counts them",
)
_while_losing(
    alarm.CONNECTIONS_REFUSED,
    "connections beyond max-connections, max-connections-per-address or max-unauthenticated are refused; "
    "close idle senders, or raise the key. `relay status` has the counts by cause",
)
_while_losing(
    alarm.MESSAGES_DIFFER,
    "messages arrive with the identity of a stored message and other octets; both are stored, marked `differs`. "
    "Look for a copied state directory or a forging sender",
)
_while_losing(
    alarm.ARCHIVE_CHANGED,
    "a log or ledger of the archive is not as relay left it: another program changed or removed it; the log of relay "
    "names it, and an open day continues in a new part. `relay archive verify` shows what is missing",
)


@_condition(alarm.ARCHIVE_ASIDE, "major")
def archive_aside(seen: Snapshot) -> Texts:
    """A folder needs a repair."""
    if seen.silences.aside:
        named = ", ".join(seen.silences.aside[:MOST_NAMED])
        more = " and others" if len(seen.silences.aside) > MOST_NAMED else ""
        what = f"the archive's folder of {named}{more} cannot be written"
        yield "", f"{what}; repair it. New messages are in ~aside/NAME meanwhile"


# --- Originators ---


@_condition(alarm.ORIGINATOR_SILENT, "major")
def originator_silent(seen: Snapshot) -> Texts:
    """A sender does not send any more."""
    return _silent(seen, alarm.ORIGINATOR_SILENT, seen.silences.originators)


@_condition(alarm.ORIGINATOR_MISSING, "major")
def originator_missing(seen: Snapshot) -> Texts:
    """A sender never sent, or is not what the configuration names."""
    return _silent(seen, alarm.ORIGINATOR_MISSING, seen.silences.patterns)


def _silent(seen: Snapshot, name: str, silences: Iterable[Silence]) -> Texts:
    """An alarm for each, as far as they all have space in one slot, and one for the rest."""
    raised = {about: text for (other, about), text in seen.raised.items() if other == name}
    if not seen.silences.recalled:  # the archive is still being read after a start
        yield from raised.items()
        return
    known_first = sorted(silences, key=lambda each: each.about not in raised)
    counted = [each for each in known_first if each.settled or each.about in raised]
    for each in counted[:MOST_SILENT]:
        yield each.about, each.text
    if len(counted) > MOST_SILENT:
        yield "", f"more than {MOST_SILENT} originators are silent; `relay fleet` shows them"


@_condition(alarm.ARCHIVE_NOT_KEPT, "minor")
def archive_not_kept(seen: Snapshot) -> Texts:
    """The archive grows, although it should be compressed or days should be removed."""
    if seen.archive_fault is not None:
        yield "", f"a closed day of the archive cannot be compressed or removed{_because(seen.archive_fault)}"


def _because(error: RelayError) -> str:
    return f": {shortened(str(error), _LONGEST_CAUSE)}"
