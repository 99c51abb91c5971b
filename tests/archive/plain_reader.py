"""A reader of the archive that shares no code with relay: FORMAT.md, Python's json and hashlib.

    for line in read_archive(folder): line.message, line.extent, line.marks

An AssertionError names the first thing that is not as FORMAT.md says.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harness.compressors import compressor

SUFFIXES = (".log", ".jsonl")


class PlainLine(NamedTuple):
    """One line of a log."""

    folder: str
    log: str
    line: bytes
    extent: dict[str, Any]
    marks: list[str]

    @property
    def message(self) -> bytes:
        """The message that was received."""
        return re.sub(rb"#([0-3][0-7]{2})", lambda found: bytes([int(found[1], 8)]), self.line)


def read_archive(archive: Path) -> list[PlainLine]:
    """All lines of all originators; the chain of every ledger is checked."""
    folders = [path for path in archive.iterdir() if path.is_dir() and path.name != ".relay"]
    nested = [path for folder in folders if folder.name.startswith("~") for path in folder.iterdir()]
    plain = [folder for folder in folders if not folder.name.startswith("~")]
    return [line for folder in sorted(plain + nested) for line in read_originator(archive, folder)]


def read_originator(archive: Path, folder: Path) -> Iterator[PlainLine]:
    """The lines of one folder, ledger by ledger."""
    for path in sorted(folder.glob("*.ledger")):
        yield from _read_day(archive, path)


def _read_day(archive: Path, path: Path) -> Iterator[PlainLine]:
    lines = path.read_bytes().splitlines(keepends=True)
    heading = json.loads(lines[0])
    assert heading["format"] == 2, path
    previous = b""
    if heading["after"] is not None:
        before = (path.parent / heading["after"]).read_bytes().splitlines(keepends=True)
        previous = next(line for line in reversed(before) if line.endswith(b"\n") and b'{"removed"' not in line)
    log = path.parent / heading["log"]
    is_removed = b'{"removed"' in lines[-1]
    octets = b"" if is_removed else _octets(log)  # a killed keeper may not have deleted the log yet
    end = 0
    for index, line in enumerate(lines):
        assert line.endswith(b"\n"), (path, "a torn line")
        said = json.loads(line)
        data = b""
        if "off" in said and not is_removed:
            assert said["off"] == end, (path, "extents follow one another")
            end += said["len"]
            data = octets[said["off"] : end]
            assert data.count(b"\n") == said["n"], (path, line)
            assert data.endswith(b"\n"), (path, line)
        if "off" not in said or not is_removed:  # the hash of an extent needs the octets
            bare = line.rstrip(b"\n").replace(b',"sha256":"%b"' % said["sha256"].encode(), b"")
            assert hashlib.sha256(previous + bare + data).hexdigest() == said["sha256"], (path, line)
        if "closed" in said:
            assert len(lines) == index + 1 + is_removed, (path, "something follows the closing")
        if "off" in said and not is_removed:
            yield from _lines_of(str(path.parent.relative_to(archive)), log.name, said, data)
        previous = line
    assert end == len(octets), (path, "octets that no extent describes")


def _octets(log: Path) -> bytes:
    """The log's, also of a compressed one."""
    copy = log.with_name(f"{log.name}.zst")
    if log.exists() or not copy.exists():
        return log.read_bytes() if log.exists() else b""
    return compressor("zstd", "-q", "-dc", copy)


def _lines_of(folder: str, log: str, extent: dict[str, Any], data: bytes) -> Iterator[PlainLine]:
    marks: dict[int, list[str]] = {}
    for place, labels in extent.get("marks", {}).items():
        first, _, last = place.partition("-")
        marks.update(dict.fromkeys(range(int(first), int(last or first) + 1), labels))
    for number, line in enumerate(data[:-1].split(b"\n")):
        yield PlainLine(folder, log, line, extent, marks.get(number, []))
