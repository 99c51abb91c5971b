"""Messages on a stream: RFC 6587 octet counting (as in RFC 5425) and non-transparent framing.

A counted frame is `MSG-LEN SP SYSLOG-MSG` (section 3.4.1), a trailed one `SYSLOG-MSG TRAILER` (section 3.4.2): a line.
`Decoder` distinguishes them frame by frame. What rsyslog's imtcp and syslog-ng's network() both keep, it keeps.

- Digits and one space begin a counted frame in a stream without lines so far, before whatever octets. MSG-LEN may have
  leading zeros. In a stream with lines, they do so only before `<`, which a BOM or a space may precede.
- Everything else is a line, with or without PRI, also when it begins with a space, a BOM, or a date: `2026-11-30`,
  `2026 Nov 30` or seconds since the epoch. A first line is recognised as one by its date, although digits begin it.
- The trailer is LF or CR LF, so a line that ends with CR loses it. If a NUL comes before any LF in the first line of a
  stream, NUL is a trailer in that stream as well: Python's SysLogHandler ends its messages with NUL, and other senders
  can be configured to. Elsewhere a NUL inside a line is an ordinary octet.
- LF, CR and NUL between frames are passed over.
- The last line of a stream is a message without its trailer too, and is marked so: sshd turns a reset into an end of
  file, so it may be incomplete. A counted frame that ends with the stream is not a message, unless it is longer than
  the limit: then what came of it is one, cut and unterminated. `partial` is true in both cases.
- A MSG-LEN of zero, or of more than nine digits, is a FramingError in a stream of counted frames: the beginnings of
  later frames are unknown then, so no later octet can be trusted. At the beginning of a stream zero begins a line.

Ceilings: a message longer than `max_message_size` is cut to it and marked, and its other octets are dropped, by its
count or to its trailer; they never become a message. Memory: one message and the octets last received. Work is linear
in the octets, however they are cut.
"""

import re
from typing import Final

from relay.errors import DataError, ProtocolError
from relay.values.provenance import ReceiptMark
from relay.values.text import decoded, quoted

LF: Final = b"\n"
NUL: Final = b"\0"
TRAILERS: Final = {"LF": LF, "NUL": NUL}
"""By their names in the configuration."""
DEFAULT_MAX_MESSAGE_SIZE: Final = 128 * 1024

_LONGEST_LENGTH: Final = 9  # significant digits
_BETWEEN: Final = frozenset(b"\r\n\0")
_LF_OR_NUL: Final = re.compile(rb"[\n\0]")
_DIGITS: Final = frozenset(b"0123456789")
_LENGTH: Final = re.compile(rb"0*([0-9]*)( ?)")
_LINE: Final = 0  # what a MSG-LEN may be instead of its number
_BAD: Final = -1
_UNDECIDED: Final = -2
_MOST_DIGITS: Final = 32  # of a MSG-LEN with its leading zeros
_MESSAGE: Final = re.compile(rb"(?:\xef\xbb\xbf)? ?<")
_BEGUN_MESSAGE: Final = re.compile(rb"(?:\xef\xbb\xbf ?|\xef\xbb?| )?")
_YEAR: Final = re.compile(rb"(?:19|20)[0-9]{2} [A-Z][a-z]{2} ")
_BEGUN_YEAR: Final = re.compile(rb"(?:19|20)[0-9]{2} (?:[A-Z][a-z]{0,2})?")


class FramingError(ProtocolError):
    """The peer's stream has no syslog framing; the bad frame began at the stream's octet `offset`."""

    def __init__(self, offset: int, cause: str) -> None:
        super().__init__("syslog stream", f"octet {offset}: {cause}", "correct the sender's octet counting")
        self.offset = offset


class UnframableError(DataError):
    """A message that this framing would change, or cannot carry."""


def octet_counted(message: bytes) -> bytes:
    """Frame by count; UnframableError for an empty message (MSG-LEN has no zero)."""
    if not message:
        raise UnframableError("syslog message", "it is empty", "leave it out")
    return b"%d %b" % (len(message), message)


def non_transparent(message: bytes, trailer: bytes = LF) -> bytes:
    """Frame by trailer; UnframableError when the message contains the trailer."""
    if not message or trailer in message:
        cause = f"it contains the trailer {quoted(decoded(trailer))}" if message else "it is empty"
        raise UnframableError("syslog message", cause, "use octet-counting")
    return message + trailer


class Decoder:
    """Finds the messages in a stream that arrives in pieces.

    A bad frame sets `error`, after the messages before it are returned; every later call raises it.
    """

    __slots__ = (
        *("_begun", "_counted", "_cut", "_in_line", "_limit", "_lines", "_missing", "_nul", "_received"),
        *("dropped", "error", "marks", "oversized"),
    )

    def __init__(self, max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE) -> None:
        self.error: FramingError | None = None
        self.marks: dict[int, ReceiptMark] = {}
        """The marks of messages of the last call, by their index in it; most messages have none."""
        self.oversized = 0
        """Messages cut because they are too long."""
        self.dropped = 0
        """Octets of these messages that were dropped."""
        self._limit = max_message_size
        self._received = 0
        self._begun = bytearray()  # an unfinished frame: its MSG-LEN, or its message up to the limit
        self._missing = 0  # octets of a counted message, kept or dropped, that have not arrived
        self._cut = False  # the unfinished frame is longer than the limit
        self._in_line = False  # the unfinished frame is a line
        self._lines = False  # there has been a line
        self._counted = False  # there has been a counted frame, and no line
        self._nul: bool | None = None  # whether NUL is a trailer too; None before the first line has ended

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._begun) or self._missing > 0 or self._in_line

    def receive(self, data: bytes) -> list[bytes]:
        """Receive the stream's next octets; the messages that they complete. Raises `error` once it is set."""
        if self.error is not None:
            raise self.error
        messages: list[bytes] = []
        if self.marks:
            self.marks = {}
        if self._missing:
            data = self._continue_counted(data, messages)
        elif self._in_line:
            data = self._continue_line(data, messages)
        elif self._begun:  # an unfinished MSG-LEN: at most some forty octets to look at again
            self._received -= len(self._begun)
            data = bytes(self._begun) + data
            self._begun.clear()
        self._read_frames(data, messages)
        self._received += len(data)
        return messages

    def finish(self) -> list[bytes]:
        """End the stream: its last message, if that is a line without its trailer, or a counted one above the limit.

        `partial` when it ends inside a counted frame.
        """
        if self.error is not None:
            raise self.error
        messages: list[bytes] = []
        self.marks = {}
        if self._begun and not self._in_line and not self._missing:
            zeros_and = _LENGTH.match(self._begun)
            digits = zeros_and[1] if zeros_and is not None else b""
            self._in_line = self._lines or (not self._counted and not 0 < len(digits) <= _LONGEST_LENGTH)
        if self._in_line:
            self._end_line(b"", messages, ReceiptMark.UNTERMINATED)
        elif self._missing and self._cut and self._begun:
            self.marks[0] = ReceiptMark.UNTERMINATED
            self._end_message(messages)
        return messages

    def _read_frames(self, data: bytes, messages: list[bytes]) -> None:
        """Read frames from where one begins."""
        at = 0
        while at < len(data):
            first = data[at]
            if first in _DIGITS:
                if self._counted and (after := self._read_counted(data, at, messages)) > at:
                    at = after
                    continue
                length = self._length(data, at)
                if length == _BAD:
                    self._refuse(at, data[at : data.find(b" ", at)])
                    return
                if length == _UNDECIDED:
                    self._begun += data[at:]
                    return
                if length > 0:
                    self._counted = not self._lines
                    begin = data.find(b" ", at) + 1
                    at = self._begin_counted(data, begin, begin + length, messages)
                    continue
            elif first in _BETWEEN:
                at += 1
                continue
            self._lines, self._counted = True, False
            end = self._find_trailer(data, at)
            if end < 0:
                self._in_line = True
                self._extend_line(data[at:])
                return
            self._end_line(data[at:end], messages)
            at = end + 1

    def _read_counted(self, data: bytes, at: int, messages: list[bytes]) -> int:
        """The hot loop: read whole counted frames in a row; returns where the first other frame begins."""
        size, limit, find, add = len(data), self._limit, data.find, messages.append
        while (space := find(b" ", at, at + _LONGEST_LENGTH + 1)) > at:
            digits = data[at:space]
            if not digits.isdigit():
                break
            begin, length = space + 1, int(digits)
            end = begin + length
            if not 0 < length <= limit or end > size:
                break
            add(data[begin:end])
            at = end
        return at

    def _length(self, data: bytes, at: int) -> int:
        """The MSG-LEN at the digit `at`; _LINE when it is a line, _BAD, or _UNDECIDED without more octets."""
        match = _LENGTH.match(data, at, at + _MOST_DIGITS)
        if match is None or not match[2]:
            return _UNDECIDED if match is not None and len(data) == match.end() < at + _MOST_DIGITS else _LINE
        length = int(match[1] or b"0") if len(match[1]) <= _LONGEST_LENGTH else _BAD
        if self._counted:
            return length or _BAD
        needs_message = self._lines or length == _BAD
        if needs_message:
            whole, begun, looks_at = _MESSAGE, _BEGUN_MESSAGE, match.end()
        else:
            whole, begun, looks_at = _YEAR, _BEGUN_YEAR, at
        is_there = whole.match(data, looks_at) is not None
        if not is_there and begun.fullmatch(data, looks_at) is not None:
            return _UNDECIDED
        if is_there is not needs_message:
            return _LINE
        return max(length, _LINE) if self._lines else length

    def _begin_counted(self, data: bytes, begin: int, end: int, messages: list[bytes]) -> int:
        """Begin a counted frame that is incomplete, or too long; returns where the next one begins."""
        self._missing = max(0, end - len(data))
        self._begun += data[begin : min(end, begin + self._limit)]
        self._cut = end - begin > self._limit
        self.dropped += max(0, min(end, len(data)) - begin - self._limit)
        if not self._missing:
            self._end_message(messages)
        return end

    def _continue_counted(self, data: bytes, messages: list[bytes]) -> bytes:
        """Continue the counted frame that has begun; returns the octets after it."""
        taken = min(self._missing, len(data))
        kept = min(taken, self._limit - len(self._begun))
        self._begun += data[:kept]
        self.dropped += taken - kept
        self._missing -= taken
        self._received += taken
        if not self._missing:
            self._end_message(messages)
        return data[taken:]

    def _continue_line(self, data: bytes, messages: list[bytes]) -> bytes:
        """Continue the line that has begun; returns the octets after it."""
        end = self._find_trailer(data, 0)
        if end < 0:
            self._extend_line(data)
            self._received += len(data)
            return b""
        self._end_line(data[:end], messages)
        self._received += end + 1
        return data[end + 1 :]

    def _find_trailer(self, data: bytes, at: int) -> int:
        """Find the end of the line that continues at `at`; -1 when it does not end."""
        if self._nul is False:
            return data.find(LF, at)
        found = _LF_OR_NUL.search(data, at)
        if found is None:
            return -1
        if self._nul is None:
            self._nul = found[0] == NUL
        return found.start()

    def _extend_line(self, data: bytes) -> None:
        """Add octets to the unfinished line, up to the limit and a CR, which may belong to the trailer."""
        kept = max(0, self._limit + 1 - len(self._begun))
        self._begun += data[:kept]
        self.dropped += max(0, len(data) - kept)
        self._cut = self._cut or len(data) > kept

    def _end_line(self, rest: bytes, messages: list[bytes], mark: ReceiptMark | None = None) -> None:
        if self._in_line or len(rest) > self._limit:
            self._extend_line(rest)
            if not self._cut and self._begun.endswith(b"\r"):
                del self._begun[-1:]
            if len(self._begun) > self._limit:
                self._cut = True
                self.dropped += 1
                del self._begun[self._limit :]
            self._in_line = False
            if mark is not None:
                self.marks[len(messages)] = mark
            self._end_message(messages)
        else:
            messages.append(rest.removesuffix(b"\r"))

    def _end_message(self, messages: list[bytes]) -> None:
        if self._cut:
            self.oversized += 1
            self.marks[len(messages)] = self.marks.get(len(messages), ReceiptMark(0)) | ReceiptMark.CUT
            self._cut = False
        messages.append(bytes(self._begun))
        self._begun.clear()

    def _refuse(self, at: int, length: bytes) -> None:
        rule = f"MSG-LEN is 1 to {_LONGEST_LENGTH} digits and not zero (RFC 6587 section 3.4.1)"
        cause = f"{rule}, not {quoted(decoded(length))}"
        self.error = FramingError(self._received + at, cause)
