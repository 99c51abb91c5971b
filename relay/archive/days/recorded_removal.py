"""The last line of a day's ledger: whether the day is closed or removed; and appending the `Removal`."""

from typing import NamedTuple

from relay.archive.ledger import Closing, LedgerError, LedgerLine, Removal, decode, encode
from relay.archive.ledgers.ledger_end import lines_backward
from relay.errors import StorageError
from relay.system.disk import Disk, File


class LastLine(NamedTuple):
    """The last whole line of a ledger."""

    octets: bytes
    """The line with its LF."""
    line: LedgerLine
    end: int
    """Where the line ends in the file; what follows is torn."""


def last_line(file: File) -> LastLine | None:
    """Read the last whole line; None when there is none, or when it is not a ledger's."""
    found = next(lines_backward(file.read, file.size), None)
    if found is None:
        return None
    try:
        return LastLine(found.octets, decode(found.octets), found.end)
    except LedgerError:
        return None


def read_last_line(disk: Disk, path: str) -> LastLine | None:
    """The last line of the ledger at `path`; None also when it was deleted."""
    try:
        with disk.open(path, writable=False) as file:
            return last_line(file)
    except StorageError as error:
        if error.absent:
            return None
        raise


def append_removal(disk: Disk, path: str, removal: Removal) -> None:
    """Append a removal to the ledger of a closed day; durable on return. When it fails, the ledger is as before."""
    with disk.open(path) as file:
        end = last_line(file)
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
