"""What each segment of a spool holds, by its blocks' headers; nothing is changed.

Works while the writer does (see `browse`). Payloads are not read: `verify` does that.
"""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from relay.errors import DataError, StorageError
from relay.spool.inspection.browse import blocks_text, bounds
from relay.spool.segments.segment import SegmentHeader
from relay.spool.segments.segment_reader import BlockLocation, SegmentReader, SpoolDamage, open_segment
from relay.system.disk import Disk

if TYPE_CHECKING:
    from relay.values.event import EventType


class SegmentSurvey(NamedTuple):
    """One segment; its times are microseconds since the epoch, 0 without a block."""

    path: str
    first: int
    last: int
    """One less than `first` while it is empty."""
    messages: int
    by_type: Mapping[str, int]
    octets: int
    """Of its blocks."""
    allocated: int
    """Of the file."""
    earliest: int
    """Event time."""
    latest: int
    committed_first: int
    committed_last: int
    damage: tuple[str, ...]
    format: int
    """The version of its blocks' format."""


class SpoolSurvey(NamedTuple):
    """One spool."""

    segments: tuple[SegmentSurvey, ...]
    next_block: int
    damage: tuple[str, ...]
    """Files that are not segments."""


def survey(disk: Disk, folder: str) -> SpoolSurvey:
    """Look at the spool in `folder`."""
    segments: list[SegmentSurvey] = []
    damage: list[str] = []
    for first, end in bounds(disk, folder):
        try:
            header, reader = open_segment(disk, folder, BlockLocation.start_of(first), end)
        except DataError as error:
            damage.append(str(error))
        except StorageError as error:
            if not error.absent:  # else it was deleted since it was listed
                raise
        else:
            with reader:
                segments.append(_surveyed(header, reader))
    return SpoolSurvey(tuple(segments), segments[-1].last + 1 if segments else 1, tuple(damage))


def _surveyed(segment_header: SegmentHeader, reader: SegmentReader) -> SegmentSurvey:
    by_type: Counter[EventType] = Counter()
    damage = [f"offset 0: {segment_header.damage}"] if segment_header.damage else []
    events, commits = _Span(), _Span()
    octets = 0
    while (found := reader.header()) is not None:
        if isinstance(found, SpoolDamage):
            damage.append(f"offset {found.offset}: {found.cause}; lost: {blocks_text(found.first, found.last)}")
            continue
        header = found.header
        octets += header.size
        commits.add(header.committed, header.committed)
        if header.spans:
            events.add(header.earliest, header.latest)
        for span in header.spans:
            by_type[span.type] += span.messages
    return SegmentSurvey(
        reader.path,
        segment_header.first,
        reader.location.number - 1,
        by_type.total(),
        {kind.label: messages for kind, messages in sorted(by_type.items())},
        octets,
        reader.allocated,
        events.first,
        events.last,
        commits.first,
        commits.last,
        tuple(damage),
        segment_header.version,
    )


class _Span:
    """The earliest and the latest of the added times; zeros before."""

    def __init__(self) -> None:
        self.first = self.last = 0

    def add(self, first: int, last: int) -> None:
        self.first = min(self.first, first) if self.last else first
        self.last = max(self.last, last)
