"""RELP frames on a stream: `TXNR SP COMMAND SP DATALEN [SP DATA] LF` (RELP specification, section "RELP frame").

TXNR and DATALEN are 1 to 9 digits, COMMAND is 1 to 32 letters, DATALEN counts octets; where it is 0 there is neither
SP nor DATA. A malformed frame becomes `error`: the beginnings of later frames are unknown then, so no later octet is
read. DATA longer than `largest` is cut to it, and its other octets are dropped by its count.
"""

import re
from typing import Final, NamedTuple

from typing_extensions import override

from relay.errors import ProtocolError
from relay.syslog.answered_frames import FrameReader

LAST_TXNR: Final = 999_999_999
LONGEST_HEADER: Final = 9 + 1 + 32 + 1 + 9 + 1
_LF: Final = 0x0A
_HEADER: Final = re.compile(rb"([0-9]{1,9}) ([A-Za-z]{1,32}) ([0-9]{1,9})([ \n])")
_BEGUN_HEADER: Final = re.compile(rb"[0-9]{1,9}(?: (?:[A-Za-z]{1,32}(?: (?:[0-9]{1,9})?)?)?)?")


class RelpError(ProtocolError):
    """The peer broke RELP: a malformed frame, or one that is not allowed here."""

    def __init__(self, cause: str) -> None:
        super().__init__("RELP session", cause, "it is ended; unanswered messages are sent again")


class MalformedFrameError(RelpError):
    """These octets are not a frame; it began at the stream's octet `offset`."""

    def __init__(self, offset: int, cause: str) -> None:
        super().__init__(f"octet {offset}: {cause}")
        self.offset = offset


class Frame(NamedTuple):
    """One frame as received."""

    txnr: int
    command: bytes
    data: bytes
    dropped: int = 0
    """Octets of its data over the ceiling."""


def encode(txnr: int, command: bytes, data: bytes) -> bytes:
    """The octets of a frame."""
    if not data:
        return b"%d %b 0\n" % (txnr, command)
    return b"%d %b %d %b\n" % (txnr, command, len(data), data)


class RelpFrameReader(FrameReader[Frame]):
    """Finds the frames of one side."""

    error: MalformedFrameError | None

    def __init__(self, largest: int) -> None:
        super().__init__(largest)
        self._oversized = (0, Frame(0, b"", b""))  # the unfinished frame that is too large, and its offset

    @override
    def _read_frame(self, data: bytes, at: int, frames: list[Frame]) -> int:
        header = _HEADER.match(data, at)
        if header is None:
            rest = data[at : at + LONGEST_HEADER]
            if _BEGUN_HEADER.fullmatch(rest) is not None:
                return self._wait(data, at, len(rest) + 1)
            cause = "a frame begins with TXNR (1 to 9 digits), COMMAND (1 to 32 letters) and DATALEN"
            self.error = MalformedFrameError(self._offset + at, cause)
            return len(data)
        txnr, command, length, begin = int(header[1]), header[2], int(header[3]), header.end()
        end = begin + length
        if (length == 0) is not (header[4] == b"\n"):
            cause = "DATALEN is followed by LF where it is 0, and by one space otherwise"
            self.error = MalformedFrameError(self._offset + at, cause)
        elif not length:
            frames.append(Frame(txnr, command, b""))
            return end
        elif length > self._largest:
            self._oversized = (self._offset + at, Frame(txnr, command, b"", length - self._largest))
            self._to_skip = length + 1
            return self._skip(data, begin, frames)
        elif end >= len(data):
            return self._wait(data, at, end + 1 - at)
        else:
            self._end_frame(self._offset + at, Frame(txnr, command, data[begin:end]), data[end], frames)
        return end + 1

    @override
    def _end_oversized(self, content: bytes, last: int, frames: list[Frame]) -> None:
        offset, frame = self._oversized
        self._end_frame(offset, frame._replace(data=content), last, frames)

    def _end_frame(self, offset: int, frame: Frame, trailer: int, frames: list[Frame]) -> None:
        if trailer == _LF:
            frames.append(frame)
        else:
            self.error = MalformedFrameError(offset, f"frame {frame.txnr} does not end with LF, its trailer")
