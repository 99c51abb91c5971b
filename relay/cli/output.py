r"""Untrusted octets as text that a terminal may see.

Whatever is not printable, control characters and what turns the direction of writing among them, becomes an escape
(`\x1b`, `\u202e`), and so does what is no UTF-8. A backslash stays as it is: this is for people's eyes, and cannot be
turned back.
"""

import unicodedata
from collections.abc import Iterator
from typing import Final

_ELLIPSIS: Final = "…"


def text_of(octets: bytes) -> str:
    r"""UTF-8 as text; other octets as `\xNN`."""
    return octets.decode("utf-8", "backslashreplace")


def escaped(text: str) -> str:
    """One line without control characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def cut(text: str, columns: int | None) -> str:
    """As much of a printable line as fits into so many columns of a terminal; None: all of it."""
    if columns is None or (len(text) <= columns and text.isascii()):
        return text
    kept = list(_within(text, columns))
    return text if len(kept) == len(text) else "".join(_within(text, columns - 1)) + _ELLIPSIS


def _within(text: str, columns: int) -> Iterator[str]:
    for character in text:
        columns -= _width(character)
        if columns < 0:
            return
        yield character


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
