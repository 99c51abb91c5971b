"""Checking an archive: every frame, every number, and the files against the index; also while its writer goes on.

    check = Check(disk, "/var/log/relay", terms)
    for originator in check.originators(): …     # one after the other, in order
    check.places, check.warnings                  # what concerns the archive as a whole

`completeness` says what the messages prove, `read` what a frame is. The index is the writer's journal: the identities
that it has seen, and the sizes that its commits gave the files since it was opened. An archive without one (a copy) is
judged by its messages alone.

Nothing is changed. The journal is read first, then an originator's sizes, the newest file's before the older ones',
and up to these its files: so what a writer adds meanwhile makes no hole. An end of the newest file that is no whole
frame is one that is being written while a writer runs, and damage when none does.

Memory: the journal, and one originator's numbers (see `completeness`); `MAX_PLACES` places an originator are kept, and
`MAX_KEPT` in all; further ones are counted. NoInputError when there is no archive or one of its files cannot be read,
StorageError when reading fails.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from relay.archive import query
from relay.archive.completeness.judgement import Judgement, JudgementScope
from relay.archive.completeness.message_trail import DOUBLE, MessageTrail
from relay.archive.completeness.spans import Span
from relay.archive.completeness.testimony import RunAndType
from relay.archive.read import ArchiveDamage, read
from relay.archive.writer.journal import Entry, Journal, OpenDaySizes, replay
from relay.archive.writer.seen_identities import SeenIdentities
from relay.errors import NoInputError
from relay.syslog import rfc5424
from relay.system.disk import Disk, storage_error

MAX_PLACES: Final = 100
MAX_KEPT: Final = 10_000
_OWN: Final = ".relay"
_KNOWN: Final = frozenset({"journal", "journal.new", "lock"})
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class ArchiveDefect(NamedTuple):
    """Where the archive is not as its writer left it."""

    kind: str
    """`damaged` octets that are no frame; a `double`; a `malformed` message; an `index` that is damaged; a file that is
    `file gone` or `file cut` since the index last told of it."""
    path: str
    offset: int = 0
    octets: int = 0
    run: bytes = b""
    type: bytes = b""
    number: int = 0


class ArchiveNotice(NamedTuple):
    """What is no fault, but should be known."""

    kind: str
    """`foreign`: not made by relay, and not read; `open`: others than its owner may write to it; `copy`: kept by the
    writer, of what it cut or of a damaged journal; `uncommitted`: written, but by no commit."""
    path: str
    octets: int = 0


class Originator(NamedTuple):
    """One folder of the archive."""

    name: str
    days: tuple[str, ...]
    """The first and the last with a file; none when there is no file."""
    octets: int
    damaged: int
    """Places with octets that are no frame."""
    doubles: int
    malformed: int
    being_written: int
    """Octets of a frame that its writer has not finished."""
    places: tuple[ArchiveDefect, ...]
    judgement: Judgement

    @property
    def broken(self) -> int:
        """All places, also those that are not kept."""
        return self.damaged + self.doubles + self.malformed

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.broken or self.judgement.faults or self.judgement.unjudged)


class _Tally:
    """What is wrong with one originator's files."""

    def __init__(self, room: int) -> None:
        self._room = min(room, MAX_PLACES)
        self.kinds: dict[str, int] = {}
        self.places: list[ArchiveDefect] = []
        self.being_written = 0

    def add(self, place: ArchiveDefect) -> None:
        self.kinds[place.kind] = self.kinds.get(place.kind, 0) + 1
        if len(self.places) < self._room:
            self.places.append(place)


class ArchiveCheck:
    """The check of one archive."""

    def __init__(self, disk: Disk, folder: str, terms: JudgementScope, first_day: str = "") -> None:
        """`first_day`: earlier ones are left out, and `terms.begun` is to say so."""
        self.places: list[ArchiveDefect] = []
        """Those of no originator."""
        self.warnings: list[ArchiveNotice] = []
        self.unwarned = 0
        """Further warnings."""
        self.indexed = False
        """Whether there is an index."""
        self._disk = disk
        self.folder = folder
        self._terms = terms
        self.first_day = first_day
        self._room = MAX_KEPT
        if not os.path.isdir(folder):
            cause = "it is no folder" if disk.exists(folder) else "there is no such folder"
            raise NoInputError(folder, cause, "name another folder")
        self.pid = disk.lock_owner(f"{folder}/{_OWN}/lock")
        """The process that writes there; None when nobody does."""
        self._sizes, self._known = self._read_index()
        self._names = self._look_around()

    def originators(self) -> Iterator[Originator]:
        """Check one originator after the other."""
        for name in sorted({*self._names, *self._known}):
            yield self._originator(name)
        self._compare_files()

    # --- The index ---

    def _read_index(self) -> tuple[dict[str, int], Mapping[str, dict[RunAndType, list[Span]]]]:
        """Sizes of files, and for each folder the numbers that were seen."""
        journal = Journal(self._disk, f"{self.folder}/{_OWN}")
        data = journal.read()
        if data is None:
            return {}, {}
        self.indexed = True
        days, seen = OpenDaySizes(), SeenIdentities()

        def take(entry: Entry) -> None:
            days.take(entry)
            seen.restore(entry.seen)

        said = replay(data, take)
        if said.damaged or not said.records:  # it is never without its first record, whatever crashes
            self.places.append(ArchiveDefect("index", journal.path, 0, len(data)))
        sizes = {day.path: day.log for day in days.days.values()}
        return sizes, self._by_folder(seen)

    def _by_folder(self, seen: SeenIdentities) -> dict[str, dict[RunAndType, list[Span]]]:
        found: dict[str, dict[RunAndType, list[Span]]] = {}
        for marks in seen.all():
            for (folder, run, kind), spans, _ in marks.numbers:
                found.setdefault(folder.decode(), {})[RunAndType(run, kind)] = list(spans)
        return found

    def _compare_files(self) -> None:
        """Find files that are shorter than the index knows, or gone."""
        for path, size in sorted(self._sizes.items()):
            full = f"{self.folder}/{path}"
            found = query.size(full)
            if path.rpartition("/")[2] < self.first_day or found == size:
                continue
            if found < size:
                self.places.append(ArchiveDefect("file cut" if found else "file gone", full, found, size - found))
            elif self.pid is None and self._writer() is None:
                self._warn(ArchiveNotice("uncommitted", full, found - size))

    def _writer(self) -> int | None:
        return self._disk.lock_owner(f"{self.folder}/{_OWN}/lock")

    # --- What lies there ---

    def _look_around(self) -> list[str]:
        """The originators' folders; what relay did not make is told."""
        self._look_at(self.folder)
        names = []
        for name in self._disk.names(self.folder):
            path = f"{self.folder}/{name}"
            if name == _OWN:
                self._look_at_own(path)
            elif os.path.islink(path) or not os.path.isdir(path):
                self._warn(ArchiveNotice("foreign", path))
            elif name in self._known or query.days_of(self._disk, self.folder, name):
                names.append(name)
            else:
                self._warn(ArchiveNotice("foreign", path))
        if not names and not self.indexed:
            cause = "it is not an archive: it has neither an index nor a day's file"
            raise NoInputError(self.folder, cause, "name another folder")
        return names

    def _look_at_own(self, folder: str) -> None:
        self._look_at(folder)
        for name in self._disk.names(folder):
            path = f"{folder}/{name}"
            self._look_at(path)
            if name.startswith(("cut-", "journal.damaged-")):
                self._warn(ArchiveNotice("copy", path, query.size(path)))
            elif name not in _KNOWN:
                self._warn(ArchiveNotice("foreign", path))

    def _look_at(self, path: str) -> None:
        """Tell of a mode that lets others write."""
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(path, "stat", error) from error
        if mode & _OTHERS_MAY_WRITE and not stat.S_ISLNK(mode):
            self._warn(ArchiveNotice("open", path))

    def _warn(self, warned: ArchiveNotice) -> None:
        if len(self.warnings) < MAX_PLACES:
            self.warnings.append(warned)
        else:
            self.unwarned += 1

    # --- One originator ---

    def _originator(self, name: str) -> Originator:
        days = self._days(name)
        # The newest one's first: while an older one is measured, nothing in a newer one is known that came after it.
        sizes = {day: query.size(query.path_of(self.folder, name, day)) for day in reversed(days)}
        trail, tally = MessageTrail(), _Tally(self._room)
        for day in days:
            self._read_file(query.path_of(self.folder, name, day), sizes[day], trail, tally, newest=day == days[-1])
        self._room -= len(tally.places)
        return Originator(
            name,
            (days[0], days[-1]) if days else (),
            sum(sizes.values()),
            tally.kinds.get("damaged", 0),
            tally.kinds.get(DOUBLE, 0),
            tally.kinds.get("malformed", 0),
            tally.being_written,
            tuple(tally.places),
            trail.judge(self._known.get(name, {}), self._terms),
        )

    def _days(self, name: str) -> list[str]:
        """The days that are read; the folder's other files are told."""
        folder = f"{self.folder}/{name}"
        self._look_at(folder)
        days = query.days_of(self._disk, self.folder, name)
        made = {f"{day}{suffix}" for day in days for suffix in (".log", ".ledger")}
        for file in self._disk.names(folder):
            path = f"{folder}/{file}"
            self._look_at(path)
            if file not in made or os.path.islink(path) or not os.path.isfile(path):
                self._warn(ArchiveNotice("foreign", path))
        return [day for day in days if day >= self.first_day]

    def _read_file(self, path: str, size: int, trail: MessageTrail, tally: _Tally, *, newest: bool) -> None:
        if not size:
            return
        for item in read(path, 0, size):
            if isinstance(item, ArchiveDamage):
                if item.at_end and newest and (self.pid is not None or self._writer() is not None):
                    tally.being_written = item.length
                else:
                    tally.add(ArchiveDefect("damaged", path, item.offset, item.length))
            elif wrong := trail.add(item.message):
                tally.add(_place(wrong, path, item.offset, item.message))


def _place(kind: str, path: str, offset: int, message: bytes) -> ArchiveDefect:
    """Where a message with an identity is wrong."""
    identity = rfc5424.identity(message)
    named = (identity.run, identity.type, identity.sequence) if identity else (b"", b"", 0)
    return ArchiveDefect(kind, path, offset, len(message), *named)
