"""Writing the archive: each message exactly once, whatever crashes and whenever.

`relay/archive/FORMAT.md` describes the files. `ARCHIVE/.relay` holds what only the writer needs: the journal, the lock,
and copies of what was cut or damaged.

    writer = ArchiveWriter("/var/log/relay", spool_id)
    # take from the spool what follows writer.cursor, then for each message:
    writer.write(message, received, provenance)
    # and now and then, with the spool's cursor behind the last of them:
    writer.commit(cursor)

Invariants:

1. A cursor is valid only once the messages before it, their extents, the folders' entries and then the journal are on
   the disk.
2. What lies in a log or ledger beyond its size in the journal is cut when the archive is opened (after a copy), unless
   the writer before had stopped. It comes again after the cursor. So messages without an identity are stored exactly
   once too.
3. Nothing is written to a file before the journal has its size.
4. When the spool is another one than before, or the journal is damaged, lost or an older copy, nothing is cut. Every
   originator begins a new part of its day, identities are read from the ledgers, and only messages without one may be
   stored twice.
5. A call that failed voids all since the last commit, and the writer: it must be closed and opened anew, and the
   messages after its cursor must be given again.
6. A ledger that another ledger continues is closed first, so it never grows afterwards.

One fault concerns one originator. A log or ledger that somebody deleted, replaced, cut or extended is never touched
again: a new part begins, whose ledger records the change. So it does when a file could not be written or synced: its
path is in `unusable`, which all writers of a program share. When an originator's folder cannot be written, its messages
go to `~aside/FOLDER`.

Ceilings: `max_pending` octets of messages in memory, then they are written out ahead of the commit; `max_open` days
open, then the longest unused half is synced and closed; `max_days` open days whose sizes are remembered, then the
longest untouched ones are closed. `identity` has the ceilings of what is remembered of identities, and `filing_policy`
that of originators.
"""

import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple, Self

from relay.archive import json_line, layout
from relay.archive.days.event_times import FAR
from relay.archive.days.uncommitted_closings import UncommittedClosings
from relay.archive.filing.filing_policy import Filing, FilingPolicy
from relay.archive.identity import MAX_NUMBER, SequenceKey, usable
from relay.archive.ledger import Extent
from relay.archive.log_line import escape_all, joined
from relay.archive.writer.archive_counters import ArchiveCounters
from relay.archive.writer.charged_sender import RECEIVER, charged_sender
from relay.archive.writer.extent_draft import MAX_OCTETS
from relay.archive.writer.journal import DaySizes, Entry, Journal
from relay.archive.writer.open_days import DayLimits, OpenDays
from relay.archive.writer.recovery import WHOLE_DISK_ERRORS, ledger_of, originators, recover
from relay.archive.writer.repetitions import Repetition, Repetitions
from relay.errors import StorageError
from relay.syslog.lenient import own_batch
from relay.syslog.lenient.own_batch import OwnBatch
from relay.syslog.rfc5424 import Identity
from relay.system.crash_point import crash_point
from relay.system.disk import Disk, Lock
from relay.system.files.file_access import PRIVATE, FileAccess
from relay.values.provenance import Provenance, ReceiptMark

_log = logging.getLogger("relay.archive")

_INCOMPLETE: Final = ReceiptMark.CUT | ReceiptMark.UNTERMINATED
_BATCH: Final = 128
_SMALLEST_BATCH: Final = 16
_REMEMBERED_KEYS: Final = 4096
_MOST_UNUSABLE: Final = 1000
NO_MARKS: Final = ReceiptMark(0)


class _Receipt(NamedTuple):
    """What messages of one sender that were received together have in common."""

    time: int
    day: str
    provenance: Provenance | None
    sender: str
    marks: ReceiptMark


class WriterLimits(NamedTuple):
    """The ceilings of a writer."""

    max_pending: int = 16 * 1024 * 1024
    journal_size: int = 8 * 1024 * 1024
    """A larger journal is begun anew, when it also is `journal_growth` times as large as it began."""
    journal_growth: int = 4
    days: DayLimits = DayLimits()


DEFAULT_LIMITS: Final = WriterLimits()


class ArchiveWriter:
    """The archive, opened by its one writer; TemporaryError when another process has it."""

    def __init__(  # noqa: PLR0913  each is independent of the others
        self,
        folder: str,
        spool_id: str,
        *,
        disk: Disk | None = None,
        policy: FilingPolicy | None = None,
        limits: WriterLimits = DEFAULT_LIMITS,
        committed: Callable[[str, Extent], None] = lambda _folder, _extent: None,
        closings: UncommittedClosings | None = None,
        counters: ArchiveCounters | None = None,
        archive_format: str = "text",
        access: FileAccess = PRIVATE,
        unusable: set[str] | None = None,
        is_outdated: Callable[[bytes], bool] = lambda _cursor: False,
    ) -> None:
        self.cursor: bytes | None
        """What the last commit was given; None: give everything that the spool has."""
        self.counters = counters or ArchiveCounters()
        """Without what is not committed: after a failure that comes again."""
        self._counted = ArchiveCounters()
        """Since the last commit."""
        self._disk = disk or Disk()
        self._folder = os.path.abspath(folder)
        self._spool_id = spool_id
        self._policy = policy or FilingPolicy()
        self._limits = limits
        self._committed = committed
        self._closings = closings or UncommittedClosings()
        self._written_ahead = self._unwritten = 0
        self._newest = 0
        """The latest time of receipt since the last commit."""
        self._keys: dict[tuple[str, bytes, bytes], SequenceKey] = {}
        self._failed = True  # until it is open
        self._settled = True  # by the journal, see `Entry`
        self._unusable = set() if unusable is None else unusable
        self._is_json = archive_format == "json"
        suffix = layout.LOG_SUFFIXES[archive_format]
        self._logs = OpenDays(self._disk, self._folder, suffix, limits.days, self.counters, access)
        self._logs.unusable = self._unusable
        self._repetitions = Repetitions(self._disk, self._folder)
        self._access = access
        self._lock = self._lock_own_folder()
        self._journal = Journal(self._disk, f"{self._folder}/{layout.OWN}")
        try:
            found = recover(self._disk, self._folder, spool_id, self._journal.read(), is_outdated)
            self.cursor = found.cursor
            self.recovered = found
            self._logs.days = found.days
            self._seen = found.seen
            self._forgotten = found.seen.forgotten
            self._policy.know(originators(self._disk, self._folder))
            try:
                self._begin_journal()
            except StorageError as error:
                if not error.full or not found.journal_end:
                    raise
                self._journal.resume(found.journal_end)
                self._whole = self._journal.size
            self._closings.settle()
            self._failed = False
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<ArchiveWriter {self._folder!r} messages={self.counters.messages}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pending(self) -> int:
        """Octets that the next commit makes durable."""
        return self._written_ahead + self._unwritten

    @property
    def progress(self) -> float:
        """When the disk last completed a call of a commit, in seconds of the monotonic clock; any thread may ask."""
        return self._logs.files.progress

    def write(
        self, message: bytes, received: int, provenance: Provenance | None = None, marks: ReceiptMark = NO_MARKS
    ) -> bool:
        """Take one message; False for a duplicate."""
        return self.write_all([message], received, provenance, marks) == 1

    def write_all(
        self,
        messages: Sequence[bytes],
        received: int,
        provenance: Provenance | None = None,
        marks: ReceiptMark = NO_MARKS,
    ) -> int:
        """Take messages of one sender that were received at that time (microseconds since the epoch).

        The number of those that are not duplicates.
        """
        if self._failed:
            raise StorageError(self._folder, "an earlier write failed", "open the archive anew")
        before = self._counted.messages
        sender = RECEIVER if provenance is None else charged_sender(provenance.peer, provenance.identity)
        receipt = _Receipt(received, layout.day_of(received), provenance, sender, marks)
        self._newest = max(self._newest, received)
        may_be_usual = not self._is_json and not marks
        begin = 0
        while begin < len(messages):
            batch = messages[begin : begin + _BATCH]
            taken = 0
            if may_be_usual and len(batch) >= _SMALLEST_BATCH:
                if own_batch.is_own(batch[0]):
                    taken = self._take_all(batch, receipt)
                else:
                    batch = batch[:_SMALLEST_BATCH]
            if not taken:
                self._take_singly(batch, receipt)
            begin += taken or len(batch)
        return self._counted.messages - before

    def _take_all(self, messages: Sequence[bytes], receipt: _Receipt) -> int:
        """Take new messages of relays as `_take_singly` does, but quicker; how many, from the first one on."""
        taken = 0
        for own in own_batch.read(messages):
            if not self._take_own(messages[taken : taken + own.messages], own, receipt):
                break
            taken += own.messages
        return taken

    def _take_own(self, messages: Sequence[bytes], own: OwnBatch, receipt: _Receipt) -> bool:
        """Take messages of one host; False, and nothing is done, when they must be taken singly."""
        lines = joined(messages)
        if lines is None or self._unwritten + len(lines) > self._limits.max_pending:
            return False
        if own.latest - own.earliest > FAR or len(lines) >= MAX_OCTETS:
            return False
        place = self._policy.plain_folder(own.host, receipt.provenance, receipt.time)
        if place is None:
            return False
        folder, originator = place
        numbers = [(self._key(folder, run, kind), first, last) for run, kind, first, last in own.ranges]
        if not all(last <= MAX_NUMBER and self._seen.has_none_of(key, first, last) for key, first, last in numbers):
            return False
        day = self._logs.of(folder, receipt.day, originator)
        draft = day.draft_for_all(receipt.provenance, receipt.time, own, len(lines))
        if draft is None:
            return False
        for key, first, last in numbers:
            self._seen.add_all(key, first, last, receipt.sender)
        draft.add_all(messages, len(lines), receipt.time, own)
        self._counted.messages += own.messages
        self._unwritten += len(lines) - own.messages
        return True

    def _take_singly(self, messages: Sequence[bytes], receipt: _Receipt) -> None:
        received, day, provenance, sender, marks = receipt
        draft, place = None, ""
        receipt_labels = marks.labels
        counts_as_seen = not marks & _INCOMPLETE
        lines = messages if self._is_json else escape_all(messages)
        for message, line in zip(messages, lines, strict=True):
            filing = self._policy.file(message, provenance, received, marks)
            folder, originator, event_time, identity, labels = filing
            if receipt_labels:
                labels = (*receipt_labels, *labels)
            if identity is not None:
                run, kind, number, part, parts = identity
                if not counts_as_seen or not usable(number, parts):
                    identity = None
                elif not self._seen.add(self._key(folder, run, kind), number, part, parts, sender):
                    label = self._judge(filing, identity, message, provenance)
                    if not label:
                        continue
                    labels = (*labels, label)
            if self._is_json:
                line = json_line.encode(message, received, provenance, labels, self._policy.zone)  # noqa: PLW2901
            if draft is None or folder != place or not draft.takes(event_time):
                draft = self._logs.of(folder, day, originator).draft(provenance, received, event_time)
                place = folder
            draft.add(line, received, event_time, identity, labels)
            self._counted.messages += 1
            self._unwritten += len(line)
            if self._unwritten > self._limits.max_pending:
                with self._voiding():
                    self._write_out()
                draft = None

    def _key(self, folder: str, run: bytes, kind: bytes) -> SequenceKey:
        place = (folder, run, kind)
        key = self._keys.get(place)
        if key is None:
            if len(self._keys) >= _REMEMBERED_KEYS:
                self._keys.clear()
            key = self._keys[place] = SequenceKey(folder.encode(), run, kind)
        return key

    def _judge(self, filing: Filing, identity: Identity, message: bytes, provenance: Provenance | None) -> str:
        """The mark of a message whose identity was seen before; empty: it is dropped."""
        counters = self._counted
        waiting = self._logs.waiting(filing.folder)
        match self._repetitions.judge(filing.folder, identity, message, provenance, waiting):
            case Repetition.DIFFERENT:
                counters.differing += 1
                run, number = identity.run.decode(), identity.sequence
                peer = "relay itself" if provenance is None else provenance.peer
                counters.last_difference = f"{filing.originator}: run {run}, number {number}, from {peer}"
                return "differs"
            case Repetition.UNCOMPARED:
                counters.uncompared += 1
                return "uncompared"
            case Repetition.REMOVED:
                counters.removed_duplicates += 1
            case Repetition.EQUAL:
                counters.duplicates += 1
        return ""

    def commit(self, cursor: bytes) -> None:
        """Make all that was written durable, and then the cursor; on return both are."""
        if self._failed:
            raise StorageError(self._folder, "an earlier write failed", "open the archive anew")
        with self._voiding():
            self._write_out()
            if self._newest:
                self._journal_begun(self._logs.close_before(self._newest))
                self._append()
            crash_point("archive-written")
            self._logs.files.sync()
            crash_point("archive-synced")
            logs = self._logs
            self._journal.append(Entry(self._spool_id, cursor, logs.grown, tuple(logs.ended), self._seen.take()))
            self.cursor = cursor
            crash_point("archive-committed")
            self._counted.forgotten, self._forgotten = self._seen.forgotten - self._forgotten, self._seen.forgotten
            self._counted.last_forgotten = self._seen.last_forgotten
            self.counters.add(self._counted)
            self._counted = ArchiveCounters()
            for log in logs.touched:
                for extent in log.extents:
                    self._committed(log.folder, extent)
                log.extents = []
            logs.note_committed()
            self._newest = 0
            self._closings.settle()
            self._written_ahead = 0
            if self._journal.is_removed():  # looked at only now, because nothing of its state is uncommitted
                _log.warning("%s: another program removed it; it is written anew", self._journal.path)
                self._lock.release()
                self._lock = self._lock_own_folder()
                self._begin_journal()
            self._shorten_journal()

    def _shorten_journal(self) -> None:
        """Begin a large journal anew. The commit before is valid in any case, so a failure concerns the next one."""
        if self._journal.size <= max(self._limits.journal_size, self._limits.journal_growth * self._whole):
            return
        try:
            self._begin_journal()
        except StorageError as error:
            _log.warning("%s", error)
            self._failed = True

    def close(self) -> None:
        """Leave; what was not committed will come again. A second call does nothing."""
        if not self._failed and not self._written_ahead:
            with suppress(StorageError):
                self._journal.append(Entry(self._spool_id, self.cursor, settled=True))
        self._failed = True
        self._logs.files.close_all()
        self._journal.close()
        self._lock.release()

    @contextmanager
    def _voiding(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            self._failed = True
            if error.errno not in WHOLE_DISK_ERRORS and len(self._unusable) < _MOST_UNUSABLE:
                self._unusable.add(error.what)
            raise
        except BaseException:
            self._failed = True
            raise

    # --- Commits ---

    def _write_out(self) -> None:
        """Append what waits; it counts only once committed."""
        self._journal_begun(self._logs.render())
        self._append()
        self._written_ahead += self._unwritten
        self._unwritten = 0

    def _journal_begun(self, begun: list[DaySizes]) -> None:
        """Give the journal the days that begin, before anything is written to them."""
        if begun or self._settled:
            self._settled = False
            self._journal.append(Entry(self._spool_id, self.cursor, tuple(begun)))

    def _append(self) -> None:
        self._closings.note(ledger_of(path) for path in self._logs.ended)
        self._logs.append()

    def _lock_own_folder(self) -> Lock:
        own = f"{self._folder}/{layout.OWN}"
        for made in self._disk.make_folder(own):
            if made != own:
                self._access.give_to(made, is_folder=True)
        return self._disk.lock(f"{own}/lock")

    def _begin_journal(self) -> None:
        """Begin the journal anew with the whole state."""
        settled = self._settled
        days = Entry(self._spool_id, self.cursor, tuple(self._logs.days.values()), settled=settled)
        seen = (Entry(self._spool_id, self.cursor, (), (), marks, settled=settled) for marks in self._seen.all())
        self._journal.begin(itertools.chain((days,), seen))
        self._whole = self._journal.size
