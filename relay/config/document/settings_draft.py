"""A draft of settings: the content of one configuration file of any format, as a TOML document.

Each value has its location, and a note of its origin that `relay config show` prints beside it: the line it comes from,
or the reason why relay sets it although no line does. Mistakes keep relay from working as the file says; warnings
report where relay does otherwise.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from relay.config.key_path import KeyPath
from relay.config.mistake import ConfigLocation, Mistake


class SettingsDraft:
    """The values of one file so far."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.document: dict[str, Any] = {}
        self.locations: dict[KeyPath, ConfigLocation] = {}
        self.notes: dict[KeyPath, str] = {}
        self.implied: set[KeyPath] = set()
        """The values that relay sets although no line does."""
        self.mistakes: list[Mistake] = []
        self.warnings: list[Mistake] = []

    @classmethod
    def of_toml(cls, file: str, document: dict[str, Any], lines: Mapping[KeyPath, int]) -> "SettingsDraft":
        """The draft of a TOML file, with the line of each key."""
        draft = cls(file)
        draft.document = document
        draft.locations = {path: ConfigLocation(file, line, path) for path, line in lines.items()}
        return draft

    def put(self, path: KeyPath, value: object, line: int | None = None, *, why: str = "", file: str = "") -> None:
        """Set a value that comes from `line`, or that is implied for the reason `why`.

        A value that exists already stays. Missing tables and arrays on the path are made; the index behind the last
        element of an array appends to it.
        """
        file = file or self.file
        container: Any = self.document
        for depth, (part, following) in enumerate(pairwise(path), 1):
            container = _entered(container, part, [] if isinstance(following, int) else {})
            self.locations.setdefault(path[:depth], ConfigLocation(file, line, path[:depth]))
        _entered(container, path[-1], value)
        self._locate_all(path, value, ConfigLocation(file, line, path))
        self.notes[path] = f"not in {file}: {why}" if why else file if line is None else f"{file}:{line}"
        self.implied.discard(path)
        if why:
            self.implied.add(path)

    def _locate_all(self, path: KeyPath, value: object, location: ConfigLocation) -> None:
        self.locations[path] = location._replace(path=path)
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for part, element in inner:
            self._locate_all((*path, part), element, location)

    def mistake(self, sentence: str, line: int | None = None, path: KeyPath = (), *, file: str = "") -> None:
        """Add a mistake."""
        self.mistakes.append(Mistake(ConfigLocation(file or self.file, line, path), sentence))

    def warn(self, sentence: str, line: int | None = None, path: KeyPath = (), *, file: str = "") -> None:
        """Add a warning."""
        self.warnings.append(Mistake(ConfigLocation(file or self.file, line, path), sentence))


def _entered(container: Any, part: str | int, value: object) -> Any:  # noqa: ANN401 - a TOML value can be anything
    """The element `part` of a table or an array; `value` is put there first when there is none."""
    if isinstance(container, list):
        if part == len(container):
            container.append(value)
        return container[int(part)]
    return container.setdefault(part, value)
