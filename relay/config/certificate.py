"""The certificates that a router's configuration holds, written as files: what TLS libraries read.

They are public, and the files' mode is 0644. A file that is there already and holds something else is not touched:
CannotCreateError (73).
"""

import os
from collections.abc import Mapping
from typing import Any, Final

from relay.config.toml import Configuration
from relay.errors import CannotCreateError

_MODE: Final = 0o644


def write(configuration: Configuration, folder: str | None) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Write them into `folder`, if any; gives the document with their names there, and the names."""
    if folder is None:
        return configuration.document, ()
    places = {expected: os.path.join(folder, os.path.basename(expected)) for expected in configuration.certificates}
    for expected, text in configuration.certificates.items():
        _write(places[expected], text.encode())
    servers = [_renamed(server, places) for server in configuration.document.get("remote-logging-server", ())]
    document = {**configuration.document, "remote-logging-server": servers} if servers else configuration.document
    return document, tuple(places.values())


def _renamed(server: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    return {key: places.get(value, value) if isinstance(value, str) else value for key, value in server.items()}


def _write(path: str, contents: bytes) -> None:
    try:
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, _MODE)) as file:
            file.write(contents)
    except FileExistsError:
        if not _holds(path, contents):
            cause = "there is a file already that holds something else, and relay writes over none"
            raise CannotCreateError(path, cause, "name another folder with --certificates DIR") from None
    except OSError as error:
        remedy = "name a folder with --certificates DIR in which this user may write"
        raise CannotCreateError(path, f"it cannot be written ({error.strerror})", remedy) from error


def _holds(path: str, contents: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(contents) + 1) == contents
    except OSError:
        return False
