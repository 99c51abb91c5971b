"""Reads a spool's synced blocks in order, once each, and says what is lost before and behind them.

Blocks come from a `SegmentReader`. This file adds what a destination needs beyond one segment: the next segment, files
that somebody deleted or emptied while the spool is open, and the numbers of lost events (see
`relay/spool/losses/numbers.py`).
"""

from typing import TYPE_CHECKING

from relay.spool.block import Block
from relay.spool.both_spools import BothSpools
from relay.spool.losses.numbers import Numbers, RunEnd
from relay.spool.losses.spool_contents import headers_between, numbers_before
from relay.spool.segments.segment_reader import BlockLocation, SegmentReader, SpoolDamage
from relay.spool.spool import Spool

if TYPE_CHECKING:
    from relay.spool.losses.gap import LostRange


class SpoolReader:
    """Begins with block `number`, the oldest block, or the next one that will be written. Not for several threads."""

    def __init__(self, spool: Spool, number: int) -> None:
        self.spool = spool
        self.next_number = min(max(number, spool.oldest_first), spool.next_number)
        """The block that the next `read` returns."""
        self.missing: tuple[LostRange, ...] = ()
        """What is lost, as far as the last `read` made it known: by headers, and by the numbers around."""
        self._numbers: Numbers | None = None
        """None until the first `read`."""
        self._segment: SegmentReader | None = None

    @classmethod
    def of_both(cls, spools: BothSpools[Spool], blocks: BothSpools[int]) -> "BothSpools[SpoolReader]":
        """A reader of each spool, which begins with that block."""
        return BothSpools(cls(spools.retained, blocks.retained), cls(spools.transient, blocks.transient))

    @property
    def reached(self) -> RunEnd | None:
        """The numbers before the next block; None when they are not known."""
        return self._numbers.reached if self._numbers else None

    @property
    def begun(self) -> bool:
        """Whether it has read a block, or knows what was before the next one."""
        return self._numbers is not None

    @property
    def at_hole(self) -> bool:
        """Whether the next block's file is known to be missing, without reading."""
        if self.next_number >= self.spool.next_number:
            return False
        newest = self.spool.last.number if self.spool.last else 0
        return self.next_number > newest or not self.spool.segment_of(self.next_number)[0]

    def begin_at(self, number: int, reached: RunEnd | None) -> None:
        """Begin with that block, even if it is missing; `reached` are the numbers before it."""
        self.close()
        self.next_number = number
        self._numbers = Numbers.after(reached, self.spool.known_ends()) if reached else None

    def skip_to(self, number: int) -> None:
        """Skip the blocks before this one."""
        if number > self.next_number:
            self.next_number = number
            self._numbers = None
            self.close()

    def read(self) -> Block | SpoolDamage | None:
        """The next block, or the damage or hole that was stepped over; None when no block is synced yet."""
        spool_end = self.spool.next_number  # before `last`: else a block appended between the two would be skipped
        last = self.spool.last
        if last is None or self.next_number > last.number:
            return self._pass_over(spool_end) if self.next_number < spool_end else None
        end = self._open(last.number, max(spool_end, last.number + 1))
        found = self._segment.block() if self._segment else None
        if found is None or (isinstance(found, SpoolDamage) and found.gone):
            return self._pass_over(end)
        numbers = self._numbers = self._numbers or Numbers()
        if isinstance(found, Block):
            self.next_number += 1
            self.missing = numbers.see(found.header)
        else:
            self.next_number = found.last + 1
            self.missing = numbers.miss(found.header)
            if self.next_number >= end:
                self.close()
        return found

    def _pass_over(self, following: int) -> SpoolDamage:
        """Continue with that block, because the files of the blocks before it are gone."""
        first, self.next_number = self.next_number, following
        self.close()
        self._numbers = self._numbers or Numbers(from_the_first=first == 1, ends=self.spool.known_ends())
        self._numbers.follow(self.spool.known_ends())
        self.missing = self._numbers.pass_over(headers_between(self.spool, following, self.spool.next_number))
        return SpoolDamage(self.spool.folder, 0, "their files are missing, or empty", first, following - 1, gone=True)

    def _open(self, last: int, spool_end: int) -> int:
        """Open the segment of the next block, if it is there; the number at which its blocks, or the hole, end.

        `last` is the newest block to read. A hole with no segment behind it ends at `spool_end`.
        """
        if self._segment is not None:  # even if it was deleted meanwhile
            _, following = self.spool.segment_of(self._segment.location.first)
            if following is None or self.next_number < following:
                self._segment.end = following or last + 1
                return self._segment.end
        self.close()
        first, following = self.spool.segment_of(self.next_number)
        end = following or last + 1
        segment = self._segment = self.spool.segment_reader(first, end) if first else None
        if segment is None:
            return end if following or first else spool_end
        if self._numbers is not None:
            self._skip(segment, Numbers())
            return end
        damaged = isinstance(segment.header(), SpoolDamage)  # only then is the segment before this one read too
        segment.location = BlockLocation.start_of(first)
        self._numbers = numbers_before(self.spool, first, look_back=damaged)
        self._skip(segment, self._numbers)
        return end

    def _skip(self, segment: SegmentReader, numbers: Numbers) -> None:
        """Continue at the next block, from the segment's first one on; `numbers` follows the blocks between."""
        while segment.location.number < self.next_number:
            found = segment.header()
            if found is None:
                return
            if not isinstance(found, SpoolDamage):
                numbers.see(found.header)
            elif found.last < self.next_number:
                numbers.miss(None)
            else:  # the next block is damaged too: let `read` report it
                segment.location = BlockLocation(segment.location.first, found.offset, self.next_number)

    def close(self) -> None:
        """Close its file; a later `read` opens it again."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None
