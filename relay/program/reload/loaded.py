"""A configuration as a program holds it: settings, the place of each key, and digests of the files that it names."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from relay.config.check.check import check
from relay.config.configuration import Configuration
from relay.config.key_path import KeyPath
from relay.config.mistake import ConfigLocation, MistakesError
from relay.program.reload.plan import files_of
from relay.values.settings import Settings

Program = Literal["run", "receive"]


class Loaded(NamedTuple):
    """What was read."""

    settings: Settings
    files: tuple[str, ...]
    """The configuration's own; none when flags alone say everything."""
    locate: Callable[[KeyPath], ConfigLocation]
    contents: Mapping[str, str]
    """A digest of each file that it names, by path."""


def loaded(configuration: Configuration) -> Loaded:
    """Look at what the files contain that a configuration names."""
    settings = configuration.settings
    return Loaded(settings, configuration.files, configuration.locate, _contents(files_of(settings)))


def checked(configuration: Configuration, program: Program) -> Loaded:
    """The same for a program that runs already; MistakesError for everything that `relay config check` calls a mistake.

    A start is less strict, because a program that does not run delivers nothing.
    """
    found = check(configuration, program).mistakes
    if found:
        raise MistakesError(found)
    return loaded(configuration)


def _contents(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        with contextlib.suppress(OSError):  # what uses the file reports why it cannot be read
            found[name] = hashlib.sha256(Path(name).read_bytes()).hexdigest()
    return found
