"""TOML files in, one `Settings` out; several files are merged as `relay.config.merge` says.

Errors: NoInputError (66) for a file that is missing or cannot be read; MistakesError, a ConfigurationError (78), for
all that is wrong in the files, every mistake at once. Files of more than 4 MiB are refused, and not read further.
"""

import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import ValidationError

from relay.config.lines import KeyPath, key_lines
from relay.config.merge import Merged
from relay.config.mistake import Mistake, MistakesError, Place
from relay.config.sentence import sentence
from relay.errors import NoInputError
from relay.settings import Settings

LARGEST_FILE: Final = 4 * 1024**2
_MEBIBYTE: Final = 1024**2
_SYNTAX_PLACE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)")


class Configuration(NamedTuple):
    """Settings, the files they come from, and where each key stands."""

    settings: Settings
    files: tuple[str, ...]
    place: Callable[[KeyPath], Place]


def load(paths: Sequence[str]) -> Settings:
    """Read one configuration from files."""
    return read(paths).settings


def read(paths: Sequence[str]) -> Configuration:
    """Read one configuration from files, and remember where each key stands."""
    merged = Merged()
    mistakes = []
    for file, contents in [(path, _contents(path)) for path in paths]:
        try:
            _add(merged, file, contents)
        except _NotTomlError as error:
            mistakes.append(Mistake(Place(file, error.line), error.sentence))
    return Configuration(_settings(merged, mistakes, paths), tuple(paths), merged.place)


def _settings(merged: Merged, mistakes: list[Mistake], files: Sequence[str]) -> Settings:
    try:
        settings = Settings.model_validate(merged.document, by_alias=True, by_name=False)
    except ValidationError as invalid:
        found = [Mistake(merged.place(e["loc"]), sentence(e)) for e in invalid.errors(include_url=False)]
        mistakes += sorted(found, key=lambda mistake: (files.index(mistake.place.file), mistake.place.line or 0))
    else:
        if not mistakes:
            return settings
    raise MistakesError(tuple(mistakes))


def _contents(path: str) -> bytes:
    """Read a file, to one byte more than the ceiling."""
    try:
        with Path(path).open("rb") as file:
            return file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise NoInputError(path, "there is no such file", "make it, or name another with -c FILE") from None
    except PermissionError:
        raise NoInputError(path, "this user may not read it", "let the user read it") from None
    except IsADirectoryError:
        raise NoInputError(path, "it is a folder", "name a file with -c FILE") from None
    except OSError as error:
        raise NoInputError(path, error.strerror or str(error), "name another with -c FILE") from error


class _NotTomlError(Exception):
    def __init__(self, sentence: str, line: int | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.line = line


def _add(merged: Merged, file: str, contents: bytes) -> None:
    text = _text(contents)
    try:
        merged.add(file, tomllib.loads(text), key_lines(text))
    except RecursionError:
        raise _NotTomlError("is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and int() on thousands of digits
        raise _not_toml(str(error), text) from None


def _text(contents: bytes) -> str:
    if len(contents) > LARGEST_FILE:
        raise _NotTomlError(f"is larger than {LARGEST_FILE // _MEBIBYTE} MiB, and so no configuration")
    if not contents.strip():
        raise _NotTomlError("is empty; deploy/relay.toml is a sample to begin with")
    if b"\0" in contents:
        raise _NotTomlError("is no text: it holds zero bytes")
    try:
        return contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = contents.count(b"\n", 0, error.start) + 1
        raise _NotTomlError(f"is not UTF-8: byte {error.start} is 0x{contents[error.start]:02x}", line) from None


def _not_toml(message: str, text: str) -> _NotTomlError:
    match = _SYNTAX_PLACE.search(message)
    if match is None:
        return _NotTomlError(f"is no TOML: {message}")
    line = int(match[1]) if match[1] else len(text.rstrip().splitlines())
    return _NotTomlError(f"is no TOML: {message[: match.start()]}", line)
