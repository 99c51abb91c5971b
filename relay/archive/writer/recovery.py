"""What the archive's writer begins with: the journal, compared with the files.

- The journal is whole, and the spool is the one that it was written for: logs and ledgers are cut back to their sizes
  in the journal. What is cut comes again after the cursor. If the journal says that the writer before had stopped,
  nothing is cut: another program has written it.
- Otherwise, also when the journal is an older copy, nothing is cut, because some of it may not come again. The writer
  begins a new part of every day (`DATE.2.log`), and the identities that the journal does not know are read from each
  originator's newest two ledgers.

A log or ledger that is shorter than the journal says was changed by another program. The writer notices that before it
appends anything, and begins a new part as well.

Copies of what is cut (`cut-N`: for each piece `PATH OFFSET LENGTH` LF, the octets, LF) and of a damaged journal
(`journal.damaged-N`) are kept in the folder `.relay`, the last eight of each. On a full disk a cut is made without its
copy, because the messages come again and the cut makes room.
"""

import errno
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, NamedTuple

from relay.archive import layout
from relay.archive.identity import SequenceKey, usable
from relay.archive.layout import ASIDE, LEDGER_SUFFIX
from relay.archive.ledger import Extent, LedgerError, decode
from relay.archive.writer.charged_sender import RECEIVER, charged_sender
from relay.archive.writer.journal import DaySizes, Entry, OpenDaySizes, Replay, replay
from relay.archive.writer.seen_identities import SeenIdentities
from relay.errors import StorageError
from relay.system.disk import Disk

MAX_COPIES: Final = 8
NESTING: Final = "~"
"""Folders whose names begin so hold originators' folders themselves."""
WHOLE_DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Errors that do not concern a single file."""
_LEARNED_LEDGERS: Final = 2
_CHUNK: Final = 1024 * 1024
_CUT_THREADS: Final = 8
_WORTH_THREADS: Final = 16


_log = logging.getLogger("relay.archive")


class FileTail(NamedTuple):
    """What was appended to a file and never committed."""

    day: str
    """The log's path below the archive."""
    path: str
    """The file's path below the archive."""
    start: int
    end: int


class Recovered(NamedTuple):
    """The state to begin with, and what was done to reach it."""

    cursor: bytes | None
    days: dict[str, DaySizes]
    """The open days, by their logs' paths; the longest untouched first."""
    seen: SeenIdentities
    cut: int = 0
    """Octets that were cut."""
    learned: int = 0
    """Messages whose identities were read from ledgers."""
    damaged: bool = False
    """Whether the journal was."""
    journal_end: int = 0
    """Where the journal can be continued; 0: it cannot."""


def recover(
    disk: Disk, folder: str, spool_id: str, journal: bytes | None, is_outdated: Callable[[bytes], bool]
) -> Recovered:
    """Bring logs and ledgers into a state that is known, and return it.

    `is_outdated` says of a cursor whether the archive has proven more than that, so that the spool may have deleted it.
    """
    own = f"{folder}/{layout.OWN}"
    seen, days = SeenIdentities(), OpenDaySizes()
    last: Entry | None = None

    def take(entry: Entry) -> None:
        nonlocal last
        last = entry
        days.take(entry)
        seen.restore(entry.seen)

    found = Replay(0, torn=False, damaged=False) if journal is None else replay(journal, take)
    if found.damaged and journal is not None:
        _keep(disk, own, "journal.damaged", [journal])
    same_spool = last is not None and last.spool_id == spool_id
    cursor = last.cursor if last is not None and same_spool else None
    if cursor is not None and is_outdated(cursor):
        _log.error("%s/journal is an older copy: nothing is cut, and every originator begins a new part", own)
    elif same_spool and not found.damaged:
        cut = 0 if last is not None and last.settled else _cut(disk, folder, days.days)
        return Recovered(cursor, days.days, seen, cut, journal_end=found.end)
    learned = sum(learn(disk, seen, folder, name) for name in originators(disk, folder))
    seen.take()
    return Recovered(cursor, {}, seen, 0, learned, found.damaged)


def originators(disk: Disk, folder: str) -> Iterator[str]:
    """The originators' folders, by their paths below the archive."""
    for name in disk.names(folder):
        if name == layout.OWN or not _is_folder(f"{folder}/{name}"):
            continue
        if name.startswith(NESTING) and name != layout.OTHERS:
            yield from (
                f"{name}/{inner}" for inner in disk.names(f"{folder}/{name}") if _is_folder(f"{folder}/{name}/{inner}")
            )
        else:
            yield name


def learn(disk: Disk, seen: SeenIdentities, archive: str, name: str) -> int:
    """Mark the identities in an originator's newest ledgers as seen; how many lines these ledgers describe."""
    lines = 0
    with suppress(StorageError):
        days = [day for day in layout.days_in(disk.names(f"{archive}/{name}")) if day.ledger]
        for day in days[-_LEARNED_LEDGERS:]:
            for extent in extents(disk, f"{archive}/{name}/{day.ledger}"):
                lines += extent.n
                _mark_all(seen, name.removeprefix(f"{ASIDE}/"), extent)
    return lines


def extents(disk: Disk, path: str, end: int | None = None) -> Iterator[Extent]:
    """The extents of a ledger, or of its first `end` octets; lines that are damaged are passed over."""
    with disk.open(path, writable=False) as file:
        end = file.size if end is None else end
        offset, rest = 0, b""
        while offset < end and (chunk := file.read(min(_CHUNK, end - offset), offset)):
            offset += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                with suppress(LedgerError):
                    found = decode(line)
                    if isinstance(found, Extent):
                        yield found


def _mark_all(seen: SeenIdentities, name: str, extent: Extent) -> None:
    sender = charged_sender(extent.sender, extent.identity) if extent.sender else RECEIVER
    for run, kind, first, last, *parts in extent.id:
        key = SequenceKey(name.encode(), str(run).encode(), str(kind).encode())
        if parts:
            if usable(first, parts[1]):
                seen.add(key, first, parts[0], parts[1], sender)
        elif usable(last, 1):
            seen.add_all(key, first, last, sender)


def _size_of(path: str) -> int:
    """The size of a log or ledger; 0 when there is none, or when it cannot be used."""
    try:
        facts = os.lstat(path)
    except OSError:
        return 0
    return facts.st_size if stat.S_ISREG(facts.st_mode) else 0


def _tails(folder: str, days: dict[str, DaySizes]) -> Iterator[FileTail]:
    """What lies behind the journal's sizes."""
    for path, log, ledger, _ in days.values():
        for name, size in ((path, log), (ledger_of(path), ledger)):
            found = _size_of(f"{folder}/{name}")
            if found > size:
                yield FileTail(path, name, size, found)


def ledger_of(path: str) -> str:
    """The path of the ledger beside a log."""
    return path.rpartition(".")[0] + LEDGER_SUFFIX


def _cut(disk: Disk, folder: str, days: dict[str, DaySizes]) -> int:
    """Cut the files, after a copy unless the disk is full. A day whose files cannot be cut is given up."""
    tails = list(_tails(folder, days))
    if not tails:
        return 0
    try:
        _keep(disk, f"{folder}/{layout.OWN}", "cut", _pieces(disk, folder, tails))
    except StorageError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
    # Each file is synced, and thousands of originators may have begun in the commit that was interrupted.
    with ThreadPoolExecutor(_CUT_THREADS, thread_name_prefix="archive cut") as pool:
        cuts = (map if len(tails) < _WORTH_THREADS else pool.map)(lambda tail: _cut_file(disk, folder, tail), tails)
        for tail, is_cut in zip(tails, cuts, strict=True):
            if not is_cut:
                days.pop(tail.day, None)
    return sum(tail.end - tail.start for tail in tails)


def _cut_file(disk: Disk, folder: str, tail: FileTail) -> bool:
    """Cut one file; False when just this one cannot be cut."""
    try:
        with disk.open(f"{folder}/{tail.path}") as file:
            file.truncate(tail.start)
            file.sync()
    except StorageError as error:
        if error.errno in WHOLE_DISK_ERRORS:
            raise
        return False
    return True


def _pieces(disk: Disk, folder: str, tails: list[FileTail]) -> Iterator[bytes]:
    for _, path, start, end in tails:
        yield b"%b %d %d\n" % (path.encode(), start, end - start)
        with suppress(StorageError), disk.open(f"{folder}/{path}", writable=False) as file:
            for offset in range(start, end, _CHUNK):
                yield file.read(min(_CHUNK, end - offset), offset)
        yield b"\n"


def _keep(disk: Disk, own: str, stem: str, pieces: Iterable[bytes]) -> None:
    """Keep a copy under the next number, and the last ones before it; durable on return.

    A copy that cannot be finished leaves no file, and costs no former copy: a full disk is met again and again.
    """
    numbers = sorted(int(name[len(stem) + 1 :]) for name in disk.names(own) if re.fullmatch(stem + r"-\d+", name))
    path = f"{own}/{stem}-{numbers[-1] + 1 if numbers else 1}"
    try:
        with disk.open(path, create=True) as file:
            offset = 0
            for piece in pieces:
                file.write(piece, offset)
                offset += len(piece)
            file.sync()
    except StorageError:
        with suppress(StorageError):
            disk.remove(path)
        raise
    for number in numbers[: max(0, len(numbers) + 1 - MAX_COPIES)]:
        disk.remove(f"{own}/{stem}-{number}")
    disk.sync_folder(own)


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)
