"""A mistake in the configuration: its location and one plain sentence.

It is written FILE:LINE: KEY: SENTENCE, as in "relay.toml:14: remote-logging-server[2].portt: unknown key; did you mean
`port`?". Tables of an array are counted from one within their file. Text from the file is quoted, cut and escaped.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from typing_extensions import override

from relay.config.key_path import KeyPath, key_text
from relay.errors import ConfigurationError

MOST_SHOWN: Final = 100
"""Mistakes that are listed; further mistakes are only counted."""


class ConfigLocation(NamedTuple):
    """Where a key is: its file, its line, and its path within that file."""

    file: str
    line: int | None = None
    path: KeyPath = ()

    @property
    def key(self) -> str:
        """The path as people write it: `remote-logging-server[2].port`."""
        return key_text(self.path)

    @property
    def spot(self) -> str:
        """FILE:LINE, or FILE where no line is known."""
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Mistake(NamedTuple):
    """One mistake, or one warning."""

    location: ConfigLocation
    sentence: str

    @override
    def __str__(self) -> str:
        return ": ".join(part for part in (self.location.spot, self.location.key, self.sentence) if part)


class MistakesError(ConfigurationError):
    """All mistakes of a configuration; `found` holds them with their locations."""

    def __init__(self, found: tuple[Mistake, ...]) -> None:
        super().__init__("configuration", mistake_lines(found))
        self.found = found


@contextmanager
def located(locate: Callable[[KeyPath], ConfigLocation]) -> Iterator[None]:
    """MistakesError, with file and line, for a ConfigurationError of the block that is about a key of a file."""
    try:
        yield
    except ConfigurationError as error:
        location = locate(tuple(error.what.split(".")))
        if isinstance(error, MistakesError) or location.line is None:
            raise
        sentence = "; ".join(filter(None, (error.cause, error.remedy)))
        raise MistakesError((Mistake(location, sentence),)) from error


def mistake_lines(mistakes: tuple[Mistake, ...]) -> tuple[str, ...]:
    """One line for each mistake; past MOST_SHOWN the last line counts the others."""
    rest = len(mistakes) - MOST_SHOWN
    return (*map(str, mistakes[:MOST_SHOWN]), *([f"and {rest} more"] if rest > 0 else []))
