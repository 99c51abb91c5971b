"""One spool file: a header, then blocks, then zeros up to its allocated size.

A segment is named by its first block's number, `00000000000000000001.segment`. It is made under another name and
renamed, so that a file with the right name always has a whole header. Offsets are bytes from the file's beginning.
When the segment after this one begins with a number that this one also holds, this one's block is void: its fsync had
failed and it was written again.
"""

import contextlib
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.crash_point import crash_point
from relay.disk import Disk, File
from relay.errors import DataError, StorageError
from relay.event import EventType
from relay.spool import block
from relay.spool.block import BlockError, Header

MAGIC: Final = b"\x89RLYSEG\n"
FORMAT_VERSION: Final = 1
SPOOL_ID_LENGTH: Final = 16
NAME: Final = re.compile(r"\d{20}\.segment")
UNFINISHED: Final = ".new"

_HEADER: Final = struct.Struct(">8sHxxxxxx16sQq32s")
_CRC: Final = struct.Struct(">I")
HEADER_LENGTH: Final = _HEADER.size + _CRC.size
_READ: Final = 64 * 1024
_SCAN: Final = 1024 * 1024


class SegmentHeader(NamedTuple):
    """What a segment says about itself."""

    spool: bytes
    """The random name of the spool that it belongs to."""
    first: int
    created: int
    previous_chain: bytes
    """The chain of the block before its first one, so that it can be verified alone."""


def name_of(first: int) -> str:
    """The file name of the segment that begins with that block."""
    return f"{first:020d}.segment"


def first_of(name: str) -> int:
    """The block number in a segment's file name."""
    return int(name.partition(".")[0])


def encode_header(header: SegmentHeader) -> bytes:
    """The first octets of a segment."""
    data = _HEADER.pack(MAGIC, FORMAT_VERSION, *header)
    return data + _CRC.pack(zlib.crc32(data))


def decode_header(data: bytes, path: str) -> SegmentHeader:
    """The header of the file `path`; DataError when it is no segment that this version can read."""
    if len(data) < HEADER_LENGTH or not data.startswith(MAGIC):
        raise DataError(path, "no spool segment", "it is left alone; move it away")
    _, version, *fields = _HEADER.unpack_from(data)
    if version != FORMAT_VERSION:
        raise DataError(path, f"spool format {version}, and this relay knows {FORMAT_VERSION}", "use a newer relay")
    if zlib.crc32(data[: _HEADER.size]) != _CRC.unpack_from(data, _HEADER.size)[0]:
        raise DataError(path, "its header does not match its CRC", "it is left alone; move it away")
    return SegmentHeader(*fields)


def create(disk: Disk, folder: str, header: SegmentHeader, size: int) -> File:
    """A new segment of `size` allocated bytes, durable with its name."""
    path = f"{folder}/{name_of(header.first)}"
    file = disk.open(path + UNFINISHED, create=True)
    try:
        file.truncate(0)
        file.allocate(size)
        file.write(encode_header(header), 0)
        file.sync()
        crash_point("segment-allocated")
        disk.replace(file.path, path)
        crash_point("segment-renamed")
        disk.sync_folder(folder)
    except BaseException:
        file.close()
        with contextlib.suppress(StorageError):  # what is left of it takes room that is missing already
            disk.remove(path + UNFINISHED)
        raise
    file.path = path
    return file


def open_existing(disk: Disk, path: str, *, writable: bool = False) -> tuple[File, SegmentHeader]:
    """An existing segment and its header; DataError when it is none."""
    file = disk.open(path, writable=writable)
    try:
        return file, decode_header(file.read(HEADER_LENGTH, 0), path)
    except BaseException:
        file.close()
        raise


def read_header(file: File, offset: int) -> Header:
    """The block header at `offset`; BlockError when none is there."""
    data = file.read(_READ, offset)
    header = block.decode_header(data)
    if header is None and len(data) == _READ:
        header = block.decode_header(file.read(block.MAX_HEADER, offset))
    if header is None:
        raise BlockError("the file ends inside a block's header")
    return header


def read_block(file: File, offset: int) -> block.Block:
    """The block at `offset`, whole and checked; BlockError when it is not."""
    data = file.read(_READ, offset)
    header = block.decode_header(data) if len(data) < _READ else block.decode_header(data) or read_header(file, offset)
    if header is None:
        raise BlockError("the file ends inside a block's header")
    if header.size > len(data):
        data += file.read(header.size - len(data), offset + len(data))
    payload = data[header.length : header.size]
    block.check_payload(header, payload)
    return block.Block(header, payload)


def find_block(file: File, offset: int) -> int | None:
    """Where the next whole block header after damage begins, at `offset` or later; None when there is none."""
    overlap = b""
    while data := file.read(_SCAN, offset):
        window = overlap + data
        base = offset - len(overlap)
        start = window.find(block.MAGIC)
        while start >= 0:
            try:
                read_header(file, base + start)
            except BlockError:
                start = window.find(block.MAGIC, start + 1)
            else:
                return base + start
        overlap = window[-(len(block.MAGIC) - 1) :]
        offset += len(data)
    return None


def headers(file: File, offset: int = HEADER_LENGTH) -> Iterator[tuple[int, Header]]:
    """Offset and header of each block from `offset` on, until something that is no block."""
    while True:
        try:
            header = read_header(file, offset)
        except BlockError:
            return
        yield offset, header
        offset += header.size


class Tail(NamedTuple):
    """Where a segment's good blocks end."""

    end: int
    last: Header | None
    chain: bytes
    torn: int
    """Octets after `end` that are not zeros and no block: a write that a crash cut short."""
    damage: tuple[str, ...]
    """Damage before `end`, in words with offsets."""
    numbers: dict[EventType, int]
    """The last number of each type in the last block's run, as far as this segment tells."""


def find_tail(file: File, header: SegmentHeader) -> Tail:
    """Check every block of a segment and find where to go on writing."""
    offset, last, chain = HEADER_LENGTH, None, header.previous_chain
    damage: list[str] = []
    numbers: dict[EventType, int] = {}
    while True:
        try:
            found = read_block(file, offset)
        except BlockError as error:
            beyond = find_block(file, offset + 1)
            if beyond is None:
                return Tail(offset, last, chain, nonzero_length(file, offset), tuple(damage), numbers)
            damage.append(f"offset {offset}: {error}; the next block is at {beyond}")
            offset = beyond
            continue
        try:
            block.check_chain(found.header, file.read(found.header.length, offset), found.payload, chain)
        except BlockError as error:
            if not damage:
                damage.append(f"offset {offset}: {error}")
        if last is not None and last.run != found.header.run:
            numbers.clear()
        numbers.update((span.type, span.first + span.messages - 1) for span in found.header.spans)
        last, chain = found.header, found.header.chain
        offset += last.size


def nonzero_length(file: File, offset: int) -> int:
    """Octets from `offset` to the last one that is not zero."""
    end = start = offset
    while data := file.read(_SCAN, offset):
        used = len(data.rstrip(b"\0"))
        if used:
            end = offset + used
        offset += len(data)
    return end - start
