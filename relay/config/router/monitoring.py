"""A router's `system > monitoring` and the `authority > monitoring` that it refers to, as sources and servers. Pure.

    system > monitoring                enabled, agent-config NAME (or the contents of an agent-config in its place)
    monitoring > agent-config NAME     tags, input NAME (include-all-outputs, output)
    monitoring > input NAME            type events (event > TYPE true), custom-input (config: Telegraf's TOML), tags
    monitoring > output NAME           type syslog (address, sdid, default-…-code), type custom-output (config)
They become a document in the form of config.yaml and tables of Telegraf's, which relay.config.agent translates. The
router's configuration names no index file: relay keeps one of its own, beside the default place of its spool.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from relay.config.agent.monitoring_agent import MonitoringAgent
from relay.config.agent.plugin_table import PluginTable, Variables
from relay.config.document.config_file import NotAConfigurationError, toml_draft
from relay.config.router.leaf_reader import LeafReader, first_word, flag, line_of, named, number
from relay.config.router.section import Section
from relay.values.text import quoted

_PROFILE: Final = frozenset({"name", "tags", "input", "sample-interval", "push-interval"})
_SYSTEM: Final = _PROFILE | {"enabled", "agent-config", "output"}
_REFERENCE: Final = frozenset({"name", "include-all-outputs", "output", "sample-interval", "push-interval"})
_INPUT: Final = frozenset({"name", "type", "tags", "event", "config"})
_OUTPUT: Final = frozenset(
    {"name", "type", "syslog", "config", "push-jitter", "batch-size", "buffer-limit", "data-format", "format"}
)
_PLUGINS: Final = {"events": "t128_events", "syslog": "syslog"}
"""The plugins that are types of inputs and outputs here; relay ignores other types."""
_SYSLOG: Final[dict[str, tuple[str, Callable[[str], object]]]] = {
    "address": ("address", str),
    "sdid": ("default_sdid", str),
    "default-severity-code": ("default_severity_code", number),
    "default-facility-code": ("default_facility_code", number),
}
_INDEX: Final = "/var/lib/relay/{}.index"


class Monitoring:
    """Adds the sources and servers of one router."""

    def __init__(self, reader: LeafReader, levels: Sequence[Section], variables: Variables) -> None:
        self._reader = reader
        self._draft = reader.draft
        self._variables = variables
        self._levels = [level.section("monitoring") for level in levels]

    def translate(self, system: Section) -> None:
        """Add the inputs and outputs that the router's own section, `system > monitoring`, enables."""
        if not any(system.names()):
            return
        name = self._reader.value(system, "agent-config", ("monitoring", "agent-config"))
        profile = system if name is None else self._all("agent-config").get(str(name))
        if profile is None:
            self._draft.warn(
                f"agent-config {quoted(str(name))} is not in this text, so relay reads nothing of the Monitoring "
                "Agent; save all of it, with `authority > monitoring`",
                line_of(system, "agent-config"),
            )
            return
        found = {"inputs": self._all("input", system), "outputs": self._all("output", system)}
        document = {
            **dict.fromkeys(_unknown(system, _SYSTEM)),
            **(dict.fromkeys(_unknown(profile, _PROFILE)) if profile is not system else {}),
            "enabled": self._reader.value(system, "enabled", ("monitoring", "enabled"), flag),
            "tags": [{"key": key, "value": value} for key, value in self._tags(profile).items()],
            "inputs": [self._input(*each, found["inputs"]) for each in named(profile.sections("input"))],
            "outputs": [
                {"name": each, **dict.fromkeys(_unknown(output, {*_OUTPUT, _type(output)}))}
                for each, output in found["outputs"].items()
            ],
        }
        lines = {key: line_of(profile, key.removesuffix("s")) for key in ("inputs", "outputs")}
        lines |= {"enabled": line_of(system, "enabled"), "tags": line_of(profile, "tags")}
        MonitoringAgent(self._draft, document, lines, self._variables).translate(
            lambda folder, name, _: self._plugins(name, found[folder].get(name))
        )

    def _all(self, kind: str, *more: Section) -> dict[str, Section]:
        """The sections of a kind at every level, by their names."""
        return {name: each for level in (*more, *self._levels) for name, each in named(level.sections(kind))}

    def _tags(self, section: Section) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, tag in named(section.sections("tags")):
            key = next((first_word(leaf) for leaf in tag.leaves("tag")), name)
            of_router = [f"${{{word.upper()}}}" for word in ("router", "node") if tag.leaves(word)]
            found[key] = next(iter(of_router), str(self._reader.value(tag, "value", ("monitoring", "tags")) or ""))
        return found

    def _input(self, name: str, section: Section, inputs: Mapping[str, Section]) -> dict[str, Any]:
        """An input of a profile, in the form of config.yaml."""
        definition = inputs.get(name)
        unknown = [] if definition is None else _unknown(definition, {*_INPUT, _type(definition)})
        entry: dict[str, Any] = {"name": name, **dict.fromkeys([*_unknown(section, _REFERENCE), *unknown])}
        path = ("monitoring", "input", "include-all-outputs")
        if self._reader.value(section, "include-all-outputs", path, flag) is False:
            entry["include-outputs"] = [word for leaf in section.leaves("output") for word in leaf.words]
        return entry

    def _plugins(self, name: str, definition: Section | None) -> list[PluginTable]:
        """The plugins of one input or output, as Telegraf's tables."""
        if definition is None:
            self._draft.warn(f"{quoted(name)} is not under `authority > monitoring` of this text; ignored")
            return []
        tags = self._tags(definition)
        table: dict[str, Any] = {"tags": {key: value for key, value in tags.items() if value}} if tags else {}
        kind = _type(definition)
        if kind in {"custom-input", "custom-output"}:
            return self._custom(definition, f"{kind.removeprefix('custom-')}s", table)
        if kind == "events":
            event = definition.section("event")
            labels = [label for label, _ in event.names()]
            types = [
                label for label in labels if self._reader.value(event, label, ("monitoring", "input", label), flag)
            ]
            if labels and not types:
                self._draft.warn(f"input {quoted(name)} has no event type that is true; ignored", definition.line)
                return []
            table |= {"tagpass": {"type": types}} if labels else {}
            table["index-file"] = _INDEX.format(re.sub(r"[^A-Za-z0-9._-]", "_", name))
        if kind == "syslog":
            section = definition.section("syslog")
            for leaf, (key, read) in _SYSLOG.items():
                value = self._reader.value(section, leaf, ("monitoring", "output", leaf), read)
                table |= {} if value is None else {key: value}
        plugin, file = _PLUGINS.get(kind, kind or "no type"), self._draft.file
        keeps_index = kind == "events"
        made = PluginTable(self._draft, self._variables, plugin, file, definition.line, table, keeps_index=keeps_index)
        return [made]

    def _custom(self, definition: Section, kind: str, table: Mapping[str, Any]) -> list[PluginTable]:
        """The plugins in Telegraf's TOML."""
        found: list[PluginTable] = []
        for leaf in definition.leaves("config"):
            try:
                read = toml_draft(self._draft.file, "\n".join(leaf.text) + "\n")
            except NotAConfigurationError as error:
                self._draft.mistake(f"config: {error.sentence}", leaf.line)
                continue
            for plugin in PluginTable.all_of(read, kind, self._draft, self._variables):
                own = plugin.table.get("tags")
                tags = {**table.get("tags", {}), **(own if isinstance(own, dict) else {})}
                found.append(plugin._replace(line=leaf.line, lines={}, table={**plugin.table, "tags": tags}))
        return found


def _type(definition: Section) -> str:
    return next((first_word(leaf) for leaf in definition.leaves("type")), "")


def _unknown(section: Section, known: frozenset[str] | set[str]) -> list[str]:
    """The names in a section that relay does not read, except an empty additional-config."""
    return [
        name
        for name, _ in section.names()
        if name not in known
        and (
            name != "additional-config"
            or any(leaf.text or not leaf.rest.startswith("(") for leaf in section.leaves(name))
        )
    ]
