"""Writes a block's messages as one syslog server accepts them: selected, framed, and no larger than its limit.

A message without PRI, as some senders write it, gets the one of user.notice: a server must not have to guess where it
begins.
"""

from collections.abc import Iterator
from typing import NamedTuple

from relay.delivery.message_selection import MessageSelection
from relay.delivery.sessions.delivery_session import MessageId
from relay.events.audit.parts import parts
from relay.spool.block import Block
from relay.syslog.framing import LF, non_transparent, octet_counted
from relay.syslog.priority import ASSUMED_PRI, with_pri
from relay.values.event import EventType


class SyslogEncoder(NamedTuple):
    """The properties of one server."""

    selection: MessageSelection
    max_size: int
    """The largest message, in octets."""
    octet_counting: bool = True
    """RFC 6587 section 3.4.1; otherwise non-transparent framing, section 3.4.2."""
    trailer: bytes = LF
    """Of non-transparent framing."""

    def largest(self, block: Block) -> int:
        """An upper limit of the messages' octets as sent."""
        added = 0 if block.header.all_have_pri else len(ASSUMED_PRI)
        return min(block.header.largest + added, self.max_size)

    def singly(self, block: Block) -> Iterator[tuple[MessageId, int, bytes]]:
        """Each message: its identity, the octets of its largest part, and the frames of all its parts."""
        run = block.header.run
        for kind, number, message in self._messages(block):
            yield MessageId(run, kind, number), min(len(message), self.max_size), b"".join(self._frames(message))

    def framed(self, block: Block) -> Iterator[bytes]:
        """The frames; where the server accepts it, the payload exactly as it is stored."""
        header = block.header
        as_stored = header.all_have_pri and header.largest <= self.max_size and self.selection.all_of(header)
        if as_stored and self.octet_counting:
            yield block.payload
            return
        for _, _, message in self._messages(block):
            yield from self._frames(message)

    def datagrams(self, block: Block) -> Iterator[bytes]:
        """The messages without a frame, each for a datagram (RFC 5426)."""
        for _, _, message in self._messages(block):
            yield from parts(message, self.max_size)

    def _messages(self, block: Block) -> Iterator[tuple[EventType, int, bytes]]:
        """The selected messages of a block, each with a PRI."""
        selected = self.selection.messages(block)
        if block.header.all_have_pri:
            return selected
        return ((kind, number, with_pri(message)) for kind, number, message in selected)

    def _frames(self, message: bytes) -> Iterator[bytes]:
        if self.octet_counting:
            yield from (octet_counted(part) for part in parts(message, self.max_size))
            return
        # Audit events are sent record by record: a line feed would end the frame early (RFC 6587 section 3.4.2).
        for record in parts(message, None):
            # Escape both trailers in use, LF and NUL, as rsyslog does, whichever ends this message: a collector may
            # accept both, such as rsyslog's imtcp with an `addtlFrameDelimiter`.
            line = record.replace(b"\n", b"#012").replace(b"\0", b"#000")
            for part in parts(line, self.max_size):
                yield non_transparent(part, self.trailer)
