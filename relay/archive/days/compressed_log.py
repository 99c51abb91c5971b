"""A compressed log, addressed as in the uncompressed log: relay's own `.zst`, and an administrator's .zst, .gz or .xz.

relay's are in zstd's seekable format: frames of `FRAME` uncompressed octets and a table of them at the end, so a piece
costs one or two frames. All others are streams. They are decompressed from their beginning to the piece that is asked
for; when an earlier piece is asked for, they are decompressed once into a temporary file without a name.

Memory: the window of octets that was read last, and what the decompressors take, at most 128 MiB for a foreign file.
"""

import gzip
import lzma
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final, cast

import pyzstd

from relay.errors import DataError, NoInputError
from relay.system.disk import storage_error

FRAME: Final = 512 * 1024
"""Uncompressed octets of a frame."""
OPTIONS: Final[Mapping[int, int]] = {pyzstd.CParameter.compressionLevel: 3, pyzstd.CParameter.checksumFlag: 1}
"""How relay compresses. Each frame has a checksum, so a reader never gets other octets."""
NEW: Final = ".new"
"""What the name of a copy ends with until the copy is whole."""
SPOOL_FOLDER: Final = "/var/tmp"  # noqa: S108  the files have no name; /tmp may be memory
_LARGEST_MEMORY: Final = 128 * 1024 * 1024
_DAMAGE: Final = (EOFError, gzip.BadGzipFile, lzma.LZMAError, pyzstd.SeekableFormatError, pyzstd.ZstdError, zlib.error)


class CompressedLog:
    """One compressed log, open for reading; the contract is `relay.archive.reading.log_octets.LogOctets`.

    NoInputError when it cannot be opened, DataError when it is not in its suffix's format.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise NoInputError(path, f"cannot be read: {error.strerror}", "check the path and its mode") from error
        self._compressed = os.fdopen(descriptor, "rb")
        self._format = os.path.splitext(path.removesuffix(NEW))[1]
        self._window = b""
        self._begin = 0
        """Where the window begins in the uncompressed log."""
        self._position = 0
        """Where a stream continues; reading before it means to begin anew."""
        self._size: int | None = None
        try:
            with self._mapped_errors():
                if os.fstat(descriptor).st_size == 0:
                    raise EOFError
                self._seekable = self._format == ".zst" and pyzstd.SeekableZstdFile.is_seekable_format_file(
                    self._compressed
                )
                self._octets = self._open()
        except BaseException:
            self._compressed.close()
            raise

    def _open(self) -> BinaryIO:
        if self._seekable:
            return cast("BinaryIO", pyzstd.SeekableZstdFile(self._compressed))
        if self._format == ".zst":
            return cast("BinaryIO", pyzstd.ZstdFile(self._compressed))
        if self._format == ".gz":
            return cast("BinaryIO", gzip.GzipFile(fileobj=self._compressed))
        lzma.LZMADecompressor(memlimit=_LARGEST_MEMORY).decompress(self._compressed.read(FRAME), 1)
        self._compressed.seek(0)
        return cast("BinaryIO", lzma.LZMAFile(self._compressed))

    @property
    def descriptor(self) -> int:
        """Of the compressed file."""
        return self._compressed.fileno()

    def size(self) -> int:
        """Uncompressed octets; a stream is decompressed for it."""
        if self._size is None:
            with self._mapped_errors():
                self._size = self._octets.seek(0, os.SEEK_END)
                self._octets.seek(0)
                self._position = 0
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """The octets from `offset`; fewer than `length` only at the end."""
        held = self._begin + len(self._window)
        if not self._begin <= offset <= offset + length <= held:
            begin, kept = offset - offset % FRAME, b""
            if self._begin <= offset < held:
                begin, kept = offset, self._window[offset - self._begin :]
            elif begin < held <= offset:
                begin = held  # a stream need not go back
            end = -(-(offset + length) // FRAME) * FRAME
            self._window = kept + self._decompressed(begin + len(kept), end)
            self._begin = begin
        return self._window[offset - self._begin : offset - self._begin + length]

    def _decompressed(self, begin: int, end: int) -> bytes:
        with self._mapped_errors():
            if not self._seekable and begin < self._position:
                self._spool()
            self._octets.seek(begin)
            data = self._octets.read(end - begin)
            self._position = begin + len(data)
            return data

    def _spool(self) -> None:
        """Go on with a temporary copy that can be read at any offset; without room for it, with the stream."""
        with suppress(OSError):
            copy = tempfile.TemporaryFile(dir=SPOOL_FOLDER)  # noqa: SIM115  `close` closes it
            try:
                self._octets.seek(0)
                shutil.copyfileobj(self._octets, copy, FRAME)
                copy.flush()
            except BaseException:
                copy.close()
                raise
            self._octets.close()
            self._octets, self._seekable = cast("BinaryIO", copy), True

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._octets.close()
        self._compressed.close()
        self._window = b""

    @contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            cause = "it ends too early" if isinstance(error, EOFError) else str(error).rstrip(".")
            remedy = "restore the file from a copy"
            raise DataError(self.path, f"its compressed data is damaged: {cause}", remedy) from error
        except OSError as error:
            raise storage_error(self.path, "read", error) from error
