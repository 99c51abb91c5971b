"""How OpenSSH divides known_hosts and authorized_keys: lines at LF, fields at spaces and tabs, and nowhere else.

A line ends at a NUL too, because OpenSSH reads it as a C string. Other line breaks (U+2028, NEL, form feed, …) belong
to the field or comment that holds them: otherwise a comment could hide a key. Pure.
"""

from collections.abc import Iterator
from typing import Final

BLANKS: Final = " \t"
_SKIPPED_IN_A_KEY: Final = dict.fromkeys(map(ord, "\r\v\f"))


def key_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are neither empty nor a comment, each with its number, without the blanks at its begin."""
    for number, line in enumerate(text.split("\n"), 1):
        begun = line.partition("\0")[0].lstrip(BLANKS)
        if begun and begun != "\r" and begun[0] != "#":
            yield number, begun


def split_field(text: str) -> tuple[str, str]:
    """The first field, and the rest without the blanks before it."""
    end = min((at for at in map(text.find, BLANKS) if at >= 0), default=len(text))
    return text[:end], text[end:].lstrip(BLANKS)


def without_line_breaks(encoded: str) -> str:
    """A key without the characters that OpenSSH skips in it, such as the CR of a line that ends in CR LF."""
    return encoded.translate(_SKIPPED_IN_A_KEY)
