"""Everything that the metrics are made of, as one value. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from relay.program.metrics.backlog_index import Backlog
from relay.program.status.live import Live
from relay.program.watch.certificate_watch import CertificateExpiry
from relay.program.watch.silence_watch import OriginatorCounts
from relay.values.histogram import Histogram


class DestinationMeasurement(NamedTuple):
    """What is measured of one destination, beside its part of `Live`."""

    name: str
    delivered: int
    proven_at: int
    """Microseconds since the epoch; 0: never."""
    proof_seconds: Histogram
    backlog: Backlog | None
    """None: it is not known yet, because the spool is being read."""


class SpoolMeasurement(NamedTuple):
    """What is measured of one spool."""

    name: str
    messages: int
    octets: int
    sync_seconds: Histogram


class Measurement(NamedTuple):
    """The state of a program at one moment."""

    now: int
    """Microseconds since the epoch."""
    version: str
    python: str
    live: Live
    pending_octets: int
    commit_seconds: Histogram
    spools: tuple[SpoolMeasurement, ...]
    used: int
    max_size: int
    free: int | None
    """None: the disk does not answer."""
    lost: Mapping[str, int]
    """Lost events that were reported, by destination; "": of all of them."""
    destinations: tuple[DestinationMeasurement, ...]
    certificates: tuple[CertificateExpiry, ...]
    originators: OriginatorCounts | None
    """None: this program has no archive."""
    archive_commit_seconds: Histogram | None
    """None: this program has no archive."""
    dropped_alarms: int
    """Alarms that the alarm-command did not get."""
