"""What an archive knows about one originator: its newest message and, for a relay, what it reported of itself."""

from contextlib import suppress
from statistics import median
from typing import Final, NamedTuple

from relay.archive.filing.bound_names import BoundNames
from relay.archive.filing.proven_sender import proven_sender
from relay.archive.layout import LOG_SUFFIXES
from relay.archive.ledger import Extent
from relay.archive.reading.ledger_tail import ExtentOfDay, read_tail
from relay.archive.reading.log_octets import open_day
from relay.archive.reading.originators import OriginatorFolder
from relay.archive.reading.own_reports import own_events_in
from relay.errors import RelayError
from relay.syslog.rfc5424 import NotRfc5424Error, parse
from relay.system.disk import Disk
from relay.values.text import decoded

_SELF_REPORTS: Final = (b"HEARTBEAT", b"OPENING")
_MICROSECONDS: Final = 1_000_000


class ReportedAlarm(NamedTuple):
    """An alarm that a relay reports in its heartbeat."""

    name: str
    severity: str
    about: str


class SelfReport(NamedTuple):
    """A relay's heartbeat, or the opening of its run."""

    received: int
    version: str = ""
    backlog: dict[str, int] = {}  # noqa: RUF012  nobody changes it
    """Blocks without proof, by server."""
    alarms: tuple[ReportedAlarm, ...] = ()
    lost: int = 0
    """Events that its gap events have reported since its start."""


class OriginatorReport(NamedTuple):
    """What an archive knows about an originator. Times are microseconds since the epoch; 0: never."""

    name: str
    """Its folder within the archive."""
    disputed: bool
    received: int = 0
    """When the newest message came."""
    event_time: int = 0
    """The latest time in the newest messages."""
    lag: float | None = None
    """How many seconds after their time messages came lately; None: they have no usable time."""
    peer: str = ""
    identity: str = ""
    """What was verified about the sender; empty: nothing."""
    via: str = ""
    sender: str = ""
    """The proven sender of the newest message (`relay.archive.filing.proven_sender`); empty: it is not verified."""
    own_received: int = 0
    """When the newest event of relay's own came, from a verified sender if there is one; 0: it is not a relay."""
    own_senders: dict[str, int] = {}  # noqa: RUF012  nobody changes it
    """Proven sender → when its newest event of relay's own came, of those that came lately."""
    report: SelfReport | None = None
    missing: int = 0
    """Numbers that are missing among the newest messages."""

    @property
    def evidence(self) -> str:
        """What proves that this relay runs: "verified", "contested", "unverified"; empty: it is not a relay."""
        verified = [sender for sender in self.own_senders if sender]
        if len(verified) > 1:
            return "contested"
        return "verified" if verified else "unverified" if self.own_senders else ""


def read_report(
    disk: Disk, folder: OriginatorFolder, names: BoundNames | None = None, *, own_report: bool = True
) -> OriginatorReport:
    """Read the report of one originator, whose name may be bound; without `own_report` from the ledger alone."""
    bound = names or BoundNames()
    tail = read_tail(disk, folder)
    found = OriginatorReport(folder.name, folder.disputed, missing=tail.missing)
    if tail.newest is not None:
        extent = tail.newest.extent
        found = found._replace(
            received=extent.at[1],
            event_time=extent.time[1] if extent.time is not None else 0,
            lag=median(tail.lags) / _MICROSECONDS if tail.lags else None,
            peer=extent.sender,
            identity=extent.identity or "",
            via=extent.via,
            sender=proven_sender(bound, folder.own_name, extent),
        )
    owns = {proven_sender(bound, folder.own_name, each.extent): each for each in reversed(tail.own)}
    if owns:
        verified = [each for sender, each in owns.items() if sender]
        newest = max(verified or owns.values(), key=lambda each: each.extent.at[1])
        report = None
        if own_report:
            with suppress(RelayError):  # the log was removed, or cannot be read: the ledger has the rest
                report = _self_report(folder, newest)
        senders = {sender: each.extent.at[1] for sender, each in owns.items()}
        found = found._replace(own_received=newest.extent.at[1], own_senders=senders, report=report)
    return found


def _self_report(folder: OriginatorFolder, own: ExtentOfDay) -> SelfReport | None:
    log = open_day(folder.path, own.day)
    try:
        octets = log.read(own.extent.off, own.extent.len)
    finally:
        log.close()
    newest = None
    for _, message in own_events_in(own.extent, octets, is_json=LOG_SUFFIXES["json"] in log.path):
        newest = _parsed(message, own.extent) or newest
    return newest


def _parsed(message: bytes, extent: Extent) -> SelfReport | None:
    try:
        event = parse(message)
    except NotRfc5424Error:
        return None
    if event.msgid not in _SELF_REPORTS or not event.structured_data:
        return None
    params = [(name, decoded(value)) for name, value in event.structured_data[0].params]
    if (b"type", "relay") not in params:
        return None
    backlog, alarms, version, lost = dict[str, int](), list[ReportedAlarm](), "", 0
    for name, value in params:
        words = value.split(" ")
        if name == b"version":
            version = value
        elif name == b"lostEvents" and value.isdecimal():
            lost = int(value[:18])
        elif name == b"backlog" and words[-1].isdecimal():
            backlog[" ".join(words[:-1])] = int(words[-1][:18])
        elif name == b"raised" and len(words) > 1:
            alarms.append(ReportedAlarm(words[0], words[1], " ".join(words[2:])))
    return SelfReport(extent.at[1], version, backlog, tuple(alarms), lost)
