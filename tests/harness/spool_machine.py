"""Hypothesis drives a spool: appends, readers, releases, failing calls, kills and power cuts in any order.

The oracle is a plain list of the accepted blocks. At every step:

- When `append` returned, the block exists from then on, whatever happens to the power. When it raised, nothing was
  accepted, and the same contents are tried again, as the intake does. A block that was being appended at the end of a
  process exists or not.
- Every reader gets every accepted block, in order, from its beginning on, and never damage.
- Blocks that are not released are never missing. Only whole segments behind every reader are released, as by the store.
- An opening finds the next number, and at most a torn tail: no damage, no file to be left alone.
"""

import errno
from typing import Final, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from harness.bad_days import BrokenPromiseError
from harness.fake_disk import Crash, FakeDisk
from relay.errors import StorageError
from relay.spool import block
from relay.spool.block import Block, Contents, Span
from relay.spool.spool import RunSeed, Spool
from relay.spool.spool_reader import SpoolReader
from relay.values.event import EventType, Position

FOLDER: Final = "/spool"
SEGMENT_SIZE: Final = 2048
READERS: Final = 2
_FAILURES: Final = st.sampled_from([errno.ENOSPC, errno.EDQUOT, errno.EIO])
_SOON: Final = st.integers(1, 25)
"""Calls from now."""
_LENGTHS: Final = st.sampled_from([1, 200, 600, 3000])


class Tried(NamedTuple):
    """Contents to be appended, and how a reader must read them."""

    contents: Contents
    payload: bytes


class SpoolMachine(RuleBasedStateMachine):
    """The rules; run it with `run_state_machine_as_test`."""

    without = ""
    """As FakeDisk's."""

    def __init__(self) -> None:
        super().__init__()
        self._disk: FakeDisk
        self._runs = 0
        self._accepted: list[bytes] = []
        """Payloads; block 1 first."""
        self._trying: Tried | None = None
        """Refused so far, or being appended when the process ended."""
        self._proven = 1
        """Blocks before this one may be gone."""
        self._power_cut = True
        """Whether the next end amid a call is a power cut; otherwise it is a kill."""
        self._numbers = [1] * READERS
        self._spool: Spool
        self._readers: list[SpoolReader]

    @initialize(seed=st.integers(0, 1 << 32))
    def begin(self, seed: int) -> None:
        """Make a new disk with its own randomness."""
        self._disk = FakeDisk(seed)
        self._disk.without = self.without
        self._open()

    def _open(self) -> None:
        """Open until it succeeds: a process that fails is started again."""
        while True:
            self._runs += 1
            run = RunSeed(self._runs.to_bytes(block.RUN_LENGTH, "big"), b"0123456789abcdef")
            try:
                self._spool = Spool.open(self._disk, FOLDER, segment_size=SEGMENT_SIZE, run=run)
            except StorageError:
                self._disk.fail_at.clear()
            except Crash:
                self._end(power_cut=self._power_cut)
            else:
                break
        self._check_opening()
        self._readers = [SpoolReader(self._spool, number) for number in self._numbers]

    def _check_opening(self) -> None:
        if self._trying is not None and self._spool.next_number == len(self._accepted) + 2:
            self._accepted.append(self._trying.payload)
        self._trying = None
        self._hold("the next number", self._spool.next_number, len(self._accepted) + 1)
        self._hold("damage", self._spool.recovery.damage, ())
        self._hold("left alone", self._spool.recovery.left_alone, ())

    @staticmethod
    def _hold(what: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise BrokenPromiseError(f"{what} is {found!r}, and should be {wanted!r}")

    def _survive(self, *, power_cut: bool) -> None:
        """End the process; a new one opens the spool."""
        self._end(power_cut=power_cut)
        self._open()

    def _end(self, *, power_cut: bool) -> None:
        self._disk.fail_at.clear()
        if power_cut:
            self._disk.crash()
        else:
            self._disk.kill()

    @rule(lengths=st.lists(_LENGTHS, min_size=1, max_size=8))
    def append(self, lengths: list[int]) -> None:
        """Append new contents, or those that were refused before."""
        for length in lengths:
            self._append(length)

    def _append(self, length: int) -> None:
        number = len(self._accepted) + 1
        self._trying = self._trying or _tried(number, length)
        try:
            header = self._spool.append(self._trying.contents, number)
        except StorageError:
            return
        except Crash:
            self._survive(power_cut=self._power_cut)
            return
        self._hold("the number", header.number, number)
        self._accepted.append(self._trying.payload)
        self._trying = None

    @rule(which=st.integers(0, READERS - 1), blocks=st.integers(1, 40))
    def read(self, which: int, blocks: int) -> None:
        """Read that many blocks, or fewer at the end."""
        reader = self._readers[which]
        for _ in range(blocks):
            number = reader.next_number
            found = reader.read()
            if number > len(self._accepted):
                self._hold("what is read at the end", found, None)
                return
            if not isinstance(found, Block):
                raise BrokenPromiseError(f"{found!r} instead of block {number}")
            self._hold("the block", (found.header.number, found.payload), (number, self._accepted[number - 1]))
            self._numbers[which] = number + 1

    @precondition(lambda self: len(self._accepted) > self._proven)
    @rule(blocks=st.integers(1, 40))
    def release(self, blocks: int) -> None:
        """Compare what every reader has read."""
        for which in range(READERS):
            self.read(which, blocks)
        self._proven = min(self._numbers)
        try:
            self._spool.release(self._proven)
        except StorageError:
            return
        except Crash:
            self._survive(power_cut=self._power_cut)

    @precondition(lambda self: self._accepted)
    @rule(which=st.integers(0, READERS - 1), data=st.data())
    def read_again(self, which: int, data: st.DataObject) -> None:
        """Begin again at the cursor, as a destination does that lost its session."""
        self._numbers[which] = data.draw(st.integers(self._proven, len(self._accepted) + 1))
        self._readers[which].close()
        self._readers[which] = SpoolReader(self._spool, self._numbers[which])

    @rule(ahead=_SOON, calls=st.integers(1, 5), code=_FAILURES)
    def calls_will_fail(self, ahead: int, calls: int, code: int) -> None:
        """Fill the disk, or let it fail, for a while."""
        first = len(self._disk.calls) + ahead
        self._disk.fail_at = dict.fromkeys(range(first, first + calls), code)

    @rule(ahead=_SOON, power_cut=st.booleans())
    def the_end_will_come(self, ahead: int, power_cut: bool) -> None:
        """End the process, most likely amid a call."""
        self._disk.crash_at = len(self._disk.calls) + ahead
        self._power_cut = power_cut

    @rule(power_cut=st.booleans())
    def the_end_comes(self, power_cut: bool) -> None:
        """End the process between two calls."""
        self._survive(power_cut=power_cut)

    @invariant()
    def the_newest_number_is_right(self) -> None:
        """Check what must hold after every step."""
        self._hold("the next number", self._spool.next_number, len(self._accepted) + 1)

    def teardown(self) -> None:
        """Cut the power a last time: everything that was not released exists."""
        self._survive(power_cut=True)
        for which in range(READERS):
            self.read(which, len(self._accepted) + 1)
        oldest = SpoolReader(self._spool, self._proven)
        for number in range(self._proven, len(self._accepted) + 1):
            found = oldest.read()
            payload = found.payload if isinstance(found, Block) else found
            self._hold(f"block {number}", payload, self._accepted[number - 1])


def _tried(number: int, length: int) -> Tried:
    """Make one message, slightly longer than that; or two, so that blocks differ in their spans as well."""
    texts = [b"<110>1 - block %d of %d %b" % (number, length, b"x" * length)] * (1 + number % 2)
    contents = Contents(
        spans=[Span(EventType.AUDIT, number, len(texts))],
        messages=texts,
        positions=[Position("audit", number, b"%d" % number)],
        types_taken=block.type_bitmap([EventType.AUDIT]),
        earliest=number,
        latest=number,
        largest=len(texts[0]),
    )
    return Tried(contents, b"".join(map(block.frame, texts)))
