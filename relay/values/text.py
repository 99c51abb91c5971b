r"""How text and octets of others are shown to people: on a terminal, in the log and in the sentences of errors. Pure.

Everything that relay did not write itself (a peer's answer, a file's name, a value of the configuration) may hold
control characters or change the direction of writing. Such a character becomes an escape (`\x1b`, `\u202e`), and so
does an octet that is not UTF-8. A backslash stays as it is: the result is for reading and cannot be turned back.

    decoded        octets as text
    escaped        one line that a terminal shows and does not obey
    printable_json JSON for programs, with escapes of its own for the same characters, which can be turned back
    quoted         escaped and in double quotes, for a sentence; at most 60 characters
    excerpt        escaped, for a sentence that needs no quotes; at most 300 characters
    shortened      at most so many characters
    fitted         at most so many columns of a terminal
    error_text     an exception with its type
    bug_text       an exception that nobody expected, with the line of relay's code where it occurred
    counted        a number with its noun in the singular or plural
"""

import re
import unicodedata
from types import TracebackType
from typing import Final

import relay

_ELLIPSIS: Final = "…"
_QUOTED_CHARACTERS: Final = 60
_EXCERPT_CHARACTERS: Final = 300
_PACKAGE: Final = relay.__path__[0]


def decoded(octets: bytes) -> str:
    r"""UTF-8 as text; other octets as `\xNN`."""
    return octets.decode("utf-8", "backslashreplace")


def escaped(text: str) -> str:
    """One line without control characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable_json(octets: bytes) -> bytes:
    r"""JSON on one line, in UTF-8, that a terminal shows and does not obey: `\u009b`, `\u202e`.

    JSON itself escapes only octets below 0x20 (RFC 8259 section 7). The value is the same.
    """
    if octets.isascii():
        return octets.replace(b"\x7f", rb"\u007f")
    text = octets.decode()
    if text.isprintable():
        return octets
    return "".join(c if c.isprintable() else _json_escape(c) for c in text).encode()


def quoted(text: str) -> str:
    """The text in double quotes, escaped and shortened."""
    return f'"{escaped(shortened(text, _QUOTED_CHARACTERS))}"'


def excerpt(text: str) -> str:
    """The beginning of a text, escaped."""
    return escaped(shortened(text, _EXCERPT_CHARACTERS))


def shortened(text: str, characters: int) -> str:
    """At most so many characters of the text, and an ellipsis where some are missing."""
    return text if len(text) <= characters else text[:characters] + _ELLIPSIS


def fitted(text: str, columns: int | None) -> str:
    """As much of a line as fits into so many columns of a terminal, the ellipsis included; None: all of it."""
    if columns is None or (len(text) <= columns and text.isascii()):
        return text
    taken = with_ellipsis = 0
    for end, character in enumerate(text):
        taken += _columns(character)
        if taken > columns:
            return text[:with_ellipsis] + _ELLIPSIS
        if taken < columns:
            with_ellipsis = end + 1
    return text


def error_text(error: BaseException) -> str:
    """The type and the message of an exception, on one line."""
    message = escaped(str(error))
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def bug_text(bug: BaseException) -> str:
    """What replaces a traceback: the innermost line of relay's code, the type and the message, on one line."""
    place, trace = "", bug.__traceback__
    while isinstance(trace, TracebackType):
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(f"{_PACKAGE}/"):
            place = f" at relay{file.removeprefix(_PACKAGE)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"a bug{place}: {error_text(bug)}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 block", "2 blocks"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def _json_escape(character: str) -> str:
    """Above U+FFFF it takes two: those of its surrogates."""
    return re.sub("....", r"\\u\g<0>", character.encode("utf-16-be").hex())


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
