"""A part of an archive as one package, for an auditor or another machine: a tar file, compressed if it ends in .zst.

    relay-export/ORIGINATOR/2026-11-30.log       whole days, as they lie in the archive, compressed or not
    relay-export/ORIGINATOR/2026-11-30.ledger
    relay-export/relay-export.json               a description
    relay-export/SHA256SUMS                      as sha256sum(1) reads it

The description is {"schema": "relay.export/1", "archive", "made", "first_day", "last_day", "originators": [NAME…],
"files": [{"path", "octets", "sha256"}…], "verify": [SENTENCE…]}.

An open day is exported up to its last recorded extent, so the package can be made while relay writes. All other files
are exported as they are, also when they are damaged. A day that retention removed is exported as its ledger alone. The
package is complete or does not exist.

A chosen originator comes with what belongs to it: `~aside/NAME`, which is there when its folder could not be written,
and `~disputed/NAME`, messages under its name from other senders.
"""

import errno
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import IO, BinaryIO, Final, NamedTuple, Self, cast

import msgspec

from relay.archive.layout import COMPRESSIONS, LOG_SUFFIXES, OWN, DayFiles, possible_names
from relay.archive.ledger import Closing, Extent, LedgerError, Removal, decode
from relay.archive.ledgers.ledger_reader import LedgerReader
from relay.archive.reading.originators import OriginatorFolder, days_of, require_archive
from relay.archive.writer.journal import Journal, OpenDaySizes, replay
from relay.errors import CannotCreateError, DataError, NoInputError
from relay.syslog.rfc5424 import format_timestamp
from relay.system.disk import Disk, File, storage_error
from relay.values.text import printable_json

SCHEMA: Final = "relay.export/1"
MANIFEST: Final = "relay-export.json"
SUMS: Final = "SHA256SUMS"
ROOT: Final = "relay-export"
_CHUNK: Final = 1_048_576
_MODE: Final = 0o644
_NOT_A_FILE: Final = "move it away, and export once more"


class ExportScope(NamedTuple):
    """What is exported."""

    first_day: str = ""
    """Days of receipt, as 2026-11-30; empty: from the oldest."""
    last_day: str = ""
    """Empty: to the newest."""
    originators: Callable[[str], bool] | None = None
    """By the names of their folders; None: all."""

    def takes(self, folder: OriginatorFolder) -> bool:
        """Whether a folder is exported."""
        return self.originators is None or any(map(self.originators, (folder.name, folder.own_name)))


class ExportedFile(msgspec.Struct, frozen=True):
    """A file of the package."""

    path: str
    octets: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """The description in a package."""

    schema: str
    archive: str
    made: str
    """RFC 3339."""
    first_day: str
    last_day: str
    originators: list[str]
    files: list[ExportedFile]
    verify: list[str]


def read_manifest(folder: str) -> Manifest | None:
    """The description of an unpacked package; None: the folder is not one. DataError when it is damaged."""
    path = f"{folder}/{MANIFEST}"
    try:
        file = _opened(path)
    except FileNotFoundError:
        return None
    try:
        with file:
            return msgspec.json.decode(file.read(), type=Manifest)
    except OSError as error:
        raise storage_error(path, "read", error) from error
    except msgspec.MsgspecError as error:
        raise DataError(path, f"it is not a package's description: {error}", "unpack the package again") from error


class Export:
    """One package. `files` and `octets` are those that it holds once `write` has returned."""

    def __init__(self, disk: Disk, archive: str, scope: ExportScope) -> None:
        self._disk = disk
        self._archive = archive
        self._scope = scope
        open_days = OpenDaySizes()
        replay(Journal(disk, f"{archive}/{OWN}").read() or b"", open_days.take)
        self._open = open_days.days
        """By the journal."""
        self._newest: dict[str, str] = {}
        """The stem of each selected originator's newest day."""
        self._days = list(self._selected())
        self.files: list[ExportedFile] = []
        self.originators = sorted({folder.name for folder, _ in self._days})
        if not self._days:
            raise NoInputError(archive, "no day of the archive is selected", "name other days or originators")

    @property
    def octets(self) -> int:
        """Of all files, as they lie in the archive."""
        return sum(file.octets for file in self.files)

    def write(self, path: str, now: int) -> None:
        """Write the package; CannotCreateError when the file exists, StorageError when it cannot be written."""
        if self._disk.exists(path):
            raise CannotCreateError(path, "the file exists already", "remove it, or name another with --output")
        part = f"{path}.part"
        with self._disk.open(part, create=True) as file:
            try:
                file.truncate(0)
                with _compressed(_Output(file), path) as output, tarfile.open(fileobj=output, mode="w|") as package:
                    self._add_days(package)
                    self._add_manifest(package, now)
                file.sync()
            except BaseException:
                self._disk.remove(part)
                raise
        self._disk.replace(part, path)

    def _selected(self) -> Iterator[tuple[OriginatorFolder, DayFiles]]:
        scope = self._scope
        for folder in require_archive(self._disk, self._archive):
            if scope.takes(folder):
                for files in days_of(self._disk, folder):
                    self._newest[folder.name] = files.stem
                    if scope.first_day <= files.day <= (scope.last_day or "9"):
                        yield folder, files

    def _add_days(self, package: tarfile.TarFile) -> None:
        for folder, files in self._days:
            with ExitStack() as opened:
                name, log = self._log_of(folder, files)
                if log is not None:
                    opened.enter_context(log)
                recorded = None
                if files.ledger:  # after the log was opened: before retention removes one, the ledger says so
                    path = f"{folder.path}/{files.ledger}"
                    size, recorded, is_closed = _recorded(path)
                    if is_closed or not self._may_be_open(folder, files):
                        recorded = None
                    with _opened(path) as ledger:
                        whole = not is_closed and recorded is None
                        self._add(package, f"{folder.name}/{files.ledger}", ledger, None if whole else size)
                if log is not None:
                    self._add(package, f"{folder.name}/{name}", log, None if name.endswith(COMPRESSIONS) else recorded)

    def _log_of(self, folder: OriginatorFolder, files: DayFiles) -> tuple[str, BinaryIO | None]:
        """The name of a day's log, and the file, open; None: it has none, or retention has removed it meanwhile."""
        for name in possible_names(files.logs):
            with suppress(FileNotFoundError):
                return name, _opened(f"{folder.path}/{name}")
        return "", None

    def _may_be_open(self, folder: OriginatorFolder, files: DayFiles) -> bool:
        """Whether the writer may be adding to a day that has no closing."""
        paths = {f"{folder.name}/{files.stem}{suffix}" for suffix in LOG_SUFFIXES.values()}
        return self._newest.get(folder.name) == files.stem or not paths.isdisjoint(self._open)

    def _add(self, package: tarfile.TarFile, name: str, file: BinaryIO, size: int | None) -> None:
        """Add a file, up to this size."""
        source = _Hashing(file)
        try:
            facts = os.fstat(file.fileno())
            octets = facts.st_size if size is None else min(size, facts.st_size)
            package.addfile(_member(name, octets, int(facts.st_mtime)), cast("IO[bytes]", source))
        except OSError as error:
            raise storage_error(f"{self._archive}/{name}", "read", error) from error
        self.files.append(ExportedFile(name, octets, source.digest.hexdigest()))

    def _add_manifest(self, package: tarfile.TarFile, now: int) -> None:
        days = [files.day for _, files in self._days]
        manifest = Manifest(
            SCHEMA,
            self._archive,
            format_timestamp(now).decode(),
            min(days),
            max(days),
            self.originators,
            self.files,
            [f"`sha256sum --check {SUMS}` in this folder", "`relay archive verify .` in this folder"],
        )
        octets = msgspec.json.format(printable_json(msgspec.json.encode(manifest)), indent=1) + b"\n"
        sums = [(file.sha256, file.path) for file in self.files]
        sums.append((hashlib.sha256(octets).hexdigest(), MANIFEST))
        for name, data in ((MANIFEST, octets), (SUMS, "".join(f"{sha}  {path}\n" for sha, path in sums).encode())):
            package.addfile(_member(name, len(data), now // 1_000_000), io.BytesIO(data))


def _opened(path: str) -> BinaryIO:
    """Open a file, not a link, behind which any file of the machine could be. FileNotFoundError: it is gone."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NoInputError(path, "it is not a file", _NOT_A_FILE) from error
        raise NoInputError(path, f"cannot be read: {error.strerror}", "check the path and its mode") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NoInputError(path, "it is not a file", _NOT_A_FILE)
    return file


def _recorded(path: str) -> tuple[int, int, bool]:
    """The ledger's whole lines in octets, the log's octets that they describe, and whether the day is closed."""
    size, is_closed = 0, False
    for line in LedgerReader(path).lines_backward():  # one look, because the writer may be adding lines
        size = size or line.offset + len(line.octets)
        with suppress(LedgerError):
            entry = decode(line.octets)
            if isinstance(entry, Extent):
                return size, entry.off + entry.len, is_closed
            is_closed |= isinstance(entry, Closing | Removal)
    return size, 0, is_closed


def _member(name: str, octets: int, modified: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(f"{ROOT}/{name}")
    member.size, member.mtime, member.mode = octets, modified, _MODE
    return member


class _Hashing:
    """A file that hashes what is read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, length: int = -1) -> bytes:
        data = self._file.read(length)
        self.digest.update(data)
        return data


class _Output:
    """A package's octets, written one after the other."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._size = 0

    def write(self, data: bytes) -> int:
        self._file.write(data, self._size)
        self._size += len(data)
        return len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing: the package's file is its opener's."""


def _compressed(output: _Output, path: str) -> IO[bytes]:
    if not path.endswith(".zst"):
        return cast("IO[bytes]", output)
    import pyzstd  # noqa: PLC0415  30 ms, which a plain package does not need

    return cast("IO[bytes]", pyzstd.ZstdFile(cast("BinaryIO", output), "w"))
