"""A Monitoring Agent's configuration as a draft: its inputs and outputs, and which events go where.

The configuration is a document in the form of config.yaml, whichever file it comes from: config.yaml itself
(relay.config.agent.config_yaml), or a router's text (relay.config.router.monitoring). Inputs of the event collector
become sources (relay.config.agent.inputs), outputs of syslog become servers (relay.config.agent.outputs). relay skips
an input, an output or a whole configuration that `enabled` disables. The inputs of an output become the server's
`types`; when types cannot express them, that is a mistake, because events would be sent where they must not go. `tags`
become the sources' tags, except router and node, which are keys of [relay]. One warning names everything that relay
ignores; intervals have no meaning here.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from relay.config.agent import inputs, outputs
from relay.config.agent.plugin_table import PluginTable, Variables, listed
from relay.config.agent.telegraf_filters import TYPES, UNKNOWN, as_list
from relay.config.document.settings_draft import SettingsDraft
from relay.values.text import quoted

_KEYS: Final = frozenset(
    {"name", "enabled", "lib-directory", "sample-interval", "push-interval", "tags", "inputs", "outputs"}
)
_KEYS_OF_ENTRIES: Final = frozenset(
    {"name", "conf", "enabled", "include-outputs", "exclude-outputs", "sample-interval", "push-interval"}
)
_SWITCHES: Final = {
    **dict.fromkeys(("true", "enabled", "yes", "on", "none"), True),
    **dict.fromkeys(("false", "disabled", "no", "off"), False),
}
"""The values of `enabled`, as YAML reads them, in quotes, or as the vendor writes them. A missing value enables."""
_SENT_ANYWAY: Final = {"router": "${ROUTER}", "node": "${NODE}", "host": "${HOSTNAME}", "hostname": "${HOSTNAME}"}
"""Tags whose values relay sends without being told."""
_DISABLED: Final = (
    "the Monitoring Agent is disabled here, so relay takes nothing from it; if relay is to replace it, give relay a "
    "copy with `enabled: true`"
)

PluginsOf = Callable[[str, str, dict[Any, Any]], list[PluginTable]]
"""The plugins of an entry: of "inputs" or "outputs", its name, and the entry."""


class MonitoringAgent:
    """Translates one configuration into its draft."""

    def __init__(
        self, draft: SettingsDraft, document: Mapping[Any, Any], lines: Mapping[str, int], variables: Variables
    ) -> None:
        self.draft = draft
        self.document = document
        self.lines = lines
        self.variables = variables
        self.inputs: list[inputs.CollectorInput] = []
        self._ignored: list[str] = []

    def translate(self, plugins_of: PluginsOf) -> None:
        """Translate the whole configuration."""
        if not self._is_enabled(self.document, "the Monitoring Agent", "enabled"):
            self._warn(_DISABLED, "enabled")
            return
        tags = self._tags()
        all_outputs = self._entries("outputs")
        names = frozenset(name for name, _ in all_outputs)
        for name, entry in self._entries("inputs"):
            if self._is_enabled(entry, f"input {quoted(name)}", "inputs"):
                self._add_input(name, entry, plugins_of("inputs", name, entry), names, tags)
        for name, entry in all_outputs:
            if self._is_enabled(entry, f"output {quoted(name)}", "outputs"):
                self._add_output(name, plugins_of("outputs", name, entry))
        self._ignored += [listed([str(key)]) for key in self.document if key not in _KEYS]
        if self._ignored:
            ignored = ", ".join(dict.fromkeys(self._ignored))
            sentence = f"relay reads inputs of events and outputs of syslog only; ignored: {ignored}"
            self.draft.warn(sentence, min(self.lines.values(), default=None))

    # --- What the configuration says ---

    def _is_enabled(self, table: Mapping[Any, Any], what: str, key: str) -> bool:
        value = table.get("enabled")
        switch = _SWITCHES.get(str(value).lower())
        if switch is None:
            self._mistake(f"{what}: enabled must be true or false, not {quoted(str(value))}", key)
        if switch is False and table is not self.document:
            self._warn(f"{what} is disabled; ignored", key)
        return switch is not False

    def _entries(self, key: str) -> list[tuple[str, dict[Any, Any]]]:
        """The entries of `inputs` or `outputs`, by their names."""
        entries = self.document.get(key) or []
        found: list[tuple[str, dict[Any, Any]]] = []
        for entry in entries if isinstance(entries, list) else [None]:
            if isinstance(entry, dict) and isinstance(entry.get("name"), str | int):
                found.append((str(entry["name"]), entry))
                if unknown := [str(name) for name in entry if name not in _KEYS_OF_ENTRIES]:
                    of = f"{key.removesuffix('s')} {listed([str(entry['name'])])}"
                    self._ignored.append(f"{listed(unknown)} of {of}")
            else:
                self._mistake(
                    f"must be a list of entries with a `name`, as in `{key}:` and below it `- name: events`", key
                )
        return found

    def _tags(self) -> dict[str, str]:
        """The tags of every event. Router and node become keys of [relay]."""
        found: dict[str, str] = {}
        for tag in as_list(self.document.get("tags")):
            key, value = (tag.get("key"), tag.get("value")) if isinstance(tag, dict) else (None, None)
            if not isinstance(key, str) or isinstance(value, list | dict) or "" in {key, value} or value is None:
                self._ignored.append("a tag without a key and a value")
            elif key == "host" and value != _SENT_ANYWAY[key]:
                self._ignored.append("the tag host (Telegraf replaces it by the name of the machine)")
            elif _SENT_ANYWAY.get(key) != value:
                found[key] = inputs.tag_text(
                    self.variables.replaced(value, lambda sentence: self._mistake(sentence, "tags"))
                )
        for key in ("router", "node"):
            if key in found:
                self.draft.put(("relay", key), found.pop(key), self.lines["tags"])
        return found

    # --- Inputs and outputs ---

    def _add_input(
        self, name: str, entry: dict[Any, Any], plugins: list[PluginTable], known: frozenset[str], tags: dict[str, str]
    ) -> None:
        included, excluded = entry.get("include-outputs"), as_list(entry.get("exclude-outputs"))
        for unknown in sorted({str(each) for each in (*as_list(included), *excluded)} - known):
            self._mistake(f"input {quoted(name)} names the output {quoted(unknown)}, which does not exist", "inputs")
        selected = known if included is None else known.intersection(map(str, as_list(included)))
        goes_to = selected.difference(map(str, excluded))
        events = [plugin for plugin in plugins if inputs.is_of_events(plugin)]
        if others := [inputs.name_of(plugin) for plugin in plugins if plugin not in events]:
            self._ignored.append(f"input {listed([name])} ({listed(others)})")
        for number, plugin in enumerate(events, 1):
            unique = name if number == 1 else f"{name}-{number}"
            self.inputs.append(inputs.add_source(plugin, unique, goes_to, self.lines["inputs"]))
            inputs.add_tags(plugin, self.inputs[-1], tags, self.lines.get("tags"))

    def _add_output(self, name: str, plugins: list[PluginTable]) -> None:
        servers = [plugin for plugin in plugins if plugin.name == "syslog"]
        if others := [plugin.name for plugin in plugins if plugin.name != "syslog"]:
            self._ignored.append(f"output {listed([name])} ({listed(others)})")
        selected = [outputs.selected_types(plugin) for plugin in servers]
        types = self._types_for(name, frozenset[str]().union(*selected))
        if servers and not types:
            self._warn(f"output {quoted(name)} gets events from no input that relay reads; ignored", "outputs")
            return
        sources = [each.source for each in self.inputs if name in each.outputs]
        for number, (plugin, passed) in enumerate(zip(servers, selected, strict=True), 1):
            if own := [type_ for type_ in types if type_ in passed]:
                outputs.add_server(plugin, name if number == 1 else f"{name}-{number}", own)
                outputs.set_defaults(plugin, sources)
            else:
                plugin.warn("its filters let no event pass; ignored")

    def _types_for(self, output: str, selected: frozenset[str]) -> tuple[str, ...]:
        """The event types that go to an output; a mistake when types alone cannot say which events these are."""
        to_it = [each for each in self.inputs if output in each.outputs]
        others = [each for each in self.inputs if output not in each.outputs]
        types = selected.intersection(frozenset[str]().union(*(each.types for each in to_it)))
        for other in others:
            if shared := types & other.types:
                self._mistake(
                    f"input {quoted(other.name)} does not go to output {quoted(output)}, but another input with events "
                    f"of the same type ({listed(sorted(shared))}) does; relay selects by type: separate the inputs by "
                    "tagpass",
                    "inputs",
                )
        # Events of types that relay does not know are all the same to a server. They go to this output only when no
        # other input can have such events too.
        guessed = [each for each in to_it if each.may_pass_unknown]
        if UNKNOWN in selected - types and guessed:
            elsewhere = [each for each in others if each.may_pass_unknown or UNKNOWN in each.types]
            if elsewhere:
                self._warn(
                    f"output {quoted(output)}: relay does not send events of unknown types there, even where the "
                    f"tagpass of input {quoted(guessed[0].name)} matches, because input {quoted(elsewhere[0].name)}, "
                    "which does not go there, can have such events too",
                    "inputs",
                )
            else:
                types |= {UNKNOWN}
        return tuple(type_ for type_ in TYPES if type_ in types)

    def _mistake(self, sentence: str, key: str) -> None:
        self.draft.mistake(sentence, self.lines.get(key), (key,))

    def _warn(self, sentence: str, key: str) -> None:
        self.draft.warn(sentence, self.lines.get(key), (key,))
