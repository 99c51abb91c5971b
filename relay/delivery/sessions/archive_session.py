"""The receiver's archive as a destination: a block's messages are written, and the archive's commit is the proof."""

import threading
import time

from typing_extensions import override

from relay.archive.writer.archive_writer import ArchiveWriter
from relay.archive.writer.commit_pace import CommitPace
from relay.delivery.sessions.delivery_session import DeliverySession, FaultSearch
from relay.spool.block import Block
from relay.spool.cursor import Cursor
from relay.values.histogram import Histogram
from relay.values.provenance import ReceiptMark


class ArchiveSession(DeliverySession):
    """A session on an archive, which keeps the cursor beside its files."""

    proof = "archived"
    search = FaultSearch.NEVER
    alive = True

    def __init__(self, archive: ArchiveWriter, commit_seconds: Histogram) -> None:
        """`commit_seconds` gets how long each commit takes."""
        self._archive = archive
        self._pace = CommitPace()
        self._commit_seconds = commit_seconds
        self._heard = time.monotonic()
        self._thread = threading.get_ident()

    @property
    @override
    def heard(self) -> float:
        """A commit of thousands of originators takes long; as long as it makes progress, the archive is not stuck."""
        return max(self._heard, self._archive.progress)

    @override
    def send(self, block: Block) -> None:
        """Write every message; a message that is there already is counted as a duplicate."""
        self._heard = time.monotonic()
        received = block.header.committed
        for span, messages in block.by_span():
            self._archive.write_all(messages, received, span.provenance, ReceiptMark(span.marks))

    @override
    def prove(self, cursor: Cursor) -> Cursor | None:
        """Make the messages durable together with the cursor; None while it is not time for a commit."""
        began = time.monotonic()
        if not self._pace.is_due(began, self._archive.pending):
            return None
        self._archive.commit(cursor.encode())
        self._heard = time.monotonic()
        self._pace.note(began, self._heard)
        self._commit_seconds.add(self._heard - began)
        return cursor

    @override
    def close(self) -> None:
        """Only its own thread closes it: no call of a commit may use a descriptor that another thread has closed."""
        if threading.get_ident() == self._thread:
            self._archive.close()
