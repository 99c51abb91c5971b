"""Writing the archive: each message exactly once, whatever crashes and whenever.

`ARCHIVE/ORIGINATOR/YYYY-MM-DD.log` (the day of receipt, UTC) holds the messages; `read` has the format of these files,
`originator` that of the folders' names. `ARCHIVE/.relay` holds what only the writer needs: the journal, the lock, and
copies of what was cut or damaged.

    writer = ArchiveWriter("/var/log/relay", spool_id)
    # take from the spool what follows writer.cursor, then for each message:
    writer.write(message, received_us)
    # and now and then, with the spool's cursor behind the last of them:
    writer.commit(cursor)

Invariants:

1. A cursor is valid only once the messages before it, the folders' entries and then the journal are on the disk.
2. What stands in a data file beyond the size that the journal gives is cut when the archive is opened (after a copy):
   it comes again, after the cursor. So messages without an identity stand exactly once too.
3. Nothing is written to a file before the journal knows the size it has.
4. When the spool is another one than before, or the journal is damaged, nothing is cut but a torn last frame: the
   identities that the journal does not know are read from the files, and only messages without one may stand twice.
5. A call that failed voids all since the last commit, and the writer: it is to be closed and opened anew, and the
   messages after its cursor to be given again.

A data file that was deleted, renamed or cut by someone else is begun anew, or gone on with where it ends now.

Ceilings: `max_pending` octets of messages in memory, then they are written out ahead of the commit; `max_open` files
open, then the longest unused is synced and closed; `MAX_ORIGINATORS` folders, then new originators share `~others`;
`MAX_SIZES` files whose size is remembered. `identity` has the ceilings of what is remembered of identities.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Self

from relay.archive.filing.originator import folder_name
from relay.archive.journal import Entry, FileGrowth, Journal
from relay.archive.recovery import mark, recover, size_of
from relay.errors import StorageError
from relay.syslog import rfc5424
from relay.system.crash_point import crash_point
from relay.system.disk import Disk, File

MAX_PENDING = 16 * 1024 * 1024
MAX_OPEN = 256
MAX_ORIGINATORS = 10_000
MAX_SIZES = 16_384
OTHERS = "~others"
JOURNAL_SIZE = 8 * 1024 * 1024
_GROWTH = 4
_MICROSECONDS_A_DAY = 86_400_000_000
_EPOCH = date(1970, 1, 1).toordinal()


class _DayFile:
    """One data file: what waits for it, and how far it is written."""

    __slots__ = ("created", "file", "identity", "path", "pending", "size", "start", "unsynced")

    def __init__(self, path: str) -> None:
        self.path = path
        self.pending: list[bytes] = []
        self.size = -1
        """As far as we know; -1 before the first look."""
        self.start = 0
        """The size at the last commit."""
        self.file: File | None = None
        self.identity = (0, 0)
        self.created = False
        self.unsynced = False


class ArchiveWriter:
    """The archive, opened by its one writer; TemporaryError when another process has it."""

    def __init__(
        self,
        folder: str,
        spool_id: str,
        *,
        disk: Disk | None = None,
        max_pending: int = MAX_PENDING,
        max_open: int = MAX_OPEN,
    ) -> None:
        self.cursor: bytes | None
        """What the last commit was given; None: give everything that the spool has."""
        self.messages = 0
        self.duplicates = 0
        self._disk = disk or Disk()
        self._folder = os.path.abspath(folder)
        self._spool_id = spool_id
        self._max_pending = max_pending
        self._max_open = max_open
        self._pending = 0
        self._failed = False
        self._files: dict[tuple[bytes | None, int], _DayFile] = {}
        self._touched: dict[_DayFile, None] = {}
        self._open_files: dict[_DayFile, None] = {}
        own = f"{self._folder}/.relay"
        self._disk.make_folder(own)
        self._lock = self._disk.lock(f"{own}/lock")
        self._journal = Journal(self._disk, own)
        try:
            found = recover(self._disk, self._folder, spool_id, self._journal.read())
            self.cursor = found.cursor
            self.recovered = found
            self._sizes = found.sizes
            self._seen = found.seen
            self._originators = set(self._disk.names(self._folder))
            self._begin_journal()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<ArchiveWriter {self._folder!r} messages={self.messages} duplicates={self.duplicates}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def forgotten(self) -> int:
        """How often a ceiling made the archive forget identities."""
        return self._seen.forgotten

    def write(self, message: bytes, received_us: int) -> bool:
        """Take a message that was received at that time (microseconds since the epoch); False for a duplicate."""
        if self._failed:
            raise StorageError(self._folder, "an earlier write failed", "open the archive anew")
        hostname = rfc5424.hostname(message)
        if not mark(self._seen, hostname, message):
            self.duplicates += 1
            return False
        place = (hostname, received_us // _MICROSECONDS_A_DAY)
        file = self._files.get(place) or self._file(place)
        if not file.pending:
            self._touched[file] = None
        file.pending.append(b"%d %b\n" % (len(message), message))
        self.messages += 1
        self._pending += len(message)
        if self._pending > self._max_pending:
            with self._voiding():
                self._write_out()
        return True

    def commit(self, cursor: bytes) -> None:
        """Make all that was written durable, and then the cursor; on return both are."""
        if self._failed:
            raise StorageError(self._folder, "an earlier write failed", "open the archive anew")
        with self._voiding():
            self._write_out()
            crash_point("archive-written")
            self._sync()
            crash_point("archive-synced")
            grown = tuple(FileGrowth(file.path, file.start, file.size) for file in self._touched)
            self._journal.append(Entry(self._spool_id, cursor, (), grown, self._seen.take()))
            self.cursor = cursor
            crash_point("archive-committed")
            for file in self._touched:
                file.start = file.size
                self._remember(file)
            self._touched.clear()
            self._tidy()

    def close(self) -> None:
        """Leave; what was not committed will come again. A second call does nothing."""
        self._failed = True
        for file in list(self._open_files):
            self._close(file)
        self._journal.close()
        self._lock.release()

    @contextmanager
    def _voiding(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._failed = True
            raise

    # --- Data files ---

    def _file(self, place: tuple[bytes | None, int]) -> _DayFile:
        hostname, day = place
        name = folder_name(hostname)
        if name not in self._originators:
            if len(self._originators) >= MAX_ORIGINATORS:
                name = OTHERS
            self._originators.add(name)
        path = f"{name}/{date.fromordinal(_EPOCH + day).isoformat()}.log"
        shared = (file for file in self._files.values() if file.path == path) if name == OTHERS else iter(())
        file = self._files[place] = next(shared, None) or _DayFile(path)
        return file

    def _write_out(self) -> None:
        """Append what is pending; it counts only once committed."""
        waiting = [file for file in self._touched if file.pending]
        self._look_at(waiting)
        for file in waiting:
            data = b"".join(file.pending)
            self._opened(file).write(data, file.size)
            file.unsynced = True
            file.size += len(data)
            file.pending.clear()
        self._pending = 0

    def _look_at(self, files: list[_DayFile]) -> None:
        """Tell the journal the sizes that it does not know."""
        begun = []
        for file in files:
            size = size_of(f"{self._folder}/{file.path}") or 0
            if size == file.size and self._in_place(file):
                continue
            self._sync_file(file)  # it was moved away with what was just written to it
            self._close(file)
            if file.size >= 0 or self._sizes.get(file.path) != size:
                begun.append((file.path, size))
                self._sizes[file.path] = size
            file.start = file.size = size
        if begun:
            self._journal.append(Entry(self._spool_id, self.cursor, tuple(begun)))

    def _in_place(self, file: _DayFile) -> bool:
        """Whether the open file is still the one of that name."""
        if file.file is None:
            return file.size > 0
        facts = os.lstat(f"{self._folder}/{file.path}")
        return file.identity == (facts.st_dev, facts.st_ino)

    def _opened(self, file: _DayFile) -> File:
        if file.file is None:
            path = f"{self._folder}/{file.path}"
            if file.size == 0:
                self._disk.make_folder(os.path.dirname(path))
                file.created = True
            file.file = self._disk.open(path, create=True)
            facts = os.fstat(file.file.descriptor)
            file.identity = (facts.st_dev, facts.st_ino)
            self._end_last_line(file, file.file)
        self._open_files.pop(file, None)
        self._open_files[file] = None
        if len(self._open_files) > self._max_open:
            oldest = next(iter(self._open_files))
            self._sync_file(oldest)
            self._close(oldest)
        return file.file

    def _end_last_line(self, file: _DayFile, opened: File) -> None:
        """Give a file that someone cut inside a frame an LF, so that a reader finds the next frame."""
        if file.size and opened.read(1, file.size - 1) != b"\n":
            opened.write(b"\n", file.size)
            file.size += 1

    def _sync(self) -> None:
        folders = set()
        for file in self._touched:
            self._sync_file(file)
            if file.created:
                folders.add(os.path.dirname(f"{self._folder}/{file.path}"))
                file.created = False
        for folder in folders:
            self._disk.sync_folder(folder)

    def _sync_file(self, file: _DayFile) -> None:
        if file.unsynced and file.file is not None:
            file.file.sync()
            file.unsynced = False

    def _close(self, file: _DayFile) -> None:
        self._open_files.pop(file, None)
        if file.file is not None:
            file.file.close()
            file.file = None

    # --- Journal ---

    def _remember(self, file: _DayFile) -> None:
        self._sizes.pop(file.path, None)
        self._sizes[file.path] = file.size

    def _tidy(self) -> None:
        if len(self._files) > MAX_SIZES:
            self._files = {place: file for place, file in self._files.items() if file.file is not None}
        if self._journal.size > max(JOURNAL_SIZE, _GROWTH * self._whole):
            self._begin_journal()

    def _begin_journal(self) -> None:
        """Begin the journal anew with the whole state."""
        for path in list(self._sizes)[: max(0, len(self._sizes) - MAX_SIZES)]:
            del self._sizes[path]
        begun = tuple(self._sizes.items())
        self._journal.begin(Entry(self._spool_id, self.cursor, begun, (), self._seen.all()))
        self._whole = self._journal.size
