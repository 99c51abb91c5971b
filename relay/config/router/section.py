"""One statement of a router's configuration text, and one section of them. Pure."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from relay.config.router.quoted_values import words


class Statement(NamedTuple):
    """One line of the text, with the lines that belong to it."""

    name: str
    rest: str
    """The text behind the name, with line feeds when a quoted value has several lines."""
    line: int
    indent: int
    text: list[str]
    """The lines of a long value, without the spaces around them."""
    inner: "list[Statement]"

    @property
    def words(self) -> tuple[str, ...]:
        """The values, without their quotes."""
        return words(self.rest)


class Section:
    """One section, from all places in which the text has it. The cost of a look-up does not depend on its size."""

    def __init__(self, places: Iterable[Statement]) -> None:
        self.line = 0
        self._inner: dict[str, dict[tuple[str, ...], list[Statement]]] = {}
        for place in places:
            self.line = self.line or place.line
            for statement in place.inner:
                if statement.name != "delete":
                    self._inner.setdefault(statement.name, {}).setdefault(statement.words, []).append(statement)
                    continue
                name, *rest = statement.words or ("",)
                keys = tuple(rest[1:] if rest[:1] == ["force"] else rest)
                remaining = self._inner.get(name, {})
                remaining.pop(keys, None)
                if not (keys and remaining):
                    self._inner.pop(name, None)

    def names(self) -> Iterator[tuple[str, int]]:
        """Every name in the section, with its first line."""
        return ((name, min(s.line for found in by_key.values() for s in found)) for name, by_key in self._inner.items())

    def leaves(self, name: str) -> list[Statement]:
        """All statements of one name, in the text's order."""
        found = [statement for statements in self._inner.get(name, {}).values() for statement in statements]
        return sorted(found, key=lambda statement: statement.line)

    def sections(self, name: str) -> dict[tuple[str, ...], "Section"]:
        """All sections of one name by their keys, in the text's order."""
        return {keys: Section(places) for keys, places in self._inner.get(name, {}).items() if places}

    def section(self, name: str) -> "Section":
        """The one section of a name that has no keys; an empty one when the text has none."""
        return Section(self._inner.get(name, {}).get((), ()))
