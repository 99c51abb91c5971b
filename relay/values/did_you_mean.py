"""The known name that is nearest to an unknown one. Pure."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_COMPARED: Final = 60  # characters; comparing takes time that grows with the square


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The nearest of the known names, in any case; None when no name is near."""
    by_folded = {each.casefold(): each for each in known}
    near = get_close_matches(name[:_COMPARED].casefold(), by_folded, 1)
    return by_folded[near[0]] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question with the nearest of the known names; empty when no name is near."""
    near = nearest(name, known)
    return f'did you mean "{near}"?' if near else ""
