"""What a text is by what it begins with: a router's configuration, a part of one, or another form of it. Pure.

Nothing that is taken for a router's configuration can be TOML or YAML: the lines that decide have no `=` and no colon.
"""

import re
from typing import Final

from relay.config.router import section_kind, terminal_text
from relay.config.router.router_text import beginning

_FORMS: Final = {"{%": "a template", "{": "JSON", "<": "XML"}
_BEFORE_LINES: Final = re.compile(r"[\s\d>|+:.-]+")
"""What a mail, a listing and a difference put before each line."""
_PRINTED: Final = "save what `show config running` prints, as it stands"


def is_router_text(text: str) -> bool:
    """Whether a text is a router's configuration, whatever a terminal left before it."""
    lines = terminal_text.lines(text)
    opening = _opening(lines)
    return (
        opening in (["config"], ["authority"])
        or (len(opening) > 1 and opening[0] in {"router", "delete"} and _plain(opening))
        or beginning(lines) is not None
    )


def is_part(text: str) -> bool:
    """Whether a text that is no configuration is plainly a part of one: a section, or the command line's words."""
    lines = terminal_text.lines(text)
    prompted = terminal_text.is_prompt(next((line.strip() for line in lines if line.strip()), ""))
    opening = _opening(lines)
    return prompted or (section_kind.NAMES.issuperset(opening[:1]) and _plain(opening))


def other_form(text: str) -> str:
    """Say what a text that is no TOML is instead; empty where it could be anything."""
    bare = text.lstrip()
    for opening, form in _FORMS.items():
        if bare.startswith(opening):
            return f"is {form}, which relay does not read; of a router, {_PRINTED}"
    if beginning([_BEFORE_LINES.sub("", line, count=1) for line in terminal_text.lines(text)]) is not None:
        return f"is a router's configuration with something before each of its lines; {_PRINTED}"
    return ""


def _opening(lines: list[str]) -> list[str]:
    """The first words that are not the command line's own."""
    stripped = (line.strip() for line in lines)
    return next((line.split() for line in stripped if line and not terminal_text.is_chatter(line)), [])


def _plain(words: list[str]) -> bool:
    return "=" not in words and not any(word.endswith(":") for word in words)
