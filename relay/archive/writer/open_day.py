"""One originator's day while it is written: what waits for it, and the octets that will be appended to log and ledger.

It reads and writes nothing. `open_files` keeps its open files here.
"""

from typing import TYPE_CHECKING, Final

from relay.archive import ledger
from relay.archive.days.event_times import EventTimes
from relay.archive.layout import LEDGER_SUFFIX, LOG_SUFFIXES, stem_of
from relay.archive.ledger import Closing, Extent, FileChange, Heading
from relay.archive.log_line import unescape
from relay.archive.reading.line_search import message_of_json
from relay.archive.writer.extent_draft import ExtentDraft
from relay.archive.writer.journal import DaySizes
from relay.syslog.lenient.own_batch import OwnBatch
from relay.values.provenance import Provenance

if TYPE_CHECKING:
    from relay.system.disk import File

NOT_LOCATED: Final = 0


MAX_DRAFTS: Final = 64
"""In one commit, as far as only the times of the events make them different."""


class OpenDay:
    """An originator's log and ledger of one day, or of a later part of that day."""

    __slots__ = (
        "_by_sender",
        "_decode",
        "_ledger_octets",
        "begins_anew",
        "day",
        "drafts",
        "extents",
        "files",
        "folder",
        "head",
        "identities",
        "ledger",
        "lines",
        "log",
        "log_octets",
        "originator",
        "part",
        "previous",
        "stamps",
        "suffix",
        "taken_up_at",
        "times",
        "wanted_folder",
        "written",
    )

    def __init__(self, folder: str, day: str, originator: str, suffix: str) -> None:
        self._decode = message_of_json if suffix == LOG_SUFFIXES["json"] else unescape
        self.wanted_folder = folder
        """Below the archive, as filing says."""
        self.folder = folder
        """Below the archive, where it lies."""
        self.day = day
        self.part = NOT_LOCATED
        """`NOT_LOCATED` until its files are looked for."""
        self.originator = originator
        self.suffix = suffix
        self.drafts: list[ExtentDraft] = []
        self._by_sender: dict[Provenance | None, ExtentDraft] = {}
        self.previous = b""
        """The last line of the ledger; of the one that it continues while there is none."""
        self.head = ""
        """The hash of the ledger's last line, as another process left it; empty: unknown."""
        self.log = self.ledger = 0
        """Octets of log and ledger, when all that is rendered is appended."""
        self.log_octets: list[bytes] = []
        self._ledger_octets: list[bytes] = []
        self.extents: list[Extent] = []
        """Since the last commit."""
        self.taken_up_at = 0
        """Octets of the ledger that another process left."""
        self.lines = 0
        """Lines of the log since then."""
        self.times = EventTimes()
        """Of the events since then."""
        self.files: tuple[File, File] | None = None
        self.identities = ((0, 0), (0, 0))
        """Device and number of both files, while they are open."""
        self.stamps = (0, 0)
        """When both files were last changed, in nanoseconds, as this writer left them; zeros before it wrote."""
        self.written = False
        """Whether something was written since its files were synced."""
        self.begins_anew = False
        """Whether its files' names are not durable yet."""

    def __repr__(self) -> str:
        return f"<OpenDay {self.path!r} log={self.log} ledger={self.ledger}>"

    @property
    def stem(self) -> str:
        """The common beginning of its files' paths below the archive."""
        return f"{self.folder}/{stem_of(self.day, self.part)}"

    @property
    def path(self) -> str:
        """The log's path below the archive."""
        return self.stem + self.suffix

    @property
    def ledger_path(self) -> str:
        """The ledger's path below the archive."""
        return self.stem + LEDGER_SUFFIX

    @property
    def sizes(self) -> DaySizes:
        """What the journal notes."""
        return DaySizes(self.path, self.log, self.ledger, bytes.fromhex(ledger.hash_of(self.previous)))

    @property
    def rendered(self) -> bool:
        """Whether octets wait to be appended."""
        return bool(self._ledger_octets)

    def draft(self, provenance: Provenance | None, received: int, time: int | None) -> ExtentDraft:
        """The draft to which this sender's next line belongs, whose event has that time."""
        found = self._by_sender.get(provenance)
        if found is None or found.is_full or (len(self.drafts) < MAX_DRAFTS and not found.takes(time)):
            found = self._by_sender[provenance] = ExtentDraft(provenance, received, self._decode)
            self.drafts.append(found)
        return found

    def draft_for_all(
        self, provenance: Provenance | None, received: int, own: OwnBatch, octets: int
    ) -> ExtentDraft | None:
        """The draft to which all these messages belong; None when not all belong to the same."""
        found = self._by_sender.get(provenance)
        if found is None or found.is_full:
            found = self.draft(provenance, received, own.earliest)
        return found if found.takes_all(own, octets) else None

    def render_heading(self, after: str | None, previous: bytes) -> None:
        """Begin the ledger after the line `previous` of the ledger `after`."""
        name = stem_of(self.day, self.part)
        heading = Heading(originator=self.originator, log=name + self.suffix, after=after)
        self._append(ledger.encode(heading, previous))

    def render_change(self, change: FileChange) -> None:
        """Record that another program changed a day of this originator's."""
        self._append(ledger.encode(change, self.previous))

    def render_drafts(self) -> None:
        """Turn the drafts into octets for the log and lines for the ledger."""
        for draft in self.drafts:
            data, extent = draft.data(), draft.extent(self.log)
            self._append(ledger.encode(extent, self.previous, [data]))
            self.log_octets.append(data)
            self.log += len(data)
            self.extents.append(extent)
            self.lines += extent.n
            self.times.add_extent(extent)
        self.drafts = []
        self._by_sender = {}

    def render_closing(self, closing: Closing) -> None:
        """End the ledger."""
        self._append(ledger.encode(closing, self.previous))

    def _append(self, line: bytes) -> None:
        self._ledger_octets.append(line)
        self.ledger += len(line)
        self.previous = line

    def take_octets(self) -> tuple[bytes, bytes]:
        """What is to be appended to the log and to the ledger now."""
        data = b"".join(self.log_octets), b"".join(self._ledger_octets)
        self.log_octets = []
        self._ledger_octets = []
        return data
