"""What happens on a full disk: the one owner of the space of a store's two spools.

`append` writes a block. When there is no space for it, these steps follow in this order, as long as one of them helps:

1. Free what is proven: the oldest segment of the retained spool, once every destination has proven all of it. (`moved`
   frees what is proven of the transient spool at once.)
2. Free what nobody required needs: the oldest segment that only destinations with `required = false` still lack. What
   they lose is counted in their gaps.
3. Apply the policy. `rotate` frees the oldest segment, whoever lacks it, and counts what each destination loses.
   `halt` and `ignore` free nothing more: `append` raises a StorageError that is `full`. The intake then keeps what can
   be delivered again waiting, and refuses and counts only what cannot (`relay/program/intake.py`). `relay receive`
   behaves as with `halt`, and never asks for a halt. What asks for the halt is `relay/program/housekeeping.py`.

Whatever is deleted undelivered is counted in a slot before its file goes. A crash in between leaves the count and the
file; that file is then neither delivered nor counted again.

**Size.** The spools may take `max-size`, or what they have and the file system still has free, where this is less:
other programs may fill the disk. A new segment that does not fit any more is made smaller.

**Reserve.** A tenth of that size belongs to what cannot be delivered again (auditd's dispatcher, UDP, relay's own
events); only `append(…, reserve=True)` may use it. The rest of a segment that is allocated and not written yet counts
as space, so the reserve survives another program that fills the file system. `rotate` makes space by itself and has no
reserve. A quota is not seen here; the write that it refuses is treated as one on a full disk, without a reserve.

`max_size` and `policy` may be changed at any time.
"""

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from relay.errors import StorageError
from relay.spool.block import Contents, Header
from relay.spool.cursor import Cursor
from relay.spool.losses.store_losses import MADE_ROOM, ROTATED, StoreLosses
from relay.spool.spool import DeletableSegment, SpaceAllowance, Spool
from relay.system.disk import Disk
from relay.values.size import rounded_size, size_text

if TYPE_CHECKING:
    from collections.abc import Callable

RESERVE: Final = 10
"""The reserve is the size divided by this."""

Policy = Literal["halt", "rotate", "ignore"]


class _Space(NamedTuple):
    """Octets."""

    size: int
    """What both spools may take."""
    allocated: int
    """What they take now."""
    unwritten: int
    """Of it, the rest of their newest segments."""

    @property
    def left(self) -> int:
        return self.size - self.allocated + self.unwritten


class FullDisk:
    """Owns the space of both spools. Safe to use from several threads."""

    def __init__(self, disk: Disk, folder: str, losses: StoreLosses, max_size: int, policy: Policy) -> None:
        self.max_size = max_size
        self.policy: Policy = policy
        self.cut_short = 0
        """Segments that went for want of space, before their retention was over; since the start."""
        self.rotated = 0
        """Segments that went undelivered; since the start."""
        self.when_freed: Callable[[], object] = lambda: None
        """Called, in any thread, when more may be free than before."""
        self._disk = disk
        self._folder = folder
        self._losses = losses

    def append(self, spool: Spool, contents: Contents, now: int, *, reserve: bool) -> Header:
        """Make one block durable; StorageError when it is not. `reserve`: it may use the reserve."""
        while True:
            try:
                return spool.append(contents, now, self._allowance(reserve=reserve))
            except StorageError as error:
                if not error.full or not self._free_some():
                    raise

    def has_space_for(self, octets: int) -> bool:
        """Whether so many octets may be written outside the reserve, once what may go is freed."""
        while self._allowance(reserve=False).write < octets:
            if not self._free_some():
                return False
        return True

    def moved(self, destination: str, cursor: Cursor) -> None:
        """A destination has proven more: free what every destination has proven of the transient spool."""
        self._losses.moved(destination, cursor)
        self._losses.transient.release(self._losses.proven()[1])
        self.when_freed()

    def expire(self, before: int) -> int:
        """Delete what is proven and was committed before that time (microseconds since the epoch); how many went."""
        retained, gone = self._losses.retained, 0
        while (made := retained.second_created) is not None and made <= before:
            if not retained.release_oldest(self._losses.proven()[0]):
                break
            gone += 1
        if gone:
            self.when_freed()
        return gone

    @property
    def held(self) -> int:
        """Octets of both spools that no rule but a policy lets go of."""
        proven = self._losses.proven(required=True)
        return sum(spool.allocated_from(reached) for spool, reached in zip(self._losses.spools, proven, strict=True))

    @property
    def used(self) -> int:
        """Octets that both spools take on the disk."""
        return sum(spool.allocated for spool in self._losses.spools)

    @property
    def reserved(self) -> int:
        """Octets of `max_size` that are kept for what cannot be delivered again."""
        return 0 if self.policy == "rotate" else self.max_size // RESERVE

    # --- How much there is ---

    def _allowance(self, *, reserve: bool) -> SpaceAllowance:
        space = self._space()
        kept = 0 if reserve or self.policy == "rotate" else space.size // RESERVE
        by_max_size = space.size == self.max_size
        cause = (
            f"the spool's max-size of {size_text(self.max_size)} is used up"
            if by_max_size
            else "the file system has no space left for the spool"
        )
        remedy = (
            "repair the delivery (`relay status`), or raise max-size in [spool]"
            if by_max_size
            else "free space on this file system"
        )
        return SpaceAllowance(space.left - kept, space.size - space.allocated, f"{cause}{_besides(kept)}", remedy)

    def _space(self) -> _Space:
        allocated = sum(spool.allocated for spool in self._losses.spools)
        unwritten = sum(spool.unwritten for spool in self._losses.spools)
        return _Space(min(self.max_size, allocated + self._disk.free(self._folder)), allocated, unwritten)

    # --- The ladder ---

    def _free_some(self) -> bool:
        """Free one segment, by the first step that can."""
        if self._free_proven() or self._free_unrequired():
            self.cut_short += 1
            return True
        return self.policy == "rotate" and self.rotate()

    def _free_proven(self) -> bool:
        return self._losses.retained.release_oldest(self._losses.proven()[0])

    def _free_unrequired(self) -> bool:
        if self._losses.all_required:
            return False
        for spool, proven in zip(self._losses.spools, self._losses.proven(required=True), strict=True):
            oldest = spool.oldest()
            if oldest is not None and oldest.following <= proven:
                return self._delete(spool, oldest, MADE_ROOM)
        return False

    def rotate(self) -> bool:
        """Delete the oldest segment, and count what each destination loses by it; False when none can go."""
        found = ((spool, spool.oldest()) for spool in self._losses.spools)
        candidates = [(oldest.created, spool, oldest) for spool, oldest in found if oldest is not None]
        if not candidates:
            return False
        _, spool, oldest = min(candidates, key=lambda candidate: candidate[0])
        went = self._delete(spool, oldest, ROTATED)
        self.rotated += went
        return went

    def _delete(self, spool: Spool, oldest: DeletableSegment, cause: str) -> bool:
        with self._losses.counting:
            self._losses.count_deleted(spool, oldest, cause)
            return spool.release_oldest(oldest.following)


def _besides(reserve: int) -> str:
    return f" except for the reserve of {rounded_size(reserve)}" if reserve else ""
