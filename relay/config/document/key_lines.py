"""The line of every key in a TOML text (TOML 1.0), which tomllib does not give.

For a text that tomllib accepts, each key, table, array element and header has its line, counted from one; a key that is
built up in several places has the first. Other texts must not be passed in. Nesting is as deep as Python's recursion,
RecursionError beyond.
"""

import bisect
import re
import tomllib
from typing import Final

from relay.config.key_path import KeyPath

_BLANK: Final = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_KEY: Final = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
# The three quotes that close a long string can have up to two quotes of the string before them.
_STRING: Final = re.compile(
    r'''"""(?:\\.|[^\\])*?""""{0,2}|\'\'\'.*?\'\'\'\'{0,2}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'''', re.DOTALL
)
_SCALAR: Final = re.compile(r"[^,\]}\n#]*")


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line of every key in the text."""
    return _Scan(text.replace("\r\n", "\n")).document()


class _Scan:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.newlines = [match.start() for match in re.finditer("\n", text)]
        self.lines: dict[KeyPath, int] = {}
        self.elements: dict[KeyPath, int] = {}
        """The number of tables that each array of tables has so far."""

    def document(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._skip(_BLANK) and self.at < len(self.text):
            if self._next("[["):
                table = self._header(array=True)
            elif self._next("["):
                table = self._header(array=False)
            else:
                self._pair(table)
        return self.lines

    def _header(self, *, array: bool) -> KeyPath:
        path: KeyPath = ()
        *parents, last = self._key()
        for parent in parents:
            path = self._mark((*path, parent))
            if path in self.elements:
                path = (*path, self.elements[path] - 1)
        path = self._mark((*path, last))
        if array:
            self.elements[path] = self.elements.get(path, 0) + 1
            path = self._mark((*path, self.elements[path] - 1))
        self.at = self.text.index("]", self.at) + (2 if array else 1)
        return path

    def _pair(self, table: KeyPath) -> None:
        for part in self._key():
            table = self._mark((*table, part))
        self._next("=")
        self._value(table)

    def _key(self) -> list[str]:
        parts = []
        while True:
            self._skip(_SPACE)
            part = self._take(_KEY)
            if part[0] in "\"'":
                (part,) = tomllib.loads(f"{part} = 0")
            parts.append(part)
            self._skip(_SPACE)
            if not self._next("."):
                return parts

    def _value(self, path: KeyPath) -> None:
        self._skip(_SPACE)
        if self._next("["):
            index = 0
            while self._skip(_BLANK) and not self._next("]"):
                self._value(self._mark((*path, index)))
                self._skip(_BLANK)
                self._next(",")
                index += 1
        elif self._next("{"):
            while self._skip(_BLANK) and not self._next("}"):
                self._pair(path)
                self._skip(_BLANK)
                self._next(",")
        else:
            self._take(_STRING if self.text[self.at] in "\"'" else _SCALAR)

    def _mark(self, path: KeyPath) -> KeyPath:
        self.lines.setdefault(path, bisect.bisect_left(self.newlines, self.at) + 1)
        return path

    def _next(self, token: str) -> bool:
        found = self.text.startswith(token, self.at)
        self.at += len(token) if found else 0
        return found

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        self._take(pattern)
        return True

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:  # tomllib accepts no such text
            raise AssertionError(f"cannot parse TOML at character {self.at}")
        self.at = match.end()
        return match[0]
