r"""Globs as Telegraf has them in its filters (the library gobwas/glob, without separators), and OpenSSH host patterns.

`*` (and `**`) is any text, `?` one character, `[abc]`, `[a-z]` and `[!a-z]` a character of a list or none of it,
`{this,that}` one of several globs; `\` takes the special meaning from the character after it. As in Telegraf, a list in
which no pattern has `*`, `?` or `[` is a list of names: there `{`, `}` and `\` mean themselves. In any other list of
several patterns a comma separates two globs, as if all were in one pair of braces. Upper and lower case differ. A
pattern that is not a glob raises ValueError with one plain sentence.

A match takes time in proportion to the text, whatever the pattern: it follows every possibility at once, character by
character, and remembers at most MAX_STEPS of these steps. Pure.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.values.text import quoted

GlobMatcher = Callable[[str], bool]
MAX_STEPS: Final = 4096
_Test = Callable[[str], bool]
_WILD: Final = frozenset("*?[")
_PIECE: Final = re.compile(r"\*+|\[!?(?:\\.|[^\]\\])+\]|\\.|.", re.DOTALL)
_RANGE: Final = re.compile(r"(\\.|[^\\])(?:-(\\.|[^\\]))?", re.DOTALL)


def glob_matcher(patterns: Sequence[str]) -> GlobMatcher:
    """The test whether a text matches one of the patterns."""
    if not any(_WILD.intersection(pattern) for pattern in patterns):
        return frozenset(patterns).__contains__
    automaton = _Automaton()
    for pattern in patterns:
        _add_glob(automaton, pattern, comma_parts=len(patterns) > 1)
    return automaton.matches


def host_pattern_matcher(pattern: str) -> GlobMatcher:
    """The test whether a text matches a pattern of OpenSSH's, in which only `*` and `?` are special."""
    if not _WILD.intersection(pattern):
        return pattern.__eq__
    automaton = _Automaton()
    automaton.begin()
    for character in pattern:
        if character == "*":
            automaton.any_text()
        else:
            automaton.one(_any if character == "?" else character.__eq__)
    automaton.end()
    return automaton.matches


class _Reached(dict[str, "_Reached"]):
    """The places of an automaton that a text can have reached, and where each next character leads from them."""

    def __init__(self, automaton: "_Automaton", places: int) -> None:
        self.places = places
        self._automaton = automaton

    def __missing__(self, character: str) -> "_Reached":
        return self._automaton.step(self, character)


@dataclass(slots=True)
class _Automaton:
    """Places in the patterns, numbered; a set of them is an integer with their bits."""

    _steps: list[list[tuple[_Test, int]]] = field(default_factory=list)
    """From each place: to which one a character leads if the test accepts it."""
    _open_ways: list[list[int]] = field(default_factory=list)
    """From each place: those that are reached without a character."""
    _beginnings: list[int] = field(default_factory=list)
    _ends: int = 0
    _place: int = 0
    _braces: list[tuple[int, int]] = field(default_factory=list)
    """The place before each open brace, and the one behind it."""
    _known: dict[int, _Reached] = field(default_factory=dict)
    _remembered: int = 0

    def begin(self) -> None:
        """Begin another pattern."""
        self._place = self._new_place()
        self._beginnings.append(self._place)

    def one(self, test: _Test) -> None:
        """One character that passes the test."""
        former, self._place = self._place, self._new_place()
        self._steps[former].append((test, self._place))

    def any_text(self) -> None:
        """Any characters, or none."""
        self._go_on_to(self._new_place())
        self._steps[self._place].append((_any, self._place))

    def open_brace(self) -> None:
        """Several alternatives follow."""
        self._braces.append((self._place, self._new_place()))
        self._go_on_to(self._new_place())

    def next_alternative(self) -> None:
        """Outside braces: another pattern."""
        if not self._braces:
            self.end()
            self.begin()
            return
        before, behind = self._braces[-1]
        self._open_ways[self._place].append(behind)
        self._place = before
        self._go_on_to(self._new_place())

    def close_brace(self) -> None:
        """The last alternative ends."""
        _, behind = self._braces.pop()
        self._go_on_to(behind)

    def end(self) -> None:
        """The pattern ends."""
        self._ends |= 1 << self._place

    def matches(self, text: str) -> bool:
        """Whether one of the patterns matches the whole text."""
        reached = self._reached(self._with_open_ways(self._beginnings))
        for character in text:
            reached = reached[character]
        return bool(reached.places & self._ends)

    def step(self, reached: _Reached, character: str) -> _Reached:
        """Where the character leads to."""
        if self._remembered >= MAX_STEPS:
            self._known, self._remembered = {}, 0
            reached.clear()
        self._remembered += 1
        places = (place for place in range(len(self._steps)) if reached.places >> place & 1)
        targets = [target for place in places for test, target in self._steps[place] if test(character)]
        after = reached[character] = self._reached(self._with_open_ways(targets))
        return after

    def _reached(self, places: int) -> _Reached:
        if (known := self._known.get(places)) is None:
            known = self._known[places] = _Reached(self, places)
        return known

    def _with_open_ways(self, places: Sequence[int]) -> int:
        found = 0
        waiting = list(places)
        while waiting:
            place = waiting.pop()
            if not found >> place & 1:
                found |= 1 << place
                waiting += self._open_ways[place]
        return found

    def _new_place(self) -> int:
        self._steps.append([])
        self._open_ways.append([])
        return len(self._steps) - 1

    def _go_on_to(self, place: int) -> None:
        self._open_ways[self._place].append(place)
        self._place = place


def _add_glob(automaton: _Automaton, pattern: str, *, comma_parts: bool) -> None:
    automaton.begin()
    depth = 0
    for piece in _pieces(pattern):
        if piece[0] == "*":
            automaton.any_text()
        elif piece[0] == "[":
            automaton.one(_character_class(pattern, piece[1:-1]))
        elif piece == "{":
            automaton.open_brace()
        elif piece == "," and (depth or comma_parts):
            automaton.next_alternative()
        elif piece == "}" and depth:
            automaton.close_brace()
        else:
            automaton.one(_any if piece == "?" else piece[-1].__eq__)
        depth = max(0, depth + (piece == "{") - (piece == "}"))
    if depth:
        raise _not_a_pattern(pattern, 'a "{" is not closed')
    automaton.end()


def _pieces(pattern: str) -> Iterator[str]:
    for found in _PIECE.finditer(pattern):
        if (piece := found[0]) in "[\\":
            needed = 'characters and a "]"' if piece == "[" else "a character"
            raise _not_a_pattern(pattern, f'"{piece}" needs {needed} behind it')
        yield piece


def _any(character: str) -> bool:
    del character
    return True


def _character_class(pattern: str, characters: str) -> _Test:
    none_of = characters.startswith("!") and len(characters) > 1
    ranges = []
    for first, last in _RANGE.findall(characters[none_of:]):
        low, high = first[-1], (last or first)[-1]
        if low > high:
            raise _not_a_pattern(pattern, f'"{low}-{high}" ends before it begins')
        ranges.append((low, high))
    return lambda character: any(low <= character <= high for low, high in ranges) is not none_of


def _not_a_pattern(pattern: str, cause: str) -> ValueError:
    return ValueError(f"{quoted(pattern)} is not a pattern: {cause}")
