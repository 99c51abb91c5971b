"""The table of alarms: for each condition its name, its severity, and when it is wanted. Pure.

`alarms_wanted` asks every row of `CONDITIONS` about one `Snapshot`. A text says what is wrong, why, and what helps. It
holds no measured number, so that it changes only with its reason: each new text of an alarm is an event.

`disk-space-left` compares `space-left` with two amounts: what is free on the file system, and what `max-size` still
lets the spool hold. Segments that may be deleted count as free within `max-size`, because a spool is meant to fill up
with history. When `max-size` is less than ten times `space-left`, the limit within it is a tenth of it, because the
alarm would never end in a small spool otherwise. It ends at a tenth more than its limit, so that it does not flap.

`certificate-ends` is about the certificate of each server that expires first.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from relay.errors import RelayError, StorageError
from relay.program.watch.audit_trail import own_records
from relay.program.watch.audit_trail.observation import AuditFault, AuditObservation
from relay.program.watch.certificate_watch import CertificateExpiry
from relay.transport.tls.certificate import SOON
from relay.values import alarm
from relay.values.alarm import Alarm, Severity
from relay.values.size import size_text

LOST_SECONDS: Final = 3.0
"""A server that is back sooner was not lost: a connection may break."""
NOT_WATCHED: Final = (
    'auditd is no longer watched: `watch-auditd = "never"`, or no source has this machine\'s audit trail'
)
_LONGEST_CAUSE: Final = 400
"""Characters of an error that an alarm repeats; all alarms share one slot."""
_TENTH: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpace:
    """What is measured, and what is configured; in bytes."""

    free: int
    """What relay may still write on the file system."""
    held: int
    """What the spool holds and must not delete to free space."""
    max_size: int
    reserved: int = 0
    """Of max-size, what only events that cannot be delivered again may use."""
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
    """What housekeeping sees at one moment."""

    raised: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """The text of each alarm that is raised, by its name and what it is about."""
    intake_error: RelayError | None = None
    refusing: bool = False
    """Whether events were refused lately, because there was no space for them."""
    rotating: bool = False
    """Whether events were deleted lately before they were delivered."""
    retention_cut_short: bool = False
    halt_failure: str = ""
    """Why the halt could not be requested."""
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


Texts = Mapping[str, str]
"""A text for each server, listener or port-forwarding that the alarm is wanted for; by "" for the machine itself."""


class Condition(NamedTuple):
    """A row of the table."""

    name: str
    severity: Severity
    texts: Callable[[Snapshot], Texts]


def alarms_wanted(snapshot: Snapshot) -> list[Alarm]:
    """Every alarm that should be raised at this moment."""
    return [
        Alarm(condition.name, condition.severity, text, about)
        for condition in CONDITIONS
        for about, text in condition.texts(snapshot).items()
    ]


def _if(wanted: bool, text: str) -> Texts:  # noqa: FBT001  its condition
    return {"": text} if wanted else {}


def _spool_full(seen: Snapshot) -> Texts:
    error = seen.intake_error
    return _if(isinstance(error, StorageError) and error.full, f"the sources wait for space: {error}")


def _disk_failing(seen: Snapshot) -> Texts:
    error = seen.intake_error
    full = isinstance(error, StorageError) and error.full
    return _if(error is not None and not full, f"the spool cannot be written: {error}")


def _disk_space_left(seen: Snapshot) -> Texts:
    space = seen.space
    limit = min(space.space_left, space.max_size // _TENTH)
    of_disk = (
        f"less than {size_text(space.space_left)} (space-left) is free on the disk of the state directory; "
        "delete files there"
    )
    of_spool = (
        f"less than {size_text(limit)} is left in the spool's max-size of {size_text(space.max_size)}; "
        "`relay status` shows which server has not received its events"
    )
    for text, left, least in (
        (of_disk, space.free, space.space_left),
        (of_spool, max(space.max_size - space.reserved - space.held, 0), limit),
    ):
        is_raised = seen.raised.get((alarm.DISK_SPACE_LEFT, "")) == text
        if left < least + (least // _TENTH if is_raised else 0):
            return {"": text}
    return {}


_AUDIT_FAULTS: Final[Mapping[AuditFault, str]] = MappingProxyType(
    {
        "audit-off": "the kernel's audit is switched off; switch it on with `auditctl -e 1`",
        "no-daemon": "no audit daemon reads the kernel's records; start it with `systemctl start auditd`",
        "unit-failed": "auditd.service has failed; `systemctl status auditd` shows why",
        "unit-inactive": "auditd.service is not running; start it with `systemctl start auditd`",
        "no-records": "no audit records arrive; check that auditd is not suspended and writes where relay reads",
    }
)


def _auditd_down(seen: Snapshot) -> Texts:
    fault = seen.audit_trail.fault if seen.audit_trail is not None else None
    return {"": _AUDIT_FAULTS[fault]} if fault is not None else {}


def _first_to_expire(seen: Snapshot) -> Mapping[str, CertificateExpiry]:
    return {each.about: each for each in sorted(seen.certificates, key=lambda each: each.at, reverse=True)}


def _expires_soon(seen: Snapshot) -> Texts:
    return {
        about: f"{each.name} expires on {each.at.date()}; renew it"
        for about, each in _first_to_expire(seen).items()
        if dt.timedelta(0) < each.at - seen.today < dt.timedelta(days=SOON)
    }


def _expired(seen: Snapshot) -> Texts:
    return {
        about: f"{each.name} expired on {each.at.date()}; renew it"
        for about, each in _first_to_expire(seen).items()
        if each.at <= seen.today
    }


def _is_lost(seen: Snapshot, server: ServerState, name: str, seconds: float) -> bool:
    """Whether it is lost for so long; an alarm from before the start stays until this run has proven something."""
    return server.lost_seconds >= seconds or (server.proofs == 0 and (name, server.name) in seen.raised)


def _server_lost(seen: Snapshot) -> Texts:
    texts = {}
    for server in seen.servers:
        if _is_lost(seen, server, alarm.SERVER_LOST, LOST_SECONDS):
            text = f"nothing can be delivered to {server.name}"
            former = seen.raised.get((alarm.SERVER_LOST, server.name), text)
            texts[server.name] = former if server.cause is None else f"{text}{_because(server.cause)}"
    return texts


def _network_failure(seen: Snapshot) -> Texts:
    return {
        server.name: f"{server.name} has been lost for longer than its network-failure-timeout"
        for server in seen.servers
        if _is_lost(seen, server, alarm.NETWORK_FAILURE, server.network_failure_timeout)
    }


def _repair_needed(seen: Snapshot) -> Texts:
    return {
        about: f"{about} waits for a repair{_because(error)}"
        for about, error in seen.faults.items()
        if error is not None and not error.retryable
    }


def _because(error: RelayError) -> str:
    text = str(error)
    return f": {text if len(text) <= _LONGEST_CAUSE else text[:_LONGEST_CAUSE] + '…'}"


CONDITIONS: Final = (
    Condition(alarm.SPOOL_FULL, "critical", _spool_full),
    Condition(alarm.DISK_FAILING, "critical", _disk_failing),
    Condition(
        alarm.SPOOL_IGNORING,
        "critical",
        lambda seen: _if(
            seen.refusing,
            "the spool's reserve is used up: new events that no source can deliver again are refused and counted; "
            "free disk space or raise max-size in [spool]",
        ),
    ),
    Condition(
        alarm.SPOOL_ROTATING,
        "critical",
        lambda seen: _if(
            seen.rotating,
            "the oldest events are deleted undelivered, and counted; free disk space or raise max-size in [spool]",
        ),
    ),
    Condition(
        alarm.RETENTION_CUT_SHORT,
        "minor",
        lambda seen: _if(
            seen.retention_cut_short,
            "delivered events are deleted before their retention ends, because the spool needs the space; "
            "raise max-size in [spool] or lower retention in [audit]",
        ),
    ),
    Condition(
        alarm.HALT_FAILED,
        "critical",
        lambda seen: _if(bool(seen.halt_failure), f"the halt of this machine failed: {seen.halt_failure}"),
    ),
    Condition(alarm.DISK_SPACE_LEFT, "major", _disk_space_left),
    Condition(alarm.AUDITD_DOWN, "critical", _auditd_down),
    Condition(
        alarm.AUDIT_LOOP,
        "major",
        lambda seen: _if(
            seen.own_events_per_minute >= own_records.LIMIT,
            "auditd audits relay itself, so that each event causes new ones; load deploy/relay.rules",
        ),
    ),
    Condition(alarm.CERTIFICATE_ENDS, "minor", _expires_soon),
    Condition(alarm.CERTIFICATE_ENDS, "major", _expired),
    Condition(alarm.SERVER_LOST, "major", _server_lost),
    Condition(alarm.NETWORK_FAILURE, "critical", _network_failure),
    Condition(alarm.REPAIR_NEEDED, "major", _repair_needed),
)
