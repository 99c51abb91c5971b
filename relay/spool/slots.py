"""Slots: small values that must be writable on a full disk, such as a destination's cursor.

A slots file is preallocated. Each slot has two copies; a write goes to the older one and is then synced, so a torn
write leaves the newer one whole. A copy is `COPY_LENGTH` octets: magic, CRC-32 of the rest, sequence, key, value. When
both are damaged the slot is empty: a lost cursor causes duplicates, never loss.
"""

import logging
import struct
import threading
import zlib
from typing import Final, NamedTuple

from relay.errors import DataError, StorageError
from relay.system.crash_point import crash_point
from relay.system.disk import Disk, File
from relay.values.text import quoted

MAGIC: Final = b"\x89RLYSLT\n"
COPY_LENGTH: Final = 4096
SLOTS: Final = 64

_FIXED: Final = struct.Struct(">8sIQHH")
_CHECKED_FROM: Final = 12
MAX_CONTENT: Final = COPY_LENGTH - _FIXED.size

_log = logging.getLogger("relay.spool")


class _SlotCopy(NamedTuple):
    sequence: int
    key: str
    value: bytes


class Slots:
    """The slots file of a state directory; a slot is named by its key. Safe to use from several threads."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._lock = threading.Lock()
        self._disk = disk
        self._path = path
        self.fresh = not disk.exists(path)
        """Whether the file was missing."""
        self._file = self._made()
        self._failed: set[int] = set()
        """Offsets of copies that may be on the disk and are not in force."""
        self._slots = _newest_copies(disk, path)
        self._settle()
        disk.sync_folder(path.rpartition("/")[0])

    def _made(self) -> File:
        file = self._disk.open(self._path, create=True)
        size = file.size
        if size < SLOTS * 2 * COPY_LENGTH:
            # Written, not only allocated: turning an unwritten extent into a written one may need space for metadata.
            file.write(bytes(SLOTS * 2 * COPY_LENGTH - size), size)
        return file

    def get(self, key: str) -> bytes | None:
        """The value last written under `key`; None when there is none."""
        with self._lock:
            slot = self._slots.get(key)
            return slot[1].value if slot else None

    def put(self, key: str, value: bytes) -> None:
        """Write the value and make it durable.

        After a StorageError the former value is in force, once `discard_failed` has returned.
        """
        if len(key.encode()) + len(value) > MAX_CONTENT:
            raise DataError(self._file.path, f"the value of {quoted(key)} does not fit into a slot", "shorten the name")
        with self._lock:
            if self._file.deleted:
                _log.error("%s was deleted, and not by relay; it is written again", self._path)
                old, self._file = self._file, self._made()
                old.close()
                self._settle()
                self._disk.sync_folder(self._path.rpartition("/")[0])
            if key in self._slots:
                index, copy = self._slots[key]
            else:
                free = set(range(SLOTS)) - {index for index, _ in self._slots.values()}
                if not free:
                    raise StorageError(self._file.path, f"all {SLOTS} slots are taken", "configure fewer servers")
                index, copy = min(free), _SlotCopy(-1, key, b"")
            new = _SlotCopy(copy.sequence + 1, key, value)
            self._failed.add(_offset(index, new))
            self._write(index, new)
            crash_point("slot-written")
            self._file.sync()
            self._failed.discard(_offset(index, new))
            self._slots[key] = (index, new)

    def discard_failed(self) -> None:
        """Make sure that a failed `put` is not in force at the next opening."""
        with self._lock:
            if not self._failed:
                return
            for offset in self._failed:
                self._file.write(bytes(len(MAGIC)), offset)
            self._file.sync()
            self._failed.clear()

    def _write(self, index: int, copy: _SlotCopy) -> None:
        key = copy.key.encode()
        content = struct.pack(">QHH", copy.sequence, len(key), len(copy.value)) + key + copy.value
        octets = MAGIC + struct.pack(">I", zlib.crc32(content)) + content
        self._file.write(octets.ljust(COPY_LENGTH, b"\0"), _offset(index, copy))

    def _settle(self) -> None:
        """Make durable what was found: the next write takes the place of the other copy, maybe the only durable one.

        Written again, since after a failed fsync the kernel holds for clean what never reached the disk.
        """
        for index, copy in self._slots.values():
            self._write(index, copy)
        self._file.sync()

    def remove(self, key: str) -> None:
        """Forget a slot; another may use its index."""
        with self._lock:
            slot = self._slots.pop(key, None)
            if slot:
                self._file.write(bytes(2 * COPY_LENGTH), slot[0] * 2 * COPY_LENGTH)
                self._file.sync()

    def keys(self) -> list[str]:
        """The keys in use."""
        with self._lock:
            return sorted(self._slots)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_slots(disk: Disk, path: str) -> dict[str, bytes]:
    """The values of every whole slot of the file, by key; the file is not changed, and may be missing."""
    return {key: copy.value for key, (_, copy) in _newest_copies(disk, path).items()}


def _newest_copies(disk: Disk, path: str) -> dict[str, tuple[int, _SlotCopy]]:
    """Each slot's index and newest whole copy, by key."""
    slots: dict[str, tuple[int, _SlotCopy]] = {}
    if not disk.exists(path):
        return slots
    with disk.open(path, writable=False) as file:
        data = file.read(SLOTS * 2 * COPY_LENGTH, 0)
    for index in range(SLOTS):
        start = index * 2 * COPY_LENGTH
        copies = [_decode(data[at : at + COPY_LENGTH]) for at in (start, start + COPY_LENGTH)]
        whole = [copy for copy in copies if copy is not None]
        if whole:
            newest = max(whole)
            slots[newest.key] = (index, newest)
    return slots


def _offset(index: int, copy: _SlotCopy) -> int:
    return (index * 2 + copy.sequence % 2) * COPY_LENGTH


def _decode(data: bytes) -> _SlotCopy | None:
    if len(data) < COPY_LENGTH or not data.startswith(MAGIC):
        return None
    _, crc, sequence, key_length, value_length = _FIXED.unpack_from(data)
    end = _FIXED.size + key_length + value_length
    if end > COPY_LENGTH or zlib.crc32(data[_CHECKED_FROM:end]) != crc:
        return None
    key = data[_FIXED.size : _FIXED.size + key_length].decode("utf-8", "replace")
    return _SlotCopy(sequence, key, data[_FIXED.size + key_length : end])
