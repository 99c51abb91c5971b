"""What one configuration file says, in whichever format: as a TOML document, and where each value of it comes from.

`put` sets one value; tables and arrays on the way to it are made. Each value has its place, and a note of its origin
that `relay config show` prints beside it: the line it comes from, or the reason why it is there though no line says it.
Mistakes keep relay from working as the file says; warnings tell what it says and relay does otherwise.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from relay.config.key_path import KeyPath
from relay.config.mistake import ConfigLocation, Mistake


class SettingsDraft:
    """One file's values so far."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.document: dict[str, Any] = {}
        self.places: dict[KeyPath, ConfigLocation] = {}
        self.notes: dict[KeyPath, str] = {}
        self.mistakes: list[Mistake] = []
        self.warnings: list[Mistake] = []

    @classmethod
    def of_toml(cls, file: str, document: dict[str, Any], lines: Mapping[KeyPath, int]) -> "SettingsDraft":
        """A TOML file, with the line of each key."""
        draft = cls(file)
        draft.document = document
        draft.places = {path: ConfigLocation(file, line, path) for path, line in lines.items()}
        return draft

    def put(self, path: KeyPath, value: object, line: int | None = None, *, why: str = "", file: str = "") -> None:
        """Set a value that stands at `line`, or that is there for the reason `why`; an array grows by one."""
        file = file or self.file
        container: Any = self.document
        for depth, (part, following) in enumerate(pairwise(path), 1):
            container = _entered(container, part, [] if isinstance(following, int) else {})
            self.places.setdefault(path[:depth], ConfigLocation(file, line, path[:depth]))
        _entered(container, path[-1], value)
        self._place_all(path, value, ConfigLocation(file, line, path))
        self.notes[path] = f"not in {file}: {why}" if why else file if line is None else f"{file}:{line}"

    def _place_all(self, path: KeyPath, value: object, place: ConfigLocation) -> None:
        self.places[path] = place._replace(path=path)
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for part, element in inner:
            self._place_all((*path, part), element, place)

    def mistake(self, sentence: str, line: int | None = None, path: KeyPath = (), *, file: str = "") -> None:
        """Note what is wrong."""
        self.mistakes.append(Mistake(ConfigLocation(file or self.file, line, path), sentence))

    def warn(self, sentence: str, line: int | None = None, path: KeyPath = (), *, file: str = "") -> None:
        """Note what relay does otherwise than the file says."""
        self.warnings.append(Mistake(ConfigLocation(file or self.file, line, path), sentence))


def _entered(container: Any, part: str | int, value: object) -> Any:  # noqa: ANN401 - a TOML value can be anything
    """What stands at `part`, which is `value` where nothing stood."""
    if isinstance(container, list):
        if part == len(container):
            container.append(value)
        return container[int(part)]
    return container.setdefault(part, value)
