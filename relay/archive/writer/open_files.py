"""The logs and ledgers that are open, at most so many; they are appended to, and synced in parallel.

Where the archive has a file system of its own, many files are synced by one syncfs. Elsewhere that would wait for what
other programs have written.
"""

import functools
import os
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Final

from relay.archive.writer.open_day import OpenDay
from relay.system.disk import Disk, File
from relay.system.files.file_access import FileAccess
from relay.system.files.file_system import FileSystem, has_own_file_system

SYNC_THREADS: Final = 8
_WORTH_THREADS: Final = 4
_FEWEST, _MOST = 16, 2048
_SHARE: Final = 8
"""Of the descriptors that this process may have: a quarter, two for each day."""


def default_limit() -> int:
    """How many days may be open, by this process's limit of descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(max(soft // _SHARE, _FEWEST), _MOST) if soft != resource.RLIM_INFINITY else _MOST


class OpenFiles:
    """The open files of an archive's writer."""

    def __init__(self, disk: Disk, folder: str, limit: int, access: FileAccess) -> None:
        self._disk = disk
        self._folder = folder
        self._limit = limit
        self._access = access
        self._has_own_file_system = has_own_file_system(folder)
        self._file_system: FileSystem | None = None
        self._open: dict[OpenDay, None] = {}  # the longest unused first
        self._pool: ThreadPoolExecutor | None = None
        self.progress = 0.0
        """When the disk last completed a call, in seconds of the monotonic clock."""

    def open(self, log: OpenDay) -> tuple[File, File]:
        """A day's log and ledger."""
        self._open.pop(log, None)
        if self._file_system is None and self._has_own_file_system:
            self._file_system = FileSystem(self._folder)
        if log.files is None:
            if len(self._open) >= self._limit:
                unused = list(self._open)[: max(self._limit // 2, 1)]
                self._sync(unused)
                for other in unused:
                    del self._open[other]
                    self._close(other)
            # The ledger first: so a reader that finds a log finds its ledger too.
            ledger_file = self._disk.open(f"{self._folder}/{log.ledger_path}", create=True)
            try:
                log_file = self._disk.open(f"{self._folder}/{log.path}", create=True)
            except BaseException:
                ledger_file.close()
                raise
            log.files = (log_file, ledger_file)
            if log.begins_anew:
                for file in log.files:
                    self._access.give_to(file.path, file.descriptor)
            log.identities = (identity_of(log_file), identity_of(ledger_file))
            self.progress = time.monotonic()
        self._open[log] = None
        return log.files

    def append(self, log: OpenDay) -> None:
        """Write what is rendered."""
        log_file, ledger_file = self.open(log)
        data, lines = log.take_octets()
        if data:
            log_file.write(data, log.log - len(data))
        log.written = True
        ledger_file.write(lines, log.ledger - len(lines))
        log.stamps = (stamp_of(log_file), stamp_of(ledger_file))
        self.progress = time.monotonic()

    def sync(self) -> None:
        """Make all that was written durable."""
        self._sync(self._open)

    def close(self, log: OpenDay) -> None:
        """Close a day's files; what was written to them is durable on return."""
        self._sync([log])
        self._open.pop(log, None)
        self._close(log)

    def close_all(self) -> None:
        """Close everything, without syncing it."""
        for log in self._open:
            self._close(log)
        self._open.clear()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        if self._file_system is not None:
            self._file_system.close()
            self._file_system = None

    def _sync(self, logs: Iterable[OpenDay]) -> None:
        unsynced = [log for log in logs if log.written and log.files is not None]
        singly = unsynced
        if self._file_system is not None and len(unsynced) >= _WORTH_THREADS:
            self._file_system.sync()
            # An originator's folder may be another mount, or a link to another disk.
            singly = [log for log in unsynced if not self._file_system.has(*log.identities)]
        self._in_parallel([file.sync for log in singly for file in log.files or ()])
        # A new folder's name is in the archive's folder, or in ~aside or ~disputed.
        folders = {f"{self._folder}/{log.folder}" for log in singly if log.begins_anew}
        above = {os.path.dirname(folder) for folder in folders}
        folders |= above | ({self._folder} if above else set())
        self._in_parallel([functools.partial(self._disk.sync_folder, folder) for folder in folders])
        for log in unsynced:
            log.written = log.begins_anew = False
            if log.files is not None:  # a network's file server may set the time only now
                log.stamps = (stamp_of(log.files[0]), stamp_of(log.files[1]))

    def _in_parallel(self, calls: Sequence[Callable[[], None]]) -> None:
        if len(calls) < _WORTH_THREADS:
            for call in calls:
                call()
                self.progress = time.monotonic()
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="archive sync")
        submitted = [self._pool.submit(call) for call in calls]
        for _ in as_completed(submitted):
            self.progress = time.monotonic()
        for each in submitted:
            each.result()

    @staticmethod
    def _close(log: OpenDay) -> None:
        for file in log.files or ():
            file.close()
        log.files = None


def stamp_of(file: File) -> int:
    """When an open file's octets were last changed, in nanoseconds."""
    return os.fstat(file.descriptor).st_mtime_ns


def identity_of(file: File) -> tuple[int, int]:
    """Device and number of an open file."""
    facts = os.fstat(file.descriptor)
    return facts.st_dev, facts.st_ino
