"""An input of the Monitoring Agent as a [[source]] of type event-collector, with its filters.

    [[inputs.t128_events]]                                  what the agent runs for it is its command
    [[inputs.execd]] command = ["/usr/bin/eventCollector128t", …]    as older agents have it: the command as it is

Of execd, `data_format` is influx or json: relay reads both, JSON in the shape in which Telegraf writes it. A child that
relay runs otherwise than Telegraf is a warning. What would change events, or have more of them go out than was asked
for, is a mistake: times in another unit, a filter that relay does not have.
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
_COLLECTORS_KEYS: Final = frozenset({"index-file", "topic", "log-name"})
_FORMATS: Final = frozenset({"", "influx", "json"})
_NANOSECONDS: Final = frozenset({"", "1ns"})
_OTHERWISE: Final[dict[str, tuple[object, str]]] = {
    "signal": ("none", "relay asks for nothing; a program that writes only when it is asked gives no events"),
    "stop_on_error": (False, "relay starts a program that ended again, whatever its status"),
}
"""Keys of execd: the value that means what relay does, and what it does."""
_EXECD_KEYS: Final = frozenset(
    {
        "command",
        "environment",
        "data_format",
        "influx_timestamp_precision",
        "influx_parser_type",
        "restart_delay",
        "buffer_size",
        *_OTHERWISE,
    }
)
_INDEX: Final = "--index-file"


class CollectorInput(NamedTuple):
    """One that relay has."""

    name: str
    outputs: frozenset[str]
    types: frozenset[str]
    may_pass_unknown: bool
    """Whether an event of a type that relay does not know may pass, though `types` does not say so."""
    source: int
    """Its source's place among all."""


def is_of_events(plugin: PluginTable) -> bool:
    """Whether it is the event collector."""
    if plugin.name == "execd":
        return os.path.basename(_program(plugin)) == os.path.basename(COLLECTOR)
    return plugin.name == "t128_events"


def name_of(plugin: PluginTable) -> str:
    """What people know it by."""
    program = _program(plugin) if plugin.name == "execd" else ""
    return f"{plugin.name} of {program}" if program else plugin.name


def _program(plugin: PluginTable) -> str:
    return next((word for word in as_list(plugin.table.get("command")) if isinstance(word, str)), "")


def source(plugin: PluginTable, name: str, outputs: frozenset[str], line: int) -> CollectorInput:
    """Add the source; `line` is where config.yaml names the input."""
    path: KeyPath = (SOURCES, len(plugin.draft.document.get(SOURCES, ())))
    plugin.draft.put((*path, "name"), name, line)
    plugin.put((*path, "type"), "event-collector")
    command = _execd(plugin, path) if plugin.name == "execd" else _collector(plugin, path)
    _filters(plugin, path)
    for key in OTHER_FILTERS:
        if plugin.table.get(key):
            plugin.reject(key, "relay has only the filters tagpass, tagdrop, fieldpass and fielddrop")
    keys = _EXECD_KEYS if plugin.name == "execd" else _COLLECTORS_KEYS
    plugin.name_unknown({*keys, "tags", *FILTERS, *OTHER_FILTERS})
    has_index = any(str(word).partition("=")[0] == _INDEX for word in command)
    plugin.warn(_SENT_TWICE if plugin.keeps_index else _TWO_READERS if has_index else _NO_INDEX, path=path)
    return CollectorInput(name, outputs, types_passed(plugin.table), may_pass_unknown(plugin.table), int(path[1]))


def tags(plugin: PluginTable, of: CollectorInput, common: dict[str, str], line: int | None) -> None:
    """The tags of its events: the input's own, which come first, and those that `line` has for all inputs."""
    own = plugin.replaced("tags") if isinstance(plugin.table.get("tags"), dict) else {}
    found = {**common, **{name: text_of(value) for name, value in own.items()}}
    if own:
        plugin.put((SOURCES, of.source, "tags"), found, key="tags")
    elif found:
        plugin.draft.put((SOURCES, of.source, "tags"), found, line)


def text_of(value: object) -> str:
    """A tag's value as Telegraf writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _filters(plugin: PluginTable, path: KeyPath) -> None:
    """Its filters; as in Telegraf, what stands under two names of one filter is one list."""
    together: dict[str, object] = {}
    keys: dict[str, str] = {}
    for key, ours in taken_over(plugin.table).items():
        value, earlier = plugin.replaced(key), together.get(ours)
        together[ours] = [*earlier, *value] if isinstance(earlier, list) and isinstance(value, list) else value
        keys[ours] = key
    for ours, value in together.items():
        plugin.put((*path, ours), value, key=keys[ours])


def _collector(plugin: PluginTable, path: KeyPath) -> list[str]:
    index = plugin.text("index-file")
    command = [COLLECTOR, "--log-name", plugin.text("log-name") or "event_collector"]
    command += ["--topic", plugin.text("topic") or "events"]
    command += [_INDEX, index] if index else []
    own = ", with an index file of relay's own" if plugin.keeps_index else ""
    plugin.put((*path, "command"), command, why=f"it is what the Monitoring Agent runs{own}")
    return command


def _execd(plugin: PluginTable, path: KeyPath) -> list[str]:
    """Its command, which may be one text: the program."""
    command = as_list(plugin.replaced("command"))
    plugin.put((*path, "command"), command, key="command")
    if plugin.table.get("environment"):
        plugin.put((*path, "environment"), plugin.replaced("environment"), key="environment")
    _format(plugin)
    for key, (ours, what) in _OTHERWISE.items():
        if plugin.table.get(key, ours) != ours:
            plugin.warn(what, key=key)
    return command


def _format(plugin: PluginTable) -> None:
    format_, precision = plugin.text("data_format"), plugin.text("influx_timestamp_precision")
    if format_ not in _FORMATS:
        plugin.reject("data_format", f"relay reads influx and json, not {quoted(format_)}")
    elif format_ == "json":
        plugin.warn(_OF_TELEGRAF, key="data_format")
    elif precision not in _NANOSECONDS:
        plugin.reject("influx_timestamp_precision", f"relay reads nanoseconds (1ns), not {quoted(precision)}")


_OF_TELEGRAF: Final = (
    "relay reads objects as Telegraf writes them, with name, tags, fields and timestamp; any other goes out as it is, "
    'an event of type "log" that is marked'
)


_TWO_READERS: Final = (
    "stop this input of the Monitoring Agent before relay runs, but not by `enabled` in a file that relay reads: two "
    "readers of one index file take events from each other"
)
_SENT_TWICE: Final = (
    "stop this input of the Monitoring Agent before relay runs, but not by `enabled` in a file that relay reads: else "
    "its events are sent twice"
)
_NO_INDEX: Final = "no index-file stands here: relay cannot say where it left off"
