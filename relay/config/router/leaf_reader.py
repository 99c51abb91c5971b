"""Reads single values of a router's sections into a draft, each with its line; a wrong value is a mistake. Pure."""

from collections.abc import Callable, Iterator
from typing import Final

from relay.config.document.settings_draft import SettingsDraft
from relay.config.key_path import KeyPath
from relay.config.router.quoted_values import is_open
from relay.config.router.section import Section, Statement
from relay.values.text import quoted

Read = Callable[[str], object]
"""Makes a value of a text; ValueError says what the text must be."""
SERVERS: Final = "remote-logging-server"


class LeafReader:
    """Reads leaves and servers for one draft."""

    def __init__(self, draft: SettingsDraft) -> None:
        self.draft = draft

    def put(self, section: Section, name: str, path: KeyPath, read: Read = str, key: tuple[str, ...] = ()) -> None:
        """Put the value of a leaf into the draft, when there is one."""
        value = self.value(section, name, path, read, key)
        if value is not None:
            self.draft.put(path, value, line_of(section, name))

    def value(
        self, section: Section, name: str, path: KeyPath, read: Read = str, key: tuple[str, ...] = ()
    ) -> object | None:
        """The value of a leaf, or of the section's own key; None when there is neither, or the value is wrong."""
        line, text = section.line, key[0] if key else None
        for leaf in section.leaves(name):
            values = leaf.words
            if len(values) != 1 or '"' in values[0]:
                if not is_open(leaf.rest):  # an open quote is a mistake of the text
                    self.draft.mistake(f"needs one value, not {quoted(leaf.rest)}", leaf.line, path)
                return None
            if text is not None and values[0] != text:
                sentence = f"is {quoted(values[0])} here, and {quoted(text)} in line {line}; remove one of them"
                self.draft.mistake(sentence, leaf.line, path)
                return None
            line, text = leaf.line, values[0]
        if text is None:
            return None
        try:
            return read(text)
        except ValueError as error:
            self.draft.mistake(str(error), line, path)
            return None

    def server(
        self, section: Section, keys: tuple[str, ...], names: tuple[str, str], *, default_port: int | None
    ) -> KeyPath:
        """Add one server; its path, or () when its address or port is missing."""
        path: KeyPath = (SERVERS, self.length(SERVERS))
        mistakes = len(self.draft.mistakes)
        address = self.value(section, names[0], (*path, "address"), key=keys[:1])
        port = self.value(section, names[1], (*path, "port"), number, key=keys[1:2])
        if address is None or (port is None and default_port is None):
            missing = names[0] if address is None else names[1]
            if len(self.draft.mistakes) == mistakes:
                self.draft.mistake(f"{missing} is required and missing", section.line, path)
            return ()
        self.draft.put((*path, "address"), address, line_of(section, names[0]))
        why = "it is the usual port of syslog" if port is None else ""
        self.draft.put((*path, "port"), default_port if port is None else port, line_of(section, names[1]), why=why)
        return path

    def length(self, array: str) -> int:
        """The number of tables that an array has so far."""
        return len(self.draft.document.get(array, ()))

    def warn_of_unknown(self, section: Section, name: str, known: frozenset[str]) -> None:
        """A warning for each name in a section that relay does not support."""
        for unknown, line in section.names():
            if unknown not in known:
                self.draft.warn(f"{name} > {quoted(unknown).strip(chr(34))}: relay has no such setting; ignored", line)


def named(sections: dict[tuple[str, ...], Section]) -> Iterator[tuple[str, Section]]:
    """Sections by their names: their key, or else the leaf `name` in them."""
    for keys, section in sections.items():
        names = keys or tuple(word for leaf in section.leaves("name") for word in leaf.words[:1])
        yield (names[0] if names else ""), section


def line_of(section: Section, name: str) -> int:
    """The line of a leaf, or else of its section."""
    return next((leaf.line for leaf in section.leaves(name)), section.line)


def first_word(leaf: Statement) -> str:
    """A leaf's first value; empty when it has none."""
    return (leaf.words or ("",))[0]


def number(text: str) -> int:
    """Read a number; ValueError for another text."""
    if not (text.isascii() and text.isdecimal() and len(text) < len("1000000")):
        raise ValueError(f"must be a number, not {quoted(text)}")
    return int(text)


def flag(text: str) -> bool:
    """Read true or false; ValueError for another text."""
    if text not in {"true", "false"}:
        raise ValueError(f"must be true or false, not {quoted(text)}")
    return text == "true"
