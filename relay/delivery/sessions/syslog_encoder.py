"""A block's messages as a syslog server takes them: those that it wants, in its framing, no larger than it allows."""

from collections.abc import Iterator
from typing import NamedTuple

from relay.delivery.message_selection import MessageSelection
from relay.delivery.sessions.delivery_session import MessageId
from relay.events.audit.parts import parts
from relay.spool.block import Block
from relay.syslog.framing import LF, non_transparent, octet_counted


class SyslogEncoder(NamedTuple):
    """How one server takes messages."""

    selection: MessageSelection
    max_size: int
    """The largest message, in octets."""
    octet_counting: bool = True
    """RFC 6587 section 3.4.1; else non-transparent framing, section 3.4.2."""
    trailer: bytes = LF
    """Of non-transparent framing."""

    def largest(self, block: Block) -> int:
        """No message of a block is sent larger than this."""
        return min(block.header.largest, self.max_size)

    def singly(self, block: Block) -> Iterator[tuple[MessageId, int, bytes]]:
        """Its messages with their names: the largest part's octets, and the frames of all parts."""
        run = block.header.run
        for kind, number, message in self.selection.messages(block):
            yield MessageId(run, kind, number), min(len(message), self.max_size), b"".join(self._frames(message))

    def framed(self, block: Block) -> Iterator[bytes]:
        """Its frames; the payload as it lies on the disk where that is what the server takes."""
        as_it_is = block.header.largest <= self.max_size and self.selection.all_of(block.header)
        if as_it_is and self.octet_counting:
            yield block.payload
            return
        for _, _, message in self.selection.messages(block):
            yield from self._frames(message)

    def datagrams(self, block: Block) -> Iterator[bytes]:
        """Its messages without a frame, each for a datagram (RFC 5426)."""
        for _, _, message in self.selection.messages(block):
            yield from parts(message, self.max_size)

    def _frames(self, message: bytes) -> Iterator[bytes]:
        if self.octet_counting:
            yield from (octet_counted(part) for part in parts(message, self.max_size))
            return
        # Audit events go record by record: a line feed would end the frame early (RFC 6587 section 3.4.2).
        for record in parts(message, None):
            for part in parts(_as_line(record), self.max_size):
                yield non_transparent(part, self.trailer)


def _as_line(message: bytes) -> bytes:
    """Write a message so that collectors read one frame in it.

    LF and NUL, the trailers in use, are written as rsyslog writes them, whichever ends this one: a collector may take
    both, as rsyslog's imtcp does with an `addtlFrameDelimiter`. What does not begin with a priority gets the one of
    RFC 3164 section 4.3.3: were its first octet a digit, it would be read as the count of a longer frame.
    """
    line = message.replace(b"\n", b"#012").replace(b"\0", b"#000")
    return line if line.startswith(b"<") else b"<13>" + line
