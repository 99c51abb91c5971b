"""What `relay status` shows of a state directory, whether or not a process is writing it; nothing is changed."""

from collections.abc import Mapping
from typing import NamedTuple

from relay.errors import DataError
from relay.spool import block
from relay.spool.cursor import Cursor
from relay.spool.inspection.browse import bounds
from relay.spool.losses.gap import Gap
from relay.spool.losses.store_losses import GAP_KEY
from relay.spool.segments.segment_reader import BlockLocation, open_segment
from relay.spool.slots import read_slots
from relay.spool.store import CURSOR_KEY, NUMBERS_KEY, RETAINED, SLOTS, TRANSIENT, RememberedNumbers, decoded
from relay.system.disk import Disk
from relay.values.event import EventType


class SpoolOverview(NamedTuple):
    """What a spool's folder tells without its writer."""

    segments: int
    octets: int
    """Octets of blocks, not of allocated files."""
    next_number: int
    messages: int
    by_type: Mapping[EventType, int]
    newest: block.Header | None
    oldest_committed: int = 0
    """Commit time of the oldest block counted, in microseconds since the epoch; 0 when there is none."""
    missing: int = 0
    """Blocks that should be among those counted, and are damaged or gone."""


class Overview(NamedTuple):
    """What a state directory tells, whether or not a process is writing it."""

    retained: SpoolOverview
    transient: SpoolOverview
    cursors: Mapping[str, Cursor]


def cursors(disk: Disk, state_directory: str) -> dict[str, Cursor]:
    """The stored cursors, by destination."""
    return {
        key.removeprefix(CURSOR_KEY): Cursor.decode(copy.value)
        for key, (_, copy) in read_slots(disk, f"{state_directory}/{SLOTS}").items()
        if key.startswith(CURSOR_KEY)
    }


def overview(disk: Disk, folder: str) -> Overview:
    """Look at a state directory without changing it. Reads every block header: cost grows with the spool."""
    return Overview(_look(disk, f"{folder}/{RETAINED}"), _look(disk, f"{folder}/{TRANSIENT}"), cursors(disk, folder))


def waiting(disk: Disk, folder: str, name: str, cursor: Cursor) -> SpoolOverview:
    """What of both spools a destination with this cursor still has before it."""
    slots = read_slots(disk, f"{folder}/{SLOTS}")
    values = {key: copy.value for key, (_, copy) in slots.items()}
    counted = Gap.decode(values.get(GAP_KEY + name, b"{}"), name)
    remembered = decoded(values.get(NUMBERS_KEY), RememberedNumbers, RememberedNumbers())
    retained = _look(
        disk,
        f"{folder}/{RETAINED}",
        max(cursor.reached_retained, counted.reached_retained),
        remembered.next_retained,
    )
    transient = _look(
        disk,
        f"{folder}/{TRANSIENT}",
        max(cursor.reached_transient, counted.reached_transient),
        remembered.next_transient,
    )
    by_type = dict(retained.by_type)
    for kind, count in transient.by_type.items():
        by_type[kind] = by_type.get(kind, 0) + count
    times = [spool.oldest_committed for spool in (retained, transient) if spool.oldest_committed]
    return SpoolOverview(
        retained.segments + transient.segments,
        retained.octets + transient.octets,
        retained.next_number,
        retained.messages + transient.messages,
        by_type,
        retained.newest,
        min(times, default=0),
        retained.missing + transient.missing,
    )


def _look(disk: Disk, folder: str, reached: tuple[int, int] = (0, 0), end: int = 0) -> SpoolOverview:
    """Look at a spool's folder, counting from a place on (block, and messages of it); up to `end` there were blocks."""
    start, part = reached
    segments = octets = oldest = missing = 0
    expected = start
    by_type: dict[EventType, int] = {}
    newest: block.Header | None = None
    for first, following in bounds(disk, folder):
        if following is not None and following <= start:
            continue
        try:
            _, reader = open_segment(disk, folder, BlockLocation.start_of(first), following)
        except DataError:
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
                for span in block.spans_between(header.spans, done, header.messages):
                    by_type[span.type] = by_type.get(span.type, 0) + span.messages
    next_number = newest.number + 1 if newest else 1
    missing = missing + max(end - expected, 0) if start else 0
    return SpoolOverview(segments, octets, next_number, sum(by_type.values()), by_type, newest, oldest, missing)
