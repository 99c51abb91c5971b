r"""The text of a router's configuration, as its command line prints and loads it: text in, sections out. Pure.

One line is one statement: a name, then values, separated by any number of spaces or tabs. A value with spaces is in
double quotes, in which a backslash keeps the letter after it, and can span several lines. A level is four spaces, or a
tab. A statement with deeper lines under it is a section, and `exit` at its own depth ends it. Any other statement is a
leaf, which can be without a value. Only in a text without any indentation, sections are known by their names and places
(section_kind). `(text/plain)` and its like after a leaf's name, or below it, announce a value of several lines: all
deeper lines, PEM blocks at any depth, and text that was pasted in from the first column on, up to the next leaf or the
section's `exit`. `delete NAME [force] [KEYS]` takes back an earlier statement of the same section. A line can have its
full path instead, `config authority router r system audit retention 1d`, as `show config running flat` prints it. Both
forms can be in one text.

A section that appears in several places is one section, with all their statements; so is a whole text that was pasted
twice. The depth of the lines decides, and `exit` is checked against it: a missing or superfluous `exit` is a remark,
and ignored. The very last `exit` of a text can be missing without a remark, as in the vendor's own examples. Lines that
the terminal printed (terminal_text) are ignored; other lines before or after a configuration are remarks.

`remarks` are oddities that are ignored. `mistakes` leave open what the text means: a quote that does not close, which
then is a letter like others; a lost indentation, without which sections cannot be distinguished. Limits: MOST_LINES
statements and DEEPEST levels, TooMuchError beyond; LONGEST lines for one value (quoted_values), without an end beyond.
Nothing else is an error here: `router_draft` decides what a line means.
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
_FULL_PATH: Final = re.compile(r"config(?:ure)?\s+authority(?:\s|$)")
_OUTERMOST: Final = frozenset({"config", "authority", "router", "delete"})
_ANY: Final = SectionKind({})
"""The kind of a section that is known by its depth."""
_TYPED: Final = "relay does not read commands typed at a prompt; save the output of `show config running`"
_DIFFERENCE: Final = (
    "this `delete` is from `compare config`, whose output lacks everything that did not change; save the output of "
    "`show config running`"
)
_UNCLOSED: Final = 'the quoted value that begins here does not end; close it with a `"`, or remove the line'
_LOST: Final = (
    "the text has lost its indentation, so its sections cannot be distinguished; save it as the router prints it"
)


class TooMuchError(ValueError):
    """The text is larger or deeper than any configuration; `line` is where."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line


class Remark(NamedTuple):
    """An oddity of the text, or a mistake in it."""

    line: int
    sentence: str


def beginning(lines: Sequence[str]) -> int | None:
    """The index of the line with which a whole configuration certainly begins; None when there is none."""
    filled = [(number, line.strip()) for number, line in enumerate(lines) if line and not line.isspace()]
    for (number, line), (_, following) in pairwise([*filled, (0, "")]):
        if _FULL_PATH.match(line) or (line, following) == ("config", "authority"):
            return number
    return None


class RouterText(NamedTuple):
    """A text that was read."""

    root: Section
    remarks: tuple[Remark, ...]
    mistakes: tuple[Remark, ...]


def parse(text: str) -> RouterText:
    """Read a text."""
    reader = _TextReader(terminal_text.lines(text))
    reader.read()
    return RouterText(Section([reader.root]), tuple(reader.remarks), tuple(reader.mistakes))


class _TextLine(NamedTuple):
    number: int
    indent: int
    text: str


class _TextReader:
    def __init__(self, shown: list[str]) -> None:
        self.remarks: list[Remark] = []
        self.mistakes: list[Remark] = []
        self.lines = list(self._statements(shown))
        self.at = 0
        """The index of the next line."""
        if self.lines and self.lines[0].text.split(maxsplit=1)[0] not in {*_OUTERMOST, "configure"}:
            self.at = beginning([line.text for line in self.lines]) or 0
        if self.at:
            first, number = self.lines[0].number, self.lines[self.at].number
            sentence = f"the configuration begins in line {number}; relay ignores {_lines(self.at)} before it"
            self._remark(first, sentence)
        depths = {line.indent for line in self.lines[self.at :]}
        self.unindented = len(depths) <= 1
        self.root = Statement("", "", 0, -1, [], [])
        self.open = [self.root]
        self.kinds = [section_kind.ROOT]
        """The kinds of the open sections, when their names decide."""
        self.is_path_open = False
        """Whether the outermost open section is one that a line has named by its full path."""
        self.is_difference = False
        self.paths: dict[tuple[str, ...], Statement] = {}
        """The sections that lines have named by their full paths."""
        self.pem_ends = [index for index, line in enumerate(self.lines) if line.text.startswith(_PEM_END)]
        self.quotes = Quotes(shown)

    def _statements(self, shown: Sequence[str]) -> Iterator[_TextLine]:
        """The lines that are not empty and that the terminal did not print."""
        count = 0
        for number, line in enumerate(shown, 1):
            text = line.strip()
            count += bool(text)
            if count > MOST_LINES:
                raise TooMuchError(number, f"has more than {MOST_LINES} lines, more than any router's configuration")
            if terminal_text.changes(text):
                self._remark(number, _TYPED)
            if text and not terminal_text.is_chatter(text):
                leading = line[: len(line) - len(line.lstrip())]
                yield _TextLine(number, len(leading.expandtabs(_TAB)), text)

    def read(self) -> None:
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            if line.text != "exit":
                self._statement(line)
                continue
            if not self.unindented:
                self._leave_deeper_than(line)
            at_path = self.is_path_open and not self.open[2:]
            if len(self.open) > 1 and (self.unindented or at_path or self.open[-1].indent == line.indent):
                self._leave()
            else:
                self._remark_exit(line.number, "no section of this depth is open for this `exit` to end; it is ignored")
        missing = len(self.open) - 1 - self.is_path_open  # a line with its full path needs no `exit`
        if missing > 1:
            inner = self.open[-1]
            sentence = f"the text ends within `{inner.name}` of line {inner.line}; {missing} times `exit` is missing"
            self._remark_exit(self.lines[-1].number, f"{sentence}. Was the text cut off?")
        outside = [statement for statement in self.root.inner if statement.name not in _OUTERMOST]
        if outside and any(statement.name in {"config", "authority"} for statement in self.root.inner):
            sentence = f"{quoted(outside[0].name)} is outside of the configuration"
            self._remark(outside[0].line, f"{sentence}; relay ignores {_lines(len(outside))} there")

    def _statement(self, line: _TextLine) -> None:
        name, *rest = line.text.split(maxsplit=1)
        outermost = self.open[1] if len(self.open) == 2 else None  # noqa: PLR2004 - the root, and one within it
        if self.is_path_open and line.text == "config":
            self._leave_path()
        elif outermost and outermost.name == name and (self.unindented or outermost.indent >= line.indent):
            self._leave()  # the next of several texts, each without its last `exit`
        if not self.unindented:
            self._leave_deeper_than(line._replace(indent=line.indent - 1))
        values = self._values(line, rest[0] if rest else "")
        if _FULL_PATH.match(line.text):
            self._full_path(line, f"config {values}")
            return
        following = self.lines[self.at] if self.at < len(self.lines) else None
        if not values and following and following.indent > line.indent and _LONG_VALUE.fullmatch(following.text):
            self.at += 1  # the announcement of a long value is in the line below its leaf
            values = following.text
        statement = Statement(name, values, line.number, line.indent, [], [])
        self.open[-1].inner.append(statement)
        if name == "delete" and not self.is_difference:
            self.is_difference = True
            self._remark(line.number, _DIFFERENCE)
        kind = None if _LONG_VALUE.fullmatch(statement.rest) else self._kind(line, name, values)
        if kind:
            self._enter(statement, kind)
        else:
            self._fill(statement)

    def _values(self, line: _TextLine, text: str) -> str:
        """The values behind a name: of this line and, when a quote is open at its end, of the next lines."""
        value = self.quotes.whole(text, line.number)
        if value is None:
            self.mistakes.append(Remark(line.number, _UNCLOSED))
            return text
        begin = self.at
        while self.at < len(self.lines) and self.lines[self.at].number <= value.end:
            self.at += 1
        if any(inner.text == "exit" for inner in self.lines[begin : self.at]):
            sentence = f"the quoted value that begins here ends in line {value.end}, behind an `exit`"
            self._remark(line.number, f"{sentence}; is its closing quote missing?")
        return value.text

    def _kind(self, line: _TextLine, name: str, values: str) -> SectionKind | None:
        """The kind of section that a statement begins; None for a leaf."""
        if self.unindented:
            kind = self.kinds[-1].inner.get(name)
            if kind is None and section_kind.is_only_here(name, values):
                self._add_lost(line.number)
            return kind
        if self.at == len(self.lines):
            return None
        following = self.lines[self.at]
        if following.indent > line.indent:
            if name in section_kind.LEAVES:
                cause = (
                    f"this line is indented deeper than {quoted(name)} of line {line.number}, which is not a section"
                )
                ignored = "it is ignored, with all lines that follow at this depth"
                self._remark(following.number, f"{cause}; {ignored}. Was the indentation changed?")
            return _ANY
        # An empty section ends right below; the `exit` below a leaf ends the leaf's section, and is further left.
        return _ANY if following.indent == line.indent and following.text == "exit" else None

    def _full_path(self, line: _TextLine, path: str) -> None:
        """Put a statement at the end of its full path; when it is a section, the next lines can be in it."""
        place = self.root
        kind: SectionKind | None = None
        reached: tuple[str, ...] = ()
        self._leave_path()
        for step in section_kind.steps(path):
            reached = (*reached, step.name, *words(step.rest))
            new = Statement(step.name, step.rest, line.number, line.indent, [], [])
            statement = self.paths.setdefault(reached, new) if step.kind else new
            if statement is new:
                place.inner.append(new)
            place, kind = statement, step.kind
        if kind is None:
            self._fill(place, full_path=True)
        elif self.at < len(self.lines):
            level = self.lines[self.at].indent <= line.indent  # then its statements are no deeper than itself
            self._enter(place._replace(line=line.number, indent=line.indent - level), kind)
            self.is_path_open = True

    def _fill(self, leaf: Statement, *, full_path: bool = False) -> None:
        """Take in the lines of a leaf's value."""
        if "\n" in leaf.rest:
            leaf.text.extend(line.strip() for line in leaf.words[-1].split("\n"))
            return
        if not _LONG_VALUE.fullmatch(leaf.rest):
            return
        while self.at < len(self.lines):
            line = self.lines[self.at]
            name = line.text.split(maxsplit=1)[0]
            end = self.at + 1
            is_pasted = not self.unindented and line.indent == 0 < leaf.indent
            if line.text.startswith(_PEM_BEGIN):
                end = self._pem_end()
            elif full_path and name in {"exit", "configure", *_OUTERMOST}:
                return
            elif is_pasted and name not in {"exit", "delete", *section_kind.NAMES}:
                section = self.open[-1].indent
                while end < len(self.lines):
                    following = self.lines[end]
                    if following.indent == leaf.indent or (following.indent == section and following.text == "exit"):
                        break
                    end += 1
            elif not full_path and (self.unindented or line.indent <= leaf.indent):
                return
            leaf.text.extend(inner.text for inner in self.lines[self.at : end])
            self.at = end

    def _pem_end(self) -> int:
        """The index behind the PEM block that begins here; a block without an end is its first line alone."""
        nearest = bisect.bisect_left(self.pem_ends, self.at)
        if nearest < len(self.pem_ends) and self.pem_ends[nearest] - self.at <= LONGEST:
            return self.pem_ends[nearest] + 1
        self._remark(self.lines[self.at].number, "this PEM block does not end")
        return self.at + 1

    # --- Open sections ---

    def _enter(self, statement: Statement, kind: SectionKind) -> None:
        self.open.append(statement)
        self.kinds.append(kind)
        if len(self.open) - 1 > DEEPEST:
            raise TooMuchError(statement.line, f"is nested more than {DEEPEST} levels deep")

    def _leave(self) -> Statement:
        self.is_path_open = self.is_path_open and bool(self.open[2:])
        self.kinds.pop()
        return self.open.pop()

    def _leave_deeper_than(self, line: _TextLine) -> None:
        while self.open[-1].indent > line.indent:
            left = self._leave()
            self._remark(line.number, f"`{left.name}` of line {left.line} needs an `exit` before this line")

    def _leave_path(self) -> None:
        del self.open[1:], self.kinds[1:]
        self.is_path_open = False

    # --- Remarks ---

    def _remark(self, line: int, sentence: str) -> None:
        self.remarks.append(Remark(line, sentence))

    def _remark_exit(self, line: int, sentence: str) -> None:
        """Report a wrong `exit`: a mistake when nothing else distinguishes sections."""
        if self.unindented and not self.paths:
            self._add_lost(line)
        else:
            self._remark(line, sentence)

    def _add_lost(self, line: int) -> None:
        if _LOST not in {mistake.sentence for mistake in self.mistakes}:
            self.mistakes.append(Remark(line, _LOST))


def _lines(count: int) -> str:
    return f"{count} {'line' if count == 1 else 'lines'}"
