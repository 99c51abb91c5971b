"""A Monitoring Agent's `config.yaml` as a draft: which inputs and outputs there are, and which goes where.

    inputs/NAME.conf     the event collector → a [[source]] (relay.config.agent.inputs)
    outputs/NAME.conf    syslog → a [[remote-logging-server]] (relay.config.agent.outputs)
The two folders stand beside config.yaml (a copy), or else in its lib-directory. `conf` names another file there. What
`enabled` switches off is not taken: an input, or the whole. Which input goes to which output becomes the servers'
`types`; what cannot be said so is a mistake, since events would go where they are not to go. Inputs and outputs of
other kinds are named in a warning, one line for each kind of thing; intervals mean nothing here.

config.yaml has at most 64 KiB.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from relay.config.agent import inputs, outputs
from relay.config.agent.filters import TYPES, UNKNOWN, as_list
from relay.config.agent.plugin import VARIABLE, Plugin, Variables, listed, plugins
from relay.config.draft import Draft
from relay.config.file import NotUnderstoodError
from relay.config.router.translation import Choice
from relay.errors import NoInputError, PermissionRefusedError
from relay.quantity import quoted

NAME: Final = "config.yaml"
LIBRARY: Final = "/var/lib/128t-monitoring"
LARGEST: Final = 64 * 1024
_OPENING: Final = re.compile(r"(?:(?:[ \t]*#[^\n]*|[ \t\r]*)\n)*(?:---|[A-Za-z][A-Za-z_-]*[ \t]*:(?:\s|\Z))")
_SILENT_KEYS: Final = frozenset({"name", "enabled", "lib-directory", "sample-interval", "push-interval"})
_SWITCHES: Final = {
    **dict.fromkeys(("true", "enabled", "yes", "on", "none"), True),
    **dict.fromkeys(("false", "disabled", "no", "off"), False),
}
"""What `enabled` can be; as YAML reads it, or in quotes, or the vendor's own words. Nothing is yes."""


def is_agent_text(text: str) -> bool:
    """Whether a text is YAML: no TOML begins so."""
    return _OPENING.match(text) is not None


def within(path: str) -> str:
    """The configuration file of a Monitoring Agent's folder; any other path as it is."""
    inner = os.path.join(path, NAME)
    return inner if os.path.isfile(inner) else path


def draft_of(file: str, text: str, named: Choice) -> Draft:
    """Translate config.yaml and what it names; `named` are the router and the node that it runs on."""
    agent = _Agent(Draft(file), *_yaml(text), named)
    agent.whole()
    return agent.draft


def implied(agent: Draft) -> Draft:
    """What holds where no file says otherwise: traffic events, which [audit] keeps back by itself, are enabled.

    So where a server is to get them. Whether there are any, the router decides: its collector writes only what the
    router's own audit has enabled.
    """
    draft = Draft(agent.file)
    for index, server in enumerate(agent.document.get(outputs.SERVERS, ())):
        if "traffic" in server["types"]:
            why = "what it sends to a server includes traffic"
            file = agent.places[outputs.SERVERS, index].file
            draft.put(("audit", "traffic", "enabled"), True, why=why, file=file)
            draft.put(("audit", "traffic", "persist"), False, why=why, file=file)
            break
    return draft


def _yaml(text: str) -> tuple[dict[Any, Any], dict[str, int]]:
    """The document, and the line of each key of its top level."""
    import yaml  # noqa: PLC0415 - only who has such a file pays for it

    if len(text) > LARGEST:
        raise NotUnderstoodError(f"is larger than {LARGEST // 1024} KiB, and so no configuration of a Monitoring Agent")
    try:
        document, node = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise NotUnderstoodError(
            f"is no YAML: {error.problem or error.context or 'it is not understood'}", line
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise NotUnderstoodError("is no YAML that can be read") from None
    if not isinstance(document, dict) or not isinstance(node, yaml.MappingNode):
        raise NotUnderstoodError("is no configuration of a Monitoring Agent: no `inputs:` and `outputs:` stand in it")
    return document, {str(key.value): key.start_mark.line + 1 for key, _ in node.value}


class _Agent:
    def __init__(self, draft: Draft, document: dict[Any, Any], lines: dict[str, int], named: Choice) -> None:
        self.draft = draft
        self.document = document
        self.lines = lines
        asked = (each.get("name") for each in as_list(document.get("variables")) if isinstance(each, dict))
        self.variables = Variables(named.router, named.node, frozenset(map(str, asked)))
        self.inputs: list[inputs.Input] = []

    def whole(self) -> None:
        if not self._is_on(self.document, "the Monitoring Agent", "enabled"):
            self._warn(_SWITCHED_OFF, "enabled")
            return
        self._tags()
        names = frozenset(name for name, _ in self._listed("outputs"))
        for name, entry in self._listed("inputs"):
            if self._is_on(entry, f"input {quoted(name)}", "inputs"):
                self._input(name, self._plugins("inputs", name, entry), self._outputs_of(name, entry, names))
            else:
                self._warn(f"input {quoted(name)} is switched off; passed over", "inputs")
        for name, entry in self._listed("outputs"):
            self._output(name, self._plugins("outputs", name, entry))
        unknown = [str(key) for key in self.document if key not in {*_SILENT_KEYS, "tags", "inputs", "outputs"}]
        if unknown:
            self._warn(f"relay has no {listed(unknown)}; passed over", unknown[0])

    # --- What config.yaml says ---

    def _is_on(self, table: dict[Any, Any], what: str, key: str) -> bool:
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

    def _tags(self) -> None:
        others = []
        for tag in as_list(self.document.get("tags")):
            key, value = (tag.get("key"), tag.get("value")) if isinstance(tag, dict) else (None, None)
            if key in {"router", "node"} and isinstance(value, str) and value:
                if not VARIABLE.search(value):
                    self.draft.put(("relay", str(key)), value, self.lines["tags"])
            elif key not in {"host", "hostname"}:
                others.append(str(key) if isinstance(key, str) else "a tag without a key")
        if others:
            self._warn(f"relay adds no tags of its own: {listed(others)}", "tags")

    # --- Inputs and outputs ---

    def _input(self, name: str, found: list[Plugin], goes_to: frozenset[str]) -> None:
        events = [plugin for plugin in found if inputs.is_of_events(plugin)]
        others = [inputs.name_of(plugin) for plugin in found if plugin not in events]
        if others:
            self._warn(f"input {quoted(name)}: relay has no {listed(others)}, only t128_events; passed over", "inputs")
        for number, plugin in enumerate(events, 1):
            unique = name if number == 1 else f"{name}-{number}"
            self.inputs.append(inputs.source(plugin, unique, goes_to, self.lines["inputs"]))

    def _output(self, name: str, found: list[Plugin]) -> None:
        servers = [plugin for plugin in found if plugin.name == "syslog"]
        others = [plugin.name for plugin in found if plugin.name != "syslog"]
        if others:
            self._warn(f"output {quoted(name)}: relay has no {listed(others)}, only syslog; passed over", "outputs")
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

    # --- Files, and what is wrong ---

    def _plugins(self, folder: str, name: str, entry: dict[Any, Any]) -> list[Plugin]:
        """The plugins of one input or output."""
        file = str(self._library() / folder / str(entry.get("conf") or f"{name}.conf").replace("\0", ""))
        try:
            return list(plugins(file, folder, self.draft, self.variables))
        except (NoInputError, PermissionRefusedError) as error:
            self._mistake(f"{quoted(name)}: {error.what}: {error.cause}", folder)
        except NotUnderstoodError as error:
            self.draft.mistake(error.sentence, error.line, file=file)
        return []

    def _library(self) -> Path:
        beside = Path(self.draft.file).parent
        if (beside / "inputs").is_dir() or (beside / "outputs").is_dir():
            return beside
        said = self.document.get("lib-directory")
        return Path(said if isinstance(said, str) and "\0" not in said else LIBRARY)

    def _mistake(self, sentence: str, key: str) -> None:
        self.draft.mistake(sentence, self.lines.get(key), (key,))

    def _warn(self, sentence: str, key: str) -> None:
        self.draft.warn(sentence, self.lines.get(key), (key,))


_SWITCHED_OFF: Final = (
    "the Monitoring Agent is switched off here, and so nothing of it is taken; where relay is to take its place, give "
    "it a copy with `enabled: true`"
)
