"""Several drafts as one document, with the location of each value.

Later drafts complete and override earlier ones. Tables are merged key by key. Arrays of tables are appended to the
earlier ones; but a table that means the same thing as a table of an earlier file is merged into that: a [[source]] of
the same name, a [[port-forwarding]] with the same local-address and local-port, a [[remote-logging-server]] with the
same address and port, unless both have names that differ. Every other value replaces the earlier one, so that
`source = []` removes all sources.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from relay.config.document.settings_draft import SettingsDraft
from relay.config.key_path import KeyPath
from relay.config.mistake import ConfigLocation
from relay.values.address import Address

LOCAL_END: Final = Address("127.0.0.1", 7777)
"""The default of a forwarding's local end, and of a server's address and port."""


class MergedDocument:
    """The drafts so far as one `document`, with `locations` and `notes` of its values by their paths in it."""

    def __init__(self, first_file: str) -> None:
        self.document: dict[str, Any] = {}
        self.locations: dict[KeyPath, ConfigLocation] = {(): ConfigLocation(first_file)}
        self.notes: dict[KeyPath, str] = {}
        self.implied: set[KeyPath] = set()
        """The values that relay sets although no line of a file does."""

    def add(self, draft: SettingsDraft) -> None:
        """Merge one more draft. From now on its document belongs to this object."""
        _Addition(self, draft).merge(self.document, draft.document, (), ())

    def locate(self, path: KeyPath) -> ConfigLocation:
        """The location of a key; of a key that no file has, the location of its table, or else the first file."""
        known = path
        while known not in self.locations:
            known = known[:-1]
        location = self.locations[known]
        return location._replace(path=location.path + path[len(known) :])

    def files_of(self, array: str) -> dict[int, set[str]]:
        """For each table of an array, the files that its keys come from."""
        found: dict[int, set[str]] = {}
        for path, location in self.locations.items():
            match path:
                case (str() as key, int() as index, *_) if key == array:
                    found.setdefault(index, set()).add(location.file)
        return found


class _Addition:
    """One draft that is merged. A value is at path `there` in the merged document, and at path `here` in the draft."""

    def __init__(self, merged: MergedDocument, draft: SettingsDraft) -> None:
        self.merged = merged
        self.draft = draft
        arrays = ((key, value) for key, value in merged.document.items() if isinstance(value, list))
        self.earlier = {key: len(value) for key, value in arrays}
        """The number of elements that each array has from earlier files."""

    def merge(self, into: dict[str, Any], new: dict[str, Any], there: KeyPath, here: KeyPath) -> None:
        """Merge a table of the draft into a table of the merged document."""
        for key, value in new.items():
            to, of = (*there, key), (*here, key)
            old = into.get(key)
            if isinstance(old, dict) and isinstance(value, dict):
                self._note(to, of)
                self.merge(old, value, to, of)
            elif _is_array_of_tables(old) and _is_array_of_tables(value):
                earlier = [] if there else old[: self.earlier.get(key, 0)]
                for index, table in enumerate(value):
                    same = next((n for n, other in enumerate(earlier) if _means_the_same(key, other, table)), None)
                    if same is None:
                        self._note_all(table, (*to, len(old)), (*of, index))
                        old.append(table)
                    else:
                        self.merge(old[same], table, (*to, same), (*of, index))
            else:
                into[key] = value
                self._note_all(value, to, of)

    def _note_all(self, value: object, there: KeyPath, here: KeyPath) -> None:
        self._note(there, here)
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for part, element in inner:
            self._note_all(element, (*there, part), (*here, part))

    def _note(self, there: KeyPath, here: KeyPath) -> None:
        self.merged.locations[there] = self.draft.locations[here]
        self.merged.notes.pop(there, None)
        self.merged.implied.discard(there)
        if here in self.draft.notes:
            self.merged.notes[there] = self.draft.notes[here]
        if here in self.draft.implied:
            self.merged.implied.add(there)


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
