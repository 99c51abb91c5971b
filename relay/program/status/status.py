"""The answer of `relay status`: from a state directory, and from the process that uses it, if one does.

Times are microseconds since the epoch; 0 means never. "Waiting" is everything from a destination's cursor to the
spool's end.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from relay.program.history.spool_history import require_state
from relay.program.status.control_socket import ask
from relay.program.status.live import Live
from relay.spool.inspection.overview import overview, waiting
from relay.spool.store import LOCK
from relay.system.disk import Disk

SCHEMA: Final = "relay.status/1"


class DestinationStatus(NamedTuple):
    """How far the delivery to one destination is."""

    name: str
    delivered: int
    """Messages that were ever proven."""
    waiting_events: int
    waiting_octets: int
    waiting_since: int
    """Commit time of the oldest block that is not proven; 0 when nothing waits."""
    proof: str
    proven_at: int
    missing_blocks: int = 0
    """Waiting blocks that are damaged, or whose files were deleted."""


class SourceStatus(NamedTuple):
    """How far one source was read."""

    name: str
    events: int
    """Events that were ever accepted from it."""


class SpoolStatus(NamedTuple):
    """The contents of one spool."""

    segments: int
    events: int
    octets: int
    by_type: Mapping[str, int]


class Status(NamedTuple):
    """Everything that a state directory shows."""

    state_directory: str
    pid: int | None
    """The process that uses it now."""
    retained: SpoolStatus
    transient: SpoolStatus
    sources: tuple[SourceStatus, ...]
    destinations: tuple[DestinationStatus, ...]
    live: Live | None
    """The state of the running process; None when none runs, or it does not answer."""


def status(disk: Disk, state_directory: str) -> Status:
    """Look at a state directory; NoInputError when the folder is not one."""
    require_state(disk, state_directory)
    found = overview(disk, state_directory)
    newest = found.spools.retained.newest
    destinations = []
    for name, cursor in sorted(found.cursors.items()):
        ahead = waiting(disk, state_directory, name, cursor)
        destinations.append(
            DestinationStatus(
                name=name,
                delivered=cursor.delivered,
                waiting_events=ahead.messages,
                waiting_octets=ahead.octets,
                waiting_since=ahead.oldest_committed,
                proof=cursor.proof,
                proven_at=cursor.proven_at,
                missing_blocks=ahead.missing,
            )
        )
    retained, transient = (
        SpoolStatus(
            spool.segments,
            spool.messages,
            spool.octets,
            {event_type.label: count for event_type, count in sorted(spool.by_type.items())},
        )
        for spool in found.spools
    )
    return Status(
        state_directory=state_directory,
        pid=disk.lock_owner(f"{state_directory}/{LOCK}"),
        retained=retained,
        transient=transient,
        sources=tuple(
            SourceStatus(position.source, position.count) for position in (newest.positions if newest else ())
        ),
        destinations=tuple(destinations),
        live=ask(state_directory),
    )
