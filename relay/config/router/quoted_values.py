r"""Quoted values of a router's configuration text, in one line and over several: text in, values out. Pure.

A quoted value begins with a double quote behind a space, and ends with the next double quote, before a space or the end
of a line. A backslash keeps the letter after it. A quote that does not close like that is a letter like others. Limit:
LONGEST lines for one value.
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
    """The begin and the end of each value in the text, with its quotes."""
    return [match.span() for match in _WORD.finditer(text)]


def is_open(text: str) -> bool:
    """Whether a quoted value begins in the text, and does not end there."""
    begins = (match.start() for match in _WORD.finditer(text) if match[2] and match[2][0] == '"')
    return any(_AS_FAR_AS_A_QUOTE.match(text, begin + 1) is None for begin in begins)


class QuotedValue(NamedTuple):
    """The values behind a name: their `text`, with line feeds when it has several lines, and its last line's number."""

    text: str
    end: int


class Quotes:
    """The quotes in the lines of a text, which are numbered from one."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._closed = {
            number: match.end() for number, line in enumerate(lines, 1) if (match := _AS_FAR_AS_A_QUOTE.match(line))
        }
        """For each line with a quote that closes, the index behind it."""
        self._numbers = list(self._closed)
        self._ends: dict[int, int | None] = {}
        """For a line with an open quote at its end, the line in which it closes for good; None when it does not."""

    def whole(self, text: str, begin: int) -> QuotedValue | None:
        """Complete the values behind a name, up to the end of a quote that opens there; None when it does not close."""
        if not is_open(text):
            return QuotedValue(text, begin)
        number, passed = begin, []
        while number not in self._ends:
            passed.append(number)
            nearest = bisect.bisect_right(self._numbers, number)
            closing = self._numbers[nearest] if nearest < len(self._numbers) else None
            if closing and self._after(closing)[:1] not in {"", " ", "\t"}:
                closing = None  # the next quote is within a word
            if closing is None or not is_open(self._after(closing)):
                self._ends[number] = closing
            else:
                number = closing
        end = self._ends[number]
        self._ends.update(dict.fromkeys(passed, end))
        if end is None or end - begin >= LONGEST:
            return None
        return QuotedValue("\n".join((text, *self._lines[begin:end])).rstrip(), end)

    def _after(self, number: int) -> str:
        return self._lines[number - 1][self._closed[number] :]
