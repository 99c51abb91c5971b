"""A Monitoring Agent's configuration as a draft: which inputs and outputs there are, and which goes where.

The configuration is a document in the form of config.yaml, whichever file it comes from: config.yaml itself
(relay.config.agent.config_yaml), or a router's text (relay.config.router.monitoring). Inputs of the event collector
become sources (relay.config.agent.inputs), outputs of syslog become servers (relay.config.agent.outputs). An input, an
output or a whole that `enabled` switches off is skipped. Which input goes to which output becomes the servers' `types`;
what cannot be said so is a mistake, since events would go where they are not to go. `tags` become the sources' tags,
except router and node, which are relay's own names. Everything that relay does not read is named in one line; intervals
mean nothing here.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from relay.config.agent import inputs, outputs
from relay.config.agent.plugin_table import VARIABLE, PluginTable, Variables, listed
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
"""What `enabled` can be; as YAML reads it, or in quotes, or the vendor's own words. Nothing is yes."""
_BY_ITSELF: Final = {"router": "${ROUTER}", "node": "${NODE}", "host": "${HOSTNAME}", "hostname": "${HOSTNAME}"}
"""Tags that relay sends anyway."""

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
        self._passed_over: list[str] = []

    def whole(self, plugins_of: PluginsOf) -> None:
        """Translate all of it."""
        if not self._is_on(self.document, "the Monitoring MonitoringAgent", "enabled"):
            self._warn(_SWITCHED_OFF, "enabled")
            return
        tags = self._tags()
        names = frozenset(name for name, _ in self._listed("outputs"))
        for name, entry in self._listed("inputs"):
            if self._is_on(entry, f"input {quoted(name)}", "inputs"):
                self._input(name, plugins_of("inputs", name, entry), self._outputs_of(name, entry, names), tags)
            else:
                self._warn(f"input {quoted(name)} is switched off; passed over", "inputs")
        for name, entry in self._listed("outputs"):
            if self._is_on(entry, f"output {quoted(name)}", "outputs"):
                self._output(name, plugins_of("outputs", name, entry))
            else:
                self._warn(f"output {quoted(name)} is switched off; passed over", "outputs")
        unknown = [str(key) for key in self.document if key not in _KEYS]
        self._passed_over += [listed([key]) for key in unknown]
        if self._passed_over:
            named = ", ".join(dict.fromkeys(self._passed_over))
            self.draft.warn(
                f"relay reads inputs of events and outputs of syslog only; passed over: {named}",
                min(self.lines.values(), default=None),
            )

    # --- What the configuration says ---

    def _is_on(self, table: Mapping[Any, Any], what: str, key: str) -> bool:
        said = table.get("enabled")
        switch = _SWITCHES.get(str(said).lower())
        if switch is None:
            self._mistake(f"{what}: enabled must be true or false, not {quoted(str(said))}", key)
        return switch is not False

    def _listed(self, key: str) -> Iterator[tuple[str, dict[Any, Any]]]:
        """The entries of `inputs` or `outputs`, by their names."""
        entries = self.document.get(key) or []
        for entry in entries if isinstance(entries, list) else [None]:
            if isinstance(entry, dict) and isinstance(entry.get("name"), str | int):
                unknown = [str(name) for name in entry if name not in _KEYS_OF_ENTRIES]
                self._passed_over += (
                    [f"{listed(unknown)} of {key.removesuffix('s')} {listed([str(entry['name'])])}"] if unknown else []
                )
                yield str(entry["name"]), entry
            else:
                self._mistake(
                    f"must be a list of entries with a `name`, as in `{key}:` and below it `- name: events`", key
                )

    def _outputs_of(self, name: str, entry: dict[Any, Any], known: frozenset[str]) -> frozenset[str]:
        included, excluded = entry.get("include-outputs"), entry.get("exclude-outputs")
        for names in (included, excluded):
            for unknown in sorted({str(each) for each in as_list(names)} - known):
                self._mistake(f"input {quoted(name)} names the output {quoted(unknown)}, which is not there", "inputs")
        wanted = known if included is None else known.intersection(map(str, as_list(included)))
        return wanted.difference(map(str, as_list(excluded)))

    def _tags(self) -> dict[str, str]:
        """The tags that every event gets. What router and node are, relay says by itself."""
        found: dict[str, str] = {}
        for tag in as_list(self.document.get("tags")):
            key, value = (tag.get("key"), tag.get("value")) if isinstance(tag, dict) else (None, None)
            if not isinstance(key, str) or isinstance(value, list | dict) or "" in {key, value} or value is None:
                self._passed_over.append("a tag without a key and a value")
            elif key == "host" and value != _BY_ITSELF[key]:
                self._passed_over.append("the tag host (Telegraf puts the name of the machine there)")
            elif _BY_ITSELF.get(key) != value:
                found[key] = self._replaced(value if isinstance(value, str) else inputs.text_of(value))
        for key in ("router", "node"):
            if key in found:
                self.draft.put(("relay", key), found.pop(key), self.lines["tags"])
        return found

    def _replaced(self, text: str) -> str:
        """A tag's value with its variables replaced."""
        try:
            return VARIABLE.sub(lambda match: self.variables.value(match[1]), text)
        except ValueError as error:
            self._mistake(str(error), "tags")
            return text

    # --- Inputs and outputs ---

    def _input(self, name: str, found: list[PluginTable], goes_to: frozenset[str], tags: dict[str, str]) -> None:
        events = [plugin for plugin in found if inputs.is_of_events(plugin)]
        others = [inputs.name_of(plugin) for plugin in found if plugin not in events]
        if others:
            self._passed_over.append(f"input {listed([name])} ({listed(others)})")
        for number, plugin in enumerate(events, 1):
            unique = name if number == 1 else f"{name}-{number}"
            self.inputs.append(inputs.source(plugin, unique, goes_to, self.lines["inputs"]))
            inputs.tags(plugin, self.inputs[-1], tags, self.lines.get("tags"))

    def _output(self, name: str, found: list[PluginTable]) -> None:
        servers = [plugin for plugin in found if plugin.name == "syslog"]
        others = [plugin.name for plugin in found if plugin.name != "syslog"]
        if others:
            self._passed_over.append(f"output {listed([name])} ({listed(others)})")
        chosen = [outputs.chosen(plugin) for plugin in servers]
        types = self._types_for(name, frozenset[str]().union(*chosen))
        if servers and not types:
            self._warn(f"output {quoted(name)}: no input that relay has goes there; passed over", "outputs")
            return
        sources = [each.source for each in self.inputs if name in each.outputs]
        for number, (plugin, passed) in enumerate(zip(servers, chosen, strict=True), 1):
            if of_it := [type_ for type_ in types if type_ in passed]:
                outputs.server(plugin, name if number == 1 else f"{name}-{number}", of_it)
                outputs.defaults(plugin, sources)
            else:
                plugin.warn("its filters let nothing pass; passed over")

    def _types_for(self, output: str, chosen: frozenset[str]) -> tuple[str, ...]:
        """The event types that go to an output; a mistake when the types alone cannot say which events those are."""
        to_it = [each for each in self.inputs if output in each.outputs]
        types = chosen.intersection(frozenset[str]().union(*(each.types for each in to_it)))
        for other in self.inputs:
            if output not in other.outputs and (shared := types & other.types):
                self._mistake(
                    f"input {quoted(other.name)} does not go to output {quoted(output)}, but another with events of "
                    f"the same type ({listed(sorted(shared))}) does; relay chooses by type: part them by tagpass",
                    "inputs",
                )
        if UNKNOWN in chosen - types:
            types |= self._unknown_for(output)
        return tuple(type_ for type_ in TYPES if type_ in types)

    def _unknown_for(self, output: str) -> frozenset[str]:
        """The types that relay does not know, where only inputs whose globs may let such pass go to an output.

        Those go there alone, unless other inputs give such events too: they would all be the same to a server.
        """
        guessed = [each for each in self.inputs if output in each.outputs and each.may_pass_unknown]
        others = [
            each
            for each in self.inputs
            if output not in each.outputs and (each.may_pass_unknown or UNKNOWN in each.types)
        ]
        if guessed and others:
            self._warn(
                f"output {quoted(output)}: an event of a type that relay does not know is not sent there, also where "
                f"the tagpass of input {quoted(guessed[0].name)} fits: input {quoted(others[0].name)}, which does not "
                "go there, may give such events too",
                "inputs",
            )
        return frozenset({UNKNOWN} if guessed and not others else ())

    # --- What is wrong ---

    def _mistake(self, sentence: str, key: str) -> None:
        self.draft.mistake(sentence, self.lines.get(key), (key,))

    def _warn(self, sentence: str, key: str) -> None:
        self.draft.warn(sentence, self.lines.get(key), (key,))


_SWITCHED_OFF: Final = (
    "the Monitoring Agent is switched off here, and so nothing of it is taken; where relay is to take its place, give "
    "it a copy with `enabled: true`"
)
