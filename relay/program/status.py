"""What `relay status` tells: from a state directory, and from the process that is using it, where one is.

Times are microseconds since the epoch; 0 means never. "Waiting" is what lies between a destination's cursor and the
spool's end.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from relay.program.control_socket import ask
from relay.program.history import require_state
from relay.program.live import Live
from relay.spool.cursor import Cursor
from relay.spool.inspection.overview import Overview, overview, waiting
from relay.spool.store import LOCK
from relay.system.disk import Disk
from relay.values.event import EventType

SCHEMA: Final = "relay.status/1"


class DestinationStatus(NamedTuple):
    """How far one destination is."""

    name: str
    delivered: int
    """Messages proven, ever."""
    waiting_events: int
    waiting_octets: int
    waiting_since: int
    """Commit time of the oldest block that is not proven; 0 when nothing waits."""
    proof: str
    proven_at: int
    missing_blocks: int = 0
    """Of those that it has still to get: blocks that are damaged, or whose files were deleted."""


class SourceStatus(NamedTuple):
    """How far one source has come."""

    name: str
    events: int
    """Events that it has given, ever."""


class SpoolStatus(NamedTuple):
    """What one spool holds."""

    segments: int
    events: int
    octets: int
    by_type: Mapping[str, int]


class Status(NamedTuple):
    """The whole picture."""

    state_directory: str
    pid: int | None
    """The process that is using it now."""
    retained: SpoolStatus
    transient: SpoolStatus
    sources: tuple[SourceStatus, ...]
    destinations: tuple[DestinationStatus, ...]
    live: Live | None
    """What the running process adds; None when none runs."""


def status(disk: Disk, state_directory: str) -> Status:
    """Look at a state directory; NoInputError when it is none."""
    require_state(disk, state_directory)
    found = overview(disk, state_directory)
    return Status(
        state_directory,
        disk.lock_owner(f"{state_directory}/{LOCK}"),
        _spool(found, retained=True),
        _spool(found, retained=False),
        tuple(
            SourceStatus(position.source, position.count)
            for position in (found.retained.newest.positions if found.retained.newest else ())
        ),
        tuple(_destination(disk, state_directory, name, cursor) for name, cursor in sorted(found.cursors.items())),
        ask(state_directory),
    )


def _spool(found: Overview, *, retained: bool) -> SpoolStatus:
    spool = found.retained if retained else found.transient
    return SpoolStatus(spool.segments, spool.messages, spool.octets, labels(spool.by_type))


def labels(by_type: Mapping[EventType, int]) -> dict[str, int]:
    """The same by the types' names."""
    return {kind.label: count for kind, count in sorted(by_type.items())}


def _destination(disk: Disk, folder: str, name: str, cursor: Cursor) -> DestinationStatus:
    ahead = waiting(disk, folder, name, cursor)
    return DestinationStatus(
        name,
        cursor.delivered,
        ahead.messages,
        ahead.octets,
        ahead.oldest_committed,
        cursor.proof,
        cursor.proven_at,
        ahead.missing,
    )
