"""An input of the Monitoring Agent as a [[source]] of type event-collector, with its filters.

    [[inputs.t128_events]]                                  what the agent runs for it is its command
    [[inputs.execd]] command = ["/usr/bin/eventCollector128t", …]    as older agents have it: the command as it is

Of execd, `signal` and `restart_delay` mean nothing here, and `data_format` is influx or json: relay reads both. A
filter that relay does not have is a mistake: more would go out than was asked for.
"""

import os
from typing import Final, NamedTuple

from relay.config.agent.filters import FILTERS, OTHER_FILTERS, as_list, types_passed
from relay.config.agent.plugin import Plugin
from relay.config.lines import KeyPath
from relay.quantity import quoted

COLLECTOR: Final = "/usr/bin/eventCollector128t"
SOURCES: Final = "source"
_COLLECTORS_KEYS: Final = frozenset({"index-file", "topic", "log-name"})
_EXECD_KEYS: Final = frozenset({"command", "data_format", "signal", "restart_delay"})
_FORMATS: Final = frozenset({"", "influx", "json"})
_INDEX: Final = "--index-file"


class Input(NamedTuple):
    """One that relay has."""

    name: str
    outputs: frozenset[str]
    types: frozenset[str]
    source: int
    """Its source's place among all."""


def is_of_events(plugin: Plugin) -> bool:
    """Whether it is the event collector."""
    if plugin.name == "execd":
        return os.path.basename(_program(plugin)) == os.path.basename(COLLECTOR)
    return plugin.name == "t128_events"


def name_of(plugin: Plugin) -> str:
    """What people know it by."""
    program = _program(plugin) if plugin.name == "execd" else ""
    return f"{plugin.name} of {program}" if program else plugin.name


def _program(plugin: Plugin) -> str:
    return next((word for word in as_list(plugin.table.get("command")) if isinstance(word, str)), "")


def source(plugin: Plugin, name: str, outputs: frozenset[str], line: int) -> Input:
    """Add the source; `line` is where config.yaml names the input."""
    path: KeyPath = (SOURCES, len(plugin.draft.document.get(SOURCES, ())))
    plugin.draft.put((*path, "name"), name, line)
    plugin.put((*path, "type"), "event-collector")
    command = _execd(plugin, path) if plugin.name == "execd" else _collector(plugin, path)
    for key, ours in FILTERS.items():
        if key in plugin.table:
            plugin.put((*path, ours), plugin.replaced(key), key=key)
    for key in OTHER_FILTERS:
        if plugin.table.get(key):
            plugin.reject(key, "relay has only the filters tagpass, tagdrop, fieldpass and fielddrop")
    keys = _EXECD_KEYS if plugin.name == "execd" else _COLLECTORS_KEYS
    plugin.name_unknown({*keys, *FILTERS, *OTHER_FILTERS})
    has_index = any(str(word).partition("=")[0] == _INDEX for word in command)
    plugin.warn(_TWO_READERS if has_index else _NO_INDEX, path=path)
    return Input(name, outputs, types_passed(plugin.table), int(path[1]))


def _collector(plugin: Plugin, path: KeyPath) -> list[str]:
    index = plugin.text("index-file")
    command = [COLLECTOR, "--log-name", plugin.text("log-name") or "event_collector"]
    command += ["--topic", plugin.text("topic") or "events"]
    command += [_INDEX, index] if index else []
    plugin.put((*path, "command"), command, why="it is what the Monitoring Agent runs")
    return command


def _execd(plugin: Plugin, path: KeyPath) -> list[str]:
    """Its command, which may be one text: the program."""
    command = as_list(plugin.replaced("command"))
    plugin.put((*path, "command"), command, key="command")
    format_ = plugin.text("data_format")
    if format_ not in _FORMATS:
        plugin.reject("data_format", f"relay reads influx and json, not {quoted(format_)}")
    return command


_TWO_READERS: Final = (
    "stop this input of the Monitoring Agent before relay runs, but not by `enabled` in a file that relay reads: two "
    "readers of one index file take events from each other"
)
_NO_INDEX: Final = "no index-file stands here: relay cannot say where it left off"
