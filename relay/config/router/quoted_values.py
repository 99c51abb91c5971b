r"""Quoted values of a router's configuration text, in one line and over several: text in, values out. Pure.

A quoted value begins with a double quote before which a space stands, and ends with the next one, behind which a space
or the line's end stands. A backslash keeps the letter after it. A quote that does not close so is a letter like others.
Ceiling: LONGEST lines for one value.
"""

import bisect
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

LONGEST: Final = 1000
_WORD: Final = re.compile(r'"((?:[^"\\]|\\.)*)"(?=\s|$)|(\S+)', re.DOTALL)
_AS_FAR_AS_A_QUOTE: Final = re.compile(r'(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def words(text: str) -> tuple[str, ...]:
    r"""Part values: `a  "b c"` is a and b c. A quote that is not closed is a letter like others."""
    return tuple(_ESCAPED.sub(r"\1", m[1]) if m[1] is not None else m[2] for m in _WORD.finditer(text))


def places(text: str) -> list[tuple[int, int]]:
    """Where in the text each value begins and ends, its quotes included."""
    return [match.span() for match in _WORD.finditer(text)]


def is_open(text: str) -> bool:
    """Whether a quoted value begins in values, and does not end there."""
    begins = (match.start() for match in _WORD.finditer(text) if match[2] and match[2][0] == '"')
    return any(_AS_FAR_AS_A_QUOTE.match(text, begin + 1) is None for begin in begins)


class QuotedValue(NamedTuple):
    """What follows a name: its `text`, with line feeds where it has several lines, and its last line's number."""

    text: str
    end: int


class Quotes:
    """The quotes in the lines of a text, which are numbered from one."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._closed = {
            number: match.end() for number, line in enumerate(lines, 1) if (match := _AS_FAR_AS_A_QUOTE.match(line))
        }
        """How far each line is within a quote that is open at its beginning."""
        self._numbers = list(self._closed)
        self._ends: dict[int, int | None] = {}
        """Where the quote that is open at a line's end closes for good; None where it does not."""

    def whole(self, text: str, begin: int) -> QuotedValue | None:
        """Complete what follows a name in a line, as far as a quote that opens there closes; None where it does not."""
        if not is_open(text):
            return QuotedValue(text, begin)
        end = self._end(begin)
        if end is None or end - begin >= LONGEST:
            return None
        return QuotedValue("\n".join((text, *self._lines[begin:end])).rstrip(), end)

    def _end(self, number: int) -> int | None:
        passed = []
        while number not in self._ends:
            passed.append(number)
            closing = self._next(number)
            if closing is None or not is_open(self._after(closing)):
                self._ends[number] = closing
            else:
                number = closing
        found = self._ends[number]
        self._ends.update(dict.fromkeys(passed, found))
        return found

    def _next(self, number: int) -> int | None:
        """The next line with a quote, if that one closes."""
        nearest = bisect.bisect_right(self._numbers, number)
        found = self._numbers[nearest] if nearest < len(self._numbers) else None
        return found if found and self._after(found)[:1] in {"", " ", "\t"} else None

    def _after(self, number: int) -> str:
        return self._lines[number - 1][self._closed[number] :]
