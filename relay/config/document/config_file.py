"""One configuration file's octets in, its text out; and of a TOML text, a draft.

Errors: NoInputError (66) for a file that is missing or cannot be read; PermissionRefusedError (77) for one that this
user is not allowed to read; NotAConfigurationError, with the line where there is
one, for what cannot be a configuration. Files of more than 4 MiB are refused, and not read further.
"""

import re
import tomllib
from pathlib import Path
from typing import Final

from relay.config.document.key_lines import key_lines
from relay.config.document.settings_draft import SettingsDraft
from relay.errors import NoInputError
from relay.system.disk import permission_refused

LARGEST_FILE: Final = 4 * 1024**2
_MEBIBYTE: Final = 1024**2
_NO_UTF_8: Final = {
    b"\x1f\x8b": "is compressed, as a router's `export config` leaves it; save what `show config running` prints",
    b"\xff\xfe": "is UTF-16; save it as UTF-8",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
}
_SYNTAX_PLACE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)")


class NotAConfigurationError(Exception):
    """What a file holds is no configuration: a `sentence`, and the `line` where there is one."""

    def __init__(self, sentence: str, line: int | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.line = line


def contents(path: str) -> bytes:
    """Read a file, to one byte more than the ceiling."""
    try:
        with Path(path).open("rb") as file:
            return file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise NoInputError(path, "there is no such file", "make it, or name another with -c FILE") from None
    except PermissionError as error:
        raise permission_refused(path) from error
    except IsADirectoryError:
        raise NoInputError(path, "it is a folder", "name a file with -c FILE") from None
    except OSError as error:
        raise NoInputError(path, error.strerror or str(error), "name another with -c FILE") from error


def text_of(contents: bytes) -> str:
    """Read octets as the text of a configuration."""
    if len(contents) > LARGEST_FILE:
        raise NotAConfigurationError(
            f"is larger than {LARGEST_FILE // _MEBIBYTE} MiB, more than relay reads; of a configuration with many "
            "routers save one (`show config running authority router NAME`)"
        )
    if not contents.strip():
        raise NotAConfigurationError("is empty; deploy/relay.toml is a sample to begin with")
    for beginning, form in _NO_UTF_8.items():
        if contents.startswith(beginning):
            raise NotAConfigurationError(form)
    if b"\0" in contents:
        raise NotAConfigurationError("is no text: it holds zero bytes")
    try:
        return contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = contents.count(b"\n", 0, error.start) + 1
        raise NotAConfigurationError(
            f"is not UTF-8: byte {error.start} is 0x{contents[error.start]:02x}", line
        ) from None


def toml_draft(file: str, text: str) -> SettingsDraft:
    """Read TOML."""
    try:
        return SettingsDraft.of_toml(file, tomllib.loads(text), key_lines(text))
    except RecursionError:
        raise NotAConfigurationError("is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and int() on thousands of digits
        raise _not_toml(str(error), text) from None


def _not_toml(message: str, text: str) -> NotAConfigurationError:
    match = _SYNTAX_PLACE.search(message)
    if match is None:
        return NotAConfigurationError(f"is no TOML: {message}")
    line = int(match[1]) if match[1] else len(text.rstrip().splitlines())
    return NotAConfigurationError(f"is no TOML: {message[: match.start()]}", line)
