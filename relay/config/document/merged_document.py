"""Several drafts as one document, and for each value of it the place where it stands.

Later drafts complete and override earlier ones. Tables are merged key by key. Arrays of tables are appended to those
before; but a table that means the same thing as one of an earlier file is merged into that: a [[source]] of the same
name, a [[port-forwarding]] with the same local-address and local-port, a [[remote-logging-server]] with the same
address and port, unless both have names that differ. Every other value replaces the one before, so that `source = []`
takes all sources away again.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from relay.config.document.settings_draft import SettingsDraft
from relay.config.key_path import KeyPath
from relay.config.mistake import ConfigLocation
from relay.values.address import Address

LOCAL_END: Final = Address("127.0.0.1", 7777)
"""What a forwarding's local end and a server's address and port are where a table does not say."""


class MergedDocument:
    """The drafts so far as one `document`; the `places` of its values and the `notes` on them, by their paths in it."""

    def __init__(self, first_file: str) -> None:
        self.document: dict[str, Any] = {}
        self.places: dict[KeyPath, ConfigLocation] = {(): ConfigLocation(first_file)}
        self.notes: dict[KeyPath, str] = {}

    def add(self, draft: SettingsDraft) -> None:
        """Merge one more draft in, whose document from now on belongs to this object."""
        _Addition(self, draft).merge(self.document, draft.document, (), ())

    def locate(self, path: KeyPath) -> ConfigLocation:
        """Tell where `path` stands; for a key that is not given, where its table stands, or else the first file."""
        known = path
        while known not in self.places:
            known = known[:-1]
        place = self.places[known]
        return place._replace(path=place.path + path[len(known) :])

    def files_of(self, array: str) -> dict[int, set[str]]:
        """For each table of an array, the files that its keys come from."""
        found: dict[int, set[str]] = {}
        for path, place in self.places.items():
            match path:
                case (str() as key, int() as index, *_) if key == array:
                    found.setdefault(index, set()).add(place.file)
        return found


class _Addition:
    def __init__(self, merged: MergedDocument, draft: SettingsDraft) -> None:
        self.merged = merged
        self.draft = draft
        arrays = ((key, value) for key, value in merged.document.items() if isinstance(value, list))
        self.earlier = {key: len(value) for key, value in arrays}
        """How many elements of each array are of files before this one."""

    def merge(self, into: dict[str, Any], new: dict[str, Any], there: KeyPath, here: KeyPath) -> None:
        """Merge table `new`, which stands `here` in its file, into the one `there` in the merged document."""
        for key, value in new.items():
            old = into.get(key)
            if isinstance(old, dict) and isinstance(value, dict):
                self._note((*there, key), (*here, key))
                self.merge(old, value, (*there, key), (*here, key))
            elif _is_array_of_tables(old) and _is_array_of_tables(value):
                for index, table in enumerate(value):
                    self._add_table(old, table, (*there, key), (*here, key, index))
            else:
                into[key] = value
                self._note_all(value, (*there, key), (*here, key))

    def _add_table(self, tables: list[dict[str, Any]], table: dict[str, Any], there: KeyPath, here: KeyPath) -> None:
        earlier = tables[: self.earlier.get(str(there[0]), 0)] if len(there) == 1 else []
        same = next((index for index, old in enumerate(earlier) if _means_the_same(str(there[0]), old, table)), None)
        if same is None:
            self._note_all(table, (*there, len(tables)), here)
            tables.append(table)
        else:
            self.merge(tables[same], table, (*there, same), here)

    def _note_all(self, value: object, there: KeyPath, here: KeyPath) -> None:
        self._note(there, here)
        if isinstance(value, dict):
            for key, inner in value.items():
                self._note_all(inner, (*there, key), (*here, key))
        if isinstance(value, list):
            for index, inner in enumerate(value):
                self._note_all(inner, (*there, index), (*here, index))

    def _note(self, there: KeyPath, here: KeyPath) -> None:
        self.merged.places[there] = self.draft.places[here]
        self.merged.notes.pop(there, None)
        if here in self.draft.notes:
            self.merged.notes[there] = self.draft.notes[here]


def _is_array_of_tables(value: object) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and bool(value) and all(isinstance(element, dict) for element in value)


def _means_the_same(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    match key:
        case "source":
            return "name" in old and old["name"] == new.get("name")
        case "port-forwarding":
            return _end(old, "local-address", "local-port") == _end(new, "local-address", "local-port")
        case "remote-logging-server":
            names = {str(table["name"]) for table in (old, new) if table.get("name")}
            return len(names) <= 1 and _end(old, "address", "port") == _end(new, "address", "port")
    return False


def _end(table: Mapping[str, Any], host: str, port: str) -> tuple[object, object]:
    return table.get(host, LOCAL_END.host), table.get(port, LOCAL_END.port)
