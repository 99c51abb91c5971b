"""The file that keeps how far a history was read, so that the next process continues there.

JSON: {"schema": "relay.bookmark/1", "originators": {FOLDER: {STEM: {"off", "passed": [[OFF, LINE, SHA256]…],
"finished"}}}} for an archive; {"schema": …, "spools": {NAME: {"spool", "first", "offset", "number", "block", "used"}}}
for a spool. It replaces the former file as a whole, and is on the disk when `save` returns.
"""

import os
from typing import Annotated, Final

import msgspec

from relay.errors import DataError, NoInputError
from relay.program.history.reading_position import DayPosition, OriginatorPosition, PassedLine
from relay.system.disk import Disk

SCHEMA: Final = "relay.bookmark/1"
_REMEDY: Final = "name another file, or remove it to begin with the oldest event"


class SpoolPosition(msgspec.Struct, frozen=True):
    """How far one spool was read."""

    spool: str
    """Its id, in hex."""
    first: int
    offset: int
    number: int
    """Where the walk continues (`BlockLocation`)."""
    block: int = 0
    used: int = 0
    """Of the block with this number so many messages were used."""


class _LogEntry(msgspec.Struct, frozen=True):
    off: Annotated[int, msgspec.Meta(ge=0)]
    passed: tuple[tuple[int, int, str], ...]
    finished: bool


class _Content(msgspec.Struct, frozen=True, omit_defaults=True):
    schema: str
    originators: dict[str, dict[str, _LogEntry]] | None = None
    spools: dict[str, SpoolPosition] | None = None


class Bookmark:
    """The bookmark file."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self.path = os.path.abspath(path)
        self._saved = b""

    def archive_positions(self) -> dict[str, OriginatorPosition]:
        """By the originator's folder; empty when there is no file yet."""
        content = self._read()
        if content is not None and content.originators is None:
            raise DataError(self.path, "it is the bookmark of a spool", _REMEDY)
        found: dict[str, OriginatorPosition] = {}
        for name, logs in ((content and content.originators) or {}).items():
            position = found[name] = OriginatorPosition()
            for stem, log in logs.items():
                passed = [PassedLine(*line) for line in log.passed]
                position.logs[stem] = DayPosition(log.off, passed, log.finished)
        return found

    def spool_positions(self) -> dict[str, SpoolPosition]:
        """By the spool's name; empty when there is no file yet."""
        content = self._read()
        if content is not None and content.spools is None:
            raise DataError(self.path, "it is the bookmark of an archive", _REMEDY)
        return (content and content.spools) or {}

    def save_archive(self, positions: dict[str, OriginatorPosition]) -> None:
        """Keep these positions; StorageError when they cannot be written."""
        self._write(
            _Content(
                SCHEMA,
                originators={
                    name: {
                        stem: _LogEntry(log.off, tuple(log.passed), log.finished) for stem, log in position.logs.items()
                    }
                    for name, position in positions.items()
                },
            )
        )

    def save_spools(self, positions: dict[str, SpoolPosition]) -> None:
        """Keep these positions; StorageError when they cannot be written."""
        self._write(_Content(SCHEMA, spools=positions))

    def _read(self) -> _Content | None:
        if not self._disk.exists(self.path):
            if not os.path.isdir(os.path.dirname(self.path)):
                raise NoInputError(os.path.dirname(self.path), "there is no such folder", "create it, or name another")
            return None
        with self._disk.open(self.path, writable=False) as file:
            octets = file.read(file.size, 0)
        try:
            content = msgspec.json.decode(octets, type=_Content)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DataError(self.path, f"it is not a bookmark: {error}", _REMEDY) from None
        if content.schema != SCHEMA:
            raise DataError(self.path, f"it is not a bookmark that this relay can read: {content.schema}", _REMEDY)
        return content

    def _write(self, content: _Content) -> None:
        octets = msgspec.json.encode(content) + b"\n"
        if octets == self._saved:
            return
        new = f"{self.path}.new"
        with self._disk.open(new, create=True) as file:
            file.truncate(0)
            file.write(octets, 0)
            file.sync()
        self._disk.replace(new, self.path)
        self._saved = octets
