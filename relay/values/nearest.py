"""The known name that is nearest to one that is not known. Pure."""

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question with the nearest of the known names, whatever their case; empty when none is near."""
    from difflib import get_close_matches  # noqa: PLC0415  only a mistake needs it, and it is slow to import

    by_folded = {each.casefold(): each for each in known}
    near = get_close_matches(name.casefold(), by_folded, 1)
    return f'did you mean "{by_folded[near[0]]}"?' if near else ""
