"""Files that are no longer the log, and that auditd may still write because it has them open.

auditd does not notice that its log was deleted, replaced (`sed -i`) or renamed: it writes to the same file until it
rotates or restarts, and no other process can open a deleted file. So relay keeps the file open and reads it on. It
closes the file when a record later than all before was read elsewhere, which shows that auditd has moved on, and the
file has not grown for `quiet_s` since. It closes a deleted file also as soon as no process has it open for writing, if
relay can find that out, because the file still occupies its space on the disk.

    detached.add(file, offset)    # True: the oldest was closed for it although it could still grow
    detached.release(file)        # close it once it is read
    detached.take_back(inode)     # the file is the log again: how far it was read; None: it is not one of these
    detached.read(now)            # whole lines that were written meanwhile to one file; None: there are none
    detached.supersede(now)       # a later record was read elsewhere

A last line without LF waits for its end until the file is closed, and so do NULs at the end of the file. At most MOST
files are kept. The position records that there were any, because a restart of relay loses them (`log_position`). Calls
block for as long as the disk does.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from relay.source.auditd.generations import MAX_LINE, LogFile

MOST: Final = 4
QUIET_S: Final = 10.0


class DetachedLines(NamedTuple):
    """Lines of a file, the offset where they begin, and the number of NULs that were skipped behind them."""

    file: LogFile
    offset: int
    data: bytes
    nuls: int


@dataclass(slots=True)
class _DetachedFile:
    file: LogFile
    offset: int
    """How far it is read."""
    superseded_at: float | None = None
    """Monotonic seconds: since when later records have been read elsewhere."""
    released: bool = False

    def read_on(self, data: bytes, nuls: int = 0) -> DetachedLines:
        lines = DetachedLines(self.file, self.offset, data, nuls)
        self.offset += len(data) + nuls
        return lines


class DetachedFiles:
    """The detached files of one log."""

    def __init__(self, quiet_s: float = QUIET_S) -> None:
        self._files: list[_DetachedFile] = []
        self._quiet_s = quiet_s

    def __len__(self) -> int:
        return len(self._files)

    @property
    def lag(self) -> int:
        """Unread bytes of these files."""
        return sum(max(0, each.file.size - each.offset) for each in self._files)

    def add(self, file: LogFile, offset: int) -> bool:
        """Keep a file that is read up to `offset`; whether the oldest was closed for it before it was complete."""
        self._files.append(_DetachedFile(file, offset))
        if len(self._files) <= MOST:
            return False
        oldest = self._files.pop(0)
        is_over = oldest.superseded_at is not None or oldest.file.abandoned
        is_unread = oldest.file.size != oldest.offset
        oldest.file.close()
        return is_unread or not is_over

    def release(self, file: LogFile) -> None:
        """Close a file after the next read that finds no whole line in it, even if a process can still write it."""
        for each in self._files:
            each.released |= each.file is file

    def take_back(self, inode: int) -> int | None:
        """Close a file that is the log again; how far it was read, None when it is not one of these."""
        for each in self._files:
            if each.file.identity.inode == inode:
                self._files.remove(each)
                each.file.close()
                return each.offset
        return None

    def supersede(self, now: float) -> None:
        """Note that a record later than all before was read elsewhere."""
        for each in self._files:
            each.superseded_at = each.superseded_at or now

    def read(self, now: float) -> DetachedLines | None:
        """Read on in the first file that has grown; close files that are complete."""
        for each in list(self._files):
            # Decided before reading, so that the read covers everything that was written until then.
            is_quiet = each.superseded_at is not None and now - each.superseded_at >= self._quiet_s
            is_complete = is_quiet or each.released or each.file.abandoned
            data, nul, _ = each.file.read(each.offset, MAX_LINE).partition(b"\0")
            whole = len(data) if len(data) == MAX_LINE and b"\n" not in data else data.rfind(b"\n") + 1
            if whole:
                each.superseded_at = None
                return each.read_on(data[:whole])
            if nul:
                nuls = each.file.nuls(each.offset + len(data))
                if nuls.is_followed or is_complete:
                    return each.read_on(data, nuls.octets)
            if is_complete:
                self._files.remove(each)
                each.file.close()
                if data:
                    return each.read_on(data)
        return None

    def close(self) -> None:
        """Close all files."""
        for each in self._files:
            each.file.close()
        self._files.clear()
