"""One folder of segments, its writer and its readers.

- One writer appends; `append` returns after fsync. A failed write or fsync is never assumed written: the same block is
  written again as the first of a new segment, which voids it in the older (DESIGN invariant 8). When that fails too,
  StorageError is raised, nothing was accepted, and `append` may be called again with the same contents.
  When they are refused instead, and counted, what stands of them on the disk must not be taken for accepted after a
  restart: `tried` has the chains by which the next opening knows it again (`refused`).
- Any number of readers, each in its own thread, see synced blocks only.
- `open` finds the end of the newest segment; a torn tail is cut after a copy into `torn/`.
- A segment that somebody else deletes, or empties, makes a hole: readers pass over it, and answer what was in it by the
  numbers around it (`SpoolDamage.gone`). The newest one is noticed before the next block, which begins a new segment
  then. The numbers of its blocks are not used again.
"""

import bisect
import itertools
import logging
import threading
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from relay.errors import DataError, StorageError, full_error
from relay.spool import block
from relay.spool.block import Block, Contents, Header
from relay.spool.losses.gap import Gap, LostRange, ranges_of, reported_gap
from relay.spool.losses.numbers import Numbers, RunEnd
from relay.spool.segments import segment
from relay.spool.segments.segment import SegmentHeader
from relay.spool.segments.segment_reader import BlockLocation, SegmentReader, SpoolDamage
from relay.spool.segments.segment_tail import SegmentTail, find_tail
from relay.system.crash_point import crash_point, die, is_due
from relay.system.disk import Disk, File
from relay.values.event import EventType, Position

_log = logging.getLogger("relay.spool")

TORN_FOLDER: Final = "torn"
BAD: Final = ".bad"
"""Added to the name of a file that was left alone, when a new segment needs that name."""


class SpaceAllowance(NamedTuple):
    """How much of the disk a block may take; octets."""

    write: int
    """The block itself."""
    allocate: int
    """The segment that it may need."""
    cause: str = ""
    """Why it may not be more."""
    remedy: str = ""


UNLIMITED: Final = SpaceAllowance(1 << 62, 1 << 62)


class RunSeed(NamedTuple):
    """Randomness for one opening: given by the caller, so that tests can choose it."""

    run: bytes
    """Marks what this writer writes; `block.RUN_LENGTH` octets."""
    spool_id: bytes
    """The spool's name in case it is new; `segment.SPOOL_ID_LENGTH` octets."""


class DeletableSegment(NamedTuple):
    """A segment that may be deleted."""

    first: int
    following: int
    """The first block of the segment after it."""
    created: int
    blocks: tuple[Header, ...]
    """Of its whole blocks."""
    damaged: tuple[tuple[int, LostRange], ...]
    """What damage took of it, each with the block before which that is known, as for a reader's `next_number`."""
    gaps: tuple[tuple[int, int, Gap], ...]
    """The gaps that its events report, each with its block's number and the event's index in that block."""


class Recovery(NamedTuple):
    """What `open` found and did."""

    torn: int = 0
    """Octets of a torn tail that were cut."""
    torn_copy: str = ""
    torn_header: Header | None = None
    """The header of the block that was cut short, when that is whole."""
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
    ) -> None:
        self._disk = disk
        self.folder = folder
        self.segment_size = segment_size
        """Of the segments that begin from now on."""
        self._run = run
        self._changed = changed
        self._firsts: list[int] = []
        self._sizes: dict[int, int] = {}
        self._file: File | None = None
        self._end = 0
        self._chain = block.CHAIN_START
        self._removing = threading.Lock()
        self._removed = False
        """Whether the folder's last removal may still be undone by a power cut."""
        self._numbers: dict[int, Numbers] = {}
        """What was known before the segments that begin with these blocks, of those that `oldest` went through."""
        self._failure: StorageError | None = None
        self.id = b""
        self.last: Header | None = None
        """The newest synced block."""
        self.recovery = Recovery()
        self.tried: tuple[bytes, ...] = ()
        """The chains of blocks that may stand on the disk and are not accepted: of the first attempt and the last."""
        self.ends: tuple[RunEnd, ...] = ()
        """Of the runs before this one, as far as they are known."""
        self._reached: dict[EventType, int] = {}
        self._least = 1
        self.previous_numbers: dict[EventType, int] = {}
        """The last number of each type in the run that wrote `last`, as far as the newest segment told at the start."""

    @classmethod
    def open(
        cls,
        disk: Disk,
        folder: str,
        *,
        segment_size: int,
        run: RunSeed,
        changed: threading.Condition | None = None,
        refused: Collection[bytes] = (),
    ) -> "Spool":
        """Open the spool in `folder`, or begin one; `refused` are the chains of blocks whose events were refused."""
        spool = cls(disk, folder, segment_size=segment_size, run=run.run, changed=changed or threading.Condition())
        disk.make_folder(folder)
        spool._recover(run.spool_id, refused)
        return spool

    def __repr__(self) -> str:
        return f"<Spool {self.folder!r} segments={len(self._firsts)} next={self.next_number}>"

    @property
    def next_number(self) -> int:
        """The number that the next block gets."""
        after = self.last.number + 1 if self.last is not None else 1
        return max(after, self._least, self._firsts[-1] if self._firsts else 1)

    def go_on_at(self, number: int) -> None:
        """Blocks before this one were given a number before, even if they are gone: it is not used again."""
        if number > self.next_number:
            self._least = number
            self.close()  # the next block begins a segment, which may begin with any number

    def known_ends(self) -> tuple[RunEnd, ...]:
        """The last number of each type of every run that is known, this one's so far included."""
        return (*self.ends, RunEnd(self._run, dict(self._reached)))

    @property
    def newest_first(self) -> int:
        """The first block's number in the newest segment; 0 while there is none."""
        with self._changed:
            return self._firsts[-1] if self._firsts else 0

    @property
    def oldest_first(self) -> int:
        """The number with which the oldest segment begins; 0 when there is none."""
        with self._changed:
            return self._firsts[0] if self._firsts else 0

    @property
    def positions(self) -> dict[str, Position]:
        """The positions in the newest block, by source."""
        return {position.source: position for position in self.last.positions} if self.last else {}

    def took(self, kind: EventType) -> bool:
        """Whether the newest block says that this spool took that type."""
        return bool(self.last and self.last.types_taken >> kind & 1)

    def append(self, contents: Contents, now: int, allowance: SpaceAllowance = UNLIMITED) -> Header:
        """Write one block and make it durable; `now` is its commit time in microseconds since the epoch.

        StorageError that is `full` when the block, or the segment that it needs, takes more than is allowed.
        """
        header, data = block.encode(contents, self.next_number, self._run, now, self._chain)
        if len(data) > allowance.write:
            raise full_error(self.folder, allowance.cause, allowance.remedy)
        if self._file is not None and self._file.deleted:
            self.forget(self.newest_first)
        if len(data) > self.unwritten or not self._write(data, header.chain):
            self._begin_segment(header.number, len(data), now, allowance)
            if not self._write(data, header.chain):
                raise self._failure or StorageError(self.folder, "the block could not be written")
        with self._changed:
            self.last, self._chain, self.tried = header, header.chain, ()
            self._reached.update((kind, first + messages - 1) for kind, first, messages in header.spans)
            self._changed.notify_all()
        return header

    def _write(self, data: bytes, chain: bytes) -> bool:
        """Whether the data is durable at the end of the newest segment; a segment that failed is not used again."""
        if self._file is None:
            return False
        if chain not in self.tried:
            self.tried = (*self.tried[:1], chain)
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

    def _begin_segment(self, number: int, octets: int, now: int, allowance: SpaceAllowance = UNLIMITED) -> None:
        """Begin a segment for a block of so many octets; a smaller one where the usual size is not allowed."""
        start = SegmentHeader(self.id, number, now, self._chain)
        least = segment.HEADER_LENGTH + octets
        size = max(self.segment_size, least)
        if size > allowance.allocate:
            size = max(allowance.allocate // 2, least)
        if size > allowance.allocate:
            raise full_error(self.folder, allowance.cause, allowance.remedy)
        if not self._disk.exists(self.folder):
            self._disk.make_folder(self.folder)
        self._move_aside(number)
        try:
            file = segment.create(self._disk, self.folder, start, size)
        finally:
            self.close()  # also when it failed: it may have its name already, which hides that block in an older one
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

    def opened(self, first: int) -> File | None:
        """A segment to read; None when somebody has deleted it, which is then noted.

        Of the newest one the writer takes note itself: it has the file open.
        """
        try:
            return self._disk.open(f"{self.folder}/{segment.name_of(first)}", writable=False)
        except StorageError as error:
            if not error.absent:
                raise
            if first != self.newest_first:
                self.forget(first)
            return None

    def forget(self, first: int) -> None:
        """Note that a segment was deleted by somebody else."""
        with self._changed:
            if first not in self._firsts:
                return
            if first == self._firsts[-1]:
                self._least = self.next_number
                self.close()
            self._firsts.remove(first)
            self._sizes.pop(first, None)
        _log.error("%s/%s was deleted, and not by relay", self.folder, segment.name_of(first))

    @property
    def allocated(self) -> int:
        """Octets that its segments take on the disk."""
        with self._changed:
            return sum(self._sizes.values())

    @property
    def unwritten(self) -> int:
        """Octets that the newest segment still has space for; 0 when it is not written to any more."""
        with self._changed:
            return self._sizes[self._firsts[-1]] - self._end if self._file is not None else 0

    def allocated_from(self, number: int) -> int:
        """The same of those that hold block `number` or later ones."""
        with self._changed:
            index = max(bisect.bisect_right(self._firsts, number) - 1, 0)
            return sum(self._sizes[first] for first in self._firsts[index:])

    def release_oldest(self, number: int) -> bool:
        """Delete the oldest segment if all its blocks come before `number`; the one with the newest block stays.

        One removal at most may be undone by a power cut, that of the last one: the oldest segment then, and no hole
        behind it.
        """
        with self._removing:
            if not self._may_go(number):
                return False
            if self._removed:
                self._disk.sync_folder(self.folder)
                self._removed = False
            with self._changed:
                oldest = self._firsts[0]
                self._remove(f"{self.folder}/{segment.name_of(oldest)}")
                crash_point("segment-released")
                del self._firsts[0]
                self._sizes.pop(oldest, None)
            self._removed = True
            return True

    def _remove(self, path: str) -> None:
        try:
            self._disk.remove(path)
        except StorageError as error:
            if not error.absent:
                raise

    def _may_go(self, number: int) -> bool:
        with self._changed:
            newest = self.last.number if self.last else 0
            return len(self._firsts) > 1 and self._firsts[1] <= min(number, newest)

    def oldest(self) -> "DeletableSegment | None":
        """The oldest segment that may be deleted; None when it holds the newest block."""
        while True:
            with self._changed:
                newest = self.last.number if self.last else 0
                if len(self._firsts) < 2 or self._firsts[1] > newest:  # noqa: PLR2004  it and the next
                    return None
                first, following = self._firsts[:2]
            file = self.opened(first)
            if file is not None:
                with file:
                    return self._gone_through(file, first, following)

    def _gone_through(self, file: File, first: int, following: int) -> "DeletableSegment":
        numbers = self.numbers_before(first, look_back=False)
        before = numbers.copy()
        whole: list[Header] = []
        damaged: list[tuple[int, LostRange]] = []
        gaps: list[tuple[int, int, Gap]] = []
        for found in SegmentReader(file, BlockLocation.start_of(first), following).blocks():
            if isinstance(found, SpoolDamage):
                damaged += ((found.last + 1, each) for each in numbers.miss(found.header))
                continue
            whole.append(found.header)
            damaged += ((found.header.number + 1, each) for each in numbers.see(found.header))
            gaps += ((found.header.number, index, gap) for index, gap in reported_gaps(found))
        ahead = numbers.copy()
        damaged += self._known_ahead(ahead, following)
        numbers.doubt(ahead.in_doubt)
        self._numbers = {first: before, following: numbers}
        return DeletableSegment(first, following, _created(file), tuple(whole), tuple(damaged), tuple(gaps))

    def _known_ahead(self, numbers: Numbers, first: int) -> list[tuple[int, LostRange]]:
        """What damage took at a segment's end, and at the beginning of the next one, which begins with block `first`.

        Without the segment that goes it could not be told any more.
        """
        newest = self.last.number if self.last else 0
        _, following = self.segment_of(first)
        damaged: list[tuple[int, LostRange]] = []
        begun = False
        file = self.opened(first)
        if file is None:
            return damaged
        with file:
            for found in SegmentReader(file, BlockLocation.start_of(first), following or newest + 1).blocks():
                if isinstance(found, Block):
                    damaged += ((found.header.number + 1, each) for each in numbers.see(found.header))
                    begun = True
                elif not begun:
                    damaged += ((found.last + 1, each) for each in numbers.miss(found.header))
                if begun and (isinstance(found, SpoolDamage) or not numbers.in_doubt):
                    break
        return damaged

    def held(self, first: int, end: int, wanted: int) -> Iterator[LostRange]:
        """What the blocks from `first` to the one before `end` hold of the wanted types (a bitmap)."""
        for start, following in self._segments():
            if following > first and start < end and (file := self.opened(start)) is not None:
                with SegmentReader(file, BlockLocation.start_of(start), min(following, end)) as reader:
                    for _, header in reader.headers():
                        if header.number >= first:
                            yield from ranges_of(header, wanted)

    def gone(self, wanted: int) -> Iterator[LostRange]:
        """What was deleted of the oldest block's run, by the first number of each type in the oldest segment.

        Of the runs before that one nothing is known any more.
        """
        start, following = next(self._segments(), (1, 1))
        file = self.opened(start) if start > 1 else None
        if file is None:
            return
        run, seen = None, 0
        with SegmentReader(file, BlockLocation.start_of(start), following) as reader:
            for _, header in reader.headers():
                run = run or header.run
                for kind, first, _ in header.spans if header.run == run else ():
                    if (wanted & ~seen) >> kind & 1 and first > 1:
                        yield LostRange(run.hex(), int(kind), 1, first - 1, first - 1)
                    seen |= 1 << kind

    def _segments(self) -> Iterator[tuple[int, int]]:
        """First number of each segment, and of what comes after it."""
        with self._changed:
            firsts = [*self._firsts, self.next_number]
        return itertools.pairwise(firsts)

    @property
    def second_created(self) -> int | None:
        """When the segment after the oldest was made: by then all of the oldest was committed. None without one."""
        with self._changed:
            if len(self._firsts) < 2:  # noqa: PLR2004  the oldest and the next
                return None
            second = self._firsts[1]
        file = self.opened(second)
        if file is None:
            return None
        with file:
            return _created(file)

    def release(self, number: int) -> int:
        """Delete the segments whose blocks all come before `number`, as `release_oldest` does; returns how many."""
        gone = 0
        while self.release_oldest(number):
            gone += 1
        return gone

    def segment_of(self, number: int) -> tuple[int, int | None]:
        """First number of the segment that holds block `number`, 0 when there is none, and of the one after it."""
        with self._changed:
            index = bisect.bisect_right(self._firsts, number)
            following = self._firsts[index] if index < len(self._firsts) else None
            return self._firsts[index - 1] if index else 0, following

    def headers_from(self, number: int) -> Iterator[Header]:
        """The headers of whole blocks from that one on."""
        for first, following in self._segments():
            if following > number and (file := self.opened(first)) is not None:
                with SegmentReader(file, BlockLocation.start_of(first), following) as reader:
                    yield from (header for _, header in reader.headers() if header.number >= number)

    def close(self) -> None:
        """Close the newest segment; readers have their own files."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _recover(self, new_id: bytes, refused: Collection[bytes]) -> None:
        left_alone: list[str] = []
        damage: list[str] = []
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
                if header.spool in {self.id, b""} and header.first == segment.first_of(name):
                    self._firsts.append(header.first)
                    self._sizes[header.first] = size
                    damage += [f"{path}: {header.damage}"] if header.damage else []
                else:
                    left_alone.append(f"{path}: belongs to another spool")
        self.id = self.id or new_id
        self.recovery = Recovery(damage=tuple(damage), left_alone=tuple(left_alone))
        if self._firsts:
            self._recover_tail(refused)

    def _recover_tail(self, refused: Collection[bytes]) -> None:
        path = f"{self.folder}/{segment.name_of(self._firsts[-1])}"
        file, header = segment.open_existing(self._disk, path, writable=True)
        tail = find_tail(file, header, refused)
        self.tried = tail.refused  # until another block takes its place, for the case that it cannot be cut off
        damage = (*self.recovery.damage, *(f"{path}: {text}" for text in tail.damage))
        self.recovery = self.recovery._replace(torn=tail.torn, torn_header=tail.torn_header, damage=damage)
        self.last = tail.last or self._last_of_earlier_segments()
        self._file, self._end = file, tail.end
        self._chain = tail.chain or (self.last.chain if self.last else block.CHAIN_START)
        self.previous_numbers = tail.numbers
        if tail.torn:
            self._cut(file, tail)
        self._settle(file, tail)

    def _settle(self, file: File, tail: SegmentTail) -> None:
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
            with SegmentReader(file, BlockLocation.start_of(first), newest) as reader:
                found = [each.header for each in reader.blocks() if each.header is not None]
            if found:
                return found[-1]
            newest = first
        return None

    def numbers_before(self, first: int, *, look_back: bool) -> Numbers:
        """What is known of the numbers before the segment that begins with that block, or told by the one before it."""
        known = self._numbers.get(first)
        if known is not None:
            return known.copy()
        numbers = Numbers(from_the_first=first == 1, ends=self.known_ends())
        before, _ = self.segment_of(first - 1)
        file = self.opened(before) if look_back and before else None
        if file is None:
            return numbers
        with SegmentReader(file, BlockLocation.start_of(before), first) as reader:
            for found in reader.blocks():
                if isinstance(found, SpoolDamage):
                    numbers.miss(found.header)
                else:
                    numbers.see(found.header)
        return numbers

    def _cut(self, file: File, tail: SegmentTail) -> None:
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
            self._end = self._sizes[self._firsts[-1]]
        else:
            self.recovery = self.recovery._replace(torn_copy=path)


def _created(file: File) -> int:
    """When a segment was made; 0, long ago, when its header does not tell."""
    try:
        return segment.header_of(file).created
    except DataError:
        return 0


def reported_gaps(found: Block) -> list[tuple[int, Gap]]:
    """The gaps that the events of one block report, each with the event's index in the block."""
    if not found.header.types_present >> EventType.RELAY & 1:
        return []
    told = (
        (index, reported_gap(message))
        for index, (kind, _, message) in enumerate(found.messages())
        if kind is EventType.RELAY
    )
    return [(index, gap) for index, gap in told if gap is not None]
