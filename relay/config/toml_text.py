"""Settings as TOML: every key with its value, defaults included, as `relay config show` prints them.

The text reads back to the same settings. Settings hold no secrets: keys are named by their paths.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from relay.config.key_path import KeyPath
from relay.values.configuration.settings import Settings
from relay.values.text import escaped

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_NO_NOTES: Final[Mapping[KeyPath, str]] = {}


def settings_document(settings: Settings) -> dict[str, Any]:
    """All settings by their TOML keys: texts, numbers, true and false, arrays and tables."""
    document: dict[str, Any] = settings.model_dump(mode="json", exclude_none=True)
    return document


def toml_text(document: Mapping[str, Any], notes: Mapping[KeyPath, str] = _NO_NOTES) -> str:
    """The document as TOML, with a blank line before each header, and notes as comments beside their values."""
    return "\n".join(_table((), document, notes)).strip() + "\n"


def _table(path: KeyPath, table: Mapping[str, Any], notes: Mapping[KeyPath, str]) -> Iterator[str]:
    name = ".".join(part for part in path if isinstance(part, str))
    # Tables have headers of their own, except the small tables of [audit], which stay inline.
    arrays = [key for key, value in table.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    headed = arrays + [key for key, value in table.items() if isinstance(value, dict) and name != "audit"]
    for key, value in table.items():
        if key not in headed:
            # The name of a file in a note can contain any character.
            note = escaped(", ".join(_notes_within((*path, key), value, notes)))
            yield f"{_key(key)} = {_value(value)}" + (f"  # {note}" if note else "")
    for key in filter(headed.__contains__, table):
        header = f"{name}.{_key(key)}".removeprefix(".")
        if key in arrays:
            for index, element in enumerate(table[key]):
                yield from ("", f"[[{header}]]", *_table((*path, key, index), element, notes))
        else:
            yield from ("", f"[{header}]", *_table((*path, key), table[key], notes))


def _notes_within(path: KeyPath, value: object, notes: Mapping[KeyPath, str]) -> list[str]:
    """The notes on a value, and on the values in it, which are written on the same line."""
    inner = value.items() if isinstance(value, dict) else ()
    found = [note for key, within in inner for note in _notes_within((*path, key), within, notes)]
    return list(dict.fromkeys([*([notes[path]] if path in notes else []), *found]))


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _value(key)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    # JSON texts are TOML basic strings without surrogates; numbers, true and false are the same.
    text = json.dumps(value, ensure_ascii=False)
    text = "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
    if isinstance(value, str) and "\n" in value:
        return '"""\n' + text[1:-1].replace("\\n", "\n") + '"""'
    return text
