"""Files that are the log's no more and were left for a newer one: whoever has them open may write on in them.

auditd does not notice that its log was deleted, replaced (`sed -i`) or given another name: it writes on until it
rotates or is started anew, and where the file was deleted nobody else can open it any more. So it is kept open and read
on. It is let go when a record that is later than all before was read elsewhere, which tells that auditd has moved on,
and nothing came here for QUIET_S since; a deleted one also as soon as nobody has it open to write, where that can be
asked, for it keeps its room on the disk.

    left.take(file, offset)    # True: another one had to be let go for it, whose end nobody knows
    left.release(file)         # let it go once it is read
    left.take_back(inode)      # it is the log again: how far it was read; None: it is none of these
    left.read(now)             # whole lines that were written meanwhile, of one file; None: there are none
    left.supersede(now)        # a later record was read elsewhere

A last line without LF waits for its end until the file is let go, and so do NULs at the end of the file. Ceiling: MOST
files are kept. What a restart of relay takes from them is the position's to tell (`position`). Calls block for as long
as the disk does.
"""

from typing import Final, NamedTuple

from relay.source.auditd.generations import MAX_LINE, LogFile

MOST: Final = 4
QUIET_S: Final = 10.0


class LeftLines(NamedTuple):
    """Lines of a file, where they begin, and how many NULs were passed over behind them."""

    file: LogFile
    offset: int
    data: bytes
    nuls: int


class _LeftFile:
    """A file, how far it is read, and since when (monotonic seconds) later records have come elsewhere."""

    __slots__ = ("file", "offset", "released", "superseded_at")

    def __init__(self, file: LogFile, offset: int) -> None:
        self.file = file
        self.offset = offset
        self.superseded_at: float | None = None
        self.released = False

    def is_due(self, now: float) -> bool:
        quiet = self.superseded_at is not None and now - self.superseded_at >= QUIET_S
        return quiet or self.released or self.file.abandoned

    @property
    def is_needed(self) -> bool:
        """Whether there may be something in it that was not read."""
        over = self.superseded_at is not None or self.file.abandoned
        return not over or self.file.size != self.offset

    def take(self, data: bytes, nuls: int = 0) -> LeftLines:
        part = LeftLines(self.file, self.offset, data, nuls)
        self.offset += len(data) + nuls
        return part


class LeftBehind:
    """The files of one log that are still read although they are the log's no more."""

    def __init__(self) -> None:
        self._files: list[_LeftFile] = []

    def __len__(self) -> int:
        return len(self._files)

    @property
    def lag(self) -> int:
        """Bytes of them that are not read."""
        return sum(max(0, left.file.size - left.offset) for left in self._files)

    def take(self, file: LogFile, offset: int) -> bool:
        """Keep a file, which is read up to there; whether the oldest had to be let go for it while it was needed."""
        self._files.append(_LeftFile(file, offset))
        if len(self._files) <= MOST:
            return False
        oldest = self._files.pop(0)
        needed = oldest.is_needed
        oldest.file.close()
        return needed

    def release(self, file: LogFile) -> None:
        """Let a file go with the next read that finds nothing whole in it, whoever has it open."""
        for left in self._files:
            left.released |= left.file is file

    def take_back(self, inode: int) -> int | None:
        """Let a file go, since it is the log again; how far it was read, None when it is none of these."""
        for left in self._files:
            if left.file.identity.inode == inode:
                self._files.remove(left)
                left.file.close()
                return left.offset
        return None

    def supersede(self, now: float) -> None:
        """Note that a record later than all before was read elsewhere."""
        for left in self._files:
            left.superseded_at = left.superseded_at or now

    def read(self, now: float) -> LeftLines | None:
        """Read on in the first that has grown; let go what is due."""
        for left in list(self._files):
            due = left.is_due(now)  # looked at first: what was written before is read
            data, nul, _ = left.file.read(left.offset, MAX_LINE).partition(b"\0")
            whole = len(data) if len(data) == MAX_LINE and b"\n" not in data else data.rfind(b"\n") + 1
            if whole:
                left.superseded_at = None
                return left.take(data[:whole])
            if nul:
                nuls = left.file.nuls(left.offset + len(data))
                if nuls.is_followed or due:
                    return left.take(data, nuls.octets)
            if due:
                self._files.remove(left)
                left.file.close()
                if data:
                    return left.take(data)
        return None

    def close(self) -> None:
        """Let all of them go."""
        for left in self._files:
            left.file.close()
        self._files.clear()
