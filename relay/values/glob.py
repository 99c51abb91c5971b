r"""Globs as Telegraf has them in its filters (the library gobwas/glob, without separators).

`*` (and `**`) is any text, `?` one character, `[abc]`, `[a-z]` and `[!a-z]` a character of a list or none of it,
`{this,that}` one of several, each a glob, and `\` takes the meaning from the character after it. As in Telegraf, a
list in which no pattern has `*`, `?` or `[` is a list of names: there `{`, `}` and `\` mean themselves. In any other
of several patterns a comma parts two, as if all stood in one pair of braces. Upper and lower case differ. What is no
glob raises ValueError with one plain sentence.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from relay.values.text import quoted

Matcher = Callable[[str], bool]
_WILD: Final = frozenset("*?[")
_PIECE: Final = re.compile(r"\*+|\[!?(?:\\.|[^\]\\])+\]|\\.|.", re.DOTALL)
_RANGE: Final = re.compile(r"(\\.|[^\\])(?:-(\\.|[^\\]))?", re.DOTALL)
_PLAIN: Final = {"?": ".", "{": "(?:"}
_INSIDE_BRACES: Final = {",": "|", "}": ")"}


def matcher(patterns: Sequence[str]) -> Matcher:
    """Make the test whether a text is one of `patterns`."""
    if not any(_WILD.intersection(pattern) for pattern in patterns):
        return frozenset(patterns).__contains__
    several = len(patterns) > 1
    expressions = [_expression(pattern, parted=several) for pattern in patterns]
    compiled = re.compile("|".join(expressions), re.DOTALL)
    return lambda text: compiled.fullmatch(text) is not None


def _expression(pattern: str, *, parted: bool) -> str:
    depth = 0
    written = []
    for piece in _PIECE.findall(pattern):
        if piece in "[\\":
            raise ValueError(f'{quoted(pattern)} is no pattern: a "{piece}" is not followed by what belongs to it')
        written.append("|" if parted and piece == "," else _translated(piece, pattern, within_braces=depth > 0))
        depth = max(0, depth + (piece == "{") - (piece == "}"))
    if depth:
        raise ValueError(f'{quoted(pattern)} is no pattern: a "{{" is not closed')
    return f"(?:{''.join(written)})"


def _translated(piece: str, pattern: str, *, within_braces: bool) -> str:
    if piece[0] == "*":
        return ".*"
    if piece[0] == "[":
        return _listed(piece[1:-1], pattern)
    inside = _INSIDE_BRACES.get(piece) if within_braces else None
    return inside or _PLAIN.get(piece) or re.escape(piece[-1])


def _listed(characters: str, pattern: str) -> str:
    none_of = characters.startswith("!") and len(characters) > 1
    ranges = []
    for first, last in _RANGE.findall(characters[none_of:]):
        low, high = first[-1], (last or first)[-1]
        if low > high:
            raise ValueError(f'{quoted(pattern)} is no pattern: "{low}-{high}" ends before it begins')
        ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    return f"[{'^' if none_of else ''}{''.join(ranges)}]"
