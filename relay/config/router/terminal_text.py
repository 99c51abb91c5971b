"""What a terminal leaves in a text that was copied or logged from it: text in, lines out. Pure.

`lines` takes away escape sequences (ECMA-48), what was overprinted (all that stands before the last carriage return or
backspace of a line), a pager's `--More--`, and letters that nobody sees. `is_chatter` knows lines that belong to no
configuration: the prompt with what was typed at it, the time and the progress that the command line tells, the frame
and the gaps of a quotation, and comments. No ceilings: the work is proportional to the text.
"""

import re
from typing import Final

_ESCAPE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[()][0-9A-Z]|[=>78])")
_INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
"""Letters without a width, and marks of the direction of writing: web pages and word processors put them in."""
_PAGER: Final = re.compile(r"[ \t]*-{2,3} ?\(?(?:more|More|MORE)\b[^-]{0,20}-{2,3}(?:\(\d{1,3}%\))?")
_PROMPT: Final = re.compile(
    r"""
    (?: [^\s#=@()\[]+ @ [^\s#=()]+ \ ? (?:\([^()#]*\)\ ?)? [#]  # admin@node.router (server[port=514])#
      | \( [^()#]* \) [#]                                       # what a narrow copy leaves of it
      | \[ [^\s#=@]+ @ [^#=\]]* \] [#$]                         # the shell's: [root@node ~]#
    )
    """,
    re.VERBOSE,
)
_TOLD: Final = re.compile(
    r"""
    (?: (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\ \d{4}-\d\d-\d\d\ .*    # the time at which a command ran
      | [✔✖⚠]\ .* | Retrieving\b.* | Completed\ in\ .* | Starting\ the\ PCLI.*
      | [#!].* | ```.* | \.\.\.\s* | :\s* | \(END\)\s* )
    """,
    re.VERBOSE,
)
_ONLY_LOOKS: Final = frozenset(
    {"show", "compare", "where", "top", "up", "exit", "quit", "commit", "validate", "save", "export", "shell", "pcli"}
)
"""Commands after which a configuration is what it was before."""


def lines(text: str) -> list[str]:
    """Part a text into lines, as they stood on the screen."""
    plain = _INVISIBLE.sub("", text)
    plain = _ESCAPE.sub("", plain) if "\x1b" in plain else plain
    if "\n" not in plain:
        plain = plain.replace("\r", "\n")
    return [_shown(line) for line in plain.split("\n")]


def _shown(line: str) -> str:
    plain = line.rstrip("\r\b")
    last = max(plain.rfind("\r"), plain.rfind("\b")) + 1
    mark = _PAGER.match(plain, last)
    return plain[mark.end() if mark else last :]


def is_chatter(line: str) -> bool:
    """Whether a line, stripped, belongs to no configuration."""
    return is_prompt(line) or _TOLD.fullmatch(line) is not None


def is_prompt(line: str) -> bool:
    """Whether a line, stripped, begins with the router's prompt, or with its shell's."""
    return _PROMPT.match(line) is not None


def changes(line: str) -> bool:
    """Whether what is typed at a prompt of the router's may change its configuration."""
    match = _PROMPT.match(line)
    typed = line[match.end() :].split() if match and not line.startswith("[") else []
    return bool(typed) and (
        "configure".startswith(typed[0]) or not any(look.startswith(typed[0]) for look in _ONLY_LOOKS)
    )
