"""What pydantic reports, as a plain sentence: what the value must be, what it is, and what was probably meant."""

from collections.abc import Iterator
from datetime import date, datetime, time
from functools import cache
from typing import Any, Final, get_args

from pydantic_core import ErrorDetails

from relay.config.key_path import KeyPath
from relay.config.planned_keys import PLANNED_KEYS
from relay.values.configuration.setting_types import Table
from relay.values.configuration.settings import Settings
from relay.values.configuration.source_settings import SOURCES
from relay.values.did_you_mean import nearest
from relay.values.event import ALWAYS_RETAINED, ROUTER_TYPES
from relay.values.text import quoted

_ALWAYS_ENABLED: Final = frozenset(f"audit.{kind.label}" for kind in ROUTER_TYPES if kind in ALWAYS_RETAINED)
_ARRAYS_OF_TABLES: Final = frozenset({"source", "port-forwarding", "remote-logging-server", "originator"})
_RULES: Final = {
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "int_type": "must be a whole number without quotes",
    "string_type": "must be a text in quotes",
}


def error_path(error: ErrorDetails) -> KeyPath:
    """The path of the value that is wrong, with the keys as the file has them."""
    match error["loc"]:
        # pydantic puts the type of a [[source]] into the path, as if it were a key.
        case ("source", int() as index, str() as type_, *rest) if type_ in SOURCES:
            return ("source", index, *rest)
        case ("source", int() as index) if error["type"] == "union_tag_invalid":
            return ("source", index, "type")
    return error["loc"]


def validation_sentence(error: ErrorDetails) -> str:
    """What is wrong, in one sentence."""
    path, value, context = error_path(error), error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            sentence = _unknown_key(path, error["loc"])
        case "union_tag_invalid":
            *types, last = map(quoted, SOURCES)
            sentence = _other_value(path, value["type"], f"{', '.join(types)} or {last}")
        case "missing":
            sentence = "is required and missing"
        case "literal_error":
            sentence = _other_value(path, value, context["expected"].replace("'", '"'))
        case "value_error":
            sentence = str(context["error"])
        case "contradiction":
            sentence = str(context["sentence"])
        case "model_type" | "tuple_type":
            sentence = _other_shape(path, value)
        case kind:
            sentence = f"{_RULES.get(kind, error['msg'])}, not {_shown(value)}"
    return sentence


def _unknown_key(path: KeyPath, location: KeyPath) -> str:
    key, table = str(path[-1]), _without_indexes(path[:-1])
    name = f"{table}.{key}".removeprefix(".")
    if name in PLANNED_KEYS:
        return "this version of relay does not have it yet; leave it out"
    if name in _ALWAYS_ENABLED:
        return f"{key} events are always forwarded and kept; leave the key out"
    model = _tables()[table]
    if table == "source":
        type_ = str(location[2])
        model = SOURCES[type_]
        others = [other for other, fields in SOURCES.items() if other != type_ and key in _keys(fields)]
        if others:
            return f'only a source of type "{others[0]}" has this key, not "{type_}"; leave it out'
    # A key that is misspelt here, or one of another table.
    elsewhere = (f"{other}.{key}" for other, fields in _tables().items() if other and key in _keys(fields))
    meant = nearest(key, _keys(model)) or next(elsewhere, None)
    return f"unknown key; did you mean `{meant}`?" if meant else "unknown key; leave it out"


def _other_value(path: KeyPath, value: object, expected: str) -> str:
    if f"{_without_indexes(path)} = {_shown(value)}" in PLANNED_KEYS:
        return f"{_shown(value)}: this version of relay does not have it yet; it has {expected}"
    return f"must be {expected}, not {_shown(value)}"


def _other_shape(path: KeyPath, value: object) -> str:
    """A table in place of an array of tables, the reverse, or something else."""
    name = _without_indexes(path)
    if name not in _tables():
        shape = "an array of texts in brackets"
    elif isinstance(path[-1], int) or path[-1] in _ARRAYS_OF_TABLES:
        shape = f"tables, each headed [[{name}]]"
    else:
        shape = f"one table headed [{name}]"
    return f"must be {shape}, not {_shown(value)}"


def _keys(table: type[Table]) -> Iterator[str]:
    return (field.alias or name for name, field in table.model_fields.items())


@cache
def _tables() -> dict[str, type[Table]]:
    """Every table of the configuration, by its name without indexes."""
    return dict(_walk("", Settings))


def _walk(name: str, annotation: Any) -> Iterator[tuple[str, type[Table]]]:  # noqa: ANN401 - it can be anything
    if isinstance(annotation, type) and issubclass(annotation, Table):
        yield name, annotation
        for field_name, field in annotation.model_fields.items():
            yield from _walk(f"{name}.{field.alias or field_name}".removeprefix("."), field.annotation)
    for argument in get_args(annotation):
        yield from _walk(name, argument)


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
