"""The archive's journal: what each commit made valid, so that a crash leaves every message exactly once.

The file begins with `MAGIC`; each record is `RELAYJ2` LF, the payload's length, its CRC-32 and the CRC-32 of the 16
octets before (4 octets each, big-endian), the payload (an `Entry` in MessagePack) and an LF. Records only ever follow
one another; when the file has grown, a new one that begins with the whole state takes its place by rename.

Reading distinguishes a torn tail from damage:

- torn: the last record does not end in its LF, because writing it was interrupted. It was never valid.
- damaged: anything else that is not as it was written. The lost records' sizes are not known, so nothing is cut from
  logs and ledgers.
"""

import itertools
import os
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple
from zlib import crc32

import msgspec

from relay.archive.writer.seen_identities import SeenMarks
from relay.errors import InternalError, StorageError
from relay.system.disk import Disk, File, storage_error

MAGIC = b"relay archive journal 2\n"
_MARK = b"RELAYJ2\n"
_HEAD = struct.Struct(">8sIII")
_END = b"\n"


class DaySizes(NamedTuple):
    """The octets of a day's log and ledger that are valid."""

    path: str
    """The log's, below the archive. The ledger lies beside it."""
    log: int
    ledger: int
    head: bytes = b""
    """The hash of the ledger's last line; empty: unknown."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One record: what a commit made valid."""

    spool_id: str
    cursor: bytes | None
    days: tuple[DaySizes, ...] = ()
    """Open days and their sizes: after a commit, or before anything is written to a new one."""
    ended: tuple[str, ...] = ()
    """Days that are closed or given up, by their logs' paths; the writer never touches them again."""
    seen: SeenMarks = SeenMarks()
    settled: bool = False
    """Whether nothing is written beyond these sizes until the next record: the writer has stopped, or just begun."""


class OpenDaySizes:
    """The open days that records leave behind."""

    def __init__(self) -> None:
        self.days: dict[str, DaySizes] = {}
        """By their logs' paths; the longest untouched first."""

    def take(self, entry: Entry) -> None:
        """Apply a record."""
        for day in entry.days:
            self.days.pop(day.path, None)
            self.days[day.path] = day
        for path in entry.ended:
            self.days.pop(path, None)


class Replay(NamedTuple):
    """How a journal's records were read."""

    records: int
    torn: bool
    damaged: bool
    end: int = 0
    """Where the last whole record ends."""


def encode(entry: Entry) -> bytes:
    """Write one record."""
    payload = msgspec.msgpack.encode(entry)
    head = struct.pack(">8sII", _MARK, len(payload), crc32(payload))
    return head + crc32(head).to_bytes(4) + payload + _END


def replay(data: bytes, take: Callable[[Entry], None]) -> Replay:
    """Read a whole journal, and give each record to `take`; never raises by itself."""
    records = whole = 0
    damaged = torn = False
    position = len(MAGIC)
    if not data.startswith(MAGIC):
        torn = MAGIC.startswith(data)
        damaged = not torn
        position = _next_mark(data, 0)
    while position < len(data):
        entry, end = _read(data, position)
        if entry is not None:
            take(entry)
            records += 1
            whole = end
        elif _interrupted(data, position):
            torn = True
        else:
            damaged = True
            end = _next_mark(data, position + 1)
        position = end
    return Replay(records, torn, damaged, whole)


class Journal:
    """The journal file, for its one writer. After a StorageError only opening the archive anew helps."""

    def __init__(self, disk: Disk, folder: str) -> None:
        self.path = f"{folder}/journal"
        self._folder = folder
        self._disk = disk
        self._file: File | None = None
        self.size = 0

    def read(self) -> bytes | None:
        """Read all its bytes; None when there is no journal."""
        if not self._disk.exists(self.path):
            return None
        with self._disk.open(self.path, writable=False) as file:
            return file.read(file.size, 0)

    def begin(self, state: Iterable[Entry]) -> None:
        """Begin a new journal with the whole state, in place of the old one; durable on return."""
        new = f"{self.path}.new"
        file = self._disk.open(new, create=True)
        try:
            file.truncate(0)
            size = 0
            for piece in itertools.chain((MAGIC,), map(encode, state)):
                file.write(piece, size)
                size += len(piece)
            file.sync()
            self._disk.replace(new, self.path)
            file.path = self.path
            self._disk.sync_folder(self._folder)
        except StorageError:
            file.close()
            with suppress(StorageError):  # on a full disk, what was written of it would be in the way
                self._disk.remove(new)
            raise
        except BaseException:
            file.close()
            raise
        self.close()
        self._file = file
        self.size = size

    def resume(self, end: int) -> None:
        """Go on with the journal that is there, whose records end there: on a full disk there may be no other way."""
        file = self._disk.open(self.path)
        try:
            with suppress(StorageError):
                self._disk.remove(f"{self.path}.new")
            file.truncate(end)
            file.sync()
        except BaseException:
            file.close()
            raise
        self.close()
        self._file = file
        self.size = end

    def append(self, entry: Entry) -> None:
        """Add a record; durable on return, unless the file was removed. StorageError when it was replaced."""
        if self._file is None:
            raise InternalError(self.path, "a record before the beginning")
        self.is_removed()
        data = encode(entry)
        try:
            self._file.write(data, self.size)
            self._file.sync()
        except StorageError:
            with suppress(StorageError):  # else the next writer would find a commit that nobody has been told of
                self._file.truncate(self.size)
            raise
        self.size += len(data)

    def is_removed(self) -> bool:
        """Whether another program removed the file; StorageError when it put another one in its place."""
        try:
            facts = os.lstat(self.path)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise storage_error(self.path, "stat", error) from error
        own = os.fstat(self._file.descriptor) if self._file is not None else None
        if own is None or (own.st_dev, own.st_ino) != (facts.st_dev, facts.st_ino):
            raise StorageError(self.path, "another program replaced it", "find out which one; relay reads it again")
        return False

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _length(data: bytes, position: int) -> int | None:
    """Read the length of the payload of the record at `position`; None when its head is not as it was written."""
    head = data[position : position + _HEAD.size]
    if len(head) < _HEAD.size:
        return None
    mark, length, _, checksum = _HEAD.unpack(head)
    return length if mark == _MARK and crc32(head[:-4]) == checksum else None


def _read(data: bytes, position: int) -> tuple[Entry | None, int]:
    """Read the record at `position`, and say where it ends; None when it is not whole."""
    length = _length(data, position)
    if length is None:
        return None, len(data)
    start = position + _HEAD.size
    end = start + length + 1
    payload = data[start : end - 1]
    if crc32(payload) != _HEAD.unpack_from(data, position)[2] or data[end - 1 : end] != _END:
        return None, len(data)
    try:
        return msgspec.msgpack.decode(payload, type=Entry), end
    except msgspec.MsgspecError:
        return None, len(data)


def _interrupted(data: bytes, position: int) -> bool:
    """Whether the record at `position` is the last and lacks its end: cut off, or zeros that a crash left."""
    rest = data[position:].rstrip(b"\0")
    if len(rest) < _HEAD.size:
        return rest[: len(_MARK)] == _MARK[: len(rest)]
    length = _length(data, position)
    return length is not None and len(rest) < _HEAD.size + length + 1


def _next_mark(data: bytes, position: int) -> int:
    found = data.find(_MARK, position)
    return len(data) if found < 0 else found
