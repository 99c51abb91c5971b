r"""The collector's output, from octets in any cut to events.

A record ends at a line feed that is not inside a text in quotes: a configuration diff is a text of many lines. A line
that begins with `{` is JSON (`json_line`), any other is line protocol (`line_protocol`). Empty lines, and lines that
begin with `#`, are ignored.

Data that cannot be parsed is returned as `Malformed`, octet for octet, so that nothing is lost. A record that was cut
in the middle of a text would swallow the records after it as the rest of that text. Therefore reading begins anew where
a line inside a text begins with the record's own name and ends with a time. It also begins anew, when a record of
several lines cannot be parsed, at the next line that begins with the name. It does so at most `_RESTARTS` times over
the same octets, so that all work is linear.

Ceiling: `max_record` octets are kept of a record that has not ended. A longer record comes in malformed pieces.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.events.ssr import json_line, line_protocol
from relay.events.ssr.collected import Collected, NotCollectedError

MAX_RECORD: Final = 1024 * 1024
_RESTARTS: Final = 8
_BLANK: Final = re.compile(rb"[\t\v\f\r ]*")
_TO_LF: Final = re.compile(rb"[^\n]*")
_SERIES: Final = re.compile(rb"(?:[^\t\v\f \n,\\]++|\\[^\n])*+")
_TAGS: Final = re.compile(rb"(?:[^\t\v\f \n\\]++|\\(?=\\)|\\[^\n\\])*+")
_FIELDS: Final = re.compile(rb'[^"\n]*+')
_TEXT: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_LF: Final = 10
_COMMA: Final = 44
_BACKSLASH: Final = 92
_WHOLE_LINES: Final = frozenset(b"{#")
_REST: Final = "it is the rest of a record that is too long"
_NAME: Final = re.compile(rb"[\t\v\f ]*((?:[^\t\v\f\r\n ,\\]++|\\[^\n])++)")


class Malformed(NamedTuple):
    """Data that is not an event: its octets, without the line feed that ends them, and why."""

    octets: bytes
    reason: str


class RecordDecoder:
    """Decodes one child's output."""

    def __init__(self, max_record: int = MAX_RECORD) -> None:
        self._max_record = max_record
        self._begin()
        self._buffer = b""
        self._furthest = 0
        """How far octets were scanned that could not be parsed."""
        self._restarts = 0
        """How often reading began anew before that offset."""
        self._within = False
        """Whether the buffer begins inside a record that was too long."""

    @property
    def held(self) -> int:
        """Octets of a record that has begun and not ended."""
        return len(self._buffer)

    def receive(self, data: bytes) -> list[Collected | Malformed]:
        """Decode the next octets; the records that they complete."""
        self._buffer += data
        found = list(self._complete())
        if len(self._buffer) > self._max_record:
            found.append(Malformed(self._buffer, f"it is longer than {self._max_record} octets"))
            self._buffer = b""
            self._begin()
            self._furthest = 0
            self._within = True
        return found

    def finish(self, *, whole: bool = False) -> list[Collected | Malformed]:
        """Note the end of the output; the last record, if it has begun and has no line feed.

        `whole`: the writer ended well, so it has written all of its last record, though without a line feed.
        """
        last = []
        if whole:
            self._buffer += b"\n"
            last = list(self._complete())
            self._buffer = self._buffer.removesuffix(b"\n")
        rest, self._buffer = self._buffer, b""
        self._begin()
        self._furthest = 0
        within, self._within = self._within, False
        reason = _REST if within else "it has no end"
        return [*last, Malformed(rest, reason)] if rest.strip() else last

    # --- Where a record ends ---

    def _begin(self) -> None:
        self._at = 0
        """How far the buffer was scanned."""
        self._state: re.Pattern[bytes] = _BLANK
        """What is being skipped there."""
        self._lines = 0
        """How far texts of several lines were searched for the beginning of another record."""

    def _complete(self) -> Iterator[Collected | Malformed]:
        start = 0
        while True:
            end = self._end()
            cut = self._cut(start, end)
            if cut >= 0:
                yield Malformed(self._buffer[start:cut], "it is cut in the middle of a text")
                start = cut + 1
                self._again(start)
            elif end < 0:
                break
            else:
                read: Collected | Malformed | None = None
                if self._within:
                    self._within = False
                    if end > start:
                        read = Malformed(self._buffer[start:end], _REST)
                else:
                    read = _parse(self._buffer[start:end])
                    if isinstance(read, Malformed) and (another := self._next_of_name(start, end)) >= 0:
                        end = another
                        read = read._replace(octets=self._buffer[start:end])
                if read is not None:
                    yield read
                start = end + 1
                self._again(start)
        self._buffer = self._buffer[start:]
        self._at -= start
        self._lines = max(0, self._lines - start)
        self._furthest = max(0, self._furthest - start)

    def _again(self, start: int) -> None:
        self._begin()
        self._at = self._lines = start

    def _end(self) -> int:
        """Find the line feed that ends the record begun; -1 when it has not come."""
        octets = self._buffer
        while True:
            match = self._state.match(octets, self._at)
            self._at = at = match.end() if match else self._at
            if at == len(octets) or (octets[at] == _BACKSLASH and at + 1 == len(octets)):
                return -1
            octet = octets[at]
            if octet == _LF and self._state is not _TEXT:
                return at
            # The octet ends what was being skipped.
            if self._state is _BLANK:
                self._state = _TO_LF if self._within or octet in _WHOLE_LINES else _SERIES
                continue
            if self._state is _SERIES and octet == _COMMA:
                self._state = _TAGS
            elif self._state is _TEXT or (self._state is not _FIELDS and octet != _BACKSLASH):
                self._state = _FIELDS
            elif self._state is _FIELDS and octets[at - 1 : at] == b"=":
                self._state = _TEXT
            self._at += 1

    # --- Where a record was cut ---

    def _cut(self, start: int, end: int) -> int:
        """Find the line feed inside a text behind which another record begins; -1 when there is none."""
        reached = self._at if end < 0 else end
        if self._within:
            return -1
        first = self._buffer.find(b"\n", self._lines, reached)
        if first < 0:
            self._lines = reached
            return -1
        found = self._line_of_name(rb"[, ][^\n]* -?[0-9]{10,19}\r?\n", start, (first, reached))
        if found < 0:
            self._lines = self._buffer.rfind(b"\n", first, reached)
        return found

    def _next_of_name(self, start: int, end: int) -> int:
        """Find the line feed before the next line that begins with the record's name; -1: the whole record is lost."""
        if start >= self._furthest:
            self._restarts = 0
        self._furthest = max(self._furthest, end)
        self._restarts += 1
        return self._line_of_name(rb"[, ]", start, (start, end)) if self._restarts <= _RESTARTS else -1

    def _line_of_name(self, rest: bytes, start: int, within: tuple[int, int]) -> int:
        """Find the line feed before a line of the record's name and `rest`; -1 when there is none."""
        name = _NAME.match(self._buffer, start)
        found = name and re.compile(rb"\n(?=" + re.escape(name[1]) + rest + rb")").search(self._buffer, *within)
        return found.start() if found else -1


def _parse(record: bytes) -> Collected | Malformed | None:
    text = record.lstrip(b" \t\v\f\r")
    if not text or text.startswith(b"#"):
        return None
    parse = json_line.parse if text.startswith(b"{") else line_protocol.parse
    try:
        return parse(record)
    except NotCollectedError as error:
        return Malformed(record, error.cause)
