"""One originator's day: its log as pieces, each with the extent of the ledger that describes it.

Without a ledger, and where the ledger is damaged, a piece has no extent: its lines are read all the same. Lines after
the ledger's last extent are like that too; in an open day the writer is just committing them.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from relay.archive.layout import LOG_SUFFIXES, DayFiles, begin_of, plain_name
from relay.archive.ledger import Extent, LedgerLine
from relay.archive.ledgers.ledger_end import CHUNK
from relay.archive.ledgers.ledger_reader import DayEnd, LedgerReader
from relay.archive.reading.log_octets import LogOctets, OpenLogs
from relay.archive.reading.originators import OriginatorFolder

A_DAY: Final = 86_400_000_000
_COUNTED_AT_ONCE: Final = 1_048_576

Flaw = Callable[[str, int, str], None]
"""Gets the path, the offset and the cause of what cannot be read."""


class Piece(NamedTuple):
    """Consecutive lines of a log."""

    off: int
    len: int
    extent: Extent | None
    """None: no readable line of the ledger describes them."""
    line: int = 0
    """Where the line of the extent ends in the ledger, when reading forward."""

    @property
    def end(self) -> int:
        """Where the next piece begins."""
        return self.off + self.len


class DayLog:
    """One day of one originator, read through the open logs that all days share."""

    def __init__(
        self, folder: OriginatorFolder, files: DayFiles, logs: OpenLogs, flaw: Flaw, *, chunk: int = CHUNK
    ) -> None:
        self.folder = folder
        self.files = files
        self.begin = begin_of(files.day)
        """The day's first microsecond."""
        self.path = f"{folder.path}/{files.logs[0]}" if files.logs else ""
        """The log; empty when there is none."""
        self.is_json = plain_name(self.path).endswith(LOG_SUFFIXES["json"])
        self.ledger: LedgerReader | None = None
        if files.ledger:
            path = f"{folder.path}/{files.ledger}"
            self.ledger = LedgerReader(path, chunk=chunk, flaw=lambda offset, cause: flaw(path, offset, cause))
        self._logs = logs
        self._counted: tuple[int, int, int] = (-1, 0, 0)

    @property
    def log(self) -> LogOctets:
        """The log's octets; NoInputError when the log is not there any more."""
        return self._logs.get(self.folder.path, self.files)

    def close(self) -> None:
        """Close the log; a later use opens it again."""
        self._logs.close(self.folder.path, self.files)

    def end(self) -> DayEnd:
        """The closing and the removal, where the ledger has them."""
        return DayEnd(None, None) if self.ledger is None else self.ledger.end()

    def chained_lines(self) -> Iterator[bytes]:
        """The ledger's lines that a later ledger can continue, the last first: all but removals."""
        for line in self.ledger.lines_backward() if self.ledger is not None else ():
            if not line.octets.startswith(b'{"removed"'):
                yield line.octets

    def recorded(self) -> tuple[Extent, int] | None:
        """The ledger's last extent, and where its line ends in the ledger; None when there is none."""
        return None if self.ledger is None else self.ledger.last_extent()

    def end_of_lines(self, size: int) -> int:
        """Where the last whole line before `size` ends."""
        while size > 0:
            begin = max(size - _COUNTED_AT_ONCE, 0)
            if whole := self.log.read(begin, size - begin).rfind(b"\n") + 1:
                return begin + whole
            size = begin
        return 0

    def pieces(self, begin: int = 0, until: int | None = None) -> Iterator[Piece]:
        """The pieces between two offsets, in order. The first one may begin before `begin`."""
        entries: Iterable[tuple[int, LedgerLine]] = ()
        if self.ledger is not None:
            entries = self.ledger.entries(self.ledger.before(begin) if begin else 0)
        reached, size = begin, self.log.size() if until is None else min(until, self.log.size())
        for line, extent in entries:
            if not isinstance(extent, Extent):
                continue
            end = min(extent.off + extent.len, size)
            if extent.off >= size:
                break
            if end <= reached:
                continue
            if extent.off > reached:
                yield Piece(reached, extent.off - reached, None)
            yield Piece(extent.off, end - extent.off, extent, line)
            reached = end
        if reached < size:
            yield Piece(reached, size - reached, None)

    def pieces_backward(self, end: int | None = None) -> Iterator[Piece]:
        """The pieces that begin before the offset `end`, the newest first."""
        reached = self.log.size() if end is None else min(end, self.log.size())
        for extent in self.ledger.extents_backward(None if end is None else reached) if self.ledger is not None else ():
            if extent.off >= reached:
                continue
            until = extent.off + extent.len
            if until < reached:
                yield Piece(until, reached - until, None)
            yield Piece(extent.off, min(until, reached) - extent.off, extent)
            reached = extent.off
        if reached > 0:
            yield Piece(0, reached, None)

    def line_number(self, piece: Piece, offset: int) -> int:
        """The number of the line at `offset` within its piece, from 0; cheap for neighbours one after the other."""
        begin, at, number = self._counted
        if begin != piece.off:
            at, number = piece.off, 0
        number += self._lines(at, offset) if offset >= at else -self._lines(offset, at)
        self._counted = piece.off, offset, number
        return number

    def _lines(self, begin: int, end: int) -> int:
        log = self.log
        step = _COUNTED_AT_ONCE
        return sum(log.read(at, min(step, end - at)).count(b"\n") for at in range(begin, end, step))


def marks_at(extent: Extent, line: int) -> tuple[str, ...]:
    """The marks of one line of an extent, counted from 0."""
    return tuple(mark for first, last, marks in _marked(extent) if first <= line <= last for mark in marks)


def _marked(extent: Extent) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    for lines, marks in extent.marks.items():
        first, _, last = lines.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            yield int(first), int(last or first), marks
