"""What happens on a full disk: this file decides it, for both spools of a store.

The spools are full when they take `max-size`, or when the file system has no space left. Then `append` goes down a
ladder. Each step deletes one whole segment, the oldest; `append` tries again after each. The steps:

1. Delete what is proven. The retained spool keeps delivered segments for `retention`; that time now ends early. (What
   is proven of the transient spool is deleted at once, by `moved`.)
2. Delete what only servers with `required = false` still lack. Their loss is counted in their gaps.
3. Apply `disk-full-action`:
   - `rotate` deletes the oldest segment, even if no server has it yet. Each server's loss is counted.
   - `halt` and `ignore` delete nothing more: `append` raises a StorageError that is `full`.

What follows from that error:

- Some sources can deliver their events again: audit logs, audisp-remote and collectors with an index. The intake
  (`relay/program/intake.py`) keeps their batches waiting. They are written later, and nothing is lost. Events that
  cannot be delivered again use the reserve. When that is used up as well, they are refused, and counted in a gap.
- `halt` also asks for a halt of the router (`relay/program/housekeeping.py`). `relay receive` behaves as with `halt`,
  but never asks for one: it answers nothing, and its senders keep what they have.
- The intake writes again as soon as something is freed (`when_freed`).

**Reserve.** A tenth of the size belongs to events that cannot be delivered again: auditd's dispatcher, UDP, relay's own
events. Only `append(…, reserve=True)` may use it. The rest of a segment that is allocated and not written yet counts as
space, so the reserve survives another program that fills the file system. `rotate` makes space by itself and has no
reserve. A quota cannot be seen here: the write that it refuses fails as on a full disk, without a reserve.

**Size.** The spools may take `max-size`, or what they have plus what the file system still has free, where that is
less: other programs may fill the disk. A new segment that does not fit is made smaller.

**Crashes.** What is deleted undelivered is counted in a slot before its file goes. A crash in between leaves the count
and the file; that file is then neither delivered nor counted again. Slots are preallocated (`relay/spool/slots.py`): a
cursor moves, and a loss is counted, on a full disk too.

`max_size` and `policy` may be changed at any time.
"""

from typing import TYPE_CHECKING, Final, Literal

from relay.errors import StorageError
from relay.spool.block import Contents, Header
from relay.spool.cursor import Cursor
from relay.spool.losses.spool_contents import DeletableSegment, oldest_segment
from relay.spool.losses.store_losses import FREED_SPACE, ROTATED, StoreLosses
from relay.spool.spool import SpaceAllowance, Spool
from relay.system.disk import Disk
from relay.values.size import rounded_size, size_text

if TYPE_CHECKING:
    from collections.abc import Callable

RESERVE: Final = 10
"""The reserve is the size divided by this."""

Policy = Literal["halt", "rotate", "ignore"]


class FullDisk:
    """Owns the space of both spools. Safe to use from several threads."""

    def __init__(self, disk: Disk, folder: str, losses: StoreLosses, max_size: int, policy: Policy) -> None:
        self.max_size = max_size
        self.policy: Policy = policy
        self.cut_short = 0
        """Segments deleted for want of space before their retention was over, since the start."""
        self.rotated = 0
        """Segments deleted undelivered by `rotate`, since the start."""
        self.when_freed: Callable[[], object] = lambda: None
        """Called, in any thread, when more may be free than before."""
        self._disk = disk
        self._folder = folder
        self._losses = losses
        self._spools = losses.spools

    def append(self, spool: Spool, contents: Contents, now: int, *, reserve: bool) -> Header:
        """Make one block durable; StorageError when it is not. `reserve`: it may use the reserve."""
        while True:
            try:
                return spool.append(contents, now, self._allowance(reserve=reserve))
            except StorageError as error:
                if not error.full or not self._free_one_segment():
                    raise

    def has_space_for(self, octets: int) -> bool:
        """Whether so many octets may be written outside the reserve, after deleting what the ladder allows."""
        while self._allowance(reserve=False).write < octets:
            if not self._free_one_segment():
                return False
        return True

    def moved(self, destination: str, cursor: Cursor) -> None:
        """A destination has proven more: delete what every destination has proven of the transient spool."""
        self._losses.moved(destination, cursor)
        self.release_proven()

    def release_proven(self) -> None:
        """Delete what every destination has proven of the transient spool; all of them must be followed by now."""
        self._spools.transient.release(self._losses.proven().transient)
        self.when_freed()

    def expire(self, before: int) -> int:
        """Delete what is proven and was committed before that time (µs since the epoch); returns how many segments."""
        deleted = 0
        while (made := self._spools.retained.second_created) is not None and made <= before:
            if not self._free_proven():
                break
            deleted += 1
        if deleted:
            self.when_freed()
        return deleted

    @property
    def held(self) -> int:
        """Octets of both spools that only `rotate` would delete."""
        proven = self._losses.proven(required=True)
        return sum(spool.allocated_from(block) for spool, block in zip(self._spools, proven, strict=True))

    @property
    def used(self) -> int:
        """Octets that both spools take on the disk."""
        return sum(spool.allocated for spool in self._spools)

    @property
    def reserved(self) -> int:
        """Octets of `max_size` that are kept for events that cannot be delivered again."""
        return 0 if self.policy == "rotate" else self.max_size // RESERVE

    def _allowance(self, *, reserve: bool) -> SpaceAllowance:
        allocated = self.used
        size = min(self.max_size, allocated + self._disk.free(self._folder))
        kept = 0 if reserve or self.policy == "rotate" else size // RESERVE
        left = size - allocated + sum(spool.unwritten for spool in self._spools) - kept
        if size == self.max_size:
            cause = f"the spool's max-size of {size_text(self.max_size)} is used up"
            remedy = "repair the delivery (`relay status`), or raise max-size in [spool]"
        else:
            cause = "the file system has no space left for the spool"
            remedy = "free space on this file system"
        if kept:
            cause += f" except for the reserve of {rounded_size(kept)}"
        return SpaceAllowance(left, size - allocated, cause, remedy)

    # --- The ladder ---

    def _free_one_segment(self) -> bool:
        """Delete one segment, by the first step that can."""
        if self._free_proven() or self._free_unrequired():
            self.cut_short += 1
            return True
        return self.policy == "rotate" and self.rotate()

    def _free_proven(self) -> bool:
        return self._spools.retained.release_oldest(self._losses.proven().retained)

    def _free_unrequired(self) -> bool:
        if self._losses.all_required:
            return False
        for index, proven in enumerate(self._losses.proven(required=True)):
            oldest = oldest_segment(self._spools[index])
            if oldest is not None and oldest.following <= proven:
                return self._delete(index, oldest, FREED_SPACE)
        return False

    def rotate(self) -> bool:
        """Delete the oldest segment, and count what each destination loses by it; False when none may be deleted."""
        found = [(index, oldest_segment(spool)) for index, spool in enumerate(self._spools)]
        candidates = [(oldest.created, index, oldest) for index, oldest in found if oldest is not None]
        if not candidates:
            return False
        _, index, oldest = min(candidates, key=lambda candidate: candidate[0])
        deleted = self._delete(index, oldest, ROTATED)
        self.rotated += deleted
        return deleted

    def _delete(self, index: int, oldest: DeletableSegment, cause: str) -> bool:
        with self._losses.counting:
            self._losses.count_deleted(index, oldest, cause)
            return self._spools[index].release_oldest(oldest.following)
