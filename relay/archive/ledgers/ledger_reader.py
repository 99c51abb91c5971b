"""One ledger, read forward or backward, by line. Damage is skipped and counted; a line without LF is being written.

Memory: one chunk and one line. The file is open only during a read, so thousands of ledgers can be read in turns.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from relay.archive.ledger import (
    HASH_LENGTH,
    Closing,
    Extent,
    Heading,
    LedgerError,
    LedgerLine,
    Removal,
    decode,
    hash_of,
)
from relay.archive.ledgers.ledger_end import CHUNK, MAX_LINE, LedgerPiece, LocatedLine, lines_backward, pieces_backward
from relay.errors import NoInputError
from relay.system.disk import storage_error


class DayEnd(NamedTuple):
    """What the last lines of a ledger say of the day."""

    closing: Closing | None
    removal: Removal | None


class LedgerReader:
    """Reads one ledger. NoInputError when it cannot be opened, StorageError when reading fails."""

    def __init__(self, path: str, *, chunk: int = CHUNK, flaw: Callable[[int, str], None] | None = None) -> None:
        """`flaw` gets the offset and the cause of each line that is not a ledger's."""
        self.path = path
        self._chunk = chunk
        self._flaw = flaw or (lambda _offset, _cause: None)

    def heading(self) -> Heading | None:
        """The first line; None where it is not a heading."""
        first = next(self.lines(), None)
        with suppress(LedgerError):
            if first is not None and isinstance(heading := decode(first.octets), Heading):
                return heading
        return None

    def end(self) -> DayEnd:
        """The closing and the removal, where the day has them."""
        removal = None
        for line in self.lines_backward():
            try:
                found = decode(line.octets)
            except LedgerError:
                break
            if isinstance(found, Removal) and removal is None:
                removal = found
                continue
            return DayEnd(found if isinstance(found, Closing) else None, removal)
        return DayEnd(None, removal)

    def last_extent(self) -> tuple[Extent, int] | None:
        """The last extent, and where its line ends in the ledger."""
        for line in self.lines_backward():
            with suppress(LedgerError):
                if isinstance(found := decode(line.octets), Extent):
                    return found, line.end
        return None

    def hash_at(self, end: int) -> str:
        """The hash of the line that ends at this offset; empty where no line ends."""
        return hash_of(self._read(HASH_LENGTH, max(end - HASH_LENGTH, 0)))

    def entries(self, start: int = 0) -> Iterator[tuple[int, LedgerLine]]:
        """Each line's end in the file, and the line decoded."""
        for offset, octets in self.lines(start):
            try:
                yield offset + len(octets), decode(octets)
            except LedgerError as error:
                self._flaw(offset, str(error))

    def extents(self) -> Iterator[Extent]:
        """The extents in the log's order."""
        return (line for _, line in self.entries() if isinstance(line, Extent))

    def extents_backward(self, before: int | None = None) -> Iterator[Extent]:
        """The extents, the newest first; those that begin before this octet of the log."""
        for offset, octets in self.lines_backward(None if before is None else self._end_of_extents(before)):
            try:
                line = decode(octets)
            except LedgerError as error:
                self._flaw(offset, str(error))
            else:
                if isinstance(line, Extent):
                    yield line

    def before(self, offset: int) -> int:
        """Where in the ledger to begin for the extent that holds this octet of the log; found by bisection."""
        low, high = 0, self._size()
        while high - low > self._chunk:
            middle = (low + high) // 2
            found = self._first_extent(middle, high)
            if found is None or found[1].off > offset:
                high = middle
            else:
                low = found[0]
        return low

    def _end_of_extents(self, offset: int) -> int:
        """Where in the ledger the first extent begins that does not begin before this octet of the log."""
        for line in self.lines(self.before(offset)):
            with suppress(LedgerError):
                if isinstance(found := decode(line.octets), Extent) and found.off >= offset:
                    return line.offset
        return self._size()

    def _first_extent(self, start: int, stop: int) -> tuple[int, Extent] | None:
        """The first extent whose line begins after `start` and before `stop`."""
        lines = self.lines(start)
        next(lines, None)  # its beginning is before `start`
        for line in lines:
            if line.offset >= stop:
                break
            with suppress(LedgerError):
                if isinstance(found := decode(line.octets), Extent):
                    return line.offset, found
        return None

    def lines(self, start: int = 0) -> Iterator[LocatedLine]:
        """The whole lines from `start` on."""
        rest, position = b"", start
        while data := self._read(self._chunk, position + len(rest)):
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            for line in lines:
                yield LocatedLine(position, line + b"\n")
                position += len(line) + 1
            if len(rest) > MAX_LINE:
                self._flaw(position, "a line is longer than a ledger's lines are")
                position, rest = position + len(rest), b""

    def lines_backward(self, end: int | None = None) -> Iterator[LocatedLine]:
        """The whole lines, the last first; those that end at or before the offset `end`."""
        return lines_backward(self._read, self._size() if end is None else end, self._chunk)

    def pieces_backward(self) -> Iterator[LedgerPiece]:
        """The same lines in pieces: to look into many at once."""
        return pieces_backward(self._read, self._size(), self._chunk)

    def _size(self) -> int:
        try:
            return os.stat(self.path).st_size
        except OSError as error:
            raise self._unreadable(error) from error

    def _read(self, length: int, offset: int) -> bytes:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            return os.pread(descriptor, length, offset)
        except OSError as error:
            raise storage_error(self.path, "read", error) from error
        finally:
            os.close(descriptor)

    def _unreadable(self, error: OSError) -> NoInputError:
        return NoInputError(self.path, f"cannot be read: {error.strerror}", "check the path and its mode")
