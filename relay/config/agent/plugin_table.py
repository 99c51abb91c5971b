"""One plugin's table of an input's or output's file, which is Telegraf's TOML, and the draft that takes its values.

In values that relay uses, `${ROUTER}`, `${NODE}` and `${HOSTNAME}` are replaced. One that relay cannot know is a
mistake, with its key and line.
"""

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from relay.config.document.settings_draft import SettingsDraft
from relay.config.key_path import KeyPath
from relay.values.text import quoted

VARIABLE: Final = re.compile(r"\$\{([^{}]*)\}")
_OF_THE_ROUTER: Final = frozenset({"128T_VERSION", "WEB_PORT"})
"""What else the vendor documents."""


class Variables(NamedTuple):
    """What `${NAME}` stands for."""

    router: str
    node: str
    asked: frozenset[str]
    """What the Monitoring Agent asks the router for: `variables` in config.yaml."""

    def value(self, name: str) -> str:
        """Look one up; ValueError says why there is none."""
        written = quoted(f"${{{name}}}")
        known = {"ROUTER": self.router, "NODE": self.node, "HOSTNAME": socket.gethostname()}
        if value := known.get(name):
            return value
        if name in known:
            cause = f"nothing says what ${{{name}}} is; say it with `{name.lower()}` in [relay] of a further file"
        elif name in _OF_THE_ROUTER or name in self.asked:
            cause = f"the Monitoring Agent asks the router what {written} is, and relay does not; write it out"
        else:
            cause = f"relay does not know {written}; it knows {listed(known)}"
        raise ValueError(cause)


class PluginTable(NamedTuple):
    """One plugin's table."""

    name: str
    file: str
    line: int | None
    table: dict[str, Any]
    lines: Mapping[str, int | None]
    """The line of each key."""
    draft: SettingsDraft
    variables: Variables
    keeps_index: bool = False
    """Whether the index file is one of relay's own, since the configuration names none."""

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
                    yield cls(name, read.file, read.locations[path].line, table, lines, draft, variables)

    def text(self, key: str) -> str:
        """A text's value; empty where there is none."""
        if not isinstance(self.table.get(key, ""), str):
            self.reject(key, "must be a text in quotes")
            return ""
        return str(self.replaced(key)) if key in self.table else ""

    def replaced(self, key: str) -> Any:  # noqa: ANN401 - a TOML value can be anything
        """A value with its variables replaced, in whatever depth."""
        return self._replaced(key, self.table[key])

    def _replaced(self, key: str, value: object) -> object:
        if isinstance(value, str):
            return VARIABLE.sub(lambda match: self._variable(key, match[1]), value)
        if isinstance(value, list):
            return [self._replaced(key, inner) for inner in value]
        if isinstance(value, dict):
            return {name: self._replaced(key, inner) for name, inner in value.items()}
        return value

    def _variable(self, key: str, name: str) -> str:
        try:
            return self.variables.value(name)
        except ValueError as error:
            self.reject(key, str(error))
            return ""

    def put(self, path: KeyPath, value: object, *, key: str = "", why: str = "") -> None:
        """Set a value that comes from `key`, or that is there for the reason `why`."""
        self.draft.put(path, value, self.lines.get(key, self.line), why=why, file=self.file)

    def reject(self, key: str, sentence: str) -> None:
        """Note a mistake."""
        self.draft.mistake(f"{key}: {sentence}", self.lines.get(key, self.line), file=self.file)

    def warn(self, sentence: str, *, key: str = "", path: KeyPath = ()) -> None:
        """Note what relay does otherwise."""
        said = f"{key}: {sentence}" if key else sentence
        self.draft.warn(said, self.lines.get(key, self.line), path, file=self.file)

    def name_unknown(self, known: Iterable[str]) -> None:
        """Name the keys that mean nothing to relay, in one line."""
        unknown = self.table.keys() - set(known)
        if unknown:
            self.warn(f"relay has no {listed(key for key in self.table if key in unknown)}; passed over")


def listed(names: Iterable[str]) -> str:
    """Names of a file, for people."""
    return ", ".join(quoted(name).strip('"') for name in dict.fromkeys(names))
