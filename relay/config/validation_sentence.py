"""What pydantic found, as a plain sentence: what must stand there, what stands there, and what may be meant."""

import difflib
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from functools import cache
from typing import Any, Final, get_args

from pydantic_core import ErrorDetails

from relay.config.key_path import KeyPath
from relay.config.planned_keys import PLANNED_KEYS
from relay.values.event import ALWAYS_RETAINED, ROUTER_TYPES
from relay.values.settings import SOURCES, Settings, Table
from relay.values.text import quoted

_IMPLICIT: Final = frozenset(f"audit.{kind.label}" for kind in ROUTER_TYPES if kind in ALWAYS_RETAINED)
_WANTED: Final = {
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "int_type": "must be a whole number without quotes",
    "string_type": "must be a text in quotes",
}


def error_path(error: ErrorDetails) -> KeyPath:
    """Where it is wrong: the keys as they are written."""
    match error["loc"]:
        # pydantic names the table that a [[source]] was taken for, as if it were a key.
        case ("source", int() as index, str() as type_, *rest) if type_ in SOURCES:
            return ("source", index, *rest)
        case ("source", int() as index) if error["type"] == "union_tag_invalid":
            return ("source", index, "type")
    return error["loc"]


def validation_sentence(error: ErrorDetails) -> str:
    """Say in one sentence what is wrong."""
    at, value, context = error_path(error), error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            said = _unwanted_key(at, error["loc"])
        case "union_tag_invalid":
            said = _unwanted_value(at, value["type"], _one_of(SOURCES))
        case "missing":
            said = "is required and missing"
        case "literal_error":
            said = _unwanted_value(at, value, context["expected"].replace("'", '"'))
        case "value_error":
            said = str(context["error"])
        case "contradiction":
            said = str(context["sentence"])
        case "model_type" | "tuple_type":
            said = _unwanted_shape(at, value)
        case kind:
            said = f"{_WANTED.get(kind, error['msg'])}, not {_shown(value)}"
    return said


def _unwanted_key(path: KeyPath, tagged: KeyPath) -> str:
    key, table = str(path[-1]), _without_indexes(path[:-1])
    name = f"{table}.{key}".removeprefix(".")
    if name in PLANNED_KEYS:
        return "this version of relay does not have it yet; leave it out"
    if name in _IMPLICIT:
        return f"{key} events are always forwarded and kept, and cannot be set here; leave it out"
    model = SOURCES[str(tagged[2])] if table == "source" else _tables()[table]
    others = [type_ for type_, other in SOURCES.items() if other is not model and key in _keys(other)]
    if table == "source" and others:
        return f'a source of type "{tagged[2]}" has none, but "{others[0]}" has; leave it out'
    meant = _nearest(key, model)
    return f"unknown key; did you mean `{meant}`?" if meant else "unknown key; leave it out"


def _unwanted_value(path: KeyPath, value: object, expected: str) -> str:
    if f"{_without_indexes(path)} = {_shown(value)}" in PLANNED_KEYS:
        return f"{_shown(value)}: this version of relay does not have it yet; it has {expected}"
    return f"must be {expected}, not {_shown(value)}"


def _one_of(words: Iterable[str]) -> str:
    *first, last = map(quoted, words)
    return f"{', '.join(first)} or {last}" if first else last


def _unwanted_shape(path: KeyPath, value: object) -> str:
    """A table where an array of tables is wanted, the reverse, or something else altogether."""
    name = _without_indexes(path)
    many = isinstance(path[-1], int) or _is_array_of_tables(path)
    if name in _tables():
        return (
            f"must be {'tables, each' if many else 'one table'} headed {_header(name, many=many)}, not {_shown(value)}"
        )
    return f"must be an array of texts in brackets, not {_shown(value)}"


def _header(name: str, *, many: bool) -> str:
    return f"[[{name}]]" if many else f"[{name}]"


def _nearest(key: str, table: type[Table]) -> str | None:
    """Find the known key that is meant: one that is written nearly so here, or just so in another table."""
    here = list(_keys(table))
    if near := difflib.get_close_matches(key[:60].lower(), here, n=1):
        return near[0]
    elsewhere = [name for name, model in _tables().items() if name and key in _keys(model)]
    return f"{elsewhere[0]}.{key}" if elsewhere else None


def _keys(table: type[Table]) -> Iterator[str]:
    return (field.alias or name for name, field in table.model_fields.items())


@cache
def _tables() -> dict[str, type[Table]]:
    """Every table that there can be, by its name without indexes."""
    return dict(_walk("", Settings))


def _walk(name: str, table: type[Table]) -> Iterator[tuple[str, type[Table]]]:
    yield name, table
    for field_name, field in table.model_fields.items():
        for inner in _inner(field.annotation):
            yield from _walk(f"{name}.{field.alias or field_name}".removeprefix("."), inner)


def _inner(annotation: Any) -> Iterator[type[Table]]:  # noqa: ANN401 - an annotation can be anything
    if isinstance(annotation, type) and issubclass(annotation, Table):
        yield annotation
    for argument in get_args(annotation):
        yield from _inner(argument)


def _is_array_of_tables(path: KeyPath) -> bool:
    return path[-1] in {"source", "port-forwarding", "remote-logging-server"}


def _without_indexes(path: KeyPath) -> str:
    return ".".join(part for part in path if isinstance(part, str))


def _shown(value: object) -> str:
    match value:
        case str():
            return quoted(value)
        case bool():
            return str(value).lower()
        case int() | float():
            return quoted(str(value)).strip('"')
        case datetime() | date() | time():
            return "a date or time"
        case list():
            return "an array"
    return "a table"
