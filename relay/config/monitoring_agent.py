"""A Monitoring Agent's configuration as a draft of ours: `config.yaml`, and the inputs and outputs that it names.

    inputs/NAME.conf, [[inputs.t128_events]]   → [[source]] of type event-collector, with its filters
    outputs/NAME.conf, [[outputs.syslog]]      → [[remote-logging-server]] with protocol "syslog", [audit] sd-id, and
                                                 facility, severity and app-name of the sources
The two folders stand beside config.yaml (a copy), or else in its lib-directory. `conf` names another file there. In
values ${ROUTER}, ${NODE} and ${HOSTNAME} are replaced. Which input goes to which output, and an output's own filters by
the tag `type`, become the servers' `types`; what cannot be said so is a mistake, since events would go where they are
not to go, and so is a filter that relay does not have. Inputs and outputs of other kinds are named in a warning, one
line for each kind of thing, and what goes out otherwise than by Telegraf in one line for each key; intervals mean
nothing here. config.yaml has at most 64 KiB.
"""

import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from relay.config.draft import Draft
from relay.config.file import NotUnderstoodError, contents, text_of, toml_draft
from relay.config.lines import KeyPath
from relay.config.router import Choice
from relay.errors import NoInputError
from relay.glob import matcher
from relay.quantity import Address, quoted
from relay.syslog.priority import FACILITIES, SEVERITIES

NAME: Final = "config.yaml"
LIBRARY: Final = "/var/lib/128t-monitoring"
COLLECTOR: Final = "/usr/bin/eventCollector128t"
LARGEST: Final = 64 * 1024
TYPES: Final = ("admin", "audit", "alarm", "provisioning", "system", "security", "traffic")
"""What the tag `type` of an event can be."""
_OPENING: Final = re.compile(r"(?:(?:[ \t]*#[^\n]*|[ \t\r]*)\n)*(?:---|[A-Za-z][A-Za-z_-]*[ \t]*:(?:\s|\Z))")
_ADDRESS: Final = re.compile(r"(?P<scheme>udp|tcp)[46]?://(?P<address>.*)", re.DOTALL)
_VARIABLE: Final = re.compile(r"\$\{([^{}]*)\}")
_FILTERS: Final = {
    "tagpass": "tagpass",
    "tagdrop": "tagdrop",
    "fieldpass": "fieldpass",
    "fieldinclude": "fieldpass",  # its newer name
    "fielddrop": "fielddrop",
    "fieldexclude": "fielddrop",
}
_OTHER_FILTERS: Final = ("namepass", "namedrop", "taginclude", "tagexclude", "metricpass")
_TLS: Final = {"tls_ca": "ca", "tls_cert": "certificate", "tls_key": "private-key", "tls_server_name": "server-name"}
_INPUT_KEYS: Final = frozenset({"index-file", "topic", "log-name", *_FILTERS, *_OTHER_FILTERS})
_DEFAULTS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "default_facility_code": ("facility", FACILITIES),
    "default_severity_code": ("severity", SEVERITIES),
    "default_appname": ("app-name", ()),
}
"""Keys of an output that are a source's: the key, and the names of its numbers."""
_OTHERWISE: Final[dict[str, tuple[object, str]]] = {
    "sdids": ([], "relay has one SD-ID; a name keeps the one that it begins with"),
    "sdparam_separator": ("_", "relay has `_`"),
    "tls_min_version": ("TLS12", "relay takes TLS 1.2 and newer, the newest that both sides have"),
    "tls_cipher_suites": ([], "relay leaves the choice to OpenSSL"),
}
"""Keys that change what goes out: the value that means what relay does, and what it does."""
_OUTPUT_KEYS: Final = frozenset(
    {
        "address",
        "framing",
        "trailer",
        "default_sdid",
        "keep_alive_period",
        "insecure_skip_verify",
        "tls_enable",
        "tls_key_pwd",
        *_TLS,
        *_DEFAULTS,
        *_OTHERWISE,
        *_FILTERS,
        *_OTHER_FILTERS,
    }
)
_SILENT_KEYS: Final = frozenset({"name", "enabled", "lib-directory", "sample-interval", "push-interval"})
_ALWAYS_VERIFIES: Final = (
    'relay always verifies certificates; give tls_ca, or `fingerprint = "sha-256:…"` of the server\'s in a further file'
)
_PLAIN_KEYS: Final = "relay's private keys have no passphrase; `openssl pkey -in KEY -out FILE` takes it off"
_NO_SOCKET: Final = (
    "relay sends to network addresses only; give the local syslog daemon an input on loopback (rsyslog: imtcp), and "
    'name it here, as in "tcp://127.0.0.1:601"'
)
_BY_TYPE_ALONE: Final = (
    "relay chooses for a server by the tag `type` alone, and leaves nothing out of events; filter in the inputs"
)
_SOURCES: Final = "source"
_SERVERS: Final = "remote-logging-server"


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


class _Conf(NamedTuple):
    """One plugin's table of an input's or output's file."""

    name: str
    file: str
    line: int | None
    table: dict[str, Any]
    lines: Mapping[str, int | None]
    """The line of each key."""


class _Input(NamedTuple):
    types: frozenset[str]
    outputs: frozenset[str]
    name: str
    source: int
    """Its source's place among all."""


class _Agent:
    def __init__(self, draft: Draft, document: dict[Any, Any], lines: dict[str, int], named: Choice) -> None:
        self.draft = draft
        self.document = document
        self.lines = lines
        self.named = named
        self.inputs: list[_Input] = []

    def whole(self) -> None:
        if self.document.get("enabled", True) is False:
            self._warn("the Monitoring Agent is switched off here, and relay takes it all the same", "enabled")
        self._tags()
        names = frozenset(name for name, _ in self._listed("outputs"))
        for name, entry in self._listed("inputs"):
            self._input(name, self._conf("inputs", name, entry), self._outputs_of(name, entry, names))
        for name, entry in self._listed("outputs"):
            self._output(name, self._conf("outputs", name, entry))
        unknown = [str(key) for key in self.document if key not in {*_SILENT_KEYS, "tags", "inputs", "outputs"}]
        if unknown:
            self._warn(f"relay has no {_listed(unknown)}; passed over", unknown[0])

    # --- What config.yaml says ---

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

    def _outputs_of(self, name: str, entry: dict[Any, Any], outputs: frozenset[str]) -> frozenset[str]:
        included, excluded = entry.get("include-outputs"), entry.get("exclude-outputs")
        for names in (included, excluded):
            for unknown in sorted({str(each) for each in _list(names)} - outputs):
                self._mistake(f"input {quoted(name)} names the output {quoted(unknown)}, which is not there", "inputs")
        wanted = outputs if included is None else outputs.intersection(map(str, _list(included)))
        return wanted.difference(map(str, _list(excluded)))

    def _tags(self) -> None:
        others = []
        for tag in _list(self.document.get("tags")):
            key, value = (tag.get("key"), tag.get("value")) if isinstance(tag, dict) else (None, None)
            if key in {"router", "node"} and isinstance(value, str) and value:
                if not _VARIABLE.search(value):
                    self.draft.put(("relay", str(key)), value, self.lines["tags"])
            elif key not in {"host", "hostname"}:
                others.append(str(key) if isinstance(key, str) else "a tag without a key")
        if others:
            self._warn(f"relay adds no tags of its own: {_listed(others)}", "tags")

    # --- Inputs ---

    def _input(self, name: str, confs: list[_Conf], outputs: frozenset[str]) -> None:
        events = [conf for conf in confs if conf.name == "t128_events"]
        others = [conf.name for conf in confs if conf.name != "t128_events"]
        if others:
            self._warn(f"input {quoted(name)}: relay has no {_listed(others)}, only t128_events; passed over", "inputs")
        for number, conf in enumerate(events, 1):
            self._source(name if number == 1 else f"{name}-{number}", conf, outputs)

    def _source(self, name: str, conf: _Conf, outputs: frozenset[str]) -> None:
        path: KeyPath = (_SOURCES, len(self.draft.document.get(_SOURCES, ())))
        self.draft.put((*path, "name"), name, self.lines["inputs"])
        self._put(conf, (*path, "type"), "event-collector")
        index = self._text(conf, "index-file")
        options = ["--log-name", self._text(conf, "log-name") or "event_collector"]
        options += ["--topic", self._text(conf, "topic") or "events"]
        options += ["--index-file", index] if index else []
        self._put(conf, (*path, "command"), [COLLECTOR, *options], why="it is what the Monitoring Agent runs")
        for key, ours in _FILTERS.items():
            if key in conf.table:
                self._put(conf, (*path, ours), self._replaced(conf, conf.table[key]), key=key)
        for key in _OTHER_FILTERS:
            if conf.table.get(key):
                self._reject(conf, key, "relay has only the filters tagpass, tagdrop, fieldpass and fielddrop")
        self._name_unknown(conf, _INPUT_KEYS)
        self.draft.warn(
            "stop this input of the Monitoring Agent before relay runs: two readers of one index file take events "
            "from each other"
            if index
            else "no index-file stands here: relay cannot say where it left off",
            conf.line,
            path,
            file=conf.file,
        )
        self.inputs.append(_Input(_types(conf.table), outputs, name, int(path[1])))

    # --- Outputs ---

    def _output(self, name: str, confs: list[_Conf]) -> None:
        servers = [conf for conf in confs if conf.name == "syslog"]
        others = [conf.name for conf in confs if conf.name != "syslog"]
        if others:
            self._warn(f"output {quoted(name)}: relay has no {_listed(others)}, only syslog; passed over", "outputs")
        chosen = [self._chosen(conf) for conf in servers]
        types = self._types_for(name, frozenset[str]().union(*chosen))
        if servers and not types:
            self._warn(f"output {quoted(name)}: no input that relay has goes there; passed over", "outputs")
            return
        for number, (conf, passed) in enumerate(zip(servers, chosen, strict=True), 1):
            of_it = tuple(type_ for type_ in types if type_ in passed)
            if of_it:
                self._server(name if number == 1 else f"{name}-{number}", conf, of_it)
                self._defaults(name, conf)
            else:
                self.draft.warn("its filters let nothing pass; passed over", conf.line, file=conf.file)

    def _chosen(self, conf: _Conf) -> frozenset[str]:
        """The event types that an output's own filters let pass."""
        for key in ("tagpass", "tagdrop"):
            tags = conf.table.get(key)
            if tags and not (isinstance(tags, dict) and set(tags) == {"type"}):
                self._reject(conf, key, _BY_TYPE_ALONE)
            elif tags and (wrong := _wrong_glob(tags["type"])):
                self._reject(conf, key, wrong)
        for key in (*_OTHER_FILTERS, *(key for key, ours in _FILTERS.items() if ours.startswith("field"))):
            if conf.table.get(key):
                self._reject(conf, key, _BY_TYPE_ALONE)
        return _types(conf.table)

    def _server(self, name: str, conf: _Conf, types: tuple[str, ...]) -> None:
        address = self._address(conf)
        if address is None:
            return
        transport, (host, port) = address
        path: KeyPath = (_SERVERS, len(self.draft.document.get(_SERVERS, ())))
        self._put(conf, (*path, "name"), name)
        self._put(conf, (*path, "address"), host, key="address")
        self._put(conf, (*path, "port"), port, key="address")
        self._put(conf, (*path, "protocol"), "syslog")
        self._put(conf, (*path, "transport"), self._tls(conf, path, transport), key="address")
        self._framing(conf, path)
        self._put(conf, (*path, "types"), list(types), why="it is what the inputs that go there let pass")
        self._sd_id(conf)
        for key, (ours, what) in _OTHERWISE.items():
            if conf.table.get(key, ours) != ours:
                self.draft.warn(f"{key}: {what}", conf.lines[key], file=conf.file)
        self._name_unknown(conf, _OUTPUT_KEYS)

    def _defaults(self, output: str, conf: _Conf) -> None:
        """What events go out as that say nothing themselves: in relay the sources' matter, for all servers alike."""
        sources = [each.source for each in self.inputs if output in each.outputs]
        for key, (ours, names) in _DEFAULTS.items():
            wanted = self._default(conf, key, names) if key in conf.table else ""
            for index in sources if wanted else ():
                earlier = self.draft.document[_SOURCES][index].get(ours, wanted)
                if earlier == wanted:
                    self._put(conf, (_SOURCES, index, ours), wanted, key=key)
                else:
                    sentence = f"relay has one {ours} for all servers that get these events: {quoted(earlier)}"
                    self._reject(conf, key, sentence)

    def _default(self, conf: _Conf, key: str, names: Sequence[str]) -> str:
        """A text, or a number's name."""
        if not names:
            return self._text(conf, key)
        value = conf.table[key]
        if type(value) is int and 0 <= value < len(names):
            return names[value]
        self._reject(conf, key, f"must be a number from 0 to {len(names) - 1}")
        return ""

    def _framing(self, conf: _Conf, path: KeyPath) -> None:
        """Telegraf takes both words in any case, and looks at the trailer in non-transparent framing alone."""
        framing, trailer = self._text(conf, "framing").lower(), self._text(conf, "trailer").upper()
        if framing:
            self._put(conf, (*path, "framing"), framing, key="framing")
        if trailer and framing == "non-transparent":
            self._put(conf, (*path, "trailer"), trailer, key="trailer")

    def _address(self, conf: _Conf) -> tuple[str, Address] | None:
        text = self._text(conf, "address")
        match = _ADDRESS.fullmatch(text)
        if text.startswith("unix"):
            self._reject(conf, "address", _NO_SOCKET)
            return None
        if match is None:
            self._reject(
                conf, "address", f'must be as "udp://192.0.2.1:514" or "tcp://192.0.2.1:601", not {quoted(text)}'
            )
            return None
        try:
            return match["scheme"], Address.parse(match["address"])
        except ValueError as error:
            self._reject(conf, "address", str(error))
            return None

    def _tls(self, conf: _Conf, path: KeyPath, transport: str) -> str:
        if conf.table.get("insecure_skip_verify"):
            self._reject(conf, "insecure_skip_verify", _ALWAYS_VERIFIES)
        if conf.table.get("tls_key_pwd"):
            self._reject(conf, "tls_key_pwd", _PLAIN_KEYS)
        given = [key for key in _TLS if conf.table.get(key)]
        if conf.table.get("tls_enable", bool(given)) is False:
            return transport
        for key in given:
            self._put(conf, (*path, _TLS[key]), self._text(conf, key), key=key)
        return "tls" if transport == "tcp" else transport

    def _types_for(self, output: str, chosen: frozenset[str]) -> tuple[str, ...]:
        """The event types that go to an output; a mistake when the types alone cannot say which events those are."""
        to_it = [each for each in self.inputs if output in each.outputs]
        types = chosen.intersection(frozenset[str]().union(*(each.types for each in to_it)))
        for other in self.inputs:
            if output not in other.outputs and (shared := types & other.types):
                self._mistake(
                    f"input {quoted(other.name)} does not go to output {quoted(output)}, but another with events of "
                    f"the same type ({_listed(sorted(shared))}) does; relay chooses by type: part them by tagpass",
                    "inputs",
                )
        return tuple(type_ for type_ in TYPES if type_ in types)

    def _sd_id(self, conf: _Conf) -> None:
        if "default_sdid" not in conf.table:
            return
        wanted, path = self._text(conf, "default_sdid"), ("audit", "sd-id")
        earlier = self.draft.document.get("audit", {}).get("sd-id", wanted)
        if earlier != wanted:
            self._reject(
                conf, "default_sdid", f"relay has one SD-ID for all servers, and it is {quoted(earlier)} already"
            )
        else:
            self._put(conf, path, wanted, key="default_sdid")

    # --- Files, values and what is wrong with them ---

    def _conf(self, folder: str, name: str, entry: dict[Any, Any]) -> list[_Conf]:
        """The plugins' tables of one input or output."""
        file = self._library() / folder / str(entry.get("conf") or f"{name}.conf").replace("\0", "")
        try:
            draft = toml_draft(str(file), text_of(contents(str(file))))
        except NoInputError as error:
            self._mistake(f"{quoted(name)}: {error.what}: {error.cause}", folder)
            return []
        except NotUnderstoodError as error:
            self.draft.mistake(error.sentence, error.line, file=str(file))
            return []
        return list(_tables(draft, folder))

    def _library(self) -> Path:
        beside = Path(self.draft.file).parent
        if (beside / "inputs").is_dir() or (beside / "outputs").is_dir():
            return beside
        said = self.document.get("lib-directory")
        return Path(said if isinstance(said, str) and "\0" not in said else LIBRARY)

    def _text(self, conf: _Conf, key: str) -> str:
        value = conf.table.get(key, "")
        if not isinstance(value, str):
            self._reject(conf, key, "must be a text in quotes")
            return ""
        return str(self._replaced(conf, value))

    def _replaced(self, conf: _Conf, value: object) -> object:
        """The value with its variables replaced, in whatever depth."""
        if isinstance(value, str):
            return _VARIABLE.sub(lambda match: self._variable(conf, match[1]), value)
        if isinstance(value, list):
            return [self._replaced(conf, inner) for inner in value]
        if isinstance(value, dict):
            return {key: self._replaced(conf, inner) for key, inner in value.items()}
        return value

    def _variable(self, conf: _Conf, name: str) -> str:
        known = {"ROUTER": self.named.router, "NODE": self.named.node, "HOSTNAME": socket.gethostname()}
        if name not in known:
            self._reject(conf, "", f"relay does not know {quoted('${' + name + '}')}; it knows {_listed(known)}")
        elif not known[name]:
            option = name.lower()
            self._reject(
                conf, "", f"nothing says what ${{{name}}} is; say it with `{option}` in [relay] of a further file"
            )
        return known.get(name, "")

    def _name_unknown(self, conf: _Conf, known: frozenset[str]) -> None:
        unknown = [key for key in conf.table if key not in known]
        if unknown:
            self.draft.warn(f"relay has no {_listed(unknown)}; passed over", conf.line, file=conf.file)

    def _put(self, conf: _Conf, path: KeyPath, value: object, *, key: str = "", why: str = "") -> None:
        self.draft.put(path, value, conf.lines.get(key, conf.line), why=why, file=conf.file)

    def _reject(self, conf: _Conf, key: str, sentence: str) -> None:
        said = f"{key}: {sentence}" if key else sentence
        self.draft.mistake(said, conf.lines.get(key, conf.line), file=conf.file)

    def _mistake(self, sentence: str, key: str) -> None:
        self.draft.mistake(sentence, self.lines.get(key), (key,))

    def _warn(self, sentence: str, key: str) -> None:
        self.draft.warn(sentence, self.lines.get(key), (key,))


def _tables(draft: Draft, folder: str) -> Iterator[_Conf]:
    plugins = draft.document.get(folder)
    for plugin, tables in plugins.items() if isinstance(plugins, dict) else ():
        for index, table in enumerate(tables if isinstance(tables, list) else [tables]):
            path: KeyPath = (folder, plugin, index) if isinstance(tables, list) else (folder, plugin)
            if isinstance(table, dict):
                lines = {key: draft.places[(*path, key)].line for key in table}
                yield _Conf(plugin, draft.file, draft.places[path].line, table, lines)


def _types(table: Mapping[str, Any]) -> frozenset[str]:
    """The event types that an input's filters let pass, as far as the tag `type` decides it."""
    passed, dropped = table.get("tagpass"), table.get("tagdrop")
    types = frozenset(TYPES)
    if isinstance(passed, dict) and set(passed) == {"type"}:  # with several tags it is enough that one of them passes
        types = types.intersection(_matching(passed["type"]))
    if isinstance(dropped, dict) and "type" in dropped:
        types = types.difference(_matching(dropped["type"]))
    return types


def _wrong_glob(patterns: object) -> str:
    if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
        return 'must be as in tagpass = { type = ["alarm"] }'
    try:
        matcher(patterns)
    except ValueError as error:
        return str(error)
    return ""


def _matching(patterns: object) -> Iterable[str]:
    try:
        return list(filter(matcher([p for p in _list(patterns) if isinstance(p, str)]), TYPES))
    except ValueError:  # no glob: the settings say so, with its place
        return TYPES


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(quoted(name).strip('"') for name in dict.fromkeys(names))
