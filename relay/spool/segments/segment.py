"""One spool file: a header, then blocks, then zeros up to its allocated size.

A segment is named by its first block's number, `00000000000000000001.segment`. It is made under another name and
renamed, so that a file with the right name always has a whole header. Offsets are bytes from the file's beginning.
When the segment after this one begins with a number that this one also holds, this one's block is void: its fsync had
failed and it was written again.

A segment's format is that of its blocks. `create` makes the newest format; an older one is read on, and is not appended
to.

Damage costs only the blocks that it hits. A segment whose own header is damaged is read by its name and its blocks (see
`SegmentHeader.damage`). Behind a damaged block the next one is found by its magic (see `segment_reader.py`).
"""

import contextlib
import re
import struct
import zlib
from typing import Final, NamedTuple

from relay.errors import DataError, StorageError
from relay.spool import block
from relay.spool.block import BlockError, Header
from relay.system.crash_point import crash_point
from relay.system.disk import Disk, File

MAGIC: Final = b"\x89RLYSEG\n"
FORMATS: Final = frozenset(block.MAGICS.values())
"""The formats that are read."""
SPOOL_ID_LENGTH: Final = 16
NAME: Final = re.compile(r"\d{20}\.segment")
UNFINISHED: Final = ".new"

_HEADER: Final = struct.Struct(">8sHxxxxxx16sQq32s")
_CRC: Final = struct.Struct(">I")
HEADER_LENGTH: Final = _HEADER.size + _CRC.size
_READ: Final = 64 * 1024
_SCAN: Final = 1024 * 1024


class SegmentHeader(NamedTuple):
    """What a segment's header holds."""

    spool: bytes
    """The random name of the spool that it belongs to; empty when the header is damaged."""
    first: int
    created: int
    """When it was made; of a damaged header when its first whole block was committed."""
    previous_chain: bytes | None
    """The chain of the block before its first one, so that it can be verified alone; None when that is not known."""
    damage: str = ""
    """What is wrong with the header; the rest then comes from the file's name and its blocks."""
    version: int = block.FORMAT_VERSION
    """The format of its blocks."""


def name_of(first: int) -> str:
    """The file name of the segment that begins with that block."""
    return f"{first:020d}.segment"


def first_of(name: str) -> int:
    """The block number in a segment's file name."""
    return int(name.partition(".")[0])


def encode_header(header: SegmentHeader) -> bytes:
    """The first octets of a segment."""
    data = _HEADER.pack(MAGIC, header.version, *header[:4])
    return data + _CRC.pack(zlib.crc32(data))


def decode_header(data: bytes, path: str) -> SegmentHeader:
    """The header of the file `path`; DataError when it is not a segment that this version can read."""
    if len(data) < HEADER_LENGTH or not data.startswith(MAGIC):
        raise DataError(path, "it is not a spool segment", "it is left alone; move it away")
    _, version, spool, first, created, chain = _HEADER.unpack_from(data)
    if version not in FORMATS:
        known = " and ".join(map(str, sorted(FORMATS)))
        raise DataError(
            path, f"it has spool format {version}, and this relay reads formats {known}", "use a newer relay"
        )
    if not _is_sealed(data):
        raise DataError(path, "its header does not match its CRC", "it is left alone; move it away")
    return SegmentHeader(spool, first, created, chain, version=version)


def _is_sealed(data: bytes) -> bool:
    """Whether a header's magic and CRC are right, of whatever version it is."""
    if len(data) < HEADER_LENGTH or not data.startswith(MAGIC):
        return False
    return bool(zlib.crc32(data[: _HEADER.size]) == _CRC.unpack_from(data, _HEADER.size)[0])


def create(disk: Disk, folder: str, header: SegmentHeader, size: int) -> File:
    """A new segment of `size` allocated bytes, durable with its name."""
    path = f"{folder}/{name_of(header.first)}"
    made = path + UNFINISHED
    file = disk.open(made, create=True)
    try:
        file.truncate(0)
        file.allocate(size)
        file.write(encode_header(header), 0)
        file.sync()
        crash_point("segment-allocated")
        disk.replace(made, path)
        made = path
        crash_point("segment-renamed")
        disk.sync_folder(folder)
    except BaseException:
        file.close()
        with contextlib.suppress(StorageError):  # the rest of it takes space that is missing already
            disk.remove(made)
        raise
    file.path = path
    return file


def open_existing(disk: Disk, path: str, *, writable: bool = False) -> tuple[File, SegmentHeader]:
    """An existing segment and its header, restored when it is damaged; DataError when it is not a segment."""
    file = disk.open(path, writable=writable)
    try:
        return file, header_of(file)
    except BaseException:
        file.close()
        raise


def header_of(file: File) -> SegmentHeader:
    """A segment's header, restored when it is damaged; DataError when the file is not a segment."""
    data = file.read(HEADER_LENGTH, 0)
    try:
        return decode_header(data, file.path)
    except DataError:
        header = None if _is_sealed(data) else _restored(file)
        if header is None:
            raise
        return header


def _restored(file: File) -> SegmentHeader | None:
    """A damaged header, restored from the file's name and its blocks; None when it holds no block."""
    first = first_of(file.path.rpartition("/")[2])
    offset = find_block(file, HEADER_LENGTH)
    found = None if offset is None else read_header(file, offset)
    if found is None or found.number < first:
        return None
    chain = block.CHAIN_START if first == 1 else None
    damage = "its own header is damaged; it is restored from the file's name and its blocks"
    return SegmentHeader(b"", first, found.committed, chain, damage, found.version)


def read_header(file: File, offset: int) -> Header:
    """The block header at `offset`; BlockError when none is there."""
    data = file.read(_READ, offset)
    header = block.decode_header(data)
    if header is None and len(data) == _READ:
        header = block.decode_header(file.read(block.MAX_HEADER, offset))
    if header is None:
        raise BlockError("the file ends inside a block's header")
    return header


def find_block(file: File, offset: int) -> int | None:
    """Where the next whole block header after damage begins, at `offset` or later; None when there is none."""
    overlap = b""
    while data := file.read(_SCAN, offset):
        window = overlap + data
        base = offset - len(overlap)
        start = window.find(block.ANY_MAGIC)
        while start >= 0:
            try:
                read_header(file, base + start)
            except BlockError:
                start = window.find(block.ANY_MAGIC, start + 1)
            else:
                return base + start
        overlap = window[-(len(block.ANY_MAGIC) - 1) :]
        offset += len(data)
    return None


def nonzero_length(file: File, offset: int) -> int:
    """Octets from `offset` to the last one that is not zero."""
    end = start = offset
    while data := file.read(_SCAN, offset):
        used = len(data.rstrip(b"\0"))
        if used:
            end = offset + used
        offset += len(data)
    return end - start
