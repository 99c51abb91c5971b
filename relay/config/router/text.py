r"""The text of a router's configuration, as its command line prints and loads it: text in, sections out. Pure.

One line is one statement: a name, then values with any run of spaces or tabs between them; a value with spaces stands
in double quotes, in which a backslash keeps the letter after it. Four spaces a level, and a tab is worth four. A
statement with deeper lines under it is a section, and `exit` at its own depth ends it; any other is a leaf, which may
stand without a value. Only where a text has no indentation at all, the sections of SECTIONS are known by their names.
`(text/plain)` and its like after a leaf's name announce a value of several lines: all that is deeper, PEM blocks
wherever they stand, and what was pasted in from the first column on, as far as the next leaf or the section's `exit`.
`delete NAME [force] [KEYS]` takes back what stood before it in the same section.

A section that stands in several places is one, with all their statements; so is a whole text that was pasted twice.
The depth of the lines decides, and `exit` is checked against it: one that is missing or too much is told, and passed
over. The very last one of a text may be missing without a word, as in the vendor's own examples.

Ceilings: MOST_LINES statements and DEEPEST levels, TooMuchError beyond. Nothing else is an error here: what a line
means is for `translation` to say.
"""

import bisect
import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

MOST_LINES: Final = 200_000
DEEPEST: Final = 64
SECTIONS: Final = frozenset(
    {
        "config",
        "authority",
        "router",
        "node",
        "port-forwarding",
        "system",
        "audit",
        "administration",
        "administrative",
        "security",
        "traffic",
        "remote-logging-server",
        "syslog",
        "server",
        "trusted-ca-certificate",
        "client-certificate",
    }
)
_TAB: Final = 4
_WORD: Final = re.compile(r'"((?:[^"\\]|\\.)*)"(?=\s|$)|(\S+)')
_ESCAPED: Final = re.compile(r"\\(.)")
_LONG_VALUE: Final = re.compile(r"\(text/[a-z0-9.+-]+\)")
_PEM_BEGIN: Final = "-----BEGIN "
_PEM_END: Final = "-----END "
_LONGEST_PEM: Final = 1000


class TooMuchError(ValueError):
    """The text is larger or deeper than any configuration; `line` is where."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line


class Remark(NamedTuple):
    """What is odd about the text, and was passed over."""

    line: int
    sentence: str


class Statement(NamedTuple):
    """One line of the text, with what belongs to it."""

    name: str
    rest: str
    """What follows the name, as it stands."""
    line: int
    indent: int
    text: list[str]
    """The lines of a long value."""
    inner: "list[Statement]"

    @property
    def words(self) -> tuple[str, ...]:
        """The values, without their quotes."""
        return words(self.rest)


def words(text: str) -> tuple[str, ...]:
    r"""Part values: `a  "b c"` is a and b c. A quote that is not closed is a letter like others."""
    return tuple(_ESCAPED.sub(r"\1", m[1]) if m[1] is not None else m[2] for m in _WORD.finditer(text))


class Section:
    """One section, from all the places in which the text has it. Lookups cost the same however large it is."""

    def __init__(self, places: Iterable[Statement]) -> None:
        self.line = 0
        self._inner: dict[str, dict[tuple[str, ...], list[Statement]]] = {}
        for place in places:
            self.line = self.line or place.line
            for statement in place.inner:
                self._add(statement)

    def _add(self, statement: Statement) -> None:
        if statement.name == "delete":
            self._delete(*statement.words)
        else:
            self._inner.setdefault(statement.name, {}).setdefault(statement.words, []).append(statement)

    def _delete(self, name: str = "", *keys: str) -> None:
        keys = keys[1:] if keys[:1] == ("force",) else keys
        if keys:
            self._inner.get(name, {}).pop(keys, None)
        else:
            self._inner.pop(name, None)

    def names(self) -> Iterator[tuple[str, int]]:
        """Every name that stands here, with its first line."""
        return ((name, min(s.line for found in by_key.values() for s in found)) for name, by_key in self._inner.items())

    def leaves(self, name: str) -> list[Statement]:
        """All statements of one name, in the text's order."""
        found = [statement for statements in self._inner.get(name, {}).values() for statement in statements]
        return sorted(found, key=lambda statement: statement.line)

    def sections(self, name: str) -> dict[tuple[str, ...], "Section"]:
        """All sections of one name by their keys, in the text's order."""
        return {keys: Section(places) for keys, places in self._inner.get(name, {}).items() if places}

    def section(self, name: str) -> "Section":
        """The one section of a name that has no keys; an empty one where there is none."""
        return Section(self._inner.get(name, {}).get((), ()))


class Text(NamedTuple):
    """A text that was read."""

    root: Section
    remarks: tuple[Remark, ...]


def parse(text: str) -> Text:
    """Read a text."""
    reading = _Reading(list(_lines(text)))
    reading.read()
    return Text(Section([reading.root]), tuple(reading.remarks))


class _Line(NamedTuple):
    number: int
    indent: int
    text: str


def _lines(text: str) -> Iterator[_Line]:
    """The lines in which something stands."""
    count = 0
    for number, line in enumerate(text.split("\n"), 1):
        plain = line.strip()
        if plain:
            count += 1
            if count > MOST_LINES:
                raise TooMuchError(number, f"has more than {MOST_LINES} lines, and so is no router's configuration")
            leading = line[: len(line) - len(line.lstrip())]
            yield _Line(number, len(leading.expandtabs(_TAB)), plain)


class _Reading:
    def __init__(self, lines: list[_Line]) -> None:
        self.lines = lines
        self.at = 0
        self.flat = len({line.indent for line in lines}) < 2  # noqa: PLR2004  two depths are an indentation
        self.root = Statement("", "", 0, -1, [], [])
        self.open = [self.root]
        self.pem_ends = [index for index, line in enumerate(lines) if line.text.startswith(_PEM_END)]
        self.remarks: list[Remark] = []

    def read(self) -> None:
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            if line.text == "exit":
                self._exit(line)
            else:
                self._statement(line)
        missing = len(self.open) - 1
        if missing > 1:
            innermost = self.open[-1]
            self._remark(
                self.lines[-1].number,
                f"the text ends within `{innermost.name}` of line {innermost.line}, {missing} times `exit` too early; "
                "was it cut off?",
            )

    def _exit(self, line: _Line) -> None:
        if not self.flat:
            self._leave_deeper_than(line)
        if len(self.open) > 1 and (self.flat or self.open[-1].indent == line.indent):
            self.open.pop()
        else:
            self._remark(line.number, "this `exit` ends nothing that begins at its depth; it is passed over")

    def _leave_deeper_than(self, line: _Line) -> None:
        while self.open[-1].indent > line.indent:
            left = self.open.pop()
            self._remark(line.number, f"`{left.name}` of line {left.line} should have ended with `exit` before this")

    def _statement(self, line: _Line) -> None:
        name, *rest = line.text.split(maxsplit=1)
        outermost = self.open[1] if len(self.open) == 2 else None  # noqa: PLR2004 - the root, and one within it
        if outermost and outermost.name == name and (self.flat or outermost.indent >= line.indent):
            self.open.pop()  # the next of several texts, each without its last `exit`
        if not self.flat:
            self._leave_deeper_than(line._replace(indent=line.indent - 1))
        statement = Statement(name, rest[0] if rest else "", line.number, line.indent, [], [])
        self.open[-1].inner.append(statement)
        if _LONG_VALUE.fullmatch(statement.rest):
            self._long_value(statement)
        elif self._has_inner(statement):
            self.open.append(statement)
            if len(self.open) - 1 > DEEPEST:
                raise TooMuchError(line.number, f"is nested more than {DEEPEST} levels deep")

    def _has_inner(self, statement: Statement) -> bool:
        if self.flat:
            return statement.name in SECTIONS
        following = self.lines[self.at] if self.at < len(self.lines) else None
        if following is None:
            return False
        # A section in which nothing stands ends right below; a leaf's `exit`, its section's, stands further left.
        own_exit = following.indent == statement.indent and following.text == "exit"
        return following.indent > statement.indent or own_exit

    def _long_value(self, leaf: Statement) -> None:
        while self.at < len(self.lines):
            line = self.lines[self.at]
            end = self.at + 1
            if line.text.startswith(_PEM_BEGIN):
                end = self._pem_end()
            elif self._is_pasted(line, leaf):
                end = self._pasted_end(leaf)
            elif self.flat or line.indent <= leaf.indent:
                return
            leaf.text.extend(inner.text for inner in self.lines[self.at : end])
            self.at = end

    def _is_pasted(self, line: _Line, leaf: Statement) -> bool:
        opening = line.text.split(maxsplit=1)[0]
        return not self.flat and line.indent == 0 < leaf.indent and opening not in {"exit", "delete", *SECTIONS}

    def _pasted_end(self, leaf: Statement) -> int:
        section = self.open[-1].indent
        for index in range(self.at, len(self.lines)):
            line = self.lines[index]
            if line.indent == leaf.indent or (line.indent == section and line.text == "exit"):
                return index
        return len(self.lines)

    def _pem_end(self) -> int:
        """Where the PEM block that begins here is over; one without an end is its first line alone."""
        nearest = bisect.bisect_left(self.pem_ends, self.at)
        if nearest < len(self.pem_ends) and self.pem_ends[nearest] - self.at <= _LONGEST_PEM:
            return self.pem_ends[nearest] + 1
        self._remark(self.lines[self.at].number, "this PEM block does not end")
        return self.at + 1

    def _remark(self, line: int, sentence: str) -> None:
        self.remarks.append(Remark(line, sentence))
