"""A text that was copied or logged from a terminal: text in, lines out. Pure.

`lines` removes escape sequences (ECMA-48), overprinted text (everything before the last carriage return or backspace of
a line), a pager's `--More--`, and invisible letters. `is_chatter` recognises lines that belong to no configuration: a
prompt with the command typed at it, the time and the progress that the command line prints, the frame and the gaps of a
quotation, and comments. There are no limits: the work is proportional to the text.
"""

import re
from typing import Final

_ESCAPE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[()][0-9A-Z]|[=>78])")
_INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
"""Letters without a width, and marks of the direction of writing; web pages and word processors insert them."""
_PAGER: Final = re.compile(r"[ \t]*-{2,3} ?\(?(?:more|More|MORE)\b[^-]{0,20}-{2,3}(?:\(\d{1,3}%\))?")
_PROMPT: Final = re.compile(
    r"""
    (?: [^\s#=@()\[]+ @ [^\s#=()]+ \ ? (?:\([^()#]*\)\ ?)? [#]  # admin@node.router (server[port=514])#
      | \( [^()#]* \) [#]                                       # the rest of it in a narrow copy
      | \[ [^\s#=@]+ @ [^#=\]]* \] [#$]                         # the shell's: [root@node ~]#
    )
    """,
    re.VERBOSE,
)
_PRINTED: Final = re.compile(
    r"""
    (?: (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\ \d{4}-\d\d-\d\d\ .*    # the time at which a command ran
      | [✔✖⚠]\ .* | Retrieving\b.* | Completed\ in\ .* | Starting\ the\ PCLI.*
      | [#!].* | ```.* | \.\.\.\s* | :\s* | \(END\)\s* )
    """,
    re.VERBOSE,
)
_READ_ONLY: Final = frozenset(
    {"show", "compare", "where", "top", "up", "exit", "quit", "commit", "validate", "save", "export", "shell", "pcli"}
)
"""Commands that do not change the configuration."""


def lines(text: str) -> list[str]:
    """Split a text into the lines that were on the screen."""
    plain = _INVISIBLE.sub("", text)
    plain = _ESCAPE.sub("", plain) if "\x1b" in plain else plain
    if "\n" not in plain:
        plain = plain.replace("\r", "\n")
    found = []
    for line in plain.split("\n"):
        shown = line.rstrip("\r\b")
        shown = shown[max(shown.rfind("\r"), shown.rfind("\b")) + 1 :]
        mark = _PAGER.match(shown)
        found.append(shown[mark.end() if mark else 0 :])
    return found


def is_chatter(line: str) -> bool:
    """Whether a stripped line belongs to no configuration."""
    return is_prompt(line) or _PRINTED.fullmatch(line) is not None


def is_prompt(line: str) -> bool:
    """Whether a stripped line begins with the router's prompt, or with its shell's."""
    return _PROMPT.match(line) is not None


def changes(line: str) -> bool:
    """Whether a command that was typed at the router's prompt may change its configuration."""
    match = _PROMPT.match(line)
    typed = line[match.end() :].split() if match and not line.startswith("[") else []
    return bool(typed) and (
        "configure".startswith(typed[0]) or not any(command.startswith(typed[0]) for command in _READ_ONLY)
    )
