"""The whole lines of a ledger, the last first: whatever asks how a ledger ends reads it by these functions.

What follows the last LF is being written, or was cut by a crash, and is left out. Memory: one chunk and one line.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from relay.archive.ledger import Extent, LedgerError, decode

CHUNK: Final = 65_536
MAX_LINE: Final = 16 * 1024 * 1024
"""A longer line is damage, and is skipped."""

Read = Callable[[int, int], bytes]
"""Up to so many octets, from that offset."""


class LocatedLine(NamedTuple):
    """A line with its LF, and where it begins in the ledger."""

    offset: int
    octets: bytes

    @property
    def end(self) -> int:
        """Where it ends in the ledger."""
        return self.offset + len(self.octets)


class LedgerPiece(NamedTuple):
    """Consecutive whole lines."""

    offset: int
    octets: bytes

    def lines_backward(self) -> Iterator[LocatedLine]:
        """Its lines, the last first."""
        octets, end = self.octets, len(self.octets)
        while end > 0:
            begin = octets.rfind(b"\n", 0, end - 1) + 1
            yield LocatedLine(self.offset + begin, octets[begin:end])
            end = begin

    def extents_backward(self) -> Iterator[Extent]:
        """Its extents, the last first; damage is passed over."""
        for line in self.lines_backward():
            with suppress(LedgerError):
                if isinstance(found := decode(line.octets), Extent):
                    yield found


def pieces_backward(read: Read, end: int, chunk: int = CHUNK) -> Iterator[LedgerPiece]:
    """All whole lines before the offset `end`, in pieces of about a chunk, the last first."""
    rest, unfinished = b"", True
    while end > 0:
        start = max(end - chunk, 0)
        data = read(end - start, start) + rest
        begin = data.find(b"\n") + 1 if start else 0
        end = start
        if start and not begin:
            rest = data if len(data) <= MAX_LINE else b""
            continue
        whole, rest = data[begin:], data[:begin]
        if unfinished:
            whole, unfinished = whole[: whole.rfind(b"\n") + 1], False
        yield LedgerPiece(start + begin, whole)


def lines_backward(read: Read, end: int, chunk: int = CHUNK) -> Iterator[LocatedLine]:
    """The whole lines before the offset `end`, the last first."""
    for piece in pieces_backward(read, end, chunk):
        yield from piece.lines_backward()
