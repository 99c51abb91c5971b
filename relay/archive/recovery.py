"""What the archive's writer begins with: the journal's word, compared with what the files hold now.

Where the journal is whole and the spool the one it was written for, the word is exact: what stands beyond it is cut.
Otherwise it is not, and the identities of the messages that it does not know are read from the files instead; without
any journal, from each originator's files of the newest two days. A file that someone deleted or cut is taken as it is.

Copies of what is cut (`cut-N`: for each piece `PATH OFFSET LENGTH` LF, the octets, LF) and of a damaged journal
(`journal.damaged-N`) are kept in the folder `.relay`, the last eight of each. On a full disk a cut is made without its
copy, for the messages come again and the cut makes room.
"""

import errno
import os
import re
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from relay.archive.identity import Seen, SequenceKey, usable
from relay.archive.journal import FileGrowth, Replay, gaps, replay
from relay.archive.read import ArchiveDamage, read
from relay.errors import NoInputError, StorageError
from relay.syslog import rfc5424
from relay.system.disk import Disk, storage_error

MAX_COPIES = 8
_DAY_FILE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\.log")
_SCANNED_DAYS = 2
_CHUNK = 1024 * 1024


class Recovered(NamedTuple):
    """The state to begin with, and what was done to reach it."""

    cursor: bytes | None
    sizes: dict[str, int]
    """Of the data files, by their path below the archive; the longest untouched first."""
    seen: Seen
    cut: int = 0
    """Octets that were cut."""
    learned: int = 0
    """Messages whose identity was read from the files."""
    damaged: bool = False
    """Whether the journal was."""


def mark(seen: Seen, hostname: bytes | None, message: bytes) -> bool:
    """Mark a message's identity as seen; False when it was seen before. One without an identity is always new."""
    identity = rfc5424.identity(message)
    if identity is None:
        return True
    run, type_, number, part, parts = identity
    return not usable(number, parts) or seen.add(SequenceKey(hostname or b"", run, type_), number, part, parts)


def recover(disk: Disk, folder: str, spool_id: str, journal: bytes | None) -> Recovered:
    """Bring the data files into a state that is known, and say which."""
    own = f"{folder}/.relay"
    said = Replay((), torn=False, damaged=False) if journal is None else replay(journal)
    if said.damaged and journal is not None:
        _keep(disk, own, "journal.damaged", [journal])
    sizes, seen = _state(said)
    last = said.entries[-1] if said.entries else None
    same_spool = last is not None and last.spool_id == spool_id
    unknown = list(_unknown(folder, said, sizes) if said.entries else _newest(disk, folder))
    cut = learned = 0
    if same_spool and not said.damaged:
        cut = _cut(disk, folder, unknown, keep_copy=False)
    else:
        learned = sum(_learn(seen, f"{folder}/{growth.path}", growth) for growth in unknown)
        cut = _cut(disk, folder, list(_torn(folder, unknown)), keep_copy=True)
        _sync(disk, folder, unknown)
    seen.take()
    _measure(folder, sizes, unknown)
    return Recovered(last.cursor if last and same_spool else None, sizes, seen, cut, learned, said.damaged)


def size_of(path: str) -> int | None:
    """Look at a data file: its size, None when there is none; StorageError when it is no regular file."""
    try:
        facts = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise storage_error(path, "stat", error) from error
    if not stat.S_ISREG(facts.st_mode):
        raise StorageError(path, "is no regular file", "move it out of the archive")
    return facts.st_size


def _state(said: Replay) -> tuple[dict[str, int], Seen]:
    sizes: dict[str, int] = {}
    seen = Seen()
    for entry in said.entries:
        for path, size in (*entry.begun, *((path, end) for path, _, end in entry.grown)):
            sizes.pop(path, None)
            sizes[path] = size
        seen.restore(entry.seen)
    return sizes, seen


def _found(path: str) -> int | None:
    """The size of a data file; None too when it cannot be used: writing to it will say why."""
    try:
        return size_of(path)
    except StorageError:
        return None


def _unknown(folder: str, said: Replay, sizes: dict[str, int]) -> Iterator[FileGrowth]:
    """What the journal does not know: what stood in lost records, and the files' tails."""
    yield from gaps(said.entries)
    for path, size in sizes.items():
        found = _found(f"{folder}/{path}")
        if found is not None and found > size:
            yield FileGrowth(path, size, found)


def _newest(disk: Disk, folder: str) -> Iterator[FileGrowth]:
    for originator in disk.names(folder):
        if originator == ".relay" or not os.path.isdir(f"{folder}/{originator}"):
            continue
        days = [name for name in disk.names(f"{folder}/{originator}") if _DAY_FILE.fullmatch(name)]
        for name in days[-_SCANNED_DAYS:]:
            path = f"{originator}/{name}"
            yield FileGrowth(path, 0, _found(f"{folder}/{path}") or 0)


def _learn(seen: Seen, path: str, growth: FileGrowth) -> int:
    """Read identities from a file, as far as it can be read."""
    learned = 0
    with suppress(NoInputError, StorageError):
        for item in read(path, growth.start, growth.end):
            if not isinstance(item, ArchiveDamage):
                mark(seen, rfc5424.hostname(item.message), item.message)
                learned += 1
    return learned


def _torn(folder: str, ranges: Iterable[FileGrowth]) -> Iterator[FileGrowth]:
    """The last frames that are not whole."""
    for path, start, end in ranges:
        with suppress(NoInputError, StorageError):
            items = deque(read(f"{folder}/{path}", start, end), maxlen=1)
            if items and isinstance(items[0], ArchiveDamage) and _found(f"{folder}/{path}") == end:
                yield FileGrowth(path, items[0].offset, end)


def _cut(disk: Disk, folder: str, tails: list[FileGrowth], *, keep_copy: bool) -> int:
    """Cut the files after a copy; without one only if the disk is full and `keep_copy` does not forbid it."""
    if not tails:
        return 0
    try:
        _keep(disk, f"{folder}/.relay", "cut", _pieces(disk, folder, tails))
    except StorageError as error:
        if keep_copy or error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
    for path, start, _ in tails:
        with disk.open(f"{folder}/{path}") as file:
            file.truncate(start)
            file.sync()
    return sum(end - start for _, start, end in tails)


def _pieces(disk: Disk, folder: str, tails: list[FileGrowth]) -> Iterator[bytes]:
    for path, start, end in tails:
        yield b"%b %d %d\n" % (path.encode(), start, end - start)
        with disk.open(f"{folder}/{path}", writable=False) as file:
            for offset in range(start, end, _CHUNK):
                yield file.read(min(_CHUNK, end - offset), offset)
        yield b"\n"


def _keep(disk: Disk, own: str, stem: str, pieces: Iterable[bytes]) -> None:
    """Keep a copy under the next number, and the last ones before it; durable on return."""
    numbers = sorted(int(name[len(stem) + 1 :]) for name in disk.names(own) if re.fullmatch(stem + r"-\d+", name))
    for number in numbers[: max(0, len(numbers) + 1 - MAX_COPIES)]:
        disk.remove(f"{own}/{stem}-{number}")
    path = f"{own}/{stem}-{numbers[-1] + 1 if numbers else 1}"
    with disk.open(path, create=True) as file:
        offset = 0
        for piece in pieces:
            file.write(piece, offset)
            offset += len(piece)
        file.sync()
    disk.sync_folder(own)


def _sync(disk: Disk, folder: str, ranges: Iterable[FileGrowth]) -> None:
    """Make durable what was only found in the files."""
    for path in {path for path, _, _ in ranges}:
        if _found(f"{folder}/{path}") is not None:
            with disk.open(f"{folder}/{path}") as file:
                file.sync()


def _measure(folder: str, sizes: dict[str, int], unknown: Iterable[FileGrowth]) -> None:
    """Bring the sizes to what the files have now; those that are gone are forgotten."""
    for path in dict.fromkeys((*sizes, *(path for path, _, _ in unknown))):
        size = _found(f"{folder}/{path}")
        if size is None:
            sizes.pop(path, None)
        else:
            sizes[path] = size
