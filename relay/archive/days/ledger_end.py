"""The end of a ledger: whether its day is closed or removed, and appending the `Removal`."""

from typing import Final, NamedTuple

from relay.archive.ledger import Closing, LedgerError, LedgerLine, Removal, decode, encode
from relay.errors import StorageError
from relay.system.disk import Disk, File

_TAIL: Final = 64 * 1024
"""A `Closing` or a `Removal` is far shorter."""


class LedgerEnd(NamedTuple):
    """The last whole line of a ledger."""

    octets: bytes
    """The line with its LF."""
    line: LedgerLine
    end: int
    """Where the line ends in the file; what follows is torn."""


def ledger_end(file: File) -> LedgerEnd | None:
    """Read the last whole line; None when there is none, it is not a ledger's, or it is longer than 64 KiB."""
    size = file.size
    start = max(size - _TAIL, 0)
    tail = file.read(size - start, start)
    last = tail.rfind(b"\n")
    begin = tail.rfind(b"\n", 0, max(last, 0)) + 1
    if last < 0 or (begin == 0 and start > 0):
        return None
    octets = tail[begin : last + 1]
    try:
        return LedgerEnd(octets, decode(octets), start + last + 1)
    except LedgerError:
        return None


def read_ledger_end(disk: Disk, path: str) -> LedgerEnd | None:
    """The end of the ledger at `path`; None also when it was deleted."""
    try:
        with disk.open(path, writable=False) as file:
            return ledger_end(file)
    except StorageError as error:
        if error.absent:
            return None
        raise


def append_removal(disk: Disk, path: str, removal: Removal) -> None:
    """Append a removal to the ledger of a closed day; durable on return. When it fails, the ledger is as before."""
    with disk.open(path) as file:
        end = ledger_end(file)
        if end is None or not isinstance(end.line, Closing):
            raise StorageError(path, "its last line was changed while a removal was being recorded", "")
        if file.size > end.end:
            file.truncate(end.end)  # a removal that a crash cut short
        try:
            file.write(encode(removal, end.octets), end.end)
            file.sync()
        except StorageError:
            file.truncate(end.end)
            raise
