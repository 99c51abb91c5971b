"""An input of the Monitoring Agent as a [[source]] of type event-collector, with its filters.

    [[inputs.t128_events]]                                  the program that the agent runs for it is its command
    [[inputs.execd]] command = ["/usr/bin/eventCollector128t", …]    as older agents have it: the command as it is

Of execd, `data_format` is influx or json. relay reads both, JSON in the shape in which Telegraf writes it. A child that
relay runs otherwise than Telegraf is a warning. Settings that would change events, or send more events than intended,
are mistakes: times in another unit, a filter that relay does not have.
"""

import os
from typing import Final, NamedTuple

from relay.config.agent.plugin_table import PluginTable
from relay.config.agent.telegraf_filters import (
    FILTERS,
    OTHER_FILTERS,
    as_list,
    may_pass_unknown,
    taken_over,
    types_passed,
)
from relay.config.key_path import KeyPath
from relay.values.text import quoted

COLLECTOR: Final = "/usr/bin/eventCollector128t"
SOURCES: Final = "source"
_INDEX: Final = "--index-file"
_COLLECTORS_KEYS: Final = frozenset({"index-file", "topic", "log-name"})
_DIFFERENCES: Final[dict[str, tuple[object, str]]] = {
    "signal": ("none", "relay sends no signal; a program that writes only when asked gives no events"),
    "stop_on_error": (False, "relay restarts a program that ended, whatever its exit status"),
}
_EXECD_KEYS: Final = frozenset(
    {
        *("command", "environment", "data_format", "influx_timestamp_precision", "influx_parser_type"),
        *("restart_delay", "buffer_size", *_DIFFERENCES),
    }
)
_JSON: Final = (
    "relay reads JSON objects as Telegraf writes them, with name, tags, fields and timestamp; it sends any other line "
    'unchanged, as an event of type "log" that is marked as malformed'
)
_STOP_INPUT: Final = (
    "stop this input of the Monitoring Agent before relay runs, but not by `enabled` in a file that relay reads; "
)
_TWO_READERS: Final = f"{_STOP_INPUT}two readers of one index file take events from each other"
_SENT_TWICE: Final = f"{_STOP_INPUT}otherwise its events are sent twice"
_NO_INDEX: Final = "there is no index-file, so relay cannot resume where it stopped; add one"


class CollectorInput(NamedTuple):
    """An input that became a source."""

    name: str
    outputs: frozenset[str]
    types: frozenset[str]
    may_pass_unknown: bool
    """Whether an event of a type that relay does not know may pass, although `types` does not say so."""
    source: int
    """The index of its source."""


def is_of_events(plugin: PluginTable) -> bool:
    """Whether it is the event collector."""
    if plugin.name == "execd":
        return os.path.basename(_program(plugin)) == os.path.basename(COLLECTOR)
    return plugin.name == "t128_events"


def name_of(plugin: PluginTable) -> str:
    """The name for people."""
    program = _program(plugin) if plugin.name == "execd" else ""
    return f"{plugin.name} of {program}" if program else plugin.name


def _program(plugin: PluginTable) -> str:
    return next((word for word in as_list(plugin.table.get("command")) if isinstance(word, str)), "")


def add_source(plugin: PluginTable, name: str, outputs: frozenset[str], line: int) -> CollectorInput:
    """Add the source; `line` is where config.yaml names the input."""
    path: KeyPath = (SOURCES, len(plugin.draft.document.get(SOURCES, ())))
    plugin.draft.put((*path, "name"), name, line)
    plugin.put((*path, "type"), "event-collector")
    command = _command(plugin, path)
    # As in Telegraf, the values under several names of one filter are one list.
    filters: dict[str, tuple[str, object]] = {}
    for key, ours in taken_over(plugin.table).items():
        value, earlier = plugin.replaced(key), filters.get(ours, ("", None))[1]
        together = [*earlier, *value] if isinstance(earlier, list) and isinstance(value, list) else value
        filters[ours] = (key, together)
    for ours, (key, value) in filters.items():
        plugin.put((*path, ours), value, key=key)
    for key in OTHER_FILTERS:
        if plugin.table.get(key):
            plugin.reject(key, "relay has only the filters tagpass, tagdrop, fieldpass and fielddrop")
    keys = _EXECD_KEYS if plugin.name == "execd" else _COLLECTORS_KEYS
    plugin.warn_of_unknown({*keys, "tags", *FILTERS, *OTHER_FILTERS})
    has_index = any(str(word).partition("=")[0] == _INDEX for word in command)
    plugin.warn(_SENT_TWICE if plugin.keeps_index else _TWO_READERS if has_index else _NO_INDEX, path=path)
    return CollectorInput(name, outputs, types_passed(plugin.table), may_pass_unknown(plugin.table), int(path[1]))


def add_tags(plugin: PluginTable, of: CollectorInput, common: dict[str, str], line: int | None) -> None:
    """Add the tags of its events: the input's own, which win, and those that `line` has for all inputs."""
    own = plugin.replaced("tags") if isinstance(plugin.table.get("tags"), dict) else {}
    tags = {**common, **{name: tag_text(value) for name, value in own.items()}}
    if own:
        plugin.put((SOURCES, of.source, "tags"), tags, key="tags")
    elif tags:
        plugin.draft.put((SOURCES, of.source, "tags"), tags, line)


def tag_text(value: object) -> str:
    """A tag's value as Telegraf writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _command(plugin: PluginTable, path: KeyPath) -> list[str]:
    """Put the command, which for execd can be one text: the program."""
    if plugin.name != "execd":
        index = plugin.text("index-file")
        command = [COLLECTOR, "--log-name", plugin.text("log-name") or "event_collector"]
        command += ["--topic", plugin.text("topic") or "events", *([_INDEX, index] if index else [])]
        own = ", with an index file of relay's own" if plugin.keeps_index else ""
        plugin.put((*path, "command"), command, why=f"it is what the Monitoring Agent runs{own}")
        return command
    command = as_list(plugin.replaced("command"))
    plugin.put((*path, "command"), command, key="command")
    if plugin.table.get("environment"):
        plugin.put((*path, "environment"), plugin.replaced("environment"), key="environment")
    data_format, precision = plugin.text("data_format"), plugin.text("influx_timestamp_precision")
    if data_format not in {"", "influx", "json"}:
        plugin.reject("data_format", f"relay reads influx and json, not {quoted(data_format)}")
    elif data_format == "json":
        plugin.warn(_JSON, key="data_format")
    elif precision not in {"", "1ns"}:
        plugin.reject("influx_timestamp_precision", f"relay reads nanoseconds (1ns), not {quoted(precision)}")
    plugin.warn_of_differences(_DIFFERENCES)
    return command
