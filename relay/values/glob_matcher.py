r"""Globs as Telegraf has them in its filters (the library gobwas/glob, without separators).

`*` (and `**`) is any text, `?` one character, `[abc]`, `[a-z]` and `[!a-z]` a character of a list or none of it,
`{this,that}` one of several globs; `\` takes the special meaning from the character after it. As in Telegraf, a list in
which no pattern has `*`, `?` or `[` is a list of names: there `{`, `}` and `\` mean themselves. In any other list of
several patterns a comma separates two globs, as if all were in one pair of braces. Upper and lower case differ. A
pattern that is not a glob raises ValueError with one plain sentence. Pure.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from relay.values.text import quoted

GlobMatcher = Callable[[str], bool]
_WILD: Final = frozenset("*?[")
_PIECE: Final = re.compile(r"\*+|\[!?(?:\\.|[^\]\\])+\]|\\.|.", re.DOTALL)
_RANGE: Final = re.compile(r"(\\.|[^\\])(?:-(\\.|[^\\]))?", re.DOTALL)
_PLAIN: Final = {"?": ".", "{": "(?:"}
_INSIDE_BRACES: Final = {",": "|", "}": ")"}


def glob_matcher(patterns: Sequence[str]) -> GlobMatcher:
    """The test whether a text matches one of the patterns."""
    if not any(_WILD.intersection(pattern) for pattern in patterns):
        return frozenset(patterns).__contains__
    several = len(patterns) > 1
    expressions = [_expression(pattern, comma_parts=several) for pattern in patterns]
    compiled = re.compile("|".join(expressions), re.DOTALL)
    return lambda text: compiled.fullmatch(text) is not None


def _expression(pattern: str, *, comma_parts: bool) -> str:
    depth = 0
    written = []
    for piece in _PIECE.findall(pattern):
        if piece in "[\\":
            needed = 'characters and a "]"' if piece == "[" else "a character"
            raise _not_a_pattern(pattern, f'"{piece}" needs {needed} behind it')
        if piece[0] == "*":
            written.append(".*")
        elif piece[0] == "[":
            written.append(_character_class(pattern, piece[1:-1]))
        elif (piece == "," and comma_parts) or (depth and piece in _INSIDE_BRACES):
            written.append(_INSIDE_BRACES[piece])
        else:
            written.append(_PLAIN.get(piece) or re.escape(piece[-1]))
        depth = max(0, depth + (piece == "{") - (piece == "}"))
    if depth:
        raise _not_a_pattern(pattern, 'a "{" is not closed')
    return f"(?:{''.join(written)})"


def _character_class(pattern: str, characters: str) -> str:
    none_of = characters.startswith("!") and len(characters) > 1
    ranges = []
    for first, last in _RANGE.findall(characters[none_of:]):
        low, high = first[-1], (last or first)[-1]
        if low > high:
            raise _not_a_pattern(pattern, f'"{low}-{high}" ends before it begins')
        ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    return f"[{'^' if none_of else ''}{''.join(ranges)}]"


def _not_a_pattern(pattern: str, cause: str) -> ValueError:
    return ValueError(f"{quoted(pattern)} is not a pattern: {cause}")
