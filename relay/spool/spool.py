"""One folder of segments, its writer and its readers.

- One writer appends; `append` returns after fsync. A failed write or fsync is never assumed written: the same block is
  written again as the first of a new segment, which voids it in the older (DESIGN invariant 8). When that fails too,
  StorageError is raised, nothing was accepted, and `append` may be called again with the same contents.
- Any number of readers, each in its own thread, see synced blocks only.
- `open` finds the end of the newest segment; a torn tail is cut after a copy into `torn/`.
"""

import bisect
import threading
from typing import Final, NamedTuple, Protocol

from relay.crash_point import crash_point, die, is_due
from relay.disk import Disk, File
from relay.errors import DataError, StorageError
from relay.event import EventType, Position
from relay.spool import block, segment
from relay.spool.block import Block, BlockError, Contents, Header
from relay.spool.gap import Gap, Range, told_in
from relay.spool.segment import SegmentHeader

TORN_FOLDER: Final = "torn"
BAD: Final = ".bad"
"""Added to the name of a file that was left alone, when a new segment needs that name."""


class Room(Protocol):
    """What a spool asks before it takes more of the disk."""

    def reserve(self, octets: int) -> None:
        """Make sure that so many more may be used; StorageError when they may not."""

    def give_way(self) -> bool:
        """Free what can be spared, when the disk is full; False when there is nothing."""


class _AllTheRoom:
    def reserve(self, octets: int) -> None:
        """Any number."""

    def give_way(self) -> bool:
        """Nothing is spared."""
        return False


class Run(NamedTuple):
    """Randomness for one opening: given by the caller, so that tests can choose it."""

    run: bytes
    """Marks what this writer writes; `block.RUN_LENGTH` octets."""
    spool_id: bytes
    """The spool's name in case it is new; `segment.SPOOL_ID_LENGTH` octets."""


class Lost(NamedTuple):
    """Damage that a reader stepped over: blocks that cannot be delivered."""

    path: str
    offset: int
    cause: str
    first: int
    last: int


class Oldest(NamedTuple):
    """A segment that may be deleted."""

    first: int
    following: int
    """The first block of the segment after it."""
    created: int
    blocks: tuple[Header, ...]
    gaps: tuple[tuple[int, Gap], ...]
    """The gaps that its events tell of, each with its block's number."""


class Recovery(NamedTuple):
    """What `open` found and did."""

    torn: int = 0
    """Octets of a torn tail that were cut."""
    torn_copy: str = ""
    damage: tuple[str, ...] = ()
    left_alone: tuple[str, ...] = ()
    """Files in the folder that are no segments of this spool, with the reason."""


class Spool:
    """A folder of segments. Make one with `open`."""

    def __init__(
        self,
        disk: Disk,
        folder: str,
        *,
        segment_size: int,
        run: bytes,
        changed: threading.Condition,
        room: Room,
    ) -> None:
        self._disk = disk
        self._room = room
        self.folder = folder
        self._segment_size = segment_size
        self._run = run
        self._changed = changed
        self._firsts: list[int] = []
        self._sizes: dict[int, int] = {}
        self._file: File | None = None
        self._end = 0
        self._chain = block.CHAIN_START
        self._failure: StorageError | None = None
        self.id = b""
        self.last: Header | None = None
        """The newest synced block."""
        self.recovery = Recovery()
        self.previous_numbers: dict[EventType, int] = {}
        """The last number of each type in the run that wrote `last`, as far as the newest segment told at the start."""

    @classmethod
    def open(
        cls,
        disk: Disk,
        folder: str,
        *,
        segment_size: int,
        run: Run,
        changed: threading.Condition | None = None,
        room: Room | None = None,
    ) -> "Spool":
        """Open the spool in `folder`, or begin one."""
        changed = changed or threading.Condition()
        spool = cls(disk, folder, segment_size=segment_size, run=run.run, changed=changed, room=room or _AllTheRoom())
        disk.make_folder(folder)
        spool._recover(run.spool_id)
        return spool

    def __repr__(self) -> str:
        return f"<Spool {self.folder!r} segments={len(self._firsts)} next={self.next_number}>"

    @property
    def next_number(self) -> int:
        """The number that the next block gets."""
        if self.last is not None:
            return self.last.number + 1
        return self._firsts[0] if self._firsts else 1

    @property
    def newest_first(self) -> int:
        """The first block's number in the newest segment; 0 while there is none."""
        with self._changed:
            return self._firsts[-1] if self._firsts else 0

    @property
    def positions(self) -> dict[str, Position]:
        """The positions in the newest block, by source."""
        return {position.source: position for position in self.last.positions} if self.last else {}

    def took(self, kind: EventType) -> bool:
        """Whether the newest block says that this spool took that type."""
        return bool(self.last and self.last.types_taken >> kind & 1)

    def append(self, contents: Contents, now: int) -> Header:
        """Write one block and make it durable; `now` is its commit time in microseconds since the epoch."""
        header, data = block.encode(contents, self.next_number, self._run, now, self._chain)
        if self._end + len(data) > self._segment_size or not self._write(data):
            self._begin_segment(header.number, len(data), now)
            if not self._write(data):
                raise self._failure or StorageError(self.folder, "the block could not be written")
        with self._changed:
            self.last, self._chain = header, header.chain
            self._changed.notify_all()
        return header

    def _write(self, data: bytes) -> bool:
        """Whether the data is durable at the end of the newest segment; a segment that failed is not used again."""
        if self._file is None:
            return False
        try:
            if is_due("block-half-written"):
                self._file.write(data[: len(data) // 2], self._end)
                die()
            self._file.write(data, self._end)
            crash_point("block-written")
            self._file.sync()
            crash_point("block-synced")
        except StorageError as error:
            self._failure = error
            self.close()
            return False
        self._end += len(data)
        return True

    def _begin_segment(self, number: int, room: int, now: int) -> None:
        start = SegmentHeader(self.id, number, now, self._chain)
        size = max(self._segment_size, segment.HEADER_LENGTH + room)
        self._room.reserve(size)
        self._move_aside(number)
        file = self._created(start, size)
        self.close()
        self._file, self._end = file, segment.HEADER_LENGTH
        crash_point("segment-made")
        with self._changed:
            if number not in self._firsts:
                self._firsts.append(number)
            self._sizes[number] = size

    def _move_aside(self, number: int) -> None:
        """What was left alone under the name that a new segment needs keeps its octets under another."""
        path = f"{self.folder}/{segment.name_of(number)}"
        if number not in self._firsts and self._disk.exists(path):
            self._disk.replace(path, path + BAD)

    def _created(self, start: SegmentHeader, size: int) -> File:
        while True:
            try:
                return segment.create(self._disk, self.folder, start, size)
            except StorageError as error:
                if not error.full or not self._room.give_way():
                    raise

    @property
    def allocated(self) -> int:
        """Octets that its segments take on the disk."""
        with self._changed:
            return sum(self._sizes.values())

    def allocated_from(self, number: int) -> int:
        """The same of those that hold block `number` or later ones."""
        with self._changed:
            index = max(bisect.bisect_right(self._firsts, number) - 1, 0)
            return sum(self._sizes[first] for first in self._firsts[index:])

    def release_oldest(self, number: int) -> bool:
        """Delete the oldest segment if all its blocks come before `number`; the one with the newest block stays."""
        with self._changed:
            newest = self.last.number if self.last else 0
            if len(self._firsts) < 2 or self._firsts[1] > min(number, newest):  # noqa: PLR2004  it and the next
                return False
            oldest = self._firsts[0]
            self._disk.remove(f"{self.folder}/{segment.name_of(oldest)}")
            crash_point("segment-released")
            del self._firsts[0]
            self._sizes.pop(oldest, None)
            return True

    def oldest(self) -> "Oldest | None":
        """The oldest segment that may be deleted; None when it holds the newest block."""
        with self._changed:
            newest = self.last.number if self.last else 0
            if len(self._firsts) < 2 or self._firsts[1] > newest:  # noqa: PLR2004  it and the next
                return None
            first, following = self._firsts[:2]
        path = f"{self.folder}/{segment.name_of(first)}"
        file, header = segment.open_existing(self._disk, path)
        with file:
            places = [(place, found) for place, found in segment.headers(file) if found.number < following]
            gaps = tuple((found.number, gap) for place, found in places for gap in _gaps_told(file, place, found))
        return Oldest(first, following, header.created, tuple(found for _, found in places), gaps)

    @property
    def second_created(self) -> int | None:
        """When the segment after the oldest was made: by then all of the oldest was committed. None without one."""
        with self._changed:
            if len(self._firsts) < 2:  # noqa: PLR2004  the oldest and the next
                return None
            path = f"{self.folder}/{segment.name_of(self._firsts[1])}"
        file, header = segment.open_existing(self._disk, path)
        file.close()
        return header.created

    def release(self, number: int) -> int:
        """Delete the segments whose blocks all come before `number`, as `release_oldest` does; returns how many."""
        gone = 0
        while self.release_oldest(number):
            gone += 1
        return gone

    def reader(self, number: int) -> "Reader":
        """A reader that begins with block `number`, or the oldest there is, or the next one to come."""
        return Reader(self._disk, self, min(number, self.next_number))

    def segment_of(self, number: int) -> tuple[int, int | None]:
        """First number of the segment that holds block `number`, and of the one after it."""
        with self._changed:
            index = max(bisect.bisect_right(self._firsts, number) - 1, 0)
            following = self._firsts[index + 1] if index + 1 < len(self._firsts) else None
            return self._firsts[index], following

    def close(self) -> None:
        """Close the newest segment; readers have their own files."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _recover(self, new_id: bytes) -> None:
        left_alone = []
        for name in self._disk.names(self.folder):
            path = f"{self.folder}/{name}"
            if name.endswith(segment.UNFINISHED):
                self._disk.remove(path)
            elif segment.NAME.fullmatch(name):
                try:
                    file, header = segment.open_existing(self._disk, path)
                except DataError as error:
                    left_alone.append(str(error))
                    continue
                size = file.size
                file.close()
                self.id = self.id or header.spool
                if header.spool == self.id and header.first == segment.first_of(name):
                    self._firsts.append(header.first)
                    self._sizes[header.first] = size
                else:
                    left_alone.append(f"{path}: belongs to another spool")
        self.id = self.id or new_id
        self.recovery = Recovery(left_alone=tuple(left_alone))
        if self._firsts:
            self._recover_tail()

    def _recover_tail(self) -> None:
        path = f"{self.folder}/{segment.name_of(self._firsts[-1])}"
        file, header = segment.open_existing(self._disk, path, writable=True)
        tail = segment.find_tail(file, header)
        self.recovery = self.recovery._replace(torn=tail.torn, damage=tuple(f"{path}: {text}" for text in tail.damage))
        self._file, self._end, self._chain = file, tail.end, tail.chain
        self.last = tail.last or self._last_of_earlier_segments()
        self.previous_numbers = tail.numbers
        if tail.torn:
            self._cut(file, tail)
        self._settle(file, tail)

    def _settle(self, file: File, tail: segment.Tail) -> None:
        """Make durable what was found: a process that was killed, or refused by the disk, leaves its last in memory.

        Written again, since after a failed fsync the kernel holds for clean what never reached the disk (invariant 8).
        """
        if tail.last is not None:
            start = tail.end - tail.last.size
            file.write(file.read(tail.last.size, start), start)
        file.sync()
        self._disk.sync_folder(self.folder)

    def _last_of_earlier_segments(self) -> Header | None:
        """The newest block before an empty newest segment (a crash came between its making and its first block)."""
        newest = self._firsts[-1]
        for first in reversed(self._firsts[:-1]):
            file, _ = segment.open_existing(self._disk, f"{self.folder}/{segment.name_of(first)}")
            with file:
                before = [header for _, header in segment.headers(file) if header.number < newest]
            if before:
                return before[-1]
        return None

    def _cut(self, file: File, tail: segment.Tail) -> None:
        """Copy the torn octets aside, then put zeros in their place; without room for the copy go on elsewhere."""
        torn = file.read(tail.torn, tail.end)
        folder = f"{self.folder}/{TORN_FOLDER}"
        path = f"{folder}/{self._firsts[-1]:020d}-{tail.end}.torn"
        try:
            self._disk.make_folder(folder)
            with self._disk.open(path, create=True) as copy:
                copy.write(torn, 0)
                copy.truncate(len(torn))
                copy.sync()
            self._disk.sync_folder(folder)
            crash_point("torn-tail-copied")
            file.write(bytes(tail.torn), tail.end)
            file.sync()
            crash_point("torn-tail-cut")
        except StorageError:
            # The torn octets stay where they are; the next block begins a new segment, which ends this one.
            self._end = self._segment_size
        else:
            self.recovery = self.recovery._replace(torn_copy=path)


class Reader:
    """Reads a spool's synced blocks in order, once each. Not for several threads."""

    def __init__(self, disk: Disk, spool: Spool, number: int) -> None:
        self._disk = disk
        self._spool = spool
        self.next_number = number
        """The block that the next `read` gives."""
        self.missing: tuple[Range, ...] = ()
        """What damage took right before the block that `read` gave last, by the numbers around it."""
        self.folder = spool.folder
        self._next: dict[tuple[bytes, EventType], int] = {}
        self._damaged = False
        self._file: File | None = None
        self._first = 0
        self._offset = 0

    def read(self) -> Block | Lost | None:
        """The next block; None when there is none yet; Lost when damage had to be stepped over."""
        last = self._spool.last
        if last is None or self.next_number > last.number:
            return None
        following = self._seek()
        if self._file is None:
            raise DataError(self._spool.folder, "a reader without a segment")
        offset = self._offset
        try:
            found = segment.read_block(self._file, offset)
            if found.header.number != self.next_number:
                raise BlockError(f"block {found.header.number} stands where {self.next_number} belongs")
        except BlockError as error:
            return self._step_over(offset, str(error), following or last.number + 1)
        self._offset += found.header.size
        self.next_number += 1
        self.missing = self._account(found.header)
        self._damaged = False
        return found

    def _account(self, header: Header) -> tuple[Range, ...]:
        """Note a block's numbers; answer what is missing before them, if damage was stepped over."""
        missing = []
        for span in header.spans:
            key = (header.run, span.type)
            lost = span.first - self._next.get(key, span.first)
            if self._damaged and lost > 0:
                missing.append(Range(header.run.hex(), int(span.type), span.first - lost, span.first - 1, lost))
            self._next[key] = span.first + span.messages
        return tuple(missing)

    def _seek(self) -> int | None:
        """Bring file and offset to the next block; returns where the segment after this one begins."""
        first, following = self._spool.segment_of(self.next_number)
        if first > self.next_number:  # what was between was deleted, and counted where it had to be
            self.next_number = first
            self._next.clear()
        if self._file is None or first != self._first:
            self.close()
            path = f"{self._spool.folder}/{segment.name_of(first)}"
            self._file = self._disk.open(path, writable=False)
            self._first, self._offset = first, segment.HEADER_LENGTH
            for offset, header in segment.headers(self._file):
                if header.number >= self.next_number:
                    self._offset = offset
                    break
                self._account(header)
                self._offset = offset + header.size
        return following

    def _step_over(self, offset: int, cause: str, end: int) -> Lost:
        """Go on at the next good block of this segment, or at block `end`, where the next one begins."""
        if self._file is None:
            raise DataError(self._spool.folder, "a reader without a segment")
        path, first = self._file.path, self.next_number
        self._damaged = True
        place = segment.find_block(self._file, offset)
        while place is not None and not self._continues_at(place, first, end):
            place = segment.find_block(self._file, place + 1)
        if place is None:
            self.next_number = end
            self.close()
        return Lost(path, offset, cause, first, self.next_number - 1)

    def _continues_at(self, place: int, first: int, end: int) -> bool:
        """Whether a whole block that is still wanted stands there; then it is the next one."""
        if self._file is None:
            return False
        try:
            number = segment.read_block(self._file, place).header.number
        except BlockError:
            return False
        if not first <= number < end:
            return False
        self._offset, self.next_number = place, number
        return True

    def close(self) -> None:
        """Close its file; a later `read` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _gaps_told(file: File, place: int, header: Header) -> list[Gap]:
    """The gaps that the events of one block tell of; none of a block that is damaged."""
    if not header.types_present >> EventType.RELAY & 1:
        return []
    try:
        found = segment.read_block(file, place)
    except BlockError:
        return []
    told = (told_in(message) for kind, _, message in found.messages() if kind is EventType.RELAY)
    return [gap for gap in told if gap is not None]
