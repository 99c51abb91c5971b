r"""The text of a router's configuration, as its command line prints and loads it: text in, sections out. Pure.

One line is one statement: a name, then values with any run of spaces or tabs between them; a value with spaces stands
in double quotes, in which a backslash keeps the letter after it, and may take several lines. Four spaces a level, and a
tab is worth four. A statement with deeper lines under it is a section, and `exit` at its own depth ends it; any other
is a leaf, which may stand without a value. Only where a text has no indentation at all, sections are known by their
names and places (kinds). `(text/plain)` and its like after a leaf's name, or below it, announce a value of several
lines: all that is deeper, PEM blocks wherever they stand, and what was pasted in from the first column on, as far as
the next leaf or the section's `exit`. `delete NAME [force] [KEYS]` takes back what stood before it in the same section.
A line may say its whole way instead, `config authority router r system audit retention 1d`, as
`show config running flat` prints it; both forms may stand in one text.

A section that stands in several places is one, with all their statements; so is a whole text that was pasted twice.
The depth of the lines decides, and `exit` is checked against it: one that is missing or too much is told, and passed
over. The very last one of a text may be missing without a word, as in the vendor's own examples. What the terminal said
besides (terminal) counts for nothing; other lines before or after a configuration are told, with their number.

`remarks` are what is odd and was passed over; `mistakes` what leaves open what the text means: a quote that does not
close, and then is a letter like others; a lost indentation, without which sections cannot be told apart.
Ceilings: MOST_LINES statements, DEEPEST levels, TooMuchError beyond; LONGEST lines for one value (quotes), which beyond
that does not end. Nothing else is an error here: what a line means is for `translation` to say.
"""

import bisect
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from relay.config.router import section_kind, terminal_text
from relay.config.router.quoted_values import LONGEST, Quotes, words
from relay.config.router.section import Section, Statement
from relay.config.router.section_kind import SectionKind
from relay.values.text import quoted

MOST_LINES: Final = 200_000
DEEPEST: Final = 64
_TAB: Final = 4
_LONG_VALUE: Final = re.compile(r"\(text/[a-z0-9.+-]+\)")
_PEM_BEGIN: Final = "-----BEGIN "
_PEM_END: Final = "-----END "
_WHOLE_WAY: Final = re.compile(r"config(?:ure)?\s+authority(?:\s|$)")
_OUTERMOST: Final = frozenset({"config", "authority", "router", "delete"})


class TooMuchError(ValueError):
    """The text is larger or deeper than any configuration; `line` is where."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line


class Remark(NamedTuple):
    """What is odd about the text, or wrong."""

    line: int
    sentence: str


def beginning(lines: Sequence[str]) -> int | None:
    """Find the line with which a whole configuration begins, beyond doubt; None where there is none."""
    standing = [(number, line.strip()) for number, line in enumerate(lines) if line and not line.isspace()]
    for (number, line), (_, following) in pairwise([*standing, (0, "")]):
        if _WHOLE_WAY.match(line) or (line, following) == ("config", "authority"):
            return number
    return None


class RouterText(NamedTuple):
    """A text that was read."""

    root: Section
    remarks: tuple[Remark, ...]
    mistakes: tuple[Remark, ...]


def parse(text: str) -> RouterText:
    """Read a text."""
    reading = _TextReader(terminal_text.lines(text))
    reading.read()
    return RouterText(Section([reading.root]), tuple(reading.remarks), tuple(reading.mistakes))


class _TextLine(NamedTuple):
    number: int
    indent: int
    text: str


def _statements(shown: Sequence[str]) -> Iterator[_TextLine]:
    """The lines in which something stands."""
    count = 0
    for number, line in enumerate(shown, 1):
        plain = line.strip()
        if plain:
            count += 1
            if count > MOST_LINES:
                raise TooMuchError(number, f"has more than {MOST_LINES} lines, and so is no router's configuration")
            leading = line[: len(line) - len(line.lstrip())]
            yield _TextLine(number, len(leading.expandtabs(_TAB)), plain)


class _TextReader:
    def __init__(self, shown: list[str]) -> None:
        self.shown = shown
        self.remarks: list[Remark] = []
        self.mistakes: list[Remark] = []
        self.lines = self._without_chatter(list(_statements(shown)))
        self.at = self._foreword()
        depths = {line.indent for line in self.lines[self.at :]}
        self.unindented = len(depths) <= 1
        self.root = Statement("", "", 0, -1, [], [])
        self.open = [self.root]
        self.kinds = [section_kind.ROOT]
        """Of the open sections, where their names decide."""
        self.is_way_open = False
        """Whether the outermost open section is one to which a line has said its whole way."""
        self.is_difference = False
        self.ways: dict[tuple[str, ...], Statement] = {}
        """The sections that lines have named which say their whole way."""
        self.pem_ends = [index for index, line in enumerate(self.lines) if line.text.startswith(_PEM_END)]
        self.quotes = Quotes(shown)

    def _without_chatter(self, lines: list[_TextLine]) -> list[_TextLine]:
        for line in lines:
            if terminal_text.changes(line.text):
                self._remark(
                    line.number, "what is typed at a prompt is not read; save what `show config running` prints"
                )
        return [line for line in lines if not terminal_text.is_chatter(line.text)]

    def _foreword(self) -> int:
        """How many lines stand before the configuration begins."""
        if not self.lines or self.lines[0].text.split(maxsplit=1)[0] in {*_OUTERMOST, "configure"}:
            return 0
        begin = beginning([line.text for line in self.lines]) or 0
        if begin:
            self._remark(
                self.lines[0].number,
                f"the configuration begins in line {self.lines[begin].number}; "
                f"what stands before it is passed over, lines: {begin}",
            )
        return begin

    def read(self) -> None:
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            if line.text == "exit":
                self._exit(line)
            else:
                self._statement(line)
        missing = len(self.open) - 1 - self.is_way_open  # a line that says its whole way needs no `exit`
        if missing > 1:
            innermost = self.open[-1]
            self._tell_exit(
                self.lines[-1].number,
                f"the text ends within `{innermost.name}` of line {innermost.line}, {missing} times `exit` too early; "
                "was it cut off?",
            )
        self._tell_outsiders()

    def _tell_outsiders(self) -> None:
        names = {statement.name for statement in self.root.inner}
        outside = [statement for statement in self.root.inner if statement.name not in _OUTERMOST]
        if outside and names & {"config", "authority"}:
            self._remark(
                outside[0].line,
                f"{quoted(outside[0].name)} stands outside of the configuration; such lines are passed over: "
                f"{len(outside)}",
            )

    def _exit(self, line: _TextLine) -> None:
        if not self.unindented:
            self._leave_deeper_than(line)
        at_way = self.is_way_open and not self.open[2:]
        if len(self.open) > 1 and (self.unindented or at_way or self.open[-1].indent == line.indent):
            self._leave()
        else:
            self._tell_exit(line.number, "this `exit` ends nothing that begins at its depth; it is passed over")

    def _tell_exit(self, line: int, sentence: str) -> None:
        """Tell what is wrong with an `exit`: where nothing else tells sections apart, that is a mistake."""
        if self.unindented and not self.ways:
            self._tell_lost(line)
        else:
            self._remark(line, sentence)

    def _tell_lost(self, line: int) -> None:
        if _LOST not in {mistake.sentence for mistake in self.mistakes}:
            self.mistakes.append(Remark(line, _LOST))

    def _leave_deeper_than(self, line: _TextLine) -> None:
        while self.open[-1].indent > line.indent:
            left = self._leave()
            self._remark(line.number, f"`{left.name}` of line {left.line} should have ended with `exit` before this")

    def _enter(self, statement: Statement, kind: SectionKind) -> None:
        self.open.append(statement)
        self.kinds.append(kind)
        if len(self.open) - 1 > DEEPEST:
            raise TooMuchError(statement.line, f"is nested more than {DEEPEST} levels deep")

    def _leave(self) -> Statement:
        self.is_way_open = self.is_way_open and bool(self.open[2:])
        self.kinds.pop()
        return self.open.pop()

    def _statement(self, line: _TextLine) -> None:
        name, *rest = line.text.split(maxsplit=1)
        outermost = self.open[1] if len(self.open) == 2 else None  # noqa: PLR2004 - the root, and one within it
        if self.is_way_open and line.text == "config":
            self._leave_way()
        elif outermost and outermost.name == name and (self.unindented or outermost.indent >= line.indent):
            self._leave()  # the next of several texts, each without its last `exit`
        if not self.unindented:
            self._leave_deeper_than(line._replace(indent=line.indent - 1))
        values = self._values(line, rest[0] if rest else "")
        if _WHOLE_WAY.match(line.text):
            self._whole_way(line, f"config {values}")
            return
        statement = Statement(name, values or self._announced(line), line.number, line.indent, [], [])
        self.open[-1].inner.append(statement)
        if name == "delete":
            self._tell_difference(line.number)
        kind = self._kind(line, name, values)
        if kind and not _LONG_VALUE.fullmatch(statement.rest):
            if kind is _ANY:
                self._tell_leaf(line)
            self._enter(statement, kind)
        else:
            self._fill(statement)

    def _tell_difference(self, line: int) -> None:
        if not self.is_difference:
            self._remark(line, _DIFFERENCE)
        self.is_difference = True

    def _tell_leaf(self, line: _TextLine) -> None:
        """Tell of a leaf under which lines stand: there what they say is lost."""
        name = line.text.split(maxsplit=1)[0]
        following = self.lines[self.at]
        if name in section_kind.LEAVES and following.indent > line.indent:
            self._remark(
                following.number,
                f"this stands deeper than {quoted(name)} of line {line.number}, which is no section; so it is passed "
                "over, with all that follows at this depth. Was the indentation changed?",
            )

    def _announced(self, line: _TextLine) -> str:
        """The announcement of a long value that stands in the line below its leaf."""
        following = self.lines[self.at : self.at + 1]
        if following and following[0].indent > line.indent and _LONG_VALUE.fullmatch(following[0].text):
            self.at += 1
            return following[0].text
        return ""

    def _kind(self, line: _TextLine, name: str, values: str) -> SectionKind | None:
        """Which kind of section it begins; None for a leaf."""
        if not self.unindented:
            return _ANY if self._has_inner(line) else None
        kind = self.kinds[-1].inner.get(name)
        if kind is None and section_kind.is_only_here(name, values):
            self._tell_lost(line.number)
        return kind

    def _values(self, line: _TextLine, text: str) -> str:
        """What follows a name, in this line and, where a quote is open at its end, in the next ones."""
        value = self.quotes.whole(text, line.number)
        if value is None:
            self.mistakes.append(Remark(line.number, _UNCLOSED))
            return text
        begin = self.at
        while self.at < len(self.lines) and self.lines[self.at].number <= value.end:
            self.at += 1
        if any(passed.text == "exit" for passed in self.lines[begin : self.at]):
            sentence = f"the quoted value that begins here goes to line {value.end}, past an `exit`; was its end lost?"
            self._remark(line.number, sentence)
        return value.text

    def _leave_way(self) -> None:
        del self.open[1:], self.kinds[1:]
        self.is_way_open = False

    def _whole_way(self, line: _TextLine, way: str) -> None:
        """Put what a line says at the end of its whole way; where that is a section, the next lines may be in it."""
        place = self.root
        kind: SectionKind | None = None
        path: tuple[str, ...] = ()
        self._leave_way()
        for step in section_kind.steps(way):
            path = (*path, step.name, *words(step.rest))
            new = Statement(step.name, step.rest, line.number, line.indent, [], [])
            statement = self.ways.setdefault(path, new) if step.kind else new
            if statement is new:
                place.inner.append(new)
            place, kind = statement, step.kind
        if kind is None:
            self._fill(place, whole_way=True)
        elif self.at < len(self.lines):
            level = self.lines[self.at].indent <= line.indent  # then its statements stand no deeper than itself
            self._enter(place._replace(line=line.number, indent=line.indent - level), kind)
            self.is_way_open = True

    def _fill(self, leaf: Statement, *, whole_way: bool = False) -> None:
        """Take in the lines of a leaf's value."""
        if "\n" in leaf.rest:
            leaf.text.extend(line.strip() for line in leaf.words[-1].split("\n"))
        elif _LONG_VALUE.fullmatch(leaf.rest):
            self._long_value(leaf, whole_way=whole_way)

    def _has_inner(self, line: _TextLine) -> bool:
        following = self.lines[self.at] if self.at < len(self.lines) else None
        if following is None:
            return False
        # A section in which nothing stands ends right below; a leaf's `exit`, its section's, stands further left.
        own_exit = following.indent == line.indent and following.text == "exit"
        return following.indent > line.indent or own_exit

    def _long_value(self, leaf: Statement, *, whole_way: bool) -> None:
        while self.at < len(self.lines):
            line = self.lines[self.at]
            end = self.at + 1
            if line.text.startswith(_PEM_BEGIN):
                end = self._pem_end()
            elif whole_way and line.text.split(maxsplit=1)[0] in {"exit", "configure", *_OUTERMOST}:
                return
            elif self._is_pasted(line, leaf):
                end = self._pasted_end(leaf)
            elif not whole_way and (self.unindented or line.indent <= leaf.indent):
                return
            leaf.text.extend(inner.text for inner in self.lines[self.at : end])
            self.at = end

    def _is_pasted(self, line: _TextLine, leaf: Statement) -> bool:
        opening = line.text.split(maxsplit=1)[0]
        return (
            not self.unindented
            and line.indent == 0 < leaf.indent
            and opening not in {"exit", "delete", *section_kind.NAMES}
        )

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
        if nearest < len(self.pem_ends) and self.pem_ends[nearest] - self.at <= LONGEST:
            return self.pem_ends[nearest] + 1
        self._remark(self.lines[self.at].number, "this PEM block does not end")
        return self.at + 1

    def _remark(self, line: int, sentence: str) -> None:
        self.remarks.append(Remark(line, sentence))


_ANY: Final = SectionKind({})
"""Of a section that its depth tells."""
_DIFFERENCE: Final = (
    "`delete` stands in what `compare config` prints, and that leaves out what did not change; save what "
    "`show config running` prints"
)
_UNCLOSED: Final = 'the quoted value that begins here does not end; close it with a `"`, or take the line out'
_LOST: Final = (
    "the text has lost its indentation, and its sections cannot be told apart without; save it as the router prints it"
)
