"""One folder of segments and its writer.

- One writer appends; `append` returns after fsync. After a failed write or fsync nothing counts as written: the same
  block is written again as the first of a new segment, which voids it in the older one. When that fails too, `append`
  raises StorageError; nothing was accepted, and it may be called again with the same contents. When the events are
  refused and counted instead, the disk may still hold them, and a restart must not take them for accepted: `tried` has
  the chains by which the next opening recognises such a block (`refused`).
- Any number of readers (`SpoolReader`), each in its own thread, see synced blocks only.
- `open` finds the end of the newest segment; it cuts a torn tail after a copy into `torn/`. A segment of an older
  format is read on, and not appended to: the next block begins a new segment.
- A segment that somebody else deletes, or empties, is a hole: readers pass over it and report what was in it by the
  numbers around it (`SpoolDamage.gone`). The writer notices a deleted newest segment before the next block, which then
  begins a new segment. Block numbers are never used again.
"""

import bisect
import itertools
import logging
import threading
import time
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from relay.errors import DataError, StorageError, full_error
from relay.spool import block
from relay.spool.block import Contents, Header
from relay.spool.losses.numbers import Numbers, RunEnd
from relay.spool.segments import segment
from relay.spool.segments.segment import SegmentHeader
from relay.spool.segments.segment_reader import BlockLocation, SegmentReader
from relay.spool.segments.segment_tail import SegmentTail, find_tail
from relay.system.crash_point import crash_point, die, is_due
from relay.system.disk import Disk, File
from relay.values.event import EventType, Position
from relay.values.histogram import COMMIT_BOUNDS, Histogram

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
    """Why it is not more."""
    remedy: str = ""


UNLIMITED: Final = SpaceAllowance(1 << 62, 1 << 62)


class Appended(NamedTuple):
    """What was appended to a spool."""

    messages: int
    octets: int
    """Of blocks with their headers."""
    next_number: int
    """The number after the newest block; 0 when nothing was appended."""


class RunSeed(NamedTuple):
    """Randomness for one opening: given by the caller, so that tests can choose it."""

    run: bytes
    """Marks what this writer writes; `block.RUN_LENGTH` octets."""
    spool_id: bytes
    """The spool's name in case it is new; `segment.SPOOL_ID_LENGTH` octets."""


class Recovery(NamedTuple):
    """What `open` found and did."""

    torn: int = 0
    """Octets of a torn tail that were cut."""
    torn_copy: str = ""
    """Path of their copy; empty when there was no space for it."""
    torn_header: Header | None = None
    """The header of the block that was cut short, when the header is whole."""
    damage: tuple[str, ...] = ()
    left_alone: tuple[str, ...] = ()
    """Files in the folder that are not segments of this spool, with the reason."""


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
        """Whether a power cut may still undo the folder's last removal."""
        self._failure: StorageError | None = None
        self._reached: dict[EventType, int] = {}
        self.sync_seconds = Histogram(COMMIT_BOUNDS)
        """How long each fsync of a block took."""
        self.appended = Appended(0, 0, 0)
        """Since the start."""
        self._least = 1
        self.id = b""
        self.last: Header | None = None
        """The newest synced block."""
        self.recovery = Recovery()
        self.tried: tuple[bytes, ...] = ()
        """The chains of blocks that the disk may hold and that are not accepted: of the first attempt and the last."""
        self.ends: tuple[RunEnd, ...] = ()
        """Of the runs before this one, as far as they are known."""
        self.remembered_numbers: dict[int, Numbers] = {}
        """The numbers before some segments, by first block; kept by `relay/spool/losses/spool_contents.py`."""
        self.previous_numbers: dict[EventType, int] = {}
        """The last number of each type in the run that wrote `last`, as far as the newest segment had them at start."""

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
        spool._find_segments(run.spool_id)
        if spool._firsts:
            spool._recover_tail(refused)
        return spool

    def __repr__(self) -> str:
        return f"<Spool {self.folder!r} segments={len(self._firsts)} next={self.next_number}>"

    # --- What it has ---

    @property
    def next_number(self) -> int:
        """The number that the next block gets."""
        after = self.last.number + 1 if self.last is not None else 1
        return max(after, self._least, self._firsts[-1] if self._firsts else 1)

    def skip_numbers(self, number: int) -> None:
        """Give the next block this number at least: earlier ones were used, even if their blocks are gone."""
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
        """Whether this spool took that type when the newest block was written."""
        return bool(self.last and self.last.types_taken >> kind & 1)

    @property
    def allocated(self) -> int:
        """Octets that its segments take on the disk."""
        with self._changed:
            return sum(self._sizes.values())

    def allocated_from(self, number: int) -> int:
        """The same of the segments that hold block `number` or later ones."""
        with self._changed:
            index = max(bisect.bisect_right(self._firsts, number) - 1, 0)
            return sum(self._sizes[first] for first in self._firsts[index:])

    @property
    def unwritten(self) -> int:
        """Octets that the newest segment still has space for; 0 when it is not written to any more."""
        with self._changed:
            return self._sizes[self._firsts[-1]] - self._end if self._file is not None else 0

    def segments(self) -> Iterator[tuple[int, int]]:
        """The first block of each segment and of the next one; for the newest, the next block to be written."""
        with self._changed:
            firsts = [*self._firsts, self.next_number]
        return itertools.pairwise(firsts)

    def segment_of(self, number: int) -> tuple[int, int | None]:
        """The first block of the segment that holds block `number` (0 without one), and of the segment after it."""
        with self._changed:
            index = bisect.bisect_right(self._firsts, number)
            following = self._firsts[index] if index < len(self._firsts) else None
            return self._firsts[index - 1] if index else 0, following

    def segment_reader(self, first: int, end: int) -> SegmentReader | None:
        """A reader of the segment that begins with block `first`; None when somebody has deleted it."""
        try:
            file = self._disk.open(f"{self.folder}/{segment.name_of(first)}", writable=False)
        except StorageError as error:
            if not error.absent:
                raise
            if first != self.newest_first:  # of the newest one the writer takes note: it has the file open
                self._forget(first)
            return None
        return SegmentReader(file, BlockLocation.start_of(first), end)

    def _forget(self, first: int) -> None:
        """Note that somebody else deleted a segment."""
        with self._changed:
            if first not in self._firsts:
                return
            if first == self._firsts[-1]:
                self._least = self.next_number
                self.close()
            self._firsts.remove(first)
            self._sizes.pop(first, None)
        _log.error("%s/%s was deleted, and not by relay", self.folder, segment.name_of(first))

    # --- Writing ---

    def append(self, contents: Contents, now: int, allowance: SpaceAllowance = UNLIMITED) -> Header:
        """Write one block and make it durable; `now` is its commit time in microseconds since the epoch.

        StorageError that is `full` when the block, or the segment that it needs, takes more than is allowed.
        """
        header, data = block.encode(contents, self.next_number, self._run, now, self._chain)
        if len(data) > allowance.write:
            raise full_error(self.folder, allowance.cause, allowance.remedy)
        if self._file is not None and self._file.deleted:
            self._forget(self.newest_first)
        if len(data) > self.unwritten or not self._write(data, header.chain):
            self._begin_segment(header.number, len(data), now, allowance)
            if not self._write(data, header.chain):
                raise self._failure or StorageError(self.folder, "the block could not be written")
        with self._changed:
            self.last, self._chain, self.tried = header, header.chain, ()
            self._reached.update((kind, first + messages - 1) for kind, first, messages, *_ in header.spans)
            messages, octets = self.appended.messages + header.messages, self.appended.octets + header.size
            self.appended = Appended(messages, octets, header.number + 1)
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
            begun = time.monotonic()
            self._file.sync()
            self.sync_seconds.add(time.monotonic() - begun)
            crash_point("block-synced")
        except StorageError as error:
            self._failure = error
            self.close()
            return False
        self._end += len(data)
        return True

    def _begin_segment(self, number: int, octets: int, now: int, allowance: SpaceAllowance = UNLIMITED) -> None:
        """Begin a segment for a block of so many octets; a smaller one where the usual size is not allowed."""
        least = segment.HEADER_LENGTH + octets
        size = max(self.segment_size, least)
        if size > allowance.allocate:
            size = max(allowance.allocate // 2, least)
        if size > allowance.allocate:
            raise full_error(self.folder, allowance.cause, allowance.remedy)
        if not self._disk.exists(self.folder):
            self._disk.make_folder(self.folder)
        path = f"{self.folder}/{segment.name_of(number)}"
        if number not in self._firsts and self._disk.exists(path):
            self._disk.replace(path, path + BAD)
        try:
            file = segment.create(self._disk, self.folder, SegmentHeader(self.id, number, now, self._chain), size)
        finally:
            self.close()  # also after a failure: it may have its name already, which hides that block in an older one
        self._file, self._end = file, segment.HEADER_LENGTH
        crash_point("segment-made")
        with self._changed:
            if number not in self._firsts:
                self._firsts.append(number)
            self._sizes[number] = size

    def close(self) -> None:
        """Close the newest segment; readers have their own files."""
        if self._file is not None:
            self._file.close()
            self._file = None

    # --- Deleting ---

    def release_oldest(self, number: int) -> bool:
        """Delete the oldest segment if all its blocks come before `number`; the one with the newest block stays.

        A power cut can undo one removal at most, the last one. It brings back the oldest segment, and leaves no hole
        behind it.
        """
        with self._removing:
            with self._changed:
                newest = self.last.number if self.last else 0
                if len(self._firsts) <= 1 or self._firsts[1] > min(number, newest):
                    return False
            if self._removed:
                self._disk.sync_folder(self.folder)
                self._removed = False
            with self._changed:
                oldest = self._firsts[0]
                try:
                    self._disk.remove(f"{self.folder}/{segment.name_of(oldest)}")
                except StorageError as error:
                    if not error.absent:
                        raise
                crash_point("segment-released")
                del self._firsts[0]
                self._sizes.pop(oldest, None)
            self._removed = True
            return True

    def release(self, number: int) -> int:
        """Delete the segments whose blocks all come before `number`, as `release_oldest` does; returns how many."""
        released = 0
        while self.release_oldest(number):
            released += 1
        return released

    @property
    def second_created(self) -> int | None:
        """When the segment after the oldest was made: by then all of the oldest was committed. None without one."""
        second = next(itertools.islice(self.segments(), 1, None), None)
        reader = self.segment_reader(*second) if second else None
        if reader is None:
            return None
        with reader:
            return reader.created

    # --- Opening ---

    def _find_segments(self, new_id: bytes) -> None:
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

    def _recover_tail(self, refused: Collection[bytes]) -> None:
        """Find where to continue writing; make durable what is found there."""
        path = f"{self.folder}/{segment.name_of(self._firsts[-1])}"
        file, header = segment.open_existing(self._disk, path, writable=True)
        tail = find_tail(file, header, refused)
        self.tried = tail.refused  # until another block takes its place, in case that it cannot be cut off
        self.recovery = self.recovery._replace(
            torn=tail.torn,
            torn_header=tail.torn_header,
            damage=(*self.recovery.damage, *(f"{path}: {text}" for text in tail.damage)),
        )
        self.last = tail.last or self._last_of_earlier_segments()
        self._file, self._end = file, tail.end
        self._chain = tail.chain or (self.last.chain if self.last else block.CHAIN_START)
        self.previous_numbers = tail.numbers
        if tail.torn:
            self._cut(file, tail)
        # Make durable what was found: a process that was killed, or refused by the disk, leaves its last in memory.
        # It is written again, because after a failed fsync the kernel regards as clean what never reached the disk
        if tail.last is not None:
            start = tail.end - tail.last.size
            file.write(file.read(tail.last.size, start), start)
        file.sync()
        self._disk.sync_folder(self.folder)
        if header.version != block.FORMAT_VERSION:
            self.close()  # the next block begins a segment of the newest format

    def _last_of_earlier_segments(self) -> Header | None:
        """The newest block before an empty newest segment (a crash came between its making and its first block)."""
        for first, following in reversed(list(itertools.pairwise(self._firsts))):
            file, _ = segment.open_existing(self._disk, f"{self.folder}/{segment.name_of(first)}")
            with SegmentReader(file, BlockLocation.start_of(first), following) as reader:
                found = [each.header for each in reader.blocks() if each.header is not None]
            if found:
                return found[-1]
        return None

    def _cut(self, file: File, tail: SegmentTail) -> None:
        """Copy the torn octets aside, then put zeros in their place; without space for the copy begin a new segment."""
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
