"""The table of one Telegraf plugin, from the file of an input or output, and the draft that takes its values.

In values that relay uses, `${ROUTER}`, `${NODE}` and `${HOSTNAME}` are replaced. A variable that relay cannot know is a
mistake, with its key and line.
"""

import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from relay.config.document.settings_draft import SettingsDraft
from relay.config.key_path import KeyPath
from relay.values.text import quoted

_VARIABLE: Final = re.compile(r"\$\{([^{}]*)\}")
_OF_THE_ROUTER: Final = frozenset({"128T_VERSION", "WEB_PORT"})
"""Further variables that the vendor documents."""


class Variables(NamedTuple):
    """The values of `${ROUTER}` and `${NODE}`; `${HOSTNAME}` is this machine's."""

    router: str
    node: str
    asked: frozenset[str]
    """The names that the Monitoring Agent asks the router for: `variables` in config.yaml."""

    def replaced(self, value: Any, reject: Callable[[str], None]) -> Any:  # noqa: ANN401 - any TOML or YAML value
        """The value with its variables replaced, at any depth; `reject` gets a sentence for each unknown variable."""
        if isinstance(value, str):
            return _VARIABLE.sub(lambda match: self.value(match[1], reject), value)
        if isinstance(value, list):
            return [self.replaced(inner, reject) for inner in value]
        if isinstance(value, dict):
            return {name: self.replaced(inner, reject) for name, inner in value.items()}
        return value

    def value(self, name: str, reject: Callable[[str], None]) -> str:
        """The value of one variable; empty when relay cannot know it."""
        variable = quoted(f"${{{name}}}")
        known = {"ROUTER": self.router, "NODE": self.node, "HOSTNAME": socket.gethostname()}
        if value := known.get(name):
            return value
        if name in known:
            reject(f"the value of {variable} is not known; set `{name.lower()}` in [relay] of a further file")
        elif name in _OF_THE_ROUTER or name in self.asked:
            reject(f"the Monitoring Agent asks the router for {variable}, and relay does not; write the value instead")
        else:
            reject(f"relay does not know {variable}; it knows {listed(known)}")
        return ""


class PluginTable(NamedTuple):
    """One plugin's table."""

    draft: SettingsDraft
    variables: Variables
    name: str
    file: str
    line: int | None
    table: dict[str, Any]
    lines: Mapping[str, int | None] = {}
    """The line of each key; the table's own line for other keys."""
    keeps_index: bool = False
    """Whether the index file is relay's own, because the configuration names none."""

    @classmethod
    def all_of(
        cls, read: SettingsDraft, kind: str, draft: SettingsDraft, variables: Variables
    ) -> "Iterator[PluginTable]":
        """The plugins of one kind, "inputs" or "outputs", in a draft of Telegraf's TOML."""
        found = read.document.get(kind)
        for name, tables in found.items() if isinstance(found, dict) else ():
            for index, table in enumerate(tables if isinstance(tables, list) else [tables]):
                path: KeyPath = (kind, name, index) if isinstance(tables, list) else (kind, name)
                if isinstance(table, dict):
                    lines = {key: read.locations[(*path, key)].line for key in table}
                    yield cls(draft, variables, name, read.file, read.locations[path].line, table, lines)

    def text(self, key: str) -> str:
        """The value of a text; empty when the key is missing."""
        if not isinstance(self.table.get(key, ""), str):
            self.reject(key, "must be a text in quotes")
            return ""
        return str(self.replaced(key)) if key in self.table else ""

    def replaced(self, key: str) -> Any:  # noqa: ANN401 - a TOML value can be anything
        """A value with its variables replaced, at any depth."""
        return self.variables.replaced(self.table[key], lambda sentence: self.reject(key, sentence))

    def put(self, path: KeyPath, value: object, *, key: str = "", why: str = "") -> None:
        """Set a value that comes from `key`, or that is implied for the reason `why`."""
        self.draft.put(path, value, self.lines.get(key, self.line), why=why, file=self.file)

    def reject(self, key: str, sentence: str) -> None:
        """Add a mistake."""
        self.draft.mistake(f"{key}: {sentence}", self.lines.get(key, self.line), file=self.file)

    def warn(self, sentence: str, *, key: str = "", path: KeyPath = ()) -> None:
        """Add a warning."""
        prefix = f"{key}: " if key else ""
        self.draft.warn(f"{prefix}{sentence}", self.lines.get(key, self.line), path, file=self.file)

    def warn_of_differences(self, ours: Mapping[str, tuple[object, str]]) -> None:
        """Warn of each key with another value than the one with which relay and Telegraf do the same."""
        for key, (same, sentence) in ours.items():
            if self.table.get(key, same) != same:
                self.warn(sentence, key=key)

    def warn_of_unknown(self, known: Iterable[str]) -> None:
        """Name the keys that mean nothing to relay, in one line."""
        unknown = self.table.keys() - set(known)
        if unknown:
            self.warn(f"relay does not support {listed(key for key in self.table if key in unknown)}; ignored")


def listed(names: Iterable[str]) -> str:
    """Names of a file, for people."""
    return ", ".join(quoted(name).strip('"') for name in dict.fromkeys(names))
