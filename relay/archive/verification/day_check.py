"""Follows the chain of hashes through one originator's day, and collects the numbers of its events.

Each line of the ledger is hashed with the line before it and with the octets of the log that it describes, which are
read once, in order. Memory: one chunk of the log and one line of the ledger.
"""

from collections.abc import Iterator
from typing import Final

from relay.archive.completeness.number_trail import DUPLICATE, NumberTrail
from relay.archive.completeness.relay_reports import RunAndType
from relay.archive.filing.bound_names import BoundNames
from relay.archive.filing.originator import is_folder_of
from relay.archive.filing.proven_sender import proven_sender
from relay.archive.ledger import Closing, Extent, FileChange, Heading, LedgerError, Removal, decode, verifying
from relay.archive.ledgers.ledger_end import LocatedLine
from relay.archive.log_line import unescape
from relay.archive.reading.day_log import DayLog, marks_at
from relay.archive.reading.line_search import LineQuery, message_of_json, search
from relay.archive.reading.log_octets import LogOctets
from relay.archive.reading.own_reports import own_events_in
from relay.archive.verification.findings import ArchiveDefect, OriginatorFindings
from relay.syslog import rfc5424

CHUNK: Final = 1_048_576
_RELAY: Final = "relay"
_UNCOMPARED: Final = "uncompared"
_DIFFERS: Final = "differs"


class LogPieces:
    """A log that is read once, forward."""

    def __init__(self, log: LogOctets) -> None:
        self._log = log
        self._chunk = b""
        self._begin = 0

    def between(self, begin: int, end: int) -> Iterator[tuple[memoryview, int]]:
        """The octets from `begin` to `end` in pieces, each with its lines; fewer when the log ends before."""
        while begin < end:
            at = begin - self._begin
            if not 0 <= at < len(self._chunk):
                self._chunk, self._begin, at = self._log.read(begin, CHUNK), begin, 0
                if not self._chunk:
                    return
            stop = min(at + end - begin, len(self._chunk))
            yield memoryview(self._chunk)[at:stop], self._chunk.count(b"\n", at, stop)
            begin += stop - at


class DayCheck:
    """The check of one day. `last_line` is what the next ledger of the chain continues."""

    def __init__(self, day: DayLog, trail: NumberTrail, findings: OriginatorFindings, names: BoundNames) -> None:
        self._day = day
        self._names = names
        self._originator = day.folder.own_name
        self._trail = trail
        self._findings = findings
        self._ledger_line = 0
        self._log_line = 1
        self._octets = self._messages = 0
        self.last_line = b""
        self.ledger_end = 0
        """Where the ledger's last whole line ends."""
        self.closing: Closing | None = None
        self.removal: Removal | None = None
        self.changes: list[FileChange] = []
        """What the writer recorded of other programs."""
        self.uncompared = 0
        """Events that are there twice, and could not be compared."""
        self.forgeable = 0
        """Messages that differ from another sender's with their number, or whose own sender is not verified."""

    def check(self, before: bytes | None) -> int:
        """Check the ledger and the log; returns how many octets of the log the ledger describes.

        `before` is the line that the heading continues; None: it is not here, so the heading cannot be checked.
        """
        ledger = self._day.ledger
        if ledger is None:
            return 0
        pieces = LogPieces(self._day.log) if self._day.path else None
        previous = b"" if before is None else before
        for line in ledger.lines():
            self._ledger_line += 1
            self.ledger_end = line.offset + len(line.octets)
            try:
                entry = decode(line.octets)
            except LedgerError as error:
                self._flaw("not a ledger line", str(error))
                previous = line.octets
                continue
            if isinstance(entry, Extent):
                self._check_extent(line, entry, previous, pieces)
            elif not (isinstance(entry, Heading) and before is None):
                self._check_plain(line, entry.sha256, previous)
            if isinstance(entry, Heading):
                self._originator = entry.originator
                self._check_name(entry)
            if isinstance(entry, Closing):
                self._check_closing(entry)
            if isinstance(entry, FileChange):
                self.changes.append(entry)
            if isinstance(entry, Removal):
                self.removal = entry
            else:
                self.last_line = line.octets
            previous = line.octets
        return self._octets

    def note_torn_end(self, octets: int) -> None:
        """Report the octets after the ledger's last line feed, which nothing is going to complete."""
        self._ledger_line += 1
        self._flaw("not a ledger line", f"it has {octets} octets and no line feed")

    def read_unrecorded(self, begin: int, size: int) -> None:
        """Read the numbers of lines that no ledger describes."""
        for _, found in search(self._day, LineQuery(), begin=begin, until=size):
            if wrong := self._trail.add(found.message):
                identity = rfc5424.identity(found.message)
                named = (identity.run, identity.type, identity.sequence) if identity else (b"", b"", 0)
                octets = found.end - found.offset
                self._findings.add(ArchiveDefect(wrong, self._day.path, 0, 0, octets, *named))

    def _check_extent(self, line: LocatedLine, extent: Extent, previous: bytes, pieces: LogPieces | None) -> None:
        first = self._log_line
        end = extent.off + extent.len
        if pieces is None:  # retention removed the log, or somebody did
            self._add_removed(extent)
            self._octets, self._messages = end, self._messages + extent.n
            return
        is_next = extent.off == self._octets
        digest = verifying(line.octets, previous)
        lines = length = 0
        for piece, count in pieces.between(extent.off, end):
            digest.update(piece)
            lines += count
            length += len(piece)
        self._log_line += lines
        if is_next and lines == extent.n and digest.hexdigest() == extent.sha256:
            self._findings.extents += 1
        elif length < extent.len:
            self._findings.add(ArchiveDefect("log cut", self._day.path, first, 0, extent.len - length))
        else:
            cause = f"line {self._ledger_line} of the ledger describes them"
            last = max(self._log_line - 1, first)
            self._findings.add(ArchiveDefect("altered", self._day.path, first, last, extent.len, cause=cause))
        self._octets, self._messages = end, self._messages + extent.n
        self._add_numbers(extent)

    def _check_plain(self, line: LocatedLine, sha256: str, previous: bytes) -> None:
        if verifying(line.octets, previous).hexdigest() != sha256:
            self._flaw("ledger altered", "it does not continue the line before it")

    def _check_name(self, heading: Heading) -> None:
        """Compare what a heading names with where its ledger lies: a copied or renamed day has a whole chain."""
        folder, stem = self._day.folder.own_name, self._day.files.stem
        named = heading.log.rpartition(".")[0]
        if not is_folder_of(folder, heading.originator) or named != stem:
            self._flaw("misplaced", f"it was written for {heading.originator}, {named}")

    def _check_closing(self, closing: Closing) -> None:
        self.closing = closing
        if (closing.len, closing.n) != (self._octets, self._messages):
            self._flaw("ledger altered", f"it closes a day of {closing.len} octets and {closing.n} messages")

    def _flaw(self, kind: str, cause: str) -> None:
        path = self._day.ledger.path if self._day.ledger else ""
        self._findings.add(ArchiveDefect(kind, path, self._ledger_line, self._ledger_line, cause=cause))

    # --- Numbers ---

    def _add_numbers(self, extent: Extent) -> None:
        self._trail.add_unnumbered(extent.n)
        sender = proven_sender(self._names, self._originator, extent)
        duplicates = 0
        named = (b"", b"", 0)
        has_reports = False
        for identity in extent.id:
            run, kind, first, last, *part = identity
            key = RunAndType(str(run).encode(), str(kind).encode())
            if part:
                there = self._trail.add_part(key, first, part[0], part[1], sender)
            else:
                there = self._trail.add_range(*key, first, last, sender)
            if there:
                duplicates += there
                named = (*key, first)
            has_reports |= kind == _RELAY
        if has_reports:
            octets = self._day.log.read(extent.off, extent.len)
            for run_name, message in own_events_in(extent, octets, is_json=self._day.is_json):
                self._trail.add_report(run_name, message, sender)
        if duplicates or any(mark in {_UNCOMPARED, _DIFFERS} for marks in extent.marks.values() for mark in marks):
            self._note_duplicates(extent, duplicates, named, is_forgeable=not (sender and duplicates))

    def _note_duplicates(
        self, extent: Extent, duplicates: int, named: tuple[bytes, bytes, int], *, is_forgeable: bool
    ) -> None:
        marked = [marks_at(extent, line) for line in range(extent.n)] if extent.marks else []
        differing = [line for line, marks in enumerate(marked) if _DIFFERS in marks]
        uncompared = sum(_UNCOMPARED in marks for marks in marked)
        self.uncompared += uncompared
        first, last = self._log_line - extent.n, self._log_line - 1
        if is_forgeable:
            self.forgeable += len(differing)
        is_shown = differing and not is_forgeable
        lines = self._day.log.read(extent.off, extent.len).split(b"\n") if is_shown else []
        read = message_of_json if self._day.is_json else unescape
        for number in (each for each in differing if each < len(lines)):
            message = read(lines[number])
            found = rfc5424.identity(message)
            of_line = (found.run, found.type, found.sequence) if found else named
            at = first + number
            self._findings.add(ArchiveDefect(_DIFFERS, self._day.path, at, at, len(lines[number]) + 1, *of_line))
        if duplicates > len(differing) + uncompared:
            self._findings.add(ArchiveDefect(DUPLICATE, self._day.path, first, last, extent.len, *named))

    def _add_removed(self, extent: Extent) -> None:
        for run, kind, _, last, *part in extent.id:
            if not part:
                key = RunAndType(str(run).encode(), str(kind).encode())
                self._trail.add_removed(key, last, proven_sender(self._names, self._originator, extent))
