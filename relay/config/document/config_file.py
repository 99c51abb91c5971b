"""One configuration file's octets in, its text out; and the draft of a TOML text.

Errors: NoInputError (66) for a file that is missing or cannot be read; PermissionRefusedError (77) for a file that this
user is not allowed to read; NotAConfigurationError for content that cannot be a configuration. Files of more than 4 MiB
are rejected, and not read further.
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
_OTHER_ENCODINGS: Final = {
    b"\x1f\x8b": "is compressed, as a router's `export config` writes it; save the output of `show config running`",
    b"\xff\xfe": "is UTF-16; save it as UTF-8",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
}
_SYNTAX_ERROR: Final = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)


class NotAConfigurationError(Exception):
    """The content of a file is not a configuration: a `sentence`, and the `line` where there is one."""

    def __init__(self, sentence: str, line: int | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.line = line


def read_octets(path: str) -> bytes:
    """Read a file, to one byte more than the limit."""
    try:
        with Path(path).open("rb") as file:
            return file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise NoInputError(path, "there is no such file", "create it, or name another file with -c FILE") from None
    except PermissionError as error:
        raise permission_refused(path) from error
    except IsADirectoryError:
        raise NoInputError(path, "it is a folder", "name a file with -c FILE") from None
    except OSError as error:
        raise NoInputError(path, error.strerror or str(error), "name another file with -c FILE") from error


def decode_text(octets: bytes) -> str:
    """The text of a configuration."""
    if len(octets) > LARGEST_FILE:
        raise NotAConfigurationError(
            f"is larger than {LARGEST_FILE // _MEBIBYTE} MiB, the most that relay reads; of a configuration with many "
            "routers, save one router (`show config running authority router NAME`)"
        )
    if not octets.strip():
        raise NotAConfigurationError("is empty; start from the sample deploy/relay.toml")
    for beginning, sentence in _OTHER_ENCODINGS.items():
        if octets.startswith(beginning):
            raise NotAConfigurationError(sentence)
    if b"\0" in octets:
        raise NotAConfigurationError("is not a text file: it contains zero bytes")
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        sentence = f"is not UTF-8: byte {error.start} is 0x{octets[error.start]:02x}"
        raise NotAConfigurationError(sentence, octets.count(b"\n", 0, error.start) + 1) from None


def toml_draft(file: str, text: str) -> SettingsDraft:
    """The draft of a TOML text."""
    try:
        return SettingsDraft.of_toml(file, tomllib.loads(text), key_lines(text))
    except RecursionError:
        raise NotAConfigurationError("is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and int() on thousands of digits
        match = _SYNTAX_ERROR.fullmatch(str(error))
        if match is None:
            raise NotAConfigurationError(f"is not TOML: {error}") from None
        line = int(match[2]) if match[2] else len(text.rstrip().splitlines())
        raise NotAConfigurationError(f"is not TOML: {match[1]}", line) from None
