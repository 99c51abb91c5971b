"""Messages on a stream: RFC 6587 octet counting (as in RFC 5425) and non-transparent framing.

A counted frame is `MSG-LEN SP SYSLOG-MSG` (section 3.4.1), a trailed one `SYSLOG-MSG TRAILER` (section 3.4.2).

`Decoder` distinguishes them frame by frame by the first octet: 1 to 9 begins a counted frame, `<` a trailed one.

- The trailer is LF or CR LF, so a trailed message that ends with CR loses it. If a NUL comes before any LF in the first
  trailed frame of a stream, NUL is a trailer in that stream as well: Python's SysLogHandler ends its messages with NUL,
  and other senders can be configured to. Elsewhere a NUL is an ordinary octet.
- Trailers and CR between frames are skipped.
- In a stream that has had a trailed frame, any other line is a message of its own, also one that begins with a digit
  which is not a count before a `<`. Such lines follow a trailer inside a message, which senders of this framing write;
  rsyslog and syslog-ng read them in the same way.
- Anything else is a FramingError: the beginnings of later frames are unknown then, so no later octet can be trusted.

Ceilings: a message longer than `max_message_size` is skipped whole, by its count or to its trailer, and counted in
`oversized`; MSG-LEN has at most 9 digits. Memory: one message and the octets last received. Work is linear in the
octets, however they are cut.
"""

import re

from relay.errors import DataError, ProtocolError
from relay.values.text import decoded, quoted

LF = b"\n"
NUL = b"\0"
TRAILERS = {"LF": LF, "NUL": NUL}
"""By their names in the configuration."""
MAX_LENGTH_DIGITS = 9
DEFAULT_MAX_MESSAGE_SIZE = 128 * 1024

_BETWEEN = b"\r\n"
_BETWEEN_WITH_NUL = b"\r\n\0"
_LF_OR_NUL = re.compile(rb"[\n\0]")
_NONZERO = frozenset(b"123456789")
_LESS_THAN = ord("<")
_COUNT = re.compile(rb"[1-9][0-9]{0,%d} <" % (MAX_LENGTH_DIGITS - 1))
_BEGUN_COUNT = re.compile(rb"[1-9][0-9]{0,%d} ?\Z" % (MAX_LENGTH_DIGITS - 1))


class FramingError(ProtocolError):
    """The peer's stream has no syslog framing; the bad frame began at the stream's octet `offset`."""

    def __init__(self, offset: int, cause: str) -> None:
        super().__init__("syslog stream", f"octet {offset}: {cause}", "close the connection")
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
        *("_begun", "_between", "_in_line", "_limit", "_lines", "_missing", "_nul", "_skipping", "_received"),
        *("error", "oversized", "truncated"),
    )

    def __init__(self, max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE) -> None:
        self.error: FramingError | None = None
        self.oversized = 0
        """Messages skipped because they are too long."""
        self.truncated = False
        """Whether the stream ended inside a frame (one that is counted in `oversized` is not reported again)."""
        self._limit = max_message_size
        self._received = 0
        self._begun = bytearray()  # an unfinished frame: its MSG-LEN, or its message
        self._missing = 0  # octets of a counted message, kept or skipped, that have not arrived
        self._skipping = False  # the unfinished frame is oversized; without _missing it runs to its LF
        self._in_line = False  # the unfinished frame is a trailed one
        self._lines = False  # there has been a trailed one
        self._nul: bool | None = None  # whether NUL is a trailer too; None before the first trailed frame has ended
        self._between = _BETWEEN

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._begun) or self._missing > 0 or self._skipping

    def receive(self, data: bytes) -> list[bytes]:
        """Receive the stream's next octets; the messages that they complete. Raises `error` once it is set."""
        if self.error is not None:
            raise self.error
        messages: list[bytes] = []
        if self._missing:  # complete the counted frame that has begun
            taken = min(self._missing, len(data))
            self._missing -= taken
            self._received += taken
            if not self._skipping:
                self._begun += data[:taken]
            if not self._missing:
                if not self._skipping:
                    messages.append(bytes(self._begun))
                self._begun.clear()
                self._skipping = False
            data = data[taken:]
        elif self._in_line:
            data = self._continue_trailed(data, messages)
        elif self._begun:  # an unfinished MSG-LEN: at most nine octets to look at again
            self._received -= len(self._begun)
            data = bytes(self._begun) + data
            self._begun.clear()
        self._read_frames(data, messages)
        self._received += len(data)
        return messages

    def finish(self) -> bool:
        """End the stream; whether it ended between frames."""
        if self.error is not None:
            raise self.error
        self.truncated = self.partial and not self._skipping
        return not self.truncated

    def _continue_trailed(self, data: bytes, messages: list[bytes]) -> bytes:
        """Complete the trailed frame that has begun; returns the octets after it."""
        end = self._find_trailer(data, 0)
        if end < 0:
            self._extend_line(data)
            self._received += len(data)
            return b""
        if not self._skipping:
            self._end_line(bytes(self._begun) + data[:end], messages)
        self._begun.clear()
        self._skipping = self._in_line = False
        self._received += end + 1
        return data[end + 1 :]

    def _find_trailer(self, data: bytes, at: int) -> int:
        """Find the end of the trailed frame that continues at `at`; -1 when it does not end."""
        if self._nul is False:
            return data.find(LF, at)
        found = _LF_OR_NUL.search(data, at)
        if found is None:
            return -1
        if self._nul is None:
            self._nul = found[0] == NUL
            self._between = _BETWEEN_WITH_NUL if self._nul else _BETWEEN
        return found.start()

    def _extend_line(self, data: bytes) -> None:
        """Add octets to a trailed message, or skip it over the limit; a last CR may belong to the trailer."""
        if not self._skipping:
            self._begun += data
            if len(self._begun) - self._begun.endswith(b"\r") > self._limit:
                self.oversized += 1
                self._begun.clear()
                self._skipping = True

    def _end_line(self, message: bytes, messages: list[bytes]) -> None:
        message = message.removesuffix(b"\r")
        if len(message) <= self._limit:
            messages.append(message)
        else:
            self.oversized += 1

    def _read_frames(self, data: bytes, messages: list[bytes]) -> None:
        """Read frames from where one begins. The hot loop: counted frames cost one find and one slice."""
        at, size, limit = 0, len(data), self._limit
        while at < size:
            first = data[at]
            if first in _NONZERO and not (self._lines and not _COUNT.match(data, at)):
                space = data.find(b" ", at, at + MAX_LENGTH_DIGITS + 1)
                digits = data[at:space] if space >= 0 else data[at : at + MAX_LENGTH_DIGITS + 1]
                if not digits.isdigit() or len(digits) > MAX_LENGTH_DIGITS:
                    self._refuse(at, "MSG-LEN is 1 to 9 digits, followed by one space")
                    return
                if space < 0:
                    self._begun += digits
                    return
                end = space + 1 + int(digits)
                if end <= size and end - space <= limit + 1:
                    messages.append(data[space + 1 : end])
                    at = end
                else:
                    at = self._begin_counted(data, space + 1, end)
            elif self._lines and _BEGUN_COUNT.match(data, at):  # a count or a line; the next octets decide
                self._begun += data[at:]
                return
            elif first == _LESS_THAN or (self._lines and first not in self._between):
                self._lines = True
                end = self._find_trailer(data, at)
                if end < 0:
                    self._in_line = True
                    self._extend_line(data[at:])
                    return
                self._end_line(data[at:end], messages)
                at = end + 1
            elif first in self._between:
                at += 1
            else:
                self._refuse(at, f"a frame begins with a digit 1 to 9 or <, not with {first:#04x}")
                return

    def _begin_counted(self, data: bytes, begin: int, end: int) -> int:
        """Begin a counted frame that is incomplete, or too long; returns where the next one begins."""
        self._missing = max(0, end - len(data))
        if end - begin > self._limit:
            self.oversized += 1
            self._skipping = self._missing > 0
        else:
            self._begun += data[begin:]
        return end

    def _refuse(self, at: int, cause: str) -> None:
        self.error = FramingError(self._received + at, f"{cause} (RFC 6587 section 3.4)")
