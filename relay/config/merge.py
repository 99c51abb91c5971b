"""Several TOML documents as one, and for each value of it the place where it stands.

Later documents complete and override earlier ones. Tables are merged key by key; arrays of tables (`[[source]]`, …)
are appended to those before; every other value replaces the one before, so that `source = []` takes all sources away
again.
"""

from collections.abc import Mapping
from typing import Any, TypeGuard

from relay.config.lines import KeyPath
from relay.config.mistake import Place


class Merged:
    """The documents so far as one `document`, and the `places` of its values by their paths in it."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {}
        self.places: dict[KeyPath, Place] = {}

    def add(self, file: str, document: dict[str, Any], lines: Mapping[KeyPath, int]) -> None:
        """Merge one more document in, which from now on belongs to this object."""
        self.places.setdefault((), Place(file))
        _Addition(self.places, file, lines).merge(self.document, document, (), ())

    def place(self, path: KeyPath) -> Place:
        """Tell where `path` stands; for a key that is not given, where its table stands, or else the first file."""
        known = path
        while known not in self.places:
            known = known[:-1]
        place = self.places[known]
        return place._replace(path=place.path + path[len(known) :])


class _Addition:
    def __init__(self, places: dict[KeyPath, Place], file: str, lines: Mapping[KeyPath, int]) -> None:
        self.places = places
        self.file = file
        self.lines = lines

    def merge(self, into: dict[str, Any], new: dict[str, Any], there: KeyPath, here: KeyPath) -> None:
        """Merge table `new`, which stands `here` in its file, into the one `there` in the merged document."""
        for key, value in new.items():
            old = into.get(key)
            if isinstance(old, dict) and isinstance(value, dict):
                self._note((*there, key), (*here, key))
                self.merge(old, value, (*there, key), (*here, key))
            elif _is_array_of_tables(old) and _is_array_of_tables(value):
                for index, table in enumerate(value):
                    self._note_all(table, (*there, key, len(old)), (*here, key, index))
                    old.append(table)
            else:
                into[key] = value
                self._note_all(value, (*there, key), (*here, key))

    def _note_all(self, value: object, there: KeyPath, here: KeyPath) -> None:
        self._note(there, here)
        if isinstance(value, dict):
            for key, inner in value.items():
                self._note_all(inner, (*there, key), (*here, key))
        if isinstance(value, list):
            for index, inner in enumerate(value):
                self._note_all(inner, (*there, index), (*here, index))

    def _note(self, there: KeyPath, here: KeyPath) -> None:
        self.places[there] = Place(self.file, self.lines[here], here)


def _is_array_of_tables(value: object) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and bool(value) and all(isinstance(element, dict) for element in value)
