"""A mistake in a configuration: where it stands, and one plain sentence.

Written FILE:LINE: KEY: SENTENCE, as in "relay.toml:14: remote-logging-server[2].portt: unknown key; did you mean
`port`?". Tables of an array are counted from one, within their file. Text from the file is quoted and cut, control
characters escaped.
"""

import re
from typing import Final, NamedTuple

from relay.config.document.lines import KeyPath
from relay.errors import ConfigurationError
from relay.values.text import quoted

_BARE: Final = re.compile(r"[A-Za-z0-9_-]{1,60}")
MOST_SHOWN: Final = 100
"""So many mistakes are told one by one; more are counted."""


class ConfigLocation(NamedTuple):
    """Where a key stands: its file, its line, and its path within that file."""

    file: str
    line: int | None = None
    path: KeyPath = ()

    @property
    def key(self) -> str:
        """The path as people write it: `remote-logging-server[2].port`."""
        return key_text(self.path)


class Mistake(NamedTuple):
    """What is wrong, and where."""

    place: ConfigLocation
    sentence: str

    def __str__(self) -> str:
        place = self.place
        spot = place.file if place.line is None else f"{place.file}:{place.line}"
        return ": ".join(part for part in (spot, place.key, self.sentence) if part)


class MistakesError(ConfigurationError):
    """Everything that is wrong with a configuration; `found` holds the same mistakes with their parts."""

    def __init__(self, found: tuple[Mistake, ...]) -> None:
        super().__init__("configuration", told(found))
        self.found = found


def told(mistakes: tuple[Mistake, ...]) -> tuple[str, ...]:
    """Write mistakes, one a line; past MOST_SHOWN the last line counts the rest."""
    rest = len(mistakes) - MOST_SHOWN
    return (*map(str, mistakes[:MOST_SHOWN]), *([f"and {rest} more"] if rest > 0 else []))


def key_text(path: KeyPath) -> str:
    """Write a path as people do: keys with dots, indexes in brackets and from one."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += f".{part}" if _BARE.fullmatch(part) else f".{quoted(part)}"
    return text.removeprefix(".")
