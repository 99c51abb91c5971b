"""A configuration as a program holds it: settings, the location of each key, and digests of the files that it names."""

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from relay.config.check.check import check
from relay.config.configuration import Configuration
from relay.config.key_path import KeyPath
from relay.config.mistake import ConfigLocation, MistakesError
from relay.program.reload.reload_plan import files_of
from relay.values.configuration.settings import Settings

Program = Literal["run", "receive"]


class LoadedConfiguration(NamedTuple):
    """Settings, the location of each key, and the digests of files."""

    settings: Settings
    files: tuple[str, ...]
    """The configuration's own files; empty when it consists of options alone."""
    locate: Callable[[KeyPath], ConfigLocation]
    digests: Mapping[str, str]
    """The SHA-256 of each file that the configuration names, in hex, by path; a file that cannot be read has none."""


def load(configuration: Configuration) -> LoadedConfiguration:
    """Read the files that a configuration names."""
    settings, digests = configuration.settings, {}
    for name in files_of(settings):
        with contextlib.suppress(OSError):  # the part that uses the file reports why it cannot be read
            digests[name] = hashlib.sha256(Path(name).read_bytes()).hexdigest()
    return LoadedConfiguration(settings, configuration.files, configuration.locate, digests)


def load_checked(configuration: Configuration, program: Program) -> LoadedConfiguration:
    """The same for a program that runs already; MistakesError for everything that `relay config check` calls a mistake.

    A start is less strict, because a program that does not run delivers nothing.
    """
    mistakes = check(configuration, program).mistakes
    if mistakes:
        raise MistakesError(mistakes)
    return load(configuration)
