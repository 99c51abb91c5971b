"""Settings out as TOML again: every key with the value that holds, defaults included, as `relay config show` prints.

What is written reads back to the same settings. Settings hold no secrets: keys are named by their paths.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from relay.config.key_path import KeyPath
from relay.values.settings import Settings
from relay.values.text import escaped

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_NO_NOTES: Final[Mapping[KeyPath, str]] = {}


def settings_document(settings: Settings) -> dict[str, Any]:
    """Return all settings by their TOML keys: texts, numbers, true and false, arrays and tables."""
    document: dict[str, Any] = settings.model_dump(mode="json", exclude_none=True)
    return document


def toml_text(document: Mapping[str, Any], notes: Mapping[KeyPath, str] = _NO_NOTES) -> str:
    """Write a document of `effective` as TOML, a blank line before every header, and notes beside their values."""
    return "\n".join(_table((), document, notes)).strip() + "\n"


def _table(path: KeyPath, table: Mapping[str, Any], notes: Mapping[KeyPath, str]) -> Iterator[str]:
    name = ".".join(part for part in path if isinstance(part, str))
    inner = {key: value for key, value in table.items() if _is_headed(name, value)}
    for key, value in table.items():
        if key not in inner:
            yield f"{_key(key)} = {_value(value)}{_note(_notes_within((*path, key), value, notes))}"
    for key, value in inner.items():
        header = f"{name}.{_key(key)}".removeprefix(".")
        if isinstance(value, list):
            for index, element in enumerate(value):
                yield from ("", f"[[{header}]]", *_table((*path, key, index), element, notes))
        else:
            yield from ("", f"[{header}]", *_table((*path, key), value, notes))


def _notes_within(path: KeyPath, value: object, notes: Mapping[KeyPath, str]) -> list[str]:
    """The notes on a value, and on those in it that are written on the same line."""
    inner = value.items() if isinstance(value, dict) else ()
    found = [note for key, within in inner for note in _notes_within((*path, key), within, notes)]
    return list(dict.fromkeys([*([notes[path]] if path in notes else []), *found]))


def _note(notes: list[str]) -> str:
    """Notes as a comment; the names of files in them may hold anything."""
    return f"  # {escaped(', '.join(notes))}" if notes else ""


def _is_headed(parent: str, value: object) -> bool:
    """Say whether a value gets a header of its own: tables, but for the small ones of [audit], which stay inline."""
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], dict)
    return isinstance(value, dict) and parent != "audit"


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _value(key)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    # A JSON text is a TOML basic string but for DEL, which JSON leaves bare; numbers, true and false are the same.
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, str) and "\n" in value:
        return '"""\n' + text[1:-1].replace("\\n", "\n") + '"""'
    return text
