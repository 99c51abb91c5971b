"""What `relay status` shows of a state directory, whether or not a process is writing it; nothing is changed."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from relay.errors import DataError, StorageError
from relay.spool.block import Header, spans_between
from relay.spool.both_spools import BothSpools, later
from relay.spool.cursor import BlockPosition, Cursor
from relay.spool.inspection.browse import bounds
from relay.spool.losses.gap import Gap
from relay.spool.losses.run_memory import NUMBERS_KEY, RememberedNumbers
from relay.spool.losses.store_losses import GAP_KEY
from relay.spool.segments.segment_reader import BlockLocation, open_segment
from relay.spool.slots import read_slots
from relay.spool.store import CURSOR_KEY, FOLDERS, SLOTS
from relay.system.disk import Disk
from relay.values.event import EventType


class SpoolOverview(NamedTuple):
    """What a spool's folder holds, or the part of it from some point on."""

    segments: int
    octets: int
    """Octets of blocks, not of allocated files."""
    next_number: int
    messages: int
    by_type: Mapping[EventType, int]
    newest: Header | None
    oldest_committed: int = 0
    """Commit time of the oldest block counted, in microseconds since the epoch; 0 without one."""
    missing: int = 0
    """Blocks that should be among those counted, and are damaged or gone."""


class Overview(NamedTuple):
    """What a state directory holds."""

    spools: BothSpools[SpoolOverview]
    cursors: Mapping[str, Cursor]


class WaitingOverview(NamedTuple):
    """What a destination still has to get, of both spools."""

    messages: int
    octets: int
    oldest_committed: int
    """Commit time of its oldest block, in microseconds since the epoch; 0 when nothing waits."""
    missing: int
    """Blocks that are damaged or gone."""


def cursors(disk: Disk, state_directory: str) -> dict[str, Cursor]:
    """The stored cursors, by destination."""
    return {
        key.removeprefix(CURSOR_KEY): Cursor.decode(value)
        for key, value in read_slots(disk, f"{state_directory}/{SLOTS}").items()
        if key.startswith(CURSOR_KEY)
    }


def overview(disk: Disk, folder: str) -> Overview:
    """Look at a state directory without changing it. Reads every block header: cost grows with the spool."""
    return Overview(FOLDERS.map(lambda name: _look(disk, f"{folder}/{name}")), cursors(disk, folder))


def waiting(disk: Disk, folder: str, name: str, cursor: Cursor) -> WaitingOverview:
    """What of both spools a destination with this cursor still has to get."""
    values = read_slots(disk, f"{folder}/{SLOTS}")
    reached = later(cursor.reached, Gap.decode(values.get(GAP_KEY + name, b"{}"), name).reached)
    ends = RememberedNumbers.decode(values.get(NUMBERS_KEY)).next_numbers
    spools = [_look(disk, f"{folder}/{each}", reached[index], ends[index]) for index, each in enumerate(FOLDERS)]
    return WaitingOverview(
        sum(spool.messages for spool in spools),
        sum(spool.octets for spool in spools),
        min((spool.oldest_committed for spool in spools if spool.oldest_committed), default=0),
        sum(spool.missing for spool in spools),
    )


def _look(disk: Disk, folder: str, reached: BlockPosition = (0, 0), end: int = 0) -> SpoolOverview:
    """Count what a spool holds from a point on. Before block `end` there were blocks, which may be missing."""
    start, part = reached
    segments = octets = oldest = missing = 0
    expected = start
    by_type: Counter[EventType] = Counter()
    newest: Header | None = None
    for first, following in bounds(disk, folder):
        if following is not None and following <= start:
            continue
        try:
            _, reader = open_segment(disk, folder, BlockLocation.start_of(first), following)
        except DataError:
            continue
        except StorageError as error:
            if not error.absent:  # else it was deleted since it was listed
                raise
            continue
        segments += 1
        with reader:
            for _, header in reader.headers():
                newest = header
                if header.number < start:
                    continue
                missing += max(header.number - expected, 0)
                expected = header.number + 1
                octets += header.size
                oldest = oldest or header.committed
                done = part if header.number == start else 0
                for span in spans_between(header.spans, done, header.messages):
                    by_type[span.type] += span.messages
    next_number = newest.number + 1 if newest else 1
    missing = missing + max(end - expected, 0) if start else 0
    return SpoolOverview(segments, octets, next_number, by_type.total(), by_type, newest, oldest, missing)
