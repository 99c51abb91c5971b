"""The child process that compresses logs: `DayKeeper` starts it, so that relay's threads never wait for it.

A thread with a low priority could hold Python's lock while the others need it, and a process cannot. It reads a
`CompressionJob` a line from its standard input and answers each with a `CompressionResult`. It writes NAME.zst.new and
never renames or deletes a log: its parent does. It ends when its standard input ends.
"""

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, Final, cast

import msgspec
import pyzstd

from relay.archive.days.compressed_log import FRAME, NEW, OPTIONS, CompressedLog
from relay.errors import DataError, RelayError, StorageError, full_error
from relay.system.crash_point import crash_point
from relay.system.disk import Disk, File, storage_error

NICE: Final = 19
SUFFIX: Final = ".zst"
FREE_FLOOR: Final = 16 * 1024 * 1024
"""Bytes that stay free on the disk, so that the compression never is the cause of a full disk."""
_SYNCED_EVERY: Final = 16
"""Frames. A large fsync at the end would let the archive's own wait."""


class FileFacts(msgspec.Struct, frozen=True):
    """By which a file is known again."""

    device: int
    inode: int
    size: int
    changed: int
    """Nanoseconds since the epoch."""


class CompressionJob(msgspec.Struct, frozen=True):
    """A log to compress."""

    path: str
    length: int
    """Its octets by its ledger."""
    compare: bool = False
    """Only compare it with NAME.zst, which is there already."""
    floor: int = FREE_FLOOR


class CompressionResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a job."""

    original: FileFacts | None = None
    """The file that was read; None: the job failed."""
    copy: FileFacts | None = None
    failure: tuple[str, str, str] = ("", "", "")
    errno: int = 0

    @property
    def error(self) -> RelayError:
        """The failure as an error; its class matters only for a full disk and an absent file."""
        error = StorageError(*self.failure)
        error.errno = self.errno
        return error


def facts_of(descriptor: int) -> FileFacts:
    """The facts of an open file."""
    facts = os.fstat(descriptor)
    return FileFacts(facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)


def main() -> None:
    """Do jobs until the standard input ends; a job ends early when the program that started this process is gone."""
    with suppress(OSError):  # a unit's SystemCallFilter may forbid it
        os.nice(NICE)
    disk = Disk()

    def end_without_parent() -> None:
        poll = select.poll()
        poll.register(sys.stdin.fileno(), 0)
        if any(flags & select.POLLHUP for _, flags in poll.poll(0)):
            raise SystemExit(1)

    for line in sys.stdin.buffer:
        job = msgspec.json.decode(line, type=CompressionJob)
        try:
            result = compress(disk, job, end_without_parent)
        except RelayError as error:
            errno = error.errno if isinstance(error, StorageError) else 0
            result = CompressionResult(failure=(error.what, error.cause, error.remedy), errno=errno)
        sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
        sys.stdout.buffer.flush()


def compress(disk: Disk, job: CompressionJob, between: Callable[[], None] = lambda: None) -> CompressionResult:
    """Compress a log into NAME.zst.new and compare the two; the copy is durable on return.

    `between` is called now and then.
    """
    with disk.open(job.path, writable=False) as original:
        facts = facts_of(original.descriptor)
        if facts.size != job.length:
            cause = f"it has {facts.size} octets, and its ledger says {job.length}"
            raise DataError(job.path, cause, "`relay archive verify` shows what was changed")
        if job.compare:
            path = f"{job.path}{SUFFIX}"
            with disk.open(path, writable=False) as copy:
                copy.sync()  # another program may have made it, and the log is deleted next
            return CompressionResult(original=facts, copy=_compare(original, path, job.length))
        path = f"{job.path}{SUFFIX}{NEW}"
        with suppress(StorageError):
            disk.remove(path)
        try:
            with disk.open(path, create=True) as copy:
                _compress(disk, original, copy, job, between)
                _take_attributes(original, copy)
                copy.sync()
                os.posix_fadvise(copy.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # so that it is read from the device
            return CompressionResult(original=facts, copy=_compare(original, path, job.length))
        except BaseException:
            with suppress(StorageError):
                disk.remove(path)
            raise


class _Appended:
    """A `File` as the library writes one: at its end."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._end = 0

    def write(self, data: bytes) -> int:
        self._file.write(data, self._end)
        self._end += len(data)
        return len(data)


def _compress(disk: Disk, original: File, copy: File, job: CompressionJob, between: Callable[[], None]) -> None:
    """Write the frames and their table."""
    target = cast("BinaryIO", _Appended(copy))
    with pyzstd.SeekableZstdFile(target, "w", level_or_option=OPTIONS, max_frame_content_size=FRAME) as frames:
        for number, offset in enumerate(range(0, job.length, FRAME)):
            frames.write(original.read(FRAME, offset))
            if number % _SYNCED_EVERY == 0:
                if disk.free(os.path.dirname(copy.path)) < job.floor:
                    raise full_error(
                        copy.path, "too little space is left to compress a day", "free space on this file system"
                    )
                between()
                copy.sync()
            crash_point("day-compressing")


def _take_attributes(original: File, copy: File) -> None:
    """Give the copy mode, group and modification time of the original; the owner only where that is allowed."""
    facts = os.fstat(original.descriptor)
    try:
        with suppress(PermissionError):
            os.fchown(copy.descriptor, -1, facts.st_gid)
        with suppress(PermissionError):
            os.fchown(copy.descriptor, facts.st_uid, -1)
        os.fchmod(copy.descriptor, facts.st_mode & 0o7777)
        os.utime(copy.descriptor, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    except OSError as error:
        raise storage_error(copy.path, "chmod", error) from error


def _compare(original: File, path: str, length: int) -> FileFacts:
    """Read both from the disk; DataError unless the copy decompresses to the original. Returns the copy's facts."""
    log = CompressedLog(path)
    try:
        pieces = range(0, length, FRAME)
        whole = all(log.read(offset, FRAME) == original.read(FRAME, offset) for offset in pieces)
        whole = whole and log.size() == length
        facts = facts_of(log.descriptor)
    finally:
        log.close()
    if not whole:
        raise DataError(
            path, f"it does not decompress to {os.path.basename(original.path)}", "move one of the two away"
        )
    return facts
