"""Finding lines in a day's log without parsing what cannot match.

The ledger rules out whole pieces. The rest is read in blocks of whole lines, and a block without any of the needles is
passed over by a search of its octets. Only the remaining lines are cut out and unescaped.

Without a condition on pieces the ledger is read only around hits, so a search for a rare text costs as much as
`grep -F`. Memory: one block, or one line where it is longer.
"""

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from relay.archive.log_line import unescape
from relay.archive.reading.day_log import A_DAY, DayLog, Piece

BLOCK: Final = 1_048_576
_FIRST_BLOCK: Final = 16_384
"""Backward, where often a few lines are enough, blocks grow from this size."""
MAX_LINE: Final = 32 * 1_048_576

_PLAIN_IN_TEXT: Final = re.compile(rb"[^\x00-\x1f\x7f#]+")
_PLAIN_IN_JSON: Final = re.compile(rb"[ !$-.0-;=?-\[\]-}]+")
_RAW_BASE64: Final = b'"raw_base64"'


class LineQuery(NamedTuple):
    """What can be decided about lines before they are parsed."""

    piece: Callable[[Piece], bool] | None = None
    """Whether a piece can hold a selected line; None: each can."""
    texts: tuple[bytes, ...] = ()
    """The message has one of these texts; empty: no condition."""


class ArchivedMessage(NamedTuple):
    """One line of a log."""

    offset: int
    end: int
    """Where the next line begins."""
    message: bytes
    piece: Piece
    number: int
    """The line's number within its piece, from 0; -1: `DayLog.line_number` has to count."""


class SearchedTo(NamedTuple):
    """Everything from this offset of a log on is searched."""

    offset: int


Found = tuple[int, ArchivedMessage]
"""The time of receipt, and a message."""
FoundBackward = tuple[int, ArchivedMessage | SearchedTo]
"""The same; or how far the search is, and a time after which nothing more comes."""


class _RawField(msgspec.Struct):
    raw: str = ""
    raw_base64: str = ""


def search(
    day: DayLog, query: LineQuery, *, block: int = BLOCK, begin: int = 0, until: int | None = None
) -> Iterator[Found]:
    """The day's lines that the query does not rule out, in the log's order, between two offsets."""
    needles = needles_for(query.texts, is_json=day.is_json)
    for start, end, pieces in _runs(day, query, block, begin, until):
        for offset, octets in _blocks(day, start, end, block):
            within = pieces
            if needles and not any(needle in octets for needle in needles):
                continue
            if within is None:
                within = list(day.pieces(offset, offset + len(octets)))
            yield from _messages(day, offset, octets, within, needles)


def search_backward(
    day: DayLog, query: LineQuery, *, block: int = BLOCK, before: int | None = None
) -> Iterator[FoundBackward]:
    """The same lines, the newest first; those that begin before the offset `before`."""
    needles = needles_for(query.texts, is_json=day.is_json)
    for start, end, pieces in _runs_backward(day, query, block, before):
        oldest = pieces[0].extent if pieces else None
        for offset, octets in _blocks_backward(day, start, end, block):
            within = pieces
            if not needles or any(needle in octets for needle in needles):
                if within is None:
                    within = list(day.pieces(offset, offset + len(octets)))
                found = list(_messages(day, offset, octets, within, needles, backward=True))
                yield from reversed(found)
        yield (oldest.at[0] if oldest else day.begin), SearchedTo(start)


# --- Which octets ---


Run = tuple[int, int, Sequence[Piece] | None]
"""Consecutive octets, begin and end, with their pieces; None: the ledger was not asked."""


def _runs(day: DayLog, query: LineQuery, block: int, begin: int, until: int | None) -> Iterator[Run]:
    if query.piece is None and query.texts:
        yield begin, day.log.size() if until is None else until, None
        return
    gathered: list[Piece] = []
    for piece in day.pieces(begin, until):
        if gathered and (piece.off != gathered[-1].end or piece.end - gathered[0].off > block):
            yield max(begin, gathered[0].off), gathered[-1].end, gathered
            gathered = []
        if query.piece is None or query.piece(piece):
            gathered.append(piece)
    if gathered:
        yield max(begin, gathered[0].off), gathered[-1].end, gathered


def _runs_backward(day: DayLog, query: LineQuery, block: int, before: int | None) -> Iterator[Run]:
    if query.piece is None and query.texts:
        size = day.log.size()
        yield 0, size if before is None else min(size, before), None
        return
    gathered: list[Piece] = []
    limit = min(_FIRST_BLOCK, block)
    for piece in day.pieces_backward(before):
        if gathered and (piece.end != gathered[-1].off or gathered[0].end - piece.off > limit):
            yield gathered[-1].off, gathered[0].end, gathered[::-1]
            gathered = []
            limit = min(limit * 2, block)
        if query.piece is None or query.piece(piece):
            gathered.append(piece)
    if gathered:
        yield gathered[-1].off, gathered[0].end, gathered[::-1]


def _blocks(day: DayLog, start: int, end: int, block: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines from `start` to `end`; what has no LF at the end is being written, and left out."""
    length = block
    while start < end:
        octets = day.log.read(start, min(length, end - start))
        whole = octets.rfind(b"\n") + 1
        if not whole and start + len(octets) < end and octets:
            if length >= MAX_LINE:
                start += len(octets)  # no line of an archive is so long
            length = min(length * 2, MAX_LINE)
            continue
        if not whole:
            return
        octets = octets[:whole]
        yield start, octets
        start, length = start + whole, block


def _blocks_backward(day: DayLog, start: int, end: int, block: int) -> Iterator[tuple[int, bytes]]:
    length = min(_FIRST_BLOCK, block)
    step = length
    while start < end:
        begin = max(start, end - length)
        octets = day.log.read(begin, end - begin)
        skipped = octets.find(b"\n", 0, -1) + 1 if begin > start else 0
        if begin > start and not skipped and length < MAX_LINE:
            length = min(length * 2, MAX_LINE)
            continue
        yield begin + skipped, octets[skipped : octets.rfind(b"\n") + 1]
        end = begin + skipped
        step = length = min(step * 2, block)


# --- Which lines ---


def _messages(
    day: DayLog,
    offset: int,
    octets: bytes,
    pieces: Sequence[Piece],
    needles: Sequence[bytes],
    *,
    backward: bool = False,
) -> Iterator[Found]:
    """The lines of a block that have a needle; all, without needles."""
    read = message_of_json if day.is_json else unescape
    if not pieces:
        return
    place, last = 0, len(pieces) - 1
    counted, number = max(pieces[0].off - offset, 0), 0
    for begin, line in _lines(octets, needles):
        at = offset + begin
        while place < last and pieces[place].end <= at:
            place += 1
            counted, number = pieces[place].off - offset, 0
        piece = pieces[place]
        if needles:
            number += octets.count(b"\n", counted, begin)
            counted = begin
        yield (
            _time(piece, day, backward=backward),
            ArchivedMessage(at, at + len(line) + 1, read(line), piece, number if piece.off >= offset else -1),
        )
        number += not needles


def _lines(octets: bytes, needles: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """Where each line begins, and the line without its LF."""
    if not needles:
        begin = 0  # not split: with thousands of originators, each would hold its block twice
        while (end := octets.find(b"\n", begin)) >= 0:
            yield begin, octets[begin:end]
            begin = end + 1
        return
    end = -1
    hits = [octets.find(needle) for needle in needles]
    while (hit := min((at for at in hits if at >= 0), default=-1)) >= 0:
        begin, end = octets.rfind(b"\n", 0, hit) + 1, octets.find(b"\n", hit)
        yield begin, octets[begin:end]
        hits = [
            octets.find(needle, end + 1) if 0 <= at <= end else at for needle, at in zip(needles, hits, strict=True)
        ]


def _time(piece: Piece, day: DayLog, *, backward: bool) -> int:
    if piece.extent is not None:
        return piece.extent.at[0]
    return day.begin + (A_DAY if backward else 0)


def needles_for(texts: Sequence[bytes], *, is_json: bool) -> tuple[bytes, ...]:
    """Octets of which a line has one when its message has one of the texts; empty: nothing can be said."""
    found = []
    for text in texts:
        longest = max((_PLAIN_IN_JSON if is_json else _PLAIN_IN_TEXT).findall(text), key=len, default=b"")
        if not longest:
            return ()
        found.append(longest)
    if found and is_json:
        found.append(_RAW_BASE64)
    return tuple(found)


def message_of_json(line: bytes) -> bytes:
    """The message's octets from a line of a log in format "json"; the line itself when it is not such a line."""
    try:
        found = msgspec.json.decode(line, type=_RawField)
        return base64.b64decode(found.raw_base64) if found.raw_base64 else found.raw.encode()
    except (msgspec.MsgspecError, ValueError):
        return line
