"""What a text is, by what it begins with: a router's configuration, a part of one, or another form of it. Pure.

No text that is recognised as a router's configuration can be TOML or YAML: the deciding lines have no `=` and no colon.
"""

import re
from typing import Final

from relay.config.router import section_kind, terminal_text
from relay.config.router.router_text import beginning

_FORMS: Final = {"{%": "a template", "{": "JSON", "<": "XML"}
_BEFORE_LINES: Final = re.compile(r"[\s\d>|+:.-]+")
"""What mail programs, listings and differences put before each line."""
_SAVE: Final = "save the output of `show config running` unchanged"


def is_router_text(text: str) -> bool:
    """Whether a text is a router's configuration, whatever a terminal left before it."""
    lines = terminal_text.lines(text)
    words = _first_words(lines)
    return (
        words in (["config"], ["authority"])
        or (len(words) > 1 and words[0] in {"router", "delete"} and _plain(words))
        or beginning(lines) is not None
    )


def other_form(text: str) -> str:
    """What a text is that is not TOML, as a sentence; empty when it can be anything."""
    lines = terminal_text.lines(text)
    words = _first_words(lines)
    prompted = terminal_text.is_prompt(next((line.strip() for line in lines if line.strip()), ""))
    if prompted or (section_kind.NAMES.issuperset(words[:1]) and _plain(words)):
        return "is a part of a router's configuration; save all of it, from `config` on (`show config running`)"
    for opening, form in _FORMS.items():
        if text.lstrip().startswith(opening):
            return f"is {form}, which relay does not read; of a router, {_SAVE}"
    if beginning([_BEFORE_LINES.sub("", line, count=1) for line in lines]) is not None:
        return f"is a router's configuration with other text before each of its lines; {_SAVE}"
    return ""


def _first_words(lines: list[str]) -> list[str]:
    """The words of the first line that the command line did not print itself."""
    stripped = (line.strip() for line in lines)
    return next((line.split() for line in stripped if line and not terminal_text.is_chatter(line)), [])


def _plain(words: list[str]) -> bool:
    return "=" not in words and not any(word.endswith(":") for word in words)
