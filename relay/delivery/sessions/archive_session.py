"""The receiver's archive as a destination: a block's messages are written, and the archive's commit is the proof."""

import time

from relay.archive.write import ArchiveWriter
from relay.delivery.sessions.delivery_session import NOTHING_PROVEN, FaultSearch, ProvenExtent
from relay.spool.block import Block
from relay.spool.cursor import Cursor


class ArchiveSession:
    """A session (see `session.Session`) on an archive; the archive keeps the cursor beside its files."""

    proof = "archived"
    search = FaultSearch.NEVER
    alive = True
    owing = False
    refused = ()

    def __init__(self, archive: ArchiveWriter) -> None:
        self._archive = archive
        self.heard = time.monotonic()

    def proven_extent(self) -> ProvenExtent:
        """Nothing before the commit."""
        return NOTHING_PROVEN

    def send(self, block: Block) -> None:
        """Write every message; what stands there already is counted as a duplicate."""
        self.heard = time.monotonic()
        received = block.header.committed
        for _, _, message in block.messages():
            self._archive.write(message, received)

    def prove(self, cursor: Cursor) -> Cursor:
        """Make it durable, together with the cursor."""
        self._archive.commit(cursor.encode())
        return cursor

    def check(self) -> None:
        """Nothing to look after while idle."""

    def end(self) -> None:
        """Nothing is said."""

    def close(self) -> None:
        """Close the archive's files."""
        self._archive.close()
