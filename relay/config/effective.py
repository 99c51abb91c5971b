"""Settings out as TOML again: every key with the value that holds, defaults included, as `relay config show` prints.

What is written reads back to the same settings. Settings hold no secrets: keys are named by their paths.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from relay.settings import Settings


def effective(settings: Settings) -> dict[str, Any]:
    """Return all settings by their TOML keys: texts, numbers, true and false, arrays and tables."""
    document: dict[str, Any] = settings.model_dump(mode="json", exclude_none=True)
    return document


def toml_text(document: Mapping[str, Any]) -> str:
    """Write a document of `effective` as TOML, a blank line before every header."""
    return "\n".join(_table("", document)).strip() + "\n"


def _table(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    inner = {key: value for key, value in table.items() if _is_headed(name, value)}
    yield from (f"{key} = {_value(value)}" for key, value in table.items() if key not in inner)
    for key, value in inner.items():
        path = f"{name}.{key}".removeprefix(".")
        for element in value if isinstance(value, list) else [value]:
            yield from ("", f"[[{path}]]" if isinstance(value, list) else f"[{path}]")
            yield from _table(path, element)


def _is_headed(parent: str, value: object) -> bool:
    """Say whether a value gets a header of its own: tables, but for the small ones of [audit], which stay inline."""
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], dict)
    return isinstance(value, dict) and parent != "audit"


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    # A JSON text is a TOML basic string but for DEL, which JSON leaves bare; numbers, true and false are the same.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
