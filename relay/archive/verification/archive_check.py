"""Checking an archive: every octet, every number, and the files against the journal; also while its writer goes on.

    check = ArchiveCheck(disk, "/var/log/relay", scope)
    for originator in check.originators(): …     # one after the other, in order
    check.places, check.notices                   # what concerns the archive as a whole

Nothing is changed. The journal is read first, then each originator's days, in order. So what a writer adds meanwhile
is never missed. Lines after a ledger's end are being written while a writer runs, and unrecorded when none does.

An archive without a journal is checked by its ledgers and logs alone, and never found whole: nothing says which files
there were (`verifiable`). A package has its description instead of a journal. A chain that continues a ledger which is
not here is not a fault, and it is reported: numbers before it are not missed.

Memory: the journal, one chunk of a log, and one originator's numbers (`completeness`). NoInputError when there is no
archive, StorageError when reading fails. A file that cannot be read is a defect.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from relay.archive.completeness.assessment import AssessmentScope, Completeness
from relay.archive.completeness.number_trail import NumberTrail
from relay.archive.completeness.relay_reports import RunAndType
from relay.archive.completeness.spans import Span
from relay.archive.days.vanished_days import read_vanished
from relay.archive.export import MANIFEST, SUMS, Manifest, read_manifest
from relay.archive.filing.bound_names import BoundNames
from relay.archive.identity import Intervals
from relay.archive.layout import ASIDE, LEDGER_SUFFIX, LOG_SUFFIXES, OWN, DayFiles, days_in, unknown_in
from relay.archive.ledger import FileChange
from relay.archive.ledgers.ledger_reader import LedgerReader
from relay.archive.reading.day_log import DayLog
from relay.archive.reading.log_octets import OpenLogs
from relay.archive.reading.originators import SHELVES, OriginatorFolder, days_of, require_archive
from relay.archive.verification.day_check import DayCheck
from relay.archive.verification.findings import (
    MAX_PLACES,
    ArchiveDefect,
    ArchiveNotice,
    CheckedOriginator,
    OriginatorFindings,
)
from relay.archive.writer.journal import DaySizes, Entry, Journal, OpenDaySizes, replay
from relay.archive.writer.recovery import ledger_of
from relay.archive.writer.seen_identities import SeenIdentities
from relay.errors import DataError, NoInputError, StorageError
from relay.syslog.rfc5424 import format_timestamp
from relay.system.disk import Disk, storage_error

MAX_KEPT: Final = 10_000
EXPORT_FILES: Final = frozenset({MANIFEST, SUMS})
"""What `relay archive export` adds to a part of an archive."""
_OWN_FILES: Final = frozenset(
    {"journal", "journal.new", "lock", "vanished.json", "vanished.json.new", "aside", "changed"}
)
_COPIES: Final = ("cut-", "journal.damaged-")
_FOREIGN_COMPRESSIONS: Final = (".gz", ".xz")
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class ArchiveCheck:
    """The check of one archive."""

    def __init__(
        self,
        disk: Disk,
        folder: str,
        scope: AssessmentScope,
        first_day: str = "",
        names: BoundNames = BoundNames(),  # noqa: B008  it never changes
    ) -> None:
        """`first_day`: earlier days are left out, and `scope.begun` must say so. `names`: those that are bound."""
        self._names = names
        self.places: list[ArchiveDefect] = []
        """Those of no originator."""
        self.notices: list[ArchiveNotice] = []
        self.more_notices = 0
        self.folder = folder
        self.first_day = first_day
        self.has_journal = False
        self._settled = False
        """Whether the writer had stopped, when the journal was read."""
        self.package: Manifest | None = None
        """The description of a package that `relay archive export` made; None: the folder is not one."""
        self._disk = disk
        self._scope = scope
        self._room = MAX_KEPT
        self._logs = OpenLogs()
        self._folders = {each.name: each for each in require_archive(disk, folder)}
        self.pid = disk.lock_owner(f"{folder}/{OWN}/lock")
        """The process that writes there; None: no process does."""
        self._days, self._known = self._read_journal()
        self._open_now = 0, self._days
        """The journal's size when it was read again, and the open days then."""
        self._vanished = read_vanished(disk, folder)
        self._look_around()
        self._compare_package()

    @property
    def verifiable(self) -> bool:
        """Whether a journal, or a package's description, says which files belong to the archive."""
        return self.has_journal or self.package is not None

    def originators(self) -> Iterator[CheckedOriginator]:
        """Check one originator after the other."""
        for name in sorted({*self._folders, *self._known}):
            folder = self._folders.get(name) or OriginatorFolder(name, f"{self.folder}/{name}")
            if days_of(self._disk, folder) or name in self._known:
                yield self._checked(folder)
        self._compare_sizes()

    # --- The journal ---

    def _read_journal(self) -> tuple[dict[str, DaySizes], Mapping[str, dict[RunAndType, list[Span]]]]:
        """The sizes of open days, and for each folder the numbers that were seen."""
        journal = Journal(self._disk, f"{self.folder}/{OWN}")
        data = journal.read()
        if data is None:
            return {}, {}
        self.has_journal = True
        sizes, seen = OpenDaySizes(), SeenIdentities()

        def take(entry: Entry) -> None:
            self._settled = entry.settled
            sizes.take(entry)
            seen.restore(entry.seen)

        found = replay(data, take)
        if found.damaged or not found.records:  # it is never without its first record, whatever crashes
            self.places.append(ArchiveDefect("index", journal.path, octets=len(data)))
        known: dict[str, dict[RunAndType, Intervals]] = {}
        for marks in seen.all():
            for numbers in marks.numbers:
                originator, run, kind = numbers.key
                held = known.setdefault(originator.decode(), {}).setdefault(RunAndType(run, kind), Intervals())
                for first, last in numbers.spans:  # of one sender
                    held.add_all(first, last)
        return sizes.days, {name: {key: list(held) for key, held in keys.items()} for name, keys in known.items()}

    def _read_open_days(self) -> dict[str, DaySizes]:
        """The sizes of open days by the journal as it is now; it is read again only when it has changed."""
        journal = Journal(self._disk, f"{self.folder}/{OWN}")
        size = _size(journal.path) or 0
        if size != self._open_now[0]:
            sizes = OpenDaySizes()
            replay(journal.read() or b"", sizes.take)
            self._open_now = size, sizes.days
        return self._open_now[1]

    @staticmethod
    def _open_sizes(days: Mapping[str, DaySizes], day: DayLog) -> DaySizes | None:
        paths = (f"{day.folder.name}/{day.files.stem}{suffix}" for suffix in LOG_SUFFIXES.values())
        return next((days[path] for path in paths if path in days), None)

    def _compare_sizes(self) -> None:
        """Compare the files of open days with the journal."""
        for day in self._days.values():
            stem = day.path.rpartition(".")[0]
            if stem.rpartition("/")[2] < self.first_day:
                continue
            for path, size in ((day.path, day.log), (f"{stem}{LEDGER_SUFFIX}", day.ledger)):
                full = f"{self.folder}/{path}"
                found = _size(full)
                if found is None or found < size:
                    kind = "gone" if found is None else "cut"
                    self.places.append(ArchiveDefect(kind, full, octets=size - (found or 0)))
                elif found > size and self.pid is None and self._writer() is None:
                    if self._settled and self._read_open_days() == self._days:
                        self.places.append(ArchiveDefect("added", full, octets=found - size))
                    else:
                        self._note(ArchiveNotice("uncommitted", full, found - size))

    def _writer(self) -> int | None:
        return self._disk.lock_owner(f"{self.folder}/{OWN}/lock")

    # --- What is there ---

    def _look_around(self) -> None:
        """Note modes that let others write, and what relay did not make."""
        self._look_at(self.folder)
        for name in self._disk.names(self.folder):
            path = f"{self.folder}/{name}"
            if name == OWN:
                self._look_at_own(path)
            elif name not in EXPORT_FILES and (os.path.islink(path) or not os.path.isdir(path)):
                self._note(ArchiveNotice("foreign", path))
        for folder in self._folders.values():
            self._look_at(folder.path)
            names = self._disk.names(folder.path)
            if not days_of(self._disk, folder) and folder.name not in SHELVES and folder.name not in self._known:
                self._note(ArchiveNotice("foreign", folder.path))
            read = {name for files in days_of(self._disk, folder) for name in files.logs}
            others = {name for files in days_in(names) for name in files.logs} - read
            for name in (*unknown_in(names), *sorted(others)):
                self._note(ArchiveNotice("foreign", f"{folder.path}/{name}"))
            for name in names:
                self._look_at(f"{folder.path}/{name}")

    def _compare_package(self) -> None:
        """Look for the files that a package's description lists."""
        try:
            self.package = read_manifest(self.folder)
        except DataError as error:
            self.places.append(ArchiveDefect("unreadable", error.what, cause=error.cause))
        for file in self.package.files if self.package is not None else ():
            path = f"{self.folder}/{file.path}"
            size = _size(path)
            if size != file.octets:
                self.places.append(ArchiveDefect("unpacked" if size is None else "resized", path, octets=file.octets))

    def _look_at_own(self, folder: str) -> None:
        self._look_at(folder)
        for name in self._disk.names(folder):
            path = f"{folder}/{name}"
            self._look_at(path)
            if name.startswith(_COPIES):
                self._note(ArchiveNotice("copy", path, _size(path) or 0))
            elif name not in _OWN_FILES:
                self._note(ArchiveNotice("foreign", path))

    def _look_at(self, path: str) -> None:
        """Note a mode that lets others write."""
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(path, "stat", error) from error
        if mode & _OTHERS_MAY_WRITE and not stat.S_ISLNK(mode):
            self._note(ArchiveNotice("open", path))

    def _note(self, notice: ArchiveNotice) -> None:
        if len(self.notices) < MAX_PLACES:
            self.notices.append(notice)
        else:
            self.more_notices += 1

    # --- One originator ---

    def _checked(self, folder: OriginatorFolder) -> CheckedOriginator:
        findings = OriginatorFindings(min(self._room, MAX_PLACES))
        trail = NumberTrail()
        begun = self._scope.begun
        aside = self._folders.get(f"{ASIDE}/{folder.name}")
        if aside is not None:  # what is found about its octets is reported with that folder
            begun |= self._check_days(aside, trail, OriginatorFindings(0))
        elsewhere = trail.counts
        begun |= self._check_days(folder, trail, findings)
        days = [day.day for day in days_of(self._disk, folder) if day.logs and day.day >= self.first_day]
        self._room -= len(findings.places)
        notice = self._why_not_assessed(folder)
        if notice:
            findings.notices.append(ArchiveNotice(notice, folder.path))
        known = {} if notice else self._known.get(folder.name, {})
        found = trail.assess(known, self._scope._replace(begun=begun))
        messages, numbered = (whole - other for whole, other in zip(trail.counts, elsewhere, strict=True))
        found = found._replace(messages=messages, numbered=numbered)
        return CheckedOriginator(
            folder.name,
            (days[0], days[-1]) if days else (),
            findings.octets,
            findings.extents,
            findings.being_written,
            findings.counts,
            tuple(findings.places),
            tuple(findings.notices),
            _counts_alone(found) if notice else found,
        )

    def _why_not_assessed(self, folder: OriginatorFolder) -> str:
        """The notice about a folder whose numbers by themselves prove nothing; empty: they are assessed."""
        if folder.disputed:
            return "disputed"
        shelf, _, name = folder.name.partition("/")
        return "aside" if shelf == ASIDE and (name in self._folders or name in self._known) else ""

    def _check_days(self, folder: OriginatorFolder, trail: NumberTrail, findings: OriginatorFindings) -> bool:
        """Check an originator's days; returns whether the chain begins in the middle."""
        all_days = days_of(self._disk, folder)
        chain: dict[str, bytes] = {}
        begun = False
        for files in all_days:
            if files.day < self.first_day:
                self._take_last_line(folder, files, chain)
                continue
            day = self._opened(folder, files)
            try:
                begun |= self._check_day(day, chain, trail, findings, is_newest=files == all_days[-1])
            except (DataError, NoInputError, StorageError) as error:
                if isinstance(error.__cause__, PermissionError):
                    raise
                cause = error.cause.removeprefix("cannot be read: ")
                findings.add(ArchiveDefect("unreadable", error.what, cause=cause))
                with suppress(NoInputError, StorageError):  # it is the ledger that cannot be read
                    self._take_last_line(folder, files, chain)
            finally:
                day.close()
        return begun

    def _opened(self, folder: OriginatorFolder, files: DayFiles) -> DayLog:
        """A day with its log open; without its log if retention removed that since the folder was listed."""
        day = DayLog(folder, files, self._logs, lambda *_: None)
        try:
            _ = day.path and day.log
        except NoInputError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return DayLog(folder, files._replace(logs=()), self._logs, lambda *_: None)
        except DataError:  # the check reports it
            pass
        return day

    def _take_last_line(self, folder: OriginatorFolder, files: DayFiles, chain: dict[str, bytes]) -> None:
        """Only the line that a later ledger continues."""
        if files.ledger:
            for line in DayLog(folder, files, self._logs, lambda *_: None).chained_lines():
                chain[files.ledger] = line
                break

    def _check_day(
        self, day: DayLog, chain: dict[str, bytes], trail: NumberTrail, findings: OriginatorFindings, *, is_newest: bool
    ) -> bool:
        """Check one day; returns whether the chain begins in the middle with it."""
        check = DayCheck(day, trail, findings, self._names)
        after = None
        begins = False
        if day.ledger is not None:
            heading = day.ledger.heading()
            after = heading.after if heading is not None else None
            before = chain.get(after) if after is not None else b""
            if before is None and chain:
                missing = f"{day.folder.path}/{after}"
                findings.add(ArchiveDefect("ledger missing", missing, cause="a later ledger continues it"))
            elif before is None:
                begins = True
                is_chosen = self.package is not None and (after or "")[:10] < self.package.first_day
                kind = "package begins" if is_chosen else "begins in the middle"
                findings.notices.append(ArchiveNotice(kind, day.ledger.path, detail=after or ""))
            elif heading is not None and after is None and any(chain.values()):
                findings.notices.append(ArchiveNotice("begins anew", day.ledger.path))
            recorded = check.check(before)
            chain[day.files.ledger] = check.last_line
            self._check_end(day, check, findings, is_newest=is_newest)
        else:
            findings.add(ArchiveDefect("ledger missing", f"{day.folder.path}/{day.files.stem}{LEDGER_SUFFIX}"))
            recorded = 0
        if day.path:
            self._check_log(day, check, recorded, findings, is_newest=is_newest)
        elif check.removal is not None:
            when = format_timestamp(check.removal.removed)[:10].decode()
            detail = f"on {when} ({check.removal.cause})"
            findings.notices.append(
                ArchiveNotice("removed", f"{day.folder.path}/{day.files.stem}", recorded, 0, detail)
            )
        else:
            self._add_missing_log(day, recorded, findings)
        self._add_changes(check, findings)
        if check.uncompared:
            findings.notices.append(ArchiveNotice("uncompared", day.path, times=check.uncompared))
        if check.forgeable:
            findings.notices.append(ArchiveNotice("forgeable", day.path, times=check.forgeable))
        return begins

    def _add_changes(self, check: DayCheck, findings: OriginatorFindings) -> None:
        """What the writer recorded: a defect, unless all that it left is there now, or retention has removed it."""
        for change in check.changes:
            path = f"{self.folder}/{change.log}"
            when = format_timestamp(change.changed).decode()
            if check.removal is not None or self._is_there(path, change):
                findings.notices.append(ArchiveNotice("was changed", path, detail=f"{when}: {change.cause}"))
            else:
                findings.add(ArchiveDefect("changed", path, cause=f"relay noticed at {when}: {change.cause}"))

    @staticmethod
    def _is_there(path: str, change: FileChange) -> bool:
        """Whether a day is at least as the writer left it; its own check compares all octets."""
        log, ledger = change.left
        if (_size(path) or 0) < log:
            return False
        with suppress(NoInputError):
            return LedgerReader(ledger_of(path)).hash_at(ledger) == change.head != ""
        return False

    def _check_end(self, day: DayLog, check: DayCheck, findings: OriginatorFindings, *, is_newest: bool) -> None:
        """The end of the ledger: a torn line, and whether the day is open."""
        path = f"{day.folder.path}/{day.files.ledger}"
        torn = (_size(path) or 0) - check.ledger_end
        is_open = check.closing is None and self._is_open(day, is_newest=is_newest)
        known = self._open_sizes(self._days, day)
        if torn > 0 and (known.ledger > check.ledger_end if known else not is_open):
            with self._disk.open(path, writable=False) as file:
                if not (check.closing and b'{"removed":'.startswith(file.read(torn, check.ledger_end)[:11])):
                    check.note_torn_end(torn)
        if is_newest and check.closing is None and not is_open and check.ledger_end:  # empty: it is just beginning
            findings.notices.append(ArchiveNotice("unclosed", path))
        elif is_open and not self.has_journal and torn > 0:
            findings.notices.append(ArchiveNotice("undescribed", path, torn))

    def _is_open(self, day: DayLog, *, is_newest: bool) -> bool:
        """Whether the writer adds to a day that has no closing: by the journal; without one, the newest is."""
        if not self.has_journal:
            return is_newest
        if self._open_sizes(self._days, day):
            return True
        if not is_newest or (self.pid is None and self._writer() is None):
            return False
        # It began after the journal was read, or it was closed after its ledger was read.
        return bool(self._open_sizes(self._read_open_days(), day) or day.end().closing)

    def _check_log(
        self, day: DayLog, check: DayCheck, recorded: int, findings: OriginatorFindings, *, is_newest: bool
    ) -> None:
        """Octets behind the ledger's end, and who compressed the log."""
        size = day.log.size()
        findings.octets += size
        if day.path.endswith(_FOREIGN_COMPRESSIONS):
            findings.notices.append(ArchiveNotice("compressed", day.path))
        if size <= recorded:
            return
        is_open = check.closing is None and self._is_open(day, is_newest=is_newest)
        if is_open and day.ledger is not None and (self.pid is not None or self._writer() is not None):
            findings.being_written += size - recorded
            return
        check.read_unrecorded(recorded, size)
        if day.ledger is not None and not is_open:
            findings.add(ArchiveDefect("unrecorded", day.path, octets=size - recorded))
        elif is_open and not self.has_journal:
            findings.notices.append(ArchiveNotice("undescribed", day.path, size - recorded))

    def _add_missing_log(self, day: DayLog, recorded: int, findings: OriginatorFindings) -> None:
        path = f"{day.folder.path}/{day.files.stem}"
        noticed = self._vanished.get(f"{day.folder.name}/{day.files.stem}")
        cause = "" if noticed is None else f"relay noticed it at {format_timestamp(noticed).decode()}"
        if recorded:
            findings.add(ArchiveDefect("log missing", path, octets=recorded, cause=cause))


def _counts_alone(found: Completeness) -> Completeness:
    """How much a folder holds whose numbers prove nothing: disputed ones can be forged, those aside are a part."""
    nothing = NumberTrail().assess({}, AssessmentScope())
    return nothing._replace(messages=found.messages, numbered=found.numbered, runs=found.runs)


def _size(path: str) -> int | None:
    """Octets of a regular file; None: there is none."""
    try:
        facts = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise storage_error(path, "stat", error) from error
    return facts.st_size if stat.S_ISREG(facts.st_mode) else None
