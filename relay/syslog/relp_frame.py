"""RELP frames on a stream: `TXNR SP COMMAND SP DATALEN [SP DATA] LF` (RELP specification, section "RELP frame").

TXNR and DATALEN are 1 to 9 digits, COMMAND is 1 to 32 letters, DATALEN counts octets; where it is 0 there is neither
SP nor DATA. Whatever the octets, and however they are cut, `FrameReader` gives the same frames and then, where a frame
is none, the same `error`: where frames begin is lost then, and no later octet is looked at.

Ceilings: data longer than `largest` is passed over by its count, and its frame is given without it. Memory: one frame
and the octets last received. Work is linear in the octets.
"""

import re
from typing import Final, NamedTuple

from relay.errors import ProtocolError

LAST_TXNR: Final = 999_999_999
_LF: Final = 0x0A
_HEADER: Final = re.compile(rb"([0-9]{1,9}) ([A-Za-z]{1,32}) ([0-9]{1,9})([ \n])")
_BEGUN_HEADER: Final = re.compile(rb"[0-9]{1,9}(?: (?:[A-Za-z]{1,32}(?: (?:[0-9]{1,9})?)?)?)?")
_LONGEST_HEADER: Final = 9 + 1 + 32 + 1 + 9 + 1


class RelpError(ProtocolError):
    """The peer broke RELP: a malformed frame, or one that must not come here."""

    def __init__(self, cause: str) -> None:
        super().__init__("RELP session", cause, "it is ended; what was not answered is sent again")


class MalformedFrameError(RelpError):
    """These octets are no frame; it began at the stream's octet `offset`."""

    def __init__(self, offset: int, cause: str) -> None:
        super().__init__(f"octet {offset}: {cause}")
        self.offset = offset


class Frame(NamedTuple):
    """One frame as it came."""

    txnr: int
    command: bytes
    data: bytes | None
    """None: it was longer than the ceiling and has been passed over."""


def encode(txnr: int, command: bytes, data: bytes) -> bytes:
    """The octets of a frame."""
    if not data:
        return b"%d %b 0\n" % (txnr, command)
    return b"%d %b %d %b\n" % (txnr, command, len(data), data)


class FrameReader:
    """Finds the frames in a stream that comes in pieces."""

    __slots__ = ("_begun", "_command", "_largest", "_missing", "_offset", "_passing", "_received", "_txnr", "error")

    def __init__(self, largest: int) -> None:
        self.error: MalformedFrameError | None = None
        self._largest = largest
        self._received = 0
        self._begun = bytearray()  # what there is of an unfinished frame: its header, or its data
        # Of a frame whose header is complete:
        self._txnr = 0
        self._command = b""
        self._missing = 0  # octets of data and trailer that are still to come
        self._passing = False  # its data is too long
        self._offset = 0  # where it began in the stream

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._begun) or self._missing > 0

    def receive(self, data: bytes) -> list[Frame]:
        """Take in the stream's next octets; raises `error` once it is set."""
        if self.error is not None:
            raise self.error
        frames: list[Frame] = []
        if self._missing:
            data = self._go_on(data, frames)
        elif self._begun:  # an unfinished header: a few octets to look at again
            self._received -= len(self._begun)
            data = bytes(self._begun) + data
            self._begun.clear()
        if self.error is None:
            self._read_frames(data, frames)
        self._received += len(data)
        return frames

    def _go_on(self, data: bytes, frames: list[Frame]) -> bytes:
        """Complete the frame that is under way; answer the octets after it."""
        taken = min(self._missing, len(data))
        self._missing -= taken
        self._received += taken
        if self._missing:
            if not self._passing:
                self._begun += data[:taken]
        elif taken:
            self._end_frame(data[:taken], frames)
        return data[taken:]

    def _end_frame(self, rest: bytes, frames: list[Frame]) -> None:
        if rest[-1] != _LF:
            self._refuse_trailer(self._offset, self._txnr)
            return
        body = None if self._passing else bytes(self._begun) + rest[:-1]
        frames.append(Frame(self._txnr, self._command, body))
        self._begun.clear()
        self._passing = False

    def _read_frames(self, data: bytes, frames: list[Frame]) -> None:
        """Read frames from where one begins. The hot loop: a frame costs one match and one slice."""
        at, size = 0, len(data)
        while at < size:
            header = _HEADER.match(data, at)
            if header is None:
                self._begin_header(data, at)
                return
            number, command, digits, separator = header.groups()
            begin, length = header.end(), int(digits)
            if (length == 0) is not (separator == b"\n"):
                self._refuse(at, "DATALEN is followed by LF where it is 0, and else by one space")
                return
            end = begin + length  # of the data; the trailer stands here
            if not length:
                frames.append(Frame(int(number), command, b""))
                at = end
            elif end < size and length <= self._largest:
                if data[end] != _LF:
                    self._refuse_trailer(self._received + at, int(number))
                    return
                frames.append(Frame(int(number), command, data[begin:end]))
                at = end + 1
            else:
                self._txnr, self._command, self._offset = int(number), command, self._received + at
                at = self._begin_long(data, begin, end, frames)
                if self.error is not None:
                    return

    def _begin_header(self, data: bytes, at: int) -> None:
        rest = data[at : at + _LONGEST_HEADER]
        if _BEGUN_HEADER.fullmatch(rest) is None:
            self._refuse(at, "a frame begins with TXNR (1 to 9 digits), COMMAND (1 to 32 letters) and DATALEN")
        else:
            self._begun += rest

    def _begin_long(self, data: bytes, begin: int, end: int, frames: list[Frame]) -> int:
        """Begin a frame that is not complete, or too long; answer where the next one begins."""
        self._passing = end - begin > self._largest
        self._missing = max(0, end + 1 - len(data))
        if not self._missing:
            self._end_frame(data[end : end + 1], frames)
        elif not self._passing:
            self._begun += data[begin:]
        return end + 1

    def _refuse(self, at: int, cause: str) -> None:
        self.error = MalformedFrameError(self._received + at, cause)

    def _refuse_trailer(self, offset: int, txnr: int) -> None:
        self.error = MalformedFrameError(offset, f"frame {txnr} does not end with LF, its trailer")
